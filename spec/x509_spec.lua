local tls = require "cotls"
local helper = require "spec.helper"

local PEM = helper.server_leaf.certificate
local CERT = assert(tls.x509(PEM))

-- The DER of PEM text, by the openssl command.
local function der_of(pem)
  local status, out, err = helper.run({ "openssl", "x509", "-outform", "DER" }, pem)
  assert.equal(0, status, err)
  return out
end

local DER = der_of(PEM)

describe("tls.x509", function()
  it("reads a certificate in every form of a file", function()
    for _, form in ipairs { PEM, DER, { data = PEM }, { data = DER }, helper.temp_file(PEM), helper.temp_file(DER),
      { file = helper.temp_file(PEM) }, helper.server_leaf.key .. PEM, PEM .. helper.ca.certificate, CERT } do
      local cert = assert(tls.x509(form))
      assert.equal("userdata", type(cert))
      assert.equal(PEM, cert:pem())
      assert.equal(DER, cert:der())
    end
  end)

  it("refuses what holds none, with the file's name", function()
    local empty, junk = helper.temp_file(""), helper.temp_file("junk")
    local cases = {
      { "/nonexistent/x.pem", "/nonexistent/x.pem: " }, { empty, empty .. ": no certificate in it" },
      { junk, junk .. ": no certificate in it" }, { { data = "" }, "the data: no certificate in it" },
      { helper.server_leaf.key, "the PEM text: no certificate in it" }, { "a\0b", "not a path" },
      { { data = DER:sub(1, -2) }, "the data: " }, { { data = "\x30\x03\2\1\1" }, "the data: " },
      { PEM:gsub("\n", "\nA", 3), "the PEM text: " },
    }
    for _, case in ipairs(cases) do
      local cert, err = tls.x509(case[1])
      assert.is_nil(cert)
      assert.equal("config", err.code)
      assert.equal("x509: " .. case[2], err.reason:sub(1, #case[2] + 6))
      assert.is_nil(tostring(err):find("\n"))
    end
  end)

  it("raises on other types", function()
    for _, wrong in ipairs { 1, true, {}, { PEM }, { data = 1 }, print, { data = PEM, file = "x" }, io.stdout } do
      local ok, err = pcall(function() tls.x509(wrong) end)
      assert.is_false(ok)
      assert.matches("x509_spec.lua:%d+: tls.x509: a file ", err) -- told where it is called
    end
    assert.is_false(pcall(tls.x509))
  end)

  it("is what an option takes for a certificate, and not for a key", function()
    local ca = assert(tls.x509(helper.ca.certificate))
    local key = helper.server_leaf.key
    for _, form in ipairs { CERT, { CERT }, { CERT, ca } } do
      for _, trusted in ipairs { ca, { ca }, { helper.other_ca.certificate, ca } } do
        local client, server = helper.handshaken(nil, nil, nil, {
          client = assert(tls.context { ca = trusted }),
          server = assert(tls.context { role = "server", certificate = form, key = key }),
        })
        assert.equal(CERT, client:peer_certificate())
        assert.is_nil(server:peer_certificate())
        client:close()
        assert.equal(PEM, client:peer_certificate():pem())
        server:close()
      end
    end
    local ok, err = pcall(tls.context, { role = "server", certificate = CERT, key = CERT })
    assert.is_false(ok)
    assert.matches("option 'key': a file .*, got userdata", err)
    local context, refusal = tls.context { role = "server", certificate = CERT }
    assert.is_nil(context)
    assert.matches("^key: ", refusal.reason)
    context, refusal = tls.context { role = "server", certificate = CERT, key = helper.ca.key }
    assert.is_nil(context)
    assert.matches("^key: ", refusal.reason)
  end)
end)

describe("a certificate object", function()
  it("equals another of the same DER", function()
    local again = assert(tls.x509(DER))
    assert.is_true(rawequal(CERT, tls.x509(CERT)))
    assert.is_false(rawequal(CERT, again))
    assert.is_true(CERT == again)
    assert.is_false(CERT == assert(tls.x509(helper.ca.certificate)))
    assert.is_false(CERT == PEM)
    assert.is_false(CERT == io.stdout)
    -- the last byte is the signature's
    local other = assert(tls.x509(DER:sub(1, -2) .. string.char(DER:byte(-1) ~ 1)))
    assert.is_false(CERT == other)
  end)

  it("tells what it is", function()
    assert.matches("^cotls%.x509: ", tostring(CERT))
  end)

  it("refuses another self", function()
    local methods = require("cotls.core").methods "cotls.x509"
    for name, method in pairs(methods) do
      for _, wrong in ipairs { io.stdout, PEM, {} } do assert.is_false(pcall(method, wrong), name) end
      assert.is_false(pcall(method), name)
    end
    assert.is_false(pcall(getmetatable(CERT).__gc, io.stdout))
  end)

  it("collected by hand is not usable", function()
    local cert = assert(tls.x509(PEM))
    getmetatable(cert).__gc(cert)
    getmetatable(cert).__gc(cert)
    assert.is_false(cert == CERT)
    assert.matches("^cotls%.x509: ", tostring(cert))
    for name, method in pairs(require("cotls.core").methods "cotls.x509") do
      assert.is_false(pcall(method, cert), name)
    end
  end)
end)
