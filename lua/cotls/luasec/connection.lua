-- SPDX-License-Identifier: MIT
-- Connections in LuaSec's manner: methods of SSL:Connection. The core has those that loops call for each socket
-- (dirty, getfd) and what moves data; errors become LuaSec's words here.

local core = require "cotls.core"
local handshake = require "cotls.luasec.handshake"
require "cotls.luasec.x509"

local luasec = core.luasec
local push_x509 = package.loaded["cotls.luasec.x509.push"]

local class = luasec.class "SSL:Connection"
local context_state = luasec.class "SSL:Context".test
local state_of, methods = class.state, class.metatable.__index

local connection = {}

-- ---- words ----

-- What LuaSocket says for these.
local SYSTEM = {
  ["Connection reset by peer"] = "closed",
  ["Software caused connection abort"] = "closed",
  ["Connection timed out"] = "timeout",
}

local function wanted(self)
  return self:want() == "write" and "wantwrite" or "wantread"
end

local WORDS = {
  want_read = function() return "wantread" end,
  want_write = function() return "wantwrite" end,
  timeout = wanted,
  closed = function() return "closed" end,
  truncated = function() return "unexpected eof while reading" end,
  system = function(_, err) return SYSTEM[err.reason] or err.reason end,
  config = function(_, err) return tostring(err) end,
}

-- LuaSec's text for an error object.
local function words(self, err)
  local word = WORDS[err.code]
  return word and word(self, err) or err.reason or tostring(err)
end

local RESUMABLE = { want_read = true, want_write = true, timeout = true, busy = true }

-- ---- handshake, data ----

local shake, over = luasec.handshake, handshake.over

local function failed(self, s, err)
  local text = words(self, err)
  if not RESUMABLE[err.code] then
    s.failed = text -- first: whatever raises behind it, dohandshake does not begin anew
    handshake.over(self)
    luasec.fail(self)
  end
  return false, text
end

-- The first call makes the connection; after a failure there is no other.
local function begin(self)
  local s = state_of(self)
  if s.failed then return false, s.failed end
  local conn, err = handshake.connection(self, s)
  if not conn then return failed(self, s, err) end
  return methods.dohandshake(self)
end

function methods.dohandshake(self)
  local ok, reason = shake(self)
  if ok then
    over(self)
    return true
  elseif ok == false then
    return false, reason
  elseif reason then
    return failed(self, state_of(self), reason)
  end
  return begin(self)
end

local receive, rest, send = luasec.receive, luasec.rest, luasec.send

function methods.receive(self, pattern, prefix)
  local data, err, partial = receive(self, pattern, prefix)
  if data or partial then return data, err, partial end
  return nil, words(self, err), rest(self, pattern, prefix)
end

function methods.send(self, data, from, to)
  local last, err, sent = send(self, data, from, to)
  if last or sent then return last, err, sent end
  return nil, words(self, err), err.written or (tonumber(from) or 1) - 1
end

-- ---- names ----

-- A server's names: each is a string, each context one of ssl.context.
local function check_names(names)
  for name, context in pairs(names) do
    if type(name) ~= "string" then
      error("bad argument #1 to 'sni' (the names must be strings)", 3)
    end
    if not context_state(context) then
      error(("bad argument #1 to 'sni' (SSL:Context expected, got %s)"):format(type(context)), 3)
    end
  end
end

--- A client's name to ask for; or a server's contexts by name, and whether others are refused.
function methods.sni(self, name, strict)
  local s = state_of(self)
  if s.context.mode == "client" then
    if type(name) ~= "string" then
      error(("bad argument #1 to 'sni' (string expected, got %s)"):format(type(name)), 2)
    end
    s.name = name
    if s.conn then luasec.set_name(s.conn, name) end
    return
  end
  if type(name) ~= "table" then
    error(("bad argument #1 to 'sni' (table expected, got %s)"):format(type(name)), 2)
  end
  check_names(name)
  s.sni, s.strict_sni = name, strict and true or false
  if not s.context.hooked then handshake.hook(s.context) end
end

function methods.getsniname(self)
  local s = state_of(self)
  return s.conn and s.conn:server_name() or s.name
end

function methods.getalpn(self)
  local s = state_of(self)
  return s.conn and s.conn:alpn() or nil
