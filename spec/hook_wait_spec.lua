-- SPDX-License-Identifier: MIT
-- What a hook may do while OpenSSL waits for it, and what others may: yield, sleep, read, shake other hands, fail
-- late, close the connection, never come back. Each hook of both sides goes through all of it.

local compat = require "cotls.compat"
local tls = require "cotls"
local luv = require "cotls.luv"
local helper = require "spec.helper"

local ponder, with = helper.ponder, helper.with

local VERSIONS = { "1.2", "1.3" }
local KEY = helper.noise(80, 3)
local PSK = helper.noise(32, 7)
local own = helper.leaf { subject = "CN=me" }

-- What the two show: the server's leaf, the client's.
local KEYS = { ec = { server = helper.server_leaf, client = own } }

local function keys_of(kind)
  if not KEYS[kind] then
    KEYS[kind] = { server = helper.leaf { key_type = kind }, client = helper.leaf { key_type = kind,
      subject = "CN=me" } }
  end
  return KEYS[kind]
end

-- A scheduler for the main thread: the other side goes on while this one waits.
local current
local blocking = { blocking = true, wait = function() current() return true end }

-- Each hook: its side, what makes it be asked, a good answer and what comes with it, whether nil is one. `job`: OpenSSL
-- has no retry for it.
local HOOKS = {
  { name = "on_client_hello", side = "server", good = true },
  { name = "on_server_name", side = "server", good = true, job = true },
  { name = "on_certificate", side = "server", good = true },
  { name = "on_alpn", side = "server", good = "b", wrong = "c", client = { alpn = { "a", "b" } }, job = true },
  { name = "on_ticket_key", side = "server", good = KEY, nothing = true, job = true },
  { name = "on_session_get", side = "server", wrong = "", nothing = true, job = true, resumes = true },
  { name = "on_ocsp", side = "server", nothing = true, client = { ocsp = "request" }, job = true },
  { name = "on_verify", side = "server", good = true, job = true,
    server = { verify_client = "require", ca = helper.ca.certificate },
    client = { certificate = own.certificate, key = own.key } },
  { name = "on_psk", side = "server", good = PSK, wrong = "", nothing = true, job = true, client = { psk = { me = PSK
    } } },
  { name = "on_psk", side = "client", good = "me", also = PSK, wrong = "", nothing = true, job = true,
    server = { psk = { me = PSK } } },
  { name = "on_verify", side = "client", good = true },
  { name = "on_certificate", side = "client", good = true,
    server = { verify_client = "require", ca = helper.ca.certificate },
    client = { certificate = own.certificate, key = own.key } },
}

local function title(hook) return hook.name .. " of a " .. hook.side end

-- What the client is given to resume: a session that the server has not, but the store may.
local function session_for(hook, version)
  if not hook.resumes then return nil end
  local a, b = helper.handshaken(nil, nil, nil, {
    client = helper.client_context { min_version = version, max_version = version },
    server = helper.server_context { tickets = false, min_version = version, max_version = version },
  })
  helper.together {
    function() assert(a:read(1)) end,
    function() assert(b:write("x")) end,
  }
  a:close()
  b:close()
  return a:session()
end

-- A client and a server, one of them with the hook; more options for the hook's side, and another kind of keys.
local function pair(hook, fn, version, more, wrap, kind)
  local keys = keys_of(kind or "ec")
  local function options(side)
    local all = with({ min_version = version, max_version = version }, hook[side] or {})
    if side == hook.side then all = with(all, { [hook.name] = fn }, more or {}) end
    if side == "server" and hook.name == "on_session_get" and all.tickets == nil then all.tickets = false end
    if side == "server" or all.certificate then all.certificate, all.key = keys[side].certificate, keys[side].key end
    return all
  end
  local session = session_for(hook, version)
  local server = helper.server_context(options "server")
  local client = helper.client_context(options "client")
  return helper.pair(nil, with({ session = session }, hook.side == "client" and wrap or {}),
    hook.side == "server" and wrap or nil, { client = client, server = server })
end

-- Both shake hands and a byte goes by: { client's, server's }: true, or the error.
local function shake(a, b)
  local got, others = helper.greet(a, b)
  return got[1] and true or got[2], others[1] and true or others[2]
end

local function mine(hook, a, b)
  if hook.side == "server" then return b, a end
  return a, b
end

