-- Pins: keys, one of which must be in the chain that was verified.

local tls = require "cotls"
local helper = require "spec.helper"
local judge = require "spec.judge"
local visit = require "spec.visit"

local MID = assert(tls.make_certificate { subject = "CN=mid", is_ca = true, ca = helper.ca })
local LEAF = helper.leaf { ca = MID }
local CHAIN = { certificate = LEAF.certificate .. MID.certificate, key = LEAF.key }
local NOBODY = "sha256/" .. ("A"):rep(43) .. "="
local REFUSED = { code = 50, text = "^no key of the verified chain is among the pins$", alert = "handshake_failure",
  subject = "CN=leaf" }

-- As RFC 7469 appendix A has it made, by openssl.
local function pin(certificate)
  local function openssl(input, ...)
    local status, out = helper.run({ "openssl", ... }, input)
    assert(status == 0)
    return out
  end
  local key = openssl(certificate.certificate, "x509", "-noout", "-pubkey")
  local digest = openssl(openssl(key, "pkey", "-pubin", "-outform", "DER"), "dgst", "-sha256", "-binary")
  return "sha256/" .. openssl(digest, "base64", "-A")
end

-- Made when they are asked for.
local PIN = setmetatable({}, {
  __index = function(self, name)
    self[name] = pin(({ leaf = LEAF, mid = MID, root = helper.ca, other = helper.other_ca })[name])
    return self[name]
  end,
})

local function trust(pins, ca)
  return { ca = ca or helper.ca.certificate, pins = pins }
end

describe("pins", function()
  it("accept a chain with one of the keys, wherever in it", function()
    for _, name in ipairs { "leaf", "mid", "root" } do
      judge.both(CHAIN, trust(PIN[name]))
      judge.both(CHAIN, trust { NOBODY, PIN[name], PIN.other })
    end
  end)

  it("refuse a chain that has none of the keys", function()
    judge.both(CHAIN, trust(NOBODY), REFUSED)
    judge.both(CHAIN, trust { PIN.other, NOBODY }, REFUSED)
    judge.both(LEAF, trust(PIN.other, { helper.ca.certificate, MID.certificate }), REFUSED)
  end)

  it("are of the verified chain: what is only sent beside it doesn't count", function()
    judge.both({ certificate = CHAIN.certificate .. helper.other_ca.certificate, key = CHAIN.key }, trust(PIN.other),
      REFUSED)
  end)

  it("vouch for nobody: chain and name are verified as ever", function()
    judge.both(CHAIN, trust(PIN.leaf, helper.other_ca.certificate),
      { code = 20, depth = 1, text = "local issuer", alert = "unknown_ca" })
    judge.refused({ client = trust(PIN.leaf), server = { role = "server", certificate = CHAIN.certificate,
      key = CHAIN.key }, options = { server_name = "other.example" } },
      { code = 62, text = "[Hh]ostname mismatch", alert = "bad_certificate" })
  end)

  it("are what spki_pin gives", function()
    assert.equal(PIN.leaf, tls.x509(LEAF.certificate):spki_pin())
    judge.both(CHAIN, trust(tls.x509(MID.certificate):spki_pin()))
  end)

  it("are of any type of key", function()
    for _, key_type in ipairs { "rsa", "ed25519" } do
      local own = helper.leaf { key_type = key_type }
      judge.both(own, trust(pin(own)))
      judge.both(own, trust(NOBODY), REFUSED)
    end
  end)

  it("let a client that brings no certificate pass where none is required", function()
    judge.accepted {
      client = { ca = helper.ca.certificate },
      server = { role = "server", certificate = LEAF.certificate .. MID.certificate, key = LEAF.key,
        verify_client = "optional", ca = helper.ca.certificate, pins = NOBODY },
    }
  end)

  it("are those of the context that the server name chooses", function()
    judge.by_name(CHAIN, trust(NOBODY), trust(PIN.leaf), REFUSED)
  end)

  it("that are none are refused", function()
    for _, bad in ipairs { "", "sha256/", "sha1/" .. ("A"):rep(43) .. "=", ("A"):rep(43) .. "=", NOBODY:sub(1, -2),
      NOBODY .. "=", "sha256/" .. ("A"):rep(42) .. "==", "sha256/" .. ("A"):rep(47) .. "=", NOBODY:gsub("A", "-", 1),
      "pin-" .. NOBODY, " " .. NOBODY } do
      local context, err = tls.context { pins = { PIN.leaf, bad } }
      assert.is_nil(context)
      assert.equal("config", err.code)
      assert.equal('pins: a pin is "sha256/" and the base64 of a key\'s digest', err.reason)
    end
    local context, err = tls.context { pins = "sha256/" .. ("A"):rep(42) .. "B=" }
    assert.is_nil(context)
    assert.equal("pins: a pin ends in the middle of a byte", err.reason)
    for _, value in ipairs { 1, {}, { 1 }, true } do
      assert.error_matches(function() tls.context { pins = value } end, "option 'pins'")
    end
  end)

  it("are part of what a session stands for", function()
    local session
    local function connect(pins)
      local got = visit.over(helper.client_context { pins = pins }, helper.contexts().server, { session = session })
      session = got.client:session():export()
      return got.resumed
    end
    assert.is_false(connect())
    assert.is_true(connect())
    assert.is_false(connect { PIN.root, NOBODY })
    assert.is_true(connect { NOBODY, PIN.root })
    assert.is_false(connect(PIN.root))
  end)
end)
