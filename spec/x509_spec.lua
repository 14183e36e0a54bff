local compat = require "cotls.compat"
local bytes = require "spec.bytes"
local tls = require "cotls"
local helper = require "spec.helper"

local pki = require "spec.pki"

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
      { { data = DER:sub(1, -2) }, "the data: " }, { { data = "\048\003\2\1\1" }, "the data: " },
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

  it("doesn't read a trusted certificate, whose settings it would lose", function()
    local status, trusted = helper.run({ "openssl", "x509", "-trustout", "-addreject", "serverAuth" }, PEM)
    assert.equal(0, status)
    local cert, err = tls.x509(trusted)
    assert.is_nil(cert)
    assert.equal("x509: the PEM text: no certificate in it", err.reason)
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
    local other = assert(tls.x509(bytes.flip(DER, -1)))
    assert.is_false(CERT == other)
  end)

  it("tells what it is", function()
    assert.equal("cotls.x509 (CN=leaf)", tostring(CERT))
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
    assert.equal("cotls.x509 (none)", tostring(cert))
    for name, method in pairs(require("cotls.core").methods "cotls.x509") do
      assert.is_false(pcall(method, cert), name)
    end
  end)
end)

-- ---- what a certificate tells ----

-- What `openssl x509` prints with those options.
local function openssl(cert, ...)
  local status, out, err = helper.run({ "openssl", "x509", "-inform", "DER", "-noout", ... }, cert:der())
  assert.equal(0, status, err)
  return out
end

local function make(wish)
  return assert(tls.x509(assert(tls.make_certificate(wish)).certificate))
end

