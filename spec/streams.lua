-- Streams for specs: objects whose functions move the bytes.

local tls = require "cotls"
local pair = require "cotls.pair"

local streams = {}

-- ---- over a descriptor ----

local Socket = {}
Socket.__index = Socket

-- Waits by the scheduler in force or a raw yield; true, or nil and why not.
function Socket:_wait(want, deadline)
  if deadline and tls.now() >= deadline then return nil, "timeout" end
  local wait = tls.scheduler and tls.scheduler.wait or coroutine.yield
  local ok, why = wait(self.waiter, want, deadline)
  if ok == nil and why ~= nil then return nil, why end
  return true
end

function Socket:read(max, deadline)
  while true do
    local data, name = self.helper.read_fd(self.fd, max)
    self.waiter.moved = self.waiter.moved + #(data or "")
    if data then return data ~= "" and data or nil end
    if name ~= "EAGAIN" then return nil, name end
    local ok, why = self:_wait("read", deadline)
    if not ok then return nil, why end
  end
end

function Socket:write(bytes, deadline)
  local written = 0
  while written < #bytes do
    local n, name = self.helper.write_fd(self.fd, bytes:sub(written + 1))
    if n then
      written = written + n
      self.waiter.moved = self.waiter.moved + n
    elseif name ~= "EAGAIN" then
      return nil, name, written
    else
      local ok, why = self:_wait("write", deadline)
      if not ok then return nil, why, written end
    end
  end
  return true
end

function Socket:try_write(bytes)
  return (self.helper.write_fd(self.fd, bytes))
end

function Socket:close()
  if self.fd then self.helper.close_fd(self.fd) end
  self.fd = nil
end

--- A stream over a descriptor, which is its own.
function streams.over_fd(helper, fd)
  local waiter = { fileno = function() return fd end, moved = 0 } -- helper.together counts what has moved
  return setmetatable({ helper = helper, fd = fd, waiter = waiter }, Socket)
end

-- ---- in memory ----

--- Two streams, joined by pipes of that size. With a small one a server waits in accept until its client has read
-- the session tickets.
streams.pipes = pair.streams

-- One direction of a relay, from pipe to pipe; what one has given and the other does not take yet stays in between.
local function pass(way)
  local from, to = way.from, way.to
  if from.length > 0 then way.pending = way.pending .. from:take(from.length) end
  local room = to.size - to.length
  if to.closed then
    from:close()
  elseif way.pending ~= "" and room > 0 then
    to:put(way.pending:sub(1, room))
    way.pending = way.pending:sub(room + 1)
  elseif way.pending == "" and from.closed then
    to:close()
  end
end

--- Two streams whose pipes of that size end in a relay, which has room for all.
-- @return the streams, pump
function streams.relayed(size)
  local a, near = pair.streams(size)
  local b, far = pair.streams(size)
  local up, down = { from = near.from, to = far.to, pending = "" }, { from = far.from, to = near.to, pending = "" }
  return a, b, function()
    pass(up)
    pass(down)
  end
end

-- ---- TLS in TLS ----

--- Two connections over a transport of helper's, handshaken, as transports of others.
-- @param depth how many deep they are
function streams.tunnels(helper, transport, depth)
  local client, server, pump
  local scheduler = tls.scheduler
  tls.scheduler = nil -- helper.together is one of its own
  for _ = 1, depth do
    client, server, pump = helper.handshaken(transport)
    local a, b = client, server
    transport = { name = "TLS", make = function() return a, b, pump end }
  end
  tls.scheduler = scheduler
  return client, server, pump
end

return streams
