-- SPDX-License-Identifier: MIT
-- Scenarios: every hook, each of which waits before it answers; alone, it refuses.

local helper = require "spec.helper"
local pki = require "spec.pki"

local leaf, ca = helper.server_leaf, helper.ca
local KEY = ("k"):rep(32)

local function ponder()
  coroutine.yield()
end

local function yes()
  ponder()
  return true
end

local function told() ponder() end

-- The openssl command signs; the same bytes again for the same question would need the same random: it is asked anew.
local function signer(key)
  local path = helper.temp_file(key)
  return function(request)
    local input = helper.temp_file(request.hashed)
    local output = helper.temp_file ""
    local line = ("openssl pkeyutl -sign -inkey %s -in %s -out %s -pkeyopt digest:sha256"):format(path, input, output)
    assert(os.execute(line), line)
    local handle = assert(io.open(output, "rb"))
    local data = handle:read("a")
    handle:close()
    return data
  end
end

-- Both know each other by that key; where OpenSSL has no memory to look at what a client offers on TLS 1.3, by the
-- certificate.
local function check_key(run, identity, a, b)
  if a:peer_certificate() then identity = nil end
  run:check(a:psk_identity() == identity and b:psk_identity() == identity, "another key was used")
end

return function(add)
  for _, version in ipairs { "1.2", "1.3" } do
    local only = { min_version = version, max_version = version }

    local function client_of(options) return helper.client_context(helper.with(only, options)) end
    local function server_of(options) return helper.server_context(helper.with(only, options)) end

    add("every hook on TLS " .. version, function()
      local staple = pki.ocsp { ca = ca, certificate = leaf }
      local credential = { certificate = leaf.certificate, key = leaf.key }
      local ticket_key = ("t"):rep(80)
      local client = client_of {
        certificate = leaf.certificate, key = leaf.key, ocsp = "require",
        on_verify = function(_, ok, report) ponder() return ok and report.chain ~= nil end,
        on_certificate = yes, on_session_new = told, on_keylog = told, on_trace = told,
      }
      local server = server_of {
        ca = ca.certificate, verify_client = "require", on_client_hello = function(_, hello)
          ponder()
          return hello.server_name == "localhost"
        end,
        on_server_name = yes,
        on_certificate = function(conn) ponder() return conn:use_certificate(credential) and true end,
        on_verify = function(_, ok) ponder() return ok end,
        on_alpn = function(_, offered) ponder() return offered[1] end,
        on_ocsp = function() ponder() return staple end,
        on_ticket_key = function() ponder() return ticket_key end,
        on_session_new = told, on_keylog = told, on_trace = told, session_cache = false,
      }
      local options = { server_name = "localhost", alpn = { "p" } }
      return function(run)
        local a = run:visit(client, server, options)
        run:check(a:alpn() == "p", "on_alpn was not obeyed")
        run:check(a:ocsp_response() == staple, "on_ocsp was not obeyed")
      end
    end)

    add("hooks that choose on TLS " .. version, function()
      local staple = pki.ocsp { ca = ca, certificate = leaf }
      local other = helper.leaf { ca = helper.other_ca }
      local client = client_of { ocsp = "require", certificate = other.certificate, key = other.key,
        groups = "X25519:P-256" }
      local chosen = server_of { alpn = { "q" }, session_cache = false, verify_client = "optional", groups = "P-256",
        ca = ca.certificate, on_verify_may_accept = true, on_verify = yes,
        on_certificate = function(conn) ponder() return conn:set_ocsp_response(staple) and true end }
      local server = server_of { session_cache = false, groups = "P-256", on_client_hello = function(conn, hello)
        ponder()
        conn:set_context(chosen)
        return #hello().ja3 == 32 and hello.alpn[1] == "p"
      end }
      return function(run)
        local a = run:visit(client, server, { server_name = "localhost", alpn = { "p", "q" } })
        run:check(a:alpn() == "q" and a:ocsp_response() == staple, "the hooks were not obeyed")
      end
    end)

    add("hooks that are asked in advance on TLS " .. version, function()
      require("cotls.core").set_async(false)
      local staple = pki.ocsp { ca = ca, certificate = leaf }
      local ticket_key = ("t"):rep(80)
      local client = client_of { ocsp = "require", groups = "X25519:P-256" }
      local server = server_of {
        on_client_hello = yes, on_server_name = yes, on_alpn = function(_, offered) ponder() return offered[1] end,
        on_ocsp = function() ponder() return staple end, on_ticket_key = function() ponder() return ticket_key end,
        on_session_get = told, session_cache = false, groups = "P-256",
      }
      return function(run)
        local a = run:visit(client, server, { server_name = "localhost", alpn = { "p" } })
        run:check(a:alpn() == "p" and a:ocsp_response() == staple, "the hooks were not obeyed")
        local session = a:session()
        run:again()
        run:visit(client, server, { server_name = "localhost", alpn = { "p" }, session = session })
      end
    end)

    add("! on_server_name that refuses in advance on TLS " .. version, function()
      require("cotls.core").set_async(false)
      local client, server = client_of(), server_of { on_server_name = function() ponder() return false end }
      return function(run) run:visit(client, server) end
    end, "unrecognized_name")

    add("a store of sessions on TLS " .. version, function()
      local store = {}
      local client = client_of()
      local server = server_of { session_cache = false,
        on_session_get = function(_, id) ponder() return store[id] end,
        on_session_new = function(_, session) ponder() store[session:id()] = session:export() end,
        on_session_remove = function(_, id) store[id] = nil end,
      }
      return function(run)
        for id in pairs(store) do store[id] = nil end
        local a = run:visit(client, server)
        local session = a:session()
        a:shutdown "write" -- what is asked of one that has failed is no session any more
        run:again()
        a = run:visit(client, server, { server_name = "localhost", session = session })
        return a:resumed()
      end
    end)

    add("a key that lives elsewhere on TLS " .. version, function()
      local sign = signer(leaf.key)
      local server = server_of { certificate = leaf.certificate, sign = function(_, request)
        ponder()
        return sign(request)
      end, session_cache = false }
      local client = client_of()
      return function(run) run:visit(client, server) end
    end, nil, { step = 16 })

    add("on_psk on TLS " .. version, function()
      local client = client_of { psk = { me = KEY } }
      local server = server_of { on_psk = function(_, identity) ponder() return identity == "me" and KEY or nil end,
        session_cache = false }
      return function(run)
        check_key(run, "me", run:visit(client, server))
      end
    end)

    add("a client's on_psk on TLS " .. version, function()
      local client = client_of { on_psk = function(_, hint) ponder() return hint or "me", KEY end }
      local server = server_of { psk = { me = KEY, you = KEY }, session_cache = false,
        psk_hint = version == "1.2" and "you" or nil }
      return function(run)
        check_key(run, version == "1.2" and "you" or "me", run:visit(client, server))
      end
    end)

    local no = function() ponder() return false end
    local fails = function() ponder() error "no" end
    local alpn = { server_name = "localhost", alpn = { "p" } }
    for _, case in ipairs {
      { "on_client_hello" }, { "on_server_name" }, { "on_certificate" }, { "on_alpn", options = alpn },
      { "on_verify", server = { ca = ca.certificate, verify_client = "require" }, own = true },
      { "sign", server = { certificate = leaf.certificate } },
      { "on_psk", psk = true },
    } do
      for how, answer in pairs { refuses = no, fails = fails } do
        add(("! %s that %s on TLS %s"):format(case[1], how, version), function()
          local own = case.own and { certificate = leaf.certificate, key = leaf.key } or {}
          if case.psk then own.psk = { me = KEY } end
          local client = client_of(own)
          local server = server_of(helper.with(case.server, { [case[1]] = answer }))
          return function(run) run:visit(client, server, case.options) end
        end, "")
      end
    end

    add("! on_verify of a client that refuses on TLS " .. version, function()
      local client, server = client_of { on_verify = no }, server_of()
      return function(run) run:visit(client, server) end
    end, "on_verify")

    add("! a stranger whom on_verify may not accept on TLS " .. version, function()
      local other = helper.leaf { ca = helper.other_ca }
      local client = client_of { on_verify = yes }
      local server = server_of { certificate = other.certificate, key = other.key }
      return function(run) run:visit(client, server) end
    end, "local issuer")

    add("! a client whom a server's on_verify may not accept on TLS " .. version, function()
      local other = helper.leaf { ca = helper.other_ca }
      local client = client_of { certificate = other.certificate, key = other.key }
      local server = server_of { ca = ca.certificate, verify_client = "require", on_verify = yes }
      return function(run) run:visit(client, server) end
    end, "", { believed = function(run) return run.accepted end })

    add("a handshake that is left while its hook waits, on TLS " .. version, function()
      local client = client_of()
      local server = server_of { on_alpn = function() for _ = 1, 100 do ponder() end end, on_server_name = yes }
      return function(run)
        local a, b = run:pair(client, server, alpn)
        local connect = coroutine.create(function() a:connect() end)
        local accept = coroutine.create(function() b:accept() end)
        for _ = 1, 10 do
          coroutine.resume(connect)
          coroutine.resume(accept)
        end
        run.conns = { a } -- the other is the collector's
      end
    end)
  end
end
