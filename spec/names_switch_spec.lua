-- What of a context counts when the server name has chosen it: all, and none of the first one's.
local compat = require "cotls.compat"
local tls = require "cotls"
local helper = require "spec.helper"
local pki = require "spec.pki"
local visit = require "spec.visit"

local CA, OTHER_CA = helper.ca.certificate, helper.other_ca.certificate
local NAME = "www.example.org"

local with = helper.with

local function leaf_of(options) return helper.leaf(with({ subject = "CN=client", names = {} }, options)) end
local own, strange = leaf_of {}, leaf_of { ca = helper.other_ca }
local middle = assert(tls.make_certificate { subject = "CN=middle", is_ca = true, ca = helper.ca })
local deep = leaf_of { ca = middle }
deep = { certificate = { deep.certificate, middle.certificate }, key = deep.key }
local for_servers = leaf_of { purposes = "server" }
local REVOKED = pki.crl { ca = helper.ca, revoked = { own } }

-- The alert by which the client was refused, or "fine".
local function verdict(got)
  if got.client_error then return got.client_error.alert and got.client_error.alert.name or got.client_error.code end
  return "fine"
end

local function cipher(got) return (got.client:cipher()) end

local function count_tickets(got)
  return got.client:context():session_stats().cached
end

-- Bytes beside the data of a long write: a record has some.
local function overhead(got)
  local before = got.server:stats().bytes_out
  helper.together {
    function() assert(got.server:write(helper.noise(8000))) end,
    function() assert(got.client:read(8000)) end,
  }
  return got.server:stats().bytes_out - before - 8000 < 100 and "little" or "much"
end

local only_12, only_13 = { max_version = "1.2" }, { min_version = "1.3" }
local asking = { verify_client = "optional", ca = CA }
local AES128, AES256 = "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384"

-- what; the options; what both contexts have; the client's; what is looked at; what it is with and without them
local cases = {
  { "verify_client on 1.2", { verify_client = "require", ca = CA }, {}, only_12, verdict, "handshake_failure", "fine" },
  { "verify_client on 1.3", { verify_client = "require", ca = CA }, {}, only_13, verdict, "certificate_required",
    "fine" },
  { "ca on 1.2", { ca = { CA, OTHER_CA } }, asking, with(strange, only_12), verdict, "fine", "unknown_ca" },
  { "ca on 1.3", { ca = { CA, OTHER_CA } }, asking, with(strange, only_13), verdict, "fine", "unknown_ca" },
  { "crl and crl_check", { crl = REVOKED, crl_check = "leaf" }, asking, own, verdict, "certificate_revoked", "fine" },
  { "verify_depth", { verify_depth = 0 }, asking, deep, verdict, "unknown_ca", "fine" },
  { "purpose", { purpose = "any" }, asking, for_servers, verdict, "fine", "unsupported_certificate" },
  { "min_version", { min_version = "1.3" }, {}, only_12, verdict, "protocol_version", "fine" },
  { "max_version", { max_version = "1.2" }, {}, {}, function(got) return got.client:version() end,
    "TLSv1.2", "TLSv1.3" },
  { "ciphers", { ciphers = AES128 }, {}, only_12, cipher, AES128, AES256 },
  { "ciphersuites", { ciphersuites = "TLS_CHACHA20_POLY1305_SHA256" }, {}, {}, cipher,
    "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_256_GCM_SHA384" },
  { "groups", { groups = "P-384" }, {}, {}, function(got) return got.client:group() end, "secp384r1", "x25519" },
  { "groups on 1.2", { groups = "P-384" }, {}, only_12, function(got) return got.client:group() end, "secp384r1",
    "x25519" },
  { "signature_algorithms", { signature_algorithms = "ECDSA+SHA512" }, {}, only_12,
    function(got) return got.client:peer_signature_algorithm() end, "ecdsa_secp521r1_sha512",
    "ecdsa_secp256r1_sha256" },
  { "client_signature_algorithms", { client_signature_algorithms = "ECDSA+SHA512" }, asking, with(own, only_12),
    function(got) return got.server:peer_signature_algorithm() end, "ecdsa_secp521r1_sha512",
    "ecdsa_secp256r1_sha256" },
  { "security_level", { security_level = 3 }, {}, only_12, -- which excludes tickets
    function(got) return got.client:session():ticket_lifetime() or "none" end, "none", 7200 },
  { "options", { options = { "-CIPHER_SERVER_PREFERENCE" } }, {}, with(only_12, { ciphers = { AES128, AES256 } }),
    cipher, AES128, AES256 },
  { "conf", { conf = { { "MaxProtocol", "TLSv1.2" } } }, {}, {}, function(got) return got.client:version() end,
    "TLSv1.2", "TLSv1.3" },
  { "max_send_fragment", { max_send_fragment = 512 }, {}, {}, overhead, "much", "little" },
  { "alpn", { alpn = { "a" } }, {}, { alpn = { "b", "a" } }, function(got) return got.client:alpn() or "none" end,
    "a", "none" },
  { "alpn that does not fit", { alpn = { "a" } }, {}, { alpn = { "b" } }, verdict, "no_application_protocol", "fine" },
  { "tickets", { tickets = 1 }, {}, { resume = true, session_key = "a" }, count_tickets, 1, 2 },
  { "tickets = 0", { tickets = 0 }, {}, { resume = true, session_key = "a" }, count_tickets, 0, 2 },
  { "tickets = false", { tickets = false }, {}, only_12,
    function(got) return got.client:session():ticket_lifetime() or "none" end, "none", 7200 },
  { "max_early_data", { max_early_data = 10 }, {}, {},
    function(got) return got.client:session():max_early_data() end, 10, 0 },
  { "the certificate", helper.leaf { subject = "CN=other" }, {}, {},
    function(got) return got.client:peer_certificate() == tls.x509(helper.server_leaf.certificate) end, false, true },
}

