local tls = require "cotls"
local core = require "cotls.core"
local helper = require "spec.helper"
local visit = require "spec.visit"

local resumed = visit.resumed

local function cached(context) return context:session_stats().cached end

for _, version in ipairs { "1.2", "1.3" } do
  local function context(kind, options)
    return helper[kind .. "_context"](helper.with({ min_version = version, max_version = version }, options))
  end

  local function client(options)
    options = options or {}
    options.resume = true
    return context("client", options)
  end

  describe("resume = true on TLS " .. version, function()
    local server = context("server")

    it("resumes by itself, by the peer's address or the key", function()
      local mine = client()
      assert.is_false(resumed(mine, server, { session_key = "a" }))
      assert.is_true(resumed(mine, server, { session_key = "a" }))
      assert.is_true(resumed(mine, server, { session_key = "a" }))
      assert.is_false(resumed(mine, server, { session_key = "b" }))
      assert.is_false(resumed(mine, server)) -- a socketpair has no address
      assert.is_false(resumed(mine, server))
      assert.is_true(cached(mine) > 0)
      assert.equal(mine, mine:flush_sessions())
      assert.equal(0, cached(mine))
      assert.is_false(resumed(mine, server, { session_key = "a" }))
    end)

    it("is not what resume = false means", function()
      local forgetful = helper.client_context { max_version = version, resume = false, session_key = "a" }
      for _ = 1, 2 do assert.is_false((visit.resumed(forgetful, server))) end
      assert.equal(0, cached(forgetful))
    end)

    it("takes the context's key", function()
      local mine = client { session_key = "a" }
      assert.is_false(resumed(mine, server))
      assert.is_true(resumed(mine, server))
      assert.is_true(resumed(mine, server, { session_key = "a" }))
      assert.is_false(resumed(mine, server, { session_key = "" }))
    end)

    it("keeps apart names, protocols, names to verify and contexts", function()
      local mine = client { session_key = "a" }
      assert.is_false(resumed(mine, server))
      assert.is_false(resumed(mine, server, { alpn = { "x" } }))
      assert.is_false(resumed(mine, server, { alpn = { "x", "y" } }))
      assert.is_true(resumed(mine, server, { alpn = { "x" } }))
      assert.is_false(resumed(mine, server, { server_name = "127.0.0.1" }))
      assert.is_false(resumed(mine, server, { verify_name = { "localhost", "127.0.0.1" } }))
      assert.is_false(resumed(mine, server, { server_name = "other.example.org", verify_name = "localhost" }))
      assert.is_false(resumed(client { session_key = "a" }, server))
      assert.is_true(resumed(mine, server))
    end)

    it("keeps apart addresses and ports", function()
      local mine = client()
      local function connected(listener)
        local address, port = listener:address()
        local socket = assert(core.connect_socket(address, port))
        local accepted
        helper.until_true(function()
          accepted = accepted or listener:accept()
          return accepted and socket:finish()
        end, "a connection")
        return socket, accepted
      end
      local function at(listener)
        return resumed(mine, server, { transport = { make = function() return connected(listener) end } })
      end
      local here, there = assert(core.listen_socket("127.0.0.1", 0)), assert(core.listen_socket("127.0.0.1", 0))
      local elsewhere = assert(core.listen_socket("127.0.0.2", select(2, here:address())))
      assert.is_false(at(here))
      assert.is_false(at(there))
      assert.is_false(at(elsewhere))
      assert.is_true(at(here))
      assert.is_true(at(there))
      assert.is_true(at(elsewhere))
      -- a descriptor tells its peer's address too
      assert.is_true(resumed(mine, server, { transport = { make = function()
        local socket, accepted = connected(here)
        return { getfd = function() return socket:fileno() end, close = function() socket:close() end }, accepted
      end } }))
      for _, listener in ipairs { here, there, elsewhere } do listener:close() end
    end)

    it("takes the session that is given before its own", function()
      local mine = client { session_key = "a" }
      local given = visit.session(context("client"), server)
      assert.is_true(resumed(mine, server, { session = given }))
      assert.is_true(resumed(mine, server))
      -- one that does not fit is no obstacle
      local strange = visit.session(context("client", { insecure = true }), server)
      assert.is_true(resumed(mine, server, { session = strange }))
    end)

    it("does a full handshake where the server has forgotten", function()
      local mine = client { session_key = "a" }
      assert.is_false(resumed(mine, server))
      local another = context("server")
      assert.is_false(resumed(mine, another))
      assert.is_true(resumed(mine, another))
      local keyed = context("server", { ticket_keys = { helper.noise(80, 1) } })
      assert.is_false(resumed(mine, keyed))
      assert.is_true(resumed(mine, keyed))
      keyed:set_ticket_keys { helper.noise(80, 2) }
      mine:flush_sessions()
      assert.is_false(resumed(mine, keyed))
      assert.is_true(resumed(mine, keyed))
    end)

    it("verifies in full where what it had is gone", function()
      local mine = client { session_key = "a" }
      assert.is_false(resumed(mine, server))
      local stranger = helper.leaf { ca = helper.other_ca }
      local impostor = context("server", { certificate = stranger.certificate, key = stranger.key })
      local err = visit.failure(mine, impostor)
      assert.equal("verify", err.code)
    end)

    it("forgets a server's sessions when a handshake that offers one fails", function()
      local mine = client { session_key = "a" }
      assert.is_false(resumed(mine, server))
      assert.is_false(resumed(mine, server, { session_key = "b" }))
      local kept = cached(mine)
      local a, b = helper.pair(nil, nil, nil, { client = mine, server = server })
      helper.together {
        function() assert.equal("truncated", helper.code_of(a:connect())) end,
        function() b:close() end,
      }
      assert.is_true(cached(mine) < kept)
      assert.is_false(resumed(mine, server))
      assert.is_true(resumed(mine, server, { session_key = "b" }))
    end)

    it("offers nothing after a fatal alert", function()
      local mine = client { session_key = "a" }
      local got = visit.good(mine, server)
      local session = got.client:session()
      assert(helper.write_fd(got.server:fileno(), "no record of TLS") > 0)
      assert.equal("tls", helper.code_of(got.client:read(1)))
      got.client:close()
      got.server:close()
      assert.is_false(session:is_resumable())
      assert.is_false(version == "1.2" and resumed(mine, server))
      assert.is_false(resumed(context("client"), server, { session = session }))
    end)

    it("holds 1000 sessions, of the peers that came last", function()
      local mine, few = client(), context("server", { tickets = 1 })
      local session = visit.session(context("client"), few) -- a resumed handshake is quicker
      local count, before = 1200, nil
      local function key(i) return ("peer %d"):format(i) end
      for i = 1, count do
        visit.over(mine, few, { session_key = key(i), session = session })
        if i == 1010 then
          collectgarbage()
          collectgarbage()
          before = helper.resident()
        end
      end
      collectgarbage()
      collectgarbage()
      assert.equal(1000, cached(mine))
      if helper.slow == 1 then assert.is_true(helper.resident() - before < 1024 * 1024) end
      assert.is_false(resumed(mine, few, { session_key = key(count - 1000) }))
      assert.is_true(resumed(mine, few, { session_key = key(count) }))
      assert.is_true(resumed(mine, few, { session_key = key(count - 900) }))
    end)

    it("may lose its context, or its connections, at any time", function()
      local mine = client { session_key = "a" }
      local got = visit.good(mine, server)
      local session = got.client:session()
      mine = nil -- luacheck: ignore 311
      collectgarbage()
      collectgarbage()
      got.client:close()
      got.server:close()
      got = nil -- luacheck: ignore 311
      collectgarbage()
      collectgarbage()
      assert.is_true(session:is_resumable())
      assert.is_true(resumed(context("client"), server, { session = session }))
    end)
  end)
