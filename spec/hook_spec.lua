local tls = require "cotls"
local helper = require "spec.helper"
local visits = require "spec.visit"

local ponder = helper.ponder

-- A client and a server meet, and a byte goes by.
local function visit(client, server, options)
  local got = visits.greet(client, server, options)
  got.alpn, got.resumed, got.session = got.client:alpn(), got.client:resumed(), got.client:session()
  visits.close(got)
  return got
end

local function good(...) return visits.well(visit(...)) end

-- The server's hook refuses: what its caller gets, and the alert that the client gets.
local function refuses(client, options, alert, reason, connection_options)
  local got = visit(client, helper.server_context(options), connection_options)
  assert.is_nil(got.ok)
  assert.equal("hook", got.server_err.code, tostring(got.server_err))
  assert.is_truthy(got.server_err.reason:find(reason, 1, true), got.server_err.reason)
  assert.same({ alert, true }, { got.server_err.alert.name, got.server_err.alert.sent })
  assert.same({ "alert", alert }, { got.err.code, got.err.alert.name })
  return got.server_err
end

for _, version in ipairs { "1.2", "1.3" } do
  local only = { min_version = version, max_version = version }
  local client = helper.client_context(only)

  describe("a hook that waits, on TLS " .. version, function()
    it("on_client_hello lets go on, switches, refuses", function()
      good(client, helper.server_context { on_client_hello = function() ponder() return true end })
      local other = helper.server_context { alpn = { "other" } }
      local got = good(client, helper.server_context {
        on_client_hello = function(conn) ponder() return conn:set_context(other) and true end,
      }, { alpn = { "other" } })
      assert.equal("other", got.alpn)
      refuses(client, { on_client_hello = function() ponder() return false, "access_denied" end }, "access_denied",
        "on_client_hello refuses")
      refuses(client, { on_client_hello = function() ponder() end }, "handshake_failure", "on_client_hello refuses")
      local err = refuses(client, { on_client_hello = function() ponder() error { "mine" } end }, "handshake_failure",
        "on_client_hello failed")
      assert.same({ "mine" }, err.cause.error)
      assert.matches("hook_spec.lua", err.cause.traceback)
    end)

    it("on_certificate gives a certificate, refuses", function()
      local leaf = helper.leaf { names = { "other.example" } }
      good(client, helper.server_context {
        on_certificate = function(conn)
          ponder()
          return assert(conn:use_certificate { certificate = leaf.certificate, key = leaf.key }) and true
        end,
      }, { server_name = "other.example" })
      refuses(client, { on_certificate = function() ponder() return 1 end }, "internal_error",
        "on_certificate gave a number, where true is expected")
    end)

    it("on_alpn chooses, refuses", function()
      local options = { alpn = { "a", "b" } }
      local got = good(client, helper.server_context { on_alpn = function(_, offered) ponder() return offered[2] end },
        options)
      assert.equal("b", got.alpn)
      refuses(client, { on_alpn = function() ponder() return "c" end }, "no_application_protocol", "one of the offered",
        options)
    end)

    it("on_server_name is told the name, refuses", function()
      local told
      good(client, helper.server_context { on_server_name = function(_, name) ponder() told = name return true end })
      assert.equal("localhost", told)
      refuses(client, { on_server_name = function() ponder() return false end }, "unrecognized_name", "refuses")
    end)

    it("on_ticket_key encrypts and decrypts", function()
      local key = helper.noise(80, 7)
      local asked = {}
      local server = helper.server_context { on_ticket_key = function(_, name)
        ponder()
        asked[#asked + 1] = name and #name or "new"
        return key
      end }
      local session = good(client, server).session
      assert.same({ "new" }, asked)
      assert.is_true(good(client, server, { session = session }).resumed)
      assert.equal(16, asked[2])
      good(client, helper.server_context { on_ticket_key = function() ponder() end })
    end)

    it("on_session_get and on_session_new keep sessions elsewhere", function()
      local store = {}
      local function server()
        return helper.server_context {
          on_session_get = function(_, id) ponder() return store[id] end,
          on_session_new = function(_, session) ponder() store[session:id()] = session:export() end,
        }
      end
      local session = good(client, server()).session
      assert.is_true(good(client, server(), { session = session }).resumed)
      store = {}
      assert.is_false(good(client, server(), { session = session }).resumed)
    end)

    it("on_verify of a client makes it stricter, and laxer only if that is said", function()
      local function with(options)
        options.min_version, options.max_version = version, version
        return helper.client_context(options)
      end
      local report
      local function keep(answer)
        return function(_, ok, given) ponder() report = given return answer and ok ~= nil end
      end
      local server = helper.server_context()
      good(with { on_verify = keep(true) }, server)
      assert.same({ 0, "localhost", 2 }, { report.code, report.name, #report.chain })
      local got = visit(with { on_verify = keep(false) }, server)
      assert.equal("hook", got.err.code)
      assert.equal("bad_certificate", got.server_err.alert.name)
      got = visit(with { ca = helper.other_ca.certificate, on_verify = keep(true) }, server)
      assert.equal("verify", got.err.code)
      assert.equal(20, report.code)
      good(with { ca = helper.other_ca.certificate, on_verify = keep(true), on_verify_may_accept = true }, server)
    end)

    it("on_verify of a server is obeyed", function()
      local own = helper.leaf { subject = "CN=me" }
      local me = helper.client_context { min_version = version, max_version = version, certificate = own.certificate,
        key = own.key }
      local options = { verify_client = "require", ca = helper.ca.certificate }
      local told
      options.on_verify = function(_, ok, report) ponder() told = report.chain[1]:subject() return ok end
      good(me, helper.server_context(options))
      assert.equal("CN=me", told)
      options.on_verify = function() ponder() return false end
      refuses(me, options, "bad_certificate", "on_verify refuses")
      options.on_verify = function() ponder() error "no" end
      refuses(me, options, "bad_certificate", "on_verify failed")
    end)
  end)
end

describe("a function that is told", function()
  it("tells an event once, to the operation that found it, while others go on", function()
    local told, yields = {}, 0
    local client = helper.client_context { min_version = "1.3", on_trace = function(_, event)
      if event.name == "key_update" then
        told[#told + 1] = event.seconds
        for _ = 1, 5 do
          yields = yields + 1
          coroutine.yield()
        end
      end
    end }
    local a, b = helper.handshaken(nil, nil, nil, { client = client, server = helper.server_context() })
    local written = 0
    helper.together {
      function() assert.equal("y", assert(a:read(1))) end,
      function()
        for _ = 1, 10 do
          assert(a:write("x"))
          written = written + 1
          coroutine.yield()
        end
      end,
      function()
        for _ = 1, 5 do assert(b:key_update()) end
        assert(b:write("y"))
        assert.equal(("x"):rep(10), assert(b:read(10)))
      end,
    }
    assert.equal(5, #told)
    for i = 2, #told do assert.is_true(told[i - 1] <= told[i]) end
    assert.equal(10, written)
    assert.equal(25, yields)
    a:close()
    b:close()
  end)
end)

describe("a hook that takes longer than handshake_timeout", function()
  it("has accepted nothing", function()
    local own = helper.leaf { subject = "CN=me" }
    local client = helper.client_context { certificate = own.certificate, key = own.key }
    for _, version in ipairs { "1.2", "1.3" } do
      local server = helper.server_context { handshake_timeout = 0.05, verify_client = "require",
        max_version = version, ca = helper.ca.certificate,
        on_verify = function()
          local till = tls.now() + 0.1
          while tls.now() < till do coroutine.yield() end
          return true
        end }
      local a, b = helper.pair(nil, nil, nil, { client = client, server = server })
      helper.together {
        function()
          if a:connect() then a:read(1) end
        end,
        function() assert.equal("timeout", helper.code_of(b:accept())) end,
      }
      assert.is_nil(b:fileno())
      a:close()
    end
  end)
end)
