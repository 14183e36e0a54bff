-- SPDX-License-Identifier: MIT
-- A client's on_psk: identity and key are looked up while the handshake waits, on TLS 1.2 by the server's hint. And
-- psk_hint, which gives that hint.

local compat = require "cotls.compat"
local tls = require "cotls"
local luv = require "cotls.luv"
local helper = require "spec.helper"
local visit = require "spec.visit"

local ponder, with = helper.ponder, helper.with

local KEY = helper.noise(32, 7)
local HEX = KEY:gsub(".", function(c) return ("%02x"):format(c:byte()) end)
local LEAF = { certificate = helper.server_leaf.certificate, key = helper.server_leaf.key }

local function only(version, options)
  return with({ min_version = version, max_version = version }, options)
end

local asked -- the hints that on_psk was given, false for none

-- A client whose on_psk waits, notes the hint, and answers so.
local function client_of(answer, options, wait)
  return assert(tls.context(with({ ca = helper.ca.certificate, on_psk = function(_, hint)
    (wait or ponder)()
    asked[#asked + 1] = hint or false
    return answer(hint)
  end }, options)))
end

local function server_of(options)
  return assert(tls.context(with({ role = "server", psk = { me = KEY, you = "another key" } }, options)))
end

local function me() return "me", KEY end

-- The hook refuses, for that reason and by that alert.
local function assert_refused(client, server, reason, alert)
  local err, server_err = visit.failure(client, server)
  assert.same({ "hook", reason }, { err.code, err.reason })
  assert.same({ alert, true }, { err.alert.name, err.alert.sent })
  assert.truthy(server_err)
  return err
end

before_each(function() asked = {} end)

for _, version in ipairs { "1.2", "1.3" } do
  local hint = version == "1.2" and "who?" or false
  local alert = version == "1.2" and "handshake_failure" or "internal_error"

  describe("a client's on_psk on TLS " .. version, function()
    for _, transport in ipairs(helper.some_transports()) do
      it("gives identity and key, over " .. transport.name, function()
        local got = visit.over(client_of(me, only(version)), server_of { psk_hint = "who?" },
          { transport = transport })
        assert.same({ hint }, asked)
        for _, conn in ipairs { got.client, got.server } do
          assert.same({ "me", false }, { conn:psk_identity(), conn:resumed() })
        end
        assert.is_nil(got.client:peer_certificate())
      end)
    end

    it("is given no hint where there is none", function()
      visit.over(client_of(me, only(version)), server_of(only(version)))
      assert.same({ false }, asked)
    end)

    it("needs no name, and takes no certificate then", function()
      local a, b = helper.socketpair()
      local client = assert(client_of(me, only(version)):wrap(a))
      local server = assert(server_of(only(version)):wrap(b))
      local got = helper.greet(client, server)
      assert.equal("x", got[1], tostring(got[2]))
      a, b = helper.socketpair()
      client = assert(client_of(me, only(version)):wrap(a))
      server = assert(helper.server_context(only(version)):wrap(b))
      local err = helper.greet(client, server)[2]
      assert.same({ "verify", "hostname mismatch" }, { err.code, err.verify.text })
    end)

    it("nil is no key: the server may show a certificate instead", function()
      local got = visit.over(client_of(function() end, only(version)), helper.server_context(only(version)))
      assert.is_nil(got.client:psk_identity())
      assert.truthy(got.client:peer_certificate())
      assert.same(version == "1.3" and { false } or {}, asked) -- where the server speaks first it has said so
      local err = visit.failure(client_of(function() end, only(version)), server_of(only(version)))
      assert.equal(version == "1.2" and "tls" or "alert", err.code)
      if version == "1.2" then assert.equal("psk identity not found", err.reason) end
    end)

    it("takes identities and keys of every length that OpenSSL takes", function()
      for _, lengths in ipairs { { 1, 1 }, { 128, 64 }, { 255, 512 } } do
        local identity, key = ("i"):rep(lengths[1]), "\0" .. helper.noise(lengths[2] - 1)
        local got = visit.over(client_of(function() return identity, key end, only(version)),
          server_of(only(version, { psk = { [identity] = key } })))
        assert.equal(identity, got.server:psk_identity())
        assert.equal(identity, got.client:psk_identity())
      end
    end)

    it("tells by name what is wrong with an answer", function()
      local identity = "on_psk gave a %s, where an identity of 1 to 255 bytes, or nil, is expected"
      local key = "on_psk gave a string, where a key of 1 to 512 bytes behind the identity is expected"
      local wrong = {
        { identity:format "string", "", KEY }, { identity:format "string", ("i"):rep(256), KEY },
        { identity:format "number", 7, KEY }, { "on_psk refuses", false, KEY },
        { key, "me" }, { key, "me", "" }, { key, "me", ("k"):rep(513) }, { key, "me", 7 },
      }
      for _, case in ipairs(wrong) do
        assert_refused(client_of(function() return case[2], case[3] end, only(version)), server_of(only(version)),
          case[1], alert)
      end
    end)

    it("an error refuses, and is told", function()
      local err = assert_refused(client_of(function() error { "mine" } end, only(version)), server_of(only(version)),
        "on_psk failed: table", alert)
      assert.same({ "mine" }, err.cause.error)
      assert.matches("psk_client_spec", err.cause.traceback)
    end)

    it("a wrong key and an unknown identity are refused by the server", function()
      for _, answer in ipairs { function() return "me", "wrong" end, function() return "nobody", KEY end } do
        local err = visit.failure(client_of(answer, only(version)), server_of(only(version)))
        assert.equal("alert", err.code)
      end
    end)

    it("a session tells the identity of the handshake that made it", function()
      local own = client_of(me, only(version, { resume = true, session_key = "somebody" }))
      local server = server_of(only(version))
      for round = 1, 3 do
        local got = visit.over(own, server)
        assert.equal(round > 1, got.resumed)
        assert.same({ "me", "me" }, { got.client:psk_identity(), got.server:psk_identity() })
      end
      local other = client_of(function() return nil end, only(version))
      local got = visit.over(other, server, { session = visit.session(own, server):export() })
      assert.same({ true, "me" }, { got.resumed, got.client:psk_identity() })
      local plain = helper.client_context(only(version))
      local door = server_of(only(version, LEAF))
      assert.is_false(visit.resumed(plain, door, { session = visit.session(own, door) }))
    end)

    it("waits under luv", function()
      helper.in_loop(function()
        local client = client_of(me, only(version), function() luv.sleep(0.005) end)
        local a, b = helper.pair(nil, nil, nil, { client = client, server = server_of(only(version)) })
        luv.spawn(function() if b:accept() then b:write "x" end end)
        assert(a:connect())
        assert.equal("x", a:read(1))
        assert.equal("me", a:psk_identity())
        a:close()
        b:close()
      end)
    end)

    for _, peer in ipairs { "openssl s_server", "gnutls-serv" } do
      it("is given the hint of " .. peer, function()
        local port, keys = helper.free_port(), helper.temp_file("me:" .. HEX .. "\n")
        local argv = { "openssl", "s_server", "-tls" .. version:gsub("%.", "_"), "-accept", "127.0.0.1:" .. port,
          "-psk", HEX, "-psk_identity", "me", "-psk_hint", "who?", "-nocert", "-rev" }
        if peer == "gnutls-serv" then
          argv = { "gnutls-serv", "--port", tostring(port), "--pskpasswd", keys, "--pskhint", "who?", "--echo",
            "--priority", "NORMAL:-VERS-ALL:+VERS-TLS" .. version .. ":-KX-ALL:+ECDHE-PSK:+PSK:+DHE-PSK" }
        end
        helper.in_loop(function()
          local child = helper.start(argv)
          local ok, err = compat.pcall(function()
            child:wait_for(peer == "gnutls-serv" and "listening on IPv4[^\n]*done" or "ACCEPT")
            for _, answer in ipairs { me, function() return "me", "wrong" end } do
              local conn, failure = tls.connect("127.0.0.1", port, { timeout = 10, context = client_of(answer, {
                max_version = version }, function() luv.sleep(0.005) end) })
              if answer == me then
                assert(conn, tostring(failure))
                assert(conn:write "hello\n")
                assert.equal(peer == "gnutls-serv" and "hello" or "olleh", conn:read())
                assert.equal("me", conn:psk_identity())
              elseif conn then -- GnuTLS's alert may come after its first flight
                assert.truthy(select(2, conn:read(1)))
              end
              if conn then conn:close() end
            end
          end)
          child:stop()
          assert(ok, tostring(err) .. "\n" .. child.stdout .. child.stderr)
        end, 30)
        assert.same({ hint, hint }, asked)
      end)
    end
  end)
end

describe("a client's on_psk", function()
  it("is asked without a hint for TLS 1.3, then with the one of a server that has 1.2 only", function()
    local function answer(hint)
      if hint then return hint, "another key" end
      return me()
    end
    local got = visit.over(client_of(answer), server_of { max_version = "1.2", psk_hint = "you" })
    assert.same({ false, "you" }, asked)
    assert.same({ "you", "you" }, { got.client:psk_identity(), got.server:psk_identity() })
    asked = {}
    got = visit.over(client_of(answer), server_of { max_version = "1.2" })
    assert.same({ false }, asked) -- what was answered without a hint counts
    assert.equal("me", got.client:psk_identity())
  end)

  it("is not asked in advance where TLS 1.3 is not offered", function()
    for _, options in ipairs { { max_version = "1.2" }, { options = { "NO_TLSv1_3" } } } do
      asked = {}
      visit.over(client_of(me, options), server_of { psk_hint = "who?" })
      assert.same({ "who?" }, asked)
    end
  end)

  it("is asked once, also after a HelloRetryRequest", function()
    local client = client_of(me, only("1.3", { groups = "X25519:P-256" }))
    local got = visit.over(client, server_of(only("1.3", { groups = "P-256" })))
    assert.same({ { false }, true, "me" }, { asked, got.client:info().hello_retry, got.client:psk_identity() })
    asked = {}
    got = visit.over(client, server_of(only("1.3", with({ groups = "P-256", ciphersuites = "TLS_AES_256_GCM_SHA384" },
      LEAF))))
    assert.same({ { false }, true }, { asked, got.client:info().hello_retry })
    assert.is_nil(got.client:psk_identity())
  end)

  it("is asked anew when TLS 1.2 renegotiates", function()
    local renews = { renegotiation = "allow" }
    local got = visit.good(client_of(me, renews), server_of { max_version = "1.2", psk_hint = "who?",
      renegotiation = "allow-client" })
    assert.same({ false, "who?" }, asked)
    local results = helper.together {
      function()
        assert(got.client:renegotiate())
        return assert(got.client:read(1))
      end,
      function()
        got.server:settimeout(5)
        assert(got.server:write "y")
        return got.server:read(1)
      end,
    }
    assert.equal("y", results[1][1])
    assert.same({ false, "who?", "who?" }, asked)
    assert.equal("me", got.client:psk_identity())
    got.client:close()
    got.server:close()
  end)

  it("goes before early data, all of which are sent", function()
    local client = client_of(me, { min_version = "1.3" })
    local server = server_of { max_early_data = 100 }
    local got = visit.over(client, server, { session = visit.session(client, server), early_data = "hello",
      read_early = 100 })
    assert.same({ "hello", "accepted", true }, { table.concat(got.early), got.status, got.resumed })
    local session = visit.session(client, server)
    local a, b = helper.pair(nil, { session = session }, nil, { client = client, server = server })
    local results = helper.together {
      function()
        assert(a:write_early("one ", "two ", "three"))
        assert(a:connect())
        return a:read(1)
      end,
      function()
        local parts = {}
        helper.each(function() return b:read_early(100) end, function(part) parts[#parts + 1] = part end)
        assert(b:accept())
        assert(b:write "x")
        return table.concat(parts)
      end,
    }
    assert.same({ "x", "one two three" }, { results[1][1], results[2][1] })
    assert.equal("accepted", a:early_data_status())
    a:close()
    b:close()
  end)

  it("may outlast the timeout of write_early, which is called again with something else", function()
    local client = client_of(function() coroutine.yield() return me() end, { min_version = "1.3" })
    local server = server_of { max_early_data = 100 }
    local session = visit.session(client, server)
    local slow = client_of(function()
      local until_then = tls.now() + 0.03
      repeat coroutine.yield() until tls.now() > until_then
      return me()
    end, { min_version = "1.3" })
    local a, b = helper.pair(nil, { session = session, timeout = 0.02 }, nil, { client = slow, server = server })
    local results = helper.together {
      function()
        assert.equal("timeout", helper.code_of(a:write_early(("first "):rep(3))))
        collectgarbage()
        a:settimeout(nil)
        assert(a:write_early "second")
        assert(a:connect())
        return a:read(1)
      end,
      function()
        local data = b:read_early(100)
        assert(b:accept())
        assert(b:write "x")
        return data
      end,
    }
    assert.same({ "x", "second" }, { results[1][1], results[2][1] })
    a:close()
    b:close()
  end)

  it("may give an identity with a NUL on TLS 1.3 alone", function()
    local identity = "a\0b"
    local function answer() return identity, KEY end
    local got = visit.over(client_of(answer, only "1.3"), server_of(only("1.3", { psk = { [identity] = KEY } })))
    assert.equal(identity, got.server:psk_identity())
    assert.equal(identity, got.client:psk_identity())
    for max, alert in pairs { ["1.2"] = "handshake_failure", ["1.3"] = "internal_error" } do
      assert_refused(client_of(answer, { max_version = max }), server_of {},
        'on_psk gave a string, where an identity without a NUL (min_version = "1.3" takes it) is expected', alert)
    end
  end)

  it("is refused beside psk", function()
    helper.assert_refused("on_psk", { "a client has one identity: not together with psk" },
      tls.context { on_psk = print, psk = { me = KEY } })
  end)
end)

describe("psk_hint", function()
  it("is given by on_psk's servers too, in every length", function()
    for _, hint in ipairs { "h", ("h"):rep(256), "\1\255" } do
      asked = {}
      visit.over(client_of(me, { max_version = "1.2" }), assert(tls.context { role = "server", psk_hint = hint,
        on_psk = function() return KEY end }))
      assert.same({ hint }, asked)
    end
  end)

  it("is that of the context that the server name chooses", function()
    for _, door in ipairs { { psk_hint = "the door" }, {} } do
      asked = {}
      door.names = { localhost = server_of { psk_hint = "inside" } }
      visit.over(client_of(me, { max_version = "1.2" }), server_of(door))
      assert.same({ "inside" }, asked)
    end
    asked = {}
    visit.over(client_of(me, { max_version = "1.2" }), server_of { psk_hint = "the door", names = {
      localhost = server_of {} } })
    assert.same({ false }, asked)
  end)

  it("is seen by openssl s_client", function()
    local out
    helper.in_loop(function()
      local listener = assert(tls.listen("127.0.0.1", 0, { context = server_of { psk_hint = "who is it?" } }))
      luv.spawn(function()
        local conn = listener()
        listener:close()
        if conn:accept() then conn:shutdown() end
        conn:close()
      end)
      out = select(2, helper.run { "openssl", "s_client", "-tls1_2", "-connect", "127.0.0.1:" .. listener:port(),
        "-psk", HEX, "-psk_identity", "me" })
    end)
    assert.matches("PSK identity hint: who is it%?", out)
  end)

  it("is refused where it can't be right", function()
    local psk = { me = KEY }
    local refusals = {
      { { psk_hint = "x" }, "is for servers" },
      { with({ role = "server", psk_hint = "x" }, LEAF), "needs psk or on_psk" },
      { { role = "server", psk = psk, psk_hint = "" }, "a hint has 1 to 256 bytes" },
      { { role = "server", psk = psk, psk_hint = ("h"):rep(257) }, "a hint has 1 to 256 bytes" },
      { { role = "server", psk = psk, psk_hint = "a\0b" }, "a hint has no NUL" },
      { { role = "server", psk = psk, psk_hint = "x", min_version = "1.3" }, "TLS 1.3 has no hints" },
      { { role = "server", psk = psk, psk_hint = "x", min_version = 1.3 }, "TLS 1.3 has no hints" },
    }
    for _, case in ipairs(refusals) do
      local ok, err = tls.context(case[1])
      assert.same({ "config", "psk_hint: " .. case[2] }, { helper.code_of(ok, err), err.reason })
    end
    assert.error_matches(function() tls.context { role = "server", psk = psk, psk_hint = 1 } end, "option 'psk_hint'")
  end)
end)
