-- A small PKI, broken in every way: what each break is called, at what depth, with which alert; for a server's
-- certificate before a client and for a client's before a server that requires or takes one.

local bytes = require "spec.bytes"
local tls = require "cotls"
local helper = require "spec.helper"
local judge = require "spec.judge"

local NOW = os.time()
local DAY = 86400

local function make(subject, wish)
  wish.subject = "CN=" .. subject
  return assert(tls.make_certificate(wish))
end

local function authority(subject, ca, more)
  return make(subject, helper.with({ is_ca = true, ca = ca }, more))
end

local function leaf(ca, more)
  return make("leaf", helper.with({ names = { "localhost" }, ca = ca }, more))
end

-- What a peer sends: its certificate, then the CAs.
local function chain(own, ...)
  local parts = { own.certificate }
  for _, ca in ipairs { ... } do parts[#parts + 1] = ca.certificate end
  return { certificate = table.concat(parts), key = own.key }
end

local ROOT = authority("root")
local MID = authority("mid", ROOT)
local LOW = authority("low", MID)
local GOOD = chain(leaf(MID), MID)
local TRUST = { ca = ROOT.certificate }

local function trust(more)
  return helper.with({ ca = ROOT.certificate }, more)
end

local function expired(depth, subject)
  return { code = 10, text = "expired", alert = "certificate_expired", depth = depth, subject = subject }
end

describe("a chain", function()
  it("to a trusted root is accepted, through one CA or more", function()
    judge.both(GOOD, TRUST)
    judge.both(chain(leaf(LOW), LOW, MID), TRUST)
    judge.both(chain(leaf(LOW), MID, LOW, ROOT), TRUST) -- the order of CAs doesn't matter, nor a root too many
    judge.both(leaf(ROOT), TRUST)
  end)

  it("may have its CAs among the trusted ones instead of sending them", function()
    judge.both(leaf(MID), { ca = { ROOT.certificate, MID.certificate } })
  end)

  it("that is not complete is refused", function()
    judge.both(leaf(MID), TRUST, { code = 20, text = "local issuer", alert = "unknown_ca", subject = "CN=leaf" })
    judge.both(chain(leaf(LOW), LOW), TRUST,
      { code = 20, text = "local issuer", alert = "unknown_ca", depth = 1, subject = "CN=low" })
  end)

  it("to an unknown CA is refused", function()
    judge.both(GOOD, { ca = helper.other_ca.certificate },
      { code = 20, text = "local issuer", alert = "unknown_ca", depth = 1, subject = "CN=mid" })
    judge.both(leaf(helper.other_ca), TRUST, { code = 20, text = "local issuer", alert = "unknown_ca" })
  end)

  it("to a root that is sent but not trusted is refused", function()
    judge.both(chain(leaf(MID), MID, ROOT), { ca = helper.other_ca.certificate },
      { code = 19, text = "self.signed certificate in", alert = "unknown_ca", depth = 2, subject = "CN=root" })
  end)

  it("of a certificate that signs itself is refused, unless it is trusted", function()
    local own = leaf()
    judge.both(own, TRUST, { code = 18, text = "self.signed certificate", alert = "unknown_ca", subject = "CN=leaf" })
    judge.both(own, { ca = own.certificate })
  end)

  it("to a CA of the same name with another key is refused", function()
    judge.both(leaf(authority("root")), TRUST, { code = 20, text = "local issuer", alert = "unknown_ca" })
  end)

  it("with a wrong signature is refused", function()
    local own = leaf(ROOT)
    local der = tls.x509(own.certificate):der()
    local damaged = bytes.flip(der, -1)
    judge.both({ certificate = damaged, key = own.key }, TRUST,
      { code = 7, text = "signature failure", alert = "decrypt_error", subject = "CN=leaf" })
  end)
end)

describe("the dates:", function()
  it("a certificate that has expired is refused", function()
    judge.both(chain(leaf(MID, { not_before = NOW - 2 * DAY, not_after = NOW - 60 }), MID), TRUST,
      expired(0, "CN=leaf"))
    judge.both(chain(leaf(MID, { not_after = NOW + 600 }), MID), TRUST)
  end)

  it("a certificate that is not valid yet is refused", function()
    judge.both(chain(leaf(MID, { not_before = NOW + 600, not_after = NOW + DAY }), MID), TRUST,
      { code = 9, text = "not yet valid", alert = "bad_certificate", subject = "CN=leaf" })
  end)

  it("a CA in between that has expired, or is not valid yet, is refused", function()
    local old = authority("old", ROOT, { not_before = NOW - 2 * DAY, not_after = NOW - 60 })
    judge.both(chain(leaf(old), old), TRUST, expired(1, "CN=old"))
    local new = authority("new", ROOT, { not_before = NOW + 600, not_after = NOW + DAY })
    judge.both(chain(leaf(new), new), TRUST,
      { code = 9, text = "not yet valid", alert = "bad_certificate", depth = 1, subject = "CN=new" })
  end)

  it("a root that has expired is refused", function()
    local old = authority("old", nil, { not_before = NOW - 2 * DAY, not_after = NOW - 60 })
    judge.both(leaf(old), { ca = old.certificate }, expired(1, "CN=old"))
  end)
end)

describe("a CA", function()
  it("that is none is refused: a certificate with CA:FALSE issues nothing", function()
    local false_ca = leaf(ROOT)
    judge.both(chain(leaf(false_ca), false_ca), TRUST, { code = 79, text = "invalid CA certificate",
      alert = "unknown_ca", depth = 1, subject = "CN=leaf" })
  end)

  it("beyond a path length is refused", function()
    local narrow = authority("narrow", ROOT, { path_length = 0 })
    judge.both(chain(leaf(narrow), narrow), TRUST)
    local below = authority("below", narrow)
    judge.both(chain(leaf(below), below, narrow), TRUST, { code = 25, text = "path length constraint exceeded",
      alert = "unknown_ca", depth = 2, subject = "CN=narrow" })
  end)

  it("for something else is refused: its purposes bind what it issues", function()
    local mail = authority("mail", ROOT, { purposes = "ocsp" })
    judge.both(chain(leaf(mail), mail), TRUST, { code = 26, text = "unsuitable certificate purpose",
      alert = "unsupported_certificate", depth = 1, subject = "CN=mail" })
  end)
end)

describe("the purpose:", function()
  local SERVER = chain(leaf(MID, { purposes = "server" }), MID)
  local CLIENT = chain(leaf(MID, { purposes = "client" }), MID)
  local WRONG = { code = 26, text = "unsuitable certificate purpose", alert = "unsupported_certificate" }

  local function as_server(own, more)
    return { client = trust(more or {}), server = { role = "server", certificate = own.certificate, key = own.key } }
  end

  local function as_client(own, mode, more)
    local server = trust(more or {})
    server.role, server.verify_client = "server", mode
    server.certificate, server.key = helper.server_leaf.certificate, helper.server_leaf.key
    return { client = { ca = helper.ca.certificate, certificate = own.certificate, key = own.key }, server = server }
  end

  it("a server's certificate is no client's, and a client's no server's", function()
    judge.accepted(as_server(SERVER))
    judge.refused(as_server(CLIENT), WRONG)
    local by_server = { by = "server", code = WRONG.code, text = WRONG.text, alert = WRONG.alert }
    for _, mode in ipairs { "require", "optional" } do
      judge.accepted(as_client(CLIENT, mode))
      judge.refused(as_client(SERVER, mode), by_server)
    end
  end)

  it("another one may be asked for", function()
    judge.accepted(as_server(CLIENT, { purpose = "sslclient" }))
    judge.refused(as_server(SERVER, { purpose = "sslclient" }), WRONG)
    judge.accepted(as_client(SERVER, "require", { purpose = "sslserver" }))
    judge.refused(as_client(CLIENT, "require", { purpose = "sslserver" }),
      { by = "server", code = WRONG.code, text = WRONG.text, alert = WRONG.alert })
    local both = chain(leaf(MID), MID)
    judge.refused(as_server(both, { purpose = "timestampsign" }), WRONG)
  end)

  it("\"any\" asks for none", function()
    judge.accepted(as_server(CLIENT, { purpose = "any" }))
    judge.accepted(as_client(SERVER, "require", { purpose = "any" }))
    judge.both(chain(leaf(MID, { purposes = "ocsp" }), MID), trust { purpose = "any" })
  end)

  it("of an unknown name is refused, with those that there are", function()
    local context, err = tls.context { purpose = "sslbaker" }
    assert.is_nil(context)
    assert.equal("config", err.code)
    assert.matches("^purpose: unknown purpose 'sslbaker': must be \"sslclient\", \"sslserver\"", err.reason)
    assert.matches('"any"', err.reason)
  end)
end)

describe("verify_depth", function()
  local LONG = chain(leaf(LOW), LOW, MID)
  local TOO_LONG = { code = 22, text = "chain too long", alert = "unknown_ca", depth = 1 }

  it("counts the CAs between the certificate and the trusted one", function()
    judge.both(LONG, trust { verify_depth = 2 })
    judge.both(GOOD, trust { verify_depth = 1 })
    judge.both(leaf(ROOT), trust { verify_depth = 0 })
  end)

  it("refuses more of them", function()
    judge.both(GOOD, trust { verify_depth = 0 }, TOO_LONG)
    judge.both(LONG, trust { verify_depth = 1 },
      { code = 22, text = "chain too long", alert = "unknown_ca", depth = 2 })
  end)

  it("is an integer from 0 to 100", function()
    assert.is_truthy(tls.context { verify_depth = 100 })
    local context, err = tls.context { verify_depth = 101 }
    assert.is_nil(context)
    assert.equal("verify_depth: must not be more than 100", err.reason)
    for _, value in ipairs { -1, 1.5, "1", true } do
      assert.error_matches(function() tls.context { verify_depth = value } end, "option 'verify_depth': an integer")
    end
  end)
end)

describe("partial_chain", function()
  it("lets a chain end at a CA that doesn't sign itself", function()
    judge.both(chain(leaf(LOW), LOW), { ca = MID.certificate },
      { code = 2, text = "unable to get issuer certificate", alert = "unknown_ca", depth = 2, subject = "CN=mid" })
    judge.both(chain(leaf(LOW), LOW), { ca = MID.certificate, partial_chain = true })
    judge.both(chain(leaf(LOW), LOW), { ca = MID.certificate, partial_chain = false },
      { code = 2, text = "unable to get issuer certificate", alert = "unknown_ca", depth = 2, subject = "CN=mid" })
  end)

  it("lets it be a leaf that is trusted itself", function()
    local own = leaf(MID)
    judge.both(own, { ca = own.certificate }, { code = 20, text = "local issuer", alert = "unknown_ca" })
    judge.both(own, { ca = own.certificate, partial_chain = true })
  end)

  it("doesn't trust what is sent", function()
    judge.both(chain(leaf(LOW), LOW, MID), { ca = helper.other_ca.certificate, partial_chain = true },
      { code = 20, text = "local issuer", alert = "unknown_ca", depth = 2, subject = "CN=mid" })
  end)
end)

describe("keys and digests under the security level:", function()
  local SMALL = leaf(ROOT, { key_type = "rsa", bits = 1024 })
  local SMALL_CA = authority("small", ROOT, { key_type = "rsa", bits = 1024 })
  local SHA1_CA = authority("sha1", ROOT, { digest = "sha1" })

  -- Who shows the certificate must be allowed to load it.
  local function meeting(own, level)
    return {
      client = { ca = ROOT.certificate, security_level = level },
      server = { role = "server", certificate = own.certificate, key = own.key, security_level = 0 },
    }
  end

  it("a certificate with a weak key is refused", function()
    judge.refused(meeting(SMALL, 2), { code = 66, text = "EE certificate key too weak", alert = "bad_certificate" })
    judge.accepted(meeting(SMALL, 1))
  end)

  it("a CA with a weak key is refused", function()
    local own = chain(leaf(SMALL_CA), SMALL_CA)
    judge.refused(meeting(own, 2), { code = 67, text = "CA certificate key too weak", alert = "bad_certificate",
      depth = 1 })
    judge.accepted(meeting(own, 1))
  end)

  it("a CA's weak signature is refused", function()
    local own = chain(leaf(SHA1_CA), SHA1_CA)
    judge.refused(meeting(own, 2), { code = 68, text = "signature digest algorithm too weak",
      alert = "bad_certificate", depth = 1 })
    judge.accepted(meeting(own, 0))
  end)

  it("by default the level is OpenSSL's, which is not less than 1", function()
    local tiny = leaf(ROOT, { key_type = "rsa", bits = 768 })
    judge.refused(meeting(tiny), { code = 66, text = "EE certificate key too weak", alert = "bad_certificate" })
  end)
end)
