local compat = require "cotls.compat"
local tls = require "cotls"
local helper = require "spec.helper"

local openssl, refused, visit = helper.openssl, helper.assert_refused, helper.visit

local LEAF = helper.server_leaf
local CA = helper.ca.certificate

local DER = openssl({ "x509", "-outform", "DER" }, LEAF.certificate)
local KEY_DER = openssl({ "pkey", "-outform", "DER" }, LEAF.key)

-- A leaf under an intermediate of its own.
local function under(kind)
  local middle = assert(tls.make_certificate { subject = "CN=Middle " .. kind, is_ca = true, ca = helper.ca })
  local leaf = helper.leaf { subject = "CN=" .. kind, key_type = kind, ca = middle }
  return { certificate = leaf.certificate .. middle.certificate, key = leaf.key }, leaf.certificate, middle.certificate
end

local EC, EC_LEAF, EC_MIDDLE = under "ec"
local RSA, RSA_LEAF, RSA_MIDDLE = under "rsa"
local ED, ED_LEAF, ED_MIDDLE = under "ed25519"
local CA_FILE = helper.temp_file(CA)

local function server(options)
  options.role = "server"
  return tls.context(options)
end

-- A handshake with that server; what the client then has as the peer's certificate.
local function serves(context, client)
  local a, b = helper.handshaken(nil, nil, nil, { client = client or helper.contexts().client, server = context })
  local pem = a:peer_certificate():pem()
  a:close()
  b:close()
  return pem
end

