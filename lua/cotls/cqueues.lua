-- SPDX-License-Identifier: MIT
-- Waiting under a controller of cqueues, the program's own or the one that `run` makes.

local cqueues = require "cqueues"
local compat = require "cotls.compat"
local core = require "cotls.core"
local net = require "cotls.net"
local tasks = require "cotls.tasks"
local waits = require "cotls.cqueues.waits"

---@class cotls.cqueues
local scheduler = {}

local poll, running, stopped = cqueues.poll, cqueues.running, false

local function controller_of(who)
  return running() or error("cotls.cqueues." .. who .. ": call it in a coroutine of a cqueues controller", 3)
end

--- A scheduler's wait.
function scheduler.wait(waiter, want, deadline)
  controller_of("wait")
  return waits.wait(waiter, want, deadline)
end

scheduler.wake, scheduler.release = waits.wake, waits.release

--- Starts a coroutine in the controller that runs.
function scheduler.spawn(fn, ...)
  local co = coroutine.create(tasks.bind("cotls.cqueues.spawn", fn, ...))
  controller_of("spawn"):attach(co)
  return co
end

--- Waits.
function scheduler.sleep(seconds)
  controller_of("sleep")
  tasks.check_seconds("cotls.cqueues.sleep", seconds)
  local due = core.now() + seconds
  repeat poll(tasks.left(due)) until core.now() >= due
end

--- Ends run once the coroutine that calls it waits.
function scheduler.stop()
  stopped = true
end

--- A scheduler's connect: all IPv4 addresses in turn, then those of IPv6; names by cqueues' resolver.
function scheduler.connect(host, port, deadline)
  controller_of("connect")
  return require("cotls.cqueues.names").connect(host, port, deadline, scheduler)
end

--- A scheduler's listen.
function scheduler.listen(host, port)
  return net.listen_any(host, port)
end

-- Steps until all have ended, one has failed, or it is stopped.
local function loop(controller)
  local ok, err, _, co
  stopped = false
  repeat ok, err, _, co = controller:step() until not ok or stopped or controller:empty()
  if not ok then error(type(err) == "string" and co and debug.traceback(co, err) or err, 0) end
end

--- Runs main(...) and what it spawns in a new controller; meanwhile this is tls.scheduler.
function scheduler.run(main, ...)
  if running() then error("cotls.cqueues.run: a controller runs already: use spawn", 2) end
  local fn, controller, results = tasks.bind("cotls.cqueues.run", main, ...), cqueues.new(), compat.pack()
  controller:wrap(function() results = compat.pack(fn()) end)
  tasks.under(scheduler, loop, controller)
  controller:close()
  return compat.unpack(results, 1, results.n)
end

return scheduler
