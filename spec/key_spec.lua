local compat = require "cotls.compat"
local bytes = require "spec.bytes"
local tls = require "cotls"
local helper = require "spec.helper"

local openssl, refused = helper.openssl, helper.assert_refused

local LEAF = helper.server_leaf
local DER = openssl({ "x509", "-outform", "DER" }, LEAF.certificate)
local KEY_DER = openssl({ "pkey", "-outform", "DER" }, LEAF.key)
local PASS = { "-passout", "pass:open sesame" }
local ENCRYPTED = openssl({ "pkcs8", "-topk8", "-v2", "aes-256-cbc", compat.unpack(PASS) }, LEAF.key)
local ENCRYPTED_DER = openssl({ "pkcs8", "-topk8", "-v2", "aes-256-cbc", "-iter", "1", "-outform", "DER",
  compat.unpack(PASS) }, LEAF.key)
local TRADITIONAL = openssl({ "ec", "-aes256", compat.unpack(PASS) }, LEAF.key)

local function with(key, password, certificate)
  local context, err = tls.context { role = "server", certificate = certificate or LEAF.certificate, key = key,
    password = password }
  return context, err
end

-- A handshake with that server, which is to have that certificate.
local function serves(context, certificate)
  local client = helper.client_context { ca = { helper.ca.certificate, certificate or LEAF.certificate } }
  local a, b = helper.handshaken(nil, nil, nil, { client = client, server = context })
  local pem = a:peer_certificate():pem()
  a:close()
  b:close()
  assert.equal(certificate or LEAF.certificate, pem)
end

-- A certificate of that key, for localhost, signed by itself.
local function certify(key)
  return openssl { "req", "-x509", "-new", "-key", helper.temp_file(key), "-subj", "/CN=localhost", "-days", "2",
    "-addext", "subjectAltName=DNS:localhost" }
end

-- One made in the process takes long under valgrind.
local RSA = { key = openssl { "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048" } }
RSA.certificate = certify(RSA.key)

