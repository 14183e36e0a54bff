local compat = require "cotls.compat"
local helper = require "spec.helper"
local visit = require "spec.visit"

local client = helper.client_context()

local function server_of(max, options)
  return helper.server_context(helper.with({ max_early_data = max }, options))
end

-- What a visit with early data comes to: the pieces that the server has read early, what both say of it, resumed.
local function send(server, session, data, options, max, from, between)
  local all = { session = session, early_data = data, read_early = max }
  for name, value in pairs(options or {}) do all[name] = value end
  local got = visit.over(from or client, server, all)
  assert.equal(got.status, got.client:early_data_status())
  assert.equal(got.status, got.server:early_data_status())
  return { got.early and table.concat(got.early, between or "|"), got.status, got.resumed }
end

local session_of = visit.session

describe("early data", function()
  it("is accepted once, and told apart from what comes after", function()
    local server = server_of(100)
    local session = session_of(client, server)
    assert.equal(100, session:max_early_data())
    local exported = session:export()
    assert.same({ "hello| worl|d", "accepted", true }, send(server, session, "hello world", nil, 5))
    assert.same({ "", "rejected", false }, send(server, exported, "hello world", nil, 5))
    assert.same({ "", "rejected", false }, send(server_of(100), exported, "hello world", nil, 5))
  end)

  it("is refused by a server that accepts at once", function()
    local server = server_of(100)
    assert.same({ nil, "rejected", true }, send(server, session_of(client, server), "hello"))
  end)

  it("is not sent where the session does not allow it", function()
    local server = server_of(10)
    assert.same({ "", "not_sent", true }, send(server, session_of(client, server), "hello world", nil, 100))
    assert.same({ "", "not_sent", false }, send(server, nil, "hello", nil, 100))
    local plain = helper.server_context()
    assert.same({ "", "not_sent", true }, send(plain, session_of(client, plain), "hello", nil, 100))
    assert.same({ "", "not_sent", true }, send(server, session_of(client, server), "", nil, 100))
  end)

  it("goes with resume = true too", function()
    local mine, server = helper.client_context { resume = true, session_key = "a" }, server_of(100)
    assert.same({ "", "not_sent", false }, send(server, nil, "hello", nil, 10, mine))
    for _ = 1, 3 do assert.same({ "hello", "accepted", true }, send(server, nil, "hello", nil, 10, mine)) end
  end)

  for _, transport in ipairs(helper.some_transports()) do
    it("comes whole over " .. transport.name, function()
      local size = (transport.width or 1000) < 512 and 2000 or 100000
      local server, data = server_of(size), helper.noise(size)
      local got = send(server, session_of(client, server), data, { transport = transport }, size, client, "")
      assert.same({ true, "accepted", true }, { got[1] == data, got[2], got[3] })
    end)
  end

  it("is at most 16384 bytes a piece, and as little as one asks for", function()
    local server = server_of(100000)
    local got = visit.over(client, server, { session = session_of(client, server), early_data = helper.noise(40000),
      read_early = 1000000 })
    assert.is_true(helper.noise(40000) == table.concat(got.early))
    for _, piece in ipairs(got.early) do assert.is_true(#piece <= 16384) end
    got = visit.over(client, server, { session = session_of(client, server), early_data = "hello", read_early = 1 })
    assert.same({ "h", "e", "l", "l", "o" }, got.early)
  end)

  it("is not sent where the server name or the protocol is another", function()
    local server = server_of(100, { alpn = { "a", "b" } })
    local function status(first, second)
      return send(server, session_of(client, server, first), "hello", second, 10)
    end
    assert.same({ "hello", "accepted", true }, status({ alpn = { "a" } }, { alpn = { "a" } }))
    assert.same({ "hello", "accepted", true }, status({ alpn = { "a" } }, { alpn = { "b", "a" } }))
    assert.same({ "", "not_sent", true }, status({ alpn = { "a" } }, { alpn = { "b" } }))
    assert.same({ "", "not_sent", true }, status({ alpn = { "a" } }, {}))
    assert.same({ "", "rejected", true }, status({}, { alpn = { "a" } }))
    assert.same({ "", "not_sent", true }, status({ verify_name = "localhost" },
      { server_name = "example.org", verify_name = "localhost" }))
  end)

  it("is refused where the server chooses another protocol now", function()
    local shared = { ticket_keys = { helper.noise(80) }, anti_replay = false }
    local function server(...)
      shared.alpn = { ... }
      return server_of(100, shared)
    end
    local both = { alpn = { "a", "b" } }
    local session = session_of(client, server("a", "b"), both)
    assert.same({ "", "rejected", true }, send(server("b", "a"), session, "hello", both, 10))
  end)

  it("is refused by a HelloRetryRequest, and can be sent again", function()
    local both = helper.client_context { groups = "X25519:P-384" }
    for _, options in ipairs { {}, { anti_replay = false } } do
      options.groups = "P-384"
      local server = server_of(1000, options)
      for _, max in ipairs { 10, false } do
        local got = visit.good(both, server, { session = session_of(both, server), early_data = "hello",
          read_early = max or nil })
        assert.same({ "rejected", options.anti_replay == false }, { got.status, got.resumed })
        assert.same(max and {}, got.early or false)
        assert(got.client:write("hello"))
        assert.equal("hello", got.server:read(5))
        got.client:close()
        got.server:close()
      end
    end
  end)

  it("of more than the server allows is refused by an alert", function()
    local shared = { ticket_keys = { helper.noise(80) }, anti_replay = false }
    local large, small = server_of(100000, shared), server_of(10, shared)
    local err, server_err = visit.failure(client, small, { session = session_of(client, large),
      early_data = "hello world", read_early = 5 })
    assert.same({ "tls", "read_early", "too much early data" },
      { server_err.code, server_err.operation, server_err.reason })
    assert.same({ "unexpected_message", true }, { server_err.alert.name, server_err.alert.sent })
    assert.same({ "alert", "unexpected_message", false }, { err.code, err.alert.name, err.alert.sent })
  end)

  it("is skipped by a server that takes none any more", function()
    local keys = { helper.noise(80) }
    local before = server_of(100000, { ticket_keys = keys, anti_replay = false })
    for _, max in ipairs { 0, false } do
      local now = helper.server_context { ticket_keys = keys, max_early_data = max or nil }
      for _, reads in ipairs { 10, false } do
        local got = send(now, session_of(client, before), helper.noise(10000), nil, reads or nil)
        assert.same({ reads and "", "rejected", true }, { got[1] or false, got[2], got[3] })
      end
    end
  end)

  it("fails the handshake with a server that has TLS 1.2 only now, and the next one is a full one", function()
    local mine = helper.client_context { resume = true, session_key = "a" }
    visit.over(mine, server_of(100))
    local old = helper.server_context { max_version = "1.2" }
    local err, server_err = visit.failure(mine, old, { early_data = "hello" })
    assert.same({ "tls", "the server has answered early data with an older version of TLS" }, { err.code, err.reason })
    assert.equal("unexpected_message", server_err.alert.name)
    assert.same({ nil, "not_sent", false }, send(old, nil, "hello", nil, nil, mine))
    -- without early data the session is no obstacle
    assert.is_false(visit.resumed(client, old, { session = session_of(client, server_of(100)) }))
  end)

  it("is read under the context of the server name", function()
    local inner = server_of(50)
    local door = helper.server_context { names = { ["example.org"] = inner } }
    local named = { server_name = "example.org", verify_name = "localhost" }
    local session = session_of(client, door, named)
    assert.equal(50, session:max_early_data())
    assert.same({ "hello", "accepted", true }, send(door, session, "hello", named, 10))
    assert.same({ "", "rejected", false }, send(door, session, "hello", named, 10))
    assert.equal(0, session_of(client, door):max_early_data())
    local outer = server_of(50, { names = { ["example.org"] = helper.server_context() } })
    assert.equal(0, session_of(client, outer, named):max_early_data())
    assert.equal(50, session_of(client, outer):max_early_data())
  end)

  it("is not read under another context than that of its session", function()
    local CA, keys = helper.ca.certificate, { helper.noise(80) }
    local shared = { ticket_keys = keys, anti_replay = false }
    local inner = server_of(50, { ticket_keys = keys, anti_replay = false, verify_client = "optional", ca = CA })
    local outer = server_of(50, shared)
    assert.same({ "hello", "accepted", true }, send(server_of(50, shared), session_of(client, outer), "hello", nil, 10))
    assert.same({ "", "rejected", false }, send(inner, session_of(client, outer), "hello", nil, 10))
    assert.same({ "", "rejected", false }, send(outer, session_of(client, inner), "hello", nil, 10))
  end)
end)

describe("write_early", function()
  it("writes before connect, within what the session allows", function()
    local server = server_of(10)
    local a, b = helper.pair(nil, { session = session_of(client, server) }, nil, { client = client, server = server })
    local early = {}
    helper.together {
      function()
        local ok, err = a:write_early("hello world")
        assert.is_nil(ok)
        assert.same({ "limit", "the session allows 10 bytes of early data" }, { err.code, err.reason })
        assert.equal(a, a:write_early())
        assert.equal(a, a:write_early(""))
        assert.equal(a, a:write_early("hel", "lo"))
        assert.equal(a, a:write_early("world"))
        assert.equal("limit", helper.code_of(a:write_early("!")))
        assert(a:connect())
        assert.equal("tls", helper.code_of(a:write_early("x")))
        assert.equal("tls", helper.code_of(a:write_early("")))
      end,
      function()
        repeat early[#early + 1] = assert(b:read_early(100)) until #table.concat(early) == 10
        assert(b:accept())
      end,
    }
    assert.equal("helloworld", table.concat(early))
    a:close()
    b:close()
    assert.equal("closed", helper.code_of(a:write_early("x")))
    assert.equal("closed", helper.code_of(b:read_early()))
  end)

  it("comes before the option early_data, which gets what is left", function()
    for size, expected in pairs { [4] = "writtenthis", [5] = "written" } do
      local server = server_of(11)
      local a, b = helper.pair(nil, { session = session_of(client, server), early_data = ("this!"):sub(1, size) }, nil,
        { client = client, server = server })
      local early = ""
      helper.together {
        function()
          assert(a:write_early("written"))
          assert(a:connect())
        end,
        function()
          helper.each(function() return b:read_early() end, function(data) early = early .. data end)
          assert(b:accept())
        end,
      }
      assert.same({ expected, "accepted" }, { early, a:early_data_status() })
      a:close()
      b:close()
    end
  end)

  it("without a session allows nothing", function()
    local a, b = helper.pair(nil, nil, nil, { client = client, server = server_of(10) })
    local ok, err = a:write_early("x")
    assert.is_nil(ok)
    assert.same({ "limit", "the session allows 0 bytes of early data" }, { err.code, err.reason })
    helper.shake(a, b)
    assert.equal("not_sent", a:early_data_status())
    a:close()
    b:close()
  end)

  it("knows a session that allows 4 GiB", function()
    local server = server_of(0xFFFFFFFF)
    local session = session_of(client, server)
    assert.equal(0xFFFFFFFF, session:max_early_data())
    assert.same({ "hello", "accepted", true }, send(server, session, "hello", nil, 10))
  end)

  it("takes nothing once connect has begun", function()
    local server = server_of(10)
    local a, b = helper.pair(nil, { session = session_of(client, server) }, nil, { client = client, server = server })
    a:settimeout(0)
    assert(a:write_early("hello"))
    assert.equal("want_read", helper.code_of(a:connect()))
    assert.equal("tls", helper.code_of(a:write_early("x")))
    a:settimeout(nil)
    helper.together {
      function() assert(a:connect()) end,
      function()
        assert.equal("hello", b:read_early())
        assert.is_nil(b:read_early())
        assert(b:accept())
      end,
    }
    a:close()
    b:close()
  end)

  it("that runs out of time tells what is written, which is not written again", function()
    local server, data = server_of(1000000), helper.noise(600000)
    local session = session_of(client, server)
    for _, timeout in ipairs { 0, 0.01 } do
      local a, b = helper.pair("small buffers", { session = session }, nil, { client = client, server = server })
      a:settimeout(timeout)
      local ok, err = a:write_early(data)
      assert.is_nil(ok)
      assert.same({ timeout == 0 and "want_write" or "timeout", "write_early", #data },
        { err.code, err.operation, err.written })
      a:settimeout(nil)
      local early = {}
      helper.together {
        function() assert(a:connect()) end,
        function()
          helper.each(function() return (b:read_early()) end, function(piece) early[#early + 1] = piece end)
          assert(b:accept())
        end,
      }
      assert.is_true(table.concat(early) == data)
      a:close()
      b:close()
      session = session_of(client, server)
    end
  end)

  it("raises on a server, and read_early on a client", function()
    local a, b = helper.pair()
    assert.error_matches(function() b:write_early("x") end, "write_early: the context's role is \"server\"")
    assert.error_matches(function() a:read_early() end, "read_early: the context's role is \"client\"")
    assert.error_matches(function() a:write_early({}) end, "string expected")
    assert.error_matches(function() b:read_early(0) end, "must be at least 1")
    a:close()
    b:close()
  end)
end)

describe("read_early", function()
  -- A client that has sent data early and connects, a server that has not answered yet.
  local function begun(data, options)
    local server = server_of(100000)
    local a, b, pump = helper.pair(options and options.transport, { session = session_of(client, server),
      early_data = data }, nil, { client = client, server = server })
    return a, b, pump
  end

  it("gives what accept has found unread, and read never does", function()
    for _, first in ipairs { 3, 5 } do
      local a, b = begun("hello world")
      local early
      helper.together {
        function()
          assert(a:connect())
          assert(a:write("late"))
        end,
        function()
          early = assert(b:read_early(first))
          assert(b:accept())
          assert.equal("late", b:read(4))
          early = early .. b:read_early(2)
          helper.each(function() return b:read_early() end, function(data) early = early .. data end)
        end,
      }
      assert.equal("hello world", early)
      assert.is_nil(b:read_early())
      a:close()
      b:close()
    end
  end)

  it("is gone on with by read, too", function()
    local a, b = begun("hello world")
    helper.together {
      function()
        assert(a:connect())
        assert(a:write("late"))
      end,
      function()
        assert.equal("hello", b:read_early(5))
        assert.equal("late", b:read(4))
        assert.equal(" world", b:read_early())
      end,
    }
    a:close()
    b:close()
  end)

  it("after accept, or after a handshake without early data, gives nil", function()
    local a, b = begun()
    helper.together {
      function() assert(a:connect()) end,
      function()
        assert.same({ n = 1 }, compat.pack(b:read_early()))
        assert.same({ n = 1 }, compat.pack(b:read_early()))
        assert(b:accept())
      end,
    }
    assert.same({ n = 1 }, compat.pack(b:read_early()))
    a:close()
    b:close()
    a, b = begun("hello")
    helper.shake(a, b)
    assert.same({ n = 1 }, compat.pack(b:read_early()))
    assert.equal("rejected", b:early_data_status())
    a:close()
    b:close()
  end)

  it("can be tried again after a timeout", function()
    local server = server_of(100)
    local a, b = helper.pair(nil, { session = session_of(client, server) }, nil, { client = client, server = server })
    for _, timeout in ipairs { 0, 0.01 } do
      b:settimeout(timeout)
      assert.equal(timeout == 0 and "want_read" or "timeout", helper.code_of(b:read_early()))
    end
    assert(a:write_early("hel"))
    b:settimeout(nil)
    assert.equal("hel", b:read_early())
    b:settimeout(0)
    assert.equal("want_read", helper.code_of(b:read_early()))
    assert.equal("want_read", helper.code_of(b:accept()))
    assert(a:write_early("lo"))
    b:settimeout(nil)
    helper.shake(a, b)
    assert.equal("lo", b:read_early())
    assert.is_nil(b:read_early())
    a:close()
    b:close()
  end)

  it("is bounded by handshake_timeout", function()
    local server = server_of(100)
    local a, b = helper.pair(nil, { session = session_of(client, server) }, { handshake_timeout = 0.05 },
      { client = client, server = server })
    assert(a:write_early("hello"))
    assert.equal("hello", b:read_early())
    local ok, err = b:read_early()
    assert.is_nil(ok)
    assert.same({ "timeout", "the handshake took longer than handshake_timeout" }, { err.code, err.reason })
    assert.equal("closed", helper.code_of(b:read_early()))
    a:close()
  end)

  it("is cancelled with its coroutine, and the connection closes", function()
    for _, how in ipairs { "cancelled", coroutine.close and "closed" } do
      local a, b = begun()
      local co = coroutine.create(function() return b:read_early() end)
      assert(coroutine.resume(co))
      assert.equal("busy", helper.code_of(b:read_early()))
      if how == "cancelled" then
        local _, ok, err = coroutine.resume(co, nil, "enough")
        assert.is_nil(ok)
        assert.same({ "cancelled", "enough" }, { err.code, err.reason })
      else
        assert(coroutine.close(co))
      end
      assert.equal("closed", helper.code_of(b:read_early()))
      a:close()
    end
  end)

  it("ends when the connection is closed, or the client goes", function()
    local a, b = begun()
    local co = coroutine.create(function() return b:read_early() end)
    assert(coroutine.resume(co))
    b:close()
    local _, ok, err = coroutine.resume(co)
    assert.is_nil(ok)
    assert.equal("closed", err.code)
    a:close()
    local server = server_of(100)
    a, b = helper.pair(nil, { session = session_of(client, server) }, nil, { client = client, server = server })
    assert(a:write_early("hello"))
    a:close()
    assert.equal("hello", b:read_early())
    assert.equal("truncated", helper.code_of(b:read_early()))
    assert.equal("closed", helper.code_of(b:read_early()))
  end)

  it("leaves what is unread to the collector", function()
    local a, b = begun("hello world")
    a:settimeout(0)
    assert.equal("want_read", helper.code_of(a:connect()))
    assert.equal("he", b:read_early(2))
    b:settimeout(0)
    helper.code_of(b:accept())
    a, b = nil, nil -- luacheck: ignore 311
    collectgarbage()
    collectgarbage()
  end)
end)
