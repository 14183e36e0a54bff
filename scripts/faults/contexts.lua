-- SPDX-License-Identifier: MIT
-- Scenarios: contexts from files of every kind, and the objects that are made without a connection.

local tls = require "cotls"
local helper = require "spec.helper"
local pki = require "spec.pki"

local leaf, ca, openssl = helper.server_leaf, helper.ca, helper.openssl

-- OpenSSL 3.0 frees its store's loader twice, and follows a null pointer, where these find no memory.
local STORE = { spares = "OSSL_STORE_open_ex OSSL_DECODER_CTX_new_for_pkey" }

local function built(run, options)
  local context = run:must(tls.context(options))
  run.accepted = true
  return context
end

return function(add)
  local function makes(name, options_of, text, more)
    add(name, function()
      local options = options_of()
      return function(run) built(run, options) end
    end, text, more)
  end

  local function encrypted()
    return openssl({ "pkcs8", "-topk8", "-passout", "pass:secret", "-iter", "1" }, leaf.key)
  end

  local function pkcs12()
    return openssl { "pkcs12", "-export", "-in", helper.temp_file(leaf.certificate), "-inkey",
      helper.temp_file(leaf.key), "-certfile", helper.temp_file(ca.certificate), "-passout", "pass:secret",
      "-iter", "1" }
  end

  makes("a client's context from files", function()
    local folder = helper.temp_dir()
    local handle = assert(io.open(folder .. "/ca.pem", "w"))
    handle:write(ca.certificate)
    handle:close()
    helper.openssl { "rehash", folder }
    return {
      ca = { folder, helper.temp_file(ca.certificate) }, verify_depth = 3, purpose = "sslserver",
      pins = tls.x509(leaf.certificate):spki_pin(), ocsp = "require", ciphers = "ECDHE+AESGCM",
      ciphersuites = { "TLS_AES_128_GCM_SHA256" }, groups = { "X25519" }, alpn = { "a" }, resume = true,
      signature_algorithms = "ECDSA+SHA256:RSA+SHA256", crl = helper.temp_file(pki.crl { ca = ca }),
      crl_check = "leaf", certificate = helper.temp_file(leaf.certificate .. ca.certificate),
      key = helper.temp_file(encrypted()), password = function() return "secret" end, partial_chain = true,
      security_level = 2, options = { "NO_COMPRESSION" }, conf = { { "MinProtocol", "TLSv1.2" } },
    }
  end)

  makes("a server's context from files", function()
    local rsa = helper.leaf { key_type = "rsa" }
    return {
      role = "server", ca = ca.certificate, verify_client = "require", alpn = { "a", "b" },
      ticket_keys = { ("k"):rep(80), ("l"):rep(80) }, names = { ["a.example"] = helper.server_context() },
      session_cache = 10, max_early_data = 100, on_verify = function() return true end,
      on_alpn = function(_, offered) return offered[1] end,
      credentials = {
        { certificate = helper.temp_file(leaf.certificate), key = helper.temp_file(leaf.key),
          ocsp_response = pki.ocsp { ca = ca, certificate = leaf } },
        { certificate = rsa.certificate, key = rsa.key },
      },
    }
  end)

  makes("a context from PKCS #12", function()
    return { role = "server", pkcs12 = helper.temp_file(pkcs12()), password = "secret" }
  end)

  makes("a context from a URI", function()
    local path = helper.temp_file(encrypted() .. leaf.certificate)
    return { role = "server", key_uri = "file:" .. path, password = function() return "secret" end }
  end, nil, STORE)

  makes("a context with keys elsewhere", function()
    return { role = "server", certificate = leaf.certificate, sign = function() end, remote_keys = nil }
  end)

  makes("a context with PSKs", function()
    return { role = "server", psk = { me = ("k"):rep(32), you = ("l"):rep(16) } }
  end)

  makes("a client's context with the system's CAs", function()
    local uv = require "luv" -- a system of three: what one of them takes, all take
    uv.os_setenv("SSL_CERT_FILE", helper.temp_file(ca.certificate .. helper.other_ca.certificate .. leaf.certificate))
    uv.os_setenv("SSL_CERT_DIR", helper.temp_dir())
    return {}
  end, nil, STORE)

  makes("! a wrong password", function()
    return { role = "server", certificate = leaf.certificate, key = encrypted(), password = "wrong" }
  end, "key: ")

  makes("! a wrong password of PKCS #12", function()
    return { role = "server", pkcs12 = pkcs12(), password = "wrong" }
  end, "pkcs12: ")

  makes("! a URI without a key", function()
    return { role = "server", key_uri = "file:" .. helper.temp_file(leaf.certificate) }
  end, "key_uri: ", STORE)

  makes("! a key of another certificate", function()
    return { role = "server", certificate = leaf.certificate, key = ca.key }
  end, "key: ")

  makes("! a damaged CRL", function()
    return { ca = ca.certificate, crl = "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n" }
  end, "crl: ")

  makes("! a CA's file without a certificate", function() return { ca = helper.temp_file "nothing" } end, "ca: ")

  makes("! an unknown cipher", function() return { ca = ca.certificate, ciphers = "NOPE" } end, "ciphers: ")

  makes("! a staple of another certificate", function()
    return { role = "server", certificate = leaf.certificate, key = leaf.key,
      ocsp_response = pki.ocsp { ca = ca, certificate = helper.leaf() } }
  end, "ocsp_response: ")

  add("changes of a context", function()
    local staple = pki.ocsp { ca = ca, certificate = leaf }
    local context = helper.server_context { ticket_keys = { ("k"):rep(80) } }
    return function(run)
      run:must(context:set_ocsp_response(staple))
      run:must(context:set_ticket_keys { ("l"):rep(80), ("k"):rep(80) })
      run:must(context:session_stats())
      run:must(context:ciphers())
      run:must(context:flush_sessions())
      run:must(tls.ciphers "ECDHE+AESGCM")
    end
  end)

  add("a certificate's object", function()
    local pem = helper.leaf { names = { "localhost", "*.a.example", "::1", "127.0.0.1" } }.certificate
    return function(run)
      local one = run:must(tls.x509(pem))
      for _, name in ipairs { "subject", "issuer", "serial", "not_before", "not_after", "names", "fingerprint",
        "spki_pin", "key", "signature_algorithm", "purposes", "extensions", "ocsp_urls", "ca_issuer_urls", "pem",
        "der" } do
        local value, err = one[name](one)
        -- of a key that was without memory when it was read OpenSSL says nothing
        if err then run:must(value, err) else run:check(value ~= nil or name == "key", name) end
      end
      run:check(not one:check_host "b.example", "check_host says yes")
      run:check(not one:check_ip "127.0.0.2", "check_ip says yes")
      run:check(not one:check_email "a@b.example", "check_email says yes")
      run:check(one == run:must(tls.x509(one:der())), "not equal to itself")
      return tostring(one)
    end
  end)

  for _, key_type in ipairs { "ec", "ed25519" } do
    add("making a certificate with a key of " .. key_type, function()
      return function(run)
        run:must(tls.make_certificate { subject = "CN=x,O=y", names = { "a.example", "::1" }, days = 3, ca = ca,
          key_type = key_type, ocsp_urls = { "http://a.example" }, ca_issuer_urls = { "http://b.example" },
          must_staple = true, purposes = { "server", "ocsp" } })
      end
    end)
  end

  add("a ClientHello", function()
    local bytes = require("spec.hello").of(helper.client_context(), { server_name = "localhost", alpn = { "h2" } })
    return function(run)
      local hello = run:must(tls.parse_client_hello(bytes))
      run:check(hello.server_name == "localhost" and hello.alpn[1] == "h2" and hello.ja3 ~= "" and hello.ja4 ~= "",
        "it is read wrong")
    end
  end)

  add("a session's object", function()
    local session = require("spec.visit").session(helper.client_context(), helper.server_context())
    return function(run)
      local one = run:must(tls.session(run:must(session:export())))
      for _, name in ipairs { "id", "version", "cipher", "timeout", "time", "ticket_lifetime", "server_name" } do
        run:check(one[name](one) ~= nil, name)
      end
      run:check(one:export() == session:export(), "exported it is another")
    end
  end)

  add("! a damaged session", function()
    local data = require("spec.visit").session(helper.client_context(), helper.server_context()):export()
    data = data:sub(1, -5)
    return function(run)
      run:must(tls.session(data))
      run.accepted = true
    end
  end, "session")
end
