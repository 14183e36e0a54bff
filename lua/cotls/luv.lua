-- SPDX-License-Identifier: MIT
-- The embedded loop, on libuv. A waiter (a connection or socket) is watched from its first wait to its release.
-- It stays armed between waits and is stopped by an event that finds nobody, so that a connection that is read
-- again and again costs no system call for being watched. All deadlines share one timer.

local uv = require "luv"
local compat = require "cotls.compat"
local core = require "cotls.core"
local net = require "cotls.net"
local tasks = require "cotls.tasks"
local watch = require "cotls.watch"
local deadlines = require("cotls.deadlines").new()

-- The path of every wait is short of table look-ups.
local status, coroutine_resume, yield = coroutine.status, coroutine.resume, coroutine.yield
local current, floor = compat.running, math.floor

---@class cotls.luv
local luv = {}

local running -- the state of the run under way, or nil

-- ---- the timer ----
-- An item of the deadlines has a function `fire`, which is called with the item when it is due.

local timer, armed_for

local FAR = 2 ^ 31 -- milliseconds: what is further off is looked at again then

local arm_timer

local function on_timer()
  armed_for = nil
  deadlines:fire(core.now())
  arm_timer()
end

function arm_timer()
  local due = deadlines:first()
  if not due then
    if armed_for then timer:stop() end
    armed_for = nil
  elseif due ~= armed_for then
    armed_for = due
    timer = timer or uv.new_timer()
    uv.update_time()
    local ms = math.ceil(math.min((due - core.now()) * 1000, FAR))
    timer:start(math.max(1, ms), 0, on_timer) -- a timer of 0 would come again before any descriptor is looked at
  end
end

local function remember(item, due)
  deadlines:remember(item, due)
  if not armed_for or due < armed_for then arm_timer() end
end

-- ---- coroutines ----

local function stop_loop()
  if running.looping then uv.stop() end
end

local function report(err, traceback)
  if running.on_error then
    local ok, second = pcall(running.on_error, err, traceback)
    if ok then return end
    err = second
  end
  if not running.failed then
    if type(err) == "string" then err = err .. "\n" .. traceback end
    running.failed, running.failure = true, err
  end
  stop_loop()
end

-- A run is closed by each of its tasks that ends: by returning, by an error, and where there is coroutine.close by
-- that.
local Run = {}

function Run:__close()
  self.live = self.live - 1
  if self.live == 0 and self == running then stop_loop() end
end

local task, failed = compat.closing, compat.close

if not task then
  local runs = setmetatable({}, { __mode = "k" }) -- task → its run

  function task(run, fn, ...)
    runs[coroutine.running()] = run
    fn(...)
    Run.__close(run)
  end

  function failed(co)
    if runs[co] then Run.__close(runs[co]) end
  end
end

-- Resumes a coroutine that waits; one that was closed in the meantime is passed over.
local function resume(co, ...)
  if status(co) ~= "suspended" then return end
  local ok, err = coroutine_resume(co, ...)
  if ok then return end
  if running then report(err, debug.traceback(co)) end
  failed(co)
end

local function check_running(who)
  if not running then error("cotls.luv." .. who .. ": call it under cotls.luv.run", 3) end
end

-- ---- waiting ----

-- The deadlines of waits are rounded up to this: so that those of many connections share a moment.
local TICK = 1 / 64

local function rounded(deadline)
  return floor(deadline / TICK) * TICK + TICK
end

-- Waiter → its entry: { fd, mask = what it is armed for, read, write = who waits, read_deadline, write_deadline,
-- more = further waits { co, want, deadline }, released }. An entry is an item of the deadlines.
local entries = setmetatable({}, { __mode = "k" })

local WANTS = { "read", "write" }
local DEADLINE = { read = "read_deadline", write = "write_deadline" }
-- Is a handle that is armed for a mask armed for a want?
local ARMED = { read = { r = true, rw = true }, write = { w = true, rw = true } }

-- What somebody waits for, as a mask: nil, "r", "w" or "rw".
local function wanted(entry)
  local read, write, more = entry.read, entry.write, entry.more
  for i = 1, more and #more or 0 do
    if more[i].want == "read" then read = true else write = true end
  end
  return read and (write and "rw" or "r") or write and "w" or nil
end

-- A second wait for the same want.
local function note_more(entry, co, want, deadline)
  entry.more = entry.more or {}
  table.insert(entry.more, { co = co, want = want, deadline = deadline })
end

-- Takes a wait off the entry; was it still there?
local function take_off(entry, co, want)
  if entry[want] == co then
    entry[want], entry[DEADLINE[want]] = nil, nil
    return true
  end
  for i, wait in ipairs(entry.more or {}) do
    if wait.co == co and wait.want == want then
      table.remove(entry.more, i)
      if #entry.more == 0 then entry.more = nil end
      return true
    end
  end
  return false
end

