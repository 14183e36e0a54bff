-- SPDX-License-Identifier: MIT
-- The ways to wait that the body of spec/scheduling.lua runs under: cotls.luv, cotls.cqueues, cotls.blocking and the
-- raw yields. A bed has run(fn), spawn(fn), sleep(seconds), scheduler (a module, or nil) and, where coroutines run
-- beside each other, yields = true, start(fn) → task, cancel(task, why) and at_once: is both done when the call is?

local compat = require "cotls.compat"
local core = require "cotls.core"
local helper = require "spec.helper"
local tls = require "cotls"

local SECONDS = 20 -- for a run

-- ---- cotls.luv ----

local luv = require "cotls.luv"

local on_luv = { name = "cotls.luv", scheduler = luv, yields = true, at_once = true, spawn = luv.spawn,
  sleep = luv.sleep }

function on_luv.run(fn) return helper.in_loop(fn, SECONDS) end

on_luv.start = luv.spawn

function on_luv.cancel(task, why) coroutine.resume(task, nil, why) end

-- ---- cotls.blocking ----

local blocking = require "cotls.blocking"

local on_blocking = { name = "cotls.blocking", scheduler = blocking, run = blocking.run, spawn = blocking.spawn,
  sleep = blocking.sleep }

-- ---- raw yields ----

local raw = { name = "raw yields", yields = true }
local tasks -- of the run under way

function raw.spawn(fn)
  local task = { co = coroutine.create(fn) }
  tasks[#tasks + 1] = task
  return task
end

raw.start = raw.spawn

function raw.cancel(task, why)
  task.why = why
end

function raw.sleep(seconds)
  local due = tls.now() + seconds
  repeat coroutine.yield(nil, nil, due) until tls.now() >= due
end

local function finish_step(task, ok, ...)
  if not ok then error(type((...)) == "string" and debug.traceback(task.co, (...)) or (...), 0) end
  if coroutine.status(task.co) == "dead" then
    task.results, task.count, task.waiter = { ... }, select("#", ...), nil
  else
    task.waiter, task.want, task.deadline = ...
  end
end

-- One that has no descriptor, or none any more, is tried again.
local function is_ready(task, now)
  if task.why or task.deadline and task.deadline <= now then return true end
  if not task.waiter then return not task.deadline end
  local fd = task.waiter:fileno()
  return not fd or core.poll(fd, task.want, now) == true
end

local function step(task)
  local why = task.why
  task.why = nil
  if why then return finish_step(task, coroutine.resume(task.co, nil, why)) end
  finish_step(task, coroutine.resume(task.co))
end

-- Steps those that are ready, and forgets those that have ended; was there any?
local function turn()
  local now, kept, moved = tls.now(), {}, false
  local round = tasks
  tasks = {}
  for _, task in ipairs(round) do
    if is_ready(task, now) then
      moved = true
      step(task)
    end
    if not task.results then kept[#kept + 1] = task end
  end
  for _, task in ipairs(tasks) do kept[#kept + 1] = task end -- new ones
  tasks = kept
  return moved
end

function raw.run(fn)
  local bound = tls.now() + SECONDS * helper.slow
  tasks = {}
  local main = raw.spawn(fn)
  while not main.results do
    if not turn() then core.poll(-1, "read", tls.now() + 0.001) end
    if tls.now() > bound then error("it takes too long\n" .. debug.traceback(main.co), 2) end
  end
  return compat.unpack(main.results, 1, main.count)
end

local beds = { on_luv, on_blocking, raw }

-- ---- cotls.cqueues ----

local found, cqueues = pcall(require, "cqueues")

if found then
  local condition = require "cqueues.condition"
  local scheduler = require "cotls.cqueues"
  local bed = { name = "cotls.cqueues", scheduler = scheduler, yields = true, spawn = scheduler.spawn,
    sleep = scheduler.sleep }

  function bed.run(fn)
    local late = true
    local function main()
      local function watch()
        local bound = tls.now() + SECONDS * helper.slow
        while late and tls.now() < bound do scheduler.sleep(0.01) end
        if late then error("it takes too long") end
      end
      scheduler.spawn(watch)
      local function finish(...)
        late = false
        scheduler.stop()
        return ...
      end
      return finish(fn())
    end
    return scheduler.run(main)
  end

  -- A coroutine around the one that waits, which passes on what that polls and can resume it itself.
  function bed.start(fn)
    local task = { co = coroutine.create(fn), cancelled = condition.new() }
    local function go(first, ...)
      if first == task.cancelled then return go(nil, task.why) end
      local got = { coroutine.resume(task.co, first, ...) }
      if not got[1] then error(got[2], 0) end
      if coroutine.status(task.co) == "dead" then return end
      return go(cqueues.poll(task.cancelled, got[3], got[4]))
    end
    scheduler.spawn(go)
    return task
  end

  function bed.cancel(task, why)
    task.why = why
    task.cancelled:signal()
  end

  beds[#beds + 1] = bed
end

return beds
