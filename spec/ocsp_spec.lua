-- OCSP stapling: what a server gives, and a client's verdict on each kind of staple. spec/pki.lua makes them.

local bytes = require "spec.bytes"
local tls = require "cotls"
local helper = require "spec.helper"
local pki = require "spec.pki"

local REVOKED, NEEDED, FAILED, UNKNOWN = 23, 73, 74, 75 -- X509_V_ERR_…
local NOBODY = "OCSP response is signed by neither the issuer nor a delegate of it"

local leaf = helper.leaf()
local staples = pki.staples(helper.ca, leaf)

-- A response about the leaf, as pki.ocsp takes it.
local function response(given)
  given.ca, given.certificate = given.ca or helper.ca, given.certificate or leaf
  return pki.ocsp(given)
end

local function server_context(staple, one, options)
  one = one or leaf
  local all = { role = "server", certificate = one.certificate, key = one.key, ocsp_response = staple }
  for name, value in pairs(options or {}) do all[name] = value end
  return assert(tls.context(all))
end

local function client_context(ocsp, options)
  return helper.client_context(helper.with({ ocsp = ocsp }, options))
end

-- A handshake of those contexts, and a clean end.
local function meet(client_side, server_side, transport, options)
  local client, server = helper.pair(transport, options, nil, { client = client_side, server = server_side })
  local mine, theirs = helper.meet(client, server, transport and transport.pump)
  server:close()
  return client, mine[2], theirs[2]
end

local function accepted(client_side, server_side, transport, options)
  local client, err = meet(client_side, server_side, transport, options)
  assert.is_nil(err, tostring(err))
  assert.is_true(client:handshake_done())
  assert.same({ code = 0, text = "ok" }, client:verify_result())
  client:close()
end

local function refused(code, text, client_side, server_side, transport, options)
  local client, err, seen = meet(client_side, server_side, transport, options)
  assert.is_truthy(err, "accepted: " .. text)
  local verify = { code = code, text = text, depth = 0, subject = "CN=leaf" }
  assert.equal("verify", err.code, tostring(err))
  assert.equal("connect", err.operation)
  assert.same(verify, err.verify)
  assert.same(verify, client:verify_result())
  assert.same({ "bad_certificate_status_response", true }, { err.alert.name, err.alert.sent })
  assert.is_truthy(tostring(err):find(text, 1, true))
  assert.same({ "alert", "bad_certificate_status_response", false }, { seen.code, seen.alert.name, seen.alert.sent })
  assert.is_nil(client:fileno())
  assert.is_false(client:handshake_done())
  return client
end

-- A certificate of helper.ca with these extensions, by the openssl command.
local function with_extensions(subject, text)
  local own, output = helper.leaf { subject = subject, ca = false }, helper.temp_file ""
  local status, _, err = helper.run { "openssl", "x509", "-in", helper.temp_file(own.certificate), "-clrext", "-CA",
    helper.temp_file(helper.ca.certificate), "-CAkey", helper.temp_file(helper.ca.key), "-extfile",
    helper.temp_file("subjectAltName = DNS:localhost\n" .. text), "-out", output }
  assert(status == 0, err)
  return { certificate = helper.read_file(output), key = own.key }
end

-- ---- what a staple says ----

local GOOD = { "good", "delegated", "delegated_by_key", "endless" }

local BAD = {
  { "revoked", REVOKED, "OCSP response: the certificate is revoked" },
  { "unknown", UNKNOWN, "OCSP response: the certificate is unknown" },
  { "stale", FAILED, "OCSP response is stale" },
  { "future", FAILED, "OCSP response is not yet valid" },
  { "expired_responder", FAILED, "OCSP response is signed by a delegate whose certificate has expired" },
  { "wrong_responder", FAILED, NOBODY },
  { "no_purpose", FAILED, "OCSP response is signed by a certificate that is not for that" },
  { "bad_signature", FAILED, "OCSP response has a bad signature" },
}

