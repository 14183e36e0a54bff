-- Exported keying material, channel bindings, Finished and randoms. GnuTLS tells its own bindings, of full and of
-- resumed connections; the exporter is compared with OpenSSL's in info_spec.

local compat = require "cotls.compat"
local bytes = require "spec.bytes"
local helper = require "spec.helper"
local luv = require "cotls.luv"
local tls = require "cotls"

local VERSIONS = { "1.2", "1.3" }
local KINDS = { "tls-unique", "tls-server-end-point", "tls-exporter" }
local CA = helper.temp_file(helper.ca.certificate)

local function handshaken(version)
  return helper.handshaken(nil, nil, nil, helper.contexts(version))
end

-- Both ends with a server's certificate that is its own issuer.
local function self_signed(leaf)
  return helper.handshaken(nil, nil, nil, {
    client = helper.client_context { insecure = true },
    server = helper.server_context { certificate = leaf.certificate, key = leaf.key },
  })
end

local function digest(name, certificate)
  local status, out = helper.run({ "openssl", "dgst", "-" .. name, "-binary" }, tls.x509(certificate):der())
  assert.equal(0, status)
  return out
end

local function refused(code, text, ok, err)
  assert.is_nil(ok)
  assert.equal(code, err.code)
  assert.matches(text, tostring(err), 1, true)
end