describe("of the context that the server name has chosen", function()
  for _, case in ipairs(cases) do
    local what, options, both, client_options, look, yes, no = compat.unpack(case)
    it(what .. " counts, and not the first one's", function()
      local function observe(server, name)
        local got = visit.once(helper.client_context(client_options), server, { server_name = name,
          verify_name = "localhost" })
        local seen = look(got)
        got.client:close()
        got.server:close()
        return seen
      end
      local plain, set = with(both), with(both, options)
      local inside = helper.server_context(with(plain, { names = { [NAME] = helper.server_context(set) } }))
      assert.equal(no, observe(inside, "localhost"))
      assert.equal(yes, observe(inside, NAME))
      local outside = helper.server_context(with(set, { names = { [NAME] = helper.server_context(plain) } }))
      assert.equal(yes, observe(outside, "localhost"))
      assert.equal(no, observe(outside, NAME))
    end)
  end

  it("renegotiation counts", function()
    local client = helper.client_context { max_version = "1.2", renegotiation = "allow" }
    local function renegotiates(server, name)
      local got = visit.good(client, server, { server_name = name, verify_name = "localhost" })
      local all = helper.together {
        function()
          local ok = got.client:renegotiate()
          got.client:close()
          return ok ~= nil
        end,
        function()
          got.server:read(1)
          got.server:close()
        end,
      }
      if all[1][1] then assert.equal(name, got.server:server_name()) end
      return all[1][1]
    end
    local allow = { renegotiation = "allow-client" }
    local inside = helper.server_context { names = { [NAME] = helper.server_context(allow) } }
    assert.is_false(renegotiates(inside, "localhost"))
    assert.is_true(renegotiates(inside, NAME))
    local outside = helper.server_context(with(allow, { names = { [NAME] = helper.server_context() } }))
    assert.is_true(renegotiates(outside, "localhost"))
    assert.is_false(renegotiates(outside, NAME))
  end)
end)

