-- SPDX-License-Identifier: MIT
-- LuaSocket's two timeouts, and who waits: the process, or, where the drop-in is installed with yielding, the
-- coroutine, by the scheduler in force.

local core = require "cotls.core"
local settings = require "cotls.luasec.settings"

local block_of = core.luasec.block

local waits = {}

-- cotls connection → the scheduler that waits for it, to be told when it goes.
local asked = setmetatable({}, { __mode = "k" })

local function can_yield()
  local isyieldable = rawget(coroutine, "isyieldable") -- not in Lua 5.1
  if isyieldable then return isyieldable() end
  local running, main = coroutine.running()
  return running ~= nil and not main
end

local function wait(conn, want, deadline)
  local block = block_of(conn)
  if block then deadline = math.min(deadline or math.huge, core.now() + block) end
  local scheduler = settings.yielding and core.get_scheduler()
  if scheduler and can_yield() then
    asked[conn] = scheduler
    return scheduler.wait(conn, want, deadline)
  end
  return core.poll(conn:fileno(), want, deadline)
end

local function release(conn)
  local scheduler = asked[conn]
  asked[conn] = nil
  if scheduler and scheduler.release then scheduler.release(conn) end
end

--- The scheduler of all connections of the drop-in.
waits.scheduler = { blocking = true, wait = wait, release = release }

return waits
