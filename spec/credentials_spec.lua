-- Several credentials in one context: who gets which.

local tls = require "cotls"
local luv = require "cotls.luv"
local helper = require "spec.helper"

local function authority(name, kind)
  return assert(tls.make_certificate { subject = "CN=" .. name, is_ca = true, ca = helper.ca, key_type = kind })
end

-- A leaf under an intermediate of its own.
local function under(kind)
  local middle = authority("Middle " .. kind, kind)
  local leaf = helper.leaf { subject = "CN=" .. kind, key_type = kind, ca = middle }
  return { certificate = leaf.certificate .. middle.certificate, key = leaf.key }, leaf.certificate, middle.certificate
end

local EC, EC_LEAF, EC_MIDDLE = under "ec"
local RSA, RSA_LEAF, RSA_MIDDLE = under "rsa"
local ED, ED_LEAF, ED_MIDDLE = under "ed25519"
local CA_FILE = helper.temp_file(helper.ca.certificate)

local function server(credentials, more)
  local options = { role = "server", credentials = credentials }
  for name, value in pairs(more or {}) do options[name] = value end
  local context, err = tls.context(options)
  return context, err
end

local function refused(option, patterns, context, err)
  assert.is_nil(context)
  assert.is_true(tls.is_error(err))
  assert.equal("config", err.code)
  assert.equal(option .. ": ", err.reason:sub(1, #option + 2))
  for _, pattern in ipairs(patterns) do
    assert.is_truthy(err.reason:find(pattern, 1, true), err.reason .. "\nwithout: " .. pattern)
  end
end

-- What openssl s_client sees of that context: the certificates that were sent, and whether it verified them.
local function visit(context, ...)
  local argv, out = { ... }, nil
  helper.in_loop(function()
    local listener = assert(tls.listen("127.0.0.1", 0, { context = context }))
    luv.spawn(function()
      local conn = listener()
      listener:close()
      if conn:accept() then conn:shutdown() end
      conn:close()
    end)
    local command = { "openssl", "s_client", "-connect", "127.0.0.1:" .. listener:port(), "-servername", "localhost",
      "-CAfile", CA_FILE, "-showcerts" }
    table.move(argv, 1, #argv, #command + 1, command)
    local _
    _, out = helper.run(command)
  end)
  local sent = {}
  for pem in out:gmatch("%-%-%-%-%-BEGIN CERTIFICATE%-%-%-%-%-.-%-%-%-%-%-END CERTIFICATE%-%-%-%-%-\n") do
    sent[#sent + 1] = pem
  end
  return sent, out:match("Verify return code: (%d+)")
end

describe("credentials", function()
  local both = assert(server { EC, RSA })
  local turned = assert(server { RSA, EC })

  for _, case in ipairs {
    { "ECDSA alone, 1.3", { EC_LEAF, EC_MIDDLE }, "-tls1_3", "-sigalgs", "ECDSA+SHA256" },
    { "RSA alone, 1.3", { RSA_LEAF, RSA_MIDDLE }, "-tls1_3", "-sigalgs", "RSA-PSS+SHA256:RSA+SHA256" },
    { "ECDSA alone, 1.2", { EC_LEAF, EC_MIDDLE }, "-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256" },
    { "RSA alone, 1.2", { RSA_LEAF, RSA_MIDDLE }, "-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256" },
  } do
    it("each client gets what it can verify, with its chain: " .. case[1], function()
      for _, context in ipairs { both, turned } do
        local sent, verdict = visit(context, table.unpack(case, 3))
        assert.same(case[2], sent)
        assert.equal("0", verdict)
      end
    end)
  end

  it("of three types", function()
    local context = assert(server { RSA, ED, EC })
    assert.same({ ED_LEAF, ED_MIDDLE }, (visit(context, "-sigalgs", "ed25519")))
    assert.same({ EC_LEAF, EC_MIDDLE }, (visit(context, "-sigalgs", "ECDSA+SHA256")))
    assert.same({ RSA_LEAF, RSA_MIDDLE }, (visit(context, "-sigalgs", "RSA-PSS+SHA256")))
  end)

  it("one alone is as good as none: a client that can't verify it is refused", function()
    local context = assert(server { EC })
    assert.same({ EC_LEAF, EC_MIDDLE }, (visit(context)))
    assert.same({}, (visit(context, "-sigalgs", "RSA-PSS+SHA256")))
  end)

  it("of one type are refused", function()
    local other = helper.leaf()
    refused("credentials[2]", { "type EC", "credentials[1]" }, server { EC, other })
    refused("credentials[3]", { "type RSA", "credentials[1]" }, server { RSA, EC, RSA })
  end)

  it("of a client: the server's choice on 1.3, the first on 1.2", function()
    for _, case in ipairs { { "1.3", "ECDSA+SHA256", EC_LEAF }, { "1.3", "RSA-PSS+SHA256", RSA_LEAF },
      { "1.2", "RSA+SHA256", RSA_LEAF }, { "1.2", "ECDSA+SHA256:RSA+SHA256", RSA_LEAF } } do
      local client = helper.client_context { credentials = { RSA, EC }, max_version = case[1] }
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
      local ok, err = pcall(server, credentials)
      assert.is_false(ok)
      assert.is_truthy(tostring(err):find(pattern, 1, true), err)
      assert.matches("credentials_spec.lua:%d+: ", err)
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
    refused("credentials[2]", { "no certificate" }, server { EC, {} })
    refused("credentials[2]", { "no certificate" }, server { EC, { password = "x" } })
    refused("credentials[2].certificate", { missing }, server { EC, { certificate = missing, key = RSA.key } })
    refused("credentials[2].key", { missing }, server { EC, { certificate = RSA_LEAF, key = missing } })
    refused("credentials[2].key", { "does not match" }, server { EC, { certificate = RSA_LEAF, key = EC.key } })
    refused("credentials[1].key", { "no private key is given" }, server { { certificate = EC_LEAF } })
    refused("credentials[1].key", { "no certificate" }, server { { key = EC.key } })
    for _, name in ipairs { "certificate", "key", "key_uri" } do
      refused("credentials[1]." .. name, { "not together with pkcs12" }, server { { pkcs12 = "x", [name] = "x" } })
    end
    refused("credentials[1].key", { "not together with key_uri" }, server { { key_uri = "x", key = "x" } })
  end)

  it("stand alone", function()
    for _, name in ipairs { "certificate", "key", "pkcs12", "key_uri", "password", "ocsp_response" } do
      refused(name, { "credentials" }, server({ EC }, { [name] = "x" }))
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
      server { EC, { certificate = weak .. ".crt", key = weak } })
  end)
end)
