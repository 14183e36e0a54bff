-- SPDX-License-Identifier: MIT
-- One run of a scenario: two ends, each in a coroutine, and what must hold whatever fails. Nothing here waits: an
-- end goes on when its descriptor is ready, and when none is, it hangs.

local tls = require "cotls"
local uv = require "luv"
local helper = require "spec.helper"

local ROUNDS = 3000
local MOST_PAIRS = 3
local IDLE = 5 -- rounds in which nobody has anything to do

local inject
local Run = {}
Run.__index = Run

--- A run: `wrong` is what has been found, `done` that it came to its end, `believed` that somebody was content who
-- must not be.
local function new()
  local run = setmetatable({ conns = {}, fds = {} }, Run)
  -- libuv's binding loses them where Lua has no memory: they are made in advance
  for i = 1, MOST_PAIRS do run.fds[i] = { helper.socketpair() } end
  return run
end

--- Who is asked what a descriptor is ready for: the module that lets calls fail.
local function use(module) inject = module end

--- What must hold.
function Run:check(ok, what)
  if not ok then self.wrong = self.wrong or what or "a check failed" end
  return ok
end

--- A result that is there; else the error, which must be one, is raised.
function Run:must(...)
  local ok, err = ...
  if ok then return ... end
  self:check(tls.is_error(err) and tostring(err) ~= "", "a failure without an error object: " .. tostring(err))
  error(err, 0)
end

--- The same of what may also be nil alone (a clean end).
function Run:may(...)
  local ok, err = ...
  if ok == nil and err ~= nil then return self:must(nil, err) end
  return ...
end

--- What was read must be this.
function Run:same(wanted, ...)
  local got = self:may(...)
  self:check(got == wanted, ("%q was read, not %q"):format(tostring(got):sub(1, 40), tostring(wanted):sub(1, 40)))
  return got
end

--- Two connections over a socketpair: a client's and a server's.
function Run:pair(client, server, options, server_options)
  local fds = self.fds[#self.fds]
  self.contexts = { client, server }
  local conn = self:must(client:wrap(fds[1], options or { server_name = "localhost" }))
  fds[1] = nil
  self.conns[#self.conns + 1] = conn
  local other = self:must(server:wrap(fds[2], server_options))
  fds[2] = nil
  self.fds[#self.fds] = nil
  self.conns[#self.conns + 1] = other
  return conn, other
end

--- Calls a method; where Lua had no memory for it, once more: an error must have left the connection in order.
function Run:call(conn, verb, ...)
  local got = table.pack(pcall(conn[verb], conn, ...))
  if not got[1] then return conn[verb](conn, ...) end
  return table.unpack(got, 2, got.n)
end

-- Would a wait end, as the descriptors are? What a hook yields for is there.
local function ready(task)
  if tostring(task.waiter):sub(1, 16) ~= "cotls.connection" then return true end
  if task.deadline and task.deadline <= tls.now() then return true end
  local fd = task.waiter:fileno()
  return not fd or inject.ready(fd, task.want == "write")
end

-- Resumes one end; true once it is over. A function that fails closes its connection by a to-be-closed variable.
local function step(self, task)
  if task.over then return true end
  if not ready(task) then return false end
  self.idle = 0
  local ok, err, want, deadline = coroutine.resume(task.co)
  if coroutine.status(task.co) ~= "dead" then
    task.waiter, task.want, task.deadline = err, want, deadline
    return false
  end
  task.over = true
  if not ok then
    self.err = self.err or err
    self.errors = (self.errors or 0) + 1
    getmetatable(task.conn).__close(task.conn, err or "error")
  end
  return true
end

--- Runs a function for each connection, in turn, until all have returned.
function Run:play(first, on_first, second, on_second)
  local tasks = {
    { conn = first, co = coroutine.create(function() return on_first(first) end) },
    { conn = second, co = coroutine.create(function() return on_second(second) end) },
  }
  local errors = self.errors
  for _ = 1, ROUNDS do
    local one, other = step(self, tasks[1]), step(self, tasks[2])
    if one and other then
      if self.errors ~= errors then error(self.err, 0) end
      return
    end
    self.idle = (self.idle or 0) + 1
    if self.idle > IDLE then break end -- a loop would wait for ever
  end
  self.wrong = "it hangs"
  error("it hangs", 0)
end

--- A whole visit: handshake, a byte each way, which each reads only if it is content with the other, and what more
-- each side does.
function Run:visit(client, server, options, more)
  more = more or {}
  local a, b = self:pair(client, server, options, more.server_options)
  self.client, self.server = a, b
  self:play(a, function(conn)
    self:must(self:call(conn, "connect"))
    self:must(self:call(conn, "write", "a"))
    self:same("b", self:call(conn, "read", 1))
    self.connected = true
    if more.client then more.client(conn) end
  end, b, function(conn)
    self:must(self:call(conn, "accept"))
    self:must(self:call(conn, "write", "b"))
    self:same("a", self:call(conn, "read", 1))
    self.accepted = true
    if more.server then more.server(conn) end
  end)
  return a, b
end

--- Closes what a visit has left: another may follow.
function Run:again()
  for _, conn in ipairs(self.conns) do conn:close() end
  self.conns = {}
end

function Run:clean()
  self:again()
  for _, fds in ipairs(self.fds) do
    for i = 1, 2 do
      if fds[i] then uv.fs_close(fds[i]) end
      fds[i] = nil
    end
  end
  for _, context in ipairs(self.contexts or {}) do context:flush_sessions() end
end

--- The smallest descriptor that is free: it grows where one is lost.
local function free_fd()
  local fd = assert(uv.fs_open("/dev/null", "r", 0))
  uv.fs_close(fd)
  return fd
end

return { use = use, new = new, free_fd = free_fd }
