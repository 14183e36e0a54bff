-- SPDX-License-Identifier: MIT
-- Scenarios: the drop-in for LuaSec.

local tls = require "cotls"
local luasec = require "cotls.luasec"
local helper = require "spec.helper"

local ssl, core, x509 = luasec.module "ssl", luasec.module "ssl.core", luasec.module "ssl.x509"

local ca, leaf = helper.ca, helper.server_leaf
local other = helper.leaf { subject = "CN=other", ca = helper.other_ca }
local ROUNDS = 3000
local WANTS = { wantread = true, wantwrite = true }

-- Its errors are texts: one that is given, as an object.
local Said = { __tostring = function(self) return self.text end }

local function must(run, ok, err, ...)
  if ok then return ok, err, ... end
  run:check(err == nil or type(err) == "string" and err ~= "", "a failure without its text: " .. tostring(err))
  error(setmetatable({ text = tostring(err) }, Said), 0)
end

-- Until it has been done: a want comes back.
local function shake(run, conn)
  for _ = 1, ROUNDS do
    local ok, err = run:call(conn, "dohandshake")
    if ok or not WANTS[err] then return must(run, ok, err) end
    coroutine.yield()
  end
  run:check(false, "it hangs")
end

local function send(run, conn, data)
  local from = 1
  for _ = 1, ROUNDS do
    local last, err, sent = conn:send(data, from)
    if last or not WANTS[err] then return must(run, last, err) end
    from = sent + 1
    coroutine.yield()
  end
  run:check(false, "it hangs")
end

local function receive(run, conn, pattern)
  local part
  for _ = 1, ROUNDS do
    local data, err, more = conn:receive(pattern, part)
    if data or not WANTS[err] then return data, err, more end
    part = more
    coroutine.yield()
  end
  run:check(false, "it hangs")
end

local function same(run, wanted, got, err)
  if got == nil then must(run, nil, err) end
  run:check(got == wanted, ("%q was received"):format(tostring(got):sub(1, 40)))
end

