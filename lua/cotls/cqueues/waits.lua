-- SPDX-License-Identifier: MIT
-- Waiting under a controller of cqueues. No two coroutines poll one descriptor: when it closes under them cqueues
-- would, for the second, watch it once more after its end, and fail. The first to come leads and polls for all; the
-- others follow, parked on conditions, and one of them leads when it has gone.

local cqueues = require "cqueues"
local condition = require "cqueues.condition"
local core = require "cotls.core"
local tasks = require "cotls.tasks"

local poll, left = cqueues.poll, tasks.left

local waits = {}

-- Waiter → { fd, read =, write = }: what is polled, a condition where there is no descriptor. `leader`: who polls.
-- Once somebody has followed: told.read, told.write (conditions), seen (how often it was ready), parked (how many).
local entries = setmetatable({}, { __mode = "k" })

local function enter(waiter)
  local fd = waiter:fileno()
  entries[waiter] = fd and { fd = fd, read = { pollfd = fd, events = "r" }, write = { pollfd = fd, events = "w" } }
    or { read = condition.new(), write = condition.new() }
  return entries[waiter]
end

-- Does somebody poll? Not one that has died in there, or that nobody has any more.
local function is_led(entry)
  local co = entry.leader and entry.leader.co
  return co and coroutine.status(co) ~= "dead"
end

local OTHER = { read = "write", write = "read" }

local function is_past(deadline)
  return deadline and core.now() >= deadline
end

-- What ends a wait: it is ready, or somebody has resumed the coroutine with nil and why.
local function is_end(entry, want, first, why)
  return first == entry[want] or first == nil and why ~= nil
end

-- It is ready: those who follow are told.
local function tell(entry, want)
  entry.seen[want] = entry.seen[want] + 1
  entry.told[want]:signal()
end

-- Polls, for those who follow too. What poll gave that ended it: the object, or nil and why.
local function lead(entry, want, deadline)
  local mine, want_too = entry[want], OTHER[want]
  local first, second
  entry.leader = setmetatable({ co = coroutine.running() }, { __mode = "v" })
  repeat
    local too = entry.parked and entry.parked[want_too] > 0 and entry[want_too] or nil
    entry.widened = false
    first, second = poll(mine, too, left(deadline))
    if entry.widened then first, second = nil, nil end -- not ready, but to be polled for more
    if too and (first == too or second == too) then tell(entry, want_too) end
  until is_end(entry, want, first, second) or entry.released or is_past(deadline)
  entry.leader = nil
  if entry.parked then
    if first == mine then tell(entry, want) end
    for _, told in pairs(entry.told) do told:signal() end -- somebody else leads
  end
  return first, second
end

-- Waits beside the one who leads; the same results.
local function follow(entry, want, deadline)
  entry.told = entry.told or { read = condition.new(), write = condition.new() }
  entry.seen = entry.seen or { read = 0, write = 0 }
  entry.parked = entry.parked or { read = 0, write = 0 }
  local seen, parked = entry.seen[want], entry.parked
  local first, why
  parked[want] = parked[want] + 1
  entry.widened = true
  cqueues.cancel(entry.fd) -- the one who leads wakes, and polls for this too
  repeat
    first, why = poll(entry.told[want], left(deadline))
    if entry.seen[want] ~= seen or entry.released then first = entry[want] end
  until is_end(entry, want, first, why) or not is_led(entry) or is_past(deadline)
  parked[want] = parked[want] - 1
  if is_end(entry, want, first, why) or is_past(deadline) then return first, why end
  return lead(entry, want, deadline)
end

--- A scheduler's wait. A coroutine around the waiting one can end it, by resuming it with nil, why.
function waits.wait(waiter, want, deadline)
  local entry = entries[waiter] or enter(waiter)
  local first, why
  if entry.fd and is_led(entry) then
    first, why = follow(entry, want, deadline)
  else
    first, why = lead(entry, want, deadline)
  end
  if first == nil and why ~= nil then return nil, why end
  return first == entry[want] or not is_past(deadline), "timeout"
end

--- Ends the waits of a waiter without a descriptor.
function waits.wake(waiter, want)
  local entry = entries[waiter]
  if entry and not entry.fd then entry[want]:signal() end
end

--- A scheduler's release: cqueues must forget a descriptor before it closes. Who waits is woken.
function waits.release(waiter)
  local entry = entries[waiter] or {}
  entries[waiter] = nil
  entry.released = true
  if entry.fd then cqueues.cancel(entry.fd) end
  for _, each in pairs(entry.told or not entry.fd and { entry.read, entry.write } or {}) do each:signal() end
end

return waits
