-- SPDX-License-Identifier: MIT
-- What a context's functions and a connection's server names say in the course of a handshake: cotls' hooks ask
-- them. And the connection itself, which is made when it is first needed.

local core = require "cotls.core"
local options = require "cotls.options"

local luasec = core.luasec
local state_of = luasec.class("SSL:Connection").state
local context_state = luasec.class "SSL:Context".test

local handshake = {}

-- cotls connection → the state of the object whose it is, while its handshake runs.
local states = setmetatable({}, { __mode = "k" })

-- RFC 7301 section 3.1
local function wire_of(list)
  local parts = {}
  for i, name in ipairs(list) do parts[i] = string.char(#name) .. name end
  return table.concat(parts)
end

-- The first of the server's names that the client offers, as a list in wire format; or nil.
local function common(wire, offered)
  local is_offered, at = {}, 1
  for _, name in ipairs(offered) do is_offered[name] = true end
  while at <= #wire do
    local n = wire:byte(at)
    local name = wire:sub(at + 1, at + n)
    if is_offered[name] then return string.char(#name) .. name end
    at = at + n + 1
  end
end

-- The context that the server name asks for; nil: it is refused.
local function chosen(s, conn, name)
  local wanted = name and s.sni and s.sni[name]
  local other = wanted and context_state(wanted)
  if other then return luasec.switch(conn, other.core) and other or nil end
  if name and s.sni and s.strict_sni then return nil end
  return s.context
end

local function on_client_hello(conn, hello)
  local s = states[conn]
  if not s then return true end
  local active = chosen(s, conn, hello.server_name)
  if not active then return nil, "unrecognized_name" end
  s.active = active
  if active.alpn and hello.alpn then
    local wire = active.alpn(wire_of(hello.alpn))
    luasec.set_alpn(conn, type(wire) == "string" and common(wire, hello.alpn) or nil)
  end
  return true
end

local KEY_MAX, IDENTITY_MAX = 512, 255 -- OpenSSL's PSK_MAX_PSK_LEN, and PSK_MAX_IDENTITY_LEN without the NUL

-- A key or an identity, which may be a number; nil: it is none, or too long.
local function text_of(value, max)
  local text = (type(value) == "string" or type(value) == "number") and tostring(value) or ""
  return #text > 0 and #text <= max and text or nil
end

local function on_server_psk(conn, identity)
  local s = states[conn]
  local give = s and (s.active or s.context).server_psk
  return give and text_of(give(identity, KEY_MAX), KEY_MAX)
end

-- A client's: the hint is nil where the server has none, and before TLS 1.3's ClientHello.
local function on_client_psk(conn, hint)
  local s = states[conn]
  if not s then return nil end
  local identity, key = s.context.client_psk(hint, IDENTITY_MAX, KEY_MAX)
  identity, key = text_of(identity, IDENTITY_MAX), text_of(key, KEY_MAX)
  if identity and key then return identity, key end
  return nil
end

local function hooks_of(context)
  if context.mode ~= "server" and context.client_psk then return { on_psk = on_client_psk } end
  return { on_client_hello = on_client_hello, on_psk = context.server_psk and on_server_psk or nil }
end

--- From now on the hooks are asked on connections of the context.
-- @return true; false and why not, where OpenSSL can't wait for them
function handshake.hook(context)
  local hooks = hooks_of(context)
  local ok, err = core.change_context(context.core, { hooks = hooks, on_psk = hooks.on_psk ~= nil or nil })
  context.hooked = true
  if ok then return true end
  return false, err.reason
end

-- ---- connections ----

-- What is done once, before the first connection.
local function prepare(context)
  if context.dhparam then
    local ok, pem = pcall(context.dhparam, false, 2048)
    context.dhparam = nil
    if ok and type(pem) == "string" then luasec.set_dh(context.core, pem) end
  end
  if context.strict and context.mode == "client" and not context.trusts and not context.verify.none then
    context.trusts = true
    core.change_context(context.core, { ca = { files = {}, directories = {}, system = true } })
  end
end

-- The connection; a strict client's checks the name, and asks for it.
local function wrap(self, s)
  local context, given = s.context, nil
  local named = context.strict and context.mode == "client" and s.name
  if named then
    local reason
    given, reason = options.connection({ server_name = s.name }, "client", "dohandshake", 2)
    if not given then return nil, reason end
  end
  local conn, err = core.wrap(context.core, self:getfd(), given)
  if not conn then return nil, err end
  luasec.attach(self, conn)
  if s.name and not named then luasec.set_name(conn, s.name) end
  return conn
end

--- The cotls connection of an object; nil, err where it can't be made.
function handshake.connection(self, s)
  if s.conn then return s.conn end
  local context = s.context
  prepare(context)
  local conn, err = wrap(self, s)
  if not conn then return nil, err end
  if context.hooked then states[conn] = s end
  s.conn = conn
  return conn
end

--- The handshake of an object is over, well or not.
function handshake.over(self)
  if next(states) == nil then return end
  local conn = state_of(self).conn
  if conn then states[conn] = nil end
end

return handshake