end

-- ---- DANE ----

function methods.setdane(self, name)
  local s = state_of(self)
  if type(name) ~= "string" then
    error(("bad argument #1 to 'setdane' (string expected, got %s)"):format(type(name)), 2)
  end
  s.name = s.name or s.context.strict and name or nil
  local conn = handshake.connection(self, s)
  return conn ~= nil and (luasec.set_dane(conn, name))
end

function methods.settlsa(self, usage, selector, matching_type, data)
  local conn = handshake.connection(self, state_of(self))
  return conn ~= nil and (luasec.set_tlsa(conn, usage, selector, matching_type, data))
end

-- ---- what is known of a connection ----

-- The cotls connection of one whose handshake is done.
local function connected(self)
  local s = state_of(self)
  return luasec.stage(self) == "connected" and s.conn or nil
end

local function list_of(certificates)
  local list = {}
  for i, certificate in ipairs(certificates or {}) do list[i] = push_x509(certificate) end
  return list
end

function methods.getpeercertificate(self, n)
  local conn = connected(self)
  if not conn then return nil, "closed" end
  n = n == nil and 1 or n
  if type(n) ~= "number" then
    error(("bad argument #1 to 'getpeercertificate' (number expected, got %s)"):format(type(n)), 2)
  end
  if n < 1 then return nil, "invalid certificate index" end
  return push_x509((conn:peer_chain() or {})[n])
end

function methods.getpeerchain(self)
  local conn = connected(self)
  if not conn then return nil, "closed" end
  return list_of(conn:peer_chain())
end

function methods.getlocalcertificate(self)
  local conn = connected(self)
  if not conn then return nil, "closed" end
  return push_x509(luasec.local_certificate(conn))
end

function methods.getlocalchain(self)
  local conn = connected(self)
  if not conn then return nil, "closed" end
  return list_of(luasec.local_chain(conn))
end

function methods.getpeerverification(self)
  local conn = connected(self)
  if not conn then return false, "closed" end
  return luasec.verification(conn)
end

function methods.getfinished(self)
  local conn = connected(self)
  if not conn then return nil, "closed" end
  return conn:finished()
end

function methods.getpeerfinished(self)
  local conn = connected(self)
  if not conn then return nil, "closed" end
  return conn:peer_finished()
end

function methods.exportkeyingmaterial(self, label, length, context)
  local conn = connected(self)
  if not conn then return nil, "closed" end
  return luasec.export(conn, label, length, context)
end

-- ---- what LuaSocket's objects have ----

local function address(self, which)
  state_of(self)
  local fd = self:getfd()
  if fd < 0 then return nil, "closed" end
  return luasec.address(fd, which == "peer")
end

function methods.getsockname(self)
  return address(self, "own")
end

function methods.getpeername(self)
  return address(self, "peer")
end

local HOW = { both = true, send = true, receive = true }

--- Sends close_notify, if it can go out at once; the socket itself stays as it is.
function methods.shutdown(self, how)
  local s = state_of(self)
  if how ~= nil and not HOW[how] then
    error(("bad argument #1 to 'shutdown' (invalid option '%s')"):format(tostring(how)), 2)
  end
  if luasec.stage(self) ~= "connected" then return nil, "closed" end
  if how ~= "receive" then
    s.conn:settimeout(0)
    s.conn:shutdown("write")
    luasec.apply_timeouts(self)
  end
  return 1
end

-- ---- what ssl.core gives ----

--- @return an object; or nil and why there is none
function connection.new(ctx)
  local context = context_state(ctx)
  if not context then error("bad argument #1 to 'create' (invalid context)", 3) end
  if not context.mode then return nil, "invalid mode" end
  return class.new { context = context, conn = nil } -- room for both
end

connection.setfd = luasec.set_fd

--- OpenSSL's text about the cipher, its bits, the algorithm's bits, the version.
function connection.describe(self)
  local s = state_of(self)
  if s.conn then return luasec.describe(s.conn) end
end

--- nil: OpenSSL compresses nothing here; nil, "closed" where there is no connection.
function connection.compression(self)
  state_of(self)
  if luasec.stage(self) ~= "connected" then return nil, "closed" end
  return nil
end

function connection.setmethod(name, method)
  methods[name] = method
end

return connection
