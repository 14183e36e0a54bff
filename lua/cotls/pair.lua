-- SPDX-License-Identifier: MIT
-- tls.pair: two connections joined in memory. A pipe for each direction is a bounded queue of strings; who finds it
-- empty, or full, waits through the scheduler in force, with the pipe as the waiter.

local compat = require "cotls.compat"
local core = require "cotls.core"
local options = require "cotls.options"
local tasks = require "cotls.tasks"
local transport = require "cotls.transport"

local yield, is_yieldable = coroutine.yield, compat.is_yieldable

local pair = {}

local SIZE = 65536

-- ---- waiting ----

local cannot_wait = tasks.cannot_wait

-- What a wait gave → true; or nil, "timeout"; or nil, an error object.
local function judged(...)
  local why = tasks.ended("wait", ...)
  if why then return nil, why end
  return true
end

-- ---- a pipe ----

local Pipe = {}
Pipe.__index = Pipe

local function new_pipe(size)
  return setmetatable({ size = size, length = 0, first = 1, last = 0, moved = 0, waiting = {} }, Pipe)
end

--- A scheduler asks: there is none, so that the wait is ended by its `wake`.
function Pipe:fileno() -- luacheck: ignore self
  return nil
end

function Pipe:wait(want, deadline, scheduler)
  if deadline and core.now() >= deadline then return nil, "timeout" end
  scheduler = scheduler or core.get_scheduler()
  if scheduler and not scheduler.wake then return cannot_wait("can't wait here: the scheduler has no wake") end
  if not (scheduler and scheduler.blocking) and not is_yieldable() then
    return cannot_wait("can't wait here: call it in a coroutine")
  end
  if not scheduler then return judged(yield(self, want, deadline)) end
  self.waiting[want] = scheduler
  return judged(scheduler.wait(self, want, deadline))
end

function Pipe:wake(want)
  local scheduler = self.waiting[want]
  if not scheduler then return end
  self.waiting[want] = nil
  scheduler.wake(self, want)
end

function Pipe:put(bytes)
  self.last = self.last + 1
  self[self.last] = bytes
  self.length = self.length + #bytes
  self.moved = self.moved + #bytes
  self:wake "read"
end

function Pipe:take(max)
  local bytes = self[self.first]
  if #bytes > max then
    self[self.first] = bytes:sub(max + 1)
    bytes = bytes:sub(1, max)
  else
    self[self.first] = nil
    self.first = self.first + 1
  end
  self.length = self.length - #bytes
  self:wake "write"
  return bytes
end

--- Nothing more comes in, or, of the reading end, is taken out.
function Pipe:close()
  self.closed = true
  self:wake "read"
  self:wake "write"
end

-- ---- an end of two pipes: a stream ----

local End = {}
End.__index = End

function End:read(max, deadline)
  local pipe = self.from
  while pipe.length == 0 do
    if pipe.closed then return nil end
    local ok, why = pipe:wait("read", deadline, self.scheduler)
    if not ok then return nil, why end
  end
  return pipe:take(max)
end

function End:write(bytes, deadline)
  local pipe, written = self.to, 0
  while written < #bytes do
    if pipe.closed then return nil, "broken pipe", written end
    local room = pipe.size - pipe.length
    if room > 0 then
      pipe:put(written == 0 and room >= #bytes and bytes or bytes:sub(written + 1, written + room))
      written = math.min(written + room, #bytes)
    else
      local ok, why = pipe:wait("write", deadline, self.scheduler)
      if not ok then return nil, why, written end
    end
  end
  return true
end

function End:try_write(bytes)
  local pipe = self.to
  if pipe.closed or pipe.size - pipe.length < #bytes then return nil end
  pipe:put(bytes)
  return #bytes
end

function End:close()
  self.from:close()
  self.to:close()
end

--- Two streams, joined.
-- @param size how many bytes each direction holds
-- @param first_scheduler who waits for the first one, or nil: the scheduler in force
function pair.streams(size, first_scheduler, second_scheduler)
  local up, down = new_pipe(size), new_pipe(size)
  return setmetatable({ from = down, to = up, scheduler = first_scheduler }, End),
    setmetatable({ from = up, to = down, scheduler = second_scheduler }, End)
end

-- ---- connections ----

local function wrap(context, object, settings)
  settings.stream = transport.choose(object, "stream")
  return core.wrap(context, object, settings)
end

local function check_role(context, role, level)
  local is = core.context_role(context)
  if is ~= role then error(('tls.pair: a %s\'s context expected, its role is "%s"'):format(role, is), level + 1) end
end

function pair.connections(client_context, server_context, given)
  check_role(client_context, "client", 2)
  check_role(server_context, "server", 2)
  local size, sides = options.pair(given or {}, "tls.pair", 2)
  local client_settings, server_settings, err
  client_settings, err = options.connection(sides.client or {}, "client", "tls.pair", 2)
  if not client_settings then return nil, err end
  server_settings, err = options.connection(sides.server or {}, "server", "tls.pair", 2)
  if not server_settings then return nil, err end
  local one, other = pair.streams(size or SIZE, client_settings.scheduler or core.context_scheduler(client_context),
    server_settings.scheduler or core.context_scheduler(server_context))
  local client, server
  client, err = wrap(client_context, one, client_settings)
  if not client then return nil, err end
  server, err = wrap(server_context, other, server_settings)
  if not server then return nil, err end
  return client, server
end

return pair
