-- SPDX-License-Identifier: MIT
-- tls.connect and tls.listen: sockets through the scheduler in force, and without one by yielding or blocking.

local compat = require "cotls.compat"
local core = require "cotls.core"
local options = require "cotls.options"
local transport = require "cotls.transport"

local net = {}

-- An attempt gets its share of the time that is left, but not less than this.
local SHARE = 2
-- How long a listener without a free descriptor waits.
local RESPITE = 0.1

-- ---- sockets ----

local function finish(socket, deadline, scheduler)
  local ok, err = socket:finish()
  while not ok and err.code == "want_write" do
    ok, err = core.wait(socket, "write", deadline, scheduler)
    if ok then ok, err = socket:finish() end
  end
  return ok, err
end

local function attempt(address, port, deadline, scheduler)
  local socket, err = core.connect_socket(address, port)
  if not socket then return nil, err end
  local ok
  ok, err = finish(socket, deadline, scheduler)
  if ok then return socket end
  socket:close()
  return nil, err
end

--- Tries all addresses in their order.
-- @param addresses list of { address =, port = }
-- @param deadline on tls.now()'s clock, or nil
-- @return a connected socket; or nil and the last attempt's error
function net.connect_any(addresses, deadline, scheduler)
  local socket, err
  for i, one in ipairs(addresses) do
    local now = core.now()
    local share = deadline and math.max((deadline - now) / (#addresses - i + 1), SHARE)
    socket, err = attempt(one.address, one.port, deadline and math.min(deadline, now + share), scheduler)
    if socket then return socket end
    err.operation = "connect"
    err.peer = (one.address:find(":", 1, true) and "[%s]:%d" or "%s:%d"):format(one.address, one.port)
    if err.code == "cancelled" or deadline and core.now() >= deadline then break end
  end
  return nil, err
end

local function connect_socket(host, port, deadline, scheduler)
  if scheduler and scheduler.connect then return scheduler.connect(host, port, deadline) end
  local addresses, err = core.lookup(host, port)
  if not addresses then return nil, err end
  return net.connect_any(addresses, deadline, scheduler)
end

--- A listening socket on the first address that the host has.
function net.listen_any(host, port)
  if host == "*" then
    local socket = core.listen_socket("::", port)
    if socket then return socket end
    host = "0.0.0.0"
  end
  local addresses, err = core.lookup(host, port)
  if not addresses then return nil, err end
  local socket
  for _, one in ipairs(addresses) do
    socket, err = core.listen_socket(one.address, port)
    if socket then return socket end
    err.peer = ("%s:%d"):format(one.address, port)
  end
  return nil, err
end

-- ---- arguments ----

local function check_host(who, host, level)
  if type(host) ~= "string" or host == "" or host:find("\0", 1, true) then
    local got = type(host) == "string" and ("%q"):format(host) or type(host)
    error(("%s: a host name or an IP address expected, got %s"):format(who, got), level + 1)
  end
end

local function check_port(who, port, least, level)
  local whole = compat.math_type(port) == "integer"
  if not whole or port < least or port > 65535 then
    local got = whole and tostring(port) or type(port)
    error(("%s: a port from %d to 65535 expected, got %s"):format(who, least, got), level + 1)
  end
end

-- The context of an options table: the one given, or one made of the context options in it.
local function find_context(given, role, default, who, level)
  local settings, connection, context = options.split(given, role, who, level + 1)
  if context == nil then
    if settings and settings.role ~= nil and settings.role ~= role then
      error(('%s: option \'role\': must be "%s"'):format(who, role), level + 1)
    end
    if not settings and default then return default(), connection end
    settings = settings or {}
    settings.role = role
    local checked, err = options.context(settings, who, level + 1)
    if not checked then return nil, err end
    context, err = core.context(checked)
    if not context then return nil, err end
  elseif core.context_role(context) ~= role then
    error(("%s: option 'context': its role is \"%s\""):format(who, core.context_role(context)), level + 1)
  end
  return context, connection
end

-- ---- connect ----

local shared

local function shared_context()
  shared = shared or assert(core.context(assert(options.context({}, "tls.connect", 3))))
  return shared
end

local function scheduler_in_force(settings, context)
  return settings.scheduler or core.context_scheduler(context) or core.get_scheduler()
end

-- One deadline over lookup, connect and handshake: the shorter of timeout and handshake_timeout. A timeout
-- of 0 ("never wait") is of the operations that come after.
local function deadline_of(settings, context)
  local timeout, handshake = core.context_timeouts(context)
  timeout, handshake = settings.timeout or timeout, settings.handshake_timeout or handshake
  local seconds = handshake >= 0 and handshake or math.huge
  if timeout > 0 then seconds = math.min(seconds, timeout) end
  if seconds == math.huge then return nil end
  return core.now() + seconds
end

function net.connect(host, port, given)
  check_host("tls.connect", host, 2)
  check_port("tls.connect", port, 1, 2)
  local context, connection = find_context(given or {}, "client", shared_context, "tls.connect", 2)
  if not context then return nil, connection end
  if connection.server_name == nil then connection.server_name = host:gsub("%%.*", "") end
  local settings, err = options.connection(connection, "client", "tls.connect", 2)
  if not settings then return nil, err end
  local deadline = deadline_of(settings, context)
  local socket
  socket, err = connect_socket(host, port, deadline, scheduler_in_force(settings, context))
  if not socket then return nil, err end
  if deadline then settings.handshake_timeout = math.max(deadline - core.now(), 0) end
  settings.stream = transport.choose(socket) -- a scheduler's may be one
  local conn
  conn, err = core.wrap(context, socket, settings)
  if not conn then
    socket:close()
    return nil, err
  end
  local polls = (settings.timeout or core.context_timeouts(context)) == 0
  if polls then conn:settimeout(nil) end
  local ok
  ok, err = conn:connect()
  if ok then return polls and conn:settimeout(0) or conn end
  conn:close()
  return nil, err
end

-- ---- listen ----

local Listener = {}
Listener.__index = Listener

--- The port it listens on.
function Listener:port()
  return self._port
end

--- The address it listens on, as text.
function Listener:address()
  return self._address
end

--- Stops listening; loops over it end.
function Listener:close()
  self._socket:close()
  return true
end

Listener.__close = Listener.close

function Listener:__tostring()
  return ("cotls.listener (%s port %d%s)"):format(self._address, self._port, self._socket:fileno() and "" or ", closed")
end

--- Another context for the connections to come.
function Listener:set_context(context)
  if core.context_role(context) ~= "server" then error("set_context: the context's role is \"client\"", 2) end
  self._context = context
  return self
end

local function scheduler_of(self)
  return self._settings and self._settings.scheduler or core.context_scheduler(self._context)
end

-- Out of descriptors: the collector may have some; if it had none the last time, a moment's rest. A listening
-- socket is never writable, so this wait ends by its deadline under every scheduler.
local function make_room(self)
  collectgarbage()
  if not self._full then
    self._full = true
    return true
  end
  local ok, err = core.wait(self._socket, "write", core.now() + RESPITE, scheduler_of(self))
  return ok or err.code == "timeout", err
end

-- The next socket; nil when it is closed; nil, err on what a listener cannot go on after.
local function next_socket(self)
  while true do
    local socket, err = self._socket:accept(self._spare)
    if socket then
      self._full, self._spare = false, socket -- whose descriptor the connection takes
      return socket
    end
    local ok = false
    if err.code == "want_read" then
      ok, err = core.wait(self._socket, "read", nil, scheduler_of(self))
    elseif err.code == "limit" then
      ok, err = make_room(self)
    end
    if not self._socket:fileno() then return nil end
    if not ok then return nil, err end
  end
end

--- The next connection, wrapped and not yet handshaken; nil after close. Anything else raises the error.
function Listener:__call()
  local socket, err = next_socket(self)
  if socket then return assert(core.wrap(self._context, socket, self._settings)) end
  if err then error(err, 0) end
end

function net.listen(host, port, given)
  check_host("tls.listen", host, 2)
  check_port("tls.listen", port, 0, 2)
  local context, connection = find_context(given or {}, "server", nil, "tls.listen", 2)
  if not context then return nil, connection end
  local settings, err = options.connection(connection, "server", "tls.listen", 2)
  if not settings then return nil, err end
  local scheduler = scheduler_in_force(settings, context)
  local listen = scheduler and scheduler.listen or net.listen_any
  local socket
  socket, err = listen(host, port)
  if not socket then return nil, err end
  local self = { _socket = socket, _context = context, _settings = next(settings) and settings }
  self._address, self._port = socket:address()
  if not self._address then
    socket:close()
    return nil, self._port
  end
  return setmetatable(self, Listener)
end

return net
