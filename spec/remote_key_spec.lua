-- Private keys that live elsewhere: src/remote_key.c, src/signing.c. What signs here is openssl-pkeyutl(1).

local compat = require "cotls.compat"
local bytes = require "spec.bytes"
local helper = require "spec.helper"
local tls = require "cotls"
local visits = require "spec.visit"

local ponder = helper.ponder

local function run_openssl(...)
  return helper.openssl { ... }
end

local PADDING = {
  rsa_pss = { "-pkeyopt", "rsa_padding_mode:pss", "-pkeyopt", "rsa_pss_saltlen:digest" },
  rsa_pkcs1 = { "-pkeyopt", "rsa_padding_mode:pkcs1" },
  ecdsa = {}, ed25519 = {},
}

-- Signs what the request tells, as the key's owner would.
local function sign(key, request)
  local argv = { "pkeyutl", "-sign", "-inkey", helper.temp_file(key),
    "-in", helper.temp_file(request.hashed or request.message) }
  local options = request.digest and { "-pkeyopt", "digest:" .. request.digest:lower() } or { "-rawin" }
  compat.move(options, 1, #options, #argv + 1, argv)
  compat.move(PADDING[request.scheme], 1, #PADDING[request.scheme], #argv + 1, argv)
  return helper.openssl(argv)
end

-- A client and a server meet, and a byte goes by.
local function visit(client, server, options)
  local got = visits.greet(client, server, options)
  got.info, got.shown, got.peer = got.server:info(), got.client:peer_certificate(), got.server:peer_certificate()
  visits.close(got)
  return got
end

local function good(...) return visits.well(visit(...)) end

local KEYS = {
  { name = "P-256", wish = { key_type = "ec" }, scheme = "ecdsa", digest = "SHA256" },
  { name = "P-384", curve = "P-384", scheme = "ecdsa", digest = "SHA384" },
  { name = "RSA with PSS", wish = { key_type = "rsa" }, scheme = "rsa_pss", digest = "SHA256" },
  { name = "RSA with PKCS #1", wish = { key_type = "rsa" }, scheme = "rsa_pkcs1", digest = "SHA512", only = "1.2",
    algorithm = "RSA+SHA512" },
  { name = "Ed25519", wish = { key_type = "ed25519" }, scheme = "ed25519" },
}

-- A leaf that tls.make_certificate makes none of.
local function leaf_on_curve(curve)
  local key = run_openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:" .. curve)
  local certificate = run_openssl("req", "-new", "-x509", "-key", helper.temp_file(key), "-subj", "/CN=localhost",
    "-addext", "subjectAltName=DNS:localhost", "-days", "30", "-CA", helper.temp_file(helper.ca.certificate),
    "-CAkey", helper.temp_file(helper.ca.key))
  return { certificate = certificate, key = key }
end

for _, one in ipairs(KEYS) do one.leaf = one.curve and leaf_on_curve(one.curve) or helper.leaf(one.wish) end

local EC, RSA = KEYS[1].leaf, KEYS[3].leaf

for _, version in ipairs { "1.2", "1.3" } do
  for _, one in ipairs(KEYS) do
    if (one.only or version) == version then
      describe(("a key of %s elsewhere, on TLS %s"):format(one.name, version), function()
        local requests

        -- Options of a side whose key is elsewhere.
        local function remote(more)
          requests = {}
          local options = { min_version = version, max_version = version, certificate = one.leaf.certificate,
            sign = function(conn, request)
              assert(not conn:handshake_done())
              requests[#requests + 1] = request
              ponder()
              return sign(one.leaf.key, request)
            end }
          for name, value in pairs(more or {}) do options[name] = value end
          return options
        end

        local function check(mine)
          assert.equal(1, #requests)
          local request = requests[1]
          assert.equal(one.scheme, request.scheme)
          -- with TLS 1.2 the hash is not bound to the curve
          assert.equal(version == "1.2" and one.curve and "SHA256" or one.digest, request.digest)
          if version == "1.3" then
            assert.equal((" "):rep(64) .. "TLS 1.3, " .. mine .. " CertificateVerify\0", request.message:sub(1, 98))
          end
          if request.digest then
            local hashed = run_openssl("dgst", "-binary", "-" .. request.digest:lower(),
              helper.temp_file(request.message))
            assert.equal(hashed, request.hashed)
          else
            assert.is_nil(request.hashed)
          end
        end

        it("signs for a server", function()
          local client = helper.client_context { signature_algorithms = one.algorithm }
          local got = good(client, helper.server_context(remote()))
          assert.equal("TLSv" .. version, got.info.version)
          check "server"
        end)

        if version == "1.2" and one.algorithm then
          it("signs what TLS 1.0 wants: MD5 and SHA-1 side by side", function()
            local old = { min_version = "1.0", max_version = "1.0", ciphers = "DEFAULT:@SECLEVEL=0" }
            good(helper.client_context(old), helper.server_context(remote(old)))
            assert.same({ "rsa_pkcs1", "MD5-SHA1", 36 },
              { requests[1].scheme, requests[1].digest, #requests[1].hashed })
          end)
        end

        it("signs for a client", function()
          local server = helper.server_context { verify_client = "require", ca = helper.ca.certificate,
            client_signature_algorithms = one.algorithm }
          local got = good(helper.client_context(remote { ca = helper.ca.certificate }), server)
          assert.equal(tls.x509(one.leaf.certificate), got.peer)
          check "client"
        end)
      end)
    end
  end

  describe("sign refuses, on TLS " .. version .. ":", function()
    local function server_that(answer, leaf)
      return helper.server_context { min_version = version, max_version = version,
        certificate = (leaf or EC).certificate, sign = answer }
    end

    -- What the server's caller is told.
    local function refused(answer, leaf)
      local got = visit(helper.client_context(), server_that(answer, leaf))
      assert.is_nil(got.ok)
      assert.equal("hook", got.server_err.code, tostring(got.server_err))
      assert.same({ "internal_error", true }, { got.server_err.alert.name, got.server_err.alert.sent })
      assert.same({ "alert", "internal_error" }, { got.err.code, got.err.alert.name })
      return got.server_err
    end

    it("an error", function()
      local err = refused(function() ponder() error { "mine" } end)
      assert.same({ "mine" }, err.cause.error)
      assert.matches("remote_key_spec.lua", err.cause.traceback)
      assert.matches("^sign failed: it is gone", refused(function() ponder() error("it is gone", 0) end).reason)
    end)

    it("nil, false, and another type", function()
      assert.equal("sign refuses", refused(function() ponder() end).reason)
      assert.equal("sign refuses", refused(function() return false end).reason)
      assert.equal("sign gave a boolean, where a signature is expected", refused(function() return true end).reason)
      assert.equal("sign gave a number, where a signature is expected", refused(function() return 1 end).reason)
    end)

    it("bytes that are no signature", function()
      local why = "sign gave no signature by the certificate's key"
      assert.equal(why, refused(function() return "x" end).reason)
      assert.equal(why, refused(function() return ("x"):rep(5000) end).reason)
      assert.equal(why, refused(function(_, request)
        local good_one
        for _ = 1, 100 do -- with a byte behind it, it must not be longer than any: 72 for P-256
          good_one = sign(EC.key, request)
          if #good_one < 72 then break end
        end
        return good_one .. "x"
      end).reason)
      assert.equal(why, refused(function() return "x" end, RSA).reason)
      assert.equal(why, refused(function() return ("x"):rep(257) end, RSA).reason)
      assert.equal(why, refused(function() return ("x"):rep(63) end, KEYS[5].leaf).reason)
    end)

    it("an RSA signature that is wrong, before the peer sees it", function()
      local why = "sign gave no signature by the certificate's key"
      local other = helper.leaf { key_type = "rsa" }
      assert.equal(why, refused(function(_, request) return sign(other.key, request) end, RSA).reason)
      assert.equal(why, refused(function(_, request)
        local good_one = sign(RSA.key, request)
        return bytes.flip(good_one, 101)
      end, RSA).reason)
      assert.equal(why, refused(function(_, request)
        request.scheme = request.scheme == "rsa_pss" and "rsa_pkcs1" or "rsa_pss"
        return sign(RSA.key, request)
      end, RSA).reason)
    end)

    it("what its client makes of another key's signature", function()
      local other = helper.leaf()
      local got = visit(helper.client_context(), server_that(function(_, request) return sign(other.key, request) end))
      assert.is_nil(got.ok)
      assert.equal("tls", got.err.code)
      assert.same({ "alert", "decrypt_error" }, { got.server_err.code, got.server_err.alert.name })
    end)

    it("an answer after the handshake's time", function()
      local server = helper.server_context { min_version = version, max_version = version,
        certificate = EC.certificate, handshake_timeout = 0.05,
        sign = function(_, request)
          local late = tls.now() + 0.1
          while tls.now() < late do coroutine.yield() end
          return sign(EC.key, request)
        end }
      local got = visit(helper.client_context(), server)
      assert.is_nil(got.ok)
      assert.equal("timeout", got.server_err.code)
    end)
  end)
end

describe("sign", function()
  it("is told which connection it is for, and handshakes may wait in it side by side", function()
    local leaves = { a = helper.leaf { names = { "a.example" } }, b = helper.leaf { names = { "b.example" } } }
    local order = {}
    local function server(name)
      return helper.server_context { certificate = leaves[name].certificate, sign = function(conn, request)
        order[#order + 1] = name .. " begins"
        for _ = 1, name == "a" and 400 or 200 do coroutine.yield() end
        order[#order + 1] = name .. " ends"
        assert.equal(name .. ".example", conn:server_name())
        return sign(leaves[name].key, request)
      end }
    end
    local client, tasks = helper.client_context(), {}
    for _, name in ipairs { "a", "b" } do
      local mine, theirs = helper.pair(nil, { server_name = name .. ".example" }, nil,
        { client = client, server = server(name) })
      tasks[#tasks + 1] = function() assert(mine:connect()) end
      tasks[#tasks + 1] = function() assert(theirs:accept()) end
    end
    helper.together(tasks)
    assert.same({ "a begins", "b begins", "b ends", "a ends" }, order)
  end)

  it("may make handshakes itself, with keys elsewhere too", function()
    local depth = 0
    local server
    server = helper.server_context { certificate = EC.certificate, sign = function(_, request)
      depth = depth + 1
      if depth < 3 then
        ponder()
        local client, inner = helper.pair(nil, nil, nil, { client = helper.client_context(), server = server })
        local other = coroutine.create(function() assert(client:connect()) end)
        local mine = coroutine.create(function() assert(inner:accept()) end)
        while coroutine.status(other) ~= "dead" or coroutine.status(mine) ~= "dead" do
          for _, co in ipairs { other, mine } do
            if coroutine.status(co) ~= "dead" then assert(coroutine.resume(co)) end
          end
          coroutine.yield()
        end
      end
      return sign(EC.key, request)
    end }
    good(helper.client_context(), server)
    assert.equal(3, depth)
  end)

  it("is left alone where the connection closes, or is collected, while it thinks", function()
    local server = helper.server_context { certificate = RSA.certificate,
      sign = function() coroutine.yield "asked" end }
    for _, way in ipairs { "close", "collect", coroutine.close and "close the coroutine" } do
      local client, conn = helper.pair(nil, nil, nil, { client = helper.client_context(), server = server })
      local visitor = coroutine.create(function() return client:connect() end)
      local serving = coroutine.create(function() return conn:accept() end)
      local asked
      for _ = 1, 100 do
        assert(coroutine.resume(visitor))
        local _, want = coroutine.resume(serving)
        asked = asked or want == "asked"
        if asked then break end
      end
      assert.is_true(asked)
      if way == "close" then
        conn:close()
        local ok, results, err = coroutine.resume(serving)
        assert.same({ true, nil, "closed" }, { ok, results, err.code })
      elseif way == "close the coroutine" then
        assert(coroutine.close(serving))
        conn:close()
      end
      conn, serving = nil, nil -- luacheck: ignore
      collectgarbage()
      collectgarbage()
      local _, ok, err = coroutine.resume(visitor)
      assert.is_nil(ok)
      assert.equal("truncated", err.code)
    end
  end)
end)

describe("a credential whose key is elsewhere", function()
  local function signer(leaf, count)
    return function(_, request)
      if count then count.n = count.n + 1 end
      ponder()
      return sign(leaf.key, request)
    end
  end

  for _, version in ipairs { "1.2", "1.3" } do
    it("stands beside one with its key, on TLS " .. version, function()
      local count = { n = 0 }
      local options = { role = "server", min_version = version, max_version = version, credentials = {
        { certificate = RSA.certificate, key = RSA.key },
        { certificate = EC.certificate, sign = true },
      }, sign = signer(EC, count) }
      local server = assert(tls.context(options))
      local got = good(helper.client_context { signature_algorithms = "ECDSA+SHA256:RSA-PSS+SHA256" }, server)
      assert.same({ 1, "ec" }, { count.n, got.shown:key().type })
      got = good(helper.client_context { signature_algorithms = "RSA-PSS+SHA256" }, server)
      assert.equal("rsa", got.shown:key().type)
      assert.equal(1, count.n)
    end)

    it("is a client's, too, on TLS " .. version, function()
      local count = { n = 0 }
      local client = assert(tls.context { ca = helper.ca.certificate, min_version = version, max_version = version,
        sign = signer(RSA, count), credentials = {
          { certificate = EC.certificate, key = EC.key },
          { certificate = RSA.certificate, sign = true },
        } })
      local server = helper.server_context { verify_client = "require", ca = helper.ca.certificate,
        client_signature_algorithms = "RSA-PSS+SHA256" }
      assert.equal("rsa", good(client, server).peer:key().type)
      assert.equal(1, count.n)
    end)

    it("is that of a context which the server name chooses, on TLS " .. version, function()
      local count = { n = 0 }
      local only = { min_version = version, max_version = version }
      local named = helper.server_context { certificate = RSA.certificate, sign = signer(RSA, count) }
      local server = helper.server_context { names = { ["localhost"] = named } }
      assert.equal("rsa", good(helper.client_context(only), server).shown:key().type)
      assert.equal(1, count.n)
      good(helper.client_context(only), server, { server_name = "127.0.0.1" })
      assert.equal(1, count.n)
      -- and the other way round
      server = helper.server_context { certificate = EC.certificate, sign = signer(EC, count),
        names = { ["localhost"] = helper.server_context { certificate = RSA.certificate, key = RSA.key } } }
      assert.equal("rsa", good(helper.client_context(only), server).shown:key().type)
      assert.equal(1, count.n)
    end)

    it("is given by hooks, on TLS " .. version, function()
      local count = { n = 0 }
      local only = { min_version = version, max_version = version }
      local other = helper.server_context { certificate = RSA.certificate, sign = signer(RSA, count) }
      for _, hook in ipairs { "on_client_hello", "on_certificate" } do
        count.n = 0
        good(helper.client_context(only), helper.server_context { [hook] = function(conn)
          ponder()
          return conn:set_context(other) and true
        end })
        assert.equal(1, count.n, hook)
        for key_type, leaf in pairs { ec = EC, rsa = RSA } do
          count.n = 0
          local before = hook ~= "on_certificate" and helper.leaf { key_type = key_type }.certificate or nil
          local got = good(helper.client_context(only), assert(tls.context { role = "server", certificate = before,
            sign = signer(leaf, count), [hook] = function(conn)
              ponder()
              return assert(conn:use_certificate { certificate = leaf.certificate, sign = true }) and true
            end }))
          assert.equal(tls.x509(leaf.certificate), got.shown)
          assert.equal(1, count.n, hook)
        end
      end
    end)
  end

  it("is refused by a hook of a context that has no function sign", function()
    local why
    good(helper.client_context(), helper.server_context { on_certificate = function(conn)
      why = compat.pack(conn:use_certificate { certificate = EC.certificate, sign = true })
      return true
    end })
    helper.assert_refused("sign", { "the context in force has no function sign" }, why[1], why[2])
  end)

  it("excludes what else wants the key", function()
    local function needs(refused, texts, options)
      options.role = options.role or "server"
      options.certificate = not options.credentials and EC.certificate or nil
      helper.assert_refused(refused, texts, tls.context(options))
    end
    local function nobody() end
    needs("key", { "not together with sign" }, { sign = nobody, key = EC.key })
    needs("password", { "not together with sign" }, { sign = nobody, password = "x" })
    needs("key_uri", { "not together with sign" }, { sign = nobody, key_uri = "file:/nowhere" })
    needs("certificate", { "not together with pkcs12" }, { sign = nobody, pkcs12 = "\48\0" })
    needs("credentials[1].pkcs12", { "not together with sign" },
      { credentials = { { pkcs12 = "\48\0", sign = true } }, sign = nobody })
    needs("credentials[1].sign", { "the context has no function sign" },
      { credentials = { { certificate = EC.certificate, sign = true } } })
    needs("credentials[1].key", { "not together with sign" },
      { credentials = { { certificate = EC.certificate, key = EC.key, sign = true } }, sign = nobody })
    needs("sign", { "no entry of credentials says sign = true" },
      { credentials = { { certificate = EC.certificate, key = EC.key } }, sign = nobody })
    helper.assert_refused("sign", { "there is no certificate" }, tls.context { sign = nobody })
    assert.has_error(function() tls.context { sign = true } end)
    assert.has_error(function() tls.context { credentials = { { sign = nobody } } } end)
  end)

  it("has a key of a type that TLS signs with here", function()
    local key = run_openssl("genpkey", "-algorithm", "ED448")
    local certificate = run_openssl("req", "-new", "-x509", "-key", helper.temp_file(key), "-subj", "/CN=x")
    helper.assert_refused("sign", { "no signatures from elsewhere", "type ED448" },
      tls.context { role = "server", certificate = certificate, sign = function() end })
  end)

  it("takes a certificate's file with a key in it, and leaves that alone", function()
    local asked
    good(helper.client_context(), helper.server_context { certificate = EC.certificate .. EC.key,
      sign = function(_, request) asked = true return sign(EC.key, request) end })
    assert.is_true(asked)
  end)
end)

describe("RSA key exchange", function()
  local client = helper.client_context { ciphers = "AES128-GCM-SHA256", max_version = "1.2" }

  local function exchanges(context)
    local found = {}
    for _, cipher in ipairs(context:ciphers()) do found[cipher.kx or cipher.key_exchange or "?"] = true end
    return found
  end

  it("is what a server with such a key doesn't offer", function()
    local plain = helper.server_context { certificate = RSA.certificate, key = RSA.key }
    local remote = helper.server_context { certificate = RSA.certificate, sign = function() error "asked" end }
    good(client, plain)
    local got = visit(client, remote)
    assert.same({ "tls", "handshake_failure" }, { got.server_err.code, got.server_err.alert.name })
    assert.is_true(#remote:ciphers() > 5 and #remote:ciphers() < #plain:ciphers())
    assert.same(exchanges(helper.server_context { ciphers = "DEFAULT:!kRSA:!kRSAPSK" }), exchanges(remote))
    -- nor one that comes to it by a hook
    got = visit(client, assert(tls.context { role = "server", sign = function() error "asked" end,
      on_certificate = function(conn)
        return assert(conn:use_certificate { certificate = RSA.certificate, sign = true }) and true
      end }))
    assert.equal("handshake_failure", got.server_err.alert.name)
    got = visit(client, helper.server_context { certificate = RSA.certificate, key = RSA.key,
      names = { localhost = remote } })
    assert.equal("handshake_failure", got.server_err.alert.name)
  end)

  it("is refused where nothing is left", function()
    helper.assert_refused("sign", { "every cipher suite wants the key to decrypt" }, tls.context { role = "server",
      certificate = RSA.certificate, sign = function() end, ciphers = "AES128-GCM-SHA256:AES256-GCM-SHA384" })
    assert(tls.context { role = "server", certificate = EC.certificate, sign = function() end,
      ciphers = "AES128-GCM-SHA256" })
  end)

  it("is none of a client's business", function()
    local mine = helper.client_context { certificate = RSA.certificate, ciphers = "AES128-GCM-SHA256",
      max_version = "1.2", sign = function(_, request) ponder() return sign(RSA.key, request) end }
    good(mine, helper.server_context { certificate = RSA.certificate, key = RSA.key, verify_client = "require",
      ca = helper.ca.certificate })
  end)
end)

describe("with other programs, a key elsewhere", function()
  local TYPES = { ["P-256"] = "ECDSA", ["P-384"] = "ECDSA", ["RSA with PSS"] = "RSA-PSS", Ed25519 = "ed25519" }

  for name, kind in pairs(TYPES) do
    it("signs for openssl s_client: " .. name, function()
      local leaf
      for _, one in ipairs(KEYS) do leaf = one.name == name and one.leaf or leaf end
      local context = helper.server_context { certificate = leaf.certificate,
        sign = function(_, request) return sign(leaf.key, request) end }
      for _, version in ipairs { "-tls1_2", "-tls1_3" } do
        local _, verdict, out = helper.visit(context, version)
        assert.equal(0, verdict, out)
        assert.equal(kind:lower(), out:match("Peer signature type: ([^\n]+)"):lower())
      end
    end)
  end

  it("shows a client's certificate to openssl s_server", function()
    local ca = helper.temp_file(helper.ca.certificate)
    for version, flag in pairs { ["1.2"] = "-tls1_2", ["1.3"] = "-tls1_3" } do
      for kind, leaf in pairs { ecdsa = EC, ["rsa-pss"] = RSA, ed25519 = KEYS[5].leaf } do
        local port = helper.free_port()
        local child = helper.start { "openssl", "s_server", "-accept", "127.0.0.1:" .. port, flag, "-naccept", "1",
          "-cert", helper.temp_file(EC.certificate), "-key", helper.temp_file(EC.key), "-CAfile", ca,
          "-Verify", "1", "-verify_return_error" }
        child:wait_for("ACCEPT")
        helper.in_loop(function()
          local conn = assert(tls.connect("127.0.0.1", port, { server_name = "localhost",
            ca = helper.ca.certificate, max_version = version, certificate = leaf.certificate,
            sign = function(_, request) return sign(leaf.key, request) end }))
          assert(conn:write("hello\n"))
          child:wait_for("hello")
          assert.equal(kind, child.stdout:match("Peer signature type: ([^\n]+)"):lower())
          conn:close()
        end)
        child:stop()
      end
    end
  end)
end)

describe("where OpenSSL can't suspend a handshake", function()
  local PROGRAM = [[
    local tls = require "cotls"
    local pair = tls.make_certificate { names = { "localhost" } }
    local function nobody() return true end
    for _, name in ipairs { "sign", "on_psk", "on_verify", "on_client_hello" } do
      local options = { role = "server", certificate = pair.certificate, [name] = nobody,
        key = name ~= "sign" and pair.key or nil, verify_client = name == "on_verify" and "optional" or nil,
        ca = name == "on_verify" and pair.certificate or nil }
      local context, err = tls.context(options)
      print(name, context and "works" or err)
    end
    print("a client's on_verify", tls.context { on_verify = nobody } and "works")
  ]]

  it("hooks that need that are refused, and named", function()
    if helper.slow > 1 then return pending("another library is preloaded here") end
    local source, library = helper.temp_file("int ASYNC_is_capable(void);\nint ASYNC_is_capable(void) { return 0; }\n"),
      helper.temp_dir() .. "/without.so"
    local cc = os.getenv "CC" or "cc"
    local status, _, errors = helper.run { cc, "-shared", "-fPIC", "-o", library, "-x", "c", source }
    assert.equal(0, status, errors)
    local out
    status, out, errors = helper.run({ helper.lua, "-" }, PROGRAM, { env = { LD_PRELOAD = library } })
    assert.equal(0, status, errors)
    local expected = ""
    for _, name in ipairs { "sign", "on_psk", "on_verify" } do
      expected = expected .. ("%s\t%s: OpenSSL can't suspend a handshake on this system " ..
        "(ASYNC_is_capable(3)), as it must for this function%s\n"):format(name, name,
        name == "on_psk" and ' on TLS 1.2 (min_version = "1.3" does without)' or "")
    end
    assert.equal(expected .. "on_client_hello\tworks\na client's on_verify\tworks\n", out)
  end)
end)
