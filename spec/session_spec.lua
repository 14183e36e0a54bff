local bytes = require "spec.bytes"
local tls = require "cotls"
local helper = require "spec.helper"
local pki = require "spec.pki"
local tree = require "spec.tree"
local visit = require "spec.visit"

local resumed, session_of = visit.resumed, visit.session

local with = helper.with

for _, version in ipairs { "1.2", "1.3" } do
  local only = { min_version = version, max_version = version }

  local function client(options)
    return helper.client_context(with(options or {}, only))
  end

  describe("a session of TLS " .. version, function()
    local server = helper.server_context(only)
    local mine = client()

    it("is resumed by object and by export", function()
      assert.is_true(resumed(mine, server, { session = session_of(mine, server) }))
      assert.is_true(resumed(mine, server, { session = session_of(mine, server):export() }))
      assert.is_true(resumed(mine, server, { session = assert(tls.session(session_of(mine, server):export())) }))
    end)

    it("is resumed after its connection is closed or collected", function()
      local got = visit.over(mine, server)
      local session = got.client:session()
      got = nil -- luacheck: ignore 311
      collectgarbage()
      assert.is_true(session:is_resumable())
      assert.is_true(resumed(mine, server, { session = session }))
      session = visit.good(mine, server).client:session()
      collectgarbage()
      collectgarbage()
      assert.is_true(session:is_resumable())
      assert.is_true(resumed(mine, server, { session = session }))
    end)

    it("stands for what was verified if it is first asked for after close", function()
      local dane = { { usage = 2, selector = 0, matching_type = 0, data = tls.x509(helper.ca.certificate):der() } }
      for _, verified in ipairs { {}, { verify_name = { "localhost", "127.0.0.1" } }, { dane = dane } } do
        local got = visit.over(mine, server, verified)
        collectgarbage()
        collectgarbage()
        local exported = got.client:session():export()
        assert.is_true(resumed(mine, server, with({ session = exported }, verified)))
        assert.is_false(resumed(mine, server, { session = exported, verify_name = "127.0.0.1" }))
      end
    end)

    it("outlives its context", function()
      local session
      do
        local short = client { ca = { helper.ca.certificate, helper.other_ca.certificate } }
        session = session_of(short, server)
      end
      collectgarbage()
      collectgarbage()
      assert.is_true(session:is_resumable())
      assert.is_true(resumed(client { ca = { helper.ca.certificate, helper.other_ca.certificate } }, server,
        { session = session }))
    end)

    it("tells what it is", function()
      local session = session_of(mine, server)
      assert.equal("TLSv" .. version, session:version())
      assert.is_true(session:is_resumable())
      assert.equal("localhost", session:server_name())
      assert.is_nil(session:alpn())
      assert.equal(0, session:max_early_data())
      assert.is_true(math.abs(session:time() - os.time()) < 60)
      assert.equal(7200, session:timeout())
      assert.equal(7200, session:ticket_lifetime())
      assert.is_true(#session:id() > 0)
      assert.matches("^cotls.session %(TLSv" .. version, tostring(session))
      local alpn = helper.server_context(with({ alpn = { "a", "b" } }, only))
      session = session_of(mine, alpn, { alpn = { "b" } })
      assert.equal("b", session:alpn())
      assert.equal("b", assert(tls.session(session:export())):alpn())
    end)

    it("tells the server name on both sides, resumed or not", function()
      local got = visit.over(mine, server)
      assert.same({ "localhost", "localhost" }, { got.client:server_name(), got.server:server_name() })
      got = visit.over(mine, server, { session = got.client:session() })
      assert.is_true(got.resumed)
      assert.same({ "localhost", "localhost" }, { got.client:server_name(), got.server:server_name() })
    end)

    it("is there from the handshake's end on, unless that fails", function()
      local a, b = helper.pair(nil, nil, nil, { client = mine, server = server })
      assert.is_nil(a:session())
      assert.is_nil(b:session())
      a:settimeout(0)
      assert.equal("want_read", helper.code_of(a:connect()))
      assert.is_nil(a:session())
      a:settimeout(nil)
      helper.shake(a, b)
      assert.equal("TLSv" .. version, a:session():version())
      assert.equal("TLSv" .. version, b:session():version())
      a:close()
      b:close()
      assert.equal("TLSv" .. version, a:session():version())
      assert.equal("TLSv" .. version, b:session():version())
      local got = visit.once(client { ca = helper.other_ca.certificate }, server)
      assert.equal("verify", got.client_error.code)
      assert.is_nil(got.client:session())
      assert.is_nil(got.server:session())
    end)

    it("is lost with a connection that is cut", function()
      local got = visit.good(mine, server)
      local session = got.client:session()
      got.server = nil -- the collector sends nothing
      collectgarbage()
      collectgarbage()
      assert.equal("truncated", helper.code_of(got.client:read(1)))
      assert.is_false(session:is_resumable())
      got.client:close()
      assert.is_nil(got.client:session())
      assert.is_false(resumed(mine, server, { session = session }))
    end)

    it("is not offered by another identity", function()
      local asking = helper.server_context(with({ verify_client = "require", ca = helper.ca.certificate }, only))
      local alice = helper.leaf { subject = "CN=alice", names = {} }
      local bob = helper.leaf { subject = "CN=bob", names = {} }
      local session = session_of(client(alice), asking)
      assert.is_true(resumed(client(alice), asking, { session = session }))
      local got = visit.good(client(bob), asking, { session = session_of(client(alice), asking) })
      assert.is_false(got.resumed)
      assert.equal(tls.x509(bob.certificate), got.server:peer_certificate())
      got.client:close()
      got.server:close()
    end)

    it("is not offered for other names, or other TLSA records", function()
      local session = session_of(mine, server)
      assert.is_false(resumed(mine, server, { session = session, verify_name = "127.0.0.1" }))
      assert.is_false(resumed(mine, server, { session = session, verify_name = { "localhost", "127.0.0.1" } }))
      assert.is_false(resumed(mine, server, { session = session, server_name = "127.0.0.1" }))
      local dane = { { usage = 2, selector = 0, matching_type = 0, data = tls.x509(helper.ca.certificate):der() } }
      local loose = client()
      assert.is_false(resumed(loose, server, { session = session, dane = dane }))
      local bound = session_of(loose, server, { dane = dane })
      assert.is_false(resumed(loose, server, { session = bound }))
    end)

    it("that was damaged is refused, or harmless", function()
      local exported = session_of(mine, server):export()
      local getters = { "alpn", "cipher", "export", "id", "is_resumable", "max_early_data", "server_name",
        "ticket_lifetime", "time", "timeout", "version" }
      local function refused(damaged)
        local session, err = tls.session(damaged)
        assert.is_nil(session)
        assert.same({ "config", "session: damaged, or not an exported session" }, { err.code, err.reason })
        assert.is_nil((mine:wrap(0, { server_name = "localhost", session = damaged })))
      end
      for _, damaged in ipairs { "", "x", exported .. "x", ("\0"):rep(1000), exported:rep(2), helper.noise(500) } do
        refused(damaged)
      end
      for i = 0, #exported - 1 do refused(exported:sub(1, i)) end
      local tried = 0
      for i = 1, #exported do
        for _, bits in ipairs { 1, 0x80, 0xFF } do
          local damaged = bytes.flip(exported, i, bits)
          local session = tls.session(damaged)
          if session then
            for _, name in ipairs(getters) do session[name](session) end
            assert.is_string(tostring(session))
          end
          -- the certificate in the middle is the longest, and the least that matters
          if session and bits == 1 and (i < 160 or i > #exported - 120) then
            tried = tried + 1
            local got = visit.once(mine, server, { session = session })
            if got.client_error then assert.is_true(tls.is_error(got.client_error)) end
            got.client:close()
            got.server:close()
          end
        end
      end
      assert.is_true(tried > 100)
    end)

    it("is not offered with a protocol that is over", function()
      local other = version == "1.2" and "1.3" or "1.2"
      local session = session_of(mine, helper.server_context())
      local got = visit.over(helper.client_context { min_version = other, max_version = other },
        helper.server_context(), { session = session })
      assert.same({ false, "TLSv" .. other }, { got.resumed, got.client:version() })
    end)
  end)
end

-- Each: options of a client that the usual server still pleases.
local NOBODY = pki.crl { ca = helper.ca }
local _, PIN = helper.run({ "sh", "-c", "openssl x509 -pubkey -noout | openssl pkey -pubin -outform DER | " ..
  "openssl dgst -sha256 -binary | openssl base64 -A" }, helper.server_leaf.certificate)
local SCOPE = {
  insecure = { insecure = true },
  ca = { ca = { helper.ca.certificate, helper.other_ca.certificate } },
  crl = { crl = NOBODY },
  crl_check = { crl = NOBODY, crl_check = "chain" },
  verify_depth = { verify_depth = 3 },
  purpose = { purpose = "any" },
  partial_chain = { partial_chain = true },
  pins = { pins = "sha256/" .. PIN },
  ocsp = { ocsp = "request" },
  security_level = { security_level = 2 },
  signature_algorithms = { signature_algorithms = "ECDSA+SHA256:RSA+SHA256" },
  client_signature_algorithms = { client_signature_algorithms = "ECDSA+SHA256" },
  ciphers = { ciphers = "ECDHE-ECDSA-AES256-GCM-SHA384" },
  ciphersuites = { ciphersuites = "TLS_AES_256_GCM_SHA384" },
  options = { options = { "NO_EXTENDED_MASTER_SECRET" } },
  conf = { conf = { { "Groups", "P-256" } } },
  psk = { psk = { me = ("k"):rep(32) } },
  on_psk = { on_psk = function() end },
  on_verify = { on_verify = function(_, ok) return ok end },
  on_verify_may_accept = { on_verify_may_accept = true },
}
-- What these decide is in others, or a server's.
local ELSEWHERE = { role = true, verify_client = true }

describe("a session is not offered where this differs:", function()
  local names = tree.read("lua/cotls/settings.lua"):match("local SCOPE = (%b{})")
  local server = helper.server_context()

  for name in names:gmatch('"([%w_]+)"') do
    if not ELSEWHERE[name] then
      it(name, function()
        local options = assert(SCOPE[name], "there is no spec of " .. name)
        for _, version in ipairs { "1.2", "1.3" } do
          local only = { min_version = version, max_version = version }
          local with_it, without = helper.client_context(with(options, only)), helper.client_context(only)
          local session = session_of(with_it, server)
          assert.is_false(resumed(without, server, { session = session }))
          assert.is_true(resumed(helper.client_context(with(options, only)), server, { session = session }))
          assert.is_false(resumed(with_it, server, { session = session_of(without, server) }))
        end
      end)
    end
  end
end)
