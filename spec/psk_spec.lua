-- SPDX-License-Identifier: MIT
-- Pre-shared keys on TLS 1.2 and 1.3: with a peer of ours, with OpenSSL's and GnuTLS's programs; every way to be wrong.

local compat = require "cotls.compat"
local tls = require "cotls"
local luv = require "cotls.luv"
local bytes = require "spec.bytes"
local helper = require "spec.helper"

local code_of = helper.code_of

local KEY = helper.noise(32, 7)
local HEX = bytes.hex(KEY)
local VERSIONS = { "1.2", "1.3" }

local function only(version, options)
  return helper.with({ min_version = version, max_version = version }, options)
end

local function client_context(version, psk, more)
  local options = only(version, more or {})
  options.psk, options.ca = psk, options.ca or helper.ca.certificate
  return assert(tls.context(options))
end

-- Without a certificate, unless `more` has one.
local function server_context(version, psk, more)
  local options = only(version, more or {})
  options.psk, options.role = psk, "server"
  return assert(tls.context(options))
end

local LEAF = { certificate = helper.server_leaf.certificate, key = helper.server_leaf.key }

-- Two connections, the client's without any name.
local function pair(client, server, transport, client_options)
  local a, b, pump = (transport or helper.transports[1]).make()
  return assert(client:wrap(a, client_options)), assert(server:wrap(b)), pump
end

-- The errors of both sides, or nil each; then data go both ways.
local function shake(client, server, pump)
  local results = helper.together({
    function()
      local ok, err = client:connect()
      if ok and client:version() == "TLSv1.3" then -- its verdict comes with the first read
        ok, err = client:peek(1)
      end
      return not ok and err or nil
    end,
    function()
      local ok, err = server:accept()
      if ok then ok, err = server:write("hello\n") end
      return not ok and err or nil
    end,
  }, pump)
  return results[1][1], results[2][1]
end

local function good(client, server, pump)
  local first, second = shake(client, server, pump)
  assert.is_nil(first, tostring(first))
  assert.is_nil(second, tostring(second))
  helper.together({
    function()
      assert.equal("hello", client:read())
      assert(client:write("x\n"))
    end,
    function() assert.equal("x", server:read()) end,
  }, pump)
end

