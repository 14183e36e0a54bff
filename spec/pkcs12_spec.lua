local compat = require "cotls.compat"
local bytes = require "spec.bytes"
local tls = require "cotls"
local helper = require "spec.helper"

local openssl, refused = helper.openssl, helper.assert_refused

local MIDDLE = assert(tls.make_certificate { subject = "CN=Middle", is_ca = true, ca = helper.ca })
local LOWER = assert(tls.make_certificate { subject = "CN=Lower", is_ca = true, ca = MIDDLE })
local LEAF = helper.leaf { ca = LOWER }
local LEAF_FILE, KEY_FILE = helper.temp_file(LEAF.certificate), helper.temp_file(LEAF.key)

-- A file of that leaf with the password "open sesame", unless the options say otherwise.
local function export(...)
  local argv = { "pkcs12", "-export", "-in", LEAF_FILE, "-inkey", KEY_FILE, "-passout", "pass:open sesame",
    "-iter", "1", ... }
  return openssl(argv)
end

-- Signed by itself. One made in the process takes long under valgrind.
local RSA = { key = openssl { "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048" } }
RSA.certificate = openssl { "req", "-x509", "-new", "-key", helper.temp_file(RSA.key), "-subj", "/CN=localhost" }

local CHAIN = helper.temp_file(helper.ca.certificate .. MIDDLE.certificate .. LOWER.certificate) -- the wrong way round
local PLAIN = export()
local WITH_CHAIN = export("-certfile", CHAIN)

local function with(data, password)
  local context, err = tls.context { role = "server", pkcs12 = { data = data }, password = password }
  return context, err
end

describe("pkcs12", function()
  it("gives key, leaf and chain, each issuer behind its own", function()
    local sent, verdict = helper.visit(assert(with(WITH_CHAIN, "open sesame")))
    assert.same({ LEAF.certificate, LOWER.certificate, MIDDLE.certificate, helper.ca.certificate }, sent)
    assert.equal(0, verdict)
  end)

  it("without a chain sends the leaf alone", function()
    local sent, verdict = helper.visit(assert(with(PLAIN, "open sesame")))
    assert.same({ LEAF.certificate }, sent)
    assert.equal(21, verdict) -- unable to verify the first certificate
  end)

  it("is taken in every form of a file", function()
    local path = helper.temp_file(WITH_CHAIN)
    for _, form in ipairs { WITH_CHAIN, path, { file = path }, { data = WITH_CHAIN } } do
      assert(tls.context { role = "server", pkcs12 = form, password = "open sesame" })
    end
  end)

  it("serves a client, too, and stands in credentials", function()
    local server = assert(tls.context { role = "server", verify_client = "require", ca = helper.ca.certificate,
      credentials = { RSA, { pkcs12 = WITH_CHAIN, password = "open sesame" } } })
    local client = assert(tls.context { ca = helper.ca.certificate, pkcs12 = WITH_CHAIN, password = "open sesame" })
    local a, b = helper.handshaken(nil, nil, nil, { client = client, server = server })
    assert.equal(LEAF.certificate, a:peer_certificate():pem())
    assert.equal(LEAF.certificate, b:peer_certificate():pem())
    a:close()
    b:close()
  end)

  it("of each type of key", function()
    for _, leaf in ipairs { RSA, helper.leaf { key_type = "ed25519" } } do
      local data = openssl({ "pkcs12", "-export", "-passout", "pass:x" }, leaf.key .. leaf.certificate)
      assert.same({ leaf.certificate }, (helper.visit(assert(with(data, "x")))))
    end
  end)
end)

