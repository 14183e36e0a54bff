-- SPDX-License-Identifier: MIT
-- Waiting in nginx with its Lua module (OpenResty). Connections are over cosockets there, which wait by themselves;
-- what is asked of a scheduler are pipes, and a coroutine that has to wait for another's turn at the cosocket.

local semaphore = require "ngx.semaphore"
local core = require "cotls.core"
local tasks = require "cotls.tasks"

local ngx = ngx -- luacheck: ignore

---@class cotls.ngx
local scheduler = {}

local LONG = 3600 -- seconds, where there is no deadline: who is told too early waits again

-- Waiter → { read =, write = }: semaphores. From the first wait on.
local entries = setmetatable({}, { __mode = "k" })

local function enter(waiter)
  local entry = { read = semaphore.new(), write = semaphore.new() }
  entries[waiter] = entry
  return entry
end

--- A scheduler's wait, for what has no descriptor: nginx watches none of others'.
function scheduler.wait(waiter, want, deadline)
  if waiter:fileno() then
    return tasks.cannot_wait(
      "nginx watches no descriptors: connect by tls.connect or ngx.socket.tcp, and wrap the cosocket")
  end
  local turn = (entries[waiter] or enter(waiter))[want]
  local ok, why = turn:wait(tasks.left(deadline) or LONG)
  if ok then return true end
  if why ~= "timeout" then return nil, why end
  return not deadline, why -- nginx's clock may be a little ahead of the deadline's
end

-- Those that wait, all of them.
local function post(turn)
  local waiting = -turn:count()
  if waiting > 0 then turn:post(waiting) end
end

--- Ends the waits of a waiter.
function scheduler.wake(waiter, want)
  local entry = entries[waiter]
  if entry then post(entry[want]) end
end

--- A scheduler's release: who waits is woken.
function scheduler.release(waiter)
  local entry = entries[waiter]
  entries[waiter] = nil
  for _, turn in pairs(entry or {}) do post(turn) end
end

--- Starts a light thread of the request; it runs until its first wait.
function scheduler.spawn(fn, ...)
  return ngx.thread.spawn(tasks.bind("cotls.ngx.spawn", fn, ...))
end

--- Waits.
function scheduler.sleep(seconds)
  tasks.check_seconds("cotls.ngx.sleep", seconds)
  ngx.sleep(math.max(seconds, 0))
end

--- A scheduler's connect: a connected cosocket. Names are looked up by nginx's `resolver`.
function scheduler.connect(host, port, deadline)
  local socket, left = ngx.socket.tcp(), tasks.left(deadline)
  if left then socket:settimeout(math.max(1, math.ceil(left * 1000))) end
  local ok, why = socket:connect(host:find(":", 1, true) and "[" .. host .. "]" or host, port)
  if ok then return socket end
  local code = why == "timeout" and why or "system"
  return nil, core.error { code = code, operation = "connect", reason = ("%s: %s"):format(host, why) }
end

return scheduler
