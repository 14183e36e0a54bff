-- What is left when memory runs out: each scenario is repeated, and each time another allocation fails, of Lua's, of
-- OpenSSL's or of ours: one of a few, since all of them (steps of 1) take minutes. It may fail, but it neither crashes
-- nor hangs, believes nobody whom it would refuse, and leaves OpenSSL's error queue empty, for a library next door
-- would take what is in it for its own. Under ASan the end of the program looks for leaks.

local assert = require "luassert"
local helper = require "spec.helper"
local inject = require "spec.inject"

-- The program: scenario by scenario, allocation by allocation, by steps: Lua's, and OpenSSL's, which are many.
local HEAD = [[
if rawget(_G, "jit") then jit.off() end -- LuaJIT itself crashes where memory fails in compiled code
local inject = package.loadlib(os.getenv "INJECT", "luaopen_inject")()
local compat = require "cotls.compat"
local tls = require "cotls"
local helper = require "spec.helper"
local pki = require "spec.pki"

local leaf, ca = helper.server_leaf, helper.ca
local other = helper.leaf { subject = "CN=other", ca = helper.other_ca }
local locked = helper.openssl({ "pkcs8", "-topk8", "-passout", "pass:secret" }, leaf.key)
local pin = tls.x509(leaf.certificate):spki_pin()
local staple = pki.ocsp { ca = ca, certificate = leaf }
local no_crl = "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"

local got -- of a run: the connections, and what each side has read

local function both(client, server, options)
  local a, b = helper.socketpair()
  got.fds = { a, b }
  got.client = assert(client:wrap(a, options or { server_name = "localhost" }))
  got.fds[1] = nil
  got.server = assert(server:wrap(b))
  got.fds[2] = nil
  local function side(conn, verb)
    local fine
    local co = coroutine.create(function()
      local ok, shaken = compat.pcall(conn[verb], conn)
      if not ok then -- there was no memory to say so: it may be asked again
        if not tostring(shaken):find("memory", 1, true) then got.raised = tostring(shaken) end
        shaken = conn[verb](conn)
      end
      assert(shaken and conn:write("x"))
      got[verb] = assert(conn:read(1))
      if got.last then got.last(conn) end
      fine = true
    end)
    return function()
      coroutine.resume(co)
      if coroutine.status(co) == "dead" and not fine then conn:close() end
      return coroutine.status(co) == "dead"
    end
  end
  local connect, accept = side(got.client, "connect"), side(got.server, "accept")
  local connected, accepted
  for _ = 1, 1000 do
    connected = connected or connect()
    accepted = accepted or accept()
    if connected and accepted then return end
  end
  got.hangs = true
end

local function clean()
  for _, name in ipairs { "client", "server" } do
    if got[name] then got[name]:close() end
  end
  for i = 1, 2 do
    if got.fds and got.fds[i] then helper.close_fd(got.fds[i]) end
  end
  for name in pairs(got) do got[name] = nil end
  collectgarbage()
end

local function of(version, client, server)
  client.min_version, client.max_version, server.min_version, server.max_version = version, version, version, version
  return helper.client_context(client), helper.server_context(server)
end
]]

-- Contexts and visits.
local VISITS = [[
local scenarios = {
  ["a context"] = function()
    tls.context { ca = ca.certificate, verify_depth = 3, purpose = "sslserver", pins = pin,
      ocsp = "require", ciphers = "ECDHE+AESGCM", groups = { "X25519" }, alpn = { "a" }, resume = true,
      psk = { me = ("k"):rep(16) }, certificate = other.certificate, key = other.key }
    tls.context { role = "server", certificate = leaf.certificate, key = locked, ocsp_response = staple,
      password = function() return "secret" end, ticket_keys = { ("k"):rep(80) } }
  end,
  ["a context that is refused"] = function()
    tls.context { role = "server", certificate = leaf.certificate, key = locked, password = "wrong" }
    tls.context { ca = ca.certificate, crl = no_crl }
    tls.context { ca = ca.certificate, ciphers = "NOPE" }
    tls.context { ca = ca.certificate, certificate = leaf.certificate, key = other.key }
  end,
}
for _, version in ipairs { "1.2", "1.3" } do
  local plain = { of(version, {}, {}) }
  local demanding = { of(version, { pins = pin, ocsp = "require", alpn = { "a" }, resume = true, session_key = "k",
    certificate = leaf.certificate, key = leaf.key },
    { ca = ca.certificate, verify_client = "require", ocsp_response = staple, alpn = { "a" } }) }
  scenarios["a visit, twice, on " .. version] = function()
    both(compat.unpack(demanding))
    clean()
    got.last = function(conn) conn:info() conn:peer_certificate():names() conn:session():export() end
    both(compat.unpack(demanding))
  end
  for name, case in pairs {
    ["a stranger's name"] = { {}, {}, { server_name = "wrong.example" } },
    ["a stranger's pin"] = { { pins = "sha256/" .. ("A"):rep(43) .. "=" }, {} },
    ["a missing staple"] = { { ocsp = "require" }, {} },
    ["a stranger's issuer"] = { {}, { certificate = other.certificate, key = other.key } },
    ["a client's lack of a certificate"] = { {}, { ca = ca.certificate, verify_client = "require" } },
  } do
    local client, server = of(version, case[1], case[2])
    scenarios[("! %s on %s"):format(name, version)] = function() both(client, server, case[3]) end
  end
end
]]

