-- Servers that ask clients for a certificate: who comes in, and what both ends learn. What a bad certificate is called
-- is in chain_spec.lua, for both sides.

local tls = require "cotls"
local helper = require "spec.helper"
local judge = require "spec.judge"

local OWN = helper.leaf { subject = "CN=client", names = {} }
local STRANGER = helper.leaf { subject = "CN=stranger", names = {}, ca = helper.other_ca }

local function server(mode, more)
  local all = { role = "server", certificate = helper.server_leaf.certificate, key = helper.server_leaf.key,
    verify_client = mode, ca = mode and mode ~= "none" and helper.ca.certificate or nil }
  for name, value in pairs(more or {}) do all[name] = value end
  return all
end

local function client(own)
  return { ca = helper.ca.certificate, certificate = own and own.certificate, key = own and own.key }
end

-- What the server is shown.
local function shown(meeting)
  local seen
  judge.accepted(meeting, function(got)
    local certificate = got.server:peer_certificate()
    local who = certificate and certificate:pem() or "nobody"
    assert.is_true(seen == nil or seen == who)
    seen = who
  end)
  return seen
end

describe("a client", function()
  it("is asked for nothing by default", function()
    for _, mode in ipairs { "none", false } do
      assert.equal("nobody", shown { client = client(OWN), server = server(mode or nil) })
      assert.equal("nobody", shown { client = client(STRANGER), server = server(mode or nil) })
    end
  end)

  it("with a good certificate is let in where one is taken or required", function()
    for _, mode in ipairs { "optional", "require" } do
      assert.equal(OWN.certificate, shown { client = client(OWN), server = server(mode) })
    end
  end)

  it("without a certificate is let in where one is taken", function()
    assert.equal("nobody", shown { client = client(), server = server "optional" })
  end)

  it("without a certificate is refused where one is required", function()
    for version, alert in pairs { ["1.2"] = "handshake_failure", ["1.3"] = "certificate_required" } do
      local got = judge.meet(helper.client_context { max_version = version },
        assert(tls.context(server("require", { max_version = version }))))
      assert.equal("tls", got.server_error and got.server_error.code)
      assert.matches("did not return a certificate", got.server_error.reason)
      assert.same({ alert, true }, { got.server_error.alert.name, got.server_error.alert.sent })
      assert.equal("alert", got.client_error and got.client_error.code)
      assert.same({ alert, false }, { got.client_error.alert.name, got.client_error.alert.sent })
    end
  end)

  it("with a bad certificate is refused where one is taken", function()
    for _, mode in ipairs { "optional", "require" } do
      judge.refused({ client = client(STRANGER), server = server(mode) },
        { by = "server", code = 20, text = "local issuer", alert = "unknown_ca", subject = "CN=stranger" })
    end
  end)

  it("needs no name: whose certificate it is, is the program's to decide", function()
    local named = helper.leaf { subject = "CN=x", names = { "other.example" } }
    assert.equal(named.certificate, shown { client = client(named), server = server "require" })
  end)

  it("is told whom the server trusts", function()
    local both = { helper.ca.certificate, helper.other_ca.certificate }
    local context = assert(tls.context(server("require", { ca = both })))
    local port = helper.free_port()
    local listener = assert(tls.listen("127.0.0.1", port, { context = context }))
    local child = helper.start { "openssl", "s_client", "-connect", "127.0.0.1:" .. port, "-no_ign_eof" }
    helper.in_loop(function()
      local conn = listener()
      assert.is_nil((conn:accept()))
      listener:close()
    end)
    child:wait_for "Acceptable client certificate CA names\nCN = Test CA\nCN = Other CA\n"
    child:stop()
  end)
end)

describe("a client that is asked after the handshake", function()
  -- What comes of it: the code of the verdict on the client's certificate, 0 if it is good; what the client sees.
  local function asked(own, more)
    local options = server("none", more)
    options.ca = helper.ca.certificate
    local offered = client(own)
    offered.post_handshake_auth = true
    local one, two = helper.pair(nil, nil, nil,
      { client = assert(tls.context(offered)), server = assert(tls.context(options)) })
    local code, seen
    helper.together {
      function()
        assert(one:connect())
        assert.equal("y", one:read(1)) -- the request comes before it
        assert(one:write("x"))
        seen = select(2, one:read(1))
        one:close()
      end,
      function()
        assert(two:accept())
        assert(two:request_client_certificate())
        assert(two:write("y"))
        local data, err = two:read(1)
        assert.is_true(err == nil or err.verify ~= nil, tostring(err))
        code = err and err.verify.code or two:verify_result().code
        assert.equal(err == nil and "x" or nil, data)
        two:close()
      end,
    }
    return code, seen and tostring(seen.alert)
  end

  it("is judged by the same options", function()
    local pki = require "spec.pki"
    assert.equal(0, (asked(OWN)))
    assert.equal(0, (asked(OWN, { pins = tls.x509(helper.ca.certificate):spki_pin() })))
    assert.equal(0, (asked(OWN, { crl = pki.crl { ca = helper.ca } })))
    assert.same({ 20, "unknown_ca" }, { asked(STRANGER) })
    assert.same({ 50, "handshake_failure" }, { asked(OWN, { pins = "sha256/" .. ("A"):rep(43) .. "=" }) })
    assert.same({ 23, "certificate_revoked" }, { asked(OWN, { crl = pki.crl { ca = helper.ca, revoked = { OWN } } }) })
    assert.same({ 26, "unsupported_certificate" }, { asked(OWN, { purpose = "timestampsign" }) })
  end)
end)

describe("the options of verification on a server that verifies nobody", function()
  it("are refused by name", function()
    local crl = "-----BEGIN X509 CRL-----"
    for name, value in pairs { crl = crl, crl_check = "leaf", verify_depth = 1, purpose = "any", partial_chain = true,
      pins = "sha256/" .. ("A"):rep(43) .. "=" } do
      for _, options in ipairs { server(), server "none" } do
        options[name] = value
        local context, err = tls.context(options)
        assert.is_nil(context)
        assert.equal("config", err.code)
        assert.equal(name .. ": nothing is verified: there is no ca", err.reason)
      end
      local context, err = tls.context { insecure = true, [name] = value }
      assert.is_nil(context)
      assert.equal("config", err.code)
      assert.equal(name .. ": nothing is verified: the context is insecure", err.reason)
    end
  end)
end)
