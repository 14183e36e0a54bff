-- SPDX-License-Identifier: MIT
-- LuaSocket's two timeouts, and who waits: the process, or, where the drop-in is installed with yielding, the
-- coroutine, by the scheduler in force.

local core = require "cotls.core"
local settings = require "cotls.luasec.settings"

local waits = {}

-- cotls connection → the scheduler that waits for it, to be told when it goes.
local asked = setmetatable({}, { __mode = "k" })

local function can_yield()
  local isyieldable = rawget(coroutine, "isyieldable") -- not in Lua 5.1
  if isyieldable then return isyieldable() end
  local running, main = coroutine.running()
  return running ~= nil and not main
end

-- cotls connection → the state of its object, where both timeouts are set: each wait has its own limit then.
local limited = setmetatable({}, { __mode = "k" })

local function wait(conn, want, deadline)
  local s = limited[conn]
  if s then deadline = math.min(deadline or math.huge, core.now() + s.block) end
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

-- What one operation may take: nil for ever, 0 nothing.
local function whole(s)
  if s.block == 0 or s.total == 0 then return 0 end
  if s.total >= 0 then return s.total end
  if s.block >= 0 then return s.block end
  return nil
end

--- Tells the connection, if there is one, what the timeouts are.
function waits.apply(s)
  if not s.conn then return end
  s.conn:settimeout(whole(s))
  limited[s.conn] = s.block > 0 and s.total > 0 and s or nil
end

local MODES = { b = "block", r = "total", t = "total" }

--- settimeout's arguments.
function waits.set(s, value, mode)
  if value ~= nil and not tonumber(value) then
    error(("bad argument #1 to 'settimeout' (number expected, got %s)"):format(type(value)), 3)
  end
  local field = MODES[type(mode) == "string" and mode:sub(1, 1) or mode == nil and "b" or ""]
  if not field then error("bad argument #2 to 'settimeout' (invalid timeout mode)", 3) end
  s[field] = tonumber(value) or -1
  waits.apply(s)
end

return waits