for _, version in ipairs { "1.2", "1.3" } do
  for _, demand in ipairs { "request", "require" } do
    local client = client_context(demand, { min_version = version, max_version = version })

    describe(("a client that says %s, over %s,"):format(demand, version), function()
      it("takes a good staple, the issuer's or a delegate's", function()
        for _, name in ipairs(GOOD) do accepted(client, server_context(staples[name])) end
      end)

      for _, bad in ipairs(BAD) do
        it("refuses this one: " .. bad[1], function()
          refused(bad[2], bad[3], client, server_context(staples[bad[1]]))
        end)
      end

      if demand == "require" then
        it("refuses a server without one", function()
          refused(NEEDED, "no OCSP response was given", client, server_context())
        end)
      else
        it("tolerates a server without one", function()
          accepted(client, server_context())
        end)
      end
    end)
  end
end

describe("a certificate that demands a staple (RFC 7633)", function()
  local must = helper.leaf { must_staple = true }
  local good = pki.ocsp { ca = helper.ca, certificate = must }

  for _, version in ipairs { "1.2", "1.3" } do
    it("makes a request a requirement, over " .. version, function()
      local client = client_context("request", { max_version = version })
      refused(NEEDED, "no OCSP response was given, and the certificate demands one (RFC 7633)", client,
        server_context(nil, must))
      accepted(client, server_context(good, must))
    end)
  end

  it("is required as any other", function()
    refused(NEEDED, "no OCSP response was given", client_context("require"), server_context(nil, must))
  end)

  it("demands nothing of a client that doesn't ask", function()
    accepted(helper.client_context(), server_context(nil, must))
    accepted(helper.client_context(), server_context(staples.revoked))
  end)
end)

describe("the times of a staple:", function()
  local client = client_context("require")
  local now = pki.now()
  local DAY = 86400
  local slack = 60 * helper.slow -- what a spec may take

  local function staple(from, to)
    return server_context(response { this_update = now + from, next_update = to and now + to })
  end

  it("clocks may differ by five minutes", function()
    accepted(client, staple(-DAY, -200))
    accepted(client, staple(200, DAY))
    refused(FAILED, "OCSP response is stale", client, staple(-DAY, -310))
    refused(FAILED, "OCSP response is not yet valid", client, staple(310 + slack, DAY))
  end)

  it("one that names no end holds a day", function()
    accepted(client, staple(-DAY + slack, false))
    accepted(client, staple(-DAY - 200, false))
    refused(FAILED, "OCSP response is stale", client, staple(-DAY - 310, false))
  end)

  it("an end before the beginning is none", function()
    refused(FAILED, "OCSP response ends before it begins", client, staple(100, 50))
  end)
end)

-- ---- who has signed it ----