-- The waits as they are now; what is resumed for one may end another.
local function snapshot(entry)
  local list = {}
  for _, want in ipairs(WANTS) do
    if entry[want] then list[#list + 1] = { co = entry[want], want = want, deadline = entry[DEADLINE[want]] } end
  end
  return compat.move(entry.more or {}, 1, entry.more and #entry.more or 0, #list + 1, list)
end

-- Ends a wait that is still there.
local function end_wait(entry, wait, ...)
  local there = take_off(entry, wait.co, wait.want)
  if there then resume(wait.co, ...) end
  return there
end

local function wake(entry, read, write)
  local ended = false
  for _, wait in ipairs(snapshot(entry)) do
    if wait.want == "read" and read or wait.want == "write" and write then
      ended = end_wait(entry, wait, true) or ended
    end
  end
  if entry.released then return end
  if not ended then
    running.watch.arm(entry, wanted(entry)) -- for nobody: it would fire for ever
  elseif entry.mask == "rw" then
    running.watch.arm(entry, wanted(entry) or entry.mask) -- else the one that nobody waits for fires beside the other
  end
end

-- The waits whose deadline has passed end; the entry comes up again for the others.
local function expire(entry, now)
  local due = math.huge
  for _, wait in ipairs(snapshot(entry)) do
    if wait.deadline and wait.deadline <= now then
      end_wait(entry, wait, nil, "timeout")
    elseif wait.deadline then
      due = math.min(due, wait.deadline)
    end
  end
  if due < math.huge and not entry.released then remember(entry, rounded(due)) end
end

local function on_event(entry, events)
  local reader = entry.read
  if reader and events == "r" and not entry.more then -- the common cases
    entry.read, entry.read_deadline = nil, nil
    return resume(reader, true)
  end
  local writer = entry.write
  if writer and events == "w" and not entry.more then
    entry.write, entry.write_deadline = nil, nil
    return resume(writer, true)
  end
  wake(entry, events ~= "w", events ~= "r")
end

-- After a wait: one that somebody else ended, by resuming the coroutine, is still on the entry.
local function settle(entry, co, want, ...)
  if entry[want] == co or entry.more then take_off(entry, co, want) end
  return ...
end

-- A wait without a deadline on an entry that is among the deadlines, for one that has passed.
local function forget_deadline(entry)
  if entry.read_deadline or entry.write_deadline or entry.more then return end
  deadlines:forget(entry)
  if not deadlines:first() then arm_timer() end
end

--- A scheduler's wait: yields until the waiter is readable or writable, or the deadline passes.
function luv.wait(waiter, want, deadline)
  local co, entry = current(), entries[waiter]
  if not running then error("cotls.luv is not running", 0) end
  if not entry then
    entry = { fd = waiter:fileno(), fire = expire }
    entries[waiter] = entry
  end
  if entry[want] then
    note_more(entry, co, want, deadline)
  else
    entry[want], entry[DEADLINE[want]] = co, deadline
  end
  if entry.fd and not ARMED[want][entry.mask] then
    local ok, reason = running.watch.arm(entry, wanted(entry))
    if not ok then
      take_off(entry, co, want)
      return nil, core.error { code = "system", operation = "wait", reason = reason }
    end
  end
  if deadline then
    local due, bucket = rounded(deadline), entry.bucket
    if not bucket or bucket.due > due then remember(entry, due) end
  elseif entry.bucket then
    forget_deadline(entry)
  end
  return settle(entry, co, want, yield())
end

local function drop(waiter, entry)
  entries[waiter] = nil
  entry.released = true
  deadlines:forget(entry)
  if running and entry.fd then running.watch.remove(entry) end
end

-- Who was woken: three values each. They are resumed by an idle handle, which runs before the loop would sleep.
local woken, idle, idling = {}, nil, false

local function resume_woken()
  local list = woken
  woken = {}
  for i = 1, #list, 3 do
    local entry, want, co = list[i], list[i + 1], list[i + 2]
    if take_off(entry, co, want) then resume(co, true) end
  end
  if #woken == 0 and idling then
    idle:stop()
    idling = false
  end
end

local function note_woken(entry, want, co)
  local n = #woken
  woken[n + 1], woken[n + 2], woken[n + 3] = entry, want, co
  if not idling then
    idle, idling = idle or uv.new_idle(), true
    idle:start(resume_woken)
  end
end

--- A scheduler's wake: ends the waits of a waiter without a descriptor for one want, from the loop.
function luv.wake(waiter, want)
  local entry = entries[waiter]
  if not entry or not running then return end
  if entry[want] then note_woken(entry, want, entry[want]) end
  for _, wait in ipairs(entry.more or {}) do
    if wait.want == want then note_woken(entry, want, wait.co) end
  end
end

-- Fired for a wait whose descriptor is closed.
local function tell_closed(item)
  end_wait(item.entry, item.wait, nil, "closed")
end

--- A scheduler's release: the descriptor is about to close. Who still waits is woken from the loop.
function luv.release(waiter)
  local entry = entries[waiter]
  if not entry then return end
  drop(waiter, entry)
  if not (entry.read or entry.write or entry.more) then return end
  for _, wait in ipairs(snapshot(entry)) do remember({ fire = tell_closed, entry = entry, wait = wait }, 0) end
end

-- ---- the public loop ----

--- Starts a coroutine; it runs until its first wait.
function luv.spawn(fn, ...)
  check_running("spawn")
  tasks.check_function("cotls.luv.spawn", fn)
  local co = coroutine.create(task)
  running.live = running.live + 1
  resume(co, running, fn, ...)
  return co
end

-- Fired for who sleeps or looks up a name, and takes only this for an end.
local function end_pause(pause)
  pause.over = true
  resume(pause.co)
end

--- Waits.
function luv.sleep(seconds)
  check_running("sleep")
  tasks.check_seconds("cotls.luv.sleep", seconds)
  local pause = { fire = end_pause, co = current() }
  remember(pause, core.now() + seconds)
  repeat yield() until pause.over
end

--- Ends run once the coroutine that calls it waits.
function luv.stop()
  if running then
    running.stopped = true
    stop_loop()
  end
end

-- What a yield gave, if it is a cancellation: an error object.
local function cancellation(...)
  local why = tasks.ended("connect", ...)
  return why == "timeout" and core.error { code = why, operation = "connect", reason = why } or why
end

-- Name lookup by libuv: a list, or nil, err.
local function look_up(host, port, deadline)
  local pause = { fire = end_pause, co = current(), run = running }
  local request = assert(uv.getaddrinfo(host, tostring(port), { socktype = "stream" }, function(err, found)
    if pause.over or pause.run ~= running then return end
    pause.found, pause.reason = found, err
    end_pause(pause)
  end))
  if deadline then remember(pause, deadline) end
  local cancelled
  repeat cancelled = cancellation(yield()) until pause.over or cancelled
  pause.over = true
  deadlines:forget(pause)
  if pause.found then return pause.found end
  uv.cancel(request)
  if cancelled then return nil, cancelled end
  local code = pause.reason and "system" or "timeout"
  return nil, core.error { code = code, operation = "connect", reason = ("%s: %s"):format(host, pause.reason or code) }
end

--- A scheduler's connect: name lookup by libuv, then all addresses in turn.
function luv.connect(host, port, deadline)
  check_running("connect")
  local addresses = { { address = host, port = port } }
  if not core.is_ip(host) then
    local found, err = look_up(host, port, deadline)
    if not found then return nil, err end
    for i, one in ipairs(found) do addresses[i] = { address = one.addr, port = port } end
  end
  return net.connect_any(addresses, deadline, luv)
end

--- A scheduler's listen: the socket is closed by Ctrl-C.
function luv.listen(host, port)
  local socket, err = net.listen_any(host, port)
  if socket and running then running.listening[socket] = true end
  return socket, err
end

-- SIGINT: listeners are closed, and when those who waited for them have been told, the loop stops.
local function interrupt()
  if running.interrupted then
    return report(core.error { code = "cancelled", operation = "run", reason = "interrupted" }, "")
  end
  running.interrupted = true
  for socket in pairs(running.listening) do socket:close() end
  remember({ fire = luv.stop }, 0)
end

local function watch_interrupt()
  local signal = uv.new_signal()
  signal:unref()
  signal:start("sigint", interrupt)
  return signal
end

local function begin(settings)
  running = setmetatable({
    live = 0,
    listening = setmetatable({}, { __mode = "k" }),
    on_error = settings.on_error,
    scheduler = core.get_scheduler(),
    watch = watch.new(on_event),
    signal = settings.signals ~= false and watch_interrupt() or nil,
  }, Run)
  core.set_scheduler(luv)
end

-- Until every coroutine has ended, nothing can happen any more, or it is stopped.
local function loop()
  while running.live > 0 and not running.failed and not running.stopped do
    running.looping = true
    local more = uv.run()
    running.looping = false
    if not more then break end
  end
end

-- Nothing is kept of coroutines that still wait: they are the collector's.
local function finish()
  local ended = running
  core.set_scheduler(ended.scheduler)
  if ended.signal then ended.signal:close() end
  for waiter, entry in pairs(entries) do drop(waiter, entry) end
  deadlines:clear()
  arm_timer()
  woken = {}
  if idling then resume_woken() end -- which stops it
  ended.watch.close()
  uv.run("nowait") -- the handles that are closing
  running = nil
  return ended
end

--- Runs main(...) and what it spawns to their end. Instead of main: { main = , on_error = , signals = }.
function luv.run(main, ...)
  local settings = {}
  if running then error("cotls.luv.run: it is running already", 2) end
  if type(main) == "table" then
    settings, main = main, main.main
  end
  tasks.check_function("cotls.luv.run", main)
  local results = compat.pack()
  begin(settings)
  luv.spawn(function(...)
    results = compat.pack(main(...))
  end, ...)
  loop()
  local ended = finish()
  if ended.failed then error(ended.failure, 0) end
  if ended.interrupted then return nil, "interrupted" end
  return compat.unpack(results, 1, results.n)
end

return luv
