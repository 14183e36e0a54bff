-- SPDX-License-Identifier: MIT
-- A random driver with a model: two ends, several coroutines at each, and everything that can be done with them, in an
-- order that a seed decides; `make fuzz SEED=5 RUNS=1` runs it again.
--
-- The model of one direction is the bytes handed to `write` and not yet taken back by a failure (`stream`), and how
-- many of them the other end has read (`read`). What reading must give is what Lua's own io gives for the same formats.

local tls = require "cotls"
local luv = require "cotls.luv"
local helper = require "spec.helper"
local compat = require "cotls.compat"
local Random = require "fuzz.random"

local STEPS = 60000 -- of one episode; the longest take a tenth
local STREAM = 150000 -- bytes that one end writes

-- ---- the rules ----

local function fail(text, ...)
  error("the model: " .. text:format(...), 0)
end

-- What a call that waits may come to at any time; anything else needs a reason.
local HARMLESS = { want_read = true, want_write = true, timeout = true, busy = true }

-- Has something happened that ends connections: a close, a cancellation, an abandoned coroutine, a hook that fails?
local function check_error(episode, here, verb, err)
  if not tls.is_error(err) then fail("%s: no error object but %s", verb, tostring(err)) end
  if tostring(err):find("\n") then fail("%s: an error of several lines", verb) end
  local over = err.code == "closed" and here.peer.shut
  if not HARMLESS[err.code] and not over and not episode.disturbed then
    fail("%s at the %s fails for no reason: %s", verb, here.name, tostring(err))
  end
  return err
end

-- Gives what io gives: the results of formats on text, and how many bytes they take.
local function by_io(text, formats)
  local file = assert(io.tmpfile())
  file:write(text)
  file:seek("set")
  local results = compat.pack(file:read(compat.unpack(formats)))
  local taken = file:seek()
  file:close()
  return results, taken
end

-- Everything that the other end has begun to write and this one has not read.
local function unread(here)
  return here.peer.stream:sub(here.read + 1)
end

