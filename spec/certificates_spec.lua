-- What a connection tells of certificates: chains of both sides, open, closed, resumed and refused; the stapled OCSP
-- response; SCTs.

local compat = require "cotls.compat"
local bytes = require "spec.bytes"
local helper = require "spec.helper"
local luv = require "cotls.luv"
local pki = require "spec.pki"
local tls = require "cotls"

local VERSIONS = { "1.2", "1.3" }
local FLAGS = { ["1.2"] = "-tls1_2", ["1.3"] = "-tls1_3" }

local root = assert(tls.make_certificate { subject = "CN=Root", is_ca = true })
local issuer = assert(tls.make_certificate { subject = "CN=Issuer", is_ca = true, ca = root })
local server_leaf = helper.leaf { subject = "CN=server", ca = issuer }
local client_leaf = helper.leaf { subject = "CN=client", ca = issuer, key_type = "rsa" }

-- Both with the intermediate.
local function with_chain(leaf, more)
  return helper.with({ certificate = leaf.certificate .. issuer.certificate, key = leaf.key, ca = root.certificate },
    more)
end

local function contexts(version, client, server)
  client.min_version, client.max_version = version, version
  server.min_version, server.max_version = version, version
  return { client = helper.client_context(client), server = helper.server_context(server) }
end

local function list(...)
  local all = {}
  for i, one in ipairs { ... } do all[i] = tls.x509(one.certificate) end
  return all
end

describe("chains", function()
  for _, version in ipairs(VERSIONS) do
    it(version .. ": are told leaf first, on both sides, and after closing", function()
      local client, server = helper.handshaken(nil, nil, nil, contexts(version, with_chain(client_leaf),
        with_chain(server_leaf, { verify_client = "require" })))
      for _ = 1, 2 do
        assert.same(list(server_leaf, issuer), client:peer_chain())
        assert.same(list(client_leaf, issuer), server:peer_chain())
        assert.same(list(server_leaf, issuer, root), client:verified_chain())
        assert.same(list(client_leaf, issuer, root), server:verified_chain())
        assert.equal(tls.x509(server_leaf.certificate), client:peer_certificate())
        assert.equal(tls.x509(client_leaf.certificate), server:peer_certificate())
        assert.equal(tls.x509(server_leaf.certificate), server:certificate())
        assert.equal(tls.x509(client_leaf.certificate), client:certificate())
        client:close()
        server:close()
        collectgarbage()
      end
    end)

    it(version .. ": a client that was not asked has shown no certificate", function()
      local client, server = helper.handshaken(nil, nil, nil, contexts(version, with_chain(client_leaf),
        with_chain(server_leaf)))
      assert.is_nil(client:certificate())
      assert.is_nil(client:signature_algorithm())
      assert.is_nil(server:peer_certificate())
      assert.is_nil(server:peer_chain())
      assert.is_nil(server:verified_chain())
      assert.is_nil(server:peer_signature_algorithm())
    end)

    it(version .. ": a client that verifies nothing sees what came", function()
      for _, ca in ipairs { false, root.certificate } do
        local client = helper.handshaken(nil, nil, nil,
          contexts(version, { insecure = true, ca = ca or nil }, with_chain(server_leaf)))
        assert.same(list(server_leaf, issuer), client:peer_chain())
        assert.is_nil(client:verified_chain())
      end
    end)

    it(version .. ": a chain that was refused is told", function()
      local client, server = helper.pair(nil, nil, nil,
        contexts(version, { ca = helper.other_ca.certificate }, with_chain(server_leaf)))
      helper.together {
        function() assert.equal("verify", helper.code_of(client:connect())) end,
        function() server:accept() end,
      }
      assert.same(list(server_leaf, issuer), client:peer_chain())
      assert.equal(tls.x509(server_leaf.certificate), client:peer_certificate())
      assert.is_nil(client:verified_chain())

      client, server = helper.pair(nil, nil, nil, contexts(version, with_chain(client_leaf),
        with_chain(server_leaf, { verify_client = "require", ca = helper.other_ca.certificate })))
      helper.together {
        function() if client:connect() then client:read() end end,
        function() assert.equal("verify", helper.code_of(server:accept())) end,
      }
      assert.same(list(client_leaf, issuer), server:peer_chain())
      assert.is_nil(server:verified_chain())
    end)

    it(version .. ": a staple that is refused leaves no verified chain", function()
      local staple = pki.ocsp { ca = issuer, certificate = server_leaf, status = "revoked" }
      local client, server = helper.pair(nil, nil, nil, contexts(version, { ca = root.certificate, ocsp = "request" },
        with_chain(server_leaf, { ocsp_response = { data = staple } })))
      helper.together {
        function() assert.equal("verify", helper.code_of(client:connect())) end,
        function() server:accept() end,
      }
      assert.same(list(server_leaf, issuer), client:peer_chain())
      assert.is_nil(client:verified_chain())
      assert.equal(staple, client:ocsp_response())
    end)

    it(version .. ": a name that is refused leaves no verified chain", function()
      local client, server = helper.pair(nil, { verify_name = "other.example" }, nil,
        contexts(version, { ca = root.certificate }, with_chain(server_leaf)))
      helper.together {
        function() assert.equal("verify", helper.code_of(client:connect())) end,
        function() server:accept() end,
      }
      assert.same(list(server_leaf, issuer), client:peer_chain())
      assert.is_nil(client:verified_chain())
    end)
  end
end)