for _, version in ipairs(VERSIONS) do
  describe("psk on TLS " .. version, function()
    for _, transport in ipairs(helper.some_transports()) do
      it("without certificates or names, over " .. transport.name, function()
        local client, server, pump = pair(client_context(version, { me = KEY }),
          server_context(version, { you = "another", me = KEY, them = "a third" }), transport)
        assert.is_nil(client:psk_identity())
        good(client, server, pump)
        for _, conn in ipairs { client, server } do
          assert.equal("TLSv" .. version, conn:version())
          assert.equal("me", conn:psk_identity())
          assert.is_false(conn:resumed())
          assert.is_nil(conn:peer_certificate())
          assert.equal(0, conn:verify_result().code)
          conn:close()
          assert.equal("me", conn:psk_identity())
          assert.is_false(conn:resumed())
        end
      end)
    end

    it("is preferred to a certificate", function()
      for _, tuning in ipairs { {}, { options = { "CIPHER_SERVER_PREFERENCE" } } } do
        tuning.certificate, tuning.key = LEAF.certificate, LEAF.key
        local client, server = pair(client_context(version, { me = KEY }),
          server_context(version, { me = KEY }, tuning))
        good(client, server)
        assert.equal("me", server:psk_identity())
        assert.equal("me", client:psk_identity())
        assert.is_nil(client:peer_certificate())
      end
    end)

    it("takes part beside clients that have none", function()
      local server_side = server_context(version, { me = KEY }, LEAF)
      local client, server = pair(helper.client_context(only(version, {})), server_side, nil,
        { server_name = "localhost" })
      good(client, server)
      assert.is_nil(server:psk_identity())
      assert.is_nil(client:psk_identity())
      assert.truthy(client:peer_certificate())
    end)

    it("a server that shows a certificate instead is verified, and not without a name", function()
      local plain = helper.server_context(only(version, {}))
      local client, server = pair(client_context(version, { me = KEY }), plain)
      local err, other = shake(client, server)
      assert.equal("verify", err.code)
      assert.equal("hostname mismatch", err.verify.text)
      assert.equal("alert", other and other.code or code_of(server:read()))
      client, server = pair(client_context(version, { me = KEY }), plain, nil, { server_name = "localhost" })
      good(client, server)
      assert.is_nil(client:psk_identity())
      client, server = pair(client_context(version, { me = KEY }, { ca = helper.other_ca.certificate }), plain, nil,
        { server_name = "localhost" })
      assert.equal("verify", shake(client, server).code)
    end)

    it("a wrong key is refused by its alert", function()
      for _, certificate in ipairs { {}, LEAF } do
        local client, server = pair(client_context(version, { me = KEY }),
          server_context(version, { me = "wrong" }, certificate))
        local err, other = shake(client, server)
        assert.equal("alert", err.code)
        assert.equal("tls", other.code)
        assert.equal(version == "1.2" and "bad_record_mac" or "illegal_parameter", err.alert.name)
        assert.is_true(other.alert.sent)
        assert.is_nil(server:psk_identity())
      end
    end)

    it("an unknown identity is refused by its alert", function()
      for _, identity in ipairs { "you", "m", "mee", "ME" } do
        local client, server = pair(client_context(version, { [identity] = KEY }),
          server_context(version, { me = KEY }))
        local err, other = shake(client, server)
        assert.equal("alert", err.code)
        assert.equal("tls", other.code)
        assert.equal(version == "1.2" and "unknown_psk_identity" or "handshake_failure", err.alert.name)
      end
    end)

    it("a server without keys and a client with, and the reverse, have nothing in common", function()
      local client, server = pair(helper.client_context(only(version, {})), server_context(version, { me = KEY }), nil,
        { server_name = "localhost" })
      local err = shake(client, server)
      assert.same({ "alert", "handshake_failure" }, { err.code, err.alert.name })
    end)

    it("identities and keys of every length that OpenSSL takes", function()
      for _, case in ipairs { { 1, 1 }, { 128, 64 }, { 255, 512 } } do
        local identity, key = ("i"):rep(case[1]), helper.noise(case[2])
        local client, server = pair(client_context(version, { [identity] = key }),
          server_context(version, { [identity] = key }))
        good(client, server)
        assert.equal(identity, server:psk_identity())
        assert.equal(identity, client:psk_identity())
      end
    end)

    it("keys with NULs are whole", function()
      local client, server = pair(client_context(version, { me = "a\0b" }), server_context(version, { me = "a\0b" }))
      good(client, server)
      client, server = pair(client_context(version, { me = "a\0b" }), server_context(version, { me = "a\0c" }))
      assert.equal("alert", shake(client, server).code)
    end)

    it("a session made by a key is resumed as such, and tells the identity", function()
      local client_side = client_context(version, { me = KEY }, { resume = true, session_key = "somebody" })
      local server_side = server_context(version, { you = "x", me = KEY })
      for round = 1, 3 do
        local client, server = pair(client_side, server_side)
        good(client, server)
        assert.equal(round > 1, client:resumed())
        assert.equal(round > 1, server:resumed())
        assert.equal("me", server:psk_identity())
        assert.equal("me", client:psk_identity())
        client:close()
        server:close()
      end
    end)

    it("a session is not resumed where the keys are others", function()
      local tickets = { ticket_keys = { helper.noise(80) } }
      local client_side = client_context(version, { me = KEY }, { resume = true, session_key = "somebody" })
      local client, server = pair(client_side, server_context(version, { me = KEY }, tickets))
      good(client, server)
      client:close()
      local renewed = server_context(version, { me = KEY, you = "x" }, tickets)
      client, server = pair(client_side, renewed)
      good(client, server)
      assert.is_false(server:resumed())
      assert.equal("me", server:psk_identity())
    end)

    it("the context that the server name chooses counts", function()
      local doors = { named = server_context(version, { me = KEY }), plain = helper.server_context(only(version, {})) }
      local cases = {
        -- the door's own key, the name's key, the identity that gets in, or the alert
        { { door = KEY }, "named", "me" }, { { door = KEY }, "named", "door", refused = true }, { nil, "named", "me" },
        { { me = KEY }, "plain", "me", refused = true },
      }
      for _, case in ipairs(cases) do
        local options = only(version, { role = "server", names = { localhost = doors[case[2]] }, psk = case[1] })
        options.certificate, options.key = LEAF.certificate, LEAF.key
        local client, server = pair(client_context(version, { [case[3]] = KEY }), assert(tls.context(options)), nil,
          { server_name = "localhost" })
        if case.refused then
          local err = shake(client, server)
          -- TLS 1.3 goes on with the certificate, if there is one
          assert.is_true(err ~= nil or client:peer_certificate() ~= nil)
          assert.is_nil(server:psk_identity())
        else
          good(client, server)
          assert.equal(case[3], server:psk_identity())
        end
      end
    end)
  end)
end

