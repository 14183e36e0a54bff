local helper = require "spec.helper"

local client = helper.client_context()

-- One visit; the server reads early data by so many bytes at a time (false: it does not).
local function visit(server, options, max)
  options = options or {}
  options.server_name = "localhost"
  local a, b = helper.pair(nil, options, nil, { client = client, server = server })
  local early, late = {}, nil
  helper.together {
    function()
      assert(a:connect())
      assert(a:write("late"))
      assert.equal("x", assert(a:read(1)))
    end,
    function()
      local data, err = max and b:read_early(max)
      while data do
        early[#early + 1] = data
        data, err = b:read_early(max)
      end
      assert.is_nil(err)
      assert(b:accept())
      late = assert(b:read(4))
      assert(b:write("x"))
    end,
  }
  assert.equal("late", late)
  local got = { session = a:session(), early = table.concat(early, "|"), status = a:early_data_status(),
    resumed = a:resumed() }
  assert.equal(got.status, b:early_data_status())
  a:close()
  b:close()
  assert.equal(got.status, a:early_data_status())
  assert.equal(got.status, b:early_data_status())
  return got
end

describe("early data", function()
  it("is accepted once, and told apart from what comes after", function()
    local server = helper.server_context { max_early_data = 100 }
    local session = visit(server, nil, 100).session
    assert.equal(100, session:max_early_data())
    local exported = session:export()
    local got = visit(server, { session = session, early_data = "hello world" }, 5)
    assert.same({ "hello| worl|d", "accepted", true }, { got.early, got.status, got.resumed })
    got = visit(server, { session = exported, early_data = "hello world" }, 5)
    assert.same({ "", "rejected", false }, { got.early, got.status, got.resumed })
    got = visit(helper.server_context { max_early_data = 100 }, { session = exported, early_data = "hello" }, 5)
    assert.same({ "", "rejected", false }, { got.early, got.status, got.resumed })
  end)

  it("is refused by a server that accepts at once", function()
    local server = helper.server_context { max_early_data = 100 }
    local got = visit(server, { session = visit(server).session, early_data = "hello" })
    assert.same({ "", "rejected", true }, { got.early, got.status, got.resumed })
  end)

  it("is not sent where the session does not allow it", function()
    local server = helper.server_context { max_early_data = 10 }
    local session = visit(server).session
    local got = visit(server, { session = session, early_data = "hello world" }, 100)
    assert.same({ "", "not_sent", true }, { got.early, got.status, got.resumed })
    got = visit(server, { early_data = "hello" }, 100)
    assert.same({ "", "not_sent", false }, { got.early, got.status, got.resumed })
  end)

  it("is written before connect, within what the session allows", function()
    local server = helper.server_context { max_early_data = 10 }
    local a, b = helper.pair(nil, { session = visit(server).session }, nil, { client = client, server = server })
    local early = {}
    helper.together {
      function()
        local ok, err = a:write_early("hello world")
        assert.is_nil(ok)
        assert.same({ "limit", "the session allows 10 bytes of early data" }, { err.code, err.reason })
        assert.equal(a, a:write_early("hel", "lo"))
        assert.equal(a, a:write_early("world"))
        assert.equal("limit", helper.code_of(a:write_early("!")))
        assert(a:connect())
        assert.equal("tls", helper.code_of(a:write_early("x")))
      end,
      function()
        for data in function() return (assert(b:read_early(100)) or nil) end do
          early[#early + 1] = data
          if #table.concat(early) == 10 then break end
        end
        assert(b:accept())
      end,
    }
    assert.equal("helloworld", table.concat(early))
    a:close()
    b:close()
  end)
end)
