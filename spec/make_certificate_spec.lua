local tls = require "cotls"
local helper = require "spec.helper"

local make = tls.make_certificate

-- What `openssl x509 -text` says of a PEM certificate.
local function text_of(pem)
  local status, out, err = helper.run({ "openssl", "x509", "-noout", "-text", "-nameopt", "RFC2253" }, pem)
  assert.equal(0, status, err)
  return out
end

-- openssl verify's judgement on a leaf: true, or its text.
local function verify(ca, leaf, ...)
  local path = helper.temp_file(ca)
  local status, out, err = helper.run({ "openssl", "verify", "-CAfile", path, "-x509_strict", ... }, leaf)
  return status == 0 and true or out .. err
end

local function days_between(text)
  local months = { Jan = 1, Feb = 2, Mar = 3, Apr = 4, May = 5, Jun = 6, Jul = 7, Aug = 8, Sep = 9, Oct = 10, Nov = 11,
    Dec = 12 }
  local function moment(what)
    local month, day, hour, minute, second, year =
      text:match("Not " .. what .. "%s*: (%a+)%s+(%d+) (%d+):(%d+):(%d+) (%d+)")
    return os.time { year = year, month = months[month], day = day, hour = hour, min = minute, sec = second }
  end
  return (moment("After") - moment("Before")) / 86400
end

