-- SPDX-License-Identifier: MIT
-- Runs each scenario (scripts/faults/) again and again, and each time lets another allocation or another system call
-- fail. It may fail then, but it must not crash, hang, lose a byte, leave a descriptor, memory or OpenSSL's errors
-- behind, or believe anybody whom it refuses otherwise. What is only an interruption must not be seen at all.
--
--   faults.lua [step=1] [jobs=2] [kinds=lua,openssl,malloc,calls] [words=…]
--     step: each step-th allocation only; "places": of OpenSSL's the first and the last from each place of a scenario
--       (scripts/faults/places.c), of all else each; "new", in short: from each place that no scenario before has had
--     words: scenarios whose name has them, with _ for a space
--   faults.lua child SCENARIO KIND STEP [FIRST [LAST]]    one scenario, in this process
--
-- It must be run with the module that `make faults` links.

local KINDS = { "lua", "openssl", "malloc", "calls" }

-- Results of each call; "!": nobody may notice.
local CALLS = {
  recv = "EINTR! EAGAIN! short! ECONNRESET ETIMEDOUT ENOMEM ENOBUFS zero",
  send = "EINTR! EAGAIN! short! zero! ECONNRESET EPIPE ENOBUFS ENOMEM",
  write = "EINTR! EAGAIN short ENOSPC EIO EPIPE zero",
  poll = "EINTR! EAGAIN! ENOMEM zero! short!",
  epoll_wait = "EINTR! short! zero! EINVAL",
  epoll_create1 = "EMFILE ENOMEM",
  epoll_ctl = "ENOMEM ENOSPC EINVAL",
  accept4 = "EINTR! EAGAIN! ECONNABORTED! EMFILE! ENFILE! ENOBUFS! ENOMEM! EINVAL",
  connect = "EINTR! ECONNREFUSED ENETUNREACH ETIMEDOUT ENOBUFS EAGAIN",
  socket = "EMFILE ENFILE ENOBUFS ENOMEM",
  bind = "EADDRINUSE EACCES",
  listen = "EADDRINUSE",
  getaddrinfo = "EAI_AGAIN EAI_MEMORY EAI_SYSTEM",
  setsockopt = "EINVAL ENOBUFS",
  getsockopt = "ENOBUFS EINVAL",
  getsockname = "ENOBUFS EINVAL",
  getpeername = "ENOBUFS EINVAL",
  fcntl = "EINVAL",
  open = "EMFILE EINTR EACCES",
  stat = "EACCES EIO",
  fstat = "EIO",
  opendir = "EMFILE EACCES",
  close = "EINTR! EIO!",
}

-- The steps of "new", which is the short form.
local SHORT = { openssl = "new", lua = 15, malloc = 1, calls = 18 }

local NEVER = 1 << 40
local ROUNDS = 4

-- ---- one scenario ----

