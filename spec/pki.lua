-- SPDX-License-Identifier: MIT
-- What a CA says of its certificates afterwards, for specs: CRLs and OCSP responses, good ones and every kind of bad
-- one. The structures are put together here, so that each field can be wrong; the openssl command signs them.
--
--   pki.crl { ca =, revoked = { … } }                    → PEM text (RFC 5280 section 5)
--   pki.ocsp { ca =, certificate =, status = "good" }    → DER of an OCSPResponse (RFC 6960)
--   pki.staples(ca, certificate)                         → { good =, revoked =, stale =, … }, see there
--   pki.responder(ca)                                    → a delegated responder's certificate and key
--   pki.der(certificate), pki.serial(certificate)        → DER; the serial number's bytes
--   pki.rebuilt(certificate, { subject = …, … })         → DER with other values in it, the signature unchanged
--   pki.tlv, pki.sequence, pki.oid, pki.extension        → DER, value by value
--   pki.now()                                            → this moment, a whole number
--
-- A certificate is what make_certificate has given, PEM text, DER or an x509 object; a CA or signer is what
-- make_certificate has given. Moments are seconds since 1970. Nothing here yields; it may be called anywhere.

local compat = require "cotls.compat"
local bytes = require "spec.bytes"
local tls = require "cotls"
local helper = require "spec.helper"

local pki = {}

function pki.now() return os.time() end

-- ---- DER: X.690 ----

