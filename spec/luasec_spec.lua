-- The drop-in beside LuaSec itself (Debian's, 1.2.0): the same body runs for both. What is LuaSec's mistake, and
-- what only its later versions have, stands at the end, for the drop-in alone.

local socket = require "socket"
local compat = require "cotls.compat"
local core = require "cotls.core"
local tls = require "cotls"
local bytes = require "spec.bytes"
local helper = require "spec.helper"
local secure = require "spec.secure"

local connected, pair, shake = secure.connected, secure.pair, secure.shake

for _, which in ipairs(secure.each) do
  local name, ssl = which[1], which[2]

  describe("newcontext of " .. name, function()
    -- What is said of parameters that are refused.
    local refused = {
      { "an unknown protocol", { mode = "client", protocol = "x" }, "invalid protocol (x)" },
      { "SSL 3", { mode = "client", protocol = "sslv3" }, "invalid protocol (sslv3)" },
      { "an unknown option", secure.client { options = "nope" }, "invalid option (nope)" },
      { "an unknown option of a list", secure.client { options = { "all", "nope" } }, "invalid option (nope)" },
      { "an unknown verify", secure.client { verify = "nope" }, "invalid verify option (nope)" },
      { "an unknown verify of a list", secure.client { verify = { "peer", "nope" } }, "invalid verify option (nope)" },
      { "an unknown verifyext", secure.client { verifyext = "nope" }, "invalid verify option (nope)" },
      { "a key that is not there", secure.client { key = "/nope" }, "^error loading private key %(.+%)$" },
      { "a key that is none", secure.client { key = secure.certificate }, "^error loading private key %(.+%)$" },
      { "a certificate that is not there", secure.client { certificate = "/nope" },
        "^error loading certificate %(.+%)$" },
      { "a certificate that is none", secure.client { certificate = secure.key },
        "^error loading certificate %(no start line%)$" },
      { "a key of another certificate", secure.client { certificate = secure.ca, key = secure.key },
        "private key does not match public key" },
      { "a password of a wrong type", secure.client { key = secure.key, password = 1 }, "invalid password type" },
      { "CAs that are not there", secure.client { cafile = "/nope" }, "^error loading CA locations %(.+%)$" },
      { "no cipher", secure.client { ciphers = "NOPE" }, "^error setting cipher list %(.+%)$" },
      { "no suite", secure.client { ciphersuites = "NOPE" }, "^error setting cipher list %(.+%)$" },
      { "an unknown curve", secure.client { curve = "nope" }, "elliptic curve 'nope' not supported" },
      { "unknown curves", secure.client { curveslist = "P-256:nope" }, "unknown elliptic curve in \"P-256:nope\"" },
      { "DH parameters that are no function", secure.client { dhparam = 1 }, "invalid DH parameter type" },
      { "a client's ALPN of a wrong type", secure.client { alpn = 1 }, "invalid ALPN parameter" },
      { "a server's ALPN of a wrong type", secure.server { alpn = 1 }, "invalid ALPN parameter" },
      { "an empty list of ALPN", secure.client { alpn = {} }, "invalid ALPN list (empty)" },
      { "an empty name in ALPN", secure.client { alpn = { "a", "" } }, "invalid ALPN name (empty string)" },
      { "a long name in ALPN", secure.server { alpn = { ("x"):rep(256) } }, "invalid ALPN name (length > 255)" },
    }
    for _, case in ipairs(refused) do
      it("refuses " .. case[1], function()
        local ctx, reason = ssl.newcontext(case[2])
        assert.is_nil(ctx)
        if case[3]:find("^", 1, true) then
          assert.truthy(reason:find(case[3]), reason)
        else
          assert.equal(case[3], reason)
        end
      end)
    end

    local taken = {
      "options", "verify", "ciphers", "ciphersuites", "depth", "curve", "curveslist", "capath", "cafile", "verifyext",
      "alpn", "dane", "dhparam", "certificates",
    }
    local values = {
      options = { "all", "no_sslv2", "no_sslv3", "no_tlsv1", "single_dh_use", "no_ticket", "cipher_server_preference" },
      verify = { "peer", "client_once", "fail_if_no_peer_cert" },
      ciphers = "HIGH:!aNULL", ciphersuites = "TLS_AES_128_GCM_SHA256", depth = 3, curve = "secp384r1",
      curveslist = "X25519:P-256", capath = "/nowhere", cafile = secure.ca,
      verifyext = { "lsec_continue", "lsec_ignore_purpose", "crl_check", "crl_check_chain" },
      alpn = { "h2", "http/1.1" }, dane = { "no_ee_namechecks" }, dhparam = function() return "" end,
      certificates = { { certificate = secure.certificate, key = secure.key } },
    }
    for _, parameter in ipairs(taken) do
      it("takes " .. parameter, function()
        local ctx, reason = ssl.newcontext(secure.client { [parameter] = values[parameter] })
        assert.is_nil(reason)
        assert.equal("userdata", type(ctx))
        assert.truthy(tostring(ctx):find("^SSL context: 0x%x+"))
      end)
    end

    for _, protocol in ipairs { "any", "sslv23", "tlsv1", "tlsv1_1", "tlsv1_2", "tlsv1_3" } do
      it("takes the protocol " .. protocol, function()
        assert.equal("userdata", type(ssl.newcontext { mode = "client", protocol = protocol }))
      end)
    end

    it("has the same options and curves as LuaSec", function()
      for option in pairs(secure.real["ssl.config"].options) do
        assert.is_true(ssl["ssl.config"].options[option], option)
        assert.truthy(ssl.newcontext(secure.client { options = option }), option)
      end
      for curve in pairs(secure.real["ssl.config"].curves) do
        assert.is_true(ssl["ssl.config"].curves[curve], curve)
      end
      for protocol in pairs(secure.real["ssl.config"].protocols) do
        assert.is_true(ssl["ssl.config"].protocols[protocol])
      end
      assert.is_true(ssl["ssl.config"].algorithms.ec)
      assert.is_true(ssl["ssl.config"].capabilities.alpn)
      assert.is_true(ssl["ssl.config"].capabilities.dane.no_ee_namechecks)
    end)

    it("raises for what is no table, and for no protocol", function()
      assert.has_error(function() ssl.newcontext() end)
      assert.has_error(function() ssl.newcontext {} end)
    end)

    it("reads an encrypted key with a password or a function", function()
      local key = secure.file(helper.openssl({ "pkey", "-aes128", "-passout", "pass:secret" }, helper.server_leaf.key))
      local function with(password)
        return ssl.newcontext(secure.server { key = key, password = password })
      end
      assert.truthy(with("secret"))
      assert.truthy(with(function() return "secret" end))
      assert.is_nil((with("wrong")))
      assert.is_nil((with(function() return nil end)))
    end)

    it("is refused to objects without a mode", function()
      local ctx = assert(ssl.context.create("any"))
      local conn, reason = ssl.core.create(ctx)
      assert.is_nil(conn)
      assert.equal("invalid mode", reason)
    end)
  end)

  describe("a new connection of " .. name, function()
    local server, client

    before_each(function() server, client = pair(ssl, nil, ssl) end)

    after_each(function()
      server:close()
      client:close()
    end)

    it("has taken the socket's descriptor", function()
      local plain, other = secure.sockets()
      local fd = plain:getfd()
      local conn = assert(ssl.wrap(plain, secure.server()))
      assert.equal(fd, conn:getfd())
      assert.equal(-1, plain:getfd())
      conn:close()
      other:close()
    end)

    it("is told by its name", function()
      assert.truthy(tostring(client):find("^SSL connection: 0x%x+$"))
      assert.equal("userdata", type(client))
    end)

    it("moves no data before the handshake", function()
      assert.same({ nil, "closed", "" }, { client:receive() })
      assert.same({ nil, "closed", "pre" }, { client:receive(5, "pre") })
      local last, err, sent = client:send("x")
      assert.is_nil(last)
      assert.equal("closed", err)
      assert.equal(0, sent)
    end)

    it("tells nothing before the handshake", function()
      for _, method in ipairs { "info", "getpeercertificate", "getpeerchain", "getfinished" } do
        assert.same({ nil, "closed" }, { client[method](client) }, method)
      end
      assert.same({ false, "closed" }, { client:getpeerverification() })
      assert.is_nil((client:getpeerfinished()))
      assert.is_nil((client:exportkeyingmaterial("EXPORTER-x", 16)))
      assert.is_nil((client:getalpn()))
      assert.is_nil((client:getsniname()))
      assert.is_false(client:dirty())
      assert.equal("nothing", client:want())
    end)

    it("wants to read when the peer says nothing", function()
      assert.same({ false, "wantread" }, { client:dohandshake() })
      assert.equal("read", client:want())
      client:settimeout(0.02)
      local start = socket.gettime()
      assert.same({ false, "wantread" }, { client:dohandshake() })
      assert.truthy(socket.gettime() - start >= 0.015)
    end)

    it("shakes hands once", function()
      assert.same({ true, nil, true, nil }, { shake(server, client) })
      assert.is_true(client:dohandshake())
      assert.is_true(server:dohandshake())
    end)

    it("fails the handshake of a peer that goes away", function()
      client:close()
      local ok, err = server:dohandshake()
      assert.is_false(ok)
      assert.truthy(err == "closed" or err == "unexpected eof while reading", err)
    end)

    it("fails a handshake with what is no TLS", function()
      local plain, other = secure.sockets()
      local conn = assert(ssl.wrap(plain, secure.server()))
      assert(other:send("GET / HTTP/1.0\r\n\r\n"))
      assert.same({ false, "http request" }, { conn:dohandshake() })
      assert.truthy(conn:getfd() >= 0)
      conn:close()
      other:close()
    end)
  end)

  describe("a connection of " .. name, function()
    local server, client

    before_each(function() server, client = connected(ssl, nil, ssl) end)

    after_each(function()
      server:close()
      client:close()
    end)

    it("receives a number of bytes", function()
      assert.equal(6, (server:send("abcdef")))
      assert.same({ "abc", nil, nil }, { secure.receive(client, 3) })
      assert.equal(3, select("#", client:receive(2)))
      assert.same({ nil, "wantread", "f" }, { client:receive(5) })
      assert.same({ nil, "wantread", "" }, { client:receive(5) })
    end)

    it("receives lines, without any carriage return", function()
      server:send("hello\r\nwo\rrld\n\nrest")
      assert.equal("hello", secure.receive(client, "*l"))
      assert.equal("world", (client:receive()))
      assert.equal("", (client:receive("*l")))
      assert.same({ nil, "wantread", "rest" }, { client:receive("*l") })
      server:send("!\n")
      assert.equal("rest!", secure.receive(client, "*l") and "rest!")
    end)

    it("puts the prefix before what it receives", function()
      server:send("cd\nxyz")
      assert.equal("abcd", (secure.receive(client, 0) and client:receive("*l", "ab")))
      assert.equal("abx", (client:receive(3, "ab")))
      assert.equal("abc", (client:receive(2, "abc")))
      assert.same({ nil, "wantread", "pyz" }, { client:receive(9, "p") })
    end)

    it("receives no bytes when there are some", function()
      assert.same({ nil, "wantread", "" }, { client:receive(0) })
      server:send("x")
      assert.equal("", secure.receive(client, 0))
      assert.equal("x", (client:receive(1)))
    end)

    it("receives all at the end", function()
      server:send("abc")
      server:send("def")
      server:close()
      assert.equal("abcdef", secure.receive(client, "*a"))
      assert.same({ nil, "closed", "" }, { client:receive("*a") })
      assert.same({ nil, "closed", "" }, { client:receive(1) })
      assert.same({ nil, "closed", "p" }, { client:receive("*l", "p") })
    end)

    it("gives what came before the end", function()
      server:send("abc")
      server:close()
      assert.same({ nil, "closed", "abc" }, { secure.receive(client, 10) })
    end)

    it("tells an end without close_notify", function()
      server:send("abc")
      local thief = socket.tcp4()
      thief:close()
      thief = socket.tcp()
      thief:setfd(server:getfd())
      thief:close()
      assert.same({ nil, "unexpected eof while reading", "abc" }, { secure.receive(client, 10) })
    end)

    it("refuses patterns", function()
      for _, pattern in ipairs { "*x", "l", "", -1 } do
        local ok, err = pcall(client.receive, client, pattern)
        assert.is_false(ok)
        assert.truthy(err:find("invalid receive pattern", 1, true), err)
      end
      assert.is_false((pcall(client.receive, client, {})))
      assert.is_false((pcall(client.receive, client, true)))
      assert.is_false((pcall(client.receive, client, 1, {})))
      assert.is_false((pcall(client.receive, {}, 1)))
      assert.is_false((pcall(client.receive)))
    end)

    it("sends parts of a string", function()
      assert.equal(4, (server:send("abcdef", 2, 4)))
      assert.equal(6, (server:send("abcdef", -1)))
      assert.equal(5, (server:send("abcdef", 4, -2)))
      assert.equal(4, (server:send("abcdef", 5, 2)))
      assert.equal(6, (server:send("abcdef", -9, 99)))
      assert.equal(0, (server:send("")))
      assert.equal(2, (server:send(12)))
      assert.equal(3, select("#", server:send("!")))
      assert.equal("bcdfdeabcdef12!", secure.receive(client, 15))
      assert.is_false((pcall(server.send, server)))
      assert.is_false((pcall(server.send, server, {})))
      assert.is_false((pcall(server.send, server, "x", {})))
    end)

    it("says how far it came, and goes on there", function()
      local noise = helper.noise(1000003, 7):rep(12)
      local last, err, sent = server:send(noise)
      assert.is_nil(last)
      assert.equal("wantwrite", err)
      assert.truthy(sent > 0 and sent < #noise)
      assert.equal("write", server:want())
      local got, length = {}, 0
      local late = socket.gettime() + 10 * helper.slow
      while socket.gettime() < late do
        local piece, why, part = client:receive(16384)
        piece = piece or part
        assert.truthy(piece ~= "" or why == "wantread", why)
        got[#got + 1], length = piece, length + #piece
        if length == #noise then break end
        if sent < #noise then
          last, err, sent = server:send(noise, sent + 1)
          assert.truthy(last or err == "wantwrite", err)
          sent = last or sent
        end
      end
      assert.equal(#noise, length)
      assert.is_true(table.concat(got) == noise)
    end)

    it("honours each of the two timeouts", function()
      for _, how in ipairs { { 0.03 }, { 0.03, "b" }, { 0.03, "t" }, { 0.03, "r" } } do
        assert.equal(1, client:settimeout(compat.unpack(how)))
        local start = socket.gettime()
        assert.same({ nil, "wantread", "" }, { client:receive(1) })
        local took = socket.gettime() - start
        assert.truthy(took >= 0.025 and took < 0.03 + 2 * helper.slow, took)
        client:settimeout(nil)
        client:settimeout(nil, "t")
      end
    end)

    it("honours the lesser of both timeouts", function()
      for _, how in ipairs { { 0.03, 5 * helper.slow }, { 5 * helper.slow, 0.03 } } do
        client:settimeout(how[1], "b")
        client:settimeout(how[2], "t")
        local start = socket.gettime()
        assert.same({ nil, "wantread", "" }, { client:receive(1) })
        local took = socket.gettime() - start
        assert.truthy(took >= 0.025 and took < 4 * helper.slow, took)
      end
    end)

    it("waits for ever without a timeout", function()
      client:settimeout(nil)
      client:settimeout(-1, "t")
      server:send("x")
      assert.equal("x", (client:receive(1)))
    end)

    it("waits in a coroutine too", function()
      client:settimeout(1)
      server:send("x")
      local thread = coroutine.create(function() return client:receive(1) end)
      assert.same({ true, "x" }, { coroutine.resume(thread) })
      assert.equal("dead", coroutine.status(thread))
    end)

    it("refuses other timeouts", function()
      local ok, err = pcall(client.settimeout, client, 1, "x")
      assert.is_false(ok)
      assert.truthy(err:find("invalid timeout mode", 1, true))
      assert.is_false((pcall(client.settimeout, client, {})))
    end)

    it("is dirty while it has what select can't see", function()
      assert.is_false(client:dirty())
      server:send("abc")
      assert.equal("a", secure.receive(client, 1))
      assert.is_true(client:dirty())
      local readable = socket.select({ client }, nil, 0)
      assert.equal(client, readable[1])
      assert.equal("bc", (client:receive(2)))
      client:receive(1)
      assert.is_false(client:dirty())
      assert.same({}, { (next((socket.select({ client }, nil, 0)))) })
    end)

    it("is readable for select when something comes", function()
      client:receive(1)
      server:send("abc")
      assert.equal(client, socket.select({ client }, nil, 2)[1])
      local _, writable = socket.select(nil, { client }, 2)
      assert.equal(client, writable[1])
    end)

    it("counts", function()
      server:send("12345")
      secure.receive(client, 5)
      local received, sent, age = client:getstats()
      assert.equal(5, received)
      assert.equal(0, sent)
      assert.truthy(age >= 0 and age < 60 * helper.slow)
      assert.equal(5, (select(2, server:getstats())))
      assert.equal(1, client:setstats(1, 2, 300))
      received, sent, age = client:getstats()
      assert.same({ 1, 2 }, { received, sent })
      assert.truthy(age >= 300 and age < 360 * helper.slow)
    end)

    it("tells about itself", function()
      local info = client:info()
      assert.equal("TLSv1.3", info.protocol)
      assert.truthy(info.cipher:find("^TLS_"))
      assert.equal("any", info.key)
      assert.equal("any", info.authentication)
      assert.truthy(info.encryption:find("^%u"))
      assert.equal("AEAD", info.mac)
      assert.truthy(info.bits == 256 or info.bits == 128)
      assert.equal(info.bits, info.algbits)
      assert.is_false(info.export)
      assert.is_nil(info.compression)
      assert.equal("TLSv1.3", (client:info("protocol")))
      assert.is_nil((client:info("compression")))
      assert.is_nil((client:info("nope")))
      assert.is_nil((ssl.core.compression(client)))
      assert.truthy(ssl.core.info(client):find("^TLS_"))
    end)

    it("shows the peer's certificate and chain", function()
      local certificate = client:getpeercertificate()
      assert.equal(helper.server_leaf.certificate, certificate:pem())
      assert.equal(certificate:digest(), client:getpeercertificate(1):digest())
      assert.same({ nil, "invalid certificate index" }, { client:getpeercertificate(0) })
      assert.is_nil((client:getpeercertificate(5)))
      assert.equal(1, #client:getpeerchain())
      assert.equal(certificate:pem(), client:getpeerchain()[1]:pem())
      assert.is_nil((server:getpeercertificate()))
    end)

    it("tells what verification said, though nothing was asked for", function()
      assert.same({ false, "unable to get local issuer certificate" }, { client:getpeerverification() })
      assert.same({ true }, { server:getpeerverification() })
    end)

    it("tells the Finished messages", function()
      assert.equal(client:getfinished(), server:getpeerfinished())
      assert.equal(server:getfinished(), client:getpeerfinished())
      assert.truthy(#client:getfinished() >= 12)
    end)

    it("exports keying material", function()
      local one, other = client:exportkeyingmaterial("EXPORTER-x", 20), server:exportkeyingmaterial("EXPORTER-x", 20)
      assert.equal(20, #one)
      assert.equal(one, other)
      assert.equal(client:exportkeyingmaterial("EXPORTER-x", 20, "context"),
        server:exportkeyingmaterial("EXPORTER-x", 20, "context"))
      assert.are_not.equal(one, client:exportkeyingmaterial("EXPORTER-x", 20, "context"))
      assert.is_false((pcall(client.exportkeyingmaterial, client)))
    end)

    it("closes once", function()
      server:close()
      assert.truthy(tostring(server):find(" (closed)", 1, true))
      assert.same({ nil, "closed", "" }, { server:receive() })
      local last, err, sent = server:send("x")
      assert.is_nil(last)
      assert.equal("closed", err)
      assert.equal(0, sent)
      assert.equal(-1, server:getfd())
      assert.is_false(server:dirty())
      assert.equal("nothing", server:want())
      assert.same({ nil, "closed" }, { server:getpeercertificate() })
      assert.same({ nil, "closed" }, { server:info() })
      assert.same({ false, "closed" }, { server:getpeerverification() })
      server:close()
    end)

    it("takes methods by ssl.core.setmethod", function()
      finally(function() ssl.core.setmethod("twice", nil) end)
      ssl.core.setmethod("twice", function(self, n) return self, 2 * n end)
      assert.same({ client, 6 }, { client:twice(3) })
    end)
  end)

  describe("parameters of " .. name, function()
    it("verify: a client refuses an unknown server", function()
      local server, client = pair(ssl, nil, ssl, secure.client { verify = "peer" })
      local ok, why, ok_too, why_too = shake(server, client)
      assert.is_false(ok_too)
      assert.equal("certificate verify failed", why_too)
      assert.truthy(not ok and why:find("alert unknown ca", 1, true) or why == "wantread", why)
      assert.truthy(client:getfd() >= 0)
      server:close()
      client:close()
    end)

    it("verify: a client takes a server of its CA", function()
      local server, client = connected(ssl, nil, ssl, secure.client { verify = "peer", cafile = secure.ca })
      assert.is_true(client:getpeerverification())
      server:close()
      client:close()
    end)

    it("verify: a server that wants a certificate takes the right one only", function()
      local demand = secure.server { verify = { "peer", "fail_if_no_peer_cert" }, cafile = secure.ca,
        protocol = "tlsv1_2" }
      local server, client = pair(ssl, demand, ssl)
      local ok, why = shake(server, client)
      assert.is_false(ok)
      assert.equal("peer did not return a certificate", why)
      server:close()
      client:close()
      local shown = secure.client { certificate = secure.certificate, key = secure.key }
      server, client = connected(ssl, demand, ssl, shown)
      assert.is_true(server:getpeerverification())
      assert.equal(helper.server_leaf.certificate, server:getpeercertificate():pem())
      assert.equal(1, #server:getpeerchain())
      server:close()
      client:close()
    end)

    it("verifyext: lsec_continue goes on and lists what is wrong", function()
      local server, client = connected(ssl, nil, ssl, secure.client { verify = "peer", verifyext = "lsec_continue" })
      local ok, list = client:getpeerverification()
      assert.is_false(ok)
      assert.same({ { "unable to get local issuer certificate", "unable to verify the first certificate" } }, list)
      list[1] = nil
      assert.equal(2, #select(2, client:getpeerverification())[1])
      server:close()
      client:close()
    end)

    it("verifyext: crl_check wants a revocation list", function()
      local server, client = connected(ssl, nil, ssl,
        secure.client { verify = "peer", cafile = secure.ca, verifyext = { "lsec_continue", "crl_check" } })
      assert.same({ false, { { "unable to get certificate CRL" } } }, { client:getpeerverification() })
      server:close()
      client:close()
    end)

    it("verifyext: lsec_ignore_purpose takes a server's certificate for a client's", function()
      local only = tls.make_certificate { subject = "CN=x", names = { "x" }, ca = helper.ca, purposes = "server" }
      local shown = secure.client { certificate = secure.file(only.certificate), key = secure.file(only.key) }
      for _, ext in ipairs { false, "lsec_ignore_purpose" } do
        local server, client = pair(ssl, secure.server {
          verify = "peer", cafile = secure.ca, verifyext = ext or nil, protocol = "tlsv1_2" }, ssl, shown)
        local ok, why = shake(server, client)
        assert.equal(ext ~= false, ok, why)
        server:close()
        client:close()
      end
    end)

    it("verifyext: lsec_ignore_purpose alone refuses what else is wrong", function()
      local server, client = pair(ssl, nil, ssl, secure.client { verify = "peer", verifyext = "lsec_ignore_purpose" })
      local _, _, ok, why = shake(server, client)
      assert.same({ false, "certificate verify failed" }, { ok, why })
      server:close()
      client:close()
    end)

    it("depth bounds the chain", function()
      local middle = tls.make_certificate { subject = "CN=middle", is_ca = true, ca = helper.ca }
      local other = tls.make_certificate { subject = "CN=other", is_ca = true, ca = middle }
      local leaf = tls.make_certificate { subject = "CN=x", names = { "x" }, ca = other }
      local files = { certificate = secure.file(leaf.certificate .. other.certificate .. middle.certificate),
        key = secure.file(leaf.key) }
      for _, depth in ipairs { 0, 5 } do
        local server, client = pair(ssl, secure.server(files), ssl,
          secure.client { verify = "peer", cafile = secure.ca, depth = depth })
        local _, _, ok = shake(server, client)
        assert.equal(depth == 5, ok)
        if ok then
          assert.equal(3, #client:getpeerchain())
          assert.equal(other.certificate, client:getpeercertificate(2):pem())
          assert.equal("other", client:getpeercertificate(1):issuer()[1].value)
        end
        server:close()
        client:close()
      end
    end)

    it("protocol and ciphers are what is agreed on", function()
      for protocol, version in pairs { tlsv1_2 = "TLSv1.2", tlsv1_3 = "TLSv1.3" } do
        local server, client = connected(ssl, nil, ssl, secure.client { protocol = protocol })
        assert.equal(version, (client:info("protocol")))
        assert.equal(version, (server:info("protocol")))
        server:close()
        client:close()
      end
      local server, client = connected(ssl, nil, ssl, secure.client { protocol = "tlsv1_2",
        ciphers = "ECDHE-ECDSA-CHACHA20-POLY1305" })
      local info = server:info()
      assert.equal("ECDHE-ECDSA-CHACHA20-POLY1305", info.cipher)
      assert.equal("ECDH", info.key)
      assert.equal("ECDSA", info.authentication)
      assert.equal("CHACHA20/POLY1305(256)", info.encryption)
      server:close()
      client:close()
      server, client = connected(ssl, nil, ssl, secure.client { ciphersuites = "TLS_CHACHA20_POLY1305_SHA256" })
      assert.equal("TLS_CHACHA20_POLY1305_SHA256", (server:info("cipher")))
      server:close()
      client:close()
    end)

    it("any speaks TLS 1.0 where ciphers allow it", function()
      local weak = "ALL:@SECLEVEL=0"
      local server, client = connected(ssl, secure.server { ciphers = weak }, ssl,
        secure.client { protocol = "tlsv1", ciphers = weak })
      assert.equal("TLSv1", (client:info("protocol")))
      server:close()
      client:close()
    end)

    it("options take versions away", function()
      local server, client = connected(ssl, secure.server { options = { "all", "no_tlsv1_3" } }, ssl)
      assert.equal("TLSv1.2", (client:info("protocol")))
      server:close()
      client:close()
    end)

    it("curves have to meet", function()
      local server, client = pair(ssl, secure.server { curve = "secp384r1" }, ssl,
        secure.client { curveslist = "P-256:X25519" })
      local ok = shake(server, client)
      assert.is_false(ok)
      server:close()
      client:close()
      server, client = connected(ssl, secure.server { curve = "secp384r1" }, ssl,
        secure.client { curveslist = "P-384" })
      server:close()
      client:close()
    end)

    it("certificates: one for each type of key", function()
      local both = secure.server { certificates = { { certificate = secure.certificate, key = secure.key },
        secure.rsa() } }
      both.certificate, both.key = nil, nil
      for cipher, kind in pairs { ["ECDHE-ECDSA-AES128-GCM-SHA256"] = "EC", ["ECDHE-RSA-AES128-GCM-SHA256"] = "RSA" } do
        local server, client = connected(ssl, both, ssl, secure.client { protocol = "tlsv1_2", ciphers = cipher })
        assert.equal(kind, (select(2, client:getpeercertificate():pubkey())))
        server:close()
        client:close()
      end
    end)

    it("dhparam: what is none is done without", function()
      local server, client = connected(ssl, secure.server { protocol = "tlsv1_2",
        dhparam = function() return "nonsense" end }, ssl)
      assert.truthy(client:info("protocol"))
      server:close()
      client:close()
    end)

    it("dhparam gives DHE its parameters", function()
      local pem = helper.openssl { "genpkey", "-genparam", "-algorithm", "DH", "-pkeyopt", "group:ffdhe2048" }
      local asked
      local wish = helper.with(secure.server(secure.rsa()), { dhparam = function(export, bits)
        asked = { export, bits }
        return (pem:gsub("X9.42 ", ""))
      end })
      local server, client = connected(ssl, wish, ssl, secure.client { protocol = "tlsv1_2",
        ciphers = "DHE-RSA-AES128-GCM-SHA256" })
      assert.equal("DH", (server:info("key")))
      assert.equal(2, #asked)
      server:close()
      client:close()
    end)

    it("alpn: the server's first that the client offers", function()
      local server, client = connected(ssl, secure.server { alpn = { "c", "b", "a" } }, ssl,
        secure.client { alpn = { "a", "b" } })
      assert.equal("b", client:getalpn())
      assert.equal("b", server:getalpn())
      server:close()
      client:close()
    end)

    it("alpn: none in common is no failure", function()
      local server, client = connected(ssl, secure.server { alpn = { "x" } }, ssl, secure.client { alpn = "y" })
      assert.is_nil((client:getalpn()))
      assert.is_nil((server:getalpn()))
      server:close()
      client:close()
    end)

    it("alpn: a function is given the client's list", function()
      local offered
      local answers = { "b", { "q", "a" }, "nope", 1, {} }
      local chosen = { "b", "a" }
      for i = 1, 5 do
        local server, client = connected(ssl, secure.server { alpn = function(list)
          offered = list
          return answers[i]
        end }, ssl, secure.client { alpn = { "a", "b" } })
        assert.same({ "a", "b" }, offered)
        assert.equal(chosen[i], client:getalpn())
        server:close()
        client:close()
      end
    end)
  end)

  describe("server names of " .. name, function()
    local other = helper.leaf { subject = "CN=other" }
    local files = { certificate = secure.file(other.certificate), key = secure.file(other.key) }

    local function visit(asked, strict)
      local server, client = pair(ssl, nil, ssl)
      server:sni({ ["other.example"] = assert(ssl.newcontext(secure.server(files))) }, strict)
      if asked then client:sni(asked) end
      local ok, why, ok_too, why_too = shake(server, client)
      local subject = ok_too and client:getpeercertificate():subject()[1].value
      local known = server:getsniname()
      server:close()
      client:close()
      return ok and ok_too, subject, known, why, why_too
    end

    it("choose a context", function()
      assert.same({ true, "other", "other.example" }, { visit("other.example") })
      assert.same({ true, "leaf", "elsewhere.example" }, { visit("elsewhere.example") })
      assert.same({ true, "leaf" }, { visit(nil) })
      assert.same({ true, "other", "other.example" }, { visit("other.example", true) })
      assert.same({ true, "leaf" }, { visit(nil, true) })
    end)

    it("are refused where that is asked for", function()
      assert.is_false((visit("elsewhere.example", true)))
    end)

    it("take no demand away from who is not verified by the one that is chosen", function()
      local server, client = pair(ssl, secure.server { verify = { "peer", "fail_if_no_peer_cert" },
        cafile = secure.ca, protocol = "tlsv1_2" }, ssl)
      server:sni { ["other.example"] = assert(ssl.newcontext(secure.server(files))) }
      client:sni("other.example")
      local ok, why = shake(server, client)
      assert.same({ false, "peer did not return a certificate" }, { ok, why })
      server:close()
      client:close()
    end)

    it("are known before the handshake to who asks", function()
      local server, client = pair(ssl, nil, ssl)
      client:sni("some.example")
      assert.equal("some.example", client:getsniname())
      server:close()
      client:close()
    end)

    it("are strings, and contexts", function()
      local server, client = pair(ssl, nil, ssl)
      assert.is_false((pcall(client.sni, client)))
      assert.is_false((pcall(client.sni, client, {})))
      assert.is_false((pcall(server.sni, server, "x")))
      assert.is_false((pcall(server.sni, server, { a = 1 })))
      server:close()
      client:close()
    end)

    it("serve many at once", function()
      local ctx = assert(ssl.newcontext(secure.server()))
      local map = { ["other.example"] = assert(ssl.newcontext(secure.server(files))), ["leaf.example"] = ctx }
      local open = {}
      for i = 1, 6 do
        local server, client = pair(ssl, ctx, ssl)
        server:sni(map)
        client:sni(i % 2 == 0 and "other.example" or "leaf.example")
        open[i] = { server, client }
      end
      for i, both in ipairs(open) do
        local ok, _, ok_too = shake(both[1], both[2])
        assert.is_true(ok and ok_too)
        assert.equal(i % 2 == 0 and "other" or "leaf", both[2]:getpeercertificate():subject()[1].value)
        both[1]:close()
        both[2]:close()
      end
    end)
  end)

  describe("DANE of " .. name, function()
    it("takes a server by its record, and no other", function()
      local digest = ssl.ssl.loadcertificate(helper.server_leaf.certificate):digest("sha256")
      for _, good in ipairs { true, false } do
        local server, client = pair(ssl, nil, ssl, secure.client { verify = "peer", dane = { "no_ee_namechecks" } })
        assert.is_true(client:setdane("localhost"))
        assert.is_true(client:settlsa(3, 0, 1, good and bytes.of_hex(digest) or ("x"):rep(32)))
        assert.is_false(client:settlsa(3, 0, 1, "short"))
        local _, _, ok, why = shake(server, client)
        assert.equal(good, ok, why)
        server:close()
        client:close()
      end
    end)

    it("knows its flags", function()
      assert.truthy(ssl.newcontext(secure.client { dane = true }))
      assert.is_false((pcall(ssl.newcontext, secure.client { dane = { "nope" } })))
    end)
  end)

  describe("a certificate of " .. name, function()
    local made = tls.make_certificate {
      subject = "CN=some one,O=An Org,C=DE", names = { "a.example", "*.b.example", "192.0.2.7", "2001:db8::1" },
      ca = helper.ca, not_before = 1600000000, not_after = 1700000000,
    }
    local certificate = ssl.ssl.loadcertificate(made.certificate)
    local ca = ssl.ssl.loadcertificate(helper.ca.certificate)

    it("is read from PEM", function()
      assert.is_nil((ssl.ssl.loadcertificate("nope")))
      if ssl == secure.ours then assert.is_false((pcall(ssl.ssl.loadcertificate))) end -- LuaSec leaks memory then
      assert.truthy(tostring(certificate):find("^X509 certificate: 0x%x+$"))
      assert.equal(made.certificate, certificate:pem())
    end)

    it("tells its subject and issuer", function()
      local subject = certificate:subject()
      assert.equal(3, #subject)
      local found = {}
      for _, part in ipairs(subject) do found[part.name] = part.oid .. " " .. part.value end
      assert.same({ commonName = "2.5.4.3 some one", organizationName = "2.5.4.10 An Org",
        countryName = "2.5.4.6 DE" }, found)
      assert.same({ { oid = "2.5.4.3", name = "commonName", value = "Test CA" } }, certificate:issuer())
    end)

    it("tells its names", function()
      local names = certificate:extensions()["2.5.29.17"]
      assert.equal("X509v3 Subject Alternative Name", names.name)
      assert.same({ "a.example", "*.b.example" }, names.dNSName)
      assert.same({ "192.0.2.7", "2001:db8::1" }, names.iPAddress)
      assert.same({}, ca:extensions())
    end)

    it("tells names of other kinds, by their OID", function()
      local key, path = helper.temp_file(), helper.temp_file()
      helper.openssl { "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x", "-keyout", key, "-out", path,
        "-addext", "subjectAltName=otherName:1.3.6.1.5.5.7.8.5;UTF8:me@example,otherName:1.2.3.4;INT:1,"
          .. "email:a@example,URI:http://x/,dirName:dir_sect", "-config", secure.file("[req]\ndistinguished_name=dn\n"
          .. "[dn]\n[dir_sect]\nCN=y\n") }
      local handle = assert(io.open(path, "rb"))
      local names = ssl.ssl.loadcertificate(handle:read("*a")):extensions()["2.5.29.17"]
      handle:close()
      assert.same({ "me@example", name = "XmppAddr" }, names["1.3.6.1.5.5.7.8.5"])
      assert.same({ { "a@example" }, { "http://x/" } }, { names.rfc822Name, names.uniformResourceIdentifier })
      if ssl == secure.ours then assert.same({ name = "1.2.3.4" }, names["1.2.3.4"]) end -- LuaSec takes it for text
    end)

    it("tells its dates", function()
      assert.equal("Sep 13 12:26:40 2020 GMT", certificate:notbefore())
      assert.equal("Nov 14 22:13:20 2023 GMT", certificate:notafter())
      assert.is_true(certificate:validat(1650000000))
      assert.is_false(certificate:validat(1500000000))
      assert.is_false(certificate:validat(1800000000))
      assert.is_false((pcall(certificate.validat, certificate)))
    end)

    it("tells its digest, serial number and signature", function()
      for _, kind in ipairs { "sha1", "sha256", "sha512" } do
        local text = helper.openssl({ "x509", "-noout", "-fingerprint", "-" .. kind }, made.certificate)
        assert.equal(text:match("=(.-)%s*$"):gsub(":", ""):lower(), certificate:digest(kind))
      end
      assert.equal(certificate:digest("sha1"), certificate:digest())
      assert.same({ nil, "digest algorithm not supported (md5)" }, { certificate:digest("md5") })
      local serial = helper.openssl({ "x509", "-noout", "-serial" }, made.certificate)
      assert.equal(serial:match("=(%x+)"), certificate:serial())
      assert.equal("ecdsa-with-SHA256", certificate:getsignaturename())
    end)

    it("tells its key", function()
      local pem, kind, bits = certificate:pubkey()
      assert.equal(helper.openssl({ "x509", "-noout", "-pubkey" }, made.certificate), pem)
      assert.equal("EC", kind)
      assert.equal(256, bits)
    end)

    it("knows whom it issued", function()
      local now = ssl.ssl.loadcertificate(helper.server_leaf.certificate)
      assert.is_true(ca:issued(now))
      local ok, why = now:issued(ca)
      assert.is_nil(ok)
      assert.equal("string", type(why))
      assert.same({ nil, "certificate has expired" }, { ca:issued(certificate) })
      local middle = tls.make_certificate { subject = "CN=middle", is_ca = true, ca = helper.ca }
      local leaf = ssl.ssl.loadcertificate(tls.make_certificate { subject = "CN=x", ca = middle }.certificate)
      assert.is_nil((ca:issued(leaf)))
      assert.is_true(ca:issued(leaf, ssl.ssl.loadcertificate(middle.certificate)))
      assert.is_false((pcall(ca.issued, ca)))
      assert.is_false((pcall(ca.issued, ca, 1)))
    end)

    it("gives text as it is, or in UTF-8", function()
      assert.is_true(certificate:setencode("utf8"))
      assert.same({ { oid = "2.5.4.3", name = "commonName", value = "Test CA" } }, certificate:issuer())
      assert.is_true(certificate:setencode("ai5"))
      assert.is_false(certificate:setencode("q"))
      assert.is_false((pcall(certificate.setencode, certificate)))
    end)
  end)
end

-- ---- LuaSec's mistakes, which are not copied ----

describe("the drop-in", function()
  local ssl = secure.ours

  it("says what is wrong with a context that is none", function()
    local plain, other = secure.sockets()
    for _, wrong in ipairs { 1, true, "x", function() end, plain } do
      local ok, err = pcall(ssl.wrap, plain, wrong)
      assert.is_false(ok)
      assert.truthy(err:find("invalid context", 1, true), err)
    end
    assert.truthy(plain:getfd() >= 0)
    assert.is_false((pcall(ssl.wrap, plain)))
    assert.is_false((pcall(ssl.core.create)))
    plain:close()
    other:close()
  end)

  it("says so of luaossl's contexts and connections too", function()
    local there, context = pcall(require, "openssl.ssl.context")
    if not there then return pending "luaossl is not installed" end
    local theirs = context.new("TLS", false)
    local plain, other = secure.sockets()
    for _, wrong in ipairs { theirs, require("openssl.ssl").new(theirs) } do
      local ok, err = pcall(ssl.wrap, plain, wrong)
      assert.is_false(ok)
      assert.truthy(err:find("invalid context", 1, true), err)
    end
    plain:close()
    other:close()
  end)

  it("crashes on no argument of a wrong kind", function()
    local server, client = connected(ssl, nil, ssl)
    local certificate = client:getpeercertificate()
    local ctx = ssl.newcontext(secure.client())
    local function try(methods, object)
      for _, method in pairs(methods) do
        for _, value in ipairs { 1, "x", {}, print, server, ctx, certificate, io.stdout } do
          if value ~= object then pcall(method, value, value, value) end
          if method ~= methods.close then pcall(method, object, value, value, value) end
        end
        pcall(method)
      end
    end
    try(getmetatable(client).__index, client)
    try(getmetatable(ctx).__index, ctx)
    try(getmetatable(certificate).__index, certificate)
    try(ssl.context, ctx)
    try({ ssl.core.create, ssl.core.info, ssl.core.compression, ssl.core.setfd }, client)
    server:close()
    client:close()
  end)

  it("tells a closed connection's handshake, where LuaSec crashes", function()
    local server, client = connected(ssl, nil, ssl)
    server:close()
    assert.same({ false, "closed" }, { server:dohandshake() })
    assert.is_nil((server:getalpn()))
    assert.is_nil((server:getsniname()))
    client:close()
  end)

  it("goes on failing a handshake that has failed, where LuaSec takes it for done", function()
    local server, client = pair(ssl, nil, ssl, secure.client { verify = "peer" })
    local _, _, ok, why = shake(server, client)
    assert.same({ false, "certificate verify failed" }, { ok, why })
    assert.same({ false, "certificate verify failed" }, { client:dohandshake() })
    assert.same({ nil, "closed" }, { client:getpeercertificate() })
    server:close()
    client:close()
  end)

  it("refuses an unknown mode at once", function()
    assert.same({ nil, "invalid mode (x)" }, { ssl.newcontext { mode = "x", protocol = "any" } })
  end)

  it("closes without waiting for a peer that reads nothing", function()
    local server, client = connected(ssl, nil, ssl)
    local noise = ("x"):rep(20000000)
    server:settimeout(0)
    assert.is_nil((server:send(noise)))
    local start = socket.gettime()
    server:close()
    assert.truthy(socket.gettime() - start < helper.slow)
    client:close()
  end)

  it("sends no close_notify when it is collected", function()
    local server, client = connected(ssl, nil, ssl)
    server:send("abc")
    server = nil -- luacheck: ignore
    collectgarbage()
    collectgarbage()
    assert.same({ nil, "unexpected eof while reading", "abc" }, { secure.receive(client, 10) })
    client:close()
  end)

  it("leaves no descriptor open", function()
    local before = helper.count_fds()
    for _ = 1, 5 do
      local server, client = pair(ssl, nil, ssl)
      shake(server, client)
      client:close()
    end
    collectgarbage()
    collectgarbage()
    assert.equal(before, helper.count_fds())
  end)

  it("resends nothing, and loses nothing, where the last byte was told unsent", function()
    local server, client = connected(ssl, nil, ssl)
    local sent = 0
    local data = helper.noise(16384, 3)
    local blocked
    for _ = 1, 10000 do
      local last, err, upto = server:send(data)
      if not last then
        blocked = upto
        assert.equal("wantwrite", err)
        break
      end
      sent = sent + #data
    end
    assert.truthy(blocked < #data)
    local rest, got = data:sub(blocked + 1), 0
    local tail = ""
    for _ = 1, 100000 do
      local piece, _, part = client:receive(16384)
      piece = piece or part
      got = got + #piece
      tail = (tail .. piece):sub(-#data)
      if rest and server:send(rest) then rest = nil end
      if not rest and got == sent + #data then break end
    end
    assert.equal(sent + #data, got)
    assert.is_true(tail == data)
    server:close()
    client:close()
  end)

  it("has LuaSec 1.3's methods: the certificates of this side", function()
    local server, client = connected(ssl, nil, ssl)
    assert.equal(helper.server_leaf.certificate, server:getlocalcertificate():pem())
    assert.equal(1, #server:getlocalchain())
    assert.equal(server:getlocalcertificate():pem(), server:getlocalchain()[1]:pem())
    assert.is_nil((client:getlocalcertificate()))
    assert.same({}, client:getlocalchain())
    local middle = tls.make_certificate { subject = "CN=middle", is_ca = true, ca = helper.ca }
    local leaf = tls.make_certificate { names = { "localhost" }, ca = middle }
    local longer, other = connected(ssl, secure.server { key = secure.file(leaf.key),
      certificate = secure.file(leaf.certificate .. middle.certificate) }, ssl)
    assert.equal(2, #longer:getlocalchain())
    assert.equal(middle.certificate, longer:getlocalchain()[2]:pem())
    longer:close()
    other:close()
    server:close()
    assert.same({ nil, "closed" }, { server:getlocalcertificate() })
    assert.same({ nil, "closed" }, { server:getlocalchain() })
    client:close()
    assert.equal("1.3.2", ssl.ssl._VERSION)
    assert.is_true(ssl["ssl.config"].capabilities.psk)
  end)

  for _, protocol in ipairs { "tlsv1_2", "tlsv1_3" } do
    it("has LuaSec 1.3's psk, in " .. protocol, function()
      local asked
      local function key_of(identity, max)
        asked = { identity, max > 0 }
        return identity == "me" and "0123456789abcdef" or nil
      end
      for i, psk in ipairs { key_of, { hint = "who?", callback = key_of } } do
        local given
        local server, client = connected(ssl, { mode = "server", protocol = protocol, psk = psk }, ssl,
          { mode = "client", protocol = protocol, psk = function(...)
            given = { ... }
            return "me", "0123456789abcdef"
          end })
        assert.same({ "me", true }, asked, i)
        assert.same({ i == 2 and protocol == "tlsv1_2" and "who?" or nil, 255, 512 }, given)
        server:close()
        client:close()
      end
      local long = ("x"):rep(600)
      for _, answer in ipairs { { "you", "0123456789abcdef" }, { "me", "wrong" }, {}, { "me" }, { long, long },
        { "me", long }, { {}, "x" }, { "", "x" } } do
        local server, client = pair(ssl, { mode = "server", protocol = protocol, psk = key_of }, ssl,
          { mode = "client", protocol = protocol, psk = function() return answer[1], answer[2] end })
        assert.is_false((shake(server, client)))
        server:close()
        client:close()
      end
    end)
  end

  it("asks a client's psk again with the hint of a server that has TLS 1.2 alone", function()
    local hints = {}
    local server, client = connected(ssl, { mode = "server", protocol = "tlsv1_2", psk = { hint = "a number",
      callback = function(identity, max) return identity == "7" and max == 512 and "12" or nil end } }, ssl,
      { mode = "client", protocol = "any", psk = function(hint)
        hints[#hints + 1] = hint or "none"
        if hint == "a number" then return 7, 12 end
      end })
    assert.same({ "none", "a number" }, hints)
    server:close()
    client:close()
  end)

  it("says why a client's psk has none", function()
    for reason, give in pairs { ["psk identity not found"] = function() end,
      ["on_psk failed: mine"] = function() error("mine", 0) end } do
      local server, client = pair(ssl, { mode = "server", protocol = "tlsv1_2", psk = print }, ssl,
        { mode = "client", protocol = "tlsv1_2", psk = give })
      assert.same({ false, reason }, { select(3, shake(server, client)) })
      server:close()
      client:close()
    end
  end)

  it("lets both sides' psk wait", function()
    local waits = 0
    local function wait()
      coroutine.yield()
      waits = waits + 1
    end
    local shaken
    local co = coroutine.create(function()
      local server, client = connected(ssl, { mode = "server", protocol = "tlsv1_2", psk = function()
        wait()
        return "0123456789abcdef"
      end }, ssl, { mode = "client", protocol = "tlsv1_2", psk = function()
        wait()
        return "me", "0123456789abcdef"
      end })
      shaken = true
      server:close()
      client:close()
    end)
    for _ = 1, 3 do assert(coroutine.resume(co)) end
    assert.same({ 2, true }, { waits, shaken })
  end)

  it("refuses psk where OpenSSL can't wait for its function", function()
    core.set_async(false)
    local ok, err = pcall(function()
      for _, params in ipairs { { mode = "client", psk = print }, { mode = "server", psk = print },
        { mode = "server", psk = { hint = "who?", callback = print } } } do
        params.protocol = "any"
        assert.matches("^on_psk: OpenSSL can't suspend a handshake", select(2, ssl.newcontext(params)))
        params.protocol = "tlsv1_3"
        assert(ssl.newcontext(params))
      end
    end)
    core.set_async(true)
    assert(ok, err)
  end)

  it("refuses psk of other shapes", function()
    for _, psk in ipairs { 1, "x", { hint = "x" }, { callback = print } } do
      assert.same({ nil, "invalid PSK configuration" }, { ssl.newcontext(secure.server { psk = psk }) })
    end
    assert.same({ nil, "invalid PSK configuration" }, { ssl.newcontext(secure.client { psk = {} }) })
  end)

  it("tells its addresses", function()
    local server, client = pair(ssl, nil, ssl)
    local host, port, family = server:getsockname()
    assert.same({ "127.0.0.1", "inet" }, { host, family })
    assert.same({ host, port, family }, { client:getpeername() })
    local a, b = helper.socketpair()
    local unix = assert(ssl.core.create(assert(ssl.newcontext(secure.client()))))
    ssl.core.setfd(unix, a)
    assert.same({ nil, "not an Internet address" }, { unix:getpeername() })
    unix:close()
    helper.close_fd(b)
    client:close()
    assert.same({ nil, "closed" }, { client:getpeername() })
    server:close()
  end)

  it("shuts its side down and reads on", function()
    local server, client = connected(ssl, nil, ssl)
    assert.equal(1, client:shutdown("send"))
    assert.same({ nil, "closed", "" }, { secure.receive(server, 1) })
    server:send("still")
    assert.equal("still", secure.receive(client, 5))
    assert.same({ nil, "closed" }, { pair(ssl, nil, ssl):shutdown() })
    assert.is_false((pcall(client.shutdown, client, "x")))
    server:close()
    client:close()
  end)
end)
