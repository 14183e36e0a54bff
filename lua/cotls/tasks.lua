-- SPDX-License-Identifier: MIT
-- What the schedulers have in common: their arguments, how waits end, and being tls.scheduler for a while.

local compat = require "cotls.compat"
local core = require "cotls.core"

local tasks = {}

--- Raises in the caller's caller, or at that level, unless fn is a function.
function tasks.check_function(who, fn, level)
  if type(fn) ~= "function" then error(who .. ": a function expected, got " .. type(fn), level or 3) end
end

--- fn(...) as a function without arguments; raises in the caller's caller where fn is none.
function tasks.bind(who, fn, ...)
  tasks.check_function(who, fn, 4)
  local args = compat.pack(...)
  return function() return fn(compat.unpack(args, 1, args.n)) end
end

--- Raises in the caller's caller unless it is a number of seconds.
function tasks.check_seconds(who, seconds)
  if type(seconds) ~= "number" or seconds ~= seconds then
    error(who .. ": a number of seconds expected, got " .. type(seconds), 3)
  end
end

local function cancelled(operation, reason)
  return core.error { code = "cancelled", operation = operation, reason = reason }
end

--- What a wait that nobody could end gives.
function tasks.cannot_wait(reason)
  return nil, cancelled("wait", reason)
end

--- What ended a wait, by the rules of cotls.Scheduler: nil, it goes on; "timeout"; or an error object.
-- @param ... what the scheduler's wait, or the yield, gave
function tasks.ended(operation, ...)
  local go_on, why = ...
  if select("#", ...) == 0 or go_on then return nil end
  if why == "timeout" or core.is_error(why) then return why end
  return cancelled(operation, tostring(why))
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
