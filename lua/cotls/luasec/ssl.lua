-- SPDX-License-Identifier: MIT
-- ssl: contexts from a table of parameters, and sockets wrapped by them, as LuaSec 1.3.2 documents them.

local compat = require "cotls.compat"
local config = require "cotls.luasec.config"
local context = require "cotls.luasec.context"
local core = require "cotls.luasec.core"
local x509 = require "cotls.luasec.x509"

local unpack = compat.unpack

-- ---- ALPN, RFC 7301 section 3.1 ----

local function to_wire(list)
  local parts = {}
  for i, name in ipairs(list) do
    if type(name) ~= "string" then return nil end
    if #name == 0 then return nil, "invalid ALPN name (empty string)" end
    if #name > 255 then return nil, "invalid ALPN name (length > 255)" end
    parts[i] = string.char(#name) .. name
  end
  if #parts == 0 then return nil, "invalid ALPN list (empty)" end
  return table.concat(parts)
end

local function from_wire(wire)
  local list, at = {}, 1
  while at <= #wire do
    local n = wire:byte(at)
    list[#list + 1] = wire:sub(at + 1, at + n)
    at = at + n + 1
  end
  return list
end

local function server_alpn(ctx, given)
  if type(given) == "function" then
    return context.setalpncb(ctx, function(offered)
      local list = given(from_wire(offered))
      if type(list) == "string" then list = { list } end
      return type(list) == "table" and (to_wire(list)) or nil
    end)
  elseif type(given) ~= "table" then
    return nil, "invalid ALPN parameter"
  end
  local wire, reason = to_wire(given)
  if not wire then return nil, reason end
  return context.setalpncb(ctx, function() return wire end)
end

local function client_alpn(ctx, given)
  if type(given) == "string" then given = { given } end
  if type(given) ~= "table" then return nil, "invalid ALPN parameter" end
  local wire, reason = to_wire(given)
  if not wire then return nil, reason end
  return context.setalpn(ctx, wire)
end

-- ---- the parameters, in the order in which they take effect ----

-- A parameter that is a value or a list of them.
local function each(apply)
  return function(ctx, given)
    if type(given) == "table" then return apply(ctx, unpack(given)) end
    return apply(ctx, given)
  end
end

local function load_pair(ctx, pair)
  local ok, reason
  if pair.key then
    local kind = type(pair.password)
    if pair.password and kind ~= "function" and kind ~= "string" then return nil, "invalid password type" end
    ok, reason = context.loadkey(ctx, pair.key, pair.password or nil)
    if not ok then return nil, reason end
  end
  if not pair.certificate then return true end
  ok, reason = context.loadcert(ctx, pair.certificate)
  if not ok then return nil, reason end
  if pair.key and not context.checkkey(ctx) then return nil, "private key does not match public key" end
  return true
end

local function certificates(ctx, _, cfg)
  for _, pair in ipairs(cfg.certificates or { cfg }) do
    local ok, reason = load_pair(ctx, pair)
    if not ok then return nil, reason end
  end
  return true
end

local function locations(ctx, _, cfg)
  if not (cfg.cafile or cfg.capath) then return true end
  return context.locations(ctx, cfg.cafile or nil, cfg.capath or nil)
end

local function dhparam(ctx, given)
  if type(given) ~= "function" then return nil, "invalid DH parameter type" end
  context.setdhparam(ctx, given)
  return true
end

local function curves(ctx, _, cfg)
  if cfg.curveslist then return context.setcurveslist(ctx, cfg.curveslist) end
  if cfg.curve then return context.setcurve(ctx, cfg.curve) end
  return true
end

local function alpn(ctx, given, cfg)
  if cfg.mode == "server" then return server_alpn(ctx, given) end
  return client_alpn(ctx, given)
end

local function dane(ctx, given)
  if type(given) == "table" then context.setdane(ctx, unpack(given)) else context.setdane(ctx) end
  return true
end

local function psk(ctx, given, cfg)
  if cfg.mode == "client" then
    if type(given) ~= "function" then return nil, "invalid PSK configuration" end
    return context.setclientpskcb(ctx, given)
  end
  if type(given) == "function" then return context.setserverpskcb(ctx, given) end
  if type(given) ~= "table" or type(given.hint) ~= "string" or type(given.callback) ~= "function" then
    return nil, "invalid PSK configuration"
  end
  local ok, reason = context.setpskhint(ctx, given.hint)
  if not ok then return nil, reason end
  return context.setserverpskcb(ctx, given.callback)
end

-- A name, or "*" for what is looked at in any case.
local STEPS = {
  { "mode", context.setmode, always = true },
  { "*", certificates },
  { "*", locations },
  { "ciphers", context.setcipher },
  { "ciphersuites", context.setciphersuites },
  { "verify", each(context.setverify) },
  { "options", each(context.setoptions) },
  { "depth", context.setdepth },
  { "dhparam", dhparam },
  { "*", curves },
  { "verifyext", each(function(ctx, ...) return ctx:setverifyext(...) end) },
  { "alpn", alpn },
  { "dane", dane },
  { "psk", psk },
}

--- A context of a table of parameters; nil and why not.
local function newcontext(cfg)
  if type(cfg) ~= "table" then
    error(("bad argument #1 to 'newcontext' (table expected, got %s)"):format(type(cfg)), 2)
  end
  local ctx, reason = context.create(cfg.protocol)
  if not ctx then return nil, reason end
  for _, step in ipairs(STEPS) do
    local given = cfg[step[1]]
    if given or step.always or step[1] == "*" then
      local ok
      ok, reason = step[2](ctx, given, cfg)
      if not ok then return nil, reason end
    end
  end
  return ctx
end

-- ---- connections ----

--- Takes over the socket's descriptor: the socket is left without one. The second argument is a context of
-- newcontext, or a table of its parameters.
local function wrap(sock, cfg)
  local ctx = cfg
  if type(cfg) == "table" then
    local reason
    ctx, reason = newcontext(cfg)
    if not ctx then return nil, reason end
  end
  local conn, reason = core.create(ctx)
  if not conn then return nil, reason end
  core.setfd(conn, sock:getfd())
  sock:setfd(core.SOCKET_INVALID)
  return conn
end

-- OpenSSL's description in parts: SSL_CIPHER_description(3).
local function parse(text, info)
  info.cipher, info.protocol, info.key, info.authentication, info.encryption, info.mac =
    text:match("^(%S+)%s+(%S+)%s+Kx=(%S+)%s+Au=(%S+)%s+Enc=(%S+)%s+Mac=(%S+)")
  info.export = text:find("%sexport%s*$") ~= nil
end

--- One field, or a table of all; nil, "closed" before the handshake is done.
local function info(self, field)
  local compression, closed = core.compression(self)
  if closed then return nil, closed end
  if field == "compression" then return compression end
  local text, bits, algbits, protocol = core.info(self)
  local all = { compression = compression, bits = bits, algbits = algbits }
  if text then parse(text, all) end
  all.protocol = protocol or all.protocol
  if field then return all[field] end
  return next(all) and all or nil
end

core.setmethod("info", info)

return {
  _VERSION = "1.3.2",
  _COPYRIGHT = core.copyright(),
  config = config,
  loadcertificate = x509.load,
  newcontext = newcontext,
  wrap = wrap,
}
