local tls = require "cotls"
local helper = require "spec.helper"

-- One visit: the client's and the server's connection after a byte has gone by, closed at the end of the spec.
local function visit(client, server, options)
  options = options or {}
  options.server_name = options.server_name or "localhost"
  local a, b = helper.pair(options.transport, options.client or { server_name = options.server_name,
    session = options.session, session_key = options.session_key, verify_name = options.verify_name,
    alpn = options.alpn }, nil, { client = client, server = server })
  helper.together {
    function()
      assert(a:connect())
      assert.equal("x", assert(a:read(1))) -- with it TLS 1.3's tickets come
    end,
    function()
      assert(b:accept())
      assert(b:write("x"))
    end,
  }
  assert.equal(a:resumed(), b:resumed())
  return a, b
end

local function resumed(...)
  local a, b = visit(...)
  local was = a:resumed()
  a:close()
  b:close()
  return was
end

local function session_of(...)
  local a, b = visit(...)
  local session = a:session()
  a:close()
  b:close()
  return session
end

for _, version in ipairs { "1.2", "1.3" } do
  local only = { min_version = version, max_version = version }

  local function client(options)
    local all = { min_version = version, max_version = version }
    for name, value in pairs(options or {}) do all[name] = value end
    return helper.client_context(all)
  end

  describe("a session of TLS " .. version, function()
    local server = helper.server_context(only)
    local mine = client()

    it("is resumed by object and by export", function()
      assert.is_true(resumed(mine, server, { session = session_of(mine, server) }))
      assert.is_true(resumed(mine, server, { session = session_of(mine, server):export() }))
      assert.is_true(resumed(mine, server, { session = assert(tls.session(session_of(mine, server):export())) }))
    end)

    it("is resumed after its connection is closed or collected", function()
      local a, b = visit(mine, server)
      a:close()
      b:close()
      local session = a:session()
      a, b = nil, nil -- luacheck: ignore 311
      collectgarbage()
      assert.is_true(session:is_resumable())
      assert.is_true(resumed(mine, server, { session = session }))
    end)

    it("tells what it is", function()
      local session = session_of(mine, server)
      assert.equal("TLSv" .. version, session:version())
      assert.is_true(session:is_resumable())
      assert.equal("localhost", session:server_name())
      assert.is_nil(session:alpn())
      assert.equal(0, session:max_early_data())
      assert.is_true(math.abs(session:time() - os.time()) < 60)
      assert.equal(7200, session:timeout())
      assert.equal(7200, session:ticket_lifetime())
      assert.is_true(#session:id() > 0)
      assert.matches("^cotls.session %(TLSv" .. version, tostring(session))
    end)

    it("is not offered under other settings of verification, or with other names", function()
      local session = session_of(mine, server)
      assert.is_false(resumed(client { insecure = true }, server, { session = session }))
      assert.is_false(resumed(client { ca = { helper.ca.certificate, helper.other_ca.certificate } }, server,
        { session = session }))
      assert.is_false(resumed(mine, server, { session = session, verify_name = "127.0.0.1" }))
      assert.is_false(resumed(mine, server, { session = session_of(client { insecure = true }, server) }))
      assert.is_true(resumed(client(), server, { session = session }))
    end)
  end)

  describe("resume = true on TLS " .. version, function()
    local server = helper.server_context(only)

    it("resumes by itself, by the peer's address or the key", function()
      local mine = client { resume = true }
      assert.is_false(resumed(mine, server, { session_key = "a" }))
      assert.is_true(resumed(mine, server, { session_key = "a" }))
      assert.is_true(resumed(mine, server, { session_key = "a" }))
      assert.is_false(resumed(mine, server, { session_key = "b" }))
      assert.is_false(resumed(mine, server, { session_key = "a", alpn = { "x" } }))
      assert.is_false(resumed(mine, server)) -- a socketpair has no address
      assert.is_false(resumed(mine, server))
      assert.is_true(mine:session_stats().cached > 0)
      assert.equal(mine, mine:flush_sessions())
      assert.equal(0, mine:session_stats().cached)
      assert.is_false(resumed(mine, server, { session_key = "a" }))
    end)
  end)

  describe("ticket keys on TLS " .. version, function()
    it("are shared, rotated and taken away", function()
      local old, new = helper.noise(80, 1), helper.noise(80, 2)
      local mine = client()
      local first = helper.server_context { ticket_keys = { old } }
      local second = helper.server_context { ticket_keys = { new, old } }
      local session = session_of(mine, first)
      assert.is_true(resumed(mine, second, { session = session }))
      assert.equal(first, first:set_ticket_keys { new })
      assert.is_false(resumed(mine, first, { session = session }))
      assert.is_true(resumed(mine, second, { session = session_of(mine, first) }))
      assert.is_false(resumed(mine, helper.server_context(), { session = session_of(mine, first) }))
    end)

    it("give a new ticket for each that is used up", function()
      local server = helper.server_context { ticket_keys = { helper.noise(80, 1) }, tickets = 1 }
      local mine = client { resume = true, session_key = "a" }
      assert.is_false(resumed(mine, server))
      for _ = 1, 5 do assert.is_true(resumed(mine, server)) end
    end)
  end)
end