describe("a session made under one name", function()
  local ways = {
    { "1.2", "by ticket", 2 }, { "1.2", "by id", false },
    { "1.3", "by ticket", 2 }, { "1.3", "by stateful ticket", false },
  }
  for _, way in ipairs(ways) do
    local version, how, tickets = compat.unpack(way)
    describe("on " .. version .. " " .. how, function()
      local shared = { tickets = tickets, ticket_keys = { helper.noise(80) } }
      local demanding = helper.server_context(with(shared, { verify_client = "require", ca = CA }))
      local open = helper.server_context(shared)
      local server = helper.server_context(with(shared, {
        names = { [NAME] = demanding, ["open.example.org"] = open },
      }))
      local only = { min_version = version, max_version = version }
      local nobody, somebody = helper.client_context(only), helper.client_context(with(only, own))
      local function at(name, session)
        return { server_name = name, verify_name = "localhost", session = session }
      end
      local refusal = version == "1.2" and "handshake_failure" or "certificate_required"

      it("is resumed there", function()
        for _, name in ipairs { NAME, "open.example.org", "localhost" } do
          local session = visit.session(somebody, server, at(name))
          local got = visit.over(somebody, server, at(name, session))
          assert.is_true(got.resumed)
          assert.same({ name, name }, { got.client:server_name(), got.server:server_name() })
          assert.equal(name == NAME and tls.x509(own.certificate) or nil, got.server:peer_certificate())
        end
      end)

      it("is no way around the certificate that another demands", function()
        for _, name in ipairs { "localhost", "open.example.org" } do
          local err = visit.failure(nobody, server, at(NAME, visit.session(nobody, server, at(name))))
          assert.equal(refusal, err.alert.name)
          local got = visit.over(somebody, server, at(NAME, visit.session(somebody, server, at(name))))
          assert.is_false(got.resumed)
          assert.equal(tls.x509(own.certificate), got.server:peer_certificate())
        end
      end)

      it("brings no certificate to where none is asked for", function()
        for _, name in ipairs { "localhost", "open.example.org" } do
          local got = visit.over(somebody, server, at(name, visit.session(somebody, server, at(NAME))))
          assert.is_false(got.resumed)
          assert.is_nil(got.server:peer_certificate())
        end
      end)
    end)
  end
end)

describe("after a HelloRetryRequest", function()
  it("a name has its context, and its session is resumed", function()
    local client = helper.client_context { groups = "X25519:P-384", certificate = own.certificate, key = own.key }
    local inner = helper.server_context { groups = "P-384", verify_client = "require", ca = CA }
    local server = helper.server_context { groups = "P-384", names = { [NAME] = inner } }
    local options = { server_name = NAME, verify_name = "localhost" }
    local got = visit.over(client, server, options)
    assert.is_true(got.client:info().hello_retry)
    assert.equal(tls.x509(own.certificate), got.server:peer_certificate())
    options.session = got.client:session()
    got = visit.over(client, server, options)
    assert.same({ true, true, NAME }, { got.resumed, got.client:info().hello_retry, got.server:server_name() })
  end)
end)

describe("contexts in names", function()
  it("live as long as the one that holds them, and no longer", function()
    local seen = setmetatable({}, { __mode = "k" })
    local server
    do
      local inner = helper.server_context { verify_client = "require", ca = CA }
      seen[inner] = true
      server = helper.server_context { names = { [NAME] = inner, ["*.example.org"] = inner } }
    end
    collectgarbage()
    collectgarbage()
    assert.is_truthy(next(seen))
    local options = { server_name = NAME, verify_name = "localhost" }
    assert.equal("certificate_required", verdict(visit.once(helper.client_context(only_13), server, options)))
    local got = visit.good(helper.client_context(own), server, options)
    server = nil -- luacheck: ignore 311
    collectgarbage()
    collectgarbage()
    assert.is_truthy(next(seen))
    assert(got.server:write("y"))
    assert.equal("y", got.client:read(1))
    got.client:close()
    got.server:close()
    got = nil -- luacheck: ignore 311
    collectgarbage()
    collectgarbage()
    assert.is_nil(next(seen))
  end)

  it("may hold the one that holds them, and both go", function()
    local seen = setmetatable({}, { __mode = "k" })
    do
      local scheduler = { wait = function() end }
      local inner = helper.server_context { scheduler = scheduler }
      scheduler.server = helper.server_context { names = { [NAME] = inner } }
      seen[inner], seen[scheduler.server] = true, true
    end
    collectgarbage()
    collectgarbage()
    assert.is_nil(next(seen))
  end)
end)