local function child(name, kind, step, first, last)
  local inject = package.loadlib(package.searchpath("cotls.core", package.cpath), "luaopen_inject")()
  local run = require "scripts.faults.run"
  run.use(inject)
  local scenario = require "scripts.faults.scenarios" [name]
  local refused = name:find("^!") ~= nil
  local play, finish = scenario.prepare(kind)
  inject.spare(scenario.spares)
  local fd = run.free_fd()
  local faults, runs, failed = 0, 0, 0

  -- A run with the n-th of what failing: what is wrong with it, whether it has come to the fault.
  local function once(what, n, result, seen)
    local one = run.new()
    runs = runs + 1
    if what then inject.arm(what, n, result) end
    local ok, err = pcall(play, one)
    pcall(one.clean, one)
    local armed, reached, count = pcall(inject.disarm)
    if not armed then reached, count = inject.disarm() end
    local queue = inject.queue()
    one:clean()
    if reached then faults = faults + 1 end
    if not ok then failed = failed + 1 end
    local wrong = one.wrong or queue and "left in OpenSSL's queue: " .. queue
    local believed = scenario.believed and scenario.believed(one)
    one = nil -- luacheck: ignore
    collectgarbage()
    collectgarbage()
    wrong = wrong or inject.queue()
    if run.free_fd() ~= fd then
      wrong, fd = wrong or "a descriptor is lost", run.free_fd()
    end
    if refused and (ok or believed) then wrong = wrong or "somebody is believed" end
    if refused and not what and not ok and not scenario.like(err) then
      wrong = "refused otherwise: " .. tostring(err)
    end
    if kind == "calls" and not ok and not refused and type(err) == "string" then wrong = wrong or "raised: " .. err end
    if not refused and not ok and seen == false then
      wrong = wrong or "noticed: " .. tostring(err)
    end
    return wrong, reached, ok, count
  end

  -- Memory that is still held.
  local function growth(what, n, result)
    local openssl, ours = inject.live()
    for _ = 1, 3 do once(what, n, result) end
    local openssl_now, ours_now = inject.live()
    return openssl_now - openssl, ours_now - ours
  end

  local held_openssl, held_ours

  local function leak(what, n, result)
    local openssl, ours = inject.live()
    if openssl <= held_openssl and ours <= held_ours then return end
    local more, more_ours = growth(what, n, result)
    local last_openssl, last_ours = growth(what, n, result)
    once()
    held_openssl, held_ours = inject.live()
    if more > 0 and last_openssl > 0 then return ("%d blocks of OpenSSL's are lost"):format(last_openssl // 3) end
    if more_ours > 0 and last_ours > 0 then return ("%d blocks are lost"):format(last_ours // 3) end
  end

  local function report(what, n, result, wrong)
    print(("WRONG %s: %s %d%s: %s"):format(name, what, n, result and " " .. result or "", wrong))
  end

  -- A run with that fault, and what it must leave behind. Has it come to the fault?
  local function fault(what, n, result, quiet)
    io.stderr:write(("at %s %d %s\n"):format(what, n, result or ""))
    local wrong, reached = once(what, n, result, not quiet)
    wrong = wrong or leak(what, n, result)
    if wrong then report(what, n, result, wrong) end
    if os.getenv "LEAKS" and inject.leaks() then report(what, n, result, "LeakSanitizer") end
    return reached
  end

  local function sweep(what, result, quiet)
    local n = first or 1
    while fault(what, n, result, quiet) and not (last and n + step > last) do n = n + step end
  end

  -- The first and the last allocation of each place that there is; what comes in another order in another run is
  -- looked for again. A file: the places that others have seen to, which is added to.
  local function sweep_places(what, path)
    local others = {}
    local handle = path and io.open(path)
    for line in handle and handle:lines() or function() end do others[#others + 1] = line end
    if handle then handle:close() end
    inject.known(others)
    for _ = 1, ROUNDS do
      inject.places(true)
      once(what, NEVER)
      local numbers = inject.places(false)
      if #numbers == 0 then break end
      for _, n in ipairs(numbers) do fault(what, n) end
    end
    local known = inject.known()
    if path and #known > 0 then
      handle = assert(io.open(path, "a"))
      handle:write(table.concat(known, "\n"), "\n")
      handle:close()
    end
    print(("PLACES %d"):format(#known))
  end

  for i = 1, 4 do -- whatever is made once is made
    local wrong = once(nil, i)
    if i > 1 and wrong then
      report("nothing", i, nil, wrong)
      os.exit(1, true)
    end
    if not refused and not select(3, once()) then
      report("nothing", i, nil, "it fails: " .. tostring(select(2, pcall(play, run.new()))))
      os.exit(1, true)
    end
  end
  local more, more_ours = growth()
  held_openssl, held_ours = inject.live()
  if more > 0 or more_ours > 0 then report("nothing", 0, nil, ("it grows by %d, %d"):format(more, more_ours)) end

  local before = runs
  faults, failed = 0, 0
  if kind == "calls" then
    local names = {}
    for call in pairs(CALLS) do names[#names + 1] = call end
    table.sort(names)
    for _, call in ipairs(names) do
      local used = select(4, once(call, NEVER, "EINVAL")) > 0
      for result, quiet in CALLS[call]:gmatch("([%w_]+)(!?)") do
        if used then sweep(call, result, quiet == "!" and not scenario.notices) end
      end
    end
  elseif step == "places" or step == "new" then
    sweep_places(kind, step == "new" and os.getenv "FAULTS_KNOWN" or nil)
  else
    sweep(kind)
  end
  print(("RUNS %d %d %d"):format(runs - before, faults, failed))
  if finish then finish() end
end

-- ---- all of them ----

local function quote(text)
  return "'" .. text:gsub("'", "'\\''") .. "'"
end

local function settings_of(args)
  local settings = { step = "1", jobs = "2", kinds = table.concat(KINDS, ","), words = "" }
  for _, one in ipairs(args) do
    local name, value = one:match("^(%w+)=(.*)$")
    assert(settings[name], "no setting: " .. one)
    settings[name] = (value:gsub("_", " "))
  end
  assert(tonumber(settings.step) or settings.step == "places" or settings.step == "new", "no such step")
  return settings
end

-- How large the steps of a kind are: OpenSSL's allocations are many.
local function step_of(settings, kind)
  local step = tonumber(settings.step)
  if settings.step == "new" then return SHORT[kind] end
  if not step then return kind == "openssl" and settings.step or 1 end
  if kind == "openssl" or step == 1 then return step end
  return math.max(1, step // (kind == "lua" and 4 or 32))
end

local function jobs_of(settings)
  local scenarios = require "scripts.faults.scenarios"
  local names, jobs = {}, {}
  for name in pairs(scenarios) do names[#names + 1] = name end
  table.sort(names)
  local count = 0
  for _, name in ipairs(names) do
    if name:find(settings.words, 1, true) then count = count + 1 end
    for kind in settings.kinds:gmatch("%w+") do
      local skipped = scenarios[name].without and scenarios[name].without[kind]
      if name:find(settings.words, 1, true) and not skipped then
        jobs[#jobs + 1] = { name = name, kind = kind, step = step_of(settings, kind) }
      end
    end
  end
  return jobs, count
end

local function start(job, known)
  local lua = os.getenv "LUA" or arg[-1]
  local limit = os.getenv "FAULTS_LIMIT" or "900"
  job.log = os.tmpname()
  local line = ("FAULTS_KNOWN=%s exec timeout %s %s %s child %s %s %s 2>%s"):format(known, limit, quote(lua),
    quote(arg[0]), quote(job.name), job.kind, job.step, job.log)
  job.pipe = assert(io.popen(line))
end

-- What a job has found.
local function finish(job, totals)
  local out = job.pipe:read("a")
  local ok, how, status = job.pipe:close()
  local handle = assert(io.open(job.log))
  local err = handle:read("a")
  handle:close()
  os.remove(job.log)
  local wrong = {}
  for line in out:gmatch("WRONG ([^\n]*)") do wrong[#wrong + 1] = line end
  local runs, faults, failed = out:match("RUNS (%d+) (%d+) (%d+)")
  if not ok or not runs then
    local at = err:match(".*\n(at [^\n]*)") or err:match("^(at [^\n]*)") or "before the first fault"
    wrong[#wrong + 1] = ("%s, %s: it ends by %s %d, %s\n%s"):format(job.name, job.kind, how or "exit", status or 0, at,
      err:gsub("at %w+ %d+ [^\n]*\n", ""):sub(-3000))
  end
  local places = out:match "PLACES (%d+)"
  for name, value in pairs { runs = runs, faults = faults, failed = failed, places = places } do
    totals[name] = totals[name] + tonumber(value)
  end
  for _, line in ipairs(wrong) do print(line) end
  totals.wrong = totals.wrong + #wrong
  if os.getenv "VERBOSE" then print(("%s, %s: %s runs"):format(job.name, job.kind, runs)) end
  io.flush()
end

local function main(settings)
  local jobs, scenarios = jobs_of(settings)
  local totals, from = { runs = 0, faults = 0, failed = 0, wrong = 0, places = 0 }, os.time()
  local width, started, known = tonumber(settings.jobs), 0, os.tmpname()
  for i, job in ipairs(jobs) do
    while started < math.min(i + width - 1, #jobs) do
      started = started + 1
      start(jobs[started], known)
    end
    finish(job, totals)
  end
  os.remove(known)
  if totals.places > 0 then print(("%d places"):format(totals.places)) end
  print(("%d scenarios, %d runs, %d faults injected, %d runs failed by them, %d things wrong: %d seconds"):format(
    scenarios, totals.runs, totals.faults, totals.failed, totals.wrong, os.time() - from))
  return totals.wrong == 0 and totals.runs > 0
end

if arg[1] == "child" then
  child(arg[2], arg[3], tonumber(arg[4]) or arg[4], tonumber(arg[5]), tonumber(arg[6]))
else
  os.exit(main(settings_of(arg)), true)
end
