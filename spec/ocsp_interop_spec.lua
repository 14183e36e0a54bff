-- OCSP staples and SCTs against OpenSSL's, curl's and GnuTLS's programs, in both roles, over TLS 1.2 and 1.3.

local compat = require "cotls.compat"
local bytes = require "spec.bytes"
local tls = require "cotls"
local luv = require "cotls.luv"
local helper = require "spec.helper"
local pki = require "spec.pki"

local append = helper.append

local VERSIONS = {
  { name = "1.2", openssl = "-tls1_2", curl = { "--tlsv1.2", "--tls-max", "1.2" }, gnutls = "+VERS-TLS1.2" },
  { name = "1.3", openssl = "-tls1_3", curl = { "--tlsv1.3" }, gnutls = "+VERS-TLS1.3" },
}

local REVOKED, NEEDED, FAILED, UNKNOWN = 23, 73, 74, 75 -- X509_V_ERR_…

local leaf = helper.leaf()
leaf.certificate = leaf.certificate .. helper.ca.certificate -- curl looks for the issuer there
local staples = pki.staples(helper.ca, leaf)

local CA = helper.temp_file(helper.ca.certificate)
local CERT = helper.temp_file(leaf.certificate)
local KEY = helper.temp_file(leaf.key)

-- ---- our server ----

-- Serves one connection with that staple in the loop, an HTTP answer to whatever comes; client(port) is the program.
-- The program's status, and all that it said.
local function served(staple, client, stdin)
  local status, said
  helper.in_loop(function()
    local listener = assert(tls.listen("127.0.0.1", 0, { certificate = leaf.certificate, key = leaf.key,
      ocsp_response = staple, timeout = 10 }))
    luv.spawn(function()
      local conn = listener()
      listener:close()
      if conn:accept() and conn:read() then conn:write "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nwelcome\n" end
      conn:close()
    end)
    local child = helper.start(client(listener:port()), { stdin = stdin })
    status = child:wait(20)
    child:stop()
    said = child.stdout .. child.stderr
  end, 30)
  return status, said
end

for _, version in ipairs(VERSIONS) do
  describe("our server over " .. version.name, function()
    it("staples for openssl s_client", function()
      local function s_client(port)
        return { "openssl", "s_client", version.openssl, "-connect", "127.0.0.1:" .. port, "-CAfile", CA, "-status",
          "-servername", "localhost", "-ign_eof" }
      end
      for name, text in pairs { good = "Cert Status: good", revoked = "Cert Status: revoked" } do
        local _, said = served(staples[name], s_client, "x\n")
        assert.matches("OCSP Response Status: successful", said)
        assert.matches(text, said)
        assert.matches("welcome", said)
      end
      local _, said = served(nil, s_client, "x\n")
      assert.matches("OCSP response: no response sent", said)
      assert.matches("welcome", said)
    end)

    it("satisfies curl --cert-status, which tells a bad staple", function()
      local function curl(port)
        return append({ "curl", "-sS", "--noproxy", "*", "--cacert", CA, "--cert-status", "--max-time", "20",
          "https://localhost:" .. port .. "/" }, compat.unpack(version.curl))
      end
      local status, said = served(staples.good, curl)
      assert.equal(0, status, said)
      assert.equal("welcome\n", said)
      local texts = { revoked = "revocation reason", stale = "expired", unknown = "FAILED",
        bad_signature = "verification failed", none = "No OCSP response" }
      for name, text in pairs(texts) do
        status, said = served(name ~= "none" and staples[name] or nil, curl)
        assert.equal(91, status, said) -- CURLE_SSL_INVALIDCERTSTATUS
        assert.matches(text, said)
      end
    end)

    it("satisfies gnutls-cli, which tells a bad staple", function()
      local function gnutls_cli(port)
        return { "gnutls-cli", "--x509cafile", CA, "--priority", "NORMAL:-VERS-ALL:" .. version.gnutls, "--port",
          tostring(port), "--ocsp", "localhost" }
      end
      local status, said = served(staples.good, gnutls_cli, "x\n")
      assert.equal(0, status, said)
      assert.matches("OCSP", said)
      assert.matches("welcome", said)
      status, said = served(staples.revoked, gnutls_cli, "x\n")
      assert.is_true(status ~= 0)
      assert.matches("revoked", said)
    end)
  end)
end

-- ---- our client ----

-- Starts a server's program, and connects to it with those options of the context: the connection, or nil, err.
local function against(argv, ready, port, attempts)
  helper.in_loop(function()
    local child = helper.start(argv)
    local ok, err = compat.pcall(function()
      child:wait_for(ready)
      for _, attempt in ipairs(attempts) do
        local conn, failure = tls.connect("localhost", port, { ca = helper.ca.certificate, ocsp = attempt.ocsp,
          timeout = 10 })
        if attempt.code then
          assert.is_nil(conn)
          assert.same({ "verify", attempt.code, attempt.text }, { failure.code, failure.verify and failure.verify.code,
            failure.verify and failure.verify.text }, tostring(failure))
        else
          assert(conn, tostring(failure))
          if attempt.check then attempt.check(conn) end
          conn:close()
        end
      end
    end)
    child:stop()
    assert(ok, tostring(err) .. "\n" .. child.stdout .. child.stderr)
  end, 30)
end

