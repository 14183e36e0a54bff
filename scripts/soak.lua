-- SPDX-License-Identifier: MIT
-- Churn: a server and its clients, a process each, make and break connections of all kinds as fast as two cores let
-- them, for so many seconds. Resident memory and descriptors must be flat after the warm-up, and no operation may end
-- later behind its deadline than 50 ms beyond what the load explains: how late a timer of the same loop fires.
--
--   soak.lua [seconds=600] [conns=48] [folder=build/soak] [seed=1]
--
-- folder/soak.csv has a line a second, folder/soak.svg draws it (scripts/soak_chart.lua).

local tls = require "cotls"
local luv = require "cotls.luv"
local uv = require "luv"
local helper = require "spec.helper"
local pki = require "spec.pki"

local LATE = 0.05 -- seconds that an operation may be later than the load makes it
local GROWTH = 0.03 -- of resident memory, and
local SLACK = 4 * 1024 * 1024 -- bytes beyond it

local settings = { seconds = 600, conns = 48, folder = "build/soak", seed = 1 }
for i = arg[1] == "server" and 2 or 1, #arg do
  local name, value = arg[i]:match("^(%w+)=(.+)$")
  assert(settings[name], "no setting: " .. arg[i])
  settings[name] = tonumber(value) or value
end
local warm_up = math.min(60, settings.seconds / 4)

-- ---- what a process tells of itself ----

local counts = { done = 0, wrong = 0 }
local first_wrong

local function wrong(what)
  counts.wrong = counts.wrong + 1
  first_wrong = first_wrong or tostring(what)
end

-- The load: a timer that should fire every TICK; `lag(since)` is how late it was at worst since then, and what has
-- gone by of its next turn.
local TICK = 0.005
local lags, last_tick = {}, nil

