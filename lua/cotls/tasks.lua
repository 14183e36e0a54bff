-- SPDX-License-Identifier: MIT
-- What the schedulers have in common: their arguments, and being tls.scheduler for a while.

local compat = require "cotls.compat"
local core = require "cotls.core"

local tasks = {}

--- fn(...) as a function without arguments; raises in the caller's caller where fn is none.
function tasks.bind(who, fn, ...)
  if type(fn) ~= "function" then error(who .. ": a function expected, got " .. type(fn), 3) end
  local args = compat.pack(...)
  return function() return fn(compat.unpack(args, 1, args.n)) end
end

--- Raises in the caller's caller unless it is a number of seconds.
function tasks.check_seconds(who, seconds)
  if type(seconds) ~= "number" or seconds ~= seconds then
    error(who .. ": a number of seconds expected, got " .. type(seconds), 3)
  end
end

local function settle(before, ok, ...)
  core.set_scheduler(before)
  if not ok then error((...), 0) end
  return ...
end

--- Calls fn(...) while scheduler is tls.scheduler; its results, its error.
function tasks.under(scheduler, fn, ...)
  local before = core.get_scheduler()
  core.set_scheduler(scheduler)
  return settle(before, pcall(fn, ...))
end

--- A deadline as seconds from now, or nil.
function tasks.left(deadline)
  return deadline and math.max(deadline - core.now(), 0)
end

return tasks
