-- LuaSec and the drop-in at the two ends of a connection, in programs of their own: whoever serves, both see the same.

local compat = require "cotls.compat"
local bytes = require "spec.bytes"
local helper = require "spec.helper"
local tree = require "spec.tree"

local A = helper.leaf { subject = "CN=a.test", names = { "a.test" } }
local B = helper.leaf { subject = "CN=b.test", names = { "b.test" } }
local CLIENT = helper.leaf { subject = "CN=client" }
local FILES = helper.files { a = A, b = B, client = CLIENT }

local LUASEC = { name = "LuaSec", preload = {}, copyright = "LuaSec" }
local DROP_IN = { name = "the drop-in", preload = { "-l", "cotls.luasec_preload" }, copyright = "cotls" }
local PAIRS = { { LUASEC, DROP_IN }, { DROP_IN, LUASEC } }
local VERSIONS = { { name = "TLSv1.2", protocol = "tlsv1_2" }, { name = "TLSv1.3", protocol = "tlsv1_3" } }

local function literal(value)
  if type(value) ~= "table" then return type(value) == "string" and ("%q"):format(value) or tostring(value) end
  local parts = {}
  for name, one in pairs(value) do parts[#parts + 1] = ("[%s]=%s"):format(literal(name), literal(one)) end
  return "{" .. table.concat(parts, ",") .. "}"
end

local function start(side, port, wish)
  local argv = helper.append({ helper.lua }, compat.unpack(side.preload))
  helper.append(argv, tree.root .. "spec/luasec_peer.lua", tostring(port), literal(wish))
  return helper.start(argv)
end

-- What a program has said, by name; "nil" where it has said that.
local function said(child)
  assert.equal(0, child:wait(20), child.stdout .. child.stderr)
  child:stop()
  local all = {}
  for name, value in child.stdout:gmatch("([^\n]-): ([^\n]*)\n") do all[name] = value end
  return all
end

-- Both programs, to their ends.
-- @return what the client says, what the server says
local function talk(pair, client_wish, server_wish)
  local server = start(pair[1], 0, server_wish)
  local client = start(pair[2], server:wait_for "port: (%d+)", client_wish)
  client, server = said(client), said(server)
  assert.equal(pair[1].copyright, server["made by"])
  assert.equal(pair[2].copyright, client["made by"])
  return client, server
end

-- A connection that both ends describe alike.
local function check_alike(client, server, version)
  assert.equal("talked", client.result)
  assert.equal("talked", server.result)
  assert.equal("100000", client.received)
  assert.equal("100000", server.received)
  for _, name in ipairs { "protocol", "cipher", "bits", "alpn" } do assert.equal(client[name], server[name], name) end
  assert.equal(version.name, client.protocol)
  assert.equal(client.finished, server["peer finished"])
  assert.equal(client["peer finished"], server.finished)
  assert.is_true(#client.finished >= 24)
  if client.keys and server.keys then assert.equal(client.keys, server.keys) end
end

local function server_params(version, more)
  return helper.with({ protocol = version.protocol, certificate = FILES.a_cert, key = FILES.a_key }, more)
end

local function client_params(version, more)
  return helper.with({ protocol = version.protocol, verify = "peer", cafile = FILES.ca }, more)
end

-- The digest of a certificate's public key, in hex digits.
local function key_digest(pem)
  local key = helper.openssl({ "x509", "-noout", "-pubkey" }, pem)
  return (helper.openssl({ "dgst", "-sha256", "-hex" }, helper.openssl({ "pkey", "-pubin", "-outform", "DER" }, key))
    :match "(%x+)%s*$")
end

local CASES = {}

CASES["verify the server"] = function(pair, version)
  local client, server = talk(pair, { params = client_params(version) }, { params = server_params(version) })
  check_alike(client, server, version)
  assert.equal("a.test", client.peer)
  assert.equal("true", client.verified)
  assert.equal("nil", server.peer)
  if pair[1] == DROP_IN then assert.equal("0", server.chain) end -- LuaSec's holds a certificate that is none
end

CASES["refuse a server of another CA"] = function(pair, version)
  local wary = client_params(version, { cafile = helper.temp_file(helper.other_ca.certificate) })
  local client, server = talk(pair, { params = wary }, { params = server_params(version) })
  assert.equal("handshake: certificate verify failed", client.result)
  assert.truthy(server.result:find "unknown ca$", server.result)
end

CASES["show certificates to each other"] = function(pair, version)
  local own = { certificate = FILES.client_cert, key = FILES.client_key }
  local require_one = { verify = { "peer", "fail_if_no_peer_cert" }, cafile = FILES.ca }
  local client, server = talk(pair, { params = client_params(version, own) },
    { params = server_params(version, require_one) })
  check_alike(client, server, version)
  assert.equal("client", server.peer)
  assert.equal("true", server.verified)

  client, server = talk(pair, { params = client_params(version) }, { params = server_params(version, require_one) })
  assert.equal("handshake: peer did not return a certificate", server.result)
  assert.is_not.equal("talked", client.result)
end

CASES["agree on a certificate by the name"] = function(pair, version)
  local names = { ["a.test"] = server_params(version),
    ["b.test"] = server_params(version, { certificate = FILES.b_cert, key = FILES.b_key }) }
  local wish = { params = server_params(version), sni = names, strict_sni = true }
  for _, name in ipairs { "a.test", "b.test" } do
    local client, server = talk(pair, { params = client_params(version), sni = name }, wish)
    check_alike(client, server, version)
    assert.equal(name, client.peer)
    assert.equal(name, server.name)
  end
  local client, server = talk(pair, { params = client_params(version), sni = "c.test" }, wish)
  assert.truthy(client.result:find "unrecognized name$", client.result)
  assert.truthy(server.result:find "^handshake: ", server.result)
  wish.strict_sni = false
  client, server = talk(pair, { params = client_params(version), sni = "c.test" }, wish)
  check_alike(client, server, version)
  assert.equal("a.test", client.peer)
end

CASES["agree on a protocol by ALPN"] = function(pair, version)
  local wish = { params = server_params(version, { alpn = { "two", "three" } }) }
  local asking = { params = client_params(version, { alpn = { "one", "three", "two" } }) }
  local client, server = talk(pair, asking, wish)
  check_alike(client, server, version)
  assert.equal("two", client.alpn)
  client, server = talk(pair, asking, { params = server_params(version), alpn_function = "three" })
  check_alike(client, server, version)
  assert.equal("three", client.alpn)
  assert.equal("one three two", server.offered)
  client, server = talk(pair, { params = client_params(version, { alpn = "four" }) }, wish)
  check_alike(client, server, version)
  assert.equal("nil", client.alpn)
end

CASES["know a server by DANE"] = function(pair, version)
  local params = { protocol = version.protocol, verify = "peer", dane = true }
  local right, wrong = "3 1 1 " .. key_digest(A.certificate), "3 1 1 " .. key_digest(B.certificate)
  local client, server = talk(pair, { params = params, dane = { "a.test", wrong, right } },
    { params = server_params(version) })
  check_alike(client, server, version)
  assert.equal("true", client.verified)
  client = talk(pair, { params = params, dane = { "a.test", wrong } }, { params = server_params(version) })
  assert.equal("handshake: certificate verify failed", client.result)
end

for _, pair in ipairs(PAIRS) do
  describe(("A server with %s and a client with %s"):format(pair[1].name, pair[2].name), function()
    for _, version in ipairs(VERSIONS) do
      for name, check in pairs(CASES) do
        it(("%s, %s"):format(name, version.name), function() check(pair, version) end)
      end
    end
  end)
end

-- LuaSec has pre-shared keys from 1.3.0 on, and Debian's is 1.2.0: openssl is the other side.
describe("The drop-in's pre-shared keys", function()
  local KEY = ("0123456789abcdef"):rep(2)
  local BYTES = bytes.of_hex(KEY)
  local pair = { DROP_IN, DROP_IN }

  -- What a client's function is given: TLS 1.3 has no hints.
  local function hint_of(version, hint)
    return version.protocol == "tlsv1_2" and hint or "nil"
  end

  for _, version in ipairs(VERSIONS) do
    local params = { protocol = version.protocol, verify = "peer", cafile = FILES.ca }
    local flag = version.protocol:gsub("^tlsv", "-tls")

    it("serve both ends, " .. version.name, function()
      local client, server = talk(pair, { params = params, psk = { "me", BYTES } },
        { params = { protocol = version.protocol }, psk = { "me", BYTES } })
      check_alike(client, server, version)
      assert.same({ "nil", hint_of(version, "a hint") }, { client.peer, client.hint })
      client = talk(pair, { params = params, psk = { "me", "another key" } },
        { params = { protocol = version.protocol }, psk = { "me", BYTES } })
      assert.is_not.equal("talked", client.result)
    end)

    it("open openssl's server, " .. version.name, function()
      local port = helper.free_port()
      local server = helper.start { "openssl", "s_server", "-accept", "127.0.0.1:" .. port, "-nocert", "-psk", KEY,
        "-psk_identity", "me", "-psk_hint", "openssl's", flag, "-rev" }
      server:wait_for "ACCEPT"
      local client = start(DROP_IN, port, { params = params, psk = { "me", BYTES } })
      client:wait(20)
      server:stop()
      assert.truthy(client.stdout:find "result: another line", client.stdout .. client.stderr)
      assert.truthy(client.stdout:find("hint: " .. hint_of(version, "openssl's"), 1, true), client.stdout)
      client:stop()
    end)

    it("let openssl's client in, " .. version.name, function()
      local server = start(DROP_IN, 0, { params = { protocol = version.protocol }, psk = { "me", BYTES } })
      local client = helper.start { "openssl", "s_client", "-connect", "127.0.0.1:" .. server:wait_for "port: (%d+)",
        "-psk", KEY, "-psk_identity", "me", flag, "-quiet" }
      client:write "a line\n"
      client:wait_for "a line\n1 1 1"
      client:stop()
      local seen = said(server)
      assert.equal("6", seen.received)
      assert.equal(version.name, seen.protocol)
    end)
  end
end)