describe("the signer of a staple", function()
  local client = client_context("require")

  it("may be the issuer, with a key of any type", function()
    for _, kind in ipairs { "rsa", "ed25519" } do
      local ca = assert(tls.make_certificate { subject = "CN=OCSP " .. kind, is_ca = true, key_type = kind })
      local one = helper.leaf { ca = ca, key_type = kind }
      local trusts = client_context("require", { ca = ca.certificate })
      accepted(trusts, server_context(pki.ocsp { ca = ca, certificate = one }, one))
      accepted(trusts, server_context(pki.ocsp { ca = ca, certificate = one, signer = pki.responder(ca) }, one))
      refused(FAILED, "OCSP response has a bad signature", trusts,
        server_context(pki.ocsp { ca = ca, certificate = one, tamper = true }, one))
    end
  end)

  it("is the issuer of the certificate, not the issuer's issuer", function()
    local middle = assert(tls.make_certificate { subject = "CN=Middle", is_ca = true, ca = helper.ca })
    local one = helper.leaf { ca = middle }
    one.certificate = one.certificate .. middle.certificate
    accepted(client, server_context(pki.ocsp { ca = middle, certificate = one }, one))
    accepted(client, server_context(pki.ocsp { ca = middle, certificate = one, signer = pki.responder(middle) }, one))
    refused(FAILED, NOBODY, client,
      server_context(pki.ocsp { ca = middle, certificate = one, signer = helper.ca }, one))
    refused(FAILED, NOBODY, client,
      server_context(pki.ocsp { ca = middle, certificate = one, signer = pki.responder(helper.ca) }, one))
  end)

  it("is no delegate of another CA, of that name even", function()
    refused(FAILED, NOBODY, client, server_context(response { signer = pki.responder(helper.other_ca) }))
    local twin = assert(tls.make_certificate { subject = "CN=Test CA", is_ca = true })
    refused(FAILED, NOBODY, client, server_context(response { signer = pki.responder(twin) }))
    refused(FAILED, "OCSP response has a bad signature", client, server_context(response { signer = twin }))
    refused(FAILED, NOBODY, client, server_context(response { signer = twin, by_key = true }))
  end)

  it("is no delegate that is not shown", function()
    refused(FAILED, NOBODY, client, server_context(response { signer = pki.responder(helper.ca), certificates = {} }))
  end)

  it("is no server's certificate, the one itself say", function()
    refused(FAILED, "OCSP response is signed by a certificate that is not for that", client,
      server_context(response { signer = leaf }))
    local any = pki.responder(helper.ca, { purposes = {} }) -- says nothing of its purpose
    refused(FAILED, "OCSP response is signed by a certificate that is not for that", client,
      server_context(response { signer = any }))
  end)

  it("is no delegate whose key may not sign", function()
    local one = with_extensions("CN=responder", "extendedKeyUsage = OCSPSigning\nkeyUsage = keyAgreement")
    refused(FAILED, "OCSP response is signed by a certificate that is not for that", client,
      server_context(response { signer = one }))
  end)

  it("has a certificate that holds now, and a key that is strong enough", function()
    local later = pki.responder(helper.ca, { not_before = pki.now() + 3600 })
    refused(FAILED, "OCSP response is signed by a delegate whose certificate is not yet valid", client,
      server_context(response { signer = later }))
    local weak = pki.responder(helper.ca, { key_type = "rsa", bits = 768 })
    refused(FAILED, "OCSP response is signed by a delegate whose key is too weak", client,
      server_context(response { signer = weak }))
  end)

  it("has used a digest that is strong enough for the security level", function()
    local function signed(digest) -- says "unknown", having heard of no certificate
      local output, index = helper.temp_file "", helper.temp_file ""
      local ca, key = helper.temp_file(helper.ca.certificate), helper.temp_file(helper.ca.key)
      local status, _, err = helper.run({ "openssl", "ocsp", "-index", index, "-CA", ca, "-rsigner", ca, "-rkey", key,
        "-issuer", ca, "-cert", helper.temp_file(leaf.certificate), "-rmd", digest, "-respout", output, "-no_nonce",
        "-ndays", "1" })
      assert(status == 0, err)
      return output
    end
    local weak, strong = signed "sha1", signed "sha384"
    refused(FAILED, "OCSP response is signed with too weak a digest", client, server_context(weak))
    refused(UNKNOWN, "OCSP response: the certificate is unknown", client, server_context(strong))
    refused(UNKNOWN, "OCSP response: the certificate is unknown", client_context("require", { security_level = 0 }),
      server_context(weak))
  end)

  it("is the certificate itself where that has no other issuer", function()
    local own = helper.leaf { ca = false }
    local trusts = client_context("require", { ca = own.certificate })
    accepted(trusts, server_context(pki.ocsp { ca = own, certificate = own }, own))
    refused(FAILED, NOBODY, trusts, server_context(pki.ocsp { ca = own, certificate = own, signer = helper.ca }, own))
  end)
end)

-- ---- what no server of ours would send ----