-- ---- openssl s_client, several times ----

-- Our server; openssl s_client with each of the lists of arguments in turn. What each connection told, as info().
local function serve(context, ...)
  local told = {}
  local runs = { ... }
  helper.in_loop(function()
    local listener = assert(tls.listen("127.0.0.1", 0, { context = context }))
    luv.spawn(function()
      helper.each(listener, function(conn)
        if conn:accept() then
          told[#told + 1] = conn:info()
          assert(conn:write("hello\n"))
          conn:read("a")
        end
        conn:close()
      end)
    end)
    for i, run in ipairs(runs) do
      local child = helper.start { "openssl", "s_client", "-connect", "127.0.0.1:" .. listener:port(), "-servername",
        "localhost", compat.unpack(run) }
      child:wait_for("hello")
      child:close_input()
      child:wait(10)
      child:stop()
      assert.equal(i, #told, child.stdout .. child.stderr)
      told[i].output = child.stdout
    end
    listener:close()
  end, 20)
  return told
end

describe("a resumed session", function()
  for _, version in ipairs(VERSIONS) do
    it(version .. ": the peer's certificate is the session's, nothing is shown or verified", function()
      local context = contexts(version, {}, with_chain(server_leaf, { verify_client = "require" })).server
      local session = helper.temp_dir() .. "/session"
      local cert = helper.temp_file(client_leaf.certificate .. issuer.certificate)
      local key = helper.temp_file(client_leaf.key)
      local told = serve(context,
        { FLAGS[version], "-sess_out", session, "-cert", cert, "-cert_chain", cert, "-key", key },
        { FLAGS[version], "-sess_in", session, "-cert", cert, "-key", key })
      local full, resumed = told[1], told[2]
      assert.is_false(full.resumed)
      assert.is_true(resumed.resumed)
      assert.equal(tls.x509(client_leaf.certificate), full.peer_chain[1])
      assert.equal(3, #full.verified_chain)
      assert.equal("rsa_pss_rsae_sha256", full.peer_signature_algorithm)
      assert.same(list(client_leaf), resumed.peer_chain)
      for _, name in ipairs { "verified_chain", "certificate", "signature_algorithm", "peer_signature_algorithm" } do
        assert.is_nil(resumed[name], name)
      end
      assert.equal(full.group, resumed.group)
      assert.equal(full.cipher, resumed.cipher)
      assert.not_equal(full.client_random, resumed.client_random)
      assert.not_equal(full.finished, resumed.finished)
    end)

    it(version .. ": on a client, the chain is what the session has kept", function()
      local both = contexts(version, { ca = root.certificate }, with_chain(server_leaf))
      local function visit(session)
        local client, server = helper.pair(nil, { session = session }, nil, both)
        for _, name in ipairs { "version", "cipher", "group", "peer_certificate", "peer_chain", "client_random" } do
          assert.is_nil(client[name](client), name) -- though a session is there to be offered
        end
        helper.together {
          function()
            assert(client:connect())
            assert.equal("x", client:read(1))
          end,
          function()
            assert(server:accept())
            assert(server:write("x"))
          end,
        }
        assert.equal(session ~= nil, client:resumed())
        return client, server
      end
      local full = visit()
      local session = full:session()
      local again = visit(session)
      assert.same(list(server_leaf, issuer), again:peer_chain())
      assert.same(list(server_leaf, issuer, root), full:verified_chain())
      assert.is_nil(again:verified_chain())
      assert.is_nil(again:peer_signature_algorithm())
      local imported, server = visit(assert(tls.session(again:session():export())))
      assert.same(list(server_leaf), imported:peer_chain())
      assert.equal(full:group(), imported:group())
      assert.equal(full:channel_binding("tls-server-end-point"), imported:channel_binding("tls-server-end-point"))
      for _, kind in ipairs { "tls-exporter", "tls-server-end-point", version == "1.2" and "tls-unique" or nil } do
        assert.equal(assert(imported:channel_binding(kind)), server:channel_binding(kind))
      end
      imported:close()
      assert.same(list(server_leaf), imported:peer_chain())
      assert.is_true(imported:resumed())
    end)
  end
end)

describe("ocsp_response", function()
  local staple = pki.ocsp { ca = issuer, certificate = server_leaf, status = "good" }

  for _, version in ipairs(VERSIONS) do
    it(version .. ": is told at both ends, after closing too, but not in a resumed session", function()
      local both = contexts(version, { ca = root.certificate, ocsp = "request" },
        with_chain(server_leaf, { ocsp_response = { data = staple } }))
      local client, server = helper.handshaken(nil, nil, nil, both)
      assert(server:write("x"))
      assert.equal("x", client:read(1))
      for _ = 1, 2 do
        assert.equal(staple, client:ocsp_response())
        assert.equal(staple, server:ocsp_response())
        client:close()
        server:close()
      end
      client, server = helper.handshaken(nil, { session = client:session() }, nil, both)
      assert.is_true(client:resumed())
      assert.is_nil(client:ocsp_response())
      assert.is_nil(server:ocsp_response())
    end)

    it(version .. ": on a server, what it has sent, if a client asks", function()
      local context = contexts(version, {}, with_chain(server_leaf, { ocsp_response = { data = staple } })).server
      local told = serve(context, { FLAGS[version], "-status" }, { FLAGS[version] })
      assert.matches("OCSP Response Status: successful", told[1].output, 1, true)
      assert.equal(staple, told[1].ocsp_response)
      assert.is_nil(told[2].ocsp_response)
    end)
  end
end)

-- ---- signed certificate timestamps ----

-- RFC 6962 section 3.2 and 3.3
local function sct(number, version)
  return bytes.pack(">Bc32I8s2BBs2", version or 0, ("%032d"):format(number), 1700000000000 + number, "", 4, 3,
    "signature " .. number)
end

local function sct_list(...)
  local parts = {}
  for i, one in ipairs { ... } do parts[i] = bytes.pack(">s2", one) end
  return bytes.pack(">s2", table.concat(parts))
end

local function base64(data)
  local status, out = helper.run({ "openssl", "base64", "-A" }, data)
  assert.equal(0, status)
  return out
end

-- A self-signed certificate with SCTs inside.
local function certificate_with(scts)
  local der = "\4\130" .. bytes.pack(">s2", scts)
  local files = { certificate = helper.temp_file(), key = helper.temp_file() }
  assert.equal(0, (helper.run { "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
    "-nodes", "-subj", "/CN=localhost", "-addext", "1.3.6.1.4.1.11129.2.4.2=DER:" ..
    bytes.hex(der), "-out", files.certificate, "-keyout", files.key }))
  return files
end

describe("scts", function()
  local function expected(number, source)
    return { version = 1, log_id = ("%032d"):format(number), timestamp = 1700000000 + number / 1000,
      signature = "signature " .. number, source = source }
  end

  it("are told from the certificate, and after closing", function()
    local leaf = certificate_with(sct_list(sct(1), sct(2)))
    local client, server = helper.handshaken(nil, nil, nil, {
      client = helper.client_context { insecure = true },
      server = helper.server_context { certificate = leaf.certificate, key = leaf.key },
    })
    assert.is_nil(server:scts())
    for _ = 1, 2 do
      assert.same({ expected(1, "certificate"), expected(2, "certificate") }, client:scts())
      client:close()
    end
  end)

  it("are told from the stapled response", function()
    local staple = pki.ocsp { ca = issuer, certificate = server_leaf, status = "good", scts = sct_list(sct(3), sct(4)) }
    local client, server = helper.handshaken(nil, nil, nil, contexts(nil,
      { ca = root.certificate, ocsp = "request" }, with_chain(server_leaf, { ocsp_response = { data = staple } })))
    for _ = 1, 2 do
      assert.same({ expected(3, "ocsp"), expected(4, "ocsp") }, client:scts())
      assert.is_nil(server:scts())
      client:close()
    end
  end)

  it("are complete at the end, however often they are asked for before", function()
    local staple = pki.ocsp { ca = issuer, certificate = server_leaf, status = "good", scts = sct_list(sct(3)) }
    local client, server, pump = helper.pair("a relay of 64 bytes", nil, nil, contexts("1.2",
      { ca = root.certificate, ocsp = "request" }, with_chain(server_leaf, { ocsp_response = { data = staple } })))
    local asked = 0
    helper.together({
      function()
        local co = coroutine.create(function() assert(client:connect()) end)
        while true do
          local got = compat.pack(coroutine.resume(co))
          assert(got[1], got[2])
          if coroutine.status(co) == "dead" then break end
          client:scts()
          if client:peer_certificate() then asked = asked + 1 end
          coroutine.yield(compat.unpack(got, 2, got.n))
        end
      end,
      function() assert(server:accept()) end,
    }, pump)
    assert.is_true(asked > 1)
    assert.same({ expected(3, "ocsp") }, client:scts())
  end)

  for _, version in ipairs(VERSIONS) do
    it(version .. ": are told from the TLS extension", function()
      local list_of_one = sct_list(sct(5))
      local context = bytes.pack(">I4", version == "1.3" and 0x1080 or 0x1D0)
      local info = context .. bytes.pack(">I2s2", 18, list_of_one)
      local pem = helper.temp_file("-----BEGIN SERVERINFOV2 FOR SCT-----\n" .. base64(info) ..
        "\n-----END SERVERINFOV2 FOR SCT-----\n")
      local port = helper.free_port()
      local child = helper.start { "openssl", "s_server", FLAGS[version], "-accept", "127.0.0.1:" .. port, "-cert",
        helper.temp_file(helper.server_leaf.certificate), "-key", helper.temp_file(helper.server_leaf.key),
        "-serverinfo", pem }
      helper.in_loop(function()
        local ok, err = compat.pcall(function()
          child:wait_for("ACCEPT")
          for _, asked in ipairs { false, "request" } do
            local conn = assert(tls.connect("localhost", port, { ca = helper.ca.certificate, ocsp = asked or nil }))
            for _ = 1, 2 do
              assert.same(asked and { expected(5, "extension") } or {}, conn:scts())
              conn:close()
            end
          end
        end)
        child:stop()
        assert(ok, tostring(err) .. child.stdout .. child.stderr)
      end)
    end)
  end

  it("of an unknown version have two fields", function()
    local leaf = certificate_with(sct_list(sct(1, 6)))
    local client = helper.handshaken(nil, nil, nil, {
      client = helper.client_context { insecure = true },
      server = helper.server_context { certificate = leaf.certificate, key = leaf.key },
    })
    assert.same({ { version = 7, source = "certificate" } }, client:scts())
  end)

  it("that are damaged are none", function()
    for _, scts in ipairs { "", "\0", "\0\5\0\1", sct_list(sct(1)):sub(1, -2), sct_list(sct(1):sub(1, 40)) } do
      local leaf = certificate_with(scts)
      local client = helper.handshaken(nil, nil, nil, {
        client = helper.client_context { insecure = true },
        server = helper.server_context { certificate = leaf.certificate, key = leaf.key },
      })
      for _ = 1, 2 do
        assert.same({}, client:scts())
        client:close()
      end
    end
  end)

  it("are an empty list where there are none", function()
    local client, server = helper.handshaken()
    assert.same({}, client:scts())
    assert.is_nil(server:scts())
  end)
end)

describe("the server name's context", function()
  it("has the certificate that is told", function()
    local other = helper.leaf { names = { "other.example" } }
    local server = helper.server_context { names = {
      ["other.example"] = helper.server_context { certificate = other.certificate, key = other.key } } }
    local both = { client = helper.contexts().client, server = server }
    local client, accepted = helper.handshaken(nil, { server_name = "other.example" }, nil, both)
    assert.equal(tls.x509(other.certificate), accepted:certificate())
    assert.equal(client:channel_binding("tls-server-end-point"), accepted:channel_binding("tls-server-end-point"))
    client, accepted = helper.handshaken(nil, nil, nil, both)
    assert.equal(tls.x509(helper.server_leaf.certificate), accepted:certificate())
    assert.equal(client:peer_certificate(), accepted:certificate())
  end)
end)