describe("a key", function()
  for name, wish in pairs {
    ["RSA"] = { "RSA", "rsa_keygen_bits:2048" }, ["RSA-PSS"] = { "RSA-PSS", "rsa_keygen_bits:2048" },
    ["P-256"] = { "EC", "ec_paramgen_curve:P-256" }, ["P-384"] = { "EC", "ec_paramgen_curve:P-384" },
    ["P-521"] = { "EC", "ec_paramgen_curve:P-521" }, ["Ed25519"] = { "ED25519" }, ["Ed448"] = { "ED448" },
  } do
    it("of type " .. name .. " serves, in PEM and DER, encrypted or not", function()
      local argv = { "genpkey", "-algorithm", wish[1] }
      if wish[2] then compat.move({ "-pkeyopt", wish[2] }, 1, 2, #argv + 1, argv) end
      local key = openssl(argv)
      local certificate = certify(key)
      serves(assert(with(key, nil, certificate)), certificate)
      assert(with(openssl({ "pkey", "-outform", "DER" }, key), nil, certificate))
      for _, form in ipairs { "PEM", "DER" } do
        local locked = openssl({ "pkcs8", "-topk8", "-outform", form, "-iter", "1", compat.unpack(PASS) }, key)
        assert(with({ data = locked }, "open sesame", certificate))
        refused("key", { "the data", "no password" }, with({ data = locked }, nil, certificate))
      end
    end)
  end

  it("in the older forms: PKCS#1 and SEC1, in PEM and DER", function()
    local pkcs1 = openssl({ "rsa", "-traditional" }, RSA.key)
    assert.matches("BEGIN RSA PRIVATE KEY", pkcs1)
    serves(assert(with(pkcs1, nil, RSA.certificate)), RSA.certificate)
    assert(with(openssl({ "rsa", "-traditional", "-outform", "DER" }, RSA.key), nil, RSA.certificate))
    assert(with(openssl({ "rsa", "-traditional", "-aes128", compat.unpack(PASS) }, RSA.key), "open sesame",
      RSA.certificate))
    local sec1 = openssl({ "ec" }, LEAF.key)
    assert.matches("BEGIN EC PRIVATE KEY", sec1)
    serves(assert(with(sec1)))
    assert(with(openssl({ "ec", "-outform", "DER" }, LEAF.key)))
    assert(with(openssl { "ecparam", "-name", "prime256v1" } .. sec1)) -- as openssl ecparam -genkey writes it
  end)

  it("that is none is told what it is", function()
    local public = openssl({ "pkey", "-pubout" }, LEAF.key)
    local public_der = openssl({ "pkey", "-pubout", "-outform", "DER" }, LEAF.key)
    local parameters = openssl { "ecparam", "-name", "prime256v1" }
    for _, case in ipairs {
      { public, "a public key, not a private one" },
      { openssl({ "rsa", "-RSAPublicKey_out" }, RSA.key), "a public key" },
      { public_der, "a public key, not a private one" },
      { parameters, "parameters only" },
      { DER, "a certificate, not a private key" },
      { LEAF.certificate, "no private key in it" },
    } do
      local path = helper.temp_file(case[1])
      refused("key", { path, case[2] }, with(path))
      refused("key", { path, case[2] }, with(path, "a password"))
    end
  end)

  it("that isn't the certificate's is refused in every form", function()
    local other = helper.leaf()
    local der = openssl({ "pkey", "-outform", "DER" }, other.key)
    local locked = openssl({ "pkcs8", "-topk8", compat.unpack(PASS) }, other.key)
    for _, key in ipairs { other.key, der, locked } do
      refused("key", { "does not match the certificate" }, with(key, "open sesame"))
    end
    refused("key", { "does not match" }, with(RSA.key))
    refused("key", { "does not match" }, with(openssl { "genpkey", "-algorithm", "ED25519" }))
    refused("key", { "does not match the first certificate but number 3" },
      with(LEAF.key, nil, { other.certificate, helper.ca.certificate .. LEAF.certificate }))
  end)
end)

describe("input that is damaged is refused, whatever byte it ends or differs at:", function()
  -- refused with the option's name, or taken; nothing else
  local function bear(part, data, options)
    options.role = "server"
    options[part] = { data = data }
    local context, err = tls.context(options)
    if not context and part == "certificate" and err.reason:find "^key" then part = "key" end
    if not context then refused(part, {}, context, err) end
    return context
  end

  local step = helper.slow > 10 and 13 or 1 -- under valgrind

  local function each(part, data, options)
    for i = 0, #data - 1, part == "key" and 1 or step do assert.is_nil(bear(part, data:sub(1, i), options)) end
    assert(bear(part, data, options))
    for i = 1, #data, step do
      bear(part, bytes.flip(data, i, 2 ^ (i % 8)), options)
    end
  end

  it("a key", function()
    each("key", KEY_DER, { certificate = LEAF.certificate })
    each("key", openssl({ "ec", "-outform", "DER" }, LEAF.key), { certificate = LEAF.certificate })
  end)

  it("an encrypted key", function()
    for i = 0, #ENCRYPTED_DER - 1, step do
      bear("key", ENCRYPTED_DER:sub(1, i), { certificate = LEAF.certificate, password = "open sesame" })
    end
  end)

  it("a certificate", function()
    each("certificate", DER, { key = LEAF.key })
  end)

  it("what is empty, garbage, long, or lies about its length", function()
    local many = {}
    for i = 0, 255 do many[#many + 1] = string.char(i):rep(100) end
    for _, data in ipairs { "", "\0", ("\0"):rep(100000), ("x"):rep(1000000), "\48\128\0\0", "\48\132\255\255\255\255",
      "\48\136" .. ("\255"):rep(8), KEY_DER:rep(1000):sub(math.floor(#KEY_DER / 2)), "-----BEGIN PRIVATE KEY-----",
      "-----BEGIN PRIVATE KEY-----\n" .. ("A"):rep(1000000) .. "\n-----END PRIVATE KEY-----\n", table.concat(many),
      ("\48\128"):rep(50000) } do
      for _, part in ipairs { "key", "certificate", "pkcs12" } do
        local options = part == "key" and { certificate = LEAF.certificate } or {}
        if part == "certificate" then options.key = LEAF.key end
        assert.is_nil(bear(part, data, options))
      end
    end
  end)

  it("what comes twice is taken once", function()
    serves(assert(with(LEAF.key .. LEAF.key)))
    serves(assert(with(LEAF.key, nil, LEAF.certificate .. LEAF.certificate)))
  end)
end)

describe("an encrypted key", function()
  local forms = { PEM = ENCRYPTED, DER = ENCRYPTED_DER, ["traditional PEM"] = TRADITIONAL }

  for name, key in pairs(forms) do
    it("in " .. name .. " opens with its password, as a string or from a function", function()
      serves(assert(with(key, "open sesame")))
      local asked = {}
      local path = helper.temp_file(key)
      assert(with(path, function(...)
        asked[#asked + 1] = compat.pack(...)
        return "open sesame"
      end))
      assert.equal(1, #asked)
      assert.equal(path, asked[1][1])
    end)

    it("in " .. name .. " is refused without or with a wrong one, and never prompts", function()
      local path = helper.temp_file(key)
      refused("key", { path, "no password" }, with(path))
      refused("key", { path, "no password" }, with(path, function() return nil end))
      for _, wrong in ipairs { "", "open", "open sesame ", ("x"):rep(5000) } do
        refused("key", { path, "wrong password" }, with(path, wrong))
        refused("key", { path, "wrong password" }, with(path, function() return wrong end))
      end
      refused("key", { path, "NUL" }, with(path, "open\0sesame"))
    end)
  end

  it("a password function that gives no string is refused, one that fails is heard", function()
    for _, value in ipairs { 1, true, {} } do
      refused("key", { "password gave no string" }, with(ENCRYPTED, function() return value end))
    end
    local mine = {}
    local ok, err = pcall(with, ENCRYPTED, function() error(mine) end)
    assert.is_false(ok)
    assert.equal(mine, err)
  end)

  it("a password function may yield", function()
    local co = coroutine.create(function()
      return with(ENCRYPTED, function() return coroutine.yield("asking") end)
    end)
    assert.same({ true, "asking" }, { coroutine.resume(co) })
    local ok, context = coroutine.resume(co, "open sesame")
    assert.is_true(ok)
    assert.matches("cotls.context", tostring(context))
  end)

  it("of an algorithm that OpenSSL 3 has put aside is told so", function()
    local legacy = { "-provider", "legacy", "-provider", "default" }
    local rc2 = openssl({ "pkcs8", "-topk8", "-v1", "PBE-SHA1-RC2-40", legacy[1], legacy[2], legacy[3], legacy[4],
      compat.unpack(PASS) }, LEAF.key)
    refused("key", { "the PEM text", "RC2-40-CBC", "legacy provider" }, with(rc2, "open sesame"))
    refused("key", { "no password" }, with(rc2))
    local des = openssl({ "ec", "-des", legacy[1], legacy[2], legacy[3], legacy[4], compat.unpack(PASS) }, LEAF.key)
    refused("key", { "the PEM text", "DES-CBC", "legacy provider" }, with(des, "open sesame"))
  end)

  it("asks once, and only for what is encrypted, whatever the form", function()
    local asked = 0
    local function ask(name)
      assert.equal("the data", name)
      asked = asked + 1
      return "open sesame"
    end
    for _, key in pairs(forms) do assert(with({ data = key }, ask)) end
    assert.equal(3, asked)
    for _, key in ipairs { LEAF.key, KEY_DER } do assert(with({ data = key }, ask)) end
    refused("key", {}, with({ data = "junk" }, ask))
    refused("key", {}, with({ data = DER }, ask))
    assert.equal(3, asked)
  end)

  it("a key that is not encrypted needs no password, whatever is given", function()
    assert(with(LEAF.key, "whatever"))
    assert(with(LEAF.key, function() error("not asked") end))
  end)

  it("without a password: a process with a terminal isn't asked on it", function()
    local program = helper.temp_file [[
      local tls = require "cotls"
      local context, err = tls.context { role = "server", certificate = arg[1], key = arg[2] }
      print("said", context, tostring(err))
    ]]
    local cert, key = helper.temp_file(LEAF.certificate), helper.temp_file(ENCRYPTED)
    local command = ("'%s' '%s' '%s' '%s'"):format(helper.lua, program, cert, key)
    local runs = { { "sh", "-c", command .. " </dev/null" }, { "setsid", "sh", "-c", command } }
    if os.execute("script -qec true /dev/null >/dev/null 2>&1 </dev/null") then
      runs[#runs + 1] = { "script", "-qec", command, "/dev/null" } -- under a terminal of its own
    end
    for _, argv in ipairs(runs) do
      local status, out = helper.run(argv, "open sesame\n", { seconds = 20 })
      assert.equal(0, status, out)
      assert.matches("said\tnil\t[^\n]*no password", out)
      assert.is_nil(out:find("pass phrase", 1, true))
    end
  end)
end)
