-- The getters: equal at both ends, equal to what OpenSSL's programs print, the same after closing, nil before the
-- handshake.

local compat = require "cotls.compat"
local bytes = require "spec.bytes"
local helper = require "spec.helper"
local core = require "cotls.core"
local luv = require "cotls.luv"
local tls = require "cotls"

local VERSIONS = { "1.2", "1.3" }
local FLAGS = { ["1.2"] = "-tls1_2", ["1.3"] = "-tls1_3" }
local LABEL = "EXPORTER-cotls spec"

local SCHEMES = { ec = "ecdsa_secp256r1_sha256", rsa = "rsa_pss_rsae_sha256", ed25519 = "ed25519" }

-- RFC 8446 section 4.2.7
local GROUPS = { [23] = "secp256r1", [24] = "secp384r1", [25] = "secp521r1", [29] = "x25519", [30] = "x448",
  [256] = "ffdhe2048" }

local CA = helper.temp_file(helper.ca.certificate)

local LEAVES, FILES = {}, {}
for kind in pairs(SCHEMES) do
  LEAVES[kind] = helper.leaf { key_type = kind }
  FILES[kind] = { cert = helper.temp_file(LEAVES[kind].certificate), key = helper.temp_file(LEAVES[kind].key) }
end

local function contexts(version, client, server)
  local all = { client = client or {}, server = server or {} }
  for _, options in pairs(all) do options.min_version, options.max_version = version, version end
  return { client = helper.client_context(all.client), server = helper.server_context(all.server) }
end

local function mutual(version)
  return contexts(version, { certificate = LEAVES.rsa.certificate, key = LEAVES.rsa.key, alpn = { "a" } },
    { verify_client = "require", ca = helper.ca.certificate, alpn = { "a" } })
end

-- What is there still after closing.
local function lasting(info)
  info.fileno, info.state, info.stats, info.pending = nil, nil, nil, nil
  info.session = info.session and info.session:id()
  return info
end