local function check_bytes(here, verb, data)
  if unread(here):sub(1, #data) ~= data then fail("%s at the %s gives what was not written next", verb, here.name) end
end

local function check_end(here, verb)
  local peer = here.peer
  if not peer.shut then fail("%s at the %s: an end that nobody sent", verb, here.name) end
  if here.read < #peer.stream and not peer.writing then
    fail("%s at the %s: a clean end, and %d bytes are missing", verb, here.name, #peer.stream - here.read)
  end
  here.ended = true
end

-- ---- the operations: each of a coroutine, at one end ----

local operations = {}

-- What is there already is not waited for.
local function receive(episode, here, verb)
  local max, there = episode.random:size(20000), here.conn:pending()
  local task = episode.tasks[coroutine.running()]
  local resumed = task.resumed
  local data, err = here.conn[verb](here.conn, max)
  if data then
    if #data == 0 or #data > max then fail("%s(%d) gives %d bytes", verb, max, #data) end
    check_bytes(here, verb, data)
    if there > 0 and task.resumed > resumed then fail("%s waits for what is there", verb) end
    if verb == "recv" then here.read = here.read + #data end
  elseif err then
    check_error(episode, here, verb, err)
    if there > 0 and err.code ~= "busy" and err.code ~= "closed" then
      fail("%s fails with %s though %d bytes are there", verb, err.code, there)
    end
  else
    check_end(here, verb)
  end
end

function operations.recv(episode, here) receive(episode, here, "recv") end
function operations.peek(episode, here) receive(episode, here, "peek") end

local FORMATS = { "l", "L", "*l" }
if _VERSION >= "Lua 5.3" then FORMATS[#FORMATS + 1] = "n" end

-- After a failure a count gives what the failed read has left.
local function took_the_rest(here, data)
  if type(data) ~= "string" then return end
  check_bytes(here, "read", data)
  here.read = here.read + #data
end

function operations.read(episode, here)
  local formats = {}
  for i = 1, episode.random:below(3) do
    local count = here.left or episode.random:once_in(2)
    formats[i] = count and episode.random:size(5000) or episode.random:one_of(FORMATS)
    if here.left then break end
  end
  local results = compat.pack(here.conn:read(compat.unpack(formats)))
  local err = results[results.n]
  if results[1] == nil and tls.is_error(err) then
    check_error(episode, here, "read", err)
    if not HARMLESS[err.code] then here.left = true end
    if err.partial and err.partial > #unread(here) then fail("read: partial is more than was written") end
    return
  end
  if here.left then return took_the_rest(here, results[1]) end
  local before = unread(here)
  local expected, taken = by_io(before, formats)
  for i = 1, math.max(results.n, expected.n) do
    if results[i] ~= expected[i] then
      fail("read(%s) at the %s: result %d is not io's", table.concat(formats, ", "), here.name, i)
    end
  end
  here.read = here.read + taken
  if results[1] == nil and formats[1] ~= "n" then check_end(here, "read") end
end

function operations.write(episode, here)
  if here.shut or here.lost or #here.stream > STREAM then return end
  local pieces = {}
  for i = 1, episode.random:below(4) do pieces[i] = episode.random:text(episode.random:size(40000)) end
  local text, before = table.concat(pieces), here.stream
  if here.writing then return end
  here.writing, here.stream = true, before .. text
  local ok, err = here.conn:write(compat.unpack(pieces))
  here.writing = false
  if ok then
    if here.failed_write then fail("write succeeds after it has failed") end
    return
  end
  check_error(episode, here, "write", err)
  local written = err.written or 0
  if written > #text then fail("write: written is more than was given") end
  if here.peer.read > #before + written then fail("write: the other end has read more than err.written says") end
  here.stream = before .. text:sub(1, written)
  if not HARMLESS[err.code] and err.code ~= "cancelled" then here.failed_write = true end
end

function operations.shutdown(episode, here)
  here.shut = true -- it may be sent before the call returns
  local ok, err = here.conn:shutdown "write"
  return ok or not HARMLESS[check_error(episode, here, "shutdown", err).code]
end

function operations.settimeout(episode, here)
  here.conn:settimeout(episode.random:one_of(episode.timeouts))
end

function operations.key_update(episode, here)
  if here.conn:version() ~= "TLSv1.3" or here.shut then return end
  local ok, err = here.conn:key_update(episode.random:once_in(2))
  if not ok then check_error(episode, here, "key_update", err) end
end

function operations.ask_certificate(episode, here)
  if not here.conn:is_server() or not episode.late or here.shut then return end
  local ok, err = here.conn:request_client_certificate()
  if not ok and err.code ~= "tls" then check_error(episode, here, "request_client_certificate", err) end
end

function operations.tell(_, here)
  here.conn:info()
  here.conn:stats()
  here.conn:state()
end

function operations.collect(episode)
  if episode.random:once_in(8) then collectgarbage() else collectgarbage "step" end
end

-- Lets others go on. Under the loop this is a wait of another kind: a coroutine that an operation's wait has resumed
-- twice does not sleep for as long as it should.
function operations.rest(episode)
  if not episode.loop then
    episode.waits = episode.waits + 1
    return coroutine.yield "rest"
  end
  local seconds, began = (episode.random:below(3) - 1) / 1000, tls.now()
  luv.sleep(seconds)
  if tls.now() - began < seconds then fail("a sleep of %g s is over after %g s", seconds, tls.now() - began) end
end

-- What an end's coroutines choose from, weighted.
local ROLES = {
  { "recv", "recv", "peek", "read", "read", "rest", "tell", "collect" },
  { "write", "write", "write", "key_update", "rest", "collect" },
  { "recv", "write", "read", "key_update", "settimeout", "rest", "tell", "ask_certificate" },
}

-- ---- an end's coroutines ----

local function shake(episode, here)
  while not here.conn:handshake_done() do
    local ok, err = here.conn[here.verb](here.conn)
    if not ok then
      check_error(episode, here, here.verb, err)
      if not HARMLESS[err.code] then return end
      operations.rest(episode)
    end
  end
end

-- The first coroutine shakes hands; others wait for that, or begin at once and so shake hands themselves.
local function actor(episode, here, role, first)
  if first or episode.random:once_in(2) then shake(episode, here) end
  for _ = 1, episode.random:below(30) do
    operations[episode.random:one_of(role)](episode, here)
  end
end

-- The last coroutine of an end: it writes no more, and reads all there is.
local function finish(episode, here)
  while here.busy > 0 do operations.rest(episode) end
  here.conn:settimeout(episode.timeouts[1])
  shake(episode, here)
  local told = here.lost or not here.conn:handshake_done()
  for _ = 1, STEPS do
    told = told or operations.shutdown(episode, here) -- the other end may have to be read first
    if told and here.ended then return end
    local data, err
    if not here.ended then data, err = here.conn:recv(65536) end
    if data then
      check_bytes(here, "recv", data)
      here.read = here.read + #data
    elseif here.ended then
      operations.rest(episode)
    elseif not err then
      check_end(here, "recv")
    elseif not HARMLESS[check_error(episode, here, "recv", err).code] then
      return
    else
      operations.rest(episode)
    end
  end
end

-- ---- the world ----

local function resume(episode, task, ...)
  task.resumed = task.resumed + 1
  local ok, what = coroutine.resume(task.co, ...)
  if not ok then error(type(what) == "string" and debug.traceback(task.co, what) or what, 0) end
  task.conn = what ~= "rest" and what or nil
  if task.conn then episode.waits = episode.waits + 1 end
  if coroutine.status(task.co) == "dead" then
    task.over = true
    if not task.last then task.here.busy = task.here.busy - 1 end
  end
end

local function abandon(episode, task)
  episode.disturbed = true
  task.here.lost, task.over = true, true
  if not task.last then task.here.busy = task.here.busy - 1 end
  compat.close(task.co)
  task.co = nil
  collectgarbage()
end

local function disturb(episode, task)
  local kind = episode.random:below(4)
  episode.disturbed = true
  if kind == 1 then
    abandon(episode, task)
  elseif kind == 2 then
    task.here.shut = true
    task.here.conn:close()
  elseif task.conn then
    resume(episode, task, nil, episode.random:one_of { "stop", "timeout" })
  end
end

local function add(episode, here, fn, last)
  local task = { here = here, last = last, resumed = 0, fn = fn }
  task.co = not episode.loop and coroutine.create(fn) or nil
  table.insert(episode.tasks, task)
  if task.co then episode.tasks[task.co] = task end
  if not last then here.busy = here.busy + 1 end
end

local function people(episode, here)
  here.busy, here.read, here.stream = 0, 0, ""
  for i = 1, episode.random:below(3) do
    local role = ROLES[i]
    add(episode, here, function() actor(episode, here, role, i == 1) end)
  end
  add(episode, here, function() finish(episode, here) end, true)
end

-- A hook that waits now and then, and fails where the episode may be disturbed.
local function hook(episode, answer)
  return function(_, ...)
    for _ = 1, episode.random:below(3) - 1 do operations.rest(episode) end
    if episode.wild and episode.random:once_in(30) then
      episode.disturbed = true
      if episode.random:once_in(2) then error "a hook fails" end
      return nil
    end
    return answer(...)
  end
end

local function hooks(episode)
  if not episode.random:once_in(3) then return {} end
  local function yes() return true end
  return {
    on_client_hello = hook(episode, yes), on_server_name = hook(episode, yes), on_certificate = hook(episode, yes),
    on_alpn = hook(episode, function(offered) return offered[1] end),
  }
end

local function contexts(episode)
  local random = episode.random
  local version = random:one_of { "1.2", "1.3", "1.3" }
  local asks = random:once_in(3)
  episode.late = version == "1.3" and random:once_in(3)
  local server = helper.with(hooks(episode), { min_version = version, max_version = version })
  local client = {
    min_version = version, max_version = version, alpn = { "model" },
    certificate = helper.server_leaf.certificate, key = helper.server_leaf.key,
    post_handshake_auth = episode.late or nil,
    on_verify = random:once_in(3) and hook(episode, function(ok) return ok end) or nil,
  }
  if asks or episode.late then server.ca = helper.ca.certificate end
  if asks then server.verify_client = "require" end
  if random:once_in(2) then server.tickets = random:below(5) - 1 end
  return { client = helper.client_context(client), server = helper.server_context(server) }
end

local function transport(random)
  local all = helper.transports_in_use()
  return all[random:below(#all)]
end

-- What has to be so when everybody has gone.
local function check_rest(episode)
  if episode.disturbed then return end
  for _, here in ipairs { episode.client, episode.server } do
    if not here.ended then fail("the %s has not seen the end", here.name) end
    if here.read ~= #here.peer.stream then fail("the %s has not read everything", here.name) end
  end
end

-- The tasks that go on. An end that has none left closes.
local function living(episode)
  local list = {}
  episode.client.alive, episode.server.alive = false, false
  for _, task in ipairs(episode.tasks) do
    if not task.over then list[#list + 1], task.here.alive = task, true end
  end
  for _, here in ipairs { episode.client, episode.server } do
    if not here.alive then
      here.shut = true
      here.conn:close()
    end
  end
  return list
end

local function who_is_stuck(episode)
  local lines = {}
  for _, task in ipairs(living(episode)) do lines[#lines + 1] = debug.traceback(task.co, task.here.name) end
  return table.concat(lines, "\n")
end

-- Under the raw yields: coroutines are resumed in any order, also when there is nothing to be had.
local function by_hand(episode, pump)
  local random = episode.random
  for step = 1, STEPS do
    local tasks = living(episode)
    if #tasks == 0 then return end
    if step == STEPS then fail("somebody is stuck:\n%s", who_is_stuck(episode)) end
    local task = random:one_of(tasks)
    if episode.wild and random:once_in(300) then
      disturb(episode, task)
    elseif task.conn and random:once_in(30) then -- or all could wait for each other
      resume(episode, task, nil, "timeout")
    elseif random:once_in(2) then
      resume(episode, task, true)
    else
      resume(episode, task)
    end
    if pump then
      for _ = 1, random:below(300) do pump() end
    end
  end
end

-- Under cotls.luv, whose order is the system's.
local function by_loop(episode, pump)
  local function begin(task)
    task.co = coroutine.running()
    episode.tasks[task.co] = task
    task.fn()
    task.over = true
    if not task.last then task.here.busy = task.here.busy - 1 end
  end
  luv.run(function()
    for _, task in ipairs(episode.tasks) do luv.spawn(begin, task) end
    local late = tls.now() + 20 * helper.slow
    while #living(episode) > 0 do
      if tls.now() > late then fail("somebody is stuck:\n%s", who_is_stuck(episode)) end
      for _ = 1, pump and 100 or 0 do pump() end
      luv.sleep(0.001)
    end
  end)
end

-- The loop as a scheduler, with a count of how often each coroutine has waited.
local function counting(episode)
  return {
    wait = function(conn, want, deadline)
      local task = episode.tasks[coroutine.running()]
      task.resumed, episode.waits = task.resumed + 1, episode.waits + 1
      return luv.wait(conn, want, deadline)
    end,
    release = luv.release,
    wake = luv.wake,
  }
end

local function run(seed)
  local random = Random.new(seed)
  local episode = { random = random, tasks = {}, waits = 0, loop = random:once_in(4) }
  episode.wild = not episode.loop and random:once_in(2)
  episode.timeouts = episode.loop and { 0.05, 0, 1e-9, 0.002 } or { 1e6, 0, 1e-9, 60 }
  local options = episode.loop and { scheduler = counting(episode), timeout = 0.05 } or nil
  local client, server, pump = helper.pair(transport(random), options, options, contexts(episode))
  episode.client = { conn = client, name = "client", verb = "connect" }
  episode.server = { conn = server, name = "server", verb = "accept" }
  episode.client.peer, episode.server.peer = episode.server, episode.client
  client:set_connect_state()
  server:set_accept_state()
  people(episode, episode.client)
  people(episode, episode.server)
  local drive = episode.loop and by_loop or by_hand
  drive(episode, pump)
  check_rest(episode)
  local stats = client:stats()
  client:close()
  server:close()
  if pump then pump() end
  return { bytes = stats.bytes_in + stats.bytes_out, waits = episode.waits, disturbed = episode.disturbed }
end

local model = { run = run }

--- Runs the seeds first .. first + count - 1; raises the first failure, with its seed.
function model.runs(first, count)
  local sum = { episodes = 0, bytes = 0, waits = 0, disturbed = 0 }
  for seed = first, first + count - 1 do
    local ok, result = xpcall(function() return run(seed) end, function(err)
      return type(err) == "string" and debug.traceback(err) or err
    end)
    if not ok then error(("make fuzz SEED=%d\n%s"):format(seed, tostring(result)), 0) end
    sum.episodes, sum.bytes, sum.waits = sum.episodes + 1, sum.bytes + result.bytes, sum.waits + result.waits
    sum.disturbed = sum.disturbed + (result.disturbed and 1 or 0)
  end
  return sum
end

return model