local function s_server(version, attempts, ...)
  local port = helper.free_port()
  local argv = append({ "openssl", "s_server", version.openssl, "-accept", "127.0.0.1:" .. port, "-cert", CERT, "-key",
    KEY, "-rev" }, ...)
  against(argv, "ACCEPT", port, attempts)
end

for _, version in ipairs(VERSIONS) do
  describe("our client over " .. version.name .. " and openssl s_server", function()
    local BAD = {
      { "revoked", REVOKED, "OCSP response: the certificate is revoked" },
      { "stale", FAILED, "OCSP response is stale" },
      { "other_certificate", UNKNOWN, "OCSP response is about another certificate" },
      { "try_later", FAILED, "OCSP response: try later" },
    }

    it("takes a good staple", function()
      for _, name in ipairs { "good", "delegated" } do
        local check = function(conn) assert.equal(staples[name], conn:ocsp_response()) end
        s_server(version, { { ocsp = "require", check = check }, { ocsp = "request", check = check }, {} },
          "-status_file", helper.temp_file(staples[name]))
      end
    end)

    for _, bad in ipairs(BAD) do
      it("refuses this one: " .. bad[1], function()
        local refusal = { code = bad[2], text = bad[3] }
        s_server(version, { { ocsp = "require", code = refusal.code, text = refusal.text },
          { ocsp = "request", code = refusal.code, text = refusal.text }, {} }, "-status_file",
          helper.temp_file(staples[bad[1]]))
      end)
    end

    it("refuses none only where one is required", function()
      s_server(version, { { ocsp = "require", code = NEEDED, text = "no OCSP response was given" },
        { ocsp = "request" }, {} })
    end)

    it("takes what openssl ocsp answers, with other hashes too", function()
      local serial = bytes.hex(pki.serial(leaf)):upper()
      serial = serial:gsub("^00", "")
      local ca_key = helper.temp_file(helper.ca.key)
      for line, attempt in pairs {
        ["V\t330101000000Z\t\t%s\tunknown\t/CN=leaf\n"] = {},
        ["R\t330101000000Z\t250101000000Z\t%s\tunknown\t/CN=leaf\n"] = { code = REVOKED,
          text = "OCSP response: the certificate is revoked" },
      } do
        for _, digest in ipairs { "-sha1", "-sha256" } do
          local index, response = helper.temp_file(line:format(serial)), helper.temp_file()
          local status, out, err = helper.run { "openssl", "ocsp", "-index", index, "-CA", CA, "-rsigner", CA, "-rkey",
            ca_key, "-issuer", CA, digest, "-cert", CERT, "-respout", response, "-ndays", "1", "-no_nonce" }
          assert.equal(0, status, out .. err)
          s_server(version, { { ocsp = "require", code = attempt.code, text = attempt.text } }, "-status_file",
            response)
        end
      end
    end)

    it("is not disturbed by SCTs of any kind in the TLS extension", function()
      local framed = bytes.pack(">s2", bytes.pack(">s2", helper.noise(60)))
      for _, list in ipairs { "", "\0\0", "\0", helper.noise(200), ("\0"):rep(500), framed } do
        local where = version.name == "1.3" and 0x1080 or 0x1D0
        local _, base64 = helper.run({ "openssl", "base64", "-A" }, bytes.pack(">I4I2s2", where, 18, list))
        local info = helper.temp_file("-----BEGIN SERVERINFOV2 FOR SCT-----\n" .. base64 ..
          "\n-----END SERVERINFOV2 FOR SCT-----\n")
        s_server(version, { { ocsp = "request", check = function(conn) assert.is_table(conn:scts()) end }, {} },
          "-serverinfo", info)
      end
    end)
  end)

  describe("our client over " .. version.name .. " and gnutls-serv", function()
    it("takes a good staple and refuses others", function()
      for name, refusal in pairs {
        good = {},
        revoked = { code = REVOKED, text = "OCSP response: the certificate is revoked" },
        stale = { code = FAILED, text = "OCSP response is stale" },
      } do
        local port = helper.free_port()
        against({ "gnutls-serv", "--port", tostring(port), "--x509certfile", CERT, "--x509keyfile", KEY, "--echo",
          "--priority", "NORMAL:-VERS-ALL:" .. version.gnutls, "--ignore-ocsp-response-errors",
          "--ocsp-response=" .. helper.temp_file(staples[name]) }, "listening on IPv4[^\n]*done", port,
          { { ocsp = "require", code = refusal.code, text = refusal.text } })
      end
    end)
  end)
end

describe("SCTs of any kind", function()
  -- certificate and staple; the chain is verified, so that OpenSSL looks at them
  it("in a certificate or a staple disturb nobody", function()
    local framed = bytes.pack(">s2", bytes.pack(">s2", helper.noise(60)))
    for _, list in ipairs { "", "\0", "\0\0", helper.noise(200), framed } do
      local staple = pki.ocsp { ca = helper.ca, certificate = leaf, scts = list }
      for _, version in ipairs { "1.2", "1.3" } do
        local client, server = helper.handshaken(nil, nil, nil, {
          client = helper.client_context { ocsp = "require", max_version = version },
          server = assert(tls.context { role = "server", certificate = leaf.certificate, key = leaf.key,
            ocsp_response = staple }),
        })
        assert.is_table(client:scts())
        client:close()
        server:close()
      end
    end
  end)
end)