describe("psk", function()
  it("on TLS 1.3 takes identities with NULs for what they are", function()
    local identity = "a\0b"
    local keys = { [identity] = KEY }
    local client, server = pair(client_context("1.3", keys), server_context("1.3", keys))
    good(client, server)
    assert.equal(identity, server:psk_identity())
    client, server = pair(client_context("1.3", { [identity] = KEY }), server_context("1.3", { a = KEY }))
    assert.equal("handshake_failure", shake(client, server).alert.name)
  end)

  it("serves both versions at once", function()
    for _, version in ipairs(VERSIONS) do
      local client, server = pair(assert(tls.context { psk = { me = KEY }, ca = helper.ca.certificate }),
        assert(tls.context { role = "server", psk = { me = KEY }, max_version = version }))
      good(client, server)
      assert.equal("TLSv" .. version, client:version())
      assert.equal("me", client:psk_identity())
    end
  end)

  it("holds after a HelloRetryRequest, and gives way where the hash is another", function()
    local client, server = pair(client_context("1.3", { me = KEY }, { groups = "X25519:P-256" }),
      server_context("1.3", { me = KEY }, { groups = "P-256" }))
    good(client, server)
    assert.equal("me", server:psk_identity())
    local other = { groups = "P-256", ciphersuites = "TLS_AES_256_GCM_SHA384", certificate = LEAF.certificate,
      key = LEAF.key }
    client, server = pair(client_context("1.3", { me = KEY }, { groups = "X25519:P-256" }),
      server_context("1.3", { me = KEY }, other), nil, { server_name = "localhost" })
    good(client, server)
    assert.is_nil(server:psk_identity())
    assert.is_nil(client:psk_identity())
  end)

  it("may be followed by a request for a certificate", function()
    local own = helper.leaf { subject = "CN=client" }
    local client, server = pair(
      client_context("1.3", { me = KEY }, { post_handshake_auth = true, certificate = own.certificate, key = own.key }),
      server_context("1.3", { me = KEY }, { ca = helper.ca.certificate }))
    good(client, server)
    helper.together {
      function() assert.equal("go", client:read()) assert(client:write("y\n")) end,
      function()
        assert(server:request_client_certificate())
        assert(server:write("go\n"))
        assert.equal("y", server:read())
      end,
    }
    assert.truthy(server:peer_certificate())
    assert.equal("me", server:psk_identity())
    assert.is_false(server:resumed())
  end)

  it("knows one among a thousand", function()
    local keys = {}
    for i = 1, 1000 do keys["id" .. i] = "key" .. i end
    for _, version in ipairs(VERSIONS) do
      local client, server = pair(client_context(version, { id500 = "key500" }), server_context(version, keys))
      good(client, server)
      assert.equal("id500", server:psk_identity())
    end
  end)

  it("is refused where it can't be right", function()
    local refusals = {
      { { psk = {} }, "psk: there is no identity" },
      { { psk = { a = "x", b = "y" } }, "psk: a client has one identity" },
      { { psk = { [""] = "x" } }, "psk: an identity has 1 to 255 bytes" },
      { { psk = { [("i"):rep(256)] = "x" } }, "psk: an identity has 1 to 255 bytes" },
      { { psk = { a = "" } }, "psk: a key has 1 to 512 bytes" },
      { { psk = { a = ("k"):rep(513) } }, "psk: a key has 1 to 512 bytes" },
      { { psk = { ["a\0b"] = "x" } }, 'psk: an identity with a NUL needs min_version = "1.3"' },
      { { role = "server", psk = { a = "x" }, verify_client = "require", ca = helper.ca.certificate },
        'psk: who has the key shows no certificate, and verify_client = "require" wants one' },
    }
    for _, case in ipairs(refusals) do
      local ok, err = tls.context(case[1])
      assert.equal("config", code_of(ok, err))
      assert.equal(case[2], err.reason)
    end
    for _, value in ipairs { { a = 1 }, { [1] = "x" }, { "x" }, { a = true } } do
      assert.error_matches(function() tls.context { psk = value } end, "option 'psk': a table of strings")
    end
    assert.error_matches(function() tls.context { psk = "x" } end, "option 'psk'")
  end)

  it("is what a client without a name to check needs", function()
    local a, b = helper.socketpair()
    assert.equal("config", code_of(helper.client_context():wrap(a)))
    helper.close_fd(a)
    helper.close_fd(b)
  end)
end)

-- ---- other programs ----


local OPENSSL = { ["1.2"] = "-tls1_2", ["1.3"] = "-tls1_3" }
local function gnutls(version)
  return "NORMAL:-VERS-ALL:+VERS-TLS" .. version .. ":-KX-ALL:+ECDHE-PSK:+PSK:+DHE-PSK"
end

