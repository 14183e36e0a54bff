-- SPDX-License-Identifier: MIT
-- ssl.context: contexts in LuaSec's manner, set up step by step. An object's state holds the cotls.context and what
-- connections made of it are to do. What OpenSSL would call in the middle of a handshake is called before it, or by
-- cotls' own hooks, so that no Lua function ever runs under OpenSSL.

local core = require "cotls.core"
local config = require "cotls.luasec.config"
local handshake = require "cotls.luasec.handshake"
local settings = require "cotls.luasec.settings"
local waits = require "cotls.luasec.waits"

local luasec = core.luasec

local CLASS = "SSL:Context"
local class = luasec.class(CLASS)
local state_of, metatable = class.state, class.metatable

local context = {}

-- The least and the greatest version; 0: no limit.
local PROTOCOLS = {
  any = { 0, 0 },
  sslv23 = { 0, 0 },
  tlsv1 = { 0x0301, 0x0301 },
  tlsv1_1 = { 0x0302, 0x0302 },
  tlsv1_2 = { 0x0303, 0x0303 },
  tlsv1_3 = { 0x0304, 0x0304 },
}
local STRICT = { any = {}, sslv23 = {}, tlsv1_2 = { "1.2" }, tlsv1_3 = { "1.3" } }

local function check_string(value, place, name, level)
  if type(value) == "string" or type(value) == "number" then return tostring(value) end
  local got = value == nil and "no value" or type(value)
  error(("bad argument #%d to '%s' (string expected, got %s)"):format(place, name, got), level + 1)
end

local function check_function(value, place, name, level)
  if type(value) ~= "function" then
    error(("bad argument #%d to '%s' (function expected, got %s)"):format(place, name, type(value)), level + 1)
  end
end

-- The arguments of a method from the second on, each a name that is known: a table of name → true; or nil, the first
-- that is not, its place.
local function check_names(known, method, ...)
  local names = {}
  for i = 1, select("#", ...) do
    local name = check_string((select(i, ...)), i + 1, method, 3)
    if not known[name] then return nil, name, i + 1 end
    names[name] = true
  end
  return names
end

-- false and LuaSec's words around OpenSSL's reason.
local function answer(words, ok, reason)
  if ok then return true end
  return false, words:format(reason)
end

-- A method that gives one text to a function of luasec.
local function setter(method, set, words)
  return function(ctx, text)
    local s = state_of(ctx)
    return answer(words, set(s.core, check_string(text, 2, method, 2)))
  end
end

-- A method that keeps a function in a field, for handshakes; hook is told of it.
local function keeper(method, field, hook)
  return function(ctx, fn)
    local s = state_of(ctx)
    check_function(fn, 2, method, 2)
    s[field] = fn
    if hook then return hook(s) end
    return true
  end
end

local made = 0

-- Sessions never resume under another context.
local function scope()
  made = made + 1
  return ("cotls.luasec %d %s %s"):format(made, tostring({}), core.now())
end

local function new_core(protocol)
  local wish = {
    role = "client", insecure = not settings.strict, session_scope = scope(), handshake_timeout = -1,
    scheduler = waits.scheduler,
  }
  if settings.strict then
    wish.handshake_timeout = nil
    wish.min_version, wish.max_version = STRICT[protocol][1], STRICT[protocol][1]
    return core.context(wish)
  end
  local made_core, err = core.context(wish)
  if not made_core then return nil, err end
  local ok, reason = luasec.loosen(made_core, PROTOCOLS[protocol][1], PROTOCOLS[protocol][2])
  if not ok then return nil, reason end
  return made_core
end

function context.create(protocol)
  protocol = check_string(protocol, 1, "create", 2)
  if not (settings.strict and STRICT or PROTOCOLS)[protocol] then
    return nil, ("invalid protocol (%s)"):format(protocol)
  end
  local made_core, err = new_core(protocol)
  if not made_core then return nil, ("error creating context (%s)"):format(tostring(err)) end
  return class.new { core = made_core, strict = settings.strict, verify = {} }
end

local function apply_verify(s)
  local v = s.verify
  if s.strict and s.mode == "client" then
    if v.none and not v.peer then core.change_context(s.core, { insecure = true }) end
    return
  end
  if v.peer or v.client_once or v.fail_if_no_peer_cert then
    luasec.set_verify(s.core, v.peer, v.client_once, v.fail_if_no_peer_cert)
  end
end

function context.setmode(ctx, mode)
  local s = state_of(ctx)
  mode = check_string(mode, 2, "setmode", 2)
  if mode ~= "client" and mode ~= "server" then return false, ("invalid mode (%s)"):format(mode) end
  s.mode = mode
  if mode == "server" then
    core.change_context(s.core, { role = "server" })
    apply_verify(s)
    if s.hooked then return handshake.hook(s) end
  end
  return true
end

