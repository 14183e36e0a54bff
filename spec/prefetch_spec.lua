-- SPDX-License-Identifier: MIT
-- Hooks where OpenSSL has no jobs (core.set_async(false) makes it so): asked from inside client_hello. What they
-- answer counts as it does with jobs; what can't be asked there is refused when the context is made.

local core = require "cotls.core"
local tls = require "cotls"
local helper = require "spec.helper"
local hello = require "spec.hello"
local visit = require "spec.visit"

local ponder, with = helper.ponder, helper.with

local KEY, PSK = helper.noise(80, 3), helper.noise(32, 7)

local asked -- what the hooks of a spec were asked, in order

-- A hook that waits, notes what it is asked, and answers so.
local function noted(name, answer)
  return function(_, ...)
    ponder()
    asked[#asked + 1] = { name, ... }
    if type(answer) == "function" then return answer(...) end
    return answer
  end
end

local function names()
  local list = {}
  for i, one in ipairs(asked) do list[i] = one[1] end
  return table.concat(list, " ")
end

-- The server's hook refuses: by this alert, told the caller as with jobs.
local function refuses(client, options, alert, reason, connection_options)
  local client_err, err = visit.failure(client, helper.server_context(options), connection_options)
  assert.same({ "alert", alert }, { client_err.code, client_err.alert and client_err.alert.name },
    tostring(client_err))
  assert.equal("hook", err.code, tostring(err))
  assert.is_truthy(err.reason:find(reason, 1, true), err.reason)
  return err
end

local function without_jobs(fn)
  return function()
    core.set_async(false)
    asked = {}
    local ok, err = xpcall(fn, function(e) return type(e) == "string" and debug.traceback(e) or e end)
    core.set_async(true)
    if not ok then error(err, 0) end
  end
end

for _, version in ipairs { "1.2", "1.3" } do
  local only = { min_version = version, max_version = version }
  local client = helper.client_context(only)
  local function server(options) return helper.server_context(with(only, options)) end

  describe("without jobs, on TLS " .. version, function()
    it("on_server_name is told the name, or that there is none", without_jobs(function()
      local context = server { on_server_name = noted("name", true) }
      visit.over(client, context, { server_name = "localhost" })
      assert.same({ { "name", "localhost" } }, asked)
      local told = {}
      context = server { on_server_name = function(_, name) told[#told + 1] = name or "none" return true end }
      local record = hello.of(client, { server_name = "localhost" })
      assert.equal("ServerHello", (hello.meet(context, hello.with(record, hello.SERVER_NAME, false))))
      assert.equal("ServerHello", (hello.meet(context, record)))
      hello.meet(context, hello.with(record, hello.SERVER_NAME, "malformed"))
      assert.same({ "none", "localhost", "none" }, told)
    end))

    it("on_server_name refuses", without_jobs(function()
      for _, case in ipairs { { false, "refuses" }, { 7, "gave a number" }, { function() error "no" end, "failed" } } do
        refuses(client, with(only, { on_server_name = noted("name", case[1]) }), "unrecognized_name",
          "on_server_name " .. case[2])
      end
    end))

    it("on_server_name may switch the context, whose hooks are asked then", without_jobs(function()
      local inner = server { on_alpn = noted("alpn", "b") }
      local context = server { alpn = { "a" }, on_server_name = function(conn, name)
        ponder()
        asked[#asked + 1] = { "name", name }
        conn:set_context(inner)
        return true
      end }
      local got = visit.over(client, context, { alpn = { "a", "b" } })
      assert.equal("b", got.client:alpn())
      assert.equal("name alpn", names())
    end))

    it("on_certificate sets no context whose hooks the other one's have answered for", without_jobs(function()
      for name, answer in pairs { on_ocsp = false, on_ticket_key = KEY } do
        local inner = server { [name] = noted("inner", answer or nil) }
        local options = with(only, {
          [name] = noted("outer", answer or nil),
          on_certificate = function(conn)
            conn:set_context(inner)
            return true
          end,
        })
        refuses(client, options, "internal_error", "a hook that would not be asked any more")
        inner = server {}
        visit.over(client, helper.server_context(options))
      end
    end))

    it("on_alpn chooses, and refuses", without_jobs(function()
      local got = visit.over(client, server { on_alpn = noted("alpn", function(list) return list[2] end) },
        { alpn = { "a", "b" } })
      assert.equal("b", got.client:alpn())
      assert.same({ { "alpn", { "a", "b" } } }, asked)
      assert.is_nil(visit.over(client, server { on_alpn = noted("alpn", "b") }).client:alpn())
      assert.equal(1, #asked)
      for _, answer in ipairs { "c", false, 7, function() error "no" end } do
        refuses(client, with(only, { on_alpn = noted("alpn", answer) }), "no_application_protocol", "on_alpn",
          { alpn = { "a", "b" } })
      end
    end))

    it("on_session_get is asked for what the client offers", without_jobs(function()
      local store = {}
      local function stored()
        return server { on_session_get = noted("get", function(id) return store[id] end),
          on_session_new = function(_, session) ponder() store[session:id()] = session:export() end }
      end
      local session = visit.session(client, stored())
      local exported = session:export()
      asked = {}
      assert.is_true(visit.resumed(client, stored(), { session = session }))
      assert.same({ { "get", asked[1][2], false } }, asked)
      store = {}
      asked = {}
      assert.is_false(visit.resumed(client, stored(), { session = session }))
      assert.equal("get", names())
      for _, answer in ipairs { "", false, 7, function() error "no" end } do
        refuses(client, with(only, { on_session_get = noted("get", answer) }), "internal_error", "on_session_get",
          { session = assert(tls.session(exported)) }) -- a failed handshake uses a session up
      end
    end))

    it("on_ticket_key is asked for the client's ticket, and for a new one's", without_jobs(function()
      local context = server { on_ticket_key = noted("key", KEY) }
      local session = visit.session(client, context)
      local exported = session:export()
      assert.same({ { "key" } }, asked)
      asked = {}
      assert.is_true(visit.resumed(client, context, { session = session }))
      assert.same({ { "key", KEY:sub(1, 16) }, { "key" } }, asked)
      assert.is_false(visit.resumed(client, server { on_ticket_key = noted("key", nil) }, { session = session }))
      for _, answer in ipairs { "short", false, 7, function() error "no" end } do
        refuses(client, with(only, { on_ticket_key = noted("key", answer) }), "internal_error", "on_ticket_key",
          { session = assert(tls.session(exported)) })
        refuses(client, with(only, { on_ticket_key = noted("key", answer) }), "internal_error", "on_ticket_key")
      end
    end))

    it("on_ocsp is asked where the client wants a staple", without_jobs(function()
      local wants = helper.client_context(with(only, { ocsp = "request" }))
      visit.over(client, server { on_ocsp = noted("ocsp", nil) })
      assert.equal(0, #asked)
      visit.over(wants, server { on_ocsp = noted("ocsp", nil) })
      assert.equal("ocsp", names())
      for _, answer in ipairs { "no DER", false, 7, function() error "no" end } do
        refuses(wants, with(only, { on_ocsp = noted("ocsp", answer) }), "internal_error", "on_ocsp")
      end
    end))

    it("all of them together, behind on_client_hello and names, each once", without_jobs(function()
      local inner = server { on_server_name = noted("name", true), on_alpn = noted("alpn", "a"),
        on_ticket_key = noted("key", KEY), on_ocsp = noted("ocsp", nil), on_certificate = noted("certificate", true) }
      local door = server { names = { localhost = inner }, on_client_hello = noted("hello", true) }
      local wants = helper.client_context(with(only, { ocsp = "request", alpn = { "a" } }))
      local got = visit.over(wants, door)
      assert.equal("a", got.client:alpn())
      assert.equal("hello name alpn key ocsp certificate", names())
    end))

    it("a hook that the connection closes in, and one whose coroutine ends", without_jobs(function()
      for _, ending in ipairs { "close", "collect" } do
        local a, b = helper.pair(nil, nil, nil, { client = client, server = server { on_server_name = function(conn)
          if ending == "close" then conn:close() end
          coroutine.yield()
          return true
        end } })
        local one = coroutine.create(function() return a:connect() end)
        local two = coroutine.create(function() return b:accept() end)
        coroutine.resume(one)
        coroutine.resume(two)
        if ending == "close" then
          local _, ok, err = coroutine.resume(two)
          assert.equal("closed", helper.code_of(ok, err))
        end
        b, two = nil, nil
        collectgarbage()
        collectgarbage()
        assert.is_true(b == two)
        assert.is_nil((select(2, coroutine.resume(one))))
        a:close()
      end
    end))
  end)
end

describe("without jobs", function()
  it("on_psk is asked for TLS 1.3's identities", without_jobs(function()
    local function psk(identity) return helper.client_context { min_version = "1.3", psk = { [identity] = PSK } } end
    local options = { min_version = "1.3", on_psk = noted("psk", function(it) return it == "me" and PSK or nil end) }
    local got = visit.over(psk "me", helper.server_context(options))
    assert.equal("me", got.server:psk_identity())
    assert.same({ { "psk", "me" } }, asked)
    got = visit.over(psk "you", helper.server_context(options))
    assert.is_nil(got.server:psk_identity())
    for _, answer in ipairs { "", false, 7, function() error "no" end } do
      refuses(psk "me", { min_version = "1.3", on_psk = noted("psk", answer), on_server_name = noted("name", true) },
        "unknown_psk_identity", "on_psk")
    end
  end))

  it("a client's on_psk is asked for TLS 1.3's hello", without_jobs(function()
    local server = helper.server_context { min_version = "1.3", psk = { me = PSK }, groups = "P-256" }
    local function client(...)
      local answer = { ... }
      return helper.client_context { min_version = "1.3", groups = "X25519:P-256",
        on_psk = noted("psk", function() return answer[1], answer[2] end) }
    end
    local got = visit.over(client("me", PSK), server)
    assert.same({ "me", "me", true }, { got.client:psk_identity(), got.server:psk_identity(),
      got.client:info().hello_retry })
    assert.same({ { "psk" } }, asked)
    got = visit.over(client(), server)
    assert.is_nil(got.client:psk_identity())
    assert.truthy(got.client:peer_certificate())
    for _, answer in ipairs { false, "", "me" } do
      local err = visit.failure(client(answer), server)
      assert.equal("hook", err.code)
      assert.matches("^on_psk ", err.reason)
    end
    for _, options in ipairs { {}, { max_version = "1.2" } } do
      helper.assert_refused("on_psk", { "can't suspend", "on TLS 1.2", 'min_version = "1.3"' },
        tls.context(with({ on_psk = print, ca = helper.ca.certificate }, options)))
    end
  end))

  it("each is asked once, also after a HelloRetryRequest", without_jobs(function()
    local client = helper.client_context { groups = "X25519:P-384", alpn = { "a" }, ocsp = "request" }
    local server = helper.server_context { groups = "P-384", on_server_name = noted("name", true),
      on_alpn = noted("alpn", "a"), on_ticket_key = noted("key", KEY), on_ocsp = noted("ocsp", nil) }
    local got = visit.over(client, server)
    assert.is_true(got.client:info().hello_retry)
    assert.equal("name alpn key ocsp", names())
  end))

  it("early data go with on_alpn and on_session_get, and are accepted once", without_jobs(function()
    local client, store = helper.client_context { min_version = "1.3" }, {}
    local function server()
      return helper.server_context { max_early_data = 100, session_get_takes = true, on_alpn = noted("alpn", "b"),
        on_session_get = noted("get", function(id, take)
          local found = store[id]
          if take then store[id] = nil end
          return found
        end),
        on_session_new = function(_, session) store[session:id()] = session:export() end }
    end
    local options = { alpn = { "a", "b" } }
    local session = visit.session(client, server(), options)
    local early = with(options, { early_data = "pay 5", read_early = 100, session = session })
    local got = visit.over(client, server(), early)
    assert.same({ true, "accepted", "pay 5" }, { got.resumed, got.status, table.concat(got.early) })
    assert.is_true(asked[#asked][3])
    got = visit.over(client, server(), early)
    assert.same({ false, "rejected", 0 }, { got.resumed, got.status, #got.early })
  end))

  it("a session of TLS 1.2 is not one to be forgotten", without_jobs(function()
    local store = {}
    local server = helper.server_context { max_early_data = 100, session_get_takes = true,
      on_session_get = noted("get", function(id) return store[id] end),
      on_session_new = function(_, session) store[session:id()] = session:export() end }
    local client = helper.client_context { max_version = "1.2" }
    local session = visit.session(client, server)
    assert.is_true(visit.resumed(client, server, { session = session }))
    assert.is_false(asked[#asked][3])
  end))

  it("a hello of more tickets than hooks are asked about is refused", without_jobs(function()
    local client = helper.client_context { min_version = "1.3" }
    local session = visit.session(client, helper.server_context())
    local record = hello.of(client, { server_name = "localhost", session = session })
    local ids, binders = {}, {}
    for i = 1, 100 do
      local id = ("%032d"):format(i)
      ids[i] = "\0\32" .. id .. "\0\0\0\0"
      binders[i] = "\32" .. ("b"):rep(32)
    end
    local function list(parts)
      local text = table.concat(parts)
      return string.char(math.floor(#text / 256), #text % 256) .. text
    end
    local count = 0
    local server = helper.server_context { on_session_get = function() count = count + 1 end }
    local _, err = hello.meet(server, hello.with(record, 41, list(ids) .. list(binders)))
    assert.equal(64, count)
    assert.same({ "hook", "a hook can't be asked: no memory, or too many questions" }, { err.code, err.reason })
  end))

  it("what can't be asked in advance is refused by name", without_jobs(function()
    local leaf = helper.server_leaf
    local function context(options)
      return tls.context(with({ role = "server", certificate = leaf.certificate, key = leaf.key }, options))
    end
    helper.assert_refused("on_verify", { "can't suspend" }, context { on_verify = print, verify_client = "require",
      ca = helper.ca.certificate })
    helper.assert_refused("sign", { "can't suspend" }, tls.context { role = "server", certificate = leaf.certificate,
      sign = print })
    helper.assert_refused("sign", { "can't suspend" }, tls.context { certificate = leaf.certificate, sign = print,
      ca = helper.ca.certificate })
    helper.assert_refused("on_psk", { "can't suspend", "on TLS 1.2", 'min_version = "1.3"' },
      context { on_psk = print })
    assert(context { on_psk = print, min_version = "1.3" })
  end))

  it("a question that nobody has foreseen refuses", function()
    local asks = helper.server_context { verify_client = "require", ca = helper.ca.certificate,
      on_verify = function(_, ok) return ok end } -- made where there are jobs
    local own = helper.leaf { subject = "CN=me" }
    local client = helper.client_context { certificate = own.certificate, key = own.key }
    without_jobs(function()
      local _, err = visit.failure(client, asks)
      assert.same({ "hook", "a hook is wanted where it can't be waited for" }, { err.code, err.reason })
    end)()
  end)
end)
