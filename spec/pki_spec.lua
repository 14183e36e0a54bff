-- spec/pki.lua makes what specs of CRLs and OCSP stand on; here the openssl command judges it.

local tls = require "cotls"
local helper = require "spec.helper"
local pki = require "spec.pki"

local function write(text) return helper.temp_file(text) end

describe("pki.crl", function()
  for _, kind in ipairs { "ec", "rsa", "ed25519" } do
    local ca = assert(tls.make_certificate { subject = "CN=CRL " .. kind, is_ca = true, key_type = kind })
    local good, bad = helper.leaf { ca = ca }, helper.leaf { ca = ca }

    -- openssl verify's judgement with that CRL: "" or its text.
    local function verify(leaf, crl)
      local status, out, err = helper.run({ "openssl", "verify", "-crl_check", "-CAfile", write(ca.certificate),
        "-CRLfile", write(crl) }, leaf.certificate)
      return status == 0 and "" or out .. err
    end

    it("revokes who is on it, " .. kind, function()
      local crl = pki.crl { ca = ca, revoked = { bad } }
      assert.equal("", verify(good, crl))
      assert.matches("certificate revoked", verify(bad, crl))
      assert.matches("revoked", verify(bad, pki.crl { ca = ca, revoked = {
        { certificate = bad, reason = "key_compromise" } } }))
      assert.equal("", verify(good, pki.crl { ca = ca, next_update = false }))
    end)

    it("can be wrong in each way, " .. kind, function()
      local now = pki.now()
      assert.matches("CRL has expired", verify(good, pki.crl { ca = ca, next_update = now - 60 }))
      assert.matches("CRL is not yet valid", verify(good, pki.crl { ca = ca, this_update = now + 3600 }))
      assert.matches("CRL signature failure", verify(good, pki.crl { ca = ca, tamper = true }))
      assert.matches("CRL", verify(good, pki.crl { ca = helper.ca }))
      if kind == "ec" then
        local text = verify(good, pki.crl { ca = ca, signer = helper.ca })
        assert.matches("CRL signature failure", text)
      end
    end)
  end
end)

describe("pki.ocsp", function()
  for _, kind in ipairs { "ec", "rsa" } do
    local ca = assert(tls.make_certificate { subject = "CN=OCSP " .. kind, is_ca = true, key_type = kind })
    local leaf = helper.leaf { ca = ca }
    local staples = pki.staples(ca, leaf)

    -- What `openssl ocsp` says of a response.
    local function judge(der)
      local _, out, err = helper.run({ "openssl", "ocsp", "-respin", write(der), "-issuer", write(ca.certificate),
        "-cert", write(leaf.certificate), "-CAfile", write(ca.certificate), "-no_nonce" })
      return out .. err
    end

    local expected = {
      good = { "Response verify OK", ": good" }, delegated = { "Response verify OK", ": good" },
      delegated_by_key = { "Response verify OK", ": good" }, endless = { "Response verify OK", ": good" },
      revoked = { "Response verify OK", ": revoked", "keyCompromise" }, unknown = { "verify OK", ": unknown" },
      stale = { "Status times invalid", "expired" }, future = { "Status times invalid", "not yet valid" },
      wrong_responder = { "Response Verify Failure" }, no_purpose = { "Response Verify Failure" },
      expired_responder = { "Response Verify Failure", "expired" }, bad_signature = { "Verify Failure" },
      other_certificate = { "ERROR: No Status found" }, try_later = { "trylater" }, garbage = { "rror" },
    }
    for name, patterns in pairs(expected) do
      it(name .. ", " .. kind, function()
        local text = judge(staples[name])
        for _, pattern in ipairs(patterns) do assert.is_truthy(text:find(pattern, 1, true), text) end
        assert.equal(staples[name], staples[name])
      end)
    end
  end
end)
