-- key_uri: what OSSL_STORE finds.

local compat = require "cotls.compat"
local tls = require "cotls"
local helper = require "spec.helper"

local openssl, refused = helper.openssl, helper.assert_refused

local MIDDLE = assert(tls.make_certificate { subject = "CN=Middle", is_ca = true, ca = helper.ca })
local LEAF = helper.leaf { ca = MIDDLE }
local LOCKED = openssl({ "pkcs8", "-topk8", "-passout", "pass:open sesame" }, LEAF.key)
local CHAIN = { LEAF.certificate, MIDDLE.certificate }

local function uri(content) return "file:" .. helper.temp_file(content) end

local function with(key_uri, password, certificate)
  local context, err = tls.context { role = "server", key_uri = key_uri, password = password,
    certificate = certificate }
  return context, err
end

describe("key_uri", function()
  it("gives the key to a certificate that is given", function()
    for _, certificate in ipairs { CHAIN, LEAF.certificate .. MIDDLE.certificate } do
      local sent, verdict = helper.visit(assert(with(uri(LEAF.key), nil, certificate)))
      assert.same(CHAIN, sent)
      assert.equal(0, verdict)
    end
  end)

  it("gives certificate and chain, too, in whatever order they come", function()
    for _, order in ipairs { { LEAF.key, LEAF.certificate, MIDDLE.certificate },
      { MIDDLE.certificate, LEAF.certificate, LEAF.key }, { MIDDLE.certificate, LEAF.key, LEAF.certificate } } do
      local sent, verdict = helper.visit(assert(with(uri(table.concat(order)))))
      assert.same(CHAIN, sent)
      assert.equal(0, verdict)
    end
  end)

  it("finds them in PKCS#12 and DER, by a path, by file:// and by file:", function()
    local p12 = openssl({ "pkcs12", "-export", "-passout", "pass:x" }, LEAF.key .. LEAF.certificate)
    assert(with(uri(p12), "x"))
    assert(with(uri(openssl({ "pkey", "-outform", "DER" }, LEAF.key)), nil, LEAF.certificate))
    local path = helper.temp_file(LEAF.certificate .. LEAF.key)
    assert(with(path))
    assert(with("file://" .. path))
    assert(with("file://localhost" .. path))
  end)

  it("of several keys takes the one to the certificate", function()
    local other = helper.leaf()
    for _, keys in ipairs { other.key .. LEAF.key, LEAF.key .. other.key } do
      assert.same({ LEAF.certificate }, (helper.visit(assert(with(uri(keys), nil, LEAF.certificate)))))
    end
  end)

  it("serves a client, too", function()
    local server = helper.server_context { verify_client = "require", ca = helper.ca.certificate }
    local client = helper.client_context { key_uri = uri(LEAF.key .. table.concat(CHAIN)) }
    local a, b = helper.handshaken(nil, nil, nil, { client = client, server = server })
    assert.equal(LEAF.certificate, b:peer_certificate():pem())
    a:close()
    b:close()
  end)

  it("the password is given, or asked for once, with the URI", function()
    local where, asked = uri(LOCKED .. LEAF.certificate), {}
    assert.same({ LEAF.certificate }, (helper.visit(assert(with(where, "open sesame")))))
    assert(with(where, function(...)
      asked[#asked + 1] = compat.pack(...)
      return "open sesame"
    end))
    assert.same({ { n = 1, where } }, asked)
    assert(with(uri(LEAF.key .. LEAF.certificate), function() error("asked") end))
  end)
end)

describe("key_uri is refused with URI and reason:", function()
  it("nothing there", function()
    local missing = "file:" .. helper.temp_dir() .. "/missing.pem"
    refused("key_uri", { missing, "No such file" }, with(missing))
    local path = missing:sub(6)
    refused("key_uri", { path, "No such file" }, with(path))
    for _, unknown in ipairs { "pkcs11:token=x;object=y", "http://localhost/key.pem", "nowhere:x" } do
      refused("key_uri", { unknown, "knows no such scheme" }, with(unknown))
    end
    for _, wrong in ipairs { "", "file:/x\0y" } do refused("key_uri", { "not a URI" }, with(wrong)) end
    local junk = uri("junk")
    refused("key_uri", { junk }, with(junk))
    local folder = "file:" .. helper.temp_dir()
    refused("key_uri", { folder, "no private key there" }, with(folder))
  end)

  it("no key, or no certificate", function()
    local certificate, key = uri(LEAF.certificate), uri(LEAF.key)
    refused("key_uri", { certificate, "no private key there" }, with(certificate))
    refused("key_uri", { key, "no certificate there, and none is given" }, with(key))
    local public = uri(openssl({ "pkey", "-pubout" }, LEAF.key))
    refused("key_uri", { public, "no private key there" }, with(public, nil, LEAF.certificate))
    local foreign = uri(LEAF.key .. MIDDLE.certificate)
    refused("key_uri", { foreign, "none of the certificates there matches the key" }, with(foreign))
    refused("key_uri", { key, "does not match the certificate" }, with(key, nil, helper.server_leaf.certificate))
    refused("key_uri", { key, "does not match the first certificate but number 2" },
      with(key, nil, { MIDDLE.certificate, LEAF.certificate }))
    refused("key", { "not together with key_uri" },
      tls.context { role = "server", certificate = LEAF.certificate, key = LEAF.key, key_uri = key })
  end)

  it("no password, or a wrong one; it never prompts", function()
    local p12 = openssl({ "pkcs12", "-export", "-passout", "pass:x" }, LEAF.key .. LEAF.certificate)
    for _, where in ipairs { uri(LOCKED .. LEAF.certificate), uri(p12) } do
      refused("key_uri", { where, "encrypted, and no password is given" }, with(where))
      refused("key_uri", { where, "encrypted, and no password is given" }, with(where, function() return nil end))
      refused("key_uri", { where, "wrong password" }, with(where, "wrong"))
      refused("key_uri", { where, "wrong password" }, with(where, ("x"):rep(5000)))
      refused("key_uri", { where, "NUL" }, with(where, "x\0"))
    end
    local program = helper.temp_file [[
      local tls = require "cotls"
      local context, err = tls.context { role = "server", key_uri = arg[1] }
      print("said", context, tostring(err))
    ]]
    local command = ("'%s' '%s' '%s'"):format(helper.lua, program, uri(LOCKED))
    if os.execute("script -qec true /dev/null >/dev/null 2>&1 </dev/null") then
      local status, out = helper.run({ "script", "-qec", command, "/dev/null" }, "open sesame\n", { seconds = 20 })
      assert.equal(0, status, out)
      assert.matches("said\tnil\t[^\n]*no password", out)
      assert.is_nil(out:find("pass phrase", 1, true))
    end
  end)

  it("an algorithm that OpenSSL 3 has put aside", function()
    local rc2 = uri(openssl({ "pkcs8", "-topk8", "-v1", "PBE-SHA1-RC2-40", "-provider", "legacy", "-provider",
      "default", "-passout", "pass:x" }, LEAF.key))
    refused("key_uri", { rc2, "RC2-40-CBC", "legacy provider" }, with(rc2, "x", LEAF.certificate))
  end)

  it("what is cut anywhere", function()
    local der = openssl({ "pkey", "-outform", "DER" }, LEAF.key)
    local path = helper.temp_file("")
    for i = 0, #der - 1, 5 do
      local handle = assert(io.open(path, "wb"))
      handle:write((der:sub(1, i)))
      handle:close()
      refused("key_uri", { path }, with("file:" .. path, nil, LEAF.certificate))
    end
  end)
end)
