-- SPDX-License-Identifier: MIT
-- Hooks together with what else there is: early data, listeners, sockets, servers on the network, and one another.

local tls = require "cotls"
local luv = require "cotls.luv"
local helper = require "spec.helper"
local visit = require "spec.visit"

local ponder, with = helper.ponder, helper.with

-- ---- early data ----

describe("early data", function()
  local client = helper.client_context { min_version = "1.3" }
  local ALPN = { alpn = { "a", "b" } }
  local EARLY = with(ALPN, { early_data = "pay 5", read_early = 100 })

  it("goes with on_alpn, which is asked each time", function()
    local asked, answer = {}, "b"
    local server = helper.server_context { max_early_data = 100, on_alpn = function(_, offered)
      ponder()
      asked[#asked + 1] = table.concat(offered, ",")
      return answer
    end }
    local session = visit.session(client, server, ALPN)
    local got = visit.over(client, server, with(EARLY, { session = session }))
    assert.same({ true, "accepted", "pay 5" }, { got.resumed, got.status, table.concat(got.early) })
    assert.same({ "a,b", "a,b" }, asked)
    assert.same({ "b", "b" }, { got.client:alpn(), got.server:alpn() })
  end)

  -- RFC 8446 section 4.2.10: it is for the protocol that was agreed on.
  it("is not accepted where on_alpn chooses another protocol than last time", function()
    local answer = "b"
    local server = helper.server_context { max_early_data = 100, on_alpn = function() ponder() return answer end }
    local session = visit.session(client, server, ALPN)
    answer = "a"
    local got = visit.over(client, server, with(EARLY, { session = session }))
    assert.same({ "rejected", 0, "a" }, { got.status, #got.early, got.client:alpn() })
  end)

  it("ends where on_alpn refuses, and nobody has read it", function()
    local refuses = false
    local server = helper.server_context { max_early_data = 100, on_alpn = function()
      ponder()
      return not refuses and "b" or nil
    end }
    local session = visit.session(client, server, ALPN)
    refuses = true
    local client_err, server_err = visit.failure(client, server, with(EARLY, { session = session }))
    assert.same({ "alert", "no_application_protocol" }, { client_err.code, client_err.alert.name })
    assert.same({ "hook", "on_alpn refuses" }, { server_err.code, server_err.reason })
  end)

  it("goes with on_alpn and on_session_get, and is accepted once", function()
    local store, asked = {}, {}
    local function server()
      return helper.server_context { max_early_data = 100, session_get_takes = true,
        on_alpn = function() ponder() asked[#asked + 1] = "alpn" return "b" end,
        on_session_get = function(_, id, take)
          ponder()
          asked[#asked + 1] = "get"
          local found = store[id]
          if take then store[id] = nil end
          return found
        end,
        on_session_new = function(_, session) store[session:id()] = session:export() end }
    end
    local session = visit.session(client, server(), ALPN)
    asked = {}
    local got = visit.over(client, server(), with(EARLY, { session = session }))
    assert.same({ true, "accepted", "pay 5" }, { got.resumed, got.status, table.concat(got.early) })
    assert.same({ "alpn", "get" }, { asked[1] == "alpn" and asked[1] or asked[2], asked[1] == "get" and asked[1] or
      asked[2] })
    assert.equal(2, #asked)
    got = visit.over(client, server(), with(EARLY, { session = session }))
    assert.same({ false, "rejected", 0 }, { got.resumed, got.status, #got.early })
  end)
end)

-- ---- a listener ----

it("a listener takes a context with hooks, for the connections to come", function()
  local asked = {}
  local hooked = helper.server_context {
    on_client_hello = function(_, hello) luv.sleep(0.002) asked[#asked + 1] = hello.server_name return true end,
    on_alpn = function(_, offered) luv.sleep(0.002) return offered[2] end,
  }
  local client = helper.client_context { alpn = { "a", "b" } }
  helper.in_loop(function()
    local listener = assert(tls.listen("127.0.0.1", 0, { context = helper.server_context() }))
    luv.spawn(function()
      local conn = listener()
      while conn do
        luv.spawn(function()
          if conn:accept() then conn:write("x") end
          conn:close()
        end)
        conn = listener()
      end
    end)
    local function come()
      local conn = assert(tls.connect("127.0.0.1", listener:port(), { context = client, server_name = "localhost" }))
      assert.equal("x", conn:read(1))
      local alpn = conn:alpn()
      conn:close()
      return alpn
    end
    assert.is_nil(come())
    assert.same({}, asked)
    listener:set_context(hooked)
    assert.same({ "b", "b" }, { come(), come() })
    assert.same({ "localhost", "localhost" }, asked)
    listener:set_context(helper.server_context())
    assert.is_nil(come())
    assert.equal(2, #asked)
    listener:close()
  end)
end)

-- ---- the network, from inside ----

-- A server that answers each line with what answer(line) gives: its port, and a function that ends it.
local function oracle(answer)
  local listener = assert(tls.listen("127.0.0.1", 0, { context = helper.server_context() }))
  luv.spawn(function()
    local conn = listener()
    while conn do
      if conn:accept() then
        local line = conn:read("l")
        if line then conn:write(answer(line), "\n") end
      end
      conn:close()
      conn = listener()
    end
  end)
  return listener:port(), function() listener:close() end
end

for _, version in ipairs { "1.2", "1.3" } do
  local only = { min_version = version, max_version = version }

  describe("a hook on TLS " .. version, function()
    it("asks another server over TLS, while its own handshake waits", function()
      helper.in_loop(function()
        local port, stop = oracle(function(line) return line == "who is localhost" and "b" or "no" end)
        local function ask(question)
          local conn = assert(tls.connect("127.0.0.1", port, { context = helper.client_context(),
            server_name = "localhost" }))
          assert(conn:write(question, "\n"))
          local line = assert(conn:read("l"))
          conn:close()
          collectgarbage()
          return line
        end
        local server = helper.server_context(with(only, {
          on_client_hello = function(_, hello) return ask("who is " .. hello.server_name) == "b" end,
          on_server_name = function(_, name) return ask("who is " .. name) == "b" end,
          on_certificate = function() return ask("who is localhost") == "b" end,
          on_alpn = function() return ask("who is localhost") end,
        }))
        local a, b = helper.pair(nil, { alpn = { "a", "b" } }, nil, { client = helper.client_context(only),
          server = server })
        local done
        luv.spawn(function() done = { a:connect() } end)
        assert(b:accept())
        helper.until_true(function() luv.sleep(0.001) return done end)
        assert(done[1], tostring(done[2]))
        assert.equal("b", a:alpn())
        a:close()
        b:close()
        stop()
      end)
    end)

    it("reads and writes another connection that is open already", function()
      helper.in_loop(function()
        local near, far = helper.handshaken()
        luv.spawn(function()
          local line = far:read("l")
          while line do
            far:write(line:upper(), "\n")
            line = far:read("l")
          end
        end)
        local heard
        local a, b = helper.pair(nil, nil, nil, { client = helper.client_context(only), server = helper.server_context(
          with(only, { on_server_name = function(_, name)
            assert(near:write(name, "\n"))
            heard = near:read("l")
            return true
          end })) })
        local done
        luv.spawn(function() done = { a:connect() } end)
        assert(b:accept())
        helper.until_true(function() luv.sleep(0.001) return done end)
        assert.equal("LOCALHOST", heard)
        for _, conn in ipairs { a, b, near, far } do conn:close() end
      end)
    end)
  end)
end

-- ---- two that fail ----

-- What a server's context with these options says to a client; what was called.
local function fails(options, client_options)
  local called = {}
  local server = { verify_client = "require", ca = helper.ca.certificate }
  for name, fn in pairs(options) do
    server[name] = function(...)
      ponder()
      called[#called + 1] = name
      return fn(...)
    end
  end
  local own = helper.leaf { subject = "CN=me" }
  local client = helper.client_context(with({ certificate = own.certificate, key = own.key }, client_options))
  local _, err = visit.failure(client, helper.server_context(server), { alpn = { "a" } })
  return err, called
end

for _, version in ipairs { "1.2", "1.3" } do
  describe("two hooks on TLS " .. version, function()
    it("that fail in one handshake: the first counts", function()
      local only = { min_version = version, max_version = version }
      local function breaks(what) return function() error { what } end end
      for _, case in ipairs {
        { "on_client_hello", "on_server_name", "handshake_failure" },
        { "on_server_name", "on_certificate", "unrecognized_name" },
        { "on_certificate", "on_verify", "internal_error" },
        { "on_alpn", "on_verify", "no_application_protocol" },
      } do
        local first, second, alert = case[1], case[2], case[3]
        local err, called = fails({ [first] = breaks(first), [second] = breaks(second) }, only)
        assert.same({ first }, called)
        assert.same({ "hook", first, alert }, { err.code, err.cause.error[1], err.alert.name })
      end
    end)

    -- What is only told comes after the step; the handshake has failed by then, and keeps its reason.
    it("of which one is told and fails: it does not hide the one that has refused", function()
      local only = { min_version = version, max_version = version }
      local err = fails({
        on_server_name = function() error { "asked" } end,
        on_trace = function(_, event) if event.type == "alert" then error { "told" } end end,
      }, only)
      assert.same({ "hook", "asked" }, { err.code, err.cause.error[1] })
      local told = 0
      err = fails({
        on_server_name = function() error { "asked" } end,
        on_trace = function() told = told + 1 error { told } end,
      }, only)
      assert.same({ "hook", 1 }, { err.code, err.cause.error[1] })
      assert.is_true(told > 1)
    end)
  end)
end