--- The password is a string or a function that gives one; it is asked for only where the key is encrypted.
function context.loadkey(ctx, path, password)
  local s = state_of(ctx)
  path = check_string(path, 2, "loadkey", 2)
  if password ~= nil and type(password) ~= "string" and type(password) ~= "function" then
    error("invalid callback value", 2)
  end
  local text = type(password) == "string" and password or nil
  local ok, reason, asked = luasec.load_key(s.core, path, text)
  if not ok and asked and type(password) == "function" then
    text = password()
    ok, reason = luasec.load_key(s.core, path, type(text) == "string" and text or nil)
  end
  return answer("error loading private key (%s)", ok, reason)
end

context.loadcert = setter("loadcert", luasec.load_certificate, "error loading certificate (%s)")

function context.checkkey(ctx)
  return (luasec.check_key(state_of(ctx).core))
end

function context.locations(ctx, file, directory)
  local s = state_of(ctx)
  file = file ~= nil and check_string(file, 2, "locations", 2) or nil
  directory = directory ~= nil and check_string(directory, 3, "locations", 2) or nil
  s.trusts = true
  return answer("error loading CA locations (%s)", luasec.trust(s.core, file, directory))
end

context.setcipher = setter("setcipher", luasec.set_ciphers, "error setting cipher list (%s)")
context.setciphersuites = setter("setciphersuites", luasec.set_suites, "error setting cipher list (%s)")

function context.setdepth(ctx, depth)
  luasec.set_depth(state_of(ctx).core, depth)
  return true
end

local VERIFY = { none = true, peer = true, client_once = true, fail_if_no_peer_cert = true }

function context.setverify(ctx, ...)
  local s = state_of(ctx)
  local wanted, unknown = check_names(VERIFY, "setverify", ...)
  if not wanted then return false, ("invalid verify option (%s)"):format(unknown) end
  for name in pairs(wanted) do s.verify[name] = true end
  apply_verify(s)
  return true
end

function context.setoptions(ctx, ...)
  local s = state_of(ctx)
  local wanted, unknown = check_names(config.options, "setoptions", ...)
  if not wanted then return false, ("invalid option (%s)"):format(unknown) end
  for i = 1, select("#", ...) do luasec.set_option(s.core, (select(i, ...))) end
  return true
end

--- The function gives PEM parameters. It is called once, before the first connection.
function context.setdhparam(ctx, give)
  local s = state_of(ctx)
  check_function(give, 2, "setdhparam", 2)
  s.dhparam = give
end

function context.setcurve(ctx, name)
  local s = state_of(ctx)
  name = check_string(name, 2, "setcurve", 2)
  if not config.curves[name] then return false, ("elliptic curve '%s' not supported"):format(name) end
  return answer("error setting elliptic curve (%s)", luasec.set_groups(s.core, name))
end

function context.setcurveslist(ctx, list)
  local s = state_of(ctx)
  list = check_string(list, 2, "setcurveslist", 2)
  if luasec.set_groups(s.core, list) then return true end
  return false, ("unknown elliptic curve in \"%s\""):format(list)
end

--- A client's protocols, in wire format.
function context.setalpn(ctx, wire)
  local s = state_of(ctx)
  wire = check_string(wire, 2, "setalpn", 2)
  local ok, err = core.change_context(s.core, { alpn = wire })
  return answer("error setting ALPN (%s)", ok, err and err.reason)
end

--- A server's function: given what the client offers, in wire format, it gives its own list.
context.setalpncb = keeper("setalpncb", "alpn", handshake.hook)

function context.setdane(ctx, ...)
  local s = state_of(ctx)
  local wanted, unknown, place = check_names(config.capabilities.dane, "setdane", ...)
  if not wanted then error(("bad argument #%d to 'setdane' (invalid option '%s')"):format(place, unknown), 2) end
  return (luasec.enable_dane(s.core, select("#", ...) > 0))
end

-- ---- what only LuaSec 1.3 has ----

--- A client's function: given the server's hint, and the most bytes of each, it gives identity and key.
context.setclientpskcb = keeper("setclientpskcb", "client_psk", handshake.hook)

--- A server's function: given an identity and the most bytes of a key, it gives the key, or nil.
context.setserverpskcb = keeper("setserverpskcb", "server_psk", handshake.hook)

context.setpskhint = setter("setpskhint", luasec.set_psk_hint, "error setting PSK hint (%s)")

-- ---- methods ----

local EXT = { lsec_continue = true, lsec_ignore_purpose = true, crl_check = true, crl_check_chain = true }

function metatable.__index.setverifyext(ctx, ...)
  local s = state_of(ctx)
  local v, unknown = check_names(EXT, "setverifyext", ...)
  if not v then return false, ("invalid verify option (%s)"):format(unknown) end
  luasec.set_verify_ext(s.core, v.lsec_continue, v.lsec_ignore_purpose, v.crl_check, v.crl_check_chain)
  return true
end

function metatable.__tostring(ctx)
  return "SSL context: " .. tostring(state_of(ctx)):match("0x%x+")
end

return context
