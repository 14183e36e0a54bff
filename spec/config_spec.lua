-- What a context may agree on: each option is proven by what a handshake comes to, most of them against openssl's own
-- programs, which say what was agreed.

local compat = require "cotls.compat"
local bytes = require "spec.bytes"
local tls = require "cotls"
local luv = require "cotls.luv"
local helper = require "spec.helper"

local CA = helper.ca.certificate
local RSA = helper.leaf { key_type = "rsa" }
local ED25519 = helper.leaf { key_type = "ed25519" }
local CA_FILE = helper.temp_file(CA)
local RSA_FILE = helper.temp_file(RSA.certificate .. RSA.key)
local EC_FILE = helper.temp_file(helper.server_leaf.certificate .. helper.server_leaf.key)

local SUITES = { "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256" }

local with = helper.with

-- A handshake of two contexts and one byte back: { client_err =, server_err =, cipher =, version = }.
local function meet(client_options, server_options)
  local client, server = helper.pair(nil, nil, nil, {
    client = helper.client_context(client_options), server = helper.server_context(server_options),
  })
  local mine, theirs = helper.greet(client, server)
  local result = { ok = mine[1] ~= nil and theirs[1] ~= nil, client_err = mine[2], server_err = theirs[2] }
  if result.ok then
    assert.equal(server:cipher(), client:cipher())
    result.cipher, result.version, result.certificate = client:cipher(), client:version(), client:peer_certificate()
  end
  client:close()
  server:close()
  return result
end

local function agreed(client_options, server_options)
  local got = meet(client_options, server_options)
  assert.is_true(got.ok, tostring(got.client_err) .. "; " .. tostring(got.server_err))
  return got.cipher, got.version
end

-- The server refuses the client's hello.
local function no_overlap(client_options, server_options, reason)
  local got = meet(client_options, server_options)
  assert.is_false(got.ok, "it was agreed on " .. tostring(got.cipher))
  assert.equal("handshake_failure", got.server_err.alert.name)
  assert.is_true(got.server_err.alert.sent)
  assert.equal("handshake_failure", got.client_err.alert.name)
  assert.is_false(got.client_err.alert.sent)
  assert.matches(reason, tostring(got.server_err))
end

local function refused(options, pattern)
  local context, err = tls.context(with({ insecure = options.role ~= "server" or nil }, options))
  assert.is_nil(context, pattern)
  assert.equal("config", err.code)
  assert.is_truthy(err.reason:find(pattern, 1, true), err.reason)
  return err.reason
end

local function raises(options, pattern)
  local ok, err = pcall(tls.context, options)
  assert.is_false(ok)
  assert.is_truthy(err:find(pattern, 1, true), err)
end

local ONLY_12 = { max_version = "1.2" }
local ONLY_13 = { min_version = "1.3" }

-- ---- against openssl's programs ----