describe("the password of pkcs12", function()
  it("is a string, or comes from a function that is asked once, with the file's name", function()
    local path, asked = helper.temp_file(WITH_CHAIN), {}
    assert(tls.context { role = "server", pkcs12 = path, password = function(...)
      asked[#asked + 1] = compat.pack(...)
      return "open sesame"
    end })
    assert.same({ { n = 1, path } }, asked)
  end)

  it("that is missing, wrong or no string is told", function()
    local path = helper.temp_file(WITH_CHAIN)
    local function try(password)
      local context, err = tls.context { role = "server", pkcs12 = path, password = password }
      return context, err
    end
    refused("pkcs12", { path, "encrypted, and no password is given" }, try())
    refused("pkcs12", { path, "encrypted, and no password is given" }, try(function() return nil end))
    for _, wrong in ipairs { "", "open", "open sesame ", ("x"):rep(5000) } do
      refused("pkcs12", { path, "wrong password, or damaged" }, try(wrong))
      refused("pkcs12", { path, "wrong password, or damaged" }, try(function() return wrong end))
    end
    refused("pkcs12", { path, "NUL" }, try("open sesame\0"))
    refused("pkcs12", { "password gave no string" }, try(function() return 1 end))
  end)

  it("is not asked for where there is none", function()
    local function never() error("asked") end
    for _, data in ipairs { export("-passout", "pass:"),
      export("-keypbe", "NONE", "-certpbe", "NONE", "-nomac") } do
      assert(with(data))
      assert(with(data, ""))
      assert(with(data, never))
    end
    refused("pkcs12", { "damaged, or not PKCS#12" }, with("junk", never))
  end)

  it("is wanted where the MAC alone depends on it", function()
    local data = export("-keypbe", "NONE", "-certpbe", "NONE")
    assert(with(data, "open sesame"))
    refused("pkcs12", { "no password" }, with(data))
    refused("pkcs12", { "wrong password" }, with(data, "x"))
  end)

  it("decrypts a file without a MAC, too", function()
    local data = export("-nomac")
    assert.same({ LEAF.certificate }, (helper.visit(assert(with(data, "open sesame")))))
    refused("pkcs12", { "no password" }, with(data))
    refused("pkcs12", { "wrong password" }, with(data, "x"))
  end)

  it("that is wrong is told without a MAC, too, where junk looks decrypted", function()
    local data = export("-nomac")
    for i = 1, 2000 / helper.slow do refused("pkcs12", { "wrong password" }, with(data, "wrong " .. i)) end
  end)

  it("doesn't help where OpenSSL 3 has put the algorithm aside", function()
    local data = export("-legacy")
    refused("pkcs12", { "the data", "RC2-40-CBC", "legacy provider" }, with(data, "open sesame"))
    refused("pkcs12", { "wrong password" }, with(data, "x"))
    refused("pkcs12", { "no password" }, with(data))
  end)
end)

describe("a file that is no good for pkcs12", function()
  it("is told what it lacks", function()
    local no_key = openssl({ "pkcs12", "-export", "-nokeys", "-in", LEAF_FILE, "-passout", "pass:x" })
    local no_certificate = openssl({ "pkcs12", "-export", "-nocerts", "-inkey", KEY_FILE, "-passout", "pass:x" })
    refused("pkcs12", { "the data", "no private key in it" }, with(no_key, "x"))
    refused("pkcs12", { "the data", "no certificate in it" }, with(no_certificate, "x"))
    refused("pkcs12", { "the PEM text", "not PKCS#12" },
      tls.context { role = "server", pkcs12 = LEAF.certificate .. LEAF.key })
    local missing = helper.temp_dir() .. "/missing.p12"
    refused("pkcs12", { missing, "No such file" }, tls.context { role = "server", pkcs12 = missing })
    refused("pkcs12", { "damaged, or not PKCS#12" }, with(openssl({ "x509", "-outform", "DER" }, LEAF.certificate)))
  end)

  it("is told wherever it is cut or damaged", function()
    for i = 0, #PLAIN - 1, helper.slow > 10 and 11 or 1 do
      refused("pkcs12", { "the data" }, with(PLAIN:sub(1, i), "open sesame"))
    end
    for i = 200, #PLAIN - 200, 37 do
      local changed = bytes.flip(PLAIN, i + 1)
      refused("pkcs12", { "the data", "damaged" }, with(changed, "open sesame"))
    end
    local plain = export("-keypbe", "NONE", "-certpbe", "NONE", "-nomac")
    for i = 1, #plain, helper.slow > 10 and 11 or 1 do -- nothing tells of a change, but it must be borne
      local context, err = with(bytes.flip(plain, i, 0x41))
      if not context then refused("pkcs12", { "the data" }, context, err) end
    end
  end)

  it("is refused beside what it stands for", function()
    for _, name in ipairs { "certificate", "key", "key_uri" } do
      refused(name, { "not together with pkcs12" }, tls.context { role = "server", pkcs12 = PLAIN, [name] = "x" })
    end
  end)
end)
