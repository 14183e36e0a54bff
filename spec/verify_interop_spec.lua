-- Verification against OpenSSL's and GnuTLS's programs: CRLs, pins and TLSA records judge their certificates, and their
-- verdicts on ours arrive.

local compat = require "cotls.compat"
local tls = require "cotls"
local helper = require "spec.helper"
local pki = require "spec.pki"

local append = helper.append

local ROOT = assert(tls.make_certificate { subject = "CN=root", is_ca = true })
local MID = assert(tls.make_certificate { subject = "CN=mid", is_ca = true, ca = ROOT })
local LEAF = helper.leaf { ca = MID }
local OWN = helper.leaf { ca = MID, subject = "CN=client", names = {} }
local EMPTY, ROOTS = pki.crl { ca = MID }, pki.crl { ca = ROOT }
local REVOKED = pki.crl { ca = MID, revoked = { LEAF, OWN } }

local FILES = {
  root = helper.temp_file(ROOT.certificate), mid = helper.temp_file(MID.certificate),
  leaf = helper.temp_file(LEAF.certificate), chain = helper.temp_file(LEAF.certificate .. MID.certificate),
  key = helper.temp_file(LEAF.key), own = helper.temp_file(OWN.certificate .. MID.certificate),
  own_key = helper.temp_file(OWN.key), empty = helper.temp_file(EMPTY .. ROOTS),
  revoked = helper.temp_file(REVOKED .. ROOTS),
}

local PEERS = {
  {
    name = "openssl", ready = "ACCEPT",
    server = function(version, port)
      return { "openssl", "s_server", version == "1.2" and "-tls1_2" or "-tls1_3", "-accept", "127.0.0.1:" .. port,
        "-cert", FILES.leaf, "-key", FILES.key, "-cert_chain", FILES.mid, "-rev" }
    end,
    judge = function(crl)
      return "-CAfile", FILES.root, "-CRL", crl, "-crl_check", "-Verify", "3", "-verify_return_error"
    end,
  },
  {
    name = "GnuTLS", ready = "listening on IPv4[^\n]*done",
    server = function(version, port)
      return { "gnutls-serv", "--port", tostring(port), "--x509certfile", FILES.chain, "--x509keyfile", FILES.key,
        "--priority", "NORMAL:-VERS-ALL:+VERS-TLS" .. version, "--echo" }
    end,
    judge = function(crl)
      return "--x509cafile", FILES.root, "--x509crlfile", crl, "--require-client-cert", "--verify-client-cert"
    end,
  },
}

-- Runs their server; fn gets connect(context options, connection options) → conn, or nil and the error.
local function against(peer, version, more, fn)
  local port = helper.free_port()
  local server = helper.start(append(peer.server(version, port), compat.unpack(more)))
  server:wait_for(peer.ready)
  local ok, err = pcall(helper.in_loop, function()
    fn(function(options, connection)
      local all = { server_name = "localhost" }
      for _, given in ipairs { options, connection or {} } do
        for name, value in pairs(given) do all[name] = value end
      end
      return tls.connect("127.0.0.1", port, all)
    end)
  end, 20)
  server:stop()
  if not ok then error(err, 0) end
end

for _, peer in ipairs(PEERS) do
  for _, version in ipairs { "1.2", "1.3" } do
    describe(("%s over %s:"):format(peer.name, version), function()
      it("its certificate is judged by CRLs, pins and TLSA records", function()
        against(peer, version, {}, function(connect)
          local function verdict(options, connection)
            local conn, err = connect(options, connection)
            if not conn then return assert(err.verify, tostring(err)).code end
            conn:close()
            return 0
          end
          local root = ROOT.certificate
          assert.equal(0, verdict { ca = root, crl = { EMPTY, ROOTS }, crl_check = "chain" })
          assert.equal(23, verdict { ca = root, crl = REVOKED })
          assert.equal(3, verdict { ca = root, crl = ROOTS })
          assert.equal(0, verdict { ca = root, pins = tls.x509(MID.certificate):spki_pin() })
          assert.equal(50, verdict { ca = root, pins = tls.x509(helper.ca.certificate):spki_pin() })
          local other = { ca = helper.other_ca.certificate }
          local function ee(certificate)
            return { dane = { { usage = 3, selector = 0, matching_type = 0,
              data = tls.x509(certificate.certificate):der() } } }
          end
          assert.equal(0, verdict(other, ee(LEAF)))
          assert.equal(65, verdict(other, ee(MID)))
        end)
      end)

      it("its verdict on our certificate arrives", function()
        local own = { ca = ROOT.certificate, certificate = FILES.own, key = FILES.own_key }
        against(peer, version, { peer.judge(FILES.empty) }, function(connect)
          local conn = assert(connect(own))
          assert(conn:write("abc\n"))
          assert.is_string(conn:read())
          conn:close()
        end)
        against(peer, version, { peer.judge(FILES.revoked) }, function(connect)
          local conn, err = connect(own)
          if conn then err = select(2, conn:read(1)) end
          assert.equal("alert", err and err.code, tostring(err))
          assert.is_false(err.alert.sent)
        end)
      end)
    end)
  end
end