-- A certificate that the openssl command makes: `config` are lines of the section of extensions.
local function by_openssl(config, subject, key, ...)
  local path = helper.temp_file("[req]\ndistinguished_name=dn\nx509_extensions=ext\n[dn]\n[ext]\n" .. config .. "\n")
  local command = { "openssl", "req", "-x509", "-config", path, "-subj", subject or "/CN=x", "-nodes", "-keyout",
    "/dev/null", "-utf8", ... }
  key = key or { "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256" }
  local status, out, err = helper.run(compat.move(key, 1, #key, #command + 1, command))
  assert.equal(0, status, err)
  return assert(tls.x509(out))
end

-- The attribute of a name: a type's OID and its value in DER.
local function attribute(id, value) return pki.sequence(pki.oid(id), value) end

-- A distinguished name; each RDN is a list of attributes.
local function name(...)
  local rdns = {}
  for i, one in ipairs { ... } do rdns[i] = pki.tlv(0x31, table.concat(one)) end
  return pki.sequence(table.concat(rdns))
end

local CN, O = "2.5.4.3", "2.5.4.10"

local function with_subject(...)
  return assert(tls.x509(pki.rebuilt(CERT, { subject = name(...) })))
end

describe("subject and issuer", function()
  it("are RFC 2253 text and a table", function()
    local ca = assert(tls.make_certificate { subject = "CN=The CA,O=Example,C=DE", is_ca = true })
    local cert = make { subject = "CN=x,OU=one+OU=two,O=Example", ca = ca }
    local text, table_of = cert:subject()
    assert.equal("CN=x,OU=two+OU=one,O=Example", text)
    assert.equal("x", table_of.CN)
    assert.same({ "one", "two" }, table_of.OU)
    assert.equal("Example", table_of.O)
    assert.is_nil(table_of.C)
    assert.same({ type = "O", oid = "2.5.4.10", rdn = 1, value = "Example" }, table_of[1])
    assert.same({ type = "OU", oid = "2.5.4.11", rdn = 2, value = "one" }, table_of[2])
    assert.same({ type = "OU", oid = "2.5.4.11", rdn = 2, value = "two" }, table_of[3])
    assert.same({ type = "CN", oid = "2.5.4.3", rdn = 3, value = "x" }, table_of[4])
    assert.equal(4, #table_of)
    text, table_of = cert:issuer()
    assert.equal("CN=The CA,O=Example,C=DE", text)
    assert.equal("The CA", table_of.CN)
  end)

  it("are what OpenSSL prints, whatever the characters", function()
    for _, subject in ipairs { "CN=a\\,b\\+c\\;d\\<e\\>f\\\"g\\\\h=i", "CN=\\#x", "CN=\\ x\\ ",
      "CN=x\\20\\20", "CN=\\ ", "CN=M\\C3\\BCller", "CN=a\\0Ab\\7F\\01", "UID=u,DC=example,DC=org", "CN=x+O=y+OU=z,L=w",
      "CN=a#b", "emailAddress=a@b.example" } do
      local cert = make { subject = subject }
      local expected = openssl(cert, "-subject", "-nameopt", "RFC2253,-esc_msb"):match("^subject=(.*)\n$")
      assert.equal(expected, (cert:subject()))
    end
  end)

  it("are empty where there is none", function()
    local text, table_of = make({ subject = "" }):subject()
    assert.equal("", text)
    assert.same({}, table_of)
    assert.equal("cotls.x509 ()", tostring(make { subject = "" }))
  end)

  it("come right from every kind of string", function()
    local cases = {
      { 0x0C, "M\195\188ller", "M\195\188ller" }, -- UTF8String
      { 0x1E, "\0M\0\252\032\172", "M\195\188\226\130\172" }, -- BMPString
      { 0x1C, "\0\0\0M\0\1\246\0", "M\240\159\152\128" }, -- UniversalString
      { 0x14, "M\252ller", "M\195\188ller" }, -- T61String, taken for Latin-1 as everywhere
      { 0x13, "plain", "plain" }, { 0x16, "a@b", "a@b" }, { 0x12, "12 3", "12 3" },
      { 0x0C, "a\0b", "a\0b", "a\\00b" }, { 0x1E, "\0a\0\0\0b", "a\0b", "a\\00b" }, { 0x0C, "", "" },
    }
    for i, case in ipairs(cases) do
      local text, table_of = with_subject({ attribute(CN, pki.tlv(case[1], case[2])) }):subject()
      assert.equal(case[3], table_of.CN, i)
      assert.equal("CN=" .. (case[4] or case[3]), text, i)
    end
  end)

  it("that are not validly encoded are refused with the certificate", function()
    for i, der in ipairs {
      pki.tlv(0x0C, "\255\254"), pki.tlv(0x0C, "\192\128"), pki.tlv(0x0C, "\237\160\128"), pki.tlv(0x1E, "\216\0"),
      pki.tlv(0x1E, "odd"), pki.tlv(0x1C, "\0\017\0\0"), pki.tlv(0x1C, "\255\255\255\255"),
    } do
      local cert, err = tls.x509(pki.rebuilt(CERT, { subject = name { attribute(CN, der) } }))
      assert.is_nil(cert, i)
      assert.equal("config", err.code)
    end
  end)

  it("show as DER what is no text", function()
    for i, der in ipairs { pki.tlv(0x03, "\0abc"), pki.sequence(pki.tlv(0x0C, "x")) } do
      local cert = with_subject({ attribute(O, pki.tlv(0x0C, "fine")) }, { attribute(CN, der) })
      local text, table_of = cert:subject()
      assert.equal("CN=#" .. bytes.hex(der):upper() .. ",O=fine", text, i)
      assert.is_nil(table_of.CN)
      assert.same({ type = "CN", oid = CN, rdn = 2, der = der }, table_of[2])
      assert.equal("fine", table_of.O)
      assert.equal("cotls.x509 (" .. text .. ")", tostring(cert))
    end
  end)

  it("name unknown types by their OID", function()
    local long = "1.2.3" .. (".4294967295"):rep(20)
    for _, id in ipairs { "1.2.3.4.5", long } do
      local text, table_of = with_subject({ attribute(id, pki.tlv(0x0C, "x")) }):subject()
      assert.equal(id .. "=#0C0178", text)
      assert.equal("x", table_of[id])
      assert.equal(id, table_of[1].type)
    end
  end)

  it("stand many attributes", function()
    local rdns = {}
    for i = 1, 3000 do rdns[i] = { attribute(CN, pki.tlv(0x0C, "n" .. i)) } end
    local text, table_of = with_subject(compat.unpack(rdns)):subject()
    assert.equal(3000, #table_of.CN)
    assert.equal("n3000", table_of.CN[3000])
    assert.matches("^CN=n3000,CN=n2999,.*,CN=n1$", text)
  end)
end)

describe("serial, not_before, not_after", function()
  it("are what OpenSSL prints", function()
    for _ = 1, 5 do
      local cert = make {}
      assert.equal(openssl(cert, "-serial"):match("=(%x+)"):lower(), cert:serial())
    end
    local cert = make { not_before = 1e9, not_after = 4102444800 }
    assert.equal(1000000000, cert:not_before())
    assert.equal(4102444800, cert:not_after())
    assert.equal("integer", compat.math_type(cert:not_after()))
  end)

  it("stand strange serials", function()
    local huge = ("\127" .. ("\171"):rep(4000))
    for serial, text in pairs { ["\0"] = "00", ["\1"] = "01", ["\255"] = "-01", ["\0\255"] = "ff", ["\128"] = "-80",
      [huge] = "7f" .. ("ab"):rep(4000) } do
      assert.equal(text, assert(tls.x509(pki.rebuilt(CERT, { serial = pki.tlv(2, serial) }))):serial())
    end
    assert.equal(("f0"):rep(60), by_openssl("", nil, nil, "-set_serial", "0x" .. ("f0"):rep(60)):serial())
    assert.equal("-05", by_openssl("", nil, nil, "-set_serial", "-5"):serial())
  end)

  it("know the calendar", function()
    for moment = -2208988800, 253402300799, 86400 * 3653 + 12345 do
      local cert = assert(tls.x509(pki.rebuilt(CERT, { validity = pki.sequence(
        pki.tlv(0x18, os.date("!%Y%m%d%H%M%SZ", moment)), pki.tlv(0x18, "99991231235959Z")) })))
      assert.equal(moment, cert:not_before())
      assert.equal(253402300799, cert:not_after())
    end
    for text, moment in pairs { ["20000229000000Z"] = 951782400, ["00000101000000Z"] = -62167219200,
      ["20000301000000Z"] = 951868800, ["21000228235959Z"] = 4107542399, ["21000301000000Z"] = 4107542400 } do
      local cert = assert(tls.x509(pki.rebuilt(CERT, { validity = pki.sequence(pki.tlv(0x18, text),
        pki.tlv(0x17, "491231235959Z")) })))
      assert.equal(moment, cert:not_before())
      assert.equal(2524607999, cert:not_after())
    end
  end)

  it("are nil where there is no time", function()
    for _, text in ipairs { "", "99", "20001301000000Z", "20000230000000Z", "2000010100000\0Z", "xxxxxxxxxxxxxxZ" } do
      local cert = tls.x509(pki.rebuilt(CERT, { validity = pki.sequence(pki.tlv(0x18, text), pki.tlv(0x17, text)) }))
      if cert then
        assert.is_nil(cert:not_before(), text)
        assert.is_nil(cert:not_after(), text)
      end
    end
  end)
end)

local SAN = "2.5.29.17"

local function with_extension(...)
  return assert(tls.x509(pki.rebuilt(CERT, { extensions = { pki.extension(...) } })))
end

describe("names", function()
  it("are those of the subject's alternative names, by kind", function()
    local cert = by_openssl("subjectAltName=DNS:a.example,IP:10.0.0.1,DNS:*.b.example,email:me@a.example," ..
      "URI:https://a.example/x,IP:2001:db8::1,RID:1.2.3,dirName:dn,otherName:1.2.3;UTF8:x")
    assert.same({ dns = { "a.example", "*.b.example" }, ip = { "10.0.0.1", "2001:db8::1" },
      email = { "me@a.example" }, uri = { "https://a.example/x" } }, cert:names())
  end)

  it("are empty lists where there are none", function()
    local none = { dns = {}, ip = {}, email = {}, uri = {} }
    assert.same(none, make({ subject = "CN=only.example" }):names())
    for _, junk in ipairs { "", "junk", "\048", "\048\5", "\048\2\130\5" } do
      assert.same(none, with_extension(SAN, junk):names())
    end
    local san = pki.extension(SAN, pki.sequence(pki.tlv(0x82, "twice.example")))
    local twice = assert(tls.x509(pki.rebuilt(CERT, { extensions = { san, san } })))
    assert.same(none, twice:names())
    assert.is_false(twice:check_host("twice.example"))
  end)

  it("are whole bytes, with NULs and all; what is no address is left out", function()
    local cert = with_extension(SAN, pki.sequence(pki.tlv(0x82, "good.example\0.evil.example"), pki.tlv(0x82, ""),
      pki.tlv(0x87, "\1\2\3"), pki.tlv(0x87, ""), pki.tlv(0x87, "\1\2\3\4\255\0\0\0"),
      pki.tlv(0x87, "\1\2\3\4"),
      pki.tlv(0x81, "a@good.example\0@evil.example"), pki.tlv(0x86, "x\0y")))
    assert.same({ dns = { "good.example\0.evil.example", "" }, ip = { "1.2.3.4" },
      email = { "a@good.example\0@evil.example" }, uri = { "x\0y" } }, cert:names())
    assert.is_false(cert:check_host("good.example"))
    assert.is_false(cert:check_host("good.example\0.evil.example"))
    assert.is_false(cert:check_host(""))
    assert.is_false(cert:check_email("a@good.example"))
    assert.is_true(cert:check_ip("1.2.3.4"))
    assert.is_false(cert:check_ip("1.2.3.0"))
  end)
end)

describe("fingerprint and spki_pin", function()
  it("are what OpenSSL prints", function()
    for _, digest in ipairs { "sha1", "sha256", "sha512", "md5" } do
      local print = openssl(CERT, "-fingerprint", "-" .. digest):match("=(%S+)"):gsub(":", ""):lower()
      assert.equal(print, CERT:fingerprint(digest))
    end
    assert.equal(CERT:fingerprint("sha256"), CERT:fingerprint())
    assert.equal(CERT:fingerprint("sha256"), CERT:fingerprint(nil))
    local path = helper.temp_file(PEM)
    local handle = assert(io.popen("openssl x509 -in " .. path .. " -noout -pubkey" ..
      " | openssl pkey -pubin -outform DER | openssl dgst -sha256 -binary | openssl base64"))
    assert.equal("sha256/" .. handle:read("*l"), CERT:spki_pin())
    handle:close()
  end)

  it("of a key are the same in another certificate", function()
    local leaf = helper.leaf()
    local path = helper.temp_file(leaf.key)
    local _, out = helper.run { "openssl", "req", "-x509", "-key", path, "-subj", "/CN=again" }
    local first, second = assert(tls.x509(leaf.certificate)), assert(tls.x509(out))
    assert.equal(first:spki_pin(), second:spki_pin())
    assert.is_not.equal(first:fingerprint(), second:fingerprint())
    assert.is_not.equal(first:spki_pin(), CERT:spki_pin())
  end)

  it("refuse a digest that there is not", function()
    for _, digest in ipairs { "nope", "", "sha256\0", "sha256 " } do
      local print, err = CERT:fingerprint(digest)
      assert.is_nil(print)
      assert.equal("config", err.code)
      assert.matches("^fingerprint: unknown digest", err.reason)
    end
    assert.is_false(pcall(CERT.fingerprint, CERT, {}))
  end)
end)

describe("key and signature_algorithm", function()
  it("tell the key's type, bits and curve", function()
    assert.same({ type = "ec", bits = 256, curve = "P-256" }, CERT:key())
    assert.equal("ecdsa-with-SHA256", CERT:signature_algorithm())
    local rsa = make { key_type = "rsa", bits = 1024 }
    assert.same({ type = "rsa", bits = 1024 }, rsa:key())
    assert.equal("sha256WithRSAEncryption", rsa:signature_algorithm())
    local ed = make { key_type = "ed25519" }
    assert.same({ type = "ed25519", bits = 256 }, ed:key())
    assert.equal("ED25519", ed:signature_algorithm())
    assert.equal("ecdsa-with-SHA1", make({ digest = "sha1" }):signature_algorithm())
    local cases = {
      { { "-newkey", "ec", "-pkeyopt", "group:secp384r1" }, { type = "ec", bits = 384, curve = "P-384" } },
      { { "-newkey", "ec", "-pkeyopt", "group:secp256k1" }, { type = "ec", bits = 256, curve = "secp256k1" } },
      { { "-newkey", "ed448" }, { type = "ed448", bits = 456 } },
      { { "-newkey", "rsa-pss", "-pkeyopt", "rsa_keygen_bits:1024" }, { type = "rsa-pss", bits = 1024 } },
    }
    for _, case in ipairs(cases) do assert.same(case[2], by_openssl("", nil, case[1]):key()) end
  end)

  it("stand keys that nobody knows", function()
    local unknown = pki.sequence(pki.sequence(pki.oid "1.2.3.4"), pki.tlv(3, "\0abc"))
    local damaged = pki.sequence(pki.sequence(pki.oid "1.2.840.10045.2.1", pki.oid "1.2.840.10045.3.1.7"),
      pki.tlv(3, "\0\4abc"))
    for _, spki in ipairs { unknown, damaged } do
      local cert = assert(tls.x509(pki.rebuilt(CERT, { spki = spki })))
      assert.is_nil(cert:key())
      assert.matches("^sha256/[%w+/]+=$", cert:spki_pin())
    end
    local whole = pki.rebuilt(CERT, {}) -- the outer algorithm
    local at = assert(whole:find(pki.oid "1.2.840.10045.4.3.2", -110, true))
    local cert = assert(tls.x509(whole:sub(1, at + 8) .. "\127" .. whole:sub(at + 10)))
    assert.equal("1.2.840.10045.4.3.127", cert:signature_algorithm())
  end)
end)

describe("is_ca and purposes", function()
  it("tell what a certificate is for", function()
    assert.is_false(CERT:is_ca())
    assert.same({ server = true, client = true }, CERT:purposes())
    local ca = assert(tls.x509(helper.ca.certificate))
    assert.is_true(ca:is_ca())
    assert.same({ any = true }, ca:purposes())
    for _, name_of in ipairs { "server", "client", "code", "email", "time", "ocsp", "any" } do
      assert.same({ [name_of] = true }, make({ purposes = name_of }):purposes())
    end
    assert.same({ any = true }, make({ purposes = {} }):purposes())
    assert.same({ ["1.2.3.4"] = true, server = true, ["1.3.6.1.5.5.7.3.5"] = true },
      by_openssl("extendedKeyUsage=serverAuth,1.2.3.4,ipsecEndSystem"):purposes())
    assert.same({}, with_extension("2.5.29.37", "junk"):purposes())
  end)

  it("need more than a guess for a CA", function()
    assert.is_true(by_openssl("basicConstraints=CA:TRUE"):is_ca())
    assert.is_false(by_openssl("basicConstraints=CA:TRUE\nkeyUsage=digitalSignature"):is_ca())
    assert.is_false(by_openssl("basicConstraints=CA:FALSE\nkeyUsage=keyCertSign"):is_ca())
    assert.is_false(by_openssl("keyUsage=keyCertSign"):is_ca())
    assert.is_false(with_extension("2.5.29.19", "junk"):is_ca())
  end)
end)

describe("extensions and addresses", function()
  it("are listed", function()
    local cert = by_openssl("basicConstraints=critical,CA:TRUE,pathlen:3\n1.2.3.4=critical,DER:04:00:01\n" ..
      "subjectAltName=DNS:a.example\ntlsfeature=status_request")
    local by_oid, list = {}, cert:extensions()
    for _, one in ipairs(list) do by_oid[one.oid] = one end
    assert.equal(5, #list) -- one is OpenSSL's own
    assert.same({ oid = "2.5.29.19", name = "basicConstraints", critical = true, data = "\048\6\1\1\255\2\1\3",
      text = "CA:TRUE, pathlen:3" }, by_oid["2.5.29.19"])
    assert.same({ oid = "1.2.3.4", critical = true, data = "\4\0\1" }, by_oid["1.2.3.4"])
    assert.same({ oid = SAN, name = "subjectAltName", critical = false, data = "\048\011\130\9a.example",
      text = "DNS:a.example" }, by_oid[SAN])
    assert.equal("status_request", by_oid["1.3.6.1.5.5.7.1.24"].text)
  end)

  it("stand what can't be read", function()
    assert.same({ { oid = SAN, name = "subjectAltName", critical = true, data = "junk" } },
      with_extension(SAN, "junk", true):extensions())
    assert.same({ { oid = "1.2.3", critical = false, data = "" } }, with_extension("1.2.3", ""):extensions())
    local version1 = assert(helper.run({ "true" })) and by_openssl("", nil, nil, "-extensions", "ext")
    assert.equal("table", type(version1:extensions()))
    local long = "1.2.3" .. (".4294967295"):rep(20)
    assert.equal(long, with_extension(long, "x"):extensions()[1].oid)
  end)

  it("give URLs", function()
    local cert = make { ocsp_urls = { "http://a.example/x,y", "http://b.example" },
      ca_issuer_urls = { "http://c.example" } }
    assert.same({ "http://a.example/x,y", "http://b.example" }, cert:ocsp_urls())
    assert.same({ "http://c.example" }, cert:ca_issuer_urls())
    assert.same({}, CERT:ocsp_urls())
    assert.same({}, CERT:ca_issuer_urls())
    assert.same({}, with_extension("1.3.6.1.5.5.7.1.1", "junk"):ocsp_urls())
    local odd = with_extension("1.3.6.1.5.5.7.1.1", pki.sequence(
      pki.sequence(pki.oid "1.3.6.1.5.5.7.48.1", pki.tlv(0x82, "no.url")),
      pki.sequence(pki.oid "1.3.6.1.5.5.7.48.1", pki.tlv(0x86, "a\0b"))))
    assert.same({ "a\0b" }, odd:ocsp_urls())
  end)
end)

describe("check_host, check_ip, check_email", function()
  local cert = by_openssl("subjectAltName=DNS:a.example,DNS:*.b.example,DNS:f*.c.example,DNS:*,DNS:*.net," ..
    "IP:10.0.0.1,IP:2001:db8::1,email:Me@a.example,DNS:9.9.9.9", "/CN=cn.example/emailAddress=dn@a.example")

  it("say whose it is", function()
    for host, expected in pairs { ["a.example"] = true, ["A.EXAMPLE"] = true, ["a.example."] = true,
      ["x.b.example"] = true, ["b.example"] = false, ["x.y.b.example"] = false, ["foo.c.example"] = false,
      ["cn.example"] = false, ["other"] = false, ["evil.net"] = false, ["10.0.0.1"] = false, ["xa.example"] = false } do
      assert.equal(expected, cert:check_host(host), host)
    end
    for ip, expected in pairs { ["10.0.0.1"] = true, ["2001:db8::1"] = true, ["2001:DB8:0:0:0:0:0:1"] = true,
      ["10.0.0.2"] = false, ["::1"] = false, ["::ffff:10.0.0.1"] = false } do
      assert.equal(expected, cert:check_ip(ip), ip)
    end
    for address, expected in pairs { ["Me@a.example"] = true, ["Me@A.EXAMPLE"] = true, ["me@a.example"] = false,
      ["dn@a.example"] = false, ["a.example"] = false, ["@a.example"] = false } do
      assert.equal(expected, cert:check_email(address), address)
    end
  end)

  it("never fall back to the subject", function()
    for _, names in ipairs { "", "subjectAltName=IP:10.0.0.1" } do
      local named = by_openssl(names, "/CN=cn.example/emailAddress=dn@a.example")
      assert.equal("cn.example", select(2, named:subject()).CN)
      assert.is_false(named:check_host("cn.example"))
      assert.is_false(named:check_email("dn@a.example"))
    end
  end)

  it("say no to what is no name", function()
    for _, host in ipairs { "", ".", "..", ".example", ".b.example", "a..example", "a.example..", "a.example\0",
      "a.example\0.b.example", "\0", "a.example ", " a.example", "m\195\188.b.example", ("x"):rep(64) .. ".b.example",
      ("x."):rep(127) .. "b.example", "9.9.9.9", "9.9.9.9.", "::1", "a.example:443" } do
      assert.is_false(cert:check_host(host), host)
    end
    for _, ip in ipairs { "", "10.0.0.1\0", "10.0.0.1 ", "10.0.0", "10.0.0.01.", "a.example", "2001:db8::1%lo",
      "\10\0\0\1" } do
      assert.is_false(cert:check_ip(ip), ip)
    end
    for _, address in ipairs { "", "\0", "Me@a.example\0", "Me@a.example\0x" } do
      assert.is_false(cert:check_email(address), address)
    end
    for _, check in ipairs { "check_host", "check_ip", "check_email" } do
      assert.is_false(pcall(cert[check], cert))
      assert.is_false(pcall(cert[check], cert, {}))
    end
  end)

  it("judge as a connection does", function()
    for _, host in ipairs { "localhost", "elsewhere.example", "127.0.0.1", "127.0.0.2", "leaf" } do
      local client, server = helper.pair(nil, { server_name = host })
      local good = helper.together({ function() return client:connect() end, function() server:accept() end })[1][1]
      local check = host:find("^[%d.]+$") and "check_ip" or "check_host"
      assert.equal(good ~= nil, CERT[check](CERT, host), host)
      client:close()
      server:close()
    end
  end)
end)

-- ---- hostile ones ----

describe("a damaged certificate", function()
  local methods = require("cotls.core").methods "cotls.x509"

  local function ask(cert)
    for method_name, method in pairs(methods) do
      local argument = method_name:find("^check") and "a.example" or nil
      assert(pcall(method, cert, argument))
    end
    assert.is_string(tostring(cert))
    assert.is_true(cert == cert)
    assert.is_false(cert == CERT)
  end

  it("crashes nothing", function()
    local rich = by_openssl("subjectAltName=DNS:a.example,IP:10.0.0.1,email:m@a.example,URI:http://x,RID:1.2.3," ..
      "dirName:dn,otherName:1.2.3;UTF8:x\nauthorityInfoAccess=OCSP;URI:http://o,caIssuers;URI:http://c\n" ..
      "extendedKeyUsage=serverAuth,1.2.3.4\nbasicConstraints=CA:TRUE,pathlen:1\nkeyUsage=keyCertSign\n" ..
      "tlsfeature=status_request\nnameConstraints=permitted;DNS:x,excluded;IP:1.0.0.0/255.0.0.0\n" ..
      "certificatePolicies=1.2.3,1.2.4\ncrlDistributionPoints=URI:http://d\nnoCheck=ignored\n" ..
      "policyConstraints=requireExplicitPolicy:3\ninhibitAnyPolicy=2\n" ..
      "sbgp-ipAddrBlock=IPv4:10.0.0.0/8,IPv6:inherit\nsubjectKeyIdentifier=hash\n" ..
      "authorityKeyIdentifier=keyid:always,issuer:always",
      "/C=DE/O=x/OU=a+OU=b/CN=M\195\188ller"):der()
    local random, read = helper.random(12345), 0
    for _ = 1, 4000 / helper.slow do
      local list = { rich:byte(1, -1) }
      for _ = 1, random(3) do
        local at = random(#list)
        list[at] = random(4) == 1 and ({ 0, 0xFF, 0x80, 0x7F })[random(4)] or bytes.xor(list[at], 2 ^ (random(8) - 1))
      end
      local cert = tls.x509 { data = string.char(compat.unpack(list)) }
      if cert then
        read = read + 1
        ask(cert)
      end
    end
    assert.is_true(read > 50 / helper.slow, read)
  end)

  it("leaves nothing in OpenSSL's queue", function()
    for _, bad in ipairs { pki.rebuilt(CERT, { validity = pki.sequence(pki.tlv(0x18, "99"), pki.tlv(0x17, "")) }),
      pki.rebuilt(CERT, { extensions = { pki.extension(SAN, "junk"), pki.extension("2.5.29.37", "junk") } }),
      pki.rebuilt(CERT, { spki = pki.sequence(pki.sequence(pki.oid "1.2.3"), pki.tlv(3, "\0x")) }),
      pki.rebuilt(CERT, { subject = name({ attribute(CN, pki.tlv(0x03, "\0")) }) }) } do
      local cert = assert(tls.x509(bad))
      for method_name, method in pairs(methods) do
        pcall(method, cert, "a.example")
        -- what is left would be this failure's first reason
        local _, err = tls.x509 { data = "\048\3\2\1\1" }
        assert.equal("x509: the data: wrong tag", err.reason, method_name)
      end
    end
  end)
end)
