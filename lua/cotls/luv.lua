-- SPDX-License-Identifier: MIT
-- The embedded loop, on libuv. A waiter (a connection or socket) has one poll handle from its first wait to its
-- release. It stays armed between waits and is stopped by an event that finds nobody, so that a connection that
-- is read again and again costs no system call for being watched. All deadlines share one timer, by a heap.

local uv = require "luv"
local core = require "cotls.core"
local net = require "cotls.net"

local luv = {}

local running -- the state of the run under way, or nil
local on_timer

-- ---- deadlines ----
-- A heap of items by `due`; item.at is its place. An item is a waiter's entry, or a sleeper.
-- An entry that is waited for again keeps its place as long as that is not too late.

local heap, size = {}, 0
local timer, armed_for

local function place(item, at)
  heap[at] = item
  item.at = at
end

local function sift_up(item, at)
  while at > 1 and heap[at // 2].due > item.due do
    place(heap[at // 2], at)
    at = at // 2
  end
  place(item, at)
end

local function sift_down(item, at)
  while true do
    local child = 2 * at
    if child > size then break end
    if child < size and heap[child + 1].due < heap[child].due then child = child + 1 end
    if heap[child].due >= item.due then break end
    place(heap[child], at)
    at = child
  end
  place(item, at)
end

local function arm_timer()
  local first = heap[1]
  if not first then
    if armed_for then timer:stop() end
    armed_for = nil
  elseif first.due ~= armed_for then
    armed_for = first.due
    timer = timer or uv.new_timer()
    uv.update_time()
    timer:start(math.max(0, math.ceil((first.due - core.now()) * 1000)), 0, on_timer)
  end
end

local function forget(item)
  local at = item.at
  if not at then return end
  item.at = nil
  local last = heap[size]
  heap[size] = nil
  size = size - 1
  if last ~= item then
    sift_down(last, at)
    sift_up(last, last.at)
  end
end

local function remember(item, due)
  if item.at and item.due <= due then return end
  if item.at then
    item.due = due
    sift_up(item, item.at)
  else
    item.due = due
    size = size + 1
    sift_up(item, size)
  end
  if item.at == 1 then arm_timer() end
end

-- ---- coroutines ----

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
  if running.looping then uv.stop() end
end

local function finished(co)
  if running.tasks[co] then
    running.tasks[co] = nil
    running.live = running.live - 1
    if running.live == 0 and running.looping then uv.stop() end
  end
end

-- Resumes a coroutine that waits; one that was closed in the meantime is passed over.
local function resume(co, ...)
  if coroutine.status(co) ~= "suspended" then return finished(co) end
  local ok, err = coroutine.resume(co, ...)
  if not running then return end
  if not ok then report(err, debug.traceback(co)) end
  if coroutine.status(co) == "dead" then finished(co) end
end

-- Resumes a coroutine from the loop, where the caller cannot.
local function resume_soon(co, ...)
  remember({ co = co, values = table.pack(...) }, 0)
end

local function check_running(who)
  if not running then error("cotls.luv." .. who .. ": call it under cotls.luv.run", 3) end
end

-- ---- waiting ----

-- Waiter → its entry: { poll, fd, mask = what the handle is armed for, read, write = who waits,
-- read_deadline, write_deadline, more = further waits }.
local entries = setmetatable({}, { __mode = "k" })

local EVENTS = { read = "r", write = "w" }

-- What somebody waits for, as a mask: nil, "r", "w" or "rw".
local function wanted(entry)
  local read, write = entry.read, entry.write
  for _, wait in ipairs(entry.more or {}) do
    if wait.want == "read" then read = true else write = true end
  end
  return read and (write and "rw" or "r") or write and "w" or nil
end

local function arm(entry, mask)
  if mask == entry.mask then return end
  entry.mask = mask
  if mask then assert(entry.poll:start(mask, entry.on_event)) else entry.poll:stop() end
end

-- Those who wait for one of two wants, taken off the entry; at most the two of the common case without a list.
local function take_more(entry, read, write, list)
  local rest
  for _, wait in ipairs(entry.more) do
    if wait.want == "read" and read or wait.want == "write" and write then
      list[#list + 1] = wait.co
    else
      rest = rest or {}
      rest[#rest + 1] = wait
    end
  end
  entry.more = rest
  return list
end

local function wake(entry, read, write)
  local reader, writer = read and entry.read, write and entry.write
  local others = entry.more and take_more(entry, read, write, {})
  if not (reader or writer or others and others[1]) then -- nobody: it would fire for ever
    arm(entry, wanted(entry))
    return
  end
  if reader then entry.read, entry.read_deadline = nil, nil end
  if writer then entry.write, entry.write_deadline = nil, nil end
  if reader then resume(reader, true) end
  if writer then resume(writer, true) end
  for _, co in ipairs(others or {}) do resume(co, true) end
  -- an event that is not waited for any more must not hide behind one that is
  if #entry.mask > 1 and not entry.released then arm(entry, wanted(entry) or entry.mask) end
end

local function new_entry(waiter)
  local poll, reason, name = uv.new_poll(waiter:fileno())
  if not poll then
    return nil, core.error { code = "system", operation = "wait", reason = ("%s (%s)"):format(reason, name) }
  end
  local entry = { poll = poll }
  function entry.on_event(err, events)
    if err then return wake(entry, true, true) end
    if events == "r" then return wake(entry, true, false) end
    if events == "w" then return wake(entry, false, true) end
    local hung_up = events:find("[dp]")
    wake(entry, hung_up or events:find("r", 1, true), hung_up or events:find("w", 1, true))
  end
  entries[waiter] = entry
  return entry
end

local function note_wait(entry, co, want, deadline)
  if entry[want] then
    entry.more = entry.more or {}
    table.insert(entry.more, { co = co, want = want, deadline = deadline })
  else
    entry[want] = co
    entry[want == "read" and "read_deadline" or "write_deadline"] = deadline
  end
end

-- After a wait: one that somebody else ended, by resuming the coroutine, is taken off the entry.
local function settle(entry, co, want, ...)
  if entry[want] == co then
    entry[want], entry[want .. "_deadline"] = nil, nil
  end
  for i, wait in ipairs(entry.more or {}) do
    if wait.co == co then table.remove(entry.more, i) break end
  end
  return ...
end

--- A scheduler's wait: yields until the waiter is readable or writable, or the deadline passes.
function luv.wait(waiter, want, deadline)
  local co = coroutine.running()
  local entry = entries[waiter]
  if not running then error("cotls.luv is not running", 0) end
  if not entry then
    local err
    entry, err = new_entry(waiter)
    if not entry then return nil, err end
  end
  note_wait(entry, co, want, deadline)
  if not entry.mask or not entry.mask:find(EVENTS[want], 1, true) then arm(entry, wanted(entry)) end
  if deadline then remember(entry, deadline) end
  return settle(entry, co, want, coroutine.yield())
end

--- A scheduler's release: the descriptor is about to close. Who still waits is woken from the loop.
function luv.release(waiter)
  local entry = entries[waiter]
  if not entry then return end
  entries[waiter] = nil
  entry.released = true
  forget(entry)
  if not entry.poll:is_closing() then entry.poll:close() end
  for _, co in ipairs(take_more({ more = {
    { want = "read", co = entry.read }, { want = "read", co = entry.write }, table.unpack(entry.more or {}),
  } }, true, true, {})) do
    resume_soon(co, nil, "closed")
  end
end

-- The waits of an entry whose deadline has passed end; the entry comes back for the others.
local function expire(entry, now)
  local late, due = {}, math.huge
  for _, want in ipairs { "read", "write" } do
    local deadline = entry[want .. "_deadline"]
    if deadline and deadline <= now then
      late[#late + 1] = entry[want]
      entry[want], entry[want .. "_deadline"] = nil, nil
    elseif deadline then
      due = math.min(due, deadline)
    end
  end
  for i = #(entry.more or {}), 1, -1 do
    local wait = entry.more[i]
    if wait.deadline and wait.deadline <= now then
      late[#late + 1] = table.remove(entry.more, i).co
    elseif wait.deadline then
      due = math.min(due, wait.deadline)
    end
  end
  if due < math.huge then remember(entry, due) end
  for _, co in ipairs(late) do resume(co, nil, "timeout") end
end

function on_timer()
  local now = core.now()
  armed_for = nil
  while size > 0 and heap[1].due <= now do
    local item = heap[1]
    forget(item)
    if item.values then
      resume(item.co, table.unpack(item.values, 1, item.values.n))
    else
      expire(item, now)
    end
  end
  arm_timer()
end

-- ---- the public loop ----

--- Starts a coroutine; it runs until its first wait.
function luv.spawn(fn, ...)
  check_running("spawn")
  local co = coroutine.create(fn)
  running.tasks[co] = true
  running.live = running.live + 1
  resume(co, ...)
  return co
end

--- Waits.
function luv.sleep(seconds)
  check_running("sleep")
  if type(seconds) ~= "number" or seconds ~= seconds then
    error("cotls.luv.sleep: a number of seconds expected, got " .. type(seconds), 2)
  end
  local sleeper = { co = coroutine.running(), values = { n = 0 } }
  remember(sleeper, core.now() + seconds)
  coroutine.yield()
  forget(sleeper)
end

--- Ends run once the coroutine that calls it waits.
function luv.stop()
  if running then
    running.stopped = true
    if running.looping then uv.stop() end
  end
end

local function look_up(host, port, deadline)
  local co = coroutine.running()
  local sleeper = deadline and { co = co, values = { n = 2, nil, "timeout" } }
  local waiting = true
  local request = assert(uv.getaddrinfo(host, tostring(port), { socktype = "stream" }, function(err, found)
    if sleeper then forget(sleeper) end
    if waiting then resume(co, found, err) end
  end))
  if sleeper then remember(sleeper, deadline) end
  local found, err = coroutine.yield()
  waiting = false
  if not found then uv.cancel(request) end
  return found, err
end

--- A scheduler's connect: name lookup by libuv, then all addresses in turn.
function luv.connect(host, port, deadline)
  check_running("connect")
  local addresses
  if core.is_ip(host) then
    addresses = { { address = host, port = port } }
  else
    local found, err = look_up(host, port, deadline)
    if not found then
      local code = err == "timeout" and "timeout" or "system"
      return nil, core.error { code = code, operation = "connect", reason = ("%s: %s"):format(host, err) }
    end
    addresses = {}
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

local function interrupt()
  if running.interrupted then
    report(core.error { code = "cancelled", operation = "run", reason = "interrupted" }, "")
    return
  end
  running.interrupted = true
  for socket in pairs(running.listening) do socket:close() end
  resume_soon(coroutine.create(luv.stop)) -- after those who waited for the listeners have ended
end

local function watch_interrupt()
  local signal = uv.new_signal()
  signal:unref()
  signal:start("sigint", interrupt)
  return signal
end

-- The loop until every coroutine has ended, nothing can happen any more, or it is stopped.
local function loop()
  while running.live > 0 and not running.failed and not running.stopped do
    running.looping = true
    local more = uv.run()
    running.looping = false
    if not more then break end
  end
end

local function begin(settings)
  local tls = require "cotls"
  running = {
    live = 0,
    tasks = setmetatable({}, { __mode = "k" }),
    listening = setmetatable({}, { __mode = "k" }),
    on_error = settings.on_error or luv.on_error,
    scheduler = tls.scheduler,
    signal = settings.signals ~= false and watch_interrupt() or nil,
  }
  tls.scheduler = luv
end

local function finish()
  local ended = running
  require "cotls".scheduler = ended.scheduler
  if ended.signal then ended.signal:close() end
  for _, entry in pairs(entries) do arm(entry, nil) end
  while size > 0 do forget(heap[size]) end
  arm_timer()
  uv.run("nowait") -- the handles that are closing
  running = nil
  return ended
end

--- Runs main(...) and what it spawns to their end.
function luv.run(main, ...)
  local settings = {}
  if running then error("cotls.luv.run: it is running already", 2) end
  if type(main) == "table" then
    settings, main = main, main.main
  end
  if type(main) ~= "function" then error("cotls.luv.run: a function expected, got " .. type(main), 2) end
  local results = table.pack()
  begin(settings)
  luv.spawn(function(...)
    results = table.pack(main(...))
  end, ...)
  loop()
  local ended = finish()
  if ended.failed then error(ended.failure, 0) end
  if ended.interrupted then return nil, "interrupted" end
  return table.unpack(results, 1, results.n)
end

return luv