-- Our server and one openssl s_client: what the client prints, its status, and the server's error.
local function s_client(options, ...)
  local argv, result = { "openssl", "s_client", "-CAfile", CA_FILE, "-servername", "localhost", ... }, {}
  helper.in_loop(function()
    local listener = assert(tls.listen("127.0.0.1", 0, { context = helper.server_context(options) }))
    argv[#argv + 1], argv[#argv + 2] = "-connect", "127.0.0.1:" .. listener:port()
    luv.spawn(function()
      local conn = listener()
      listener:close()
      local ok, err = conn:accept()
      result.err, result.cipher, result.version = err, conn:cipher(), conn:version()
      if ok then conn:read("a") end
      conn:close()
    end)
    result.status, result.out, result.errors = helper.run(argv, "", { seconds = 20 })
  end, 30)
  return result
end

-- One openssl s_server with that certificate and our client: what the server prints, and the client's error.
local function s_server(options, certificate, ...)
  local port, result = helper.free_port(), {}
  local child = helper.start { "openssl", "s_server", "-accept", "127.0.0.1:" .. port, "-cert", certificate,
    "-naccept", "1", ... }
  helper.in_loop(function()
    child:wait_for("ACCEPT")
    local conn, err = tls.connect("127.0.0.1", port, with({ ca = CA }, options))
    result.err = err
    if conn then
      result.cipher, result.version = conn:cipher(), conn:version()
      conn:close()
    end
    child:wait(10)
  end, 30)
  child:stop()
  result.out = child.stdout .. child.stderr
  return result
end

-- ---- tls.ciphers and ctx:ciphers ----

local function names_of(list)
  local names = {}
  for i, cipher in ipairs(list) do names[i] = cipher.name end
  return names
end

describe("tls.ciphers", function()
  it("shows what a list means, the preferred first", function()
    assert.same({ "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-GCM-SHA256",
      "ECDHE-RSA-AES128-GCM-SHA256" }, names_of(tls.ciphers "ECDHE+AESGCM"))
    assert.same({ "ECDHE-RSA-AES128-GCM-SHA256", "AES128-SHA" },
      names_of(tls.ciphers { "ECDHE-RSA-AES128-GCM-SHA256", "AES128-SHA" }))
    assert.same({ "AES256-SHA", "AES128-SHA" }, names_of(tls.ciphers "AES128-SHA:AES256-SHA:@STRENGTH"))
    assert.same({ "AES256-SHA" }, names_of(tls.ciphers "AES128-SHA AES256-SHA,!AES128;"))
  end)

  it("takes suites of TLS 1.3 among the others, or alone", function()
    assert.same({ "TLS_AES_128_GCM_SHA256", "AES128-SHA" }, names_of(tls.ciphers "AES128-SHA:TLS_AES_128_GCM_SHA256"))
    assert.same({ "TLS_CHACHA20_POLY1305_SHA256" }, names_of(tls.ciphers { "TLS_CHACHA20_POLY1305_SHA256" }))
  end)

  it("agrees with openssl ciphers", function()
    for _, list in ipairs { "DEFAULT", "ALL:eNULL", "HIGH:!aNULL:!kRSA:+SHA256", "kPSK", "DEFAULT@SECLEVEL=0" } do
      local _, out = helper.run { "openssl", "ciphers", list }
      local want = {}
      for name in out:gmatch("[^:\n]+") do
        if not name:find("^TLS_") then want[#want + 1] = name end
      end
      assert.same(want, names_of(tls.ciphers(list)), list)
    end
  end)

  it("tells what each is", function()
    assert.same({
      { name = "ECDHE-RSA-AES128-GCM-SHA256", standard_name = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        version = "TLSv1.2", bits = 128, key_exchange = "ECDHE", authentication = "RSA", encryption = "AES-128-GCM",
        aead = true },
      { name = "AES256-SHA", standard_name = "TLS_RSA_WITH_AES_256_CBC_SHA", version = "SSLv3", bits = 256,
        key_exchange = "RSA", authentication = "RSA", encryption = "AES-256-CBC", mac = "SHA1", aead = false },
      { name = "AECDH-NULL-SHA", standard_name = "TLS_ECDH_anon_WITH_NULL_SHA", version = "TLSv1.0", bits = 0,
        key_exchange = "ECDHE", authentication = "none", encryption = "none", mac = "SHA1", aead = false },
      { name = "RSA-PSK-AES128-CBC-SHA256", standard_name = "TLS_RSA_PSK_WITH_AES_128_CBC_SHA256", version = "TLSv1.0",
        bits = 128, key_exchange = "RSA-PSK", authentication = "RSA", encryption = "AES-128-CBC", mac = "SHA256",
        aead = false },
    }, tls.ciphers "ECDHE-RSA-AES128-GCM-SHA256:AES256-SHA:AECDH-NULL-SHA:RSA-PSK-AES128-CBC-SHA256")
    assert.same({ name = "TLS_CHACHA20_POLY1305_SHA256", standard_name = "TLS_CHACHA20_POLY1305_SHA256",
      version = "TLSv1.3", bits = 256, key_exchange = "any", authentication = "any",
      encryption = "CHACHA20-POLY1305", aead = true }, tls.ciphers("TLS_CHACHA20_POLY1305_SHA256")[1])
  end)

  it("without a list shows what a context begins with", function()
    local names = names_of(assert(tls.ciphers()))
    assert.same(SUITES, { compat.unpack(names, 1, 3) })
    assert.is_true(#names > 20)
  end)

  it("refuses a bad list as the options do; a wrong type raises", function()
    for list, pattern in pairs {
      ["ECDHE+AESGCM:NOPE"] = "^ciphers: .* has no cipher 'NOPE'$", [""] = "^ciphers: the list is empty$",
      TLS_NOPE = "^ciphersuites: .* has no TLS 1.3 suite 'TLS_NOPE'$",
    } do
      local found, err = tls.ciphers(list)
      assert.is_nil(found)
      assert.equal("config", err.code)
      assert.matches(pattern, err.reason)
    end
    for _, wrong in ipairs { 1, false, {}, { 1 } } do
      local ok, err = pcall(function() local _ = tls.ciphers(wrong) end)
      assert.is_false(ok)
      assert.matches("config_spec.lua:%d+: tls.ciphers: a string or a list of strings expected", err)
    end
  end)
end)

describe("ctx:ciphers", function()
  it("shows what connections can use: within the versions and the security level", function()
    local function of(options) return names_of(helper.server_context(options):ciphers()) end
    local all = of { ciphers = "AES128-SHA:ECDHE-ECDSA-AES128-GCM-SHA256", ciphersuites = SUITES[3] }
    assert.same({ SUITES[3], "AES128-SHA", "ECDHE-ECDSA-AES128-GCM-SHA256" }, all)
    assert.same({ "AES128-SHA" }, of { ciphers = "AES128-SHA", max_version = "1.2" })
    assert.same(SUITES, of { min_version = "1.3" })
    local client = helper.client_context { min_version = "1.3", security_level = 4 }
    assert.same({ SUITES[1], SUITES[2] }, names_of(client:ciphers()))
  end)
end)

-- ---- ciphers ----

describe("ciphers", function()
  it("decide what TLS 1.2 agrees on, and leave TLS 1.3 alone", function()
    local name = "ECDHE-ECDSA-AES256-GCM-SHA384"
    assert.equal(name, agreed(with(ONLY_12, { ciphers = name })))
    assert.equal(name, agreed(ONLY_12, { ciphers = name }))
    assert.equal(SUITES[1], agreed({ ciphers = name }))
    local got = s_client({ ciphers = { "ECDHE-RSA-AES128-SHA", "AES128-SHA" }, certificate = RSA.certificate,
      key = RSA.key }, "-tls1_2")
    assert.matches("Cipher is ECDHE%-RSA%-AES128%-SHA\n", got.out)
    got = s_server({ ciphers = "AES256-SHA256" }, RSA_FILE, "-tls1_2")
    assert.equal("AES256-SHA256", got.cipher)
  end)

  it("without any in common fail, and both sides know why", function()
    no_overlap(with(ONLY_12, { ciphers = "ECDHE-ECDSA-AES256-GCM-SHA384" }),
      { ciphers = "ECDHE-ECDSA-AES128-GCM-SHA256" }, "no shared cipher %(alert sent: handshake_failure%)")
    no_overlap(with(ONLY_12, { ciphers = "ECDHE+aRSA" }), nil, "no shared cipher") -- the certificate is an EC one
    local got = s_client({ ciphers = "AES128-SHA" }, "-tls1_2", "-cipher", "AES256-SHA")
    assert.equal("handshake_failure", got.err.alert.name)
    assert.matches("handshake failure", got.errors)
  end)

  it("of a server are in its own order, unless it leaves that to the client", function()
    local a, b = "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384"
    local client = with(ONLY_12, { ciphers = a .. ":" .. b })
    assert.equal(b, agreed(client, { ciphers = { b, a } }))
    assert.equal(a, agreed(client, { ciphers = { b, a }, options = { "-CIPHER_SERVER_PREFERENCE" } }))
  end)

  it("are tried word by word: an unknown one is refused and named", function()
    refused({ ciphers = "ECDHE+AESGCM:NOPE" }, "ciphers: this OpenSSL (" .. tls.openssl_version ..
      ") has no cipher 'NOPE'")
    refused({ ciphers = { "ECDHE+AESGCM", "ECDHE+NOPE" } }, "has no cipher 'ECDHE+NOPE'")
    refused({ ciphers = "HIGH:+NOPE" }, "has no cipher '+NOPE'")
    refused({ ciphers = "HIGH:RC4-MD5" }, "has no cipher 'RC4-MD5'")
    refused({ ciphers = "HIGH:ecdhe" }, "has no cipher 'ecdhe'")
    refused({ ciphers = "" }, "ciphers: the list is empty")
    refused({ ciphers = ":::" }, "ciphers: the list is empty")
    refused({ ciphers = "AES128-SHA\0NOPE" }, "ciphers: a name has a NUL byte")
    refused({ ciphers = "AES128-SHA:!AES" }, "ciphers: no cipher is left")
    refused({ ciphers = "TLS_AES_128_GCM_SHA256" }, "suites of TLS 1.3 are for ciphersuites")
    raises({ ciphers = { 1 } }, "'ciphers': a string or a list of strings expected")
  end)

  it("may exclude what there is not", function()
    for _, list in ipairs { "HIGH:!EXPORT", "HIGH:-NOPE", "HIGH!LOW!SSLv2", "ALL:!aNULL:!eNULL:!RC4:@STRENGTH" } do
      assert(tls.context { ciphers = list })
    end
  end)

  it("know the words that OpenSSL would take by half", function()
    refused({ ciphers = "DEFAULTX" }, "DEFAULT stands first")
    refused({ ciphers = "ECDHE+AESGCM:DEFAULT" }, "DEFAULT stands first")
    refused({ ciphers = "SUITEB128:ECDHE+AESGCM" }, "Suite B stands by itself")
    refused({ ciphers = "SUITEB128X" }, "Suite B stands by itself")
    refused({ ciphers = "ALL:@NOPE" }, "unknown command '@NOPE'")
    refused({ ciphers = "ALL:@SECLEVEL=9" }, "unknown command '@SECLEVEL=9'")
    assert.equal("ECDHE-ECDSA-AES128-GCM-SHA256", agreed(ONLY_12, { ciphers = "SUITEB128ONLY" }))
    assert(tls.context { ciphers = "DEFAULT:!AES256" })
  end)

  it("offer DHE where a server's list names it", function()
    local function server(ciphers) return { ciphers = ciphers, certificate = RSA.certificate, key = RSA.key } end
    local client = with(ONLY_12, { ciphers = "kDHE" })
    assert.matches("^DHE%-RSA%-", agreed(client, server("DHE+AESGCM")))
    assert.matches("^DHE%-RSA%-", agreed(client, server("HIGH:kEDH")))
    no_overlap(client, server("HIGH"), "no shared cipher")
    no_overlap(client, server("HIGH:!DHE"), "no shared cipher")
  end)

  it("without a certificate are nothing that a context which verifies agrees on", function()
    local anonymous = { ciphers = "AECDH@SECLEVEL=0", max_version = "1.2" }
    assert.matches("^AECDH%-", agreed({ insecure = true, ciphers = "ALL@SECLEVEL=0" }, anonymous))
    no_overlap({ ciphers = "ALL@SECLEVEL=0" }, anonymous, "no shared cipher")
    no_overlap({ conf = { { "CipherString", "ALL@SECLEVEL=0" } } }, anonymous, "no shared cipher")
    -- a server is not to ask such a client for its certificate
    for _, want in ipairs { "optional", "require" } do
      no_overlap({ insecure = true, ciphers = "AECDH@SECLEVEL=0", max_version = "1.2" },
        { verify_client = want, ca = CA, ciphers = "ALL@SECLEVEL=0" }, "no shared cipher")
    end
    assert.matches("no cipher is left", select(2, tls.context { ciphers = "aNULL@SECLEVEL=0" }).reason)
  end)
end)

describe("ciphersuites", function()
  it("decide what TLS 1.3 agrees on, and leave TLS 1.2 alone", function()
    for _, name in ipairs { "TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_CCM_SHA256" } do
      assert.equal(name, agreed({ ciphersuites = name }, { ciphersuites = { SUITES[1], name } }))
      assert.matches("^ECDHE", agreed(ONLY_12, { ciphersuites = name }))
    end
    local got = s_client({ ciphersuites = "TLS_AES_128_CCM_SHA256" }, "-ciphersuites",
      "TLS_AES_256_GCM_SHA384:TLS_AES_128_CCM_SHA256")
    assert.matches("Cipher is TLS_AES_128_CCM_SHA256\n", got.out)
  end)

  it("without any in common fail, and both sides know why", function()
    no_overlap(with(ONLY_13, { ciphersuites = SUITES[1] }), { ciphersuites = SUITES[3] }, "no shared cipher")
  end)

  it("are tried one by one: an unknown one is refused and named", function()
    refused({ ciphersuites = "TLS_AES_128_GCM_SHA256:NOPE" }, "ciphersuites: this OpenSSL (" .. tls.openssl_version ..
      ") has no TLS 1.3 suite 'NOPE'")
    refused({ ciphersuites = { "TLS_AES_128_GCM_SHA256", "ECDHE-RSA-AES128-GCM-SHA256" } },
      "'ECDHE-RSA-AES128-GCM-SHA256'")
    refused({ ciphersuites = "" }, "ciphersuites: the list is empty")
  end)
end)

-- ---- groups and signature algorithms ----

describe("groups", function()
  local CASES = {
    { "X25519", "X25519, 253 bits" }, { "X448", "X448, 448 bits" }, { "P-256", "ECDH, prime256v1, 256 bits" },
    { "secp384r1", "ECDH, secp384r1, 384 bits" }, { "P-521", "ECDH, secp521r1, 521 bits" },
  }

  it("decide the key exchange", function()
    for _, case in ipairs(CASES) do
      local got = s_client({ groups = case[1] })
      assert.is_nil(got.err)
      assert.is_truthy(got.out:find("Server Temp Key: " .. case[2], 1, true), got.out)
    end
    local got = s_client({ groups = "ffdhe2048" })
    assert.is_truthy(got.out:find("Server Temp Key: DH, 2048 bits", 1, true), got.out)
    got = s_client({ groups = { "P-384", "P-256" } }, "-tls1_2", "-groups", "P-256:P-384")
    assert.is_truthy(got.out:find("Server Temp Key: ECDH, secp384r1", 1, true), got.out)
  end)

  it("are what a client offers, in its order", function()
    local got = s_server({ groups = "P-521:X25519" }, EC_FILE)
    assert.matches("Supported groups: secp521r1:x25519\n", got.out)
  end)

  it("without any in common fail, and both sides know why", function()
    no_overlap(with(ONLY_13, { groups = "X25519" }), { groups = "P-384" }, "no suitable key share")
    no_overlap(with(ONLY_12, { groups = "P-521" }), { groups = "P-384" }, "no shared cipher")
    agreed({ groups = "X25519:P-384" }, { groups = "P-384" }) -- by a HelloRetryRequest
  end)

  it("that are unknown are refused and named", function()
    refused({ groups = "X25519:NOPE" }, "groups: this OpenSSL (" .. tls.openssl_version .. ") has no group 'NOPE'")
    refused({ groups = { "P-256", "prime256v1" } }, "groups: a name stands twice")
    refused({ groups = ":" }, "groups: the list is empty")
    if tls.openssl_version:find("^3%.[0-4]%.") then
      refused({ groups = "X25519MLKEM768:X25519" }, "has no group 'X25519MLKEM768'")
    end
  end)

  it("and fragments come with the context that a name chooses", function()
    local function group_under(front, behind)
      front.names = { localhost = helper.server_context(behind) }
      return s_client(front, "-tls1_3").out:match("Server Temp Key: ([^\n]+)")
    end
    assert.equal("X448, 448 bits", group_under({ groups = "X25519" }, { groups = "X448" }))
    assert.equal("X448, 448 bits", group_under({}, { groups = "X448" }))
    assert.equal("X25519, 253 bits", group_under({ groups = "X448" }, {}))
  end)
end)

describe("signature_algorithms", function()
  local function server(options) return with({ certificate = RSA.certificate, key = RSA.key }, options) end

  it("decide what a server signs with", function()
    local got = s_client(server { signature_algorithms = "rsa_pss_rsae_sha512:rsa_pss_rsae_sha256" })
    assert.matches("Peer signing digest: SHA512\n", got.out)
    assert.matches("Peer signature type: RSA%-PSS\n", got.out)
    got = s_client(server { signature_algorithms = { "RSA+SHA384" } }, "-tls1_2")
    assert.matches("Peer signing digest: SHA384\n", got.out)
    assert.matches("Peer signature type: RSA\n", got.out)
  end)

  it("are what a client takes", function()
    local got = s_server({ signature_algorithms = "ECDSA+SHA384:ECDSA+SHA256" }, EC_FILE, "-tls1_2")
    assert.matches("\nSignature Algorithms: ECDSA%+SHA384:ECDSA%+SHA256\n", got.out)
    assert.matches("Shared Signature Algorithms: ECDSA%+SHA384:ECDSA%+SHA256\n", got.out)
  end)

  it("without any in common fail, and both sides know why", function()
    no_overlap(with(ONLY_13, { signature_algorithms = "ed25519" }), nil, "no suitable signature algorithm")
    no_overlap(with(ONLY_12, { signature_algorithms = "RSA+SHA256" }), nil, "no shared cipher")
    agreed({ signature_algorithms = "ed25519:rsa_pss_rsae_sha256" }, { certificate = ED25519.certificate,
      key = ED25519.key })
  end)

  it("that are unknown are refused and named", function()
    for _, name in ipairs { "signature_algorithms", "client_signature_algorithms" } do
      refused({ [name] = "RSA+SHA256:NOPE" }, name .. ": this OpenSSL (" .. tls.openssl_version ..
        ") has no signature algorithm 'NOPE'")
      refused({ [name] = "ECDSA+SHA256:ecdsa_secp256r1_sha256" }, name .. ": a name stands twice")
      refused({ [name] = "" }, name .. ": the list is empty")
    end
    if tls.openssl_version:find("^3%.[0-4]%.") then
      refused({ signature_algorithms = "mldsa65" }, "has no signature algorithm 'mldsa65'")
    end
  end)
end)

describe("client_signature_algorithms", function()
  local both = { verify_client = "require", ca = CA }

  it("are what a server asks of client certificates", function()
    local got = s_client(with(both, { client_signature_algorithms = "rsa_pss_rsae_sha384:ed25519" }),
      "-cert", RSA_FILE)
    assert.is_nil(got.err)
    assert.matches("Requested Signature Algorithms: RSA%-PSS%+SHA384:[eE]d25519\n", got.out)
  end)

  it("and what a client is ready to sign with", function()
    local got = s_server({ certificate = RSA.certificate, key = RSA.key,
      client_signature_algorithms = "rsa_pss_rsae_sha512" }, EC_FILE, "-tls1_3", "-Verify", "1", "-CAfile", CA_FILE)
    assert.is_nil(got.err)
    assert.matches("Peer signing digest: SHA512\n", got.out)
  end)

  it("refuse a certificate for another", function()
    local got = meet({ certificate = RSA.certificate, key = RSA.key },
      with(both, { client_signature_algorithms = "ed25519" }))
    assert.is_false(got.ok)
    assert.equal("certificate_required", got.server_err.alert.name)
    assert.equal("certificate_required", got.client_err.alert.name)
  end)
end)

-- ---- the security level ----

describe("security_level", function()
  local dir = helper.temp_dir()

  -- A certificate with so many bits of RSA and that digest, of helper.ca.
  local function weak(bits, digest)
    local key, request, cert = dir .. "/key", dir .. "/request", dir .. "/cert"
    local ca_key, names = helper.temp_file(helper.ca.key), helper.temp_file("subjectAltName=DNS:localhost\n")
    local status, _, err = helper.run { "openssl", "req", "-new", "-newkey", "rsa:" .. bits, "-nodes", "-subj",
      "/CN=weak", "-keyout", key, "-out", request }
    assert.equal(0, status, err)
    status, _, err = helper.run { "openssl", "x509", "-req", "-in", request, "-CA", CA_FILE, "-CAkey", ca_key,
      "-" .. digest, "-days", "2", "-set_serial", "7", "-extfile", names, "-out", cert }
    assert.equal(0, status, err)
    return { certificate = helper.read_file(cert), key = helper.read_file(key) }
  end

  local SHORT, SHA1 = weak(1024, "sha256"), weak(2048, "sha1")

  it("refuses a weak certificate of its own", function()
    local own = with(SHORT, { role = "server" })
    assert.matches("^certificate: .*ee key too small", refused(own, "certificate: "))
    refused(with(own, { security_level = 2 }), "ee key too small")
    refused(with(own, { ciphers = "DEFAULT@SECLEVEL=3" }), "ee key too small")
    assert(tls.context(with(own, { security_level = 1 })))
    assert(tls.context(with(own, { ciphers = "DEFAULT@SECLEVEL=1" })))
    assert(tls.context(with(own, { conf = { { "CipherString", "DEFAULT@SECLEVEL=1" } } })))
    -- what is said outright counts
    refused(with(own, { ciphers = "DEFAULT@SECLEVEL=1", security_level = 2 }), "ee key too small")
    refused(with(SHA1, { role = "server" }), "ca md too weak")
  end)

  it("refuses a weak certificate of the peer", function()
    for short, code in pairs { [SHORT] = 66, [SHA1] = 68 } do
      local server = with(short, { security_level = 0 })
      local got = meet(nil, server)
      assert.is_false(got.ok)
      assert.equal("verify", got.client_err.code)
      assert.equal(code, got.client_err.verify.code)
      assert.equal(0, got.client_err.verify.depth)
      assert.equal("CN=weak", got.client_err.verify.subject)
      agreed({ security_level = 0 }, server)
      agreed({ ciphers = "DEFAULT@SECLEVEL=0" }, server)
    end
  end)

  it("refuses what is weak otherwise", function()
    local client, server = with(ONLY_12, { ciphers = "AES128-SHA" }), { certificate = RSA.certificate, key = RSA.key }
    assert.equal("AES128-SHA", agreed(client, server))
    local err = meet(with(client, { security_level = 3 }), server).client_err -- there is no forward secrecy in it
    assert.equal("tls", err.code)
    assert.matches("no ciphers available", err.reason)
  end)

  it("is a number from 0 to 5", function()
    for _, wrong in ipairs { -1, 6, 99 } do
      refused({ security_level = wrong }, "security_level: must be from 0 to 5")
    end
    for level = 0, 5 do assert(tls.context { insecure = true, security_level = level }) end
    raises({ security_level = "2" }, "'security_level': an integer expected")
    raises({ security_level = 1.5 }, "'security_level': an integer expected")
  end)

  it("keeps sessions of one level from another, as all that verification depends on", function()
    local settings = require "cotls.settings"
    local seen = {}
    for _, options in ipairs { {}, { security_level = 1 }, { ciphers = "ALL@SECLEVEL=0" }, { security_level = 2 },
      { conf = { { "CipherString", "ALL@SECLEVEL=0" } } }, { signature_algorithms = "RSA+SHA256" },
      { client_signature_algorithms = "RSA+SHA256" } } do
      local scope = assert(settings.context(options)).session_scope
      assert.is_nil(seen[scope])
      seen[scope] = true
    end
    assert.is_true(seen[settings.context({ groups = "X25519" }).session_scope])
  end)
end)

-- ---- options ----

describe("options", function()
  it("are set, and with a minus cleared", function()
    assert.equal("TLSv1.2", select(2, agreed(nil, { options = { "NO_TLSv1_3" } })))
    assert.equal("TLSv1.2", select(2, agreed({ options = { "NO_TLSv1_3" } })))
    assert.equal("TLSv1.3", select(2, agreed({ options = { "NO_TLSv1_3", "-NO_TLSv1_3" } })))
    assert.equal("TLSv1.2", select(2, agreed({ options = { "no_tlsv1_3" } }))) -- in any case
    local got = s_client({ options = { "NO_TICKET" } }, "-tls1_2")
    assert.is_nil(got.out:find("TLS session ticket:", 1, true))
    got = s_client({}, "-tls1_2")
    assert.is_truthy(got.out:find("TLS session ticket:", 1, true), got.out)
  end)

  it("leave the extended master secret out", function()
    local got = s_client({}, "-tls1_2")
    assert.matches("Extended master secret: yes", got.out)
    got = s_client({ options = { "NO_EXTENDED_MASTER_SECRET" } }, "-tls1_2")
    assert.matches("Extended master secret: no", got.out)
  end)

  it("prefer ChaCha20 for a client that does", function()
    local client = { ciphersuites = { SUITES[2], SUITES[1] } }
    assert.equal(SUITES[1], agreed(client))
    assert.equal(SUITES[2], agreed(client, { options = { "PRIORITIZE_CHACHA" } }))
  end)

  it("take a cut for an end where IGNORE_UNEXPECTED_EOF is written out, and only there", function()
    local function cut(options)
      local client, server, _, relay = helper.handshaken("a relay of 17000 bytes", nil, nil,
        { client = helper.client_context(options), server = helper.contexts().server })
      helper.together({ function() assert(server:write("x")) end, function() assert(client:read(1)) end },
        function() relay:pump() end)
      relay:close()
      local data, err = client:read(1)
      client:close()
      server:close()
      return data, err and err.code
    end
    assert.same({ nil, "truncated" }, { cut() })
    assert.same({}, { cut { options = { "IGNORE_UNEXPECTED_EOF" } } })
  end)

  it("that there are none of are refused and named", function()
    refused({ options = { "NO_TICKET", "NOPE" } }, "options: this OpenSSL (" .. tls.openssl_version ..
      ") has no option 'NOPE'")
    refused({ options = { "-NOPE" } }, "has no option 'NOPE'")
    refused({ options = { "SSL_OP_NO_TICKET" } }, "has no option 'SSL_OP_NO_TICKET'")
    refused({ options = { "NO_TICKET\0" } }, "options: a name has a NUL byte")
    refused({ options = { "" } }, "has no option ''")
    if tls.openssl_version:find("^3%.[01]%.") then
      refused({ options = { "NO_TX_CERTIFICATE_COMPRESSION" } }, "has no option 'NO_TX_CERTIFICATE_COMPRESSION'")
      refused({ options = { "PREFER_NO_DHE_KEX" } }, "has no option 'PREFER_NO_DHE_KEX'")
    end
    raises({ options = "NO_TICKET" }, "'options': a list of strings expected")
  end)

  it("that have one of their own here are refused", function()
    refused({ options = { "ALLOW_CLIENT_RENEGOTIATION" } },
      "options: ALLOW_CLIENT_RENEGOTIATION: use the option renegotiation")
    refused({ options = { "-NO_RENEGOTIATION" } }, "options: -NO_RENEGOTIATION: use the option renegotiation")
    refused({ options = { "NO_ANTI_REPLAY" } }, "use the option anti_replay")
    refused({ options = { "ENABLE_KTLS" } }, "not the kernel")
    refused({ options = { "COOKIE_EXCHANGE" } }, "is for DTLS")
    assert(tls.context { options = { "NO_RENEGOTIATION", "-NO_ANTI_REPLAY", "-ALLOW_CLIENT_RENEGOTIATION" } })
  end)
end)

-- ---- conf ----

describe("conf", function()
  it("gives OpenSSL its commands", function()
    local cipher, version = agreed(nil, { conf = {
      { "MaxProtocol", "TLSv1.2" }, { "cipherstring", "ECDHE-ECDSA-AES128-SHA" }, { "Options", "ServerPreference" },
    } })
    assert.equal("ECDHE-ECDSA-AES128-SHA", cipher)
    assert.equal("TLSv1.2", version)
    assert.equal(SUITES[3], agreed({ conf = { { "Ciphersuites", SUITES[3] } } }))
    local got = s_client({ conf = { { "Groups", "X448" } } })
    assert.matches("Server Temp Key: X448", got.out)
    got = s_client({ conf = { { "SignatureAlgorithms", "RSA-PSS+SHA512" } }, certificate = RSA.certificate,
      key = RSA.key })
    assert.matches("Peer signing digest: SHA512", got.out)
    got = s_client({ conf = { { "Options", "-SessionTicket" } } }, "-tls1_2")
    assert.is_nil(got.out:find("TLS session ticket:", 1, true))
  end)

  it("counts after the options before it", function()
    assert.equal("TLSv1.2", select(2, agreed({ max_version = "1.3", conf = { { "MaxProtocol", "TLSv1.2" } } })))
  end)

  it("sets parameters for DHE", function()
    local path = helper.temp_dir() .. "/dh"
    local status, _, err = helper.run { "openssl", "genpkey", "-genparam", "-algorithm", "DH", "-pkeyopt",
      "group:ffdhe3072", "-out", path }
    assert.equal(0, status, err)
    local got = s_client({ certificate = RSA.certificate, key = RSA.key, ciphers = "DHE+AESGCM",
      conf = { { "DHParameters", path } } }, "-tls1_2", "-cipher", "DHE")
    assert.matches("Server Temp Key: DH, 3072 bits", got.out)
    refused({ role = "server", certificate = RSA.certificate, key = RSA.key,
      conf = { { "DHParameters", path .. ".no" } } },
      "conf: DHParameters = " .. path .. ".no: OpenSSL refuses the value")
  end)

  it("refuses what OpenSSL does, with the pair's name", function()
    refused({ conf = { { "Nope", "x" } } }, "conf: Nope = x: this OpenSSL has no such command")
    refused({ conf = { { "Options", "Nope" } } }, "conf: Options = Nope: OpenSSL refuses the value")
    refused({ conf = { { "MinProtocol", "TLSv9" } } }, "conf: MinProtocol = TLSv9: OpenSSL refuses the value")
    refused({ conf = { { "MinProtocol", "TLSv1.3" } }, max_version = "1.2" },
      "MinProtocol = TLSv1.3: leaves no version")
    refused({ conf = { { "CipherString", "HIGH:NOPE" } } }, "conf: CipherString: this OpenSSL")
    refused({ conf = { { "Ciphersuites", SUITES[1] .. ":NOPE" } } }, "has no TLS 1.3 suite 'NOPE'")
    refused({ conf = { { "Curves", "NOPE" } } }, "conf: Curves: this OpenSSL (" .. tls.openssl_version)
    refused({ conf = { { "Groups", "X25519" }, { "SignatureAlgorithms", "" } } },
      "conf: SignatureAlgorithms: the list is empty")
    refused({ conf = { { "Groups\0", "X25519" } } }, "conf: a NUL byte in Groups")
    refused({ conf = { { "no_ticket", "" } } }, "conf: no_ticket = : this OpenSSL has no such command")
    for _, wrong in ipairs { {}, "x", { "Groups" }, { { "Groups" } }, { { "Groups", 1 } }, { { "a", "b", "c" } } } do
      raises({ conf = wrong }, "'conf': a list of { name, value } expected")
    end
  end)

  it("refuses what the other side is to be told", function()
    refused({ conf = { { "NumTickets", "1" } } }, "conf: NumTickets = 1: is for servers")
    refused({ conf = { { "Options", "ServerPreference" } } }, "conf: Options = ServerPreference: OpenSSL refuses")
  end)

  local SERVER = { role = "server", certificate = RSA.certificate, key = RSA.key }

  it("doesn't change who is verified", function()
    local why = "changes who is verified: use the options insecure and verify_client"
    for _, options in ipairs { { ca = CA }, { insecure = true } } do
      refused(with(options, { conf = { { "VerifyMode", "-Peer" } } }), "conf: VerifyMode = -Peer: " .. why)
    end
    for _, value in ipairs { "Request", "Require", "Once", "RequirePostHandshake" } do
      refused(with(SERVER, { conf = { { "VerifyMode", value } } }), "conf: VerifyMode = " .. value .. ": " .. why)
    end
    assert.equal("verify", meet({ ca = helper.other_ca.certificate, conf = { { "VerifyMode", "Peer" } } })
      .client_err.code)
    local got = meet(nil, { verify_client = "require", ca = CA, conf = { { "VerifyMode", "-Request" } } })
    assert.equal("certificate_required", got.client_err.alert.name)
  end)

  it("loads no certificate, no key and no CA, so it asks nobody for a password", function()
    for _, name in ipairs { "Certificate", "PrivateKey", "VerifyCAFile", "VerifyCAPath", "VerifyCAStore", "ChainCAFile",
      "ChainCAPath", "ChainCAStore", "RequestCAFile", "RequestCAPath", "RequestCAStore", "ClientCAFile",
      "ClientCAPath", "ClientCAStore", "certificate" } do
      refused(with(SERVER, { conf = { { name, RSA_FILE } } }),
        ("conf: %s = %s: use the options certificate, key, ca and those of verification"):format(name, RSA_FILE))
    end
  end)

  it("doesn't do by another name what has an option of its own", function()
    refused({ conf = { { "Options", "ClientRenegotiation" } } }, "use the option renegotiation")
    refused({ conf = { { "Options", "-NoRenegotiation" } } }, "use the option renegotiation")
    refused({ conf = { { "Options", "Bugs,-AntiReplay" } } }, "use the option anti_replay")
    refused({ conf = { { "Options", "KTLS" } } }, "not the kernel")
    assert(tls.context { conf = { { "Options", "NoRenegotiation,AntiReplay,Bugs" } } })
  end)
end)

-- ---- the context that a server name chooses ----

describe("under a server name", function()
  local function front(options, behind)
    return with(options, { names = { localhost = helper.server_context(behind) } })
  end

  it("the ciphers and suites of its context count", function()
    local a, b = "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384"
    assert.equal(a, agreed(ONLY_12, front({ ciphers = b }, { ciphers = a })))
    assert.equal(a, agreed(ONLY_12, front({}, { ciphers = a })))
    assert.equal(SUITES[3], agreed(nil, front({ ciphersuites = SUITES[2] }, { ciphersuites = SUITES[3] })))
    no_overlap(with(ONLY_12, { ciphers = b }), front({ ciphers = b }, { ciphers = a }), "no shared cipher")
    no_overlap({ ciphersuites = SUITES[2] }, front({ ciphersuites = SUITES[2] }, { ciphersuites = SUITES[3] }),
      "no shared cipher")
  end)

  it("whose order counts is its context's to say", function()
    local a, b = "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384"
    local client = with(ONLY_12, { ciphers = a .. ":" .. b })
    local own, theirs = { ciphers = { b, a } }, { ciphers = { b, a }, options = { "-CIPHER_SERVER_PREFERENCE" } }
    assert.equal(b, agreed(client, front(theirs, own)))
    assert.equal(a, agreed(client, front(own, theirs)))
  end)

  it("its context signs with its own algorithms, and judges clients by its own level", function()
    local own = { certificate = RSA.certificate, key = RSA.key, signature_algorithms = "rsa_pss_rsae_sha512" }
    local got = s_client(front({ signature_algorithms = "ECDSA+SHA256" }, own))
    assert.matches("Peer signing digest: SHA512\n", got.out)
    local high = { verify_client = "require", ca = CA, security_level = 3 }
    local low = with(high, { security_level = 2 })
    local client = { certificate = RSA.certificate, key = RSA.key } -- 2048 bits
    agreed(client, front(high, low))
    got = meet(client, front(low, high))
    assert.equal("verify", got.server_err.code)
    assert.equal(66, got.server_err.verify.code)
  end)
end)

-- ---- fragments ----

describe("max_send_fragment", function()
  -- The lengths of the records of application data that come to a descriptor, until so many bytes are there.
  local function lengths(fd, count)
    local data, sum, list = "", 0, {}
    helper.until_true(function()
      data = data .. (helper.read_fd(fd) or "")
      while #data >= 5 do
        local kind, _, n = bytes.unpack(">BI2I2", data)
        if #data < 5 + n then return false end
        assert.equal(23, kind)
        list[#list + 1] = n
        sum = sum + n
        data = data:sub(6 + n)
      end
      return sum >= count
    end, "the records")
    return list
  end

  local function written(client_options, server_options, count)
    local client, server = helper.handshaken(nil, nil, nil,
      { client = helper.client_context(client_options), server = helper.server_context(server_options) })
    helper.together { function() assert(client:write(("x"):rep(count))) end }
    local list = lengths(server:fileno(), count)
    client:close()
    server:close()
    return list
  end

  -- what encryption adds: TLS 1.3 a type and a tag, TLS 1.2 with GCM a nonce and a tag
  local ADDED = { ["1.2"] = 24, ["1.3"] = 17 }

  it("bounds the records that are sent", function()
    for version, added in pairs(ADDED) do
      for _, n in ipairs { 512, 1000, 16384 } do
        local list = written({ max_send_fragment = n, max_version = version }, nil, 40000)
        assert.equal(n + added, math.max(compat.unpack(list)))
        assert.is_true(#list >= math.ceil(40000 / n))
      end
      assert.equal(16384 + added, math.max(compat.unpack(written({ max_version = version }, nil, 40000))))
    end
  end)

  it("is not what pads them: conf does that", function()
    assert.same({ 512 + 16 }, written({ conf = { { "RecordPadding", "512" } } }, nil, 1))
    assert.same({ 1 + 17 }, written(nil, nil, 1))
  end)

  it("carries everything, also where buffers are small", function()
    local text = helper.noise(100000)
    local client, server, pump = helper.handshaken("a relay of 512 bytes, small buffers", nil, nil,
      { client = helper.client_context { max_send_fragment = 512 },
        server = helper.server_context { max_send_fragment = 700 } })
    local got = helper.together({
      function()
        assert(client:write(text))
        return client:read(#text)
      end,
      function()
        local data = assert(server:read(#text))
        assert(server:write(data))
        return data
      end,
    }, pump)
    assert.is_true(got[1][1] == text and got[2][1] == text)
    client:close()
    server:close()
  end)

  it("comes with the context that a name chooses", function()
    local function longest(front, behind)
      front.names = { localhost = helper.server_context(behind) }
      local client, server = helper.handshaken(nil, nil, nil,
        { client = helper.client_context { max_version = "1.2" }, server = helper.server_context(front) })
      helper.together { function() assert(server:write(("x"):rep(20000))) end }
      local list = lengths(client:fileno(), 20000)
      client:close()
      server:close()
      return math.max(compat.unpack(list)) - ADDED["1.2"]
    end
    assert.equal(600, longest({}, { max_send_fragment = 600 }))
    assert.equal(600, longest({ max_send_fragment = 900 }, { max_send_fragment = 600 }))
    assert.equal(16384, longest({ max_send_fragment = 900 }, {}))
  end)

  it("is a number from 512 to 16384", function()
    for _, wrong in ipairs { 0, 511, 16385 } do
      refused({ max_send_fragment = wrong }, "max_send_fragment: must be from 512 to 16384")
    end
    raises({ max_send_fragment = 1000.5 }, "'max_send_fragment': an integer expected")
  end)
end)

-- ---- the range of versions ----

describe("min_version and max_version", function()
  it("hold against clients of one version", function()
    for _, case in ipairs {
      { nil, nil, true, true }, { "1.3", nil, false, true }, { nil, "1.2", true, false }, { "1.2", "1.2", true, false },
    } do
      local options = { min_version = case[1], max_version = case[2] }
      for i, flag in ipairs { "-tls1_2", "-tls1_3" } do
        local got = s_client(options, flag)
        local want = case[i + 2]
        assert.equal(want, got.err == nil, flag .. ": " .. tostring(got.err))
        if want then
          assert.equal(i == 1 and "TLSv1.2" or "TLSv1.3", got.version)
        else
          assert.equal("protocol_version", got.err.alert.name)
          assert.matches("protocol version", got.errors)
        end
      end
    end
  end)

  it("hold against servers of one version", function()
    assert.equal("TLSv1.2", s_server({}, EC_FILE, "-tls1_2").version)
    assert.equal("TLSv1.3", s_server({}, EC_FILE, "-tls1_3").version)
    assert.equal("protocol_version", s_server({ min_version = "1.3" }, EC_FILE, "-tls1_2").err.alert.name)
    assert.equal("protocol_version", s_server({ max_version = "1.2" }, EC_FILE, "-tls1_3").err.alert.name)
  end)

  it("below 1.2 need the words for it", function()
    local old = { "-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0" }
    assert.equal("protocol_version", s_client({}, compat.unpack(old)).err.alert.name)
    local got = s_client({ min_version = "1.1", security_level = 0 }, compat.unpack(old))
    assert.is_nil(got.err)
    assert.equal("TLSv1.1", got.version)
  end)
end)