-- An object on a descriptor of the run's.
local function object(run, context, fds, i)
  local conn = must(run, core.create(context))
  run.conns[#run.conns + 1] = conn
  core.setfd(conn, fds[i])
  fds[i] = nil
  conn:settimeout(0)
  return conn
end

-- What Run:play closes by.
local function closing(conn)
  return setmetatable({}, { __close = function() conn:close() end })
end

local function visit(run, client, server, on_client, on_server)
  local fds = run.fds[#run.fds]
  local a, b = object(run, client, fds, 1), object(run, server, fds, 2)
  run:play(closing(a), function()
    shake(run, a)
    run.connected = true
    if on_client then on_client(a) end
  end, closing(b), function()
    shake(run, b)
    run.accepted = true
    if on_server then on_server(b) end
  end)
  return a, b
end

-- All that a connection tells.
local function tell(run)
  return function(conn)
    run:check(conn:info "protocol" and conn:info().cipher, "nothing is told")
    for _, name in ipairs { "getpeerchain", "getlocalcertificate", "getlocalchain", "getpeerverification",
      "getfinished", "getpeerfinished", "getsniname", "getalpn", "getsockname" } do
      conn[name](conn)
    end
    conn:exportkeyingmaterial("EXPORTER-x", 16)
    return conn:getpeercertificate()
  end
end

return function(add)
  local cafile, certificate, key = helper.temp_file(ca.certificate), helper.temp_file(leaf.certificate),
    helper.temp_file(leaf.key)

  for _, version in ipairs { "1.2", "1.3" } do
    local protocol = "tlsv" .. version:gsub("%.", "_")

    local function contexts(client, server)
      return assert(ssl.newcontext(helper.with({ mode = "client", protocol = protocol, verify = "peer",
        cafile = cafile }, client))), assert(ssl.newcontext(helper.with({ mode = "server", protocol = protocol,
        certificate = certificate, key = key }, server)))
    end

    add("the drop-in's handshake on TLS " .. version, function()
      local client, server = contexts({ alpn = { "a" }, verify = { "peer" }, certificate = certificate, key = key },
        { alpn = { "a" }, verify = { "peer", "fail_if_no_peer_cert" }, cafile = cafile })
      return function(run) visit(run, client, server, tell(run), tell(run)) end
    end)

    add("the drop-in's data on TLS " .. version, function()
      local client, server = contexts()
      local data = helper.noise(60000)
      return function(run)
        visit(run, client, server, function(conn)
          send(run, conn, "one line\r\n12345")
          send(run, conn, data)
          conn:shutdown()
          same(run, "done", receive(run, conn, "*a"))
          conn:close()
        end, function(conn)
          same(run, "one line", receive(run, conn, "*l"))
          same(run, "12345", receive(run, conn, 5))
          same(run, data, receive(run, conn, #data))
          send(run, conn, "done")
          conn:close()
        end)
      end
    end, nil, { without = { lua = "a raised error says nothing of how much it has read" },
      notices = "close sends its alert only where that can go at once" })

    add("the drop-in's server names on TLS " .. version, function()
      local client, server = contexts()
      return function(run)
        local fds = run.fds[#run.fds]
        local a, b = object(run, client, fds, 1), object(run, server, fds, 2)
        a:sni "a.example"
        b:sni({ ["a.example"] = server }, true)
        run:play(closing(a), function() shake(run, a) end, closing(b), function() shake(run, b) end)
        local name = b:getsniname()
        run:check(name == "a.example" or name == nil, "another name") -- as LuaSec's, sni says nothing of a failure
      end
    end)

    add("the drop-in's TLSA records on TLS " .. version, function()
      local client, server = contexts { dane = true }
      local record = tls.x509(leaf.certificate):der()
      return function(run)
        local fds = run.fds[#run.fds]
        local a, b = object(run, client, fds, 1), object(run, server, fds, 2)
        must(run, a:setdane "localhost", "setdane has failed")
        must(run, a:settlsa(3, 0, 0, record), "settlsa has failed")
        run:play(closing(a), function() shake(run, a) end, closing(b), function() shake(run, b) end)
      end
    end)

    add("! a stranger before the drop-in on TLS " .. version, function()
      local client, server = contexts(nil, { certificate = helper.temp_file(other.certificate),
        key = helper.temp_file(other.key) })
      return function(run) visit(run, client, server) end
    end, "certificate verify failed", { believed = function(run) return run.connected end })

    add("! a client without a certificate before the drop-in on TLS " .. version, function()
      local client, server = contexts(nil, { verify = { "peer", "fail_if_no_peer_cert" }, cafile = cafile })
      return function(run)
        visit(run, client, server, function(conn) same(run, "x", receive(run, conn, 1)) end)
      end
    end, "", { believed = function(run) return run.accepted end })
  end

  add("the drop-in's contexts", function()
    local folder = helper.temp_dir()
    local encrypted = helper.temp_file(helper.openssl({ "pkcs8", "-topk8", "-passout", "pass:secret", "-iter", "1" },
      leaf.key))
    return function(run)
      must(run, ssl.newcontext { mode = "server", protocol = "any", certificate = certificate, key = encrypted,
        password = function() return "secret" end, cafile = cafile, capath = folder, ciphers = "ECDHE+AESGCM",
        ciphersuites = "TLS_AES_128_GCM_SHA256", curveslist = "X25519:P-256", depth = 3,
        options = { "all", "no_sslv3" }, verify = { "peer", "client_once" }, verifyext = { "lsec_continue" },
        alpn = function(names) return names[1] end })
      must(run, ssl.newcontext { mode = "client", protocol = "tlsv1_2", cafile = cafile, verify = "peer",
        alpn = { "a", "b" }, dane = { "no_ee_namechecks" } })
    end
  end)

  add("! a wrong password of the drop-in's", function()
    local encrypted = helper.temp_file(helper.openssl({ "pkcs8", "-topk8", "-passout", "pass:secret", "-iter", "1" },
      leaf.key))
    return function(run)
      must(run, ssl.newcontext { mode = "server", protocol = "any", certificate = certificate, key = encrypted,
        password = "wrong" })
    end
  end, "error loading private key")

  add("the drop-in's certificates", function()
    local pem = helper.leaf { names = { "localhost", "::1" } }.certificate
    return function(run)
      local one = must(run, x509.load(pem))
      for _, name in ipairs { "subject", "issuer", "serial", "notbefore", "notafter", "extensions", "digest", "pem",
        "pubkey", "getsignaturename" } do
        must(run, one[name](one))
      end
      one:validat(os.time())
      must(run, must(run, x509.load(ca.certificate)):issued(one))
      return tostring(one)
    end
  end)
end