end

describe("a ticket of TLS 1.3", function()
  local function contexts(tickets)
    return helper.client_context { resume = true, session_key = "a" }, helper.server_context { tickets = tickets }
  end

  it("is used once, also by connections at the same time", function()
    local mine, server = contexts(2)
    assert.is_false(resumed(mine, server))
    assert.equal(2, cached(mine))
    local all, fns = {}, {}
    for i = 1, 3 do
      local a, b = helper.pair(nil, nil, nil, { client = mine, server = server })
      all[i] = a
      fns[#fns + 1] = function() assert(a:connect()) end
      fns[#fns + 1] = function()
        assert(b:accept())
        b:close()
      end
    end
    helper.together(fns)
    local was = 0
    for _, a in ipairs(all) do
      if a:resumed() then was = was + 1 end
      a:close()
    end
    assert.equal(2, was)
    assert.equal(0, cached(mine))
  end)

  it("is not put back by a connection that fails", function()
    local mine, server = contexts(1)
    assert.is_false(resumed(mine, server))
    local a, b = helper.pair(nil, nil, nil, { client = mine, server = server })
    a:settimeout(0)
    assert.equal("want_read", helper.code_of(a:connect()))
    assert.equal(0, cached(mine))
    a:close()
    b:close()
    assert.equal(0, cached(mine))
    assert.is_false(resumed(mine, server))
  end)

  it("is kept four times for a peer", function()
    local mine, server = contexts(6)
    assert.is_false(resumed(mine, server))
    assert.equal(4, cached(mine))
  end)
end)

describe("a session of TLS 1.2", function()
  it("is remembered once, and shared by connections at the same time", function()
    local only = { max_version = "1.2", resume = true, session_key = "a" }
    local mine, server = helper.client_context(only), helper.server_context()
    assert.is_false(resumed(mine, server))
    assert.is_true(resumed(mine, server))
    assert.equal(1, cached(mine))
    local a, b = visit.good(mine, server), visit.good(mine, server)
    assert.same({ true, true }, { a.resumed, b.resumed })
    for _, got in ipairs { a, b } do
      got.client:close()
      got.server:close()
    end
  end)
end)

describe("tls.connect", function()
  it("resumes through a listener that the address tells", function()
    helper.in_loop(function()
      local luv = require "cotls.luv"
      local server = helper.server_context()
      local listeners = {}
      for i = 1, 2 do
        local listener = assert(tls.listen("127.0.0.1", 0, { context = server }))
        listeners[i] = listener
        luv.spawn(function()
          helper.each(listener, function(conn)
            assert(conn:accept())
            assert(conn:write("x"))
            conn:close()
          end)
        end)
      end
      local mine = helper.client_context { resume = true }
      local function go(i)
        local conn = assert(tls.connect("127.0.0.1", listeners[i]:port(), { context = mine }))
        assert.equal("x", conn:read("a"))
        local was = conn:resumed()
        conn:close()
        return was
      end
      assert.is_false(go(1))
      assert.is_true(go(1))
      assert.is_false(go(2))
      assert.is_true(go(2))
      for _, listener in ipairs(listeners) do listener:close() end
    end)
  end)
end)