describe("a certificate and its key", function()
  it("are taken in every form of a file", function()
    local cert, key = helper.temp_file(LEAF.certificate), helper.temp_file(LEAF.key)
    local cert_der, key_der = helper.temp_file(DER), helper.temp_file(KEY_DER)
    local forms = {
      { LEAF.certificate, LEAF.key }, { DER, KEY_DER }, { cert, key }, { cert_der, key_der },
      { { file = cert }, { file = key } }, { { data = LEAF.certificate }, { data = LEAF.key } },
      { { data = DER }, { data = KEY_DER } }, { { file = cert_der }, { file = key_der } },
      { { LEAF.certificate }, LEAF.key }, { { { data = DER } }, { file = key } },
    }
    for _, form in ipairs(forms) do
      assert.equal(LEAF.certificate, serves(assert(server { certificate = form[1], key = form[2] })))
    end
  end)

  it("in one file, in either order, with text around", function()
    for _, text in ipairs { LEAF.certificate .. LEAF.key, LEAF.key .. LEAF.certificate,
      "# mine\n" .. LEAF.key .. "between\n" .. LEAF.certificate .. "after" } do
      assert.equal(LEAF.certificate, serves(assert(server { certificate = text })))
      assert.equal(LEAF.certificate, serves(assert(server { certificate = helper.temp_file(text) })))
    end
  end)

  it("with CRLF line ends", function()
    assert(server { certificate = LEAF.certificate:gsub("\n", "\r\n"), key = (LEAF.key:gsub("\n", "\r\n")) })
  end)

  it("with the chain behind it, or as a list", function()
    local middle = assert(tls.make_certificate { subject = "CN=Middle", is_ca = true, ca = helper.ca })
    local leaf = helper.leaf { ca = middle }
    local middle_der = openssl({ "x509", "-outform", "DER" }, middle.certificate)
    for _, chain in ipairs {
      leaf.certificate .. middle.certificate,
      { leaf.certificate, middle.certificate },
      { leaf.certificate, { data = middle_der } },
      { helper.temp_file(leaf.certificate), helper.temp_file(middle.certificate) },
      { leaf.certificate .. middle.certificate, CA },
    } do
      assert.equal(leaf.certificate, serves(assert(server { certificate = chain, key = leaf.key })))
    end
    -- without the intermediate the client can't build the chain
    local a, b = helper.pair(nil, nil, nil, { client = helper.contexts().client,
      server = assert(server { certificate = leaf.certificate, key = leaf.key }) })
    local got = helper.together { function() return a:connect() end, function() return b:accept() end }
    assert.equal("verify", got[1][2].code)
    assert.equal(20, got[1][2].verify.code) -- unable to get local issuer certificate
  end)

  it("that don't belong together are refused", function()
    for _, key in ipairs { helper.ca.key, RSA.key, helper.temp_file(RSA.key) } do
      refused("key", { "does not match the certificate", #key < 200 and key or "PEM" },
        server { certificate = LEAF.certificate, key = key })
    end
    refused("key", { "does not match" }, server { certificate = { CA, LEAF.certificate }, key = LEAF.key })
  end)

  it("a client has them, too", function()
    assert(tls.context { ca = CA, certificate = LEAF.certificate, key = LEAF.key })
    refused("key", { "does not match" }, tls.context { certificate = LEAF.certificate, key = RSA.key })
  end)
end)

describe("a file that can't be used is named, with the reason", function()
  local missing = helper.temp_dir() .. "/missing.pem"
  local folder = helper.temp_dir()
  local empty = helper.temp_file ""
  local junk = helper.temp_file "no certificate at all\n"
  local cut = helper.temp_file(LEAF.certificate:sub(1, 300))
  local damaged = helper.temp_file((LEAF.certificate:gsub("\nM", "\nA", 1))) -- no SEQUENCE
  local base64 = helper.temp_file((LEAF.certificate:gsub("M", "!", 5)))
  local second = helper.temp_file(LEAF.certificate .. LEAF.certificate:sub(1, 300))
  local unreadable = "/proc/self/mem" -- opens, and fails to be read
  local only_key = helper.temp_file(LEAF.key)

  local function each(option, options)
    for path, reason in pairs {
      [missing] = "No such file", [folder] = "directory", [empty] = "no ", [junk] = "no ", [unreadable] = "error",
    } do
      if not (option == "ca" and path == folder) then
        options[option] = path
        refused(option, { path, reason }, tls.context(options))
        options[option] = { file = path }
        refused(option, { path, reason }, tls.context(options))
        if option ~= "key" then
          options[option] = { LEAF.certificate, path }
          refused(option, { path, reason }, tls.context(options))
        end
      end
    end
    for _, data in ipairs { "", "junk", "\0\1\2", "\48\0", "\48\130\1\0", ("\48"):rep(1000) } do
      options[option] = { data = data }
      refused(option, { "the data" }, tls.context(options))
    end
    for _, path in ipairs { "", "a\0b", { file = "" } } do
      options[option] = path
      refused(option, { "not a path" }, tls.context(options))
    end
  end

  it("certificate", function()
    each("certificate", { role = "server", key = LEAF.key })
    for _, path in ipairs { cut, damaged, base64, second, only_key } do
      refused("certificate", { path }, server { certificate = path, key = LEAF.key })
    end
    refused("certificate", { "the PEM text" }, server { certificate = LEAF.key, key = LEAF.key })
    refused("certificate", { "the DER data" }, server { certificate = KEY_DER, key = LEAF.key })
    refused("certificate", { "the data" }, server { certificate = { data = DER:sub(1, -2) }, key = LEAF.key })
  end)

  it("key", function()
    each("key", { role = "server", certificate = LEAF.certificate })
    local cut_key = helper.temp_file(LEAF.key:sub(1, 100))
    local damaged_key = helper.temp_file(LEAF.key:sub(1, 60) .. "AAAA" .. LEAF.key:sub(65))
    for _, path in ipairs { cut_key, damaged_key, helper.temp_file(LEAF.certificate) } do
      refused("key", { path }, server { certificate = LEAF.certificate, key = path })
    end
    refused("key", { "the DER data" }, server { certificate = LEAF.certificate, key = DER })
  end)

  it("ca", function()
    each("ca", {})
    for _, path in ipairs { cut, damaged, base64, second, only_key } do
      refused("ca", { path }, tls.context { ca = path })
    end
    refused("ca", { junk }, tls.context { ca = { CA, junk } })
  end)

  it("as a user without the right to read it", function()
    local path = helper.temp_file(LEAF.key)
    assert(require("luv").fs_chmod(path, 0))
    local handle = io.open(path)
    if handle then -- root reads everything: there is nothing to see then
      handle:close()
      return
    end
    refused("key", { path, "Permission denied" }, server { certificate = LEAF.certificate, key = path })
  end)

  it("and no descriptor is left open", function()
    local fds = helper.settled_fds()
    for _ = 1, 20 do
      for _, path in ipairs { missing, folder, empty, junk, unreadable } do
        tls.context { ca = path }
        tls.context { role = "server", certificate = path, key = path }
      end
    end
    assert.equal(fds, helper.count_fds())
  end)
end)

-- ---- several ----

-- A server with several credentials.
local function several(credentials, more)
  local options = { role = "server", credentials = credentials }
  for name, value in pairs(more or {}) do options[name] = value end
  local context, err = tls.context(options)
  return context, err
end

describe("credentials", function()
  local both = assert(several { EC, RSA })
  local turned = assert(several { RSA, EC })

  for _, case in ipairs {
    { "ECDSA alone, 1.3", { EC_LEAF, EC_MIDDLE }, "-tls1_3", "-sigalgs", "ECDSA+SHA256" },
    { "RSA alone, 1.3", { RSA_LEAF, RSA_MIDDLE }, "-tls1_3", "-sigalgs", "RSA-PSS+SHA256:RSA+SHA256" },
    { "ECDSA alone, 1.2", { EC_LEAF, EC_MIDDLE }, "-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256" },
    { "RSA alone, 1.2", { RSA_LEAF, RSA_MIDDLE }, "-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256" },
  } do
    it("each client gets what it can verify, with its chain: " .. case[1], function()
      for _, context in ipairs { both, turned } do
        local sent, verdict = visit(context, compat.unpack(case, 3))
        assert.same(case[2], sent)
        assert.equal(0, verdict)
      end
    end)
  end

  it("of three types", function()
    local context = assert(several { RSA, ED, EC })
    assert.same({ ED_LEAF, ED_MIDDLE }, (visit(context, "-sigalgs", "ed25519")))
    assert.same({ EC_LEAF, EC_MIDDLE }, (visit(context, "-sigalgs", "ECDSA+SHA256")))
    assert.same({ RSA_LEAF, RSA_MIDDLE }, (visit(context, "-sigalgs", "RSA-PSS+SHA256")))
  end)

  it("one alone is as good as none: a client that can't verify it is refused", function()
    local context = assert(several { EC })
    assert.same({ EC_LEAF, EC_MIDDLE }, (visit(context)))
    assert.same({}, (visit(context, "-sigalgs", "RSA-PSS+SHA256")))
  end)

  it("of one type are refused", function()
    local other = helper.leaf()
    refused("credentials[2]", { "type EC", "credentials[1]" }, several { EC, other })
    refused("credentials[3]", { "type RSA", "credentials[1]" }, several { RSA, EC, RSA })
  end)

  it("of a client: the one that the server can verify", function()
    for _, case in ipairs { { "1.3", "ECDSA+SHA256", EC_LEAF }, { "1.3", "RSA-PSS+SHA256", RSA_LEAF },
      { "1.2", "RSA+SHA256", RSA_LEAF }, { "1.2", "RSA-PSS+SHA256", RSA_LEAF }, { "1.2", "ECDSA+SHA256", EC_LEAF },
      { "1.2", "ed25519", ED_LEAF }, { "1.2", "ECDSA+SHA256:RSA+SHA256", RSA_LEAF } } do
      local client = helper.client_context { credentials = { RSA, EC, ED }, max_version = case[1] }
      local port = helper.free_port()
      local key, cert = helper.temp_file(helper.server_leaf.key), helper.temp_file(helper.server_leaf.certificate)
      local got = { helper.in_loop(function()
        local child = helper.start { "openssl", "s_server", "-accept", "127.0.0.1:" .. port, "-key", key, "-cert", cert,
          "-CAfile", CA_FILE, "-Verify", "3", "-verify_return_error", "-client_sigalgs", case[2], "-naccept", "1" }
        child:wait_for "ACCEPT"
        local conn = assert(tls.connect("127.0.0.1", port, { context = client, server_name = "localhost" }))
        assert(conn:write "hello\n")
        child:wait_for "hello"
        conn:close()
        child:stop()
        return child.stdout
      end, 20) }
      assert.is_truthy(got[1]:find(case[3]:match("CERTIFICATE%-+\n(.-)\n"), 1, true), case[2])
    end
  end)
end)

describe("credentials that are wrong", function()
  it("are named by their place", function()
    local function raises(pattern, credentials)
      local ok, err = pcall(several, credentials)
      assert.is_false(ok)
      assert.is_truthy(tostring(err):find(pattern, 1, true), err)
      assert.matches("credential_spec.lua:%d+: ", err)
    end
    raises("unknown option 'credentials[2].kee'; did you mean 'key'?", { EC, { certificate = RSA_LEAF, kee = "x" } })
    raises("unknown option 'credentials[1].1'", { { "x" } })
    raises("unknown option 'credentials[1].ca'", { { ca = EC.certificate } })
    raises("option 'credentials[2].key': a file", { EC, { certificate = RSA_LEAF, key = {} } })
    raises("option 'credentials[1].key_uri': string expected", { { key_uri = 1 } })
    raises("option 'credentials': a list of tables expected", {})
    raises("option 'credentials': a list of tables expected", { EC, "x" })
    raises("option 'credentials': a list of tables expected", EC)
    raises("option 'credentials': a list of tables expected", "x")
  end)

  it("are refused with place, option, file and reason", function()
    local missing = helper.temp_dir() .. "/missing.pem"
    refused("credentials[2]", { "no certificate" }, several { EC, {} })
    refused("credentials[2]", { "no certificate" }, several { EC, { password = "x" } })
    refused("credentials[2].certificate", { missing }, several { EC, { certificate = missing, key = RSA.key } })
    refused("credentials[2].key", { missing }, several { EC, { certificate = RSA_LEAF, key = missing } })
    refused("credentials[2].key", { "does not match" }, several { EC, { certificate = RSA_LEAF, key = EC.key } })
    refused("credentials[1].key", { "no private key is given" }, several { { certificate = EC_LEAF } })
    refused("credentials[1].key", { "no certificate" }, several { { key = EC.key } })
    for _, name in ipairs { "certificate", "key", "key_uri" } do
      refused("credentials[1]." .. name, { "not together with pkcs12" }, several { { pkcs12 = "x", [name] = "x" } })
    end
    refused("credentials[1].key", { "not together with key_uri" }, several { { key_uri = "x", key = "x" } })
  end)

  it("stand alone", function()
    for _, name in ipairs { "certificate", "key", "pkcs12", "key_uri", "password", "ocsp_response" } do
      refused(name, { "credentials" }, several({ EC }, { [name] = "x" }))
    end
  end)

  it("a certificate that OpenSSL refuses is named as it was given", function()
    local weak = helper.temp_file(RSA_LEAF)
    local command = { "openssl", "req", "-x509", "-newkey", "rsa:1024", "-nodes", "-subj", "/CN=weak", "-keyout", weak,
      "-out", weak .. ".crt" }
    assert.equal(0, (helper.run(command)))
    refused("certificate", { weak .. ".crt", "key too small" },
      tls.context { role = "server", certificate = weak .. ".crt", key = weak })
    refused("credentials[2].certificate", { weak .. ".crt", "key too small" },
      several { EC, { certificate = weak .. ".crt", key = weak } })
  end)
end)

describe("a session", function()
  local keys = { ("k"):rep(80) }

  local function serving(...)
    local context, err = several({ ... }, { ticket_keys = keys })
    return assert(context, err)
  end

  it("resumes under certificates with the same names alone, whoever holds the ticket key", function()
    local path = helper.temp_dir() .. "/session"
    local _, _, out = visit(serving(LEAF), "-tls1_2", "-sess_out", path)
    assert.matches("\nNew, TLSv1.2", out)
    local renewed, other = helper.leaf(), helper.leaf { names = { "localhost", "other.example" } }
    for _, case in ipairs { { "Reused", LEAF }, { "Reused", renewed }, { "New", other }, { "New", RSA, other },
      { "New", other, RSA } } do
      _, _, out = visit(serving(compat.unpack(case, 2)), "-tls1_2", "-sess_in", path)
      assert.matches("\n" .. case[1] .. ", TLSv1.2", out)
    end
  end)
end)

describe("ocsp_response", function()
  local staple = require("spec.pki").ocsp { ca = helper.ca, certificate = LEAF, status = "good" }

  it("is taken in the forms of DER, beside each certificate", function()
    local path = helper.temp_file(staple)
    for _, form in ipairs { staple, path, { file = path }, { data = staple } } do
      assert(server { certificate = LEAF.certificate, key = LEAF.key, ocsp_response = form })
    end
    assert(several { { certificate = LEAF.certificate, key = LEAF.key, ocsp_response = staple }, RSA })
  end)

  it("that is none is refused, with place, file and reason", function()
    local missing = helper.temp_dir() .. "/missing.der"
    for form, text in pairs { [missing] = missing, [LEAF.certificate] = "the PEM text: no OCSP response in DER" } do
      refused("ocsp_response", { text },
        server { certificate = LEAF.certificate, key = LEAF.key, ocsp_response = form })
      refused("credentials[2].ocsp_response", { text },
        several { RSA, { certificate = LEAF.certificate, key = LEAF.key, ocsp_response = form } })
    end
    for _, junk in ipairs { "", "junk" } do
      refused("ocsp_response", { "the data" },
        server { certificate = LEAF.certificate, key = LEAF.key, ocsp_response = { data = junk } })
    end
  end)

  it("is for servers that have a certificate", function()
    refused("ocsp_response", { "is for servers" },
      tls.context { certificate = LEAF.certificate, key = LEAF.key, ocsp_response = staple })
    refused("credentials[1].ocsp_response", { "is for servers" },
      tls.context { credentials = { { certificate = LEAF.certificate, key = LEAF.key, ocsp_response = staple } } })
    refused("ocsp_response", { "no certificate" }, server { ocsp_response = staple })
  end)
end)

it("what is refused leaves nothing in OpenSSL's queue", function()
  local LOCKED = openssl({ "pkcs8", "-topk8", "-passout", "pass:open sesame" }, LEAF.key)
  for _ = 1, 3 do
    tls.context { role = "server", certificate = { data = "junk" }, key = LEAF.key }
    tls.context { role = "server", certificate = LEAF.certificate, key = { data = "\48\3junk" } }
    tls.context { role = "server", certificate = LEAF.certificate, key = LOCKED, password = "wrong" }
    tls.context { role = "server", pkcs12 = { data = "\48\3junk" } }
    tls.context { role = "server", key_uri = "nowhere:at-all" }
    tls.context { ca = { data = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n" } }
  end
  local a, b = helper.pair()
  b:close()
  local ok, err = a:connect()
  assert.is_nil(ok)
  assert.is_true(err.code == "truncated" or err.code == "system", err.code) -- it may be that nothing could be sent
  for _, entry in ipairs(err.queue) do assert.is_nil(entry.text:find("PEM") or entry.text:find("STORE"), entry.text) end
end)