-- Serves one connection of a program: accept's error, the identity, the line it sent.
local function serves(context, argv)
  local got = {}
  helper.in_loop(function()
    local listener = assert(tls.listen("127.0.0.1", 0, { context = context }))
    luv.spawn(function()
      local conn = listener()
      listener:close()
      local ok, err = conn:accept()
      got.err = err
      if ok then
        got.identity, got.version = conn:psk_identity(), conn:version()
        assert(conn:write("first\n"))
        got.line = conn:read()
      end
      conn:close()
    end)
    local child = helper.start(argv(listener:port()))
    if compat.pcall(child.wait_for, child, "first", 10) then child:write("a line\n") end
    child:wait(10)
    child:stop()
    got.out = child.stdout .. child.stderr
  end, 30)
  return got
end

-- Connects to a program; what fn(conn, err) returns.
local function connects(argv, ready, port, context, fn)
  helper.in_loop(function()
    local child = helper.start(argv)
    local ok, err = compat.pcall(function()
      child:wait_for(ready)
      fn(tls.connect("127.0.0.1", port, { context = context, timeout = 10 }))
    end)
    child:stop()
    assert(ok, tostring(err) .. "\n" .. child.stdout .. child.stderr)
  end, 30)
end

for _, version in ipairs(VERSIONS) do
  describe("psk on TLS " .. version .. " with", function()
    it("openssl s_client", function()
      local function s_client(key)
        return function(port)
          return { "openssl", "s_client", OPENSSL[version], "-connect", "127.0.0.1:" .. port, "-psk", key,
            "-psk_identity", "me", "-ign_eof" }
        end
      end
      local got = serves(server_context(version, { me = KEY }), s_client(HEX))
      assert.same({ "me", "TLSv" .. version, "a line" }, { got.identity, got.version, got.line }, got.out)
      got = serves(server_context(version, { me = "wrong" }), s_client(HEX))
      assert.equal("tls", got.err.code)
      assert.matches(version == "1.2" and "bad record mac" or "illegal parameter", got.out)
      got = serves(server_context(version, { you = KEY }), s_client(HEX))
      assert.equal("tls", got.err.code)
      assert.matches(version == "1.2" and "unknown psk identity" or "handshake failure", got.out)
    end)

    it("openssl s_server", function()
      local function s_server(psk, fn, ...)
        local port = helper.free_port()
        connects({ "openssl", "s_server", OPENSSL[version], "-accept", "127.0.0.1:" .. port, "-psk", HEX,
          "-psk_identity", "me", "-rev", ... }, "ACCEPT", port, client_context(version, psk), fn)
      end
      s_server({ me = KEY }, function(conn, err)
        assert(conn, tostring(err))
        assert.equal("me", conn:psk_identity())
        assert.is_false(conn:resumed())
        assert(conn:write("hello\n"))
        assert.equal("olleh", conn:read())
        conn:close()
      end, "-nocert")
      s_server({ me = "wrong" }, function(conn, err)
        assert.is_nil(conn)
        assert.equal("alert", err.code)
        assert.equal(version == "1.2" and "bad_record_mac" or "illegal_parameter", err.alert.name)
      end, "-nocert")
    end)

    it("gnutls-cli", function()
      local function gnutls_cli(key)
        return function(port)
          -- 3.7.9 crashes when it prints a session of ECDHE-PSK
          local priority = version == "1.2" and gnutls(version):gsub("%+ECDHE%-PSK:", "") or gnutls(version)
          return { "gnutls-cli", "--priority", priority, "--pskusername", "me", "--pskkey", key, "--port",
            tostring(port), "127.0.0.1" }
        end
      end
      local got = serves(server_context(version, { me = KEY }), gnutls_cli(HEX))
      assert.same({ "me", "TLSv" .. version, "a line" }, { got.identity, got.version, got.line }, got.out)
      got = serves(server_context(version, { me = "wrong" }), gnutls_cli(HEX))
      assert.equal("tls", got.err.code)
    end)

    it("gnutls-serv", function()
      local passwords = helper.temp_file("me:" .. HEX .. "\n")
      local port = helper.free_port()
      local argv = { "gnutls-serv", "--port", tostring(port), "--priority", gnutls(version), "--pskpasswd", passwords,
        "--echo" }
      connects(argv, "listening on IPv4[^\n]*done", port, client_context(version, { me = KEY }), function(conn, err)
        assert(conn, tostring(err))
        assert.equal("me", conn:psk_identity())
        assert(conn:write("hello\n"))
        assert.equal("hello", conn:read())
        conn:close()
      end)
      connects(argv, "listening on IPv4[^\n]*done", port, client_context(version, { me = "wrong" }), function(conn, err)
        if conn then err = select(2, conn:read(1)) end
        assert.truthy(err)
      end)
    end)
  end)
end