describe("export_keying_material", function()
  for _, version in ipairs(VERSIONS) do
    it(version .. ": is equal at both ends, and depends on all that is asked", function()
      local client, server = handshaken(version)
      local seen = {}
      for _, asked in ipairs { { "EXPORTER-a", 32 }, { "EXPORTER-b", 32 }, { "EXPORTER-a", 32, "x" },
        { "EXPORTER-a", 32, ("x"):rep(900) }, { "EXPORTER-a\0b", 32, "x\0y" } } do
        local material = assert(client:export_keying_material(compat.unpack(asked, 1, 3)))
        assert.equal(material, server:export_keying_material(compat.unpack(asked, 1, 3)))
        assert.equal(32, #material)
        assert.is_nil(seen[material])
        seen[material] = true
      end
      assert.equal(8160, #assert(client:export_keying_material("EXPORTER-a", 8160)))
      assert.equal(1, #assert(client:export_keying_material("EXPORTER-a", 1)))
      local other = handshaken(version)
      assert.not_equal(other:export_keying_material("EXPORTER-a", 32), client:export_keying_material("EXPORTER-a", 32))
    end)

    it(version .. ": no context and an empty one", function()
      local client = handshaken(version)
      local none = client:export_keying_material("EXPORTER-a", 32)
      local empty = client:export_keying_material("EXPORTER-a", 32, "")
      assert.equal(version == "1.3", none == empty)
    end)

    it(version .. ": before the handshake and after closing", function()
      local client, server = helper.pair(nil, nil, nil, helper.contexts(version))
      refused("tls", "the handshake is not done", client:export_keying_material("EXPORTER-a", 32))
      helper.shake(client, server)
      client:close()
      refused("closed", "the connection is closed", client:export_keying_material("EXPORTER-a", 32))
      refused("closed", "the connection is closed", client:channel_binding("tls-exporter"))
    end)
  end

  it("refuses TLS 1.2's own labels", function()
    local client, server = handshaken "1.2"
    refused("tls", "illegal exporter label", client:export_keying_material("master secret", 32))
    assert(client:write("the error queue is empty\n"))
    server:close()
  end)

  it("raises for wrong arguments", function()
    local client = handshaken()
    for text, arguments in pairs {
      ["#2"] = { nil, 1 }, ["#3"] = { "a" }, ["from 1 to 8160"] = { "a", 0 }, ["to 8160"] = { "a", 8161 },
      ["#4"] = { "a", 1, true }, ["at most 65535"] = { "a", 1, ("x"):rep(65536) },
    } do
      local ok, err = pcall(client.export_keying_material, client, compat.unpack(arguments, 1, 3))
      assert.is_false(ok)
      assert.matches(text, err, 1, true)
    end
  end)
end)

describe("channel_binding", function()
  for _, version in ipairs(VERSIONS) do
    it(version .. ": is equal at both ends, and what the RFCs say", function()
      local client, server = handshaken(version)
      for _, kind in ipairs(KINDS) do
        assert.equal(client:channel_binding(kind), server:channel_binding(kind))
      end
      assert.equal(client:export_keying_material("EXPORTER-Channel-Binding", 32, ""),
        client:channel_binding("tls-exporter"))
      assert.equal(digest("sha256", helper.server_leaf.certificate), client:channel_binding("tls-server-end-point"))
      if version == "1.2" then
        assert.equal(client:finished(), client:channel_binding("tls-unique"))
      else
        refused("tls", "tls-unique is not defined for TLS 1.3", client:channel_binding("tls-unique"))
      end
    end)

    it(version .. ": after closing", function()
      local client, server = handshaken(version)
      local before = {}
      for i, conn in ipairs { client, server } do
        before[i] = { conn:channel_binding("tls-unique"), conn:channel_binding("tls-server-end-point") }
        conn:close()
        assert.equal(before[i][1], (conn:channel_binding("tls-unique")))
        assert.equal(before[i][2], (conn:channel_binding("tls-server-end-point")))
      end
      assert.equal(before[1][2], before[2][2])
    end)
  end

  it("is refused while a renegotiation is under way", function()
    local own, told = helper.leaf(), {}
    local client, server = helper.handshaken(nil, nil, nil, {
      client = helper.client_context { max_version = "1.2", renegotiation = "allow", certificate = own.certificate,
        key = own.key },
      server = helper.server_context { renegotiation = "allow-client", verify_client = "require",
        ca = helper.ca.certificate, on_verify = function(conn, ok)
          told[#told + 1] = compat.pack(conn:channel_binding("tls-unique"))
          return ok
        end } })
    helper.together {
      function()
        assert(client:renegotiate())
        assert(client:shutdown("write"))
      end,
      function() assert.equal("", server:read("a")) end,
    }
    assert.equal(2, #told)
    refused("tls", "the handshake is not done", told[1][1], told[1][2])
    refused("tls", "a new handshake is under way", told[2][1], told[2][2])
    assert.equal(client:channel_binding("tls-unique"), server:channel_binding("tls-unique"))
    client:close()
    server:close()
  end)

  it("is refused before the handshake, and after one that failed", function()
    local client, server = helper.pair(nil, nil, nil, helper.strangers())
    for _, kind in ipairs(KINDS) do refused("tls", "the handshake is not done", client:channel_binding(kind)) end
    helper.together { function() client:connect() end, function() server:accept() end }
    for _, kind in ipairs(KINDS) do refused("tls", "the handshake is not done", client:channel_binding(kind)) end
  end)

  it("raises for another kind", function()
    local client = handshaken()
    assert.has_error(function() client:channel_binding("tls-other") end)
    assert.has_error(function() client:channel_binding() end)
  end)

  it("tls-server-end-point: the hash of the certificate's signature", function()
    for _, name in ipairs { "sha384", "sha512" } do
      local leaf = assert(tls.make_certificate { names = { "localhost" }, digest = name:upper() })
      local client, server = self_signed(leaf)
      assert.equal(digest(name, leaf.certificate), client:channel_binding("tls-server-end-point"))
      assert.equal(digest(name, leaf.certificate), server:channel_binding("tls-server-end-point"))
    end
  end)

  it("tls-server-end-point: SHA-256 where that is SHA-1 or MD5", function()
    for _, name in ipairs { "sha1", "md5" } do
      local leaf = { certificate = helper.temp_file(), key = helper.temp_file() }
      assert.equal(0, (helper.run { "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-" .. name, "-subj",
        "/CN=x", "-out", leaf.certificate, "-keyout", leaf.key }))
      local client, server = self_signed(leaf)
      assert.equal(digest("sha256", leaf.certificate), client:channel_binding("tls-server-end-point"))
      assert.equal(digest("sha256", leaf.certificate), server:channel_binding("tls-server-end-point"))
    end
  end)

  it("tls-server-end-point: PSS names its hash in its parameters", function()
    local leaf = { certificate = helper.temp_file(), key = helper.temp_file() }
    assert.equal(0, (helper.run { "openssl", "req", "-x509", "-newkey", "rsa-pss", "-pkeyopt", "rsa_keygen_bits:2048",
      "-nodes", "-sha384", "-subj", "/CN=x", "-out", leaf.certificate, "-keyout", leaf.key }))
    local client, server = self_signed(leaf)
    assert.equal("rsa_pss_pss_sha256", client:peer_signature_algorithm())
    assert.equal("rsa_pss_pss_sha256", server:signature_algorithm())
    assert.equal(digest("sha384", leaf.certificate), client:channel_binding("tls-server-end-point"))
  end)

  it("tls-server-end-point: not for Ed25519", function()
    local client, server = self_signed(assert(tls.make_certificate { names = { "x" }, key_type = "ed25519" }))
    for _, conn in ipairs { client, server } do
      refused("tls", "not defined for a certificate whose signature has no hash",
        conn:channel_binding("tls-server-end-point"))
      assert(conn:write("the error queue is empty\n"))
    end
  end)
end)

-- ---- GnuTLS ----

-- What our end told of two connections of gnutls-cli, a full and a resumed one, and what it printed of them.
local function twice(context, priority)
  local ours, child = {}, nil
  helper.in_loop(function()
    local listener = assert(tls.listen("127.0.0.1", 0, { context = context }))
    luv.spawn(function()
      helper.each(listener, function(conn)
        assert(conn:accept())
        local told = { resumed = conn:resumed(), errors = {} }
        for _, kind in ipairs(KINDS) do
          local binding, err = conn:channel_binding(kind)
          told[kind], told.errors[kind] = binding and bytes.hex(binding), err
        end
        told.exported, told.errors.exported = conn:export_keying_material("EXPORTER-a", 32)
        ours[#ours + 1] = told
        conn:write("hello\n")
        conn:read("a")
        conn:close()
      end)
    end)
    child = helper.start { "gnutls-cli", "--x509cafile", CA, "--priority", priority, "--port",
      tostring(listener:port()), "-V", "--resume", "--waitresumption", "localhost" }
    child:wait_for("hello")
    helper.until_true(function()
      luv.sleep(0.01)
      return select(2, child.stdout:gsub("Handshake was completed", "")) == 2
    end, "the resumed connection", 10)
    child:close_input()
    child:wait(10)
    child:stop()
    listener:close()
  end, 30)
  local theirs = {}
  for block in child.stdout:gmatch("%- Channel bindings\n(.-)\n%- ") do
    local told = {}
    for kind, value in block:gmatch("'([%w-]+)': (%x+)%f[\n%z]") do told[kind] = value end
    theirs[#theirs + 1] = told
  end
  assert.equal(2, #ours, child.stdout .. child.stderr)
  assert.equal(2, #theirs, child.stdout)
  assert.same({ false, true }, { ours[1].resumed, ours[2].resumed })
  return ours, theirs
end

describe("gnutls-cli prints what channel_binding tells", function()
  for _, version in ipairs(VERSIONS) do
    local priority = "NORMAL:-VERS-ALL:+VERS-TLS" .. version

    it(version, function()
      local ours, theirs = twice(helper.contexts().server, priority)
      for i = 1, 2 do
        for _, kind in ipairs(KINDS) do
          assert.equal(theirs[i][kind], ours[i][kind], kind)
          assert.equal(version == "1.3" and kind == "tls-unique", ours[i][kind] == nil)
        end
      end
      assert.not_equal(ours[1]["tls-exporter"], ours[2]["tls-exporter"])
    end)

    it(version .. ", but not that of a certificate that a resumed session does not tell", function()
      local rsa = helper.leaf { key_type = "rsa" }
      local context = assert(tls.context { role = "server", credentials = { rsa, helper.server_leaf } })
      local ours, theirs = twice(context, priority)
      assert.equal(theirs[1]["tls-server-end-point"], ours[1]["tls-server-end-point"])
      refused("tls", "does not tell which certificate", nil, ours[2].errors["tls-server-end-point"])
    end)
  end

  it("1.2, without extended master secret", function()
    local ours, theirs = twice(helper.contexts().server, "NORMAL:-VERS-ALL:+VERS-TLS1.2:%NO_SESSION_HASH")
    assert.equal(theirs[1]["tls-unique"], ours[1]["tls-unique"])
    assert.equal(theirs[1]["tls-server-end-point"], ours[1]["tls-server-end-point"])
    for i = 1, 2 do refused("tls", "no extended master secret", ours[i].exported, ours[i].errors.exported) end
    refused("tls", "no extended master secret", nil, ours[1].errors["tls-exporter"])
    refused("tls", "no extended master secret", nil, ours[2].errors["tls-exporter"])
    refused("tls", "no extended master secret", nil, ours[2].errors["tls-unique"])
    assert.equal(theirs[2]["tls-server-end-point"], ours[2]["tls-server-end-point"])
  end)
end)
