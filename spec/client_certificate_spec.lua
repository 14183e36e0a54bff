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
        assert.equal(name .. ': nothing is verified: verify_client is "none"', err.reason)
      end
      local context, err = tls.context { insecure = true, [name] = value }
      assert.is_nil(context)
      assert.equal("config", err.code)
      assert.equal(name .. ": nothing is verified: the context is insecure", err.reason)
    end
  end)
end)