-- A transport on which a TLS 1.2 server's CertificateStatus (RFC 6066 section 8) has other contents: they travel in
-- the clear, and the client judges them before it could find the change out. nil: the message is left out.
local function forger(der)
  local a, near = helper.socketpair()
  local b, far = helper.socketpair()
  local pending, closed = "", false
  local body = der and "\1" .. bytes.pack(">I3", #der) .. der
  local message = body and "\22" .. bytes.pack(">I3", #body) .. body
  local changed = 0

  local function forge(record)
    if changed > 0 or record:byte(1) ~= 22 or record:byte(6) ~= 22 then return record end
    changed = 1
    return message and record:sub(1, 3) .. bytes.pack(">s2", message) or ""
  end

  local function pump()
    if closed then return end
    local up, down = helper.read_fd(near), helper.read_fd(far)
    if up and up ~= "" then helper.write_fd(far, up) end
    pending = pending .. (down or "")
    while #pending >= 5 and #pending >= 5 + bytes.unpack(">I2", pending, 4) do
      local length = 5 + bytes.unpack(">I2", pending, 4)
      helper.write_fd(near, forge(pending:sub(1, length)))
      pending = pending:sub(length + 1)
    end
    if up == "" or down == "" then
      closed = true
      helper.close_fd(near)
      helper.close_fd(far)
    end
  end

  return { name = "a forger", make = function() return a, b, pump end, pump = pump,
    changed = function() return changed end }
end

describe("a forged staple:", function()
  local client = client_context("require", { max_version = "1.2" })
  local server = server_context(staples.good)

  local function forged(der, code, text)
    local transport = forger(der)
    refused(code, text, client, server, transport)
    assert.equal(1, transport.changed())
  end

  it("garbage", function()
    forged(staples.garbage, FAILED, "OCSP response can't be parsed")
    forged("\0", FAILED, "OCSP response can't be parsed")
    forged(helper.noise(1000), FAILED, "OCSP response can't be parsed")
    forged(staples.good:sub(1, -2), FAILED, "OCSP response can't be parsed")
  end)

  it("garbage behind a good one", function()
    forged(staples.good .. "\0", FAILED, "OCSP response can't be parsed")
  end)

  it("of another certificate", function()
    forged(staples.other_certificate, UNKNOWN, "OCSP response is about another certificate")
    -- of the same serial number, under a CA of the same name and of another one
    local twin = assert(tls.make_certificate { subject = "CN=Test CA", is_ca = true })
    local renamed = { certificate = select(2, helper.run { "openssl", "req", "-x509", "-new", "-subj", "/CN=Renamed",
      "-key", helper.temp_file(helper.ca.key) }), key = helper.ca.key }
    for _, ca in ipairs { twin, helper.other_ca, renamed } do
      forged(pki.ocsp { ca = ca, certificate = leaf }, UNKNOWN, "OCSP response is about another certificate")
    end
  end)

  it("no answer", function()
    for name, text in pairs { malformed = "malformed request", internal_error = "internal error",
      try_later = "try later", sig_required = "signature required", unauthorized = "unauthorized" } do
      forged(pki.ocsp { failure = name }, FAILED, "OCSP response: " .. text)
    end
    forged("\48\3\10\1\4", FAILED, "OCSP response: unknown status")
    forged("\48\3\10\1\0", FAILED, "OCSP response is of an unknown type")
  end)

  it("of a type that nobody knows", function()
    local basic = "\43\6\1\5\5\7\48\1\1" -- id-pkix-ocsp-basic
    local other, count = staples.good:gsub(basic, basic:sub(1, -2) .. "\9", 1)
    assert.equal(1, count)
    forged(other, FAILED, "OCSP response is of an unknown type")
  end)

  it("changed on the way", function()
    local good = "\128\0" -- the status
    local at = staples.good:find(good, 1, true)
    forged(staples.good:sub(1, at - 1) .. "\130\0" .. staples.good:sub(at + 2), FAILED,
      "OCSP response has a bad signature")
  end)

  it("left out", function()
    forged(nil, NEEDED, "no OCSP response was given")
  end)

  it("the real one passes the forger", function()
    local transport = forger(staples.good)
    accepted(client, server, transport)
    assert.equal(1, transport.changed())
  end)
end)

-- ---- options ----

describe("the option ocsp", function()
  local function fails(options, text)
    local context, err = tls.context(options)
    assert.is_nil(context)
    assert.equal("config", err.code)
    assert.equal(text, err.reason)
  end

  it("is refused where it can't be kept", function()
    fails({ ca = helper.ca.certificate, ocsp = "demand" }, 'ocsp: must be "request" or "require"')
    fails({ ocsp = "require", insecure = true }, "ocsp: needs a client that verifies, and this one is insecure")
    fails({ role = "server", certificate = leaf.certificate, key = leaf.key, ocsp = "require" },
      "ocsp: is for clients; a server has ocsp_response")
    assert.has_error(function() tls.context { ocsp = true } end)
  end)
end)

describe("the option ocsp_response", function()
  local function fails(text, staple, one)
    one = one or leaf
    local context, err = tls.context { role = "server", certificate = one.certificate, key = one.key,
      ocsp_response = staple }
    assert.is_nil(context)
    assert.equal("config", err.code)
    assert.equal(text, err.reason)
  end

  it("takes bytes and a path", function()
    local client = client_context("require")
    accepted(client, server_context(staples.good))
    accepted(client, server_context(helper.temp_file(staples.good)))
    accepted(client, server_context { data = staples.good })
    accepted(client, server_context { file = helper.temp_file(staples.good) })
  end)

  it("is refused where it is nothing to give", function()
    local path = helper.temp_file "nonsense"
    fails("ocsp_response: " .. path .. ": no OCSP response in DER", path)
    fails("ocsp_response: the DER data: OCSP response: try later", staples.try_later)
    fails("ocsp_response: the data: no OCSP response in DER", { data = staples.good .. "\0" })
    fails("ocsp_response: the DER data: OCSP response is about another certificate", staples.other_certificate)
    fails("ocsp_response: the DER data: OCSP response is about another certificate",
      pki.ocsp { ca = helper.other_ca, certificate = leaf })
    fails("ocsp_response: /nowhere/at/all: No such file or directory", "/nowhere/at/all")
  end)

  it("is compared with the issuer's key where the chain has it", function()
    local twin = assert(tls.make_certificate { subject = "CN=Test CA", is_ca = true })
    local staple = pki.ocsp { ca = twin, certificate = leaf }
    server_context(staple) -- nobody knows better
    local whole = { certificate = leaf.certificate .. helper.ca.certificate, key = leaf.key }
    fails("ocsp_response: the DER data: OCSP response is about another certificate", staple, whole)
    server_context(staples.good, whole)
  end)

  it("stands in each of several credentials, and belongs to that one", function()
    local rsa = helper.leaf { key_type = "rsa" }
    local context, err = tls.context { role = "server", credentials = {
      { certificate = leaf.certificate, key = leaf.key, ocsp_response = staples.good },
      { certificate = rsa.certificate, key = rsa.key, ocsp_response = staples.good },
    } }
    assert.is_nil(context)
    assert.equal("credentials[2].ocsp_response: the DER data: OCSP response is about another certificate", err.reason)
  end)
end)

describe("set_ocsp_response", function()
  local client = client_context("require")

  it("takes the place of what was given, for connections to come", function()
    local server = server_context(staples.good)
    accepted(client, server)
    assert.equal(server, server:set_ocsp_response(staples.revoked))
    refused(REVOKED, "OCSP response: the certificate is revoked", client, server)
    assert.equal(server, server:set_ocsp_response(helper.temp_file(staples.delegated)))
    accepted(client, server)
  end)

  it("gives one to a context that had none", function()
    local server = server_context()
    refused(NEEDED, "no OCSP response was given", client, server)
    assert(server:set_ocsp_response(staples.good))
    accepted(client, server)
  end)

  it("leaves the old one if the new one is refused", function()
    local server = server_context(staples.good)
    local path = helper.temp_file "nonsense"
    for text, staple in pairs {
      ["ocsp_response: " .. path .. ": no OCSP response in DER"] = path,
      ["ocsp_response: the DER data: OCSP response is about another certificate"] = staples.other_certificate,
      ["ocsp_response: the DER data: OCSP response: try later"] = staples.try_later,
      ["ocsp_response: /nowhere/at/all: No such file or directory"] = "/nowhere/at/all",
    } do
      local none, err = server:set_ocsp_response(staple)
      assert.is_nil(none)
      assert.same({ "config", text }, { err.code, err.reason })
      accepted(client, server)
    end
  end)

  it("is for servers, and takes a file", function()
    local _, err = client:set_ocsp_response(staples.good)
    assert.same({ "config", "ocsp_response: the DER data: is for servers" }, { err.code, err.reason })
    for _, wrong in ipairs { 1, true, {} } do
      assert.has_error(function() server_context():set_ocsp_response(wrong) end)
    end
    assert.has_error(function() server_context():set_ocsp_response() end)
  end)
end)

describe("set_ocsp_response in a hook", function()
  local client = client_context("require")

  local function hooked(hook, fn, staple)
    return server_context(staple, nil, { [hook] = function(conn)
      fn(conn)
      return true
    end })
  end

  for _, hook in ipairs { "on_client_hello", "on_server_name", "on_certificate" } do
    it("takes the place of the context's: " .. hook, function()
      local itself
      local good = hooked(hook, function(conn) itself = conn == conn:set_ocsp_response(staples.good) end)
      accepted(client, good, nil, { server_name = "localhost" })
      assert.is_true(itself)
      refused(REVOKED, "OCSP response: the certificate is revoked", client,
        hooked(hook, function(conn) conn:set_ocsp_response(staples.revoked) end, staples.good))
    end)
  end

  it("stays where the certificate that use_certificate gives has none, and goes where it has", function()
    local pair = { certificate = leaf.certificate, key = leaf.key }
    local function given(credential)
      return hooked("on_certificate", function(conn)
        conn:set_ocsp_response(staples.good)
        assert(conn:use_certificate(credential))
      end)
    end
    accepted(client, given(pair))
    refused(REVOKED, "OCSP response: the certificate is revoked", client,
      given(helper.with(pair, { ocsp_response = staples.revoked })))
  end)

  it("raises elsewhere, and for what is no string", function()
    local server = helper.pair()
    assert.has_error(function() server:set_ocsp_response(staples.good) end, "set_ocsp_response: only in a hook")
    assert.has_error(function() server:set_ocsp_response() end)
    server:close()
    assert.has_error(function() server:set_ocsp_response(staples.good) end)
  end)
end)

describe("many names on one port", function()
  it("give each its own staple", function()
    local other = helper.leaf { names = { "other.example" } }
    local revoked = pki.ocsp { ca = helper.ca, certificate = other, status = "revoked" }
    local inner = server_context(pki.ocsp { ca = helper.ca, certificate = other }, other)
    local server = server_context(staples.good, nil, { names = { ["other.example"] = inner } })
    local client = client_context("require")
    accepted(client, server)
    accepted(client, server, nil, { server_name = "other.example" })
    assert(inner:set_ocsp_response(revoked))
    accepted(client, server)
    local _, err = meet(client, server, nil, { server_name = "other.example" })
    assert.equal(REVOKED, err.verify.code)
  end)
end)

-- ---- without a certificate ----

describe("a server with a pre-shared key", function()
  it("has nothing to staple, and is believed", function()
    local psk = { me = helper.noise(32) }
    for _, version in ipairs { "1.2", "1.3" } do
      local server = assert(tls.context { role = "server", psk = psk, max_version = version })
      accepted(client_context("require", { psk = psk, max_version = version }), server)
    end
  end)

  it("must staple if it shows a certificate instead", function()
    local server = server_context(nil, nil, { psk = { other = helper.noise(32) } })
    local client = client_context("require", { min_version = "1.3", psk = { me = helper.noise(32) } })
    refused(NEEDED, "no OCSP response was given", client, server)
    assert(server:set_ocsp_response(staples.good))
    accepted(client, server)
  end)
end)

-- ---- together with other settings of verification ----

describe("a staple and CRLs:", function()
  local responder = pki.responder(helper.ca, {})
  local exempt = with_extensions("CN=exempt", "extendedKeyUsage = OCSPSigning\nnoCheck = ignored")

  for _, check in ipairs { "leaf", "chain" } do
    local revoking = client_context("require", { crl_check = check, crl = pki.crl { ca = helper.ca,
      revoked = { responder, exempt } } })
    local other = client_context("require", { crl_check = check, crl = pki.crl { ca = helper.ca } })

    it("a delegate must not be revoked, " .. check, function()
      local server = server_context(response { signer = responder })
      refused(FAILED, "OCSP response is signed by a delegate whose certificate is revoked", revoking, server)
      accepted(other, server)
      accepted(client_context("require"), server)
      accepted(revoking, server_context(staples.good))
    end)

    it("unless its certificate is exempt, " .. check, function()
      accepted(revoking, server_context(response { signer = exempt }))
    end)
  end
end)

describe("a staple and a chain that stops early:", function()
  local middle = assert(tls.make_certificate { subject = "CN=Middle", is_ca = true, ca = helper.ca })
  local one = helper.leaf { ca = middle }
  local whole = { certificate = one.certificate .. middle.certificate, key = one.key }
  local hidden = "OCSP response can't be checked: the peer hasn't sent its certificate's issuer"
  local own, delegated, revoked = pki.ocsp { ca = middle, certificate = one },
    pki.ocsp { ca = middle, certificate = one, signer = pki.responder(middle) },
    pki.ocsp { ca = middle, certificate = one, status = "revoked" }

  it("at the issuer (partial_chain)", function()
    local client = client_context("require", { ca = middle.certificate, partial_chain = true })
    for _, staple in ipairs { own, delegated } do
      accepted(client, server_context(staple, one))
      accepted(client, server_context(staple, whole))
    end
    refused(REVOKED, "OCSP response: the certificate is revoked", client, server_context(revoked, whole))
    refused(FAILED, NOBODY, client, server_context(pki.ocsp { ca = middle, certificate = one, signer = helper.ca },
      whole))
  end)

  it("at the certificate itself (partial_chain)", function()
    local client = client_context("require", { ca = one.certificate, partial_chain = true })
    refused(FAILED, hidden, client, server_context(own, one))
    accepted(client, server_context(own, whole))
    accepted(client, server_context(delegated, whole))
    refused(REVOKED, "OCSP response: the certificate is revoked", client, server_context(revoked, whole))
  end)

  it("at the certificate itself (DANE-EE)", function()
    local client = client_context("require", { ca = helper.other_ca.certificate })
    local options = { dane = { { usage = 3, selector = 0, matching_type = 0, data = pki.der(one) } } }
    accepted(client, server_context(own, whole), nil, options)
    accepted(client, server_context(delegated, whole), nil, options)
    local conn = refused(FAILED, hidden, client, server_context(own, one), nil, options)
    assert.is_nil(conn:dane_result())
    refused(REVOKED, "OCSP response: the certificate is revoked", client, server_context(revoked, whole), nil, options)
    refused(NEEDED, "no OCSP response was given", client, server_context(nil, whole), nil, options)
  end)

  it("whose issuer is not who bears the name", function()
    local client = client_context("require", { ca = helper.other_ca.certificate })
    local twin = assert(tls.make_certificate { subject = "CN=Test CA", is_ca = true })
    local plain = with_extensions("CN=leaf", "authorityKeyIdentifier = none")
    local options = { dane = { { usage = 3, selector = 0, matching_type = 0, data = pki.der(plain) } } }
    local function with(ca)
      return server_context(pki.ocsp { ca = ca, certificate = plain },
        { certificate = plain.certificate .. ca.certificate, key = plain.key })
    end
    refused(FAILED, hidden, client, with(twin), nil, options)
    accepted(client, with(helper.ca), nil, options)
  end)

  it("at a CA of the peer's (DANE-TA)", function()
    local client = client_context("require", { ca = helper.other_ca.certificate })
    local options = { dane = { { usage = 2, selector = 0, matching_type = 0, data = pki.der(middle) } } }
    accepted(client, server_context(own, whole), nil, options)
    accepted(client, server_context(delegated, whole), nil, options)
    refused(REVOKED, "OCSP response: the certificate is revoked", client, server_context(revoked, whole), nil, options)
  end)
end)

describe("a certificate whose TLS feature extension", function()
  local client = client_context("request")

  it("can't be read demands a staple", function()
    local one = with_extensions("CN=leaf", "1.3.6.1.5.5.7.1.24 = DER:0500")
    refused(NEEDED, "no OCSP response was given, and the certificate demands one (RFC 7633)", client,
      server_context(nil, one))
    accepted(client, server_context(pki.ocsp { ca = helper.ca, certificate = one }, one))
  end)

  it("names something else demands none", function()
    accepted(client, server_context(nil, with_extensions("CN=leaf", "tlsfeature = 23")))
  end)
end)

describe("several certificates", function()
  it("have their own staples", function()
    local rsa = helper.leaf { key_type = "rsa" }
    local revoked = pki.ocsp { ca = helper.ca, certificate = rsa, status = "revoked" }
    local server = assert(tls.context { role = "server", credentials = {
      { certificate = leaf.certificate, key = leaf.key, ocsp_response = staples.good },
      { certificate = rsa.certificate, key = rsa.key, ocsp_response = pki.ocsp { ca = helper.ca, certificate = rsa } },
    } })
    for _, version in ipairs { "1.2", "1.3" } do
      local ec = client_context("require", { max_version = version, signature_algorithms = "ECDSA+SHA256" })
      local other = client_context("require", { max_version = version,
        signature_algorithms = "rsa_pss_rsae_sha256:RSA+SHA256" })
      assert(server:set_ocsp_response(pki.ocsp { ca = helper.ca, certificate = rsa }))
      accepted(ec, server)
      accepted(other, server)
      assert(server:set_ocsp_response(revoked)) -- to the one that it is about
      accepted(ec, server)
      refused(REVOKED, "OCSP response: the certificate is revoked", other, server)
    end
  end)
end)

describe("a renegotiation", function()
  it("has its own staple, which is judged", function()
    local client = client_context("require", { renegotiation = "allow" })
    local server = server_context(staples.good, nil, { max_version = "1.2", renegotiation = "allow-client" })
    for _, name in ipairs { "good", "revoked" } do
      assert(server:set_ocsp_response(staples.good))
      local a, b = helper.handshaken(nil, nil, nil, { client = client, server = server })
      assert(server:set_ocsp_response(staples[name]))
      local got = helper.together {
        function()
          local ok, err = a:renegotiate()
          if ok then assert(a:write "x") end
          return ok, err
        end,
        function() return b:read(1) end,
      }
      if name == "good" then
        assert.equal("x", got[2][1])
        a:close()
      else
        assert.equal(REVOKED, got[1][2].verify.code)
        assert.equal("bad_certificate_status_response", got[2][2].alert.name)
      end
    end
  end)
end)

-- ---- resumption ----

for _, version in ipairs { "1.2", "1.3" } do
  describe("a session of TLS " .. version .. " with a staple", function()
    local function client(ocsp)
      return client_context(ocsp, { min_version = version, max_version = version })
    end

    -- A visit after which the client has its session: was it resumed, the session, the client's error.
    local function visit(client_side, server_side, session)
      local a, b = helper.pair(nil, { session = session }, nil, { client = client_side, server = server_side })
      local got = helper.together {
        function()
          local ok, err = a:connect()
          if ok then assert.equal("x", a:read(1)) end -- with it TLS 1.3's tickets come
          return ok, err
        end,
        function()
          if b:accept() then assert(b:write("x")) end
        end,
      }
      local resumed, mine = a:resumed(), got[1][1] and a:session()
      a:close()
      b:close()
      return resumed, mine, got[1][2]
    end

    it("resumes without another: the first verdict holds", function()
      local requires, server = client "require", server_context(staples.good)
      local resumed, session = visit(requires, server)
      assert.is_false(resumed)
      assert(server:set_ocsp_response(staples.revoked))
      for _ = 1, 2 do
        resumed, session = visit(requires, server, session)
        assert.is_true(resumed)
      end
      local _, _, err = visit(requires, server)
      assert.equal(REVOKED, err.verify.code)
    end)

    it("is not offered when the staple has ended", function()
      local requires = client "require"
      -- it has ended by the clock, but clocks may differ
      local server = server_context(response { next_update = pki.now() - 100 })
      local _, session = visit(requires, server)
      assert(server:set_ocsp_response(staples.good))
      local resumed, fresh = visit(requires, server, session)
      assert.is_false(resumed)
      assert.is_true((visit(requires, server, fresh)))
    end)

    -- a TLS 1.3 server gives tickets with each resumption
    local function is_bounded()
      local requires = client "require"
      local ends = pki.now() + math.ceil(1 + helper.slow)
      local server = server_context(response { next_update = ends })
      local _, first = visit(requires, server)
      local resumed, second = visit(requires, server, first)
      assert.is_true(resumed)
      helper.until_true(function() return pki.now() > ends end, "the staple's end", 10)
      assert.is_false((visit(requires, server, second)))
    end
    if version == "1.3" and helper.slow < 10 then
      it("is not offered for longer because it has been resumed", is_bounded)
    end

    it("is not taken from a client that asked for less", function()
      local server = server_context()
      for _, weaker in ipairs { helper.client_context { max_version = version }, client "request" } do
        local _, session, err = visit(weaker, server)
        assert.is_nil(err)
        _, _, err = visit(client "require", server, session)
        assert.equal(NEEDED, err.verify.code)
      end
    end)
  end)
end