-- Keys that live elsewhere, whose owner waits: on both sides, for all kinds of keys.
local KEYS = [[
local function owner(key)
  return function(_, request)
    coroutine.yield()
    return inject.sign(key, request.scheme, request.digest, request.message)
  end
end

local function remote(side, sign)
  return { certificate = side.certificate, sign = sign or owner(side.key) }
end

local scenarios = {
  ["a context"] = function() tls.context(helper.with({ role = "server" }, remote(leaf))) end,
}
for _, version in ipairs { "1.2", "1.3" } do
  for _, kind in ipairs { "ec", "rsa", "ed25519" } do
    local served, shown = helper.leaf { key_type = kind }, helper.leaf { key_type = kind, subject = "CN=me" }
    local function with(client, server)
      return of(version, client, helper.with({ ca = ca.certificate, verify_client = "require" }, server))
    end
    local client, server = with(remote(shown), remote(served))
    scenarios[("keys of %s on %s"):format(kind, version)] = function() both(client, server) end
    local wrong = function(_, request)
      coroutine.yield()
      return inject.sign(other.key, "ecdsa", "SHA256", request.message)
    end
    local liar, honest = with(remote(shown), remote(served, wrong))
    scenarios[("! a wrong signature by a server's key of %s on %s"):format(kind, version)] = function()
      both(liar, honest)
    end
    local mute, judge = with(remote(shown, wrong), { certificate = leaf.certificate, key = leaf.key })
    scenarios[("! a client's wrong signature of %s on %s"):format(kind, version)] = function() both(mute, judge) end
  end
end
]]

local TAIL = [[
-- Who must not have been believed: a client that got the byte has believed the server.
local function believed(name)
  if name:find("^! a client's") then return got.accept end
  return name:find("^!") and got.connect
end

local function run(name, scenario, whose, n)
  got = {}
  pcall(function()
    if whose then inject.arm(whose, n) end
    scenario()
  end)
  local ok, reached = pcall(inject.disarm)
  if not ok then reached = inject.disarm() end
  local queue = inject.queue()
  local fault = queue or got.raised or got.hangs and "it hangs" or believed(name) and "believed"
  clean()
  return reached, fault or inject.queue()
end

local wrong = {}
for name, scenario in pairs(scenarios) do
  for _ = 1, 2 do run(name, scenario) end -- whatever is made once is made
  for i, whose in ipairs { "lua", "openssl", "malloc" } do
    local step, n = tonumber(arg[i]), 1
    repeat
      local reached, fault = run(name, scenario, whose, n)
      if fault then wrong[#wrong + 1] = ("%s, allocation %d of %s: %s"):format(name, n, whose, fault) end
      n = n + step
    until not reached
    assert(n > 1, "nothing was allocated")
  end
end
print(#wrong == 0 and "nothing wrong" or table.concat(wrong, "\n"))
]]

describe("without memory", function()
  local function starves(scenarios, ...)
    local program = helper.temp_file(HEAD .. scenarios .. TAIL)
    local status, out, err = helper.run({ helper.lua, program, ... }, nil, { env = inject.env(), seconds = 120 })
    assert.same({ 0, "nothing wrong\n" }, { status, out }, err)
  end

  it("nothing crashes, hangs, believes a stranger or leaves OpenSSL's errors behind", function()
    starves(VISITS, "3", "211", "1")
  end)

  it("nor does it with keys that live elsewhere", function() starves(KEYS, "3", "211", "1") end)
end)