describe("the getters", function()
  for _, version in ipairs(VERSIONS) do
    it(version .. ": tell the same at both ends", function()
      local client, server = helper.handshaken(nil, nil, nil, mutual(version))
      local c, s = client:info(), server:info()
      for _, name in ipairs { "version", "cipher", "cipher_standard_name", "cipher_bits", "cipher_version", "group",
        "alpn", "server_name", "resumed", "client_random", "server_random", "hello_retry" } do
        assert.is_not_nil(c[name], name)
        assert.equal(c[name], s[name], name)
      end
      assert.equal("TLSv" .. version, c.version)
      assert.equal("x25519", c.group)
      assert.is_false(c.hello_retry)
      assert.equal(SCHEMES.ec, s.signature_algorithm)
      assert.equal(SCHEMES.ec, c.peer_signature_algorithm)
      assert.equal(SCHEMES.rsa, c.signature_algorithm)
      assert.equal(SCHEMES.rsa, s.peer_signature_algorithm)
      assert.equal(32, #c.client_random)
      assert.equal(32, #c.server_random)
      assert.not_equal(c.client_random, c.server_random)
      assert.equal(c.finished, s.peer_finished)
      assert.equal(s.finished, c.peer_finished)
      assert.not_equal(c.finished, s.finished)
      assert.equal(version == "1.2" and 12 or 48, #c.finished)
    end)

    it(version .. ": the cipher has four names and numbers", function()
      local client = helper.handshaken(nil, nil, nil, contexts(version))
      local expected = version == "1.3"
        and { "TLS_AES_256_GCM_SHA384", "TLS_AES_256_GCM_SHA384", 256, "TLSv1.3" }
        or { "ECDHE-ECDSA-AES256-GCM-SHA384", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", 256, "TLSv1.2" }
      assert.same(expected, { client:cipher() })
      local info = client:info()
      assert.same(expected, { info.cipher, info.cipher_standard_name, info.cipher_bits, info.cipher_version })
    end)

    it(version .. ": info has what each of them tells", function()
      local client, server = helper.handshaken(nil, nil, nil, mutual(version))
      for _, conn in ipairs { client, server } do
        local info, compared = conn:info(), 0
        for name, value in pairs(info) do
          if name == "session" then
            assert.equal(conn:session():id(), value:id())
          elseif not name:find("^cipher_") and name ~= "hello_retry" then
            assert.same((conn[name](conn)), value, name)
            compared = compared + 1
          end
        end
        assert.is_true(compared > 20, "only " .. compared)
      end
    end)

    it(version .. ": tell the same after closing", function()
      local client, server = helper.handshaken(nil, nil, nil, mutual(version))
      for _, conn in ipairs { client, server } do
        local before = lasting(conn:info())
        conn:close()
        collectgarbage()
        assert.same(before, lasting(conn:info()))
        assert.is_nil(conn:fileno())
      end
    end)

    it(version .. ": tell of a handshake that failed", function()
      local client, server = helper.pair(nil, nil, nil, contexts(version, { ca = helper.other_ca.certificate }))
      helper.together {
        function() assert.equal("verify", helper.code_of(client:connect())) end,
        function() assert.equal("alert", helper.code_of(server:accept())) end,
      }
      assert.equal("TLSv" .. version, client:version())
      assert.equal(client:client_random(), server:client_random())
      assert.equal(client:cipher(), server:cipher())
      assert.is_false(client:handshake_done())
    end)
  end

  it("tell nothing before the handshake", function()
    local client, server = helper.pair()
    for _, conn in ipairs { client, server } do
      for _, name in ipairs { "alpn", "certificate", "cipher", "client_random", "finished", "group", "ocsp_response",
        "peer_certificate", "peer_chain", "peer_finished", "peer_signature_algorithm", "scts", "server_random",
        "signature_algorithm", "verified_chain", "version" } do
        assert.same({ n = 1 }, compat.pack(conn[name](conn)), name)
        assert.is_nil(conn:info()[name], name)
      end
      assert.is_nil(conn:info().hello_retry)
      assert.is_false(conn:resumed())
    end
    client:close()
    assert.is_nil(client:version())
    assert.equal("localhost", client:server_name())
  end)

  it("are methods of connections only", function()
    for name in pairs(helper.handshaken():info()) do
      local method = core.methods "cotls.connection"[name]
      if method then assert.has_error(function() method(io.stdout) end) end
    end
  end)
end)

describe("group", function()
  for _, version in ipairs(VERSIONS) do
    it(version .. ": is what the option groups takes", function()
      for _, name in pairs(GROUPS) do
        if version == "1.3" or not name:find("^ffdhe") then
          local client, server = helper.handshaken(nil, nil, nil,
            contexts(version, { groups = { name } }, { groups = { name },
              certificate = LEAVES.rsa.certificate, key = LEAVES.rsa.key }))
          assert.equal(name, client:group())
          assert.equal(name, server:group())
        end
      end
    end)

    it(version .. ": hello_retry, where the client's first one does not fit", function()
      local client, server = helper.handshaken(nil, nil, nil, contexts(version, { groups = "x25519:secp384r1" },
        { groups = "secp384r1", certificate = LEAVES.rsa.certificate, key = LEAVES.rsa.key }))
      for _, conn in ipairs { client, server } do
        assert.equal("secp384r1", conn:group())
        assert.equal(version == "1.3", conn:info().hello_retry)
        conn:close()
        assert.equal(version == "1.3", conn:info().hello_retry)
      end
      assert.equal(client:client_random(), server:client_random())
      assert.equal(client:server_random(), server:server_random())
    end)
  end
end)

-- ---- after the handshake ----

describe("after the handshake", function()
  -- Both until the first has nothing more to do.
  local function both(first, second)
    helper.together { first, second }
  end

  it("a key update changes nothing that is told", function()
    local client, server = helper.handshaken(nil, nil, nil, contexts("1.3"))
    local before = client:info()
    local exported = client:export_keying_material(LABEL, 32)
    both(function()
      assert(client:key_update(true))
      assert(client:write("x"))
      assert.equal("y", client:read(1))
    end, function()
      assert.equal("x", server:read(1))
      assert(server:write("y"))
    end)
    assert.equal(exported, client:export_keying_material(LABEL, 32))
    assert.equal(exported, server:export_keying_material(LABEL, 32))
    for _, name in ipairs { "finished", "peer_finished", "client_random", "server_random", "group" } do
      assert.equal(before[name], client[name](client), name)
    end
  end)

  it("a renegotiation changes all of it, at both ends", function()
    local client, server = helper.handshaken(nil, nil, nil,
      contexts("1.2", { renegotiation = "allow" }, { renegotiation = "allow-client" }))
    local before, exported = client:info(), client:export_keying_material(LABEL, 32)
    both(function()
      assert(client:renegotiate())
      assert(client:write("x"))
      assert.equal("y", client:read(1))
    end, function()
      assert.equal("x", server:read(1))
      assert(server:write("y"))
    end)
    local after = client:info()
    for _, name in ipairs { "finished", "peer_finished", "client_random", "server_random" } do
      assert.not_equal(before[name], after[name], name)
    end
    assert.equal(after.finished, server:peer_finished())
    assert.equal(after.peer_finished, server:finished())
    assert.equal(after.client_random, server:client_random())
    assert.equal(after.finished, client:channel_binding("tls-unique"))
    assert.equal(after.finished, server:channel_binding("tls-unique"))
    assert.not_equal(exported, client:export_keying_material(LABEL, 32))
    assert.equal(client:export_keying_material(LABEL, 32), server:export_keying_material(LABEL, 32))
    for _, conn in ipairs { client, server } do
      assert.is_false(conn:info().hello_retry)
      local binding, err = conn:channel_binding("tls-exporter")
      assert.is_nil(binding)
      assert.matches("not defined where renegotiation is allowed", tostring(err), 1, true)
    end
  end)

  it("a client's certificate that comes later is told at both ends", function()
    local client, server = helper.handshaken(nil, nil, nil, contexts("1.3",
      { post_handshake_auth = true, certificate = LEAVES.rsa.certificate, key = LEAVES.rsa.key },
      { ca = helper.ca.certificate }))
    assert.is_nil(client:certificate())
    assert.is_nil(server:peer_certificate())
    both(function()
      assert.equal("x", client:read(1))
      assert(client:write("y"))
    end, function()
      assert(server:request_client_certificate())
      assert(server:write("x"))
      assert.equal("y", server:read(1))
    end)
    local expected = tls.x509(LEAVES.rsa.certificate)
    for _ = 1, 2 do
      assert.equal(expected, client:certificate())
      assert.equal(expected, server:peer_certificate())
      assert.same({ expected }, server:peer_chain())
      assert.same({ expected, tls.x509(helper.ca.certificate) }, server:verified_chain())
      assert.equal(SCHEMES.rsa, client:signature_algorithm())
      assert.equal(SCHEMES.rsa, server:peer_signature_algorithm())
      assert.equal(SCHEMES.ec, client:peer_signature_algorithm())
      client:close()
      server:close()
    end
  end)
end)

-- ---- OpenSSL's programs ----

local function hex(data)
  return data and bytes.hex(data):upper()
end

-- What a program with -trace and -keymatexport has printed, as info would have it; { sent =, received = } of Finished.
local function read_trace(text)
  local seen = { finished = {} }
  local randoms = {}
  for time, rest in text:gmatch("gmt_unix_time=0x(%x+)%s+random_bytes %(len=28%): (%x+)") do
    randoms[#randoms + 1] = time .. rest
  end
  seen.client_random, seen.server_random = randoms[1], randoms[#randoms]
  for way, body in text:gmatch("(%a+) Record\n(.-)\n\n") do
    local data = body:match("verify_data %(len=%d+%): (%x+)")
    if data then seen.finished[way] = data end
  end
  seen.scheme = text:match("Signature Algorithm: ([%w_]+) %(0x")
  seen.group = GROUPS[tonumber(text:match("NamedGroup: [^\n]-%((%d+)%)\n[^\n]*\n\nReceived")
    or text:match("named_curve: [^\n]-%((%d+)%)") or text:match("ServerHello.-NamedGroup: [^\n]-%((%d+)%)\n"))]
  seen.cipher = text:match("C[Ii][Pp][Hh][Ee][Rr] is ([%w_-]+)")
  seen.exported = text:match("Keying material: (%x+)")
  return seen
end

-- Compares our end with what the other printed.
local function compare(told, text, own_scheme)
  local seen = read_trace(text)
  local info = told.info
  assert.equal(seen.client_random, hex(info.client_random))
  assert.equal(seen.server_random, hex(info.server_random))
  assert.equal(seen.finished.Received, hex(info.finished))
  assert.equal(seen.finished.Sent, hex(info.peer_finished))
  assert.equal(seen.scheme, own_scheme)
  assert.equal(seen.group, info.group)
  assert.equal(seen.cipher, info.cipher)
  assert.equal(seen.exported, hex(told.exported))
  assert.is_true(#seen.exported == 2 * 42)
end

local function tell(conn)
  return { info = conn:info(), exported = assert(conn:export_keying_material(LABEL, 42)) }
end

-- Our server, one connection of openssl s_client: what it told, and what the program printed.
local function serve(options, ...)
  local told, child
  local argv = { "openssl", "s_client", "-CAfile", CA, "-servername", "localhost", "-trace", "-ign_eof",
    "-keymatexport", LABEL, "-keymatexportlen", "42", ... }
  helper.in_loop(function()
    local listener = assert(tls.listen("127.0.0.1", 0, { context = helper.server_context(options) }))
    argv[#argv + 1] = "-connect"
    argv[#argv + 1] = "127.0.0.1:" .. listener:port()
    luv.spawn(function()
      local conn = listener()
      listener:close()
      if conn:accept() then
        told = tell(conn)
        conn:read()
      end
      conn:close()
    end)
    child = helper.start(argv, { stdin = "hello\n" })
    child:wait(10)
    child:stop()
  end, 20)
  assert(told, child.stdout:sub(-500) .. child.stderr)
  return told, child.stdout
end

-- Our client and openssl s_server.
local function connect(options, kind, ...)
  local told, child
  local port = helper.free_port()
  local argv = { "openssl", "s_server", "-accept", "127.0.0.1:" .. port, "-cert", FILES[kind].cert, "-key",
    FILES[kind].key, "-trace", "-keymatexport", LABEL, "-keymatexportlen", "42", ... }
  helper.in_loop(function()
    child = helper.start(argv)
    local ok, err = compat.pcall(function()
      child:wait_for("ACCEPT")
      local conn = assert(tls.connect("localhost", port, { context = helper.client_context(options), timeout = 10 }))
      told = tell(conn)
      assert(conn:write("hello\n"))
      child:wait_for("hello")
      conn:close()
    end)
    child:stop()
    assert(ok, tostring(err) .. child.stdout:sub(-500) .. child.stderr)
  end, 20)
  return told, child.stdout
end

describe("openssl prints what the getters tell:", function()
  for _, version in ipairs(VERSIONS) do
    for kind, scheme in pairs(SCHEMES) do
      it(version .. ", s_client, " .. kind, function()
        local leaf = LEAVES[kind]
        local told, text = serve({ certificate = leaf.certificate, key = leaf.key }, FLAGS[version])
        compare(told, text, told.info.signature_algorithm)
        assert.equal(scheme, told.info.signature_algorithm)
        assert.equal(tls.x509(leaf.certificate), told.info.certificate)
      end)

      it(version .. ", s_server, " .. kind, function()
        local told, text = connect({}, kind, FLAGS[version])
        compare(told, text, told.info.peer_signature_algorithm)
        assert.equal(scheme, told.info.peer_signature_algorithm)
      end)
    end

    it(version .. ", other groups", function()
      for _, group in ipairs { "P-384", "X448", version == "1.3" and "ffdhe2048" or "P-521" } do
        local told, text = serve({ certificate = LEAVES.rsa.certificate, key = LEAVES.rsa.key }, FLAGS[version],
          "-groups", group)
        compare(told, text, told.info.signature_algorithm)
        assert.not_equal("x25519", told.info.group)
      end
    end)
  end

  it("1.3, a HelloRetryRequest of the server's", function()
    local told, text = connect({}, "ec", "-tls1_3", "-groups", "P-384")
    assert.is_true(told.info.hello_retry)
    assert.equal("secp384r1", told.info.group)
    local _, hellos = text:gsub(" ClientHello, ", "")
    assert.equal(2, hellos)
    assert.equal(read_trace(text).exported, hex(told.exported))
  end)

  it("1.2, no group and no signature where the key exchange is by RSA", function()
    local leaf = LEAVES.rsa
    local told = serve({ certificate = leaf.certificate, key = leaf.key }, "-tls1_2", "-cipher", "AES128-GCM-SHA256")
    assert.is_nil(told.info.group)
    assert.is_nil(told.info.signature_algorithm)
    assert.equal(tls.x509(leaf.certificate), told.info.certificate)
  end)
end)