-- It refuses: the side with the hook fails by it and closes, the other one has no connection.
local function assert_refused(hook, fn, version, reason, more, wrap, code)
  local a, b = pair(hook, fn, version, more, wrap)
  local first, second = shake(a, b)
  local err, other = mine(hook, first, second)
  assert(err ~= true, "it is not refused")
  assert.equal(code or "hook", err.code, tostring(err))
  assert(err.reason:find(reason, 1, true), err.reason)
  assert(other ~= true, "the peer has not noticed")
  local conn = mine(hook, a, b)
  assert.equal("closed", helper.code_of(conn:read(1)))
  a:close()
  b:close()
  return err
end

for _, version in ipairs(VERSIONS) do
  for _, hook in ipairs(HOOKS) do
    describe(title(hook) .. " on TLS " .. version, function()
      for _, kind in ipairs { "ec", "rsa" } do
        it("yields twice, with all garbage collected, and keys of " .. kind, function()
          local calls = 0
          local a, b = pair(hook, function(_, ...)
            local before = select("#", ...)
            ponder()
            calls = calls + 1
            assert(before == select("#", ...))
            return hook.good, hook.also
          end, version, nil, nil, kind)
          local first, second = shake(a, b)
          assert.same({ true, true }, { first, second }, tostring(first) .. tostring(second))
          assert.is_true(calls > 0)
          if not a:psk_identity() then
            assert.equal(kind, a:peer_certificate():key().type)
            if hook.client and hook.client.certificate then
              assert.equal(kind, b:peer_certificate():key().type)
            end
          end
        end)
      end

      it("refuses by an error, before and after a yield", function()
        for _, wait in ipairs { function() end, ponder } do
          local err = assert_refused(hook, function() wait() error { "mine" } end, version, hook.name .. " failed")
          assert.same({ "mine" }, err.cause.error)
          assert.matches("hook_wait_spec", err.cause.traceback)
        end
      end)

      it("refuses by a wrong type, and by nil unless that is an answer", function()
        for _, value in ipairs { 7, false, {}, print, hook.wrong or "no" } do
          assert_refused(hook, function() ponder() return value end, version, hook.name)
        end
        if not hook.nothing then
          assert_refused(hook, function() ponder() end, version, hook.name .. " refuses")
        end
      end)

      it("refuses when it outlasts handshake_timeout", function()
        local a, b = pair(hook, function()
          local until_then = tls.now() + 0.05
          repeat coroutine.yield() until tls.now() > until_then
          return hook.good, hook.also
        end, version, { handshake_timeout = 0.04 })
        local first, second = shake(a, b)
        local err, other = mine(hook, first, second)
        assert.equal("timeout", err.code)
        assert(other ~= true)
        assert.equal("closed", helper.code_of(mine(hook, a, b):read(1)))
      end)

      it("may outlast the timeout of a call: the handshake goes on with the answer", function()
        local calls, timeouts = 0, 0
        local a, b = pair(hook, function()
          local until_then = tls.now() + 0.03
          repeat coroutine.yield() until tls.now() > until_then
          calls = calls + 1
          return hook.good, hook.also
        end, version, nil, { timeout = 0.02 })
        a:set_connect_state()
        b:set_accept_state()
        local conn = mine(hook, a, b)
        local function patiently(one)
          return function()
            for _ = 1, 100 do
              local ok, err = one:do_handshake()
              if ok then return true end
              if err.code ~= "timeout" then return err end
              if one == conn then timeouts = timeouts + 1 end
            end
          end
        end
        local got = helper.together { patiently(a), patiently(b) }
        assert.same({ true, true }, { got[1][1], got[2][1] }, tostring(got[1][1]) .. tostring(got[2][1]))
        assert.is_true(timeouts > 0)
        assert.equal(1, calls)
      end)

      -- Both sides up to the hook's first yield; two coroutines, resumed in turn.
      local function until_paused(fn)
        local a, b = pair(hook, fn, version)
        local conn, peer = mine(hook, a, b)
        a:set_connect_state()
        b:set_accept_state()
        local function start(one)
          return coroutine.create(function() return one:do_handshake() end)
        end
        local co, peer_co = start(conn), start(peer)
        for _ = 1, 50 do
          local _, what = coroutine.resume(co)
          if what == "hook" then return conn, peer, co, peer_co end
          if coroutine.status(peer_co) == "suspended" then coroutine.resume(peer_co) end
        end
        error "the hook was never asked"
      end

      -- What the peer gets to see: the error that ends its handshake, or its first read.
      local function ending(peer, peer_co)
        local ok, err
        for _ = 1, 50 do
          if coroutine.status(peer_co) ~= "suspended" then break end
          ok, err = select(2, coroutine.resume(peer_co))
        end
        if peer:handshake_done() then ok, err = peer:read(1) end
        assert.is_nil(ok)
        return err
      end

      local function assert_cut_off(peer, peer_co)
        local err = ending(peer, peer_co)
        assert(err.code == "truncated" or err.code == "system", tostring(err))
        peer:close()
      end

      it("closes the connection when that is collected in mid-hook", function()
        local conn, peer, co, peer_co = until_paused(function() coroutine.yield "hook" end)
        local weak = setmetatable({ conn, co }, { __mode = "v" })
        conn, co = nil, nil
        collectgarbage()
        collectgarbage()
        assert.is_true(conn == co and weak[1] == nil and weak[2] == nil)
        assert_cut_off(peer, peer_co)
      end)

      it("closes the connection at the next call when its coroutine was closed in mid-hook", function()
        local released = false
        local conn, peer, co, peer_co = until_paused(function()
          compat.closing(setmetatable({}, { __close = function() released = true end }), coroutine.yield, "hook")
        end)
        assert.is_true(coroutine.close(co))
        assert.is_true(released)
        assert.equal("closed", helper.code_of(conn:do_handshake()))
        assert_cut_off(peer, peer_co)
      end)

      it("may be closed by another coroutine meanwhile, and nothing is sent any more", function()
        local conn, peer, co, peer_co = until_paused(function() coroutine.yield "hook" return hook.good, hook.also end)
        local fd = conn:fileno()
        assert.equal("busy", helper.code_of(conn:do_handshake()))
        assert.equal("busy", helper.code_of(conn:read(1)))
        assert.equal("busy", helper.code_of(conn:write("x")))
        assert.is_false(conn:handshake_done())
        assert.is_string(conn:state())
        conn:info()
        local sent = conn:stats().bytes_out
        assert.is_true(conn:close())
        local first, second = helper.socketpair() -- the descriptor is somebody else's now
        assert(first == fd or second == fd or fd)
        local ok, err = select(2, coroutine.resume(co))
        assert.equal("closed", helper.code_of(ok, err))
        assert.equal(sent, conn:stats().bytes_out)
        for _, other in ipairs { first, second } do assert.equal("EAGAIN", select(2, helper.read_fd(other))) end
        helper.close_fd(first)
        helper.close_fd(second)
        assert_cut_off(peer, peer_co)
      end)

      it("may close its own connection, before and after a yield", function()
        for _, wait in ipairs { function() end, ponder } do
          local a, b = pair(hook, function(conn)
            wait()
            assert.is_true(conn:close())
            wait()
            return hook.good, hook.also
          end, version)
          local first, second = shake(a, b)
          local err, other = mine(hook, first, second)
          assert.equal("closed", err.code)
          assert(other ~= true)
        end
      end)

      it("works without a coroutine if it answers at once, refuses if it yields", function()
        for _, yields in ipairs { false, true } do
          local a, b = pair(hook, function()
            if yields then coroutine.yield() end
            return hook.good, hook.also
          end, version, nil, { scheduler = blocking })
          local conn, peer = mine(hook, a, b)
          local peer_co = coroutine.create(function()
            if peer == a then return peer:connect() end
            return peer:accept()
          end)
          current = function() if coroutine.status(peer_co) == "suspended" then coroutine.resume(peer_co) end end
          local ok, err
          if conn == a then ok, err = conn:connect() else ok, err = conn:accept() end
          if yields then
            assert.equal("hook", helper.code_of(ok, err))
            assert.matches("attempt to yield", err.cause.error)
            assert(ending(peer, peer_co))
          else
            assert(ok, tostring(err))
          end
          a:close()
          b:close()
        end
      end)

      it("waits under luv, where the loop goes on", function()
        helper.in_loop(function()
          local a, b = pair(hook, function()
            luv.sleep(0.005)
            collectgarbage()
            luv.sleep(0.005)
            return hook.good, hook.also
          end, version)
          local got
          luv.spawn(function() got = { a:connect() } end)
          assert(b:accept())
          helper.until_true(function() luv.sleep(0.001) return got end)
          assert(got[1], tostring(got[2]))
        end)
      end)
    end)
  end
end

