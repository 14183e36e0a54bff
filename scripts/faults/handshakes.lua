-- SPDX-License-Identifier: MIT
-- Scenarios: full handshakes, everything asked for, and everybody whom somebody refuses.

local tls = require "cotls"
local helper = require "spec.helper"
local pki = require "spec.pki"

local leaf, ca = helper.server_leaf, helper.ca
local other = helper.leaf { subject = "CN=other", ca = helper.other_ca }

local function of(version, client, server)
  local only = { min_version = version, max_version = version }
  return helper.client_context(helper.with(only, client)), helper.server_context(helper.with(only, server))
end

local function tell(run)
  return function(conn)
    local info = conn:info()
    run:check(info.version and info.cipher and conn:state(), "nothing is told")
    conn:peer_chain()
    conn:verified_chain()
    conn:certificate()
    conn:scts()
    conn:channel_binding(info.version == "TLSv1.3" and "tls-exporter" or "tls-unique")
    conn:channel_binding "tls-server-end-point"
    conn:export_keying_material("EXPORTER-x", 16)
    return tostring(conn)
  end
end

local function believed_by_server(run) return run.accepted end

return function(add)
  local function refused(name, version, make, text, more)
    add(("! %s on TLS %s"):format(name, version), function()
      local client_options, server_options, options = make()
      local client, server = of(version, client_options, server_options)
      return function(run) run:visit(client, server, options) end
    end, text, more)
  end

  for _, version in ipairs { "1.2", "1.3" } do
    add("a visit on TLS " .. version, function()
      local client, server = of(version, nil, { session_cache = false })
      return function(run)
        run:visit(client, server, nil, { client = tell(run), server = tell(run) })
      end
    end)

    add("a visit with all that is verified on TLS " .. version, function()
      local client, server = of(version, {
        pins = tls.x509(leaf.certificate):spki_pin(), ocsp = "require", alpn = { "a" },
        certificate = leaf.certificate, key = leaf.key, crl = pki.crl { ca = ca },
      }, {
        ca = ca.certificate, verify_client = "require", alpn = { "a" }, crl = pki.crl { ca = ca },
        ocsp_response = pki.ocsp { ca = ca, certificate = leaf }, session_cache = false,
      })
      local options = { server_name = "localhost", verify_name = { "127.0.0.1", "localhost" } }
      return function(run)
        local a, b = run:visit(client, server, options, { client = tell(run), server = tell(run) })
        run:check(a:verify_result().code == 0 and b:verify_result().code == 0, "a verdict that is not good")
        run:check(b:peer_certificate(), "no certificate of the client's")
      end
    end)

    add("a visit by one of several certificates on TLS " .. version, function()
      local edwards = helper.leaf { key_type = "ed25519" }
      local client = of(version, { signature_algorithms = "ed25519:ECDSA+SHA256", crl = pki.crl { ca = ca },
        crl_check = "chain", verify_depth = 2 })
      local server = tls.context {
        role = "server", min_version = version, max_version = version, session_cache = false,
        signature_algorithms = "ed25519:ECDSA+SHA256",
        credentials = {
          { certificate = leaf.certificate, key = leaf.key },
          { certificate = edwards.certificate, key = edwards.key },
        },
      }
      return function(run)
        local a = run:visit(client, server)
        local shown = a:peer_certificate() -- without memory OpenSSL chooses the other
        run:check(shown:key().type == "ed25519" or shown:pem() == leaf.certificate, "another certificate")
      end
    end)

    add("a visit by TLSA records on TLS " .. version, function()
      local client, server = of(version, { ca = helper.other_ca.certificate }, { session_cache = false })
      local record = { usage = 3, selector = 0, matching_type = 0, data = pki.der(leaf) }
      return function(run)
        local a = run:visit(client, server, { server_name = "localhost", dane = { record } })
        run:check(a:dane_result(), "no record has matched")
      end
    end)

    add("a visit by server names on TLS " .. version, function()
      local named = helper.leaf { names = { "a.example" } }
      local inner = helper.server_context { certificate = named.certificate, key = named.key, alpn = { "z" },
        session_cache = false }
      local client, server = of(version, nil,
        { names = { ["a.example"] = inner, ["*.b.example"] = inner }, strict_names = true, session_cache = false })
      return function(run)
        local a = run:visit(client, server, { server_name = "a.example", alpn = { "z" } })
        run:check(a:alpn() == "z", "another context")
      end
    end)

    refused("a wrong name", version, function()
      return nil, nil, { server_name = "wrong.example" }
    end, "ostname mismatch")
    refused("a wrong address", version, function()
      return nil, nil, { server_name = "127.0.0.9" }
    end, "IP address mismatch")
    refused("a wrong name of several", version, function()
      return nil, nil, { server_name = "localhost", verify_name = { "a.example", "127.0.0.3" } }
    end, "mismatch")
    refused("an unknown issuer", version, function()
      return nil, { certificate = other.certificate, key = other.key }
    end, "local issuer")
    refused("a wrong pin", version, function()
      return { pins = "sha256/" .. ("A"):rep(43) .. "=" }
    end, "pin")
    refused("a missing staple", version, function()
      return { ocsp = "require" }
    end, "OCSP")
    refused("a revoking staple", version, function()
      return { ocsp = "request" }, { ocsp_response = pki.ocsp { ca = ca, certificate = leaf, status = "revoked" } }
    end, "revoked")
    refused("a stale staple", version, function()
      return { ocsp = "request" }, { ocsp_response = pki.staples(ca, leaf).stale }
    end, "OCSP")
    refused("a revoked certificate", version, function()
      return { crl = pki.crl { ca = ca, revoked = { leaf } } }
    end, "revoked")
    refused("a TLSA record of another", version, function()
      return nil, nil, { server_name = "localhost",
        dane = { { usage = 3, selector = 0, matching_type = 0, data = pki.der(other) } } }
    end, "TLSA")
    refused("a client without a certificate", version, function()
      return nil, { ca = ca.certificate, verify_client = "require" }
    end, "did not return a certificate", { believed = believed_by_server })
    refused("a client's certificate of a stranger", version, function()
      return { certificate = other.certificate, key = other.key }, { ca = ca.certificate, verify_client = "require" }
    end, "", { believed = believed_by_server })
    add("! a client's certificate of a stranger, where none is needed on TLS " .. version, function()
      local client, server = of(version, { certificate = other.certificate, key = other.key },
        { ca = ca.certificate, verify_client = "optional" })
      return function(run)
        run:visit(client, server, nil, { server = function(conn)
          run.shown = conn:peer_certificate() ~= nil
          if not run.shown then error "without memory OpenSSL's client shows none" end
        end })
      end
    end, "", { believed = function(run) return run.accepted and run.shown end })
    refused("a client's certificate that is revoked", version, function()
      return { certificate = leaf.certificate, key = leaf.key },
        { ca = ca.certificate, verify_client = "require", crl = pki.crl { ca = ca, revoked = { leaf } } }
    end, "", { believed = believed_by_server })
    refused("a client without a certificate, by the context of its name", version, function()
      local inner = helper.server_context { ca = ca.certificate, verify_client = "require" }
      return nil, { names = { localhost = inner } }
    end, "did not return a certificate", { believed = believed_by_server })
    refused("an unknown server name", version, function()
      return nil, { names = { ["a.example"] = helper.server_context() }, strict_names = true }
    end, "unrecognized_name")
    refused("no protocol in common", version, function()
      return nil, { alpn = { "a" } }, { server_name = "localhost", alpn = { "b" } }
    end, "no_application_protocol")
  end

  add("a second hello", function()
    local client = helper.client_context { groups = "X25519:P-256", min_version = "1.3" }
    local server = helper.server_context { groups = "P-256", session_cache = false }
    return function(run)
      local a = run:visit(client, server, nil, { client = tell(run) })
      run:check(a:info().hello_retry, "it was not asked for")
    end
  end)

  add("! no version in common", function()
    local client = helper.client_context { min_version = "1.3" }
    local server = helper.server_context { max_version = "1.2" }
    return function(run) run:visit(client, server) end
  end, "protocol")

  add("! a server that is no server", function()
    local client, server = helper.client_context(), helper.server_context()
    return function(run)
      local a, b = run:pair(client, server)
      run:play(a, function(conn)
        run:must(run:call(conn, "connect"))
        run.connected = true
      end, b, function(conn)
        require("luv").fs_write(conn:fileno(), "HTTP/1.1 400 Bad Request\r\n\r\n", -1)
      end)
    end
  end, "wrong version number")
end