local function start_ticker()
  local timer = uv.new_timer()
  last_tick = tls.now()
  timer:start(5, 5, function()
    local now = tls.now()
    lags[#lags + 1] = { at = now, lag = now - last_tick - TICK }
    last_tick = now
    if #lags > 2000 then lags = table.move(lags, 1000, #lags, 1, {}) end
  end)
  timer:unref()
end

local function lag(since)
  local worst = 0
  for i = #lags, 1, -1 do
    if lags[i].at < since then break end
    worst = math.max(worst, lags[i].lag)
  end
  return worst + math.max(tls.now() - last_tick - TICK, 0)
end

-- ---- deadlines ----

local worst_excess, worst_lateness, timed = 0, 0, 0

-- A time for an operation. A timer of the same loop stands beside it: as late as that is, the load makes everything.
local function allow(seconds)
  local time = { due = tls.now() + seconds, timer = uv.new_timer() }
  uv.update_time()
  time.timer:start(math.ceil(seconds * 1000), 0, function() time.fired = tls.now() end)
  return time
end

-- An operation that was to end by then has ended. `timed_out`: because its time was up.
local function ended(time, timed_out)
  local now = tls.now()
  local late = now - time.due
  time.timer:close()
  if not timed_out then return end
  timed = timed + 1
  if late < -0.001 then wrong "a timeout came before its deadline" end
  worst_lateness = math.max(worst_lateness, late)
  local fired = math.max(time.fired or now, time.due)
  worst_excess = math.max(worst_excess, now - fired - lag(fired - TICK)) -- nor is what stands still after that its own
end

-- ---- the server ----

local function serve(conn)
  conn:settimeout(2)
  if not conn:accept() then return conn:close() end
  local command = conn:read()
  local verb, size = (command or ""):match("^(%a+) (%d+)$")
  if verb == "echo" then
    local data = conn:read(tonumber(size))
    if data then conn:write(data) end
    conn:shutdown()
  elseif verb == "wait" then -- longer than the client does
    conn:read "*a"
  elseif verb == "reset" then -- what is unread makes it one
    conn:settimeout(0.01)
    conn:peek(1)
    return getmetatable(conn).__close(conn, "reset")
  elseif verb == "leave" then -- the collector's
    return
  elseif verb == "update" then
    conn:key_update(true)
    conn:write("x")
    conn:shutdown()
  end
  conn:close()
end

local function ponder()
  luv.sleep(0)
  return true
end

local function server_contexts()
  local leaf, ca = helper.server_leaf, helper.ca
  local staple = pki.ocsp { ca = ca, certificate = leaf }
  local hooked = {
    on_client_hello = ponder, on_server_name = ponder, on_certificate = ponder,
    on_alpn = function(_, offered) return ponder() and offered[1] end,
    on_ocsp = function() return ponder() and staple end,
    on_verify = function(_, ok) return ponder() and ok end,
    on_trace = function() end,
    ca = ca.certificate, verify_client = "optional", session_cache = 100,
  }
  return helper.server_context { session_cache = 100, ticket_keys = { ("k"):rep(80) } },
    helper.server_context(hooked), helper.server_context(helper.with(hooked, { max_version = "1.2" }))
end

local function write_file(path, text)
  local handle = assert(io.open(path, "w"))
  handle:write(text)
  handle:close()
end

local function sample(live)
  return ("%d %d %d %d %.1f %.1f"):format(helper.resident(), helper.count_fds(), live, counts.done,
    worst_excess * 1000, lag(tls.now() - 1) * 1000)
end

local function server()
  luv.run(function()
    local ports, live = {}, 0
    for i, context in ipairs { server_contexts() } do
      local listener = assert(tls.listen("127.0.0.1", 0, { context = context, handshake_timeout = 2 }))
      ports[i] = listener:port()
      luv.spawn(function()
        for conn in listener do
          luv.spawn(function()
            live = live + 1
            serve(conn)
            live = live - 1
            counts.done = counts.done + 1
          end)
        end
      end)
    end
    local hole = assert(require("cotls.core").listen_socket("127.0.0.1", 0)) -- nobody accepts there
    ports[4] = select(2, hole:address())
    write_file(settings.folder .. "/ca.pem", helper.ca.certificate)
    write_file(settings.folder .. "/own.pem", helper.server_leaf.certificate .. helper.server_leaf.key)
    print("PORTS " .. table.concat(ports, " "))
    local input = uv.new_pipe(false)
    input:open(0)
    input:read_start(function(_, data) if not data then os.exit(0) end end)
    start_ticker()
    while true do
      luv.sleep(1)
      print("SERVER " .. sample(live))
      io.stdout:flush()
    end
  end)
end

-- ---- the clients ----

local ports, contexts = {}, {}

local function client_contexts()
  local ca = settings.folder .. "/ca.pem"
  local own = settings.folder .. "/own.pem"
  contexts.plain = assert(tls.context { ca = ca })
  contexts.old = assert(tls.context { ca = ca, max_version = "1.2" })
  contexts.inner = helper.server_context { session_cache = 100, certificate = own, key = own }
  contexts.again = assert(tls.context { ca = ca, resume = true })
  contexts.hooked = assert(tls.context { ca = ca, certificate = own, key = own, ocsp = "request",
    on_verify = function(_, ok) return ponder() and ok end, on_certificate = ponder, on_session_new = function() end })
end

local DATA = helper.noise(300000)

-- A connection; fails only where the server has been slower than we wait.
local function connect(port, context, options)
  local conn, err = tls.connect("127.0.0.1", port, helper.with({ context = context, server_name = "localhost",
    handshake_timeout = 10 }, options))
  if not conn and err.code ~= "timeout" then wrong(err) end
  return conn
end

local function echo(port, context, size)
  local conn = connect(port, context, port ~= ports[1] and { alpn = { "p" } } or nil)
  if not conn then return end
  local data = DATA:sub(1, size)
  luv.spawn(function() conn:write(("echo %d\n"):format(size), data) end)
  local got, err = conn:read "a"
  if got ~= data and not (err and (err.code == "timeout" or err.code == "truncated" or err.code == "system")) then
    wrong(err or "other data came back")
  end
  conn:shutdown()
  conn:close()
end

local function any(...)
  return (select(math.random(select("#", ...)), ...))
end

local kinds = {
  function() echo(ports[1], any(contexts.plain, contexts.old), math.random(2000)) end,
  function() echo(ports[1], contexts.again, math.random(2000)) end,
  function() echo(any(ports[2], ports[3]), any(contexts.plain, contexts.hooked), math.random(2000)) end,
  function() echo(any(ports[1], ports[2]), contexts.plain, math.random(#DATA)) end,
  function() -- a timeout
    local conn = connect(ports[1], contexts.plain)
    if not conn then return end
    conn:write("wait 0\n")
    local seconds = math.random() * 0.2
    conn:settimeout(seconds)
    local from, time = tls.now(), allow(seconds)
    local ok, err = conn:read(1)
    local timed_out = ok == nil and err and err.code == "timeout"
    ended(time, timed_out)
    if not timed_out and lag(from) < 1 then wrong(err or "something was read") end
    conn:close()
  end,
  function() -- a handshake that never ends
    local seconds = 0.05 + math.random() * 0.2
    local time = allow(seconds)
    local conn, err = tls.connect("127.0.0.1", ports[4], { context = contexts.plain, handshake_timeout = seconds,
      server_name = "localhost" })
    if conn then wrong "nobody has shaken hands" end
    ended(time, err and err.code == "timeout")
  end,
  function() -- a reset by the server
    local conn = connect(ports[1], contexts.plain)
    if not conn then return end
    conn:write("reset 0\n", DATA:sub(1, 20000))
    local got, err = conn:read "a"
    if got ~= nil and got ~= "" or not err then wrong("a reset is taken for an end: " .. tostring(got)) end
    conn:close()
  end,
  function() -- it goes in the middle of the handshake
    local conn
    local co = luv.spawn(function() conn = tls.connect("127.0.0.1", any(ports[1], ports[2]),
      { context = any(contexts.plain, contexts.hooked), server_name = "localhost", handshake_timeout = 1 }) end)
    luv.sleep(math.random() * 0.004)
    if coroutine.status(co) == "suspended" then coroutine.close(co) end
    if conn then conn:close() end
  end,
  function() -- a wrong name
    local conn, err = tls.connect("127.0.0.1", any(ports[1], ports[2]),
      { context = contexts.plain, server_name = "wrong.example", handshake_timeout = 10 })
    if conn or err.code ~= "verify" and err.code ~= "timeout" then wrong(err or "a wrong name is believed") end
  end,
  function() -- left to the collector, on both sides
    local conn = connect(ports[1], contexts.plain)
    if conn then conn:write("leave 0\n") end
  end,
  function() -- joined in memory
    local one, other = tls.pair(contexts.again, contexts.inner, { client = { server_name = "localhost",
      session_key = "pair" } })
    local data = DATA:sub(1, math.random(20000))
    luv.spawn(function()
      if other:accept() then
        local got = other:read(#data)
        if got then other:write(got) end
        other:shutdown()
      end
      other:close()
    end)
    if one:connect() and one:write(data) then
      if one:read(#data) ~= data then wrong "a pair gives other data" end
      one:shutdown()
    end
    one:close()
  end,
  function() -- TLS in TLS, cut off by a timeout
    local conn = connect(ports[1], contexts.plain)
    if not conn then return end
    conn:write("wait 0\n")
    local seconds = 0.05 + math.random() * 0.1
    local time = allow(seconds)
    local inner = assert(contexts.plain:wrap(conn, { server_name = "localhost", handshake_timeout = seconds }))
    local ok, err = inner:connect()
    ended(time, not ok and err.code == "timeout")
    if ok then wrong "nobody has shaken hands" end
    inner:close()
  end,
  function() -- new keys
    local conn = connect(ports[1], contexts.plain)
    if not conn then return end
    conn:write("update 0\n")
    conn:key_update(true)
    conn:read "a"
    conn:close()
  end,
}

local samples, server_samples = {}, {}

local function write_csv()
  local lines = { "second,server_resident,server_descriptors,client_resident,client_descriptors,operations,"
    .. "excess_ms,lag_ms" }
  for i, one in ipairs(samples) do
    local other = server_samples[i]
    if not other then break end
    lines[#lines + 1] = table.concat({ i, other[1], other[2], one[1], one[2], one[4], one[5], one[6] }, ",")
  end
  write_file(settings.folder .. "/soak.csv", table.concat(lines, "\n") .. "\n")
end

local function median(list, field, from, to)
  local values = {}
  for i = math.max(1, math.floor(from)), math.min(#list, math.floor(to)) do
    values[#values + 1] = tonumber(list[i][field])
  end
  table.sort(values)
  return values[(#values + 1) // 2] or 0
end

-- Is a column flat from the warm-up on?
local function flat(who, list, field, what, growth, slack)
  local tenth = math.max(5, (#list - warm_up) / 10)
  local first = median(list, field, warm_up, warm_up + tenth)
  local last = median(list, field, #list - tenth, #list)
  print(("%s: %s %d after %.0f s, %d at the end"):format(who, what, first, warm_up, last))
  if last > first * (1 + growth) + slack then wrong(("%s: %s grows from %d to %d"):format(who, what, first, last)) end
end

local function split(line)
  local list = {}
  for word in line:gmatch("%S+") do list[#list + 1] = word end
  return list
end

local function churn()
  local stop, live = tls.now() + settings.seconds, 0
  start_ticker()
  for _ = 1, settings.conns do
    luv.spawn(function()
      live = live + 1
      while tls.now() < stop do
        kinds[math.random(#kinds)]()
        counts.done = counts.done + 1
      end
      live = live - 1
    end)
  end
  while tls.now() < stop do
    luv.sleep(1)
    samples[#samples + 1] = split(sample(live))
  end
  local bound = tls.now() + 30
  while live > 0 and tls.now() < bound do luv.sleep(0.1) end
  if live > 0 then wrong(live .. " clients never come to an end") end
end

local function client()
  os.execute("mkdir -p " .. settings.folder)
  math.randomseed(settings.seed)
  local input, output = uv.new_pipe(false), uv.new_pipe(false)
  local argv = { arg[0], "server", "folder=" .. settings.folder }
  local child = assert(uv.spawn(helper.lua, { args = argv, stdio = { input, output, 2 } }, function() end))
  local text = ""
  output:read_start(function(_, data)
    text = text .. (data or "")
    for line in text:gmatch("SERVER ([^\n]*)\n") do server_samples[#server_samples + 1] = split(line) end
    local numbers = text:match("PORTS ([%d ]+)\n")
    for port in (numbers or ""):gmatch("%d+") do ports[#ports + 1] = tonumber(port) end
    text = text:match("[^\n]*$")
  end)
  local before, after
  luv.run(function()
    while #ports == 0 do luv.sleep(0.05) end
    client_contexts()
    before = helper.count_fds()
    churn()
    for _ = 1, 3 do collectgarbage() end
    after = helper.count_fds()
  end)
  input:close()
  output:close()
  child:close()
  uv.run "nowait"
  write_csv()
  os.execute(("%s scripts/soak_chart.lua %s/soak.csv %s/soak.svg"):format(helper.lua, settings.folder, settings.folder))
  flat("server", server_samples, 1, "resident bytes", GROWTH, SLACK)
  flat("server", server_samples, 2, "descriptors", 0.1, 10)
  flat("client", samples, 1, "resident bytes", GROWTH, SLACK)
  flat("client", samples, 2, "descriptors", 0.1, 10)
  if after > before then wrong(("%d descriptors at the end, %d before"):format(after, before)) end
  for _, one in ipairs(server_samples) do worst_excess = math.max(worst_excess, tonumber(one[5]) / 1000) end
  print(("%d connections; %d deadlines, at most %.0f ms late, of which the load does not explain %.0f ms")
    :format(counts.done, timed, worst_lateness * 1000, worst_excess * 1000))
  if worst_excess > LATE then wrong "an operation ended too late" end
  print(counts.wrong == 0 and "nothing wrong" or ("%d things wrong, first: %s"):format(counts.wrong, first_wrong))
  os.exit(counts.wrong == 0, true)
end

if arg[1] == "server" then server() else client() end