describe("make_certificate", function()
  it("makes a CA and a leaf that openssl verifies", function()
    for _, key_type in ipairs { "ec", "rsa", "ed25519" } do
      local ca = assert(make { subject = "CN=My CA", is_ca = true, key_type = key_type })
      for _, leaf_type in ipairs { "ec", "rsa", "ed25519" } do
        local leaf = assert(make { names = { "a.example", "*.b.example", "10.0.0.1", "2001:db8::1" }, ca = ca,
          key_type = leaf_type })
        for _, purpose in ipairs { "sslserver", "sslclient" } do
          assert.is_true(verify(ca.certificate, leaf.certificate, "-purpose", purpose))
        end
        assert.is_true(verify(ca.certificate, leaf.certificate, "-verify_hostname", "x.b.example"))
        assert.is_true(verify(ca.certificate, leaf.certificate, "-verify_ip", "2001:db8::1"))
        assert.is_true(verify(ca.certificate, leaf.certificate, "-verify_ip", "10.0.0.1"))
        assert.is_string(verify(ca.certificate, leaf.certificate, "-verify_hostname", "c.example"))
      end
    end
  end)

  it("gives PEM text of the kind of key that was asked for, and its own key to each", function()
    local expected = { ec = "P%-256", rsa = "%(2048 bit%)", ed25519 = "ED25519" }
    for key_type, pattern in pairs(expected) do
      local one = assert(make { names = { "x" }, key_type = key_type })
      assert.matches("^%-%-%-%-%-BEGIN CERTIFICATE%-%-%-%-%-\n", one.certificate)
      assert.matches("^%-%-%-%-%-BEGIN PRIVATE KEY%-%-%-%-%-\n", one.key)
      assert.matches(pattern, text_of(one.certificate))
      assert.is_not.equal(one.key, make({ names = { "x" }, key_type = key_type }).key)
      assert(tls.context { role = "server", certificate = one.certificate, key = one.key })
    end
    assert.matches("P%-256", text_of(make({}).certificate)) -- the default
  end)

  it("sets the extensions of a leaf and of a CA", function()
    local leaf = text_of(helper.server_leaf.certificate)
    assert.matches("CA:FALSE", leaf)
    assert.matches("TLS Web Server Authentication, TLS Web Client Authentication", leaf)
    assert.matches("Subject Key Identifier", leaf)
    assert.matches("Authority Key Identifier", leaf)
    assert.matches("DNS:localhost, IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1", leaf)
    assert.matches("Version: 3", leaf)
    local ca = text_of(helper.ca.certificate)
    assert.matches("Basic Constraints: critical%s+CA:TRUE", ca)
    assert.matches("Certificate Sign", ca)
    assert.is_nil(ca:find("Extended Key Usage"))
  end)

  it("issues intermediates, and chains verify", function()
    local middle = assert(make { subject = "CN=Middle", is_ca = true, ca = helper.ca })
    local leaf = assert(make { names = { "deep.example" }, ca = middle })
    assert.is_string(verify(helper.ca.certificate, leaf.certificate))
    local path = helper.temp_file(middle.certificate)
    assert.is_true(verify(helper.ca.certificate, leaf.certificate, "-untrusted", path))
    assert.matches("Issuer: CN=Middle", text_of(leaf.certificate))
  end)

  it("signs itself without a CA", function()
    local one = assert(make { subject = "CN=alone", names = { "alone.example" } })
    local text = text_of(one.certificate)
    assert.matches("Issuer: CN=alone", text)
    assert.matches("Subject: CN=alone", text)
    assert.is_true(verify(one.certificate, one.certificate, "-verify_hostname", "alone.example"))
  end)

  it("takes RFC 2253 subjects, escapes and all", function()
    for _, subject in ipairs { "CN=x", "CN=a,OU=b,O=c,L=d,ST=e,C=DE", "CN=Last\\, First", "CN=a\\+b",
      "CN=M\\C3\\BCller", "UID=jo,DC=example,DC=org" } do
      local text = text_of(assert(make { subject = subject, names = { "x" } }).certificate)
      assert.is_truthy(text:find("Subject: " .. subject, 1, true), subject .. "\n" .. text)
    end
    assert.matches("Subject: CN=a b,O=c\n", text_of(make({ subject = "  CN = a b , O =  c" }).certificate))
    -- the attributes of one RDN are a set, which DER sorts
    assert.matches("Subject: OU=y%+CN=x\n", text_of(make({ subject = "CN=x+OU=y" }).certificate))
    -- without one the first name is the CN
    assert.matches("Subject: CN=first.example", text_of(make({ names = { "first.example", "b" } }).certificate))
  end)

  it("is valid for so many days, and expired with negative ones", function()
    for _, days in ipairs { 1, 30, 365.5, 3650 } do
      local text = text_of(assert(make { names = { "x" }, days = days }).certificate)
      assert.is_true(math.abs(days_between(text) - days) < 0.05, text)
      assert.is_true(verify(make({ names = { "x" }, days = days }).certificate, helper.ca.certificate) ~= nil)
    end
    local expired = assert(make { names = { "x" }, ca = helper.ca, days = -1 })
    assert.matches("expired", verify(helper.ca.certificate, expired.certificate))
    assert.is_true(verify(helper.ca.certificate, helper.leaf({ days = 1 }).certificate))
  end)

  it("begins and ends at moments", function()
    local function validity(wish)
      wish.names = { "x" }
      local _, out = helper.run({ "openssl", "x509", "-noout", "-startdate", "-enddate", "-dateopt", "iso_8601" },
        assert(make(wish)).certificate)
      return out:match("notBefore=(%S+ %S+)Z\nnotAfter=(%S+ %S+)Z")
    end
    local function iso(moment) return os.date("!%Y-%m-%d %H:%M:%S", moment) end
    local now = os.time()
    for _, case in ipairs { { 0, 1 }, { now - 86400, now + 86400 }, { 2524607999, 2524608000 }, { -1, 4102444800 },
      { -2208988800, 253402300799 }, { 1e9, 1e9 } } do
      local first, last = validity { not_before = case[1], not_after = case[2] }
      assert.equal(iso(case[1]) .. " " .. iso(case[2]), first .. " " .. last)
    end
    local first, last = validity { not_before = 1000000000.75 }
    assert.equal("2001-09-09 01:46:40 2001-10-09 01:46:40", first .. " " .. last)
    first, last = validity { not_after = 1000000000 }
    assert.equal("2001-09-08 01:46:40 2001-09-09 01:46:40", first .. " " .. last)
    first, last = validity { not_after = 4102444800 }
    assert.equal("2100-01-01 00:00:00", last)
    assert.is_true(first <= iso(now - 290) and first >= iso(now - 310 - 10 * helper.slow))
    local later = make { names = { "x" }, ca = helper.ca, not_before = now + 3600 }
    assert.matches("not yet valid", verify(helper.ca.certificate, later.certificate))
  end)

  it("is for the purposes that are named", function()
    local all = { server = "TLS Web Server", client = "TLS Web Client", code = "Code Signing", email = "E%-mail",
      time = "Time Stamping", ocsp = "OCSP Signing", any = "Any Extended" }
    local list = {}
    for name, text in pairs(all) do
      list[#list + 1] = name
      for _, form in ipairs { name, { name } } do
        local said = text_of(assert(make { names = { "x" }, purposes = form }).certificate)
        assert.matches(text, said)
        for other, unsaid in pairs(all) do assert.is_true(other == name or not said:find(unsaid)) end
      end
    end
    local said = text_of(assert(make { names = { "x" }, purposes = list }).certificate)
    for _, text in pairs(all) do assert.matches(text, said) end
    assert.is_nil(text_of(make({ purposes = {} }).certificate):find("Extended Key Usage"))
    assert.matches("Code Signing", text_of(make({ is_ca = true, purposes = "code" }).certificate))
    local server = make { names = { "x" }, ca = helper.ca, purposes = "server" }
    assert.is_true(verify(helper.ca.certificate, server.certificate, "-purpose", "sslserver"))
    assert.matches("purpose", verify(helper.ca.certificate, server.certificate, "-purpose", "sslclient"))
  end)

  it("limits the path below a CA", function()
    for _, length in ipairs { 0, 1, 255 } do
      local text = text_of(make({ is_ca = true, path_length = length }).certificate)
      assert.matches("critical%s+CA:TRUE, pathlen:" .. length .. "\n", text)
    end
    local ca = make { subject = "CN=short", is_ca = true, path_length = 0 }
    local middle = make { subject = "CN=middle", is_ca = true, ca = ca }
    local leaf = make { names = { "x" }, ca = middle }
    assert.matches("path length", verify(ca.certificate, leaf.certificate, "-untrusted",
      helper.temp_file(middle.certificate)))
    assert.is_true(verify(ca.certificate, make({ names = { "x" }, ca = ca }).certificate))
  end)

  it("takes the bits of an RSA key, the signature's digest, must-staple and addresses", function()
    assert.matches("1024 bit", text_of(make({ key_type = "rsa", bits = 1024 }).certificate))
    assert.matches("sha256WithRSA", text_of(make({ key_type = "rsa", bits = 1024 }).certificate))
    assert.matches("ecdsa%-with%-SHA1\n", text_of(make({ digest = "sha1" }).certificate))
    assert.matches("ecdsa%-with%-SHA512\n", text_of(make({ digest = "SHA512" }).certificate))
    assert.matches("TLS Feature: %s+status_request", text_of(make({ must_staple = true }).certificate))
    assert.is_nil(text_of(make({ must_staple = false }).certificate):find("TLS Feature"))
    local text = text_of(make({ ocsp_urls = { "http://a.example/x,y", "http://b" },
      ca_issuer_urls = { "http://c" } }).certificate)
    assert.matches("OCSP %- URI:http://a.example/x,y%s+OCSP %- URI:http://b%s+CA Issuers %- URI:http://c\n", text)
  end)

  it("gives each certificate another serial number", function()
    local seen = {}
    for _ = 1, 20 do
      local _, out = helper.run({ "openssl", "x509", "-noout", "-serial" }, make({ names = { "x" } }).certificate)
      assert.is_nil(seen[out])
      assert.is_true(#out:match("serial=(%x+)") <= 40) -- 20 octets, RFC 5280
      seen[out] = true
    end
  end)

  it("refuses bad values with their option's name", function()
    local foreign = { certificate = helper.ca.certificate, key = helper.other_ca.key }
    local encrypted = helper.openssl({ "pkey", "-aes128", "-passout", "pass:secret" }, helper.ca.key)
    local cases = {
      { { subject = "no equals sign" }, "subject" },
      { { subject = "NOPE=x" }, "subject" },
      { { subject = "CN=x,,O=y" }, "subject" },
      { { subject = "C=Germany" }, "subject" }, -- two letters
      { { subject = "CN=x\\" }, "subject" },
      { { subject = "CN=\\x" }, "subject" },
      { { subject = "CN=a;O=b" }, "subject" },
      { { subject = "CN=#0C0178" }, "subject" },
      { { subject = "CN=" .. ("x"):rep(70000) }, "subject" },
      { { names = { "has space" } }, "names" },
      { { names = { "a..b" } }, "names" },
      { { names = { "" } }, "names" },
      { { names = { "x\0y" } }, "names" },
      { { names = { ("x"):rep(64) } }, "names" },
      { { names = { "1.2.3" } }, "names" },
      { { names = { "1.2.3.256" } }, "names" },
      { { names = { "::g" } }, "names" },
      { { names = { "m\195\188ller.example" } }, "names" },
      { { days = 0 }, "days" },
      { { days = 0 / 0 }, "days" },
      { { days = 1e9 }, "days" },
      { { days = 1, not_after = 4102444800 }, "days" },
      { { days = 1, not_before = 0 }, "days" },
      { { not_before = 2, not_after = 1 }, "not_after" },
      { { not_before = 0 / 0 }, "not_before" },
      { { not_after = math.huge }, "not_after" },
      { { not_after = 253402300800 }, "not_after" },
      { { not_after = -62167219201 }, "not_after" },
      { { bits = 1024 }, "bits" },
      { { bits = 1024, key_type = "ec" }, "bits" },
      { { bits = 511, key_type = "rsa" }, "bits" },
      { { bits = 8193, key_type = "rsa" }, "bits" },
      { { digest = "nope" }, "digest" },
      { { digest = "sha256", key_type = "ed25519" }, "digest" },
      { { digest = "sha512", key_type = "rsa", bits = 512 }, "digest" },
      { { path_length = 0 }, "path_length" },
      { { path_length = 256, is_ca = true }, "path_length" },
      { { purposes = "servers" }, "purposes" },
      { { purposes = { "server", "" } }, "purposes" },
      { { purposes = { "server\0" } }, "purposes" },
      { { purposes = { "server", "client", "server", "client", "server", "client", "server", "client", "server",
        "client", "server", "client" } }, "purposes" },
      { { ocsp_urls = { "http://a b" } }, "ocsp_urls" },
      { { ocsp_urls = { "" } }, "ocsp_urls" },
      { { ca_issuer_urls = { "http://\195\188" } }, "ca_issuer_urls" },
      { { ca_issuer_urls = { "http://a\0" } }, "ca_issuer_urls" },
      { { key_type = "dsa" }, "key_type" },
      { { ca = foreign }, "ca" },
      { { ca = { certificate = "x", key = "y" } }, "ca" },
      { { ca = { certificate = helper.ca.certificate, key = "y" } }, "ca" },
      { { ca = { certificate = helper.ca.certificate, key = encrypted } }, "ca" },
    }
    for i, case in ipairs(cases) do
      local made, err = make(case[1])
      assert.is_nil(made, "case " .. i)
      assert.equal("config", err.code)
      assert.matches("^" .. case[2] .. ": .", err.reason, 1, false)
      assert.is_nil(tostring(err):find("\n"))
    end
  end)

  it("raises on wrong types and unknown options, with the nearest name", function()
    local cases = {
      { { subjct = "CN=x" }, "subject" },
      { { Names = {} }, "names" },
      { { keytype = "ec" }, "key_type" },
      { { nonsense = 1 }, "unknown option 'nonsense'" },
      { { [1] = "x" }, "unknown option '1'" },
      { { subject = 1 }, "subject" },
      { { names = "x" }, "names" },
      { { names = { 1 } }, "names" },
      { { days = "30" }, "days" },
      { { key_type = 1 }, "key_type" },
      { { ca = "pem" }, "ca" },
      { { ca = {} }, "certificate" },
      { { is_ca = 1 }, "is_ca" },
      { { not_before = "now" }, "not_before" },
      { { bits = 1024.5 }, "bits" },
      { { bits = 0 }, "bits" },
      { { path_length = -1, is_ca = true }, "path_length" },
      { { path_length = 0.5, is_ca = true }, "path_length" },
      { { purposes = 1 }, "purposes" },
      { { purposes = { 1 } }, "purposes" },
      { { must_staple = 1 }, "must_staple" },
      { { ocsp_urls = "http://a" }, "ocsp_urls" },
      { { digest = 1 }, "digest" },
    }
    for _, case in ipairs(cases) do
      local ok, err = pcall(make, case[1])
      assert.is_false(ok)
      assert.matches(case[2], err, 1, true)
    end
    assert.is_false(pcall(make))
    assert.is_false(pcall(make, "x"))
  end)

  it("leaves nothing in OpenSSL's queue, and no descriptor", function()
    local fds = helper.count_fds()
    for _ = 1, 20 do make { ca = { certificate = "x", key = "y" } } end
    local _, err = tls.context { role = "server", certificate = { data = "junk" }, key = { data = "junk" } }
    assert.is_nil(tostring(err):find("PEM_read", 1, true))
    assert.equal(fds, helper.count_fds())
  end)
end)

describe("make_certificate", function()
  it("is not confused by options that change while they are read", function()
    local names = { ("x"):rep(50) .. ".example" }
    local made = assert(require("cotls.core").make_certificate(setmetatable({ names = names }, {
      __index = function(_, name)
        if name ~= "days" then return nil end
        names[1] = nil
        collectgarbage()
        for i = 1, 100 do names[i + 1] = ("z"):rep(100) .. i end
      end,
    })))
    assert.matches("BEGIN CERTIFICATE", made.certificate)
  end)
end)