local function tlv(tag, ...)
  local body = table.concat { ... }
  if #body < 0x80 then return string.char(tag, #body) .. body end
  local length = bytes.pack(">I4", #body):gsub("^%z+", "")
  return string.char(tag, 0x80 + #length) .. length .. body
end

local function sequence(...) return tlv(0x30, ...) end

local function oid(text)
  local first, second, rest = text:match("^(%d+)%.(%d+)(.*)$")
  local parts = { string.char(first * 40 + second) }
  for arc in rest:gmatch("%d+") do
    local number, digits = tonumber(arc), ""
    repeat
      digits = string.char(number % 0x80 + (digits == "" and 0 or 0x80)) .. digits
      number = math.floor(number / 0x80)
    until number == 0
    parts[#parts + 1] = digits
  end
  return tlv(0x06, compat.unpack(parts))
end

pki.tlv, pki.sequence, pki.oid = tlv, sequence, oid

-- The value at a position: its tag, where its contents begin and end.
local function read_tlv(der, at)
  local tag, length = der:byte(at, at + 1)
  local from = at + 2
  if length >= 0x80 then
    local size = length - 0x80
    length, from = bytes.unpack(">I" .. size, der, from)
  end
  return tag, from, from + length - 1
end

-- The values in the one at a position, each whole, and their contents.
local function children(der, at)
  local whole, contents = {}, {}
  local _, from, to = read_tlv(der, at)
  while from <= to do
    local _, first, last = read_tlv(der, from)
    whole[#whole + 1], contents[#contents + 1] = der:sub(from, last), der:sub(first, last)
    from = last + 1
  end
  return whole, contents
end

local function generalized_time(moment) return tlv(0x18, os.date("!%Y%m%d%H%M%SZ", moment)) end

-- UTCTime before 2050, RFC 5280 section 5.1.2.4
local function time(moment)
  if moment >= 2524608000 then return generalized_time(moment) end
  return tlv(0x17, os.date("!%y%m%d%H%M%SZ", moment))
end

-- ---- certificates ----

function pki.der(certificate)
  if type(certificate) == "table" then certificate = certificate.certificate end
  return assert(tls.x509(certificate)):der()
end

-- { serial, subject, spki: whole values; key: the key's bits }
local function fields(certificate)
  local whole = children(pki.der(certificate), 1)
  local tbs = children(whole[1], 1)
  local at = tbs[1]:byte() == 0xA0 and 2 or 1
  local spki = tbs[at + 5]
  local _, key = children(spki, 1)
  return { serial = tbs[at], subject = tbs[at + 4], spki = spki, key = key[2]:sub(2) }
end

function pki.serial(certificate)
  local serial = fields(certificate).serial
  local _, from, to = read_tlv(serial, 1)
  return serial:sub(from, to)
end

local PLACES = { serial = 0, signature = 1, issuer = 2, validity = 3, subject = 4, spki = 5 }

--- The certificate with other values, and the signature it had: for specs of what reads certificates.
-- @param values serial, signature, issuer, validity, subject, spki: DER; extensions: a list of pki.extension's
-- @return DER
function pki.rebuilt(certificate, values)
  local whole = children(pki.der(certificate), 1)
  local tbs = children(whole[1], 1)
  for name, place in pairs(PLACES) do tbs[2 + place] = values[name] or tbs[2 + place] end
  if values.extensions then tbs[8] = tlv(0xA3, sequence(compat.unpack(values.extensions))) end
  return sequence(sequence(compat.unpack(tbs)), whole[2], whole[3])
end

-- ---- what the openssl command does ----

-- What a command makes of the input.
local function openssl(command, options, input)
  local output = helper.temp_file("")
  local from = command == "dgst" and "" or "-in"
  local line = ("openssl %s %s -out %s %s %s"):format(command, options, output, from, helper.temp_file(input))
  assert(os.execute(line), line)
  return helper.read_file(output)
end

local hashes = {}

local function sha1(data)
  hashes[data] = hashes[data] or openssl("dgst", "-sha1 -binary", data)
  return hashes[data]
end

-- The algorithm's identifier by the key's, and the command that signs.
local ALGORITHMS = {
  [oid "1.2.840.10045.2.1"] = { sequence(oid "1.2.840.10045.4.3.2"), "-digest sha256" },
  [oid "1.2.840.113549.1.1.1"] = { sequence(oid "1.2.840.113549.1.1.11", "\5\0"), "-digest sha256" },
  [oid "1.3.101.112"] = { sequence(oid "1.3.101.112"), "" },
}

-- The signature's algorithm; a function from bytes to what follows them in a signed structure.
local function signer_of(signer, tamper)
  local algorithm = children(fields(signer).spki, 1)[1]
  local identifier, options = compat.unpack(ALGORITHMS[children(algorithm, 1)[1]])
  local key = helper.temp_file(signer.key)
  return identifier, function(data)
    local signature = openssl("pkeyutl", ("-sign -rawin %s -inkey %s"):format(options, key), data)
    if tamper then signature = bytes.flip(signature, -1) end
    return identifier, tlv(0x03, "\0", signature)
  end
end

-- ---- CRLs ----

local REASONS = { unspecified = 0, key_compromise = 1, ca_compromise = 2, superseded = 4, hold = 6 }

--- An extension, by its OID.
function pki.extension(id, value, critical)
  return sequence(oid(id), critical and "\1\1\255" or "", tlv(0x04, value))
end

local extension = pki.extension

--- A CRL.
-- @param given { ca = who has issued the certificates and signs; revoked = a list of certificates, or of
--   { certificate =, at = moment, reason = "key_compromise" … }; this_update = moment (an hour ago), next_update =
--   moment (in a day) or false (none); number = of the CRL (1); signer = whose key signs (ca: another makes the
--   signature wrong); tamper = true: the signature is damaged }
-- @return PEM text
function pki.crl(given)
  local issuer = fields(given.ca)
  local algorithm, sign = signer_of(given.signer or given.ca, given.tamper)
  local now, revoked = pki.now(), {}
  for _, one in ipairs(given.revoked or {}) do
    local entry = type(one) == "table" and (one.at or one.reason) and one or { certificate = one }
    local reason = entry.reason and sequence(extension("2.5.29.21", tlv(0x0A, string.char(REASONS[entry.reason]))))
    revoked[#revoked + 1] = sequence(fields(entry.certificate).serial, time(entry.at or now - 7200), reason or "")
  end
  local next_update = given.next_update == nil and now + 86400 or given.next_update
  local extensions = sequence(extension("2.5.29.35", sequence(tlv(0x80, sha1(issuer.key)))),
    extension("2.5.29.20", tlv(0x02, string.char(given.number or 1))))
  local list = sequence("\2\1\1", algorithm, issuer.subject, time(given.this_update or now - 3600),
    next_update and time(next_update) or "", revoked[1] and sequence(compat.unpack(revoked)) or "",
    tlv(0xA0, extensions))
  return openssl("crl", "-inform DER", sequence(list, sign(list)))
end

-- ---- OCSP ----

local responders = setmetatable({}, { __mode = "k" })

--- A delegated responder of the CA: its certificate bears the purpose OCSPSigning. Made once for each CA.
-- @param ca what make_certificate has given
-- @param wish more options of make_certificate; then it is made anew
function pki.responder(ca, wish)
  if responders[ca] and not wish then return responders[ca] end
  local all = { subject = "CN=responder", ca = ca, purposes = "ocsp" }
  for name, value in pairs(wish or {}) do all[name] = value end
  local made = assert(tls.make_certificate(all))
  if not wish then responders[ca] = made end
  return made
end

local function certificate_status(given, now)
  if given.status == "unknown" then return "\130\0" end
  if given.status ~= "revoked" then return "\128\0" end
  local reason = given.reason and tlv(0xA0, tlv(0x0A, string.char(REASONS[given.reason]))) or ""
  return tlv(0xA1, generalized_time(given.revoked_at or now - 7200), reason)
end

local function single_response(given, now)
  local issuer = fields(given.ca)
  local id = sequence(sequence(oid "1.3.14.3.2.26", "\5\0"), tlv(0x04, sha1(issuer.subject)),
    tlv(0x04, sha1(issuer.key)), fields(given.certificate).serial)
  local next_update = given.next_update == nil and now + 86400 or given.next_update
  return sequence(id, certificate_status(given, now), generalized_time(given.this_update or now - 3600),
    next_update and tlv(0xA0, generalized_time(next_update)) or "",
    given.scts and tlv(0xA1, sequence(extension("1.3.6.1.4.1.11129.2.4.5", tlv(0x04, given.scts)))) or "")
end

-- RFC 6960 section 4.2.1
local FAILURES = { malformed = 1, internal_error = 2, try_later = 3, sig_required = 5, unauthorized = 6 }

--- An OCSP response about one certificate.
-- @param given { ca = who has issued it; certificate; status = "good" (default), "revoked", "unknown"; reason,
--   revoked_at: as in a CRL; this_update = moment (an hour ago), next_update = moment (in a day) or false (none);
--   produced_at = moment (this_update); signer = who signs (ca); certificates = a list to send along (the signer's,
--   unless it is the ca); by_key = true: the responder is named by its key's hash, not by its name; tamper = true:
--   the signature is damaged; scts = RFC 6962's list of them; failure = "try_later" …: a response without an answer }
-- @return DER
function pki.ocsp(given)
  if given.failure then return sequence(tlv(0x0A, string.char(FAILURES[given.failure]))) end
  local signer, now = given.signer or given.ca, pki.now()
  local _, sign = signer_of(signer, given.tamper)
  local who = fields(signer)
  local id = given.by_key and tlv(0xA2, tlv(0x04, sha1(who.key))) or tlv(0xA1, who.subject)
  local produced = given.produced_at or given.this_update or now - 3600
  local data = sequence(id, generalized_time(produced), sequence(single_response(given, now)))
  local sent = {}
  for i, one in ipairs(given.certificates or { signer ~= given.ca and signer or nil }) do sent[i] = pki.der(one) end
  local identifier, signature = sign(data)
  local basic = sequence(data, identifier, signature, sent[1] and tlv(0xA0, sequence(table.concat(sent))) or "")
  return sequence("\10\1\0", tlv(0xA0, sequence(oid "1.3.6.1.5.5.7.48.1.1", tlv(0x04, basic))))
end

local strangers = setmetatable({}, { __mode = "k" })

-- Somebody whom the CA has not vouched for.
local function stranger(ca)
  strangers[ca] = strangers[ca] or assert(tls.make_certificate { subject = "CN=stranger", is_ca = true })
  return strangers[ca]
end

-- What each staple is, beside ca and certificate.
local STAPLES = {
  good = function() return {} end, -- signed by the CA itself
  revoked = function() return { status = "revoked", reason = "key_compromise" } end,
  unknown = function() return { status = "unknown" } end,
  stale = function(now) return { this_update = now - 172800, next_update = now - 86400 } end,
  future = function(now) return { this_update = now + 86400, next_update = now + 172800 } end,
  endless = function() return { next_update = false } end, -- names no end
  delegated = function(_, ca) return { signer = pki.responder(ca) } end,
  delegated_by_key = function(_, ca) return { signer = pki.responder(ca), by_key = true } end,
  expired_responder = function(_, ca) return { signer = pki.responder(ca, { days = -1 }) } end,
  wrong_responder = function(_, ca) return { signer = stranger(ca) } end, -- not of this CA
  no_purpose = function(_, ca) return { signer = pki.responder(ca, { purposes = "server" }) } end, -- no OCSPSigning
  bad_signature = function() return { tamper = true } end,
  other_certificate = function(_, ca) return { certificate = pki.responder(ca) } end, -- about another one
  try_later = function() return { failure = "try_later" } end,
}

--- Each kind of staple for a certificate, made when asked for, once: good, delegated, delegated_by_key (these are
-- good), endless; revoked, unknown, stale, future, expired_responder, wrong_responder, no_purpose, bad_signature,
-- other_certificate, try_later, garbage (these are not).
function pki.staples(ca, certificate)
  return setmetatable({ garbage = "\048\3\2\1\1" }, {
    __index = function(self, name)
      local given = assert(STAPLES[name], name)(pki.now(), ca)
      given.ca, given.certificate = ca, given.certificate or certificate
      rawset(self, name, pki.ocsp(given))
      return rawget(self, name)
    end,
  })
end

return pki
