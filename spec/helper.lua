-- SPDX-License-Identifier: MIT
-- What the specs share: certificates made in the process, transports of every width, a bounded scheduler of the
-- raw yields, child processes. Nothing here waits without a bound; COTLS_SLOW stretches the bounds.

local compat = require "cotls.compat"
local tls = require "cotls"
local core = require "cotls.core"
local uv = require "luv"
local streams = require "spec.streams"

local helper = {}

--- By how much time limits are stretched: 1, more under sanitizers and valgrind.
helper.slow = tonumber(os.getenv "COTLS_SLOW") or 1

--- The interpreter for child programs: a wrapper under the sanitizers.
helper.lua = os.getenv "LUA" or "lua5.4"

--- Collect garbage after each resume of `together`: true, or "step" for a step only.
helper.collect = false

-- ---- the collector ----

--- An object whose collection calls fn.
function helper.when_collected(fn)
  local newproxy = rawget(_G, "newproxy") -- the tables of Lua 5.1 have no finalizers
  if not newproxy then return setmetatable({}, { __gc = function() fn() end }) end
  local object = newproxy(true)
  getmetatable(object).__gc = function() fn() end
  return object
end

-- ---- certificates and contexts ----

helper.ca = assert(tls.make_certificate { subject = "CN=Test CA", is_ca = true })
helper.other_ca = assert(tls.make_certificate { subject = "CN=Other CA", is_ca = true })

--- A certificate of helper.ca, unless options.ca names another issuer (false: self-signed).
function helper.leaf(options)
  local wish = { subject = "CN=leaf", names = { "localhost", "127.0.0.1", "::1" }, ca = helper.ca }
  for name, value in pairs(options or {}) do wish[name] = value or nil end
  return assert(tls.make_certificate(wish))
end

helper.server_leaf = helper.leaf()

--- A new table of all that these have (nil has nothing); where several have it, the last one's.
function helper.with(...)
  local all = {}
  for i = 1, select("#", ...) do
    for name, value in pairs((select(i, ...)) or {}) do all[name] = value end
  end
  return all
end

--- The list, with these behind what it has.
function helper.append(list, ...)
  for _, one in ipairs { ... } do list[#list + 1] = one end
  return list
end

--- What a hook of the specs does before it answers: it yields twice, and all garbage goes.
function helper.ponder()
  for _ = 1, 2 do
    coroutine.yield()
    collectgarbage()
  end
end

--- A server's context with helper.server_leaf, unless options give a certificate.
function helper.server_context(options)
  local defaults = { role = "server" }
  if not (options and options.certificate) then
    defaults.certificate, defaults.key = helper.server_leaf.certificate, helper.server_leaf.key
  end
  return assert(tls.context(helper.with(defaults, options)))
end

--- A client's context that trusts helper.ca, unless options say what it trusts.
function helper.client_context(options)
  local defaults = {}
  if not (options and (options.ca or options.insecure)) then defaults.ca = helper.ca.certificate end
  return assert(tls.context(helper.with(defaults, options)))
end

local made = {}

--- { client =, server = }: contexts of one protocol version ("1.2", "1.3", nil: both), made once.
function helper.contexts(version)
  local key = version or "any"
  if not made[key] then
    local options = { min_version = version, max_version = version }
    made[key] = { client = helper.client_context(options), server = helper.server_context(options) }
  end
  return made[key]
end

--- { client =, server = }: of which the client doesn't trust the server.
function helper.strangers()
  return { client = helper.client_context { ca = helper.other_ca.certificate }, server = helper.contexts().server }
end

-- ---- descriptors ----

-- A relay may write to an end that is closed; libuv's handler keeps SIGPIPE from ending the process.
local sigpipe = uv.new_signal()
sigpipe:start("sigpipe")
sigpipe:unref()

function helper.close_fd(fd)
  return assert(uv.fs_close(fd))
end

-- Every handle that is closing gets its turn of libuv's loop, unless that runs already.
local function turn()
  local luv = package.loaded["cotls.luv"]
  if not luv or tls.scheduler ~= luv then uv.run("nowait") end
end

--- The descriptor with the smallest send buffer that the system allows: an object with getfd and close. libuv has
-- the system call, for handles; a handle that is still closing when the Lua state ends would crash it.
local function shrink(fd)
  local pipe = uv.new_pipe(false)
  assert(pipe:open(fd))
  assert(uv.send_buffer_size(pipe, 1))
  return {
    getfd = function() return fd end,
    close = function()
      if not pipe:is_closing() then pipe:close() end
      turn()
    end,
  }
end

--- Two connected stream sockets, the caller's; with `small` as objects with small send buffers.
function helper.socketpair(small)
  local fds = assert(uv.socketpair("stream", nil, { nonblock = true }, { nonblock = true }))
  if not small then return fds[1], fds[2] end
  return shrink(fds[1]), shrink(fds[2])
end

--- Reads what is there from a descriptor: bytes, "" at the end; nil, the error's name ("EAGAIN": nothing yet).
function helper.read_fd(fd, max)
  local data, _, name = uv.fs_read(fd, max or 65536, -1)
  if data then return data end
  return nil, name
end

--- Writes to a descriptor: how many bytes it took; nil, the error's name.
function helper.write_fd(fd, data)
  local n, _, name = uv.fs_write(fd, data, -1)
  if n then return n end
  return nil, name
end

--- How many descriptors the process has open. (luv leaks a little at each uv.fs_scandir.)
function helper.count_fds()
  local n = 0
  for fd = 0, 4095 do
    if uv.fs_fstat(fd) then n = n + 1 end
  end
  return n
end

--- The same once all garbage has gone: some of it only lets other garbage go.
function helper.settled_fds()
  for _ = 1, 4 do collectgarbage() end
  return helper.count_fds()
end

--- Resident memory in bytes.
function helper.resident()
  local handle = assert(io.open("/proc/self/statm"))
  local pages = tonumber(handle:read("*a"):match("^%d+ (%d+)"))
  handle:close()
  return pages * 4096
end

-- ---- the relay ----

local Relay = {}
Relay.__index = Relay

-- One direction: at most `width` bytes from one descriptor to the other.
local function pass(relay, way)
  if way.closed then return end
  if way.pending == "" then
    local width = math.min(relay.width, (way.cut or math.huge) - way.passed)
    local data, name
    if width > 0 then data, name = helper.read_fd(way.from, width) end
    if data == "" or (name and name ~= "EAGAIN") then way.ended = true end
    way.pending = data or ""
  end
  if way.pending ~= "" then
    local n, name = helper.write_fd(way.to, way.pending)
    if n then
      way.pending = way.pending:sub(n + 1)
      way.passed = way.passed + n
      relay.passed = relay.passed + n
    elseif name ~= "EAGAIN" then
      way.pending, way.closed = "", true
    end
  end
end

--- Passes on at most the relay's width in each direction. At the end of one side, when its bytes are delivered, or
-- at the cut, it closes.
-- @return are the ends still open?
function Relay:pump()
  if self.closed then return false end
  for _, way in ipairs { self.up, self.down } do
    pass(self, way)
    if way.ended or (way.cut and way.passed >= way.cut) then
      self:close()
      return false
    end
  end
  return true
end

--- Closes once `count` bytes have passed "up" (from the first end to the second) or "down".
function Relay:cut(count, direction)
  self[direction or "up"].cut = count
  return self
end

--- Closes both of its own descriptors. What arrived unread is read first: a socket closed over it would give the
-- other side a reset instead of an end.
function Relay:close()
  if self.closed then return end
  self.closed = true
  for _, way in ipairs { self.up, self.down } do
    local data
    repeat data = helper.read_fd(way.from) until not data or data == ""
  end
  helper.close_fd(self.up.from)
  helper.close_fd(self.down.from)
end

--- Two ends joined by a relay that passes on at most `width` bytes per direction and pump(); with `small` the
-- ends are objects with small send buffers.
function helper.relay(width, small)
  local a, near = helper.socketpair()
  local b, far = helper.socketpair()
  local relay = setmetatable({ width = width, passed = 0 }, Relay)
  relay.up = { from = near, to = far, pending = "", passed = 0 }
  relay.down = { from = far, to = near, pending = "", passed = 0 }
  relay.sentinel = helper.when_collected(function() relay:close() end)
  if small then a, b = shrink(a), shrink(b) end
  return a, b, relay
end

-- ---- transports ----

local function tcp()
  local listener = assert(core.listen_socket("127.0.0.1", 0))
  local address, port = listener:address()
  local client = assert(core.connect_socket(address, port))
  local server
  local deadline = tls.now() + 5 * helper.slow
  repeat server = listener:accept() until server or tls.now() > deadline
  listener:close()
  assert(server, "no TCP connection on the loopback")
  repeat until client:finish() or tls.now() > deadline
  return client, server
end

local function over_relay(width, small)
  return function()
    local a, b, relay = helper.relay(width, small)
    return a, b, function() return relay:pump() end, function() relay:close() end, relay
  end
end

local function stream()
  local a, b = helper.socketpair()
  return streams.over_fd(helper, a), streams.over_fd(helper, b)
end

local function over_pipes(size)
  return function() return streams.relayed(size) end
end

local function over_tls()
  return streams.tunnels(helper, nil, 1)
end

--- make() → the client's transport, the server's, pump or nil, close or nil, the relay if there is one.
helper.transports = {
  { name = "a socketpair", make = function() return helper.socketpair() end },
  { name = "small buffers", make = function() return helper.socketpair(true) end },
  { name = "a relay of 1 byte", make = over_relay(1), width = 1 },
  { name = "a relay of 64 bytes", make = over_relay(64), width = 64 },
  { name = "a relay of 512 bytes, small buffers", make = over_relay(512, true), width = 512 },
  { name = "a relay of 17000 bytes", make = over_relay(17000), width = 17000 },
  { name = "TCP", make = tcp },
  { name = "a stream", make = stream },
  { name = "pipes of 64 bytes", make = over_pipes(64), width = 64 },
  { name = "pipes of 512 bytes", make = over_pipes(512), width = 512 },
  { name = "pipes of 17000 bytes", make = over_pipes(17000), width = 17000 },
  { name = "TLS", make = over_tls },
}

--- The transports that a spec's body is repeated over: under valgrind three of them, else all.
function helper.transports_in_use()
  if helper.slow < 10 then return helper.transports end
  return { helper.transports[1], helper.transports[5], helper.transports[10] }
end

--- The same for a body that has been repeated over all elsewhere in the main: one of each kind.
function helper.some_transports()
  local some = {}
  if helper.slow >= 10 then return helper.transports_in_use() end
  for _, i in ipairs { 1, 3, 5, 9, 12 } do some[#some + 1] = helper.transports[i] end
  return some
end

local function find_transport(wanted)
  if type(wanted) == "table" then return wanted end
  for _, transport in ipairs(helper.transports) do
    if transport.name == (wanted or "a socketpair") then return transport end
  end
  error("no transport is called " .. tostring(wanted), 3)
end

--- Two connections that are not handshaken yet.
-- @param transport one of helper.transports, its name, or nil: a socketpair
-- @param contexts { client =, server = }, default helper.contexts()
-- @return client, server, pump (a function or nil), relay (or nil)
function helper.pair(transport, client_options, server_options, contexts)
  contexts = contexts or helper.contexts()
  local a, b, pump, _, relay = find_transport(transport).make()
  local client = assert(contexts.client:wrap(a, helper.with({ server_name = "localhost" }, client_options)))
  local server = assert(contexts.server:wrap(b, server_options))
  return client, server, pump, relay
end

--- The same after the handshake.
function helper.handshaken(...)
  local client, server, pump, relay = helper.pair(...)
  helper.shake(client, server, pump)
  return client, server, pump, relay
end

-- ---- coroutines under the raw yields ----

local STUCK = 2 -- seconds without any progress
local NEAR = 5 -- a deadline further away is not waited for: the handshake's own would take a minute

local function bytes_moved(conns)
  local sum = 0
  for conn in pairs(conns) do
    local stats = conn.moved and { bytes_in = conn.moved, bytes_out = 0 } or conn:stats() -- a pipe, a connection
    sum = sum + stats.bytes_in + stats.bytes_out
  end
  return sum
end

local function who_waits(tasks)
  local lines = {}
  for i, task in ipairs(tasks) do
    if not task.results then
      lines[#lines + 1] = ("%d waits to %s on %s\n%s"):format(i, tostring(task.want), tostring(task.conn),
        debug.traceback(task.co))
    end
  end
  return table.concat(lines, "\n")
end

local function step(task, conns)
  local got = compat.pack(coroutine.resume(task.co))
  if not got[1] then
    local err = got[2]
    error(type(err) == "string" and debug.traceback(task.co, err) or err, 0)
  end
  if coroutine.status(task.co) == "dead" then
    task.results = compat.pack(compat.unpack(got, 2, got.n))
    return true
  end
  task.conn, task.want, task.deadline = got[2], got[3], got[4]
  if type(task.conn) == "userdata" and task.conn.stats or type(task.conn) == "table" and task.conn.moved then
    conns[task.conn] = true
  end
  return false
end

local function collect()
  if helper.collect == "step" then
    collectgarbage("step", 100)
  elseif helper.collect then
    collectgarbage()
  end
end

-- The last near deadline that somebody waits for, or 0.
local function last_deadline(tasks)
  local last, near = 0, tls.now() + NEAR
  for _, task in ipairs(tasks) do
    if not task.results and task.deadline and task.deadline < near then last = math.max(last, task.deadline) end
  end
  return last
end

--- Runs functions as coroutines, in turn, until all have returned; every yield is a wait and is simply tried
-- again. An error in one is raised, with its traceback. A hang is an error that says who waits for what.
-- @param pump called in every round, or nil
-- @return a list of compat.pack'ed results
function helper.together(fns, pump)
  local tasks, conns, left = {}, setmetatable({}, { __mode = "k" }), #fns
  for i, fn in ipairs(fns) do tasks[i] = { co = coroutine.create(fn) } end
  local round, moved, bound = 0, -1, math.huge
  while left > 0 do
    for _, task in ipairs(tasks) do
      if not task.results and step(task, conns) then
        left = left - 1
        moved = -1
      end
      collect()
    end
    if pump then pump() end
    round = round + 1
    if round % 64 == 0 or moved < 0 then
      local sum = bytes_moved(conns)
      if sum ~= moved then
        moved, bound = sum, tls.now() + STUCK * helper.slow
      elseif tls.now() > math.max(bound, last_deadline(tasks) + STUCK * helper.slow) then
        error("a hang:\n" .. who_waits(tasks), 2)
      end
    end
  end
  local all = {}
  for i, task in ipairs(tasks) do all[i] = task.results end
  return all
end

--- A handshake that must go well.
function helper.shake(client, server, pump)
  helper.together({ function() assert(client:connect()) end, function() assert(server:accept()) end }, pump)
end

--- A handshake, then a byte for the client: on TLS 1.3 it learns with that what the server thinks of it.
-- @return the client's results, the server's: lists of ok, err
function helper.greet(client, server, pump)
  return compat.unpack(helper.together({
    function()
      local ok, err = client:connect()
      if ok then ok, err = client:recv(1) end
      return ok, err
    end,
    function()
      local ok, err = server:accept()
      if ok then ok, err = server:write("x") end
      return ok, err
    end,
  }, pump))
end

--- A handshake, then the client's end for the server, which learns with it on TLS 1.3 what the client thinks of it.
-- @return the client's results, the server's: lists of ok, err
function helper.meet(client, server, pump)
  return compat.unpack(helper.together({
    function()
      local ok, err = client:connect()
      if ok then client:shutdown("write") end
      return ok, err
    end,
    function()
      local ok, err = server:accept()
      if ok then ok, err = server:read(1) end
      return ok, err
    end,
  }, pump))
end

-- Can an iterator of `for` yield? Not in Lua 5.1.
local for_yields = coroutine.wrap(function()
  for one in coroutine.yield, "yielded" do
    if one then return end
  end
end)
for_yields = select(2, pcall(for_yields)) == "yielded"

--- for one, two in iterator do fn(one, two) end, until fn gives true; it may yield on every Lua.
function helper.each(iterator, fn)
  if for_yields then
    for one, two in iterator do
      if fn(one, two) then return end
    end
    return
  end
  local one, two = iterator()
  while one and not fn(one, two) do one, two = iterator() end
end

--- Asks done() again and again, for at most so many seconds (default 5); what names it in the error.
function helper.until_true(done, what, seconds)
  local deadline = tls.now() + (seconds or 5) * helper.slow
  repeat
    if done() then return true end
  until tls.now() > deadline
  error("never came: " .. tostring(what or "what was waited for"), 2)
end

-- ---- files ----

local folder
local sentinel -- removes the folder when the helper goes

--- A new folder, removed at the end.
function helper.temp_dir()
  if not folder then
    folder = assert(uv.fs_mkdtemp((os.getenv "TMPDIR" or "/tmp") .. "/cotls-spec-XXXXXX"))
    sentinel = helper.when_collected(function() os.execute("rm -rf '" .. folder .. "'") end)
  end
  return assert(uv.fs_mkdtemp(folder .. "/XXXXXX")), sentinel
end

--- A new file with that content, removed at the end.
function helper.temp_file(content)
  local path = helper.temp_dir() .. "/file"
  local handle = assert(io.open(path, "wb"))
  assert(handle:write(content or ""))
  handle:close()
  return path
end

--- A file's content.
function helper.read_file(path)
  local handle = assert(io.open(path, "rb"))
  local content = handle:read("*a")
  handle:close()
  return content
end

--- What other programs are given: paths of ca, cert and key (of helper.server_leaf), and of <name>_cert and
-- <name>_key for each of these certificates (name → what tls.make_certificate gives).
function helper.files(more)
  local files = {
    ca = helper.temp_file(helper.ca.certificate),
    cert = helper.temp_file(helper.server_leaf.certificate),
    key = helper.temp_file(helper.server_leaf.key),
  }
  for name, one in pairs(more or {}) do
    files[name .. "_cert"], files[name .. "_key"] = helper.temp_file(one.certificate), helper.temp_file(one.key)
  end
  return files
end

--- A port of the loopback that was free a moment ago.
function helper.free_port()
  local socket = assert(core.listen_socket("127.0.0.1", 0))
  local _, port = socket:address()
  socket:close()
  return port
end

-- ---- the embedded loop ----

--- Runs fn under cotls.luv.run; an error if that takes longer than so many seconds (default 10).
-- @return what fn returns
function helper.in_loop(fn, seconds)
  local luv = require "cotls.luv"
  local timer, late, finished = uv.new_timer(), false, false
  local main
  uv.update_time() -- libuv's clock stands still between loops
  timer:start(math.ceil((seconds or 10) * helper.slow * 1000), 0, function()
    late = true
    luv.stop()
  end)
  timer:unref()
  local results = compat.pack(pcall(luv.run, function()
    main = compat.running()
    local got = compat.pack(fn())
    finished = true
    return compat.unpack(got, 1, got.n)
  end))
  timer:close()
  turn()
  if late then error("in_loop: it takes too long\n" .. (main and debug.traceback(main) or ""), 2) end
  if not results[1] then error(results[2], 0) end
  if not finished and not (results[2] == nil and results[3] == "interrupted") then
    error("in_loop: the loop ended, fn did not\n" .. (main and debug.traceback(main) or ""), 2)
  end
  return compat.unpack(results, 2, results.n)
end

-- ---- any scheduler ----

--- Two handshaken connections over a socketpair, made while the scheduler runs.
-- @return client, server
function helper.handshaken_under(scheduler, version, client_options, server_options)
  local client, server = helper.pair(nil, client_options, server_options, helper.contexts(version))
  local accepted
  scheduler.spawn(function()
    assert(server:accept())
    accepted = true
  end)
  assert(client:connect())
  while not accepted do scheduler.sleep(0.001) end
  return client, server
end

--- Five runs of a scheduler, each stopped while two coroutines wait; then all garbage goes.
function helper.stop_in_mid_wait(scheduler)
  for _ = 1, 5 do
    scheduler.run(function()
      local a, b = helper.handshaken_under(scheduler, "1.2")
      scheduler.spawn(function() a:read(1) end)
      scheduler.spawn(function() b:read(1) end)
      scheduler.sleep(0.001)
      scheduler.stop()
    end)
  end
  for _ = 1, 4 do collectgarbage() end
end

-- ---- child processes ----

local Child = {}
Child.__index = Child

-- Lets libuv's loop work for a moment, whether or not it is cotls.luv's.
local function work()
  local luv = require "cotls.luv"
  if tls.scheduler == luv then
    luv.sleep(0.005)
  else
    local timer = uv.new_timer()
    timer:start(20, 0, function() end)
    uv.run("once")
    timer:close()
  end
end

local function wait_until(done, seconds)
  local deadline = tls.now() + seconds * helper.slow
  while not done() do
    if tls.now() > deadline then return false end
    work()
  end
  return true
end

-- Everything but LD_PRELOAD: other programs are not to run under our sanitizers.
local function environment(extra)
  local list, all = {}, uv.os_environ()
  all.LD_PRELOAD = nil
  for name, value in pairs(extra or {}) do all[name] = value or nil end
  for name, value in pairs(all) do list[#list + 1] = name .. "=" .. value end
  return list
end

local function collect_output(child, name, pipe)
  pipe:read_start(function(_, data)
    if data then
      child[name] = child[name] .. data
    else
      child.open = child.open - 1
      if not pipe:is_closing() then pipe:close() end
    end
  end)
end

--- Starts a program. options: stdin (text, then its end; default: an open pipe), env (name → value, false removes),
-- cwd.
-- @return a child: stdout and stderr (what came so far), status (once it ended)
function helper.start(argv, options)
  options = options or {}
  local child = setmetatable({ argv = argv, stdout = "", stderr = "", open = 2 }, Child)
  local input, output, errors = uv.new_pipe(false), uv.new_pipe(false), uv.new_pipe(false)
  local reason
  child.handle, reason = uv.spawn(argv[1], {
    args = compat.move(argv, 2, #argv, 1, {}),
    stdio = { input, output, errors },
    env = environment(options.env),
    cwd = options.cwd,
  }, function(code, signal)
    child.status = signal ~= 0 and 128 + signal or code
    child.handle:close()
  end)
  if not child.handle then
    for _, pipe in ipairs { input, output, errors } do pipe:close() end
    turn()
    error(("%s: %s"):format(argv[1], tostring(reason)), 2)
  end
  child.pid, child.input = reason, input
  collect_output(child, "stdout", output)
  collect_output(child, "stderr", errors)
  if options.stdin then
    input:write(options.stdin)
    child:close_input()
  end
  return child
end

--- Writes to its standard input.
function Child:write(data)
  self.input:write(data)
end

--- Ends its standard input, after what was written.
function Child:close_input()
  if self.input_closed then return end
  self.input_closed = true
  self.input:shutdown(function()
    if not self.input:is_closing() then self.input:close() end
  end)
end

--- Waits until its output (standard, or else error) has the pattern; an error if it ends or takes too long.
-- @return the pattern's captures
function Child:wait_for(pattern, seconds)
  local found
  wait_until(function()
    found = compat.pack(self.stdout:match(pattern))
    if found[1] == nil then found = compat.pack(self.stderr:match(pattern)) end
    return found[1] ~= nil or (self.status and self.open == 0)
  end, seconds or 10)
  if found[1] ~= nil then return compat.unpack(found, 1, found.n) end
  error(("%s: no %q in its output (status %s):\n%s\n%s"):format(self.argv[1], pattern, tostring(self.status),
    self.stdout, self.stderr), 2)
end

--- Waits for its end.
-- @return its status, 128 and more after a signal; nil when it takes too long
function Child:wait(seconds)
  wait_until(function() return self.status and self.open == 0 end, seconds or 10)
  return self.open == 0 and self.status or nil
end

--- Sends a signal, by pid.
function Child:kill(signal)
  if not self.status then uv.kill(self.pid, signal or "sigterm") end
end

--- Ends it: by its end of input and SIGTERM, then by SIGKILL.
function Child:stop()
  if not self.status then self:close_input() end
  self:kill("sigterm")
  if not wait_until(function() return self.status ~= nil end, 5) then self:kill("sigkill") end
  wait_until(function() return self.status and self.open == 0 end, 5)
  if not self.input:is_closing() then self.input:close() end
  turn()
  return self.status
end

--- Runs a program to its end, for at most options.seconds (default 30).
-- @return status, standard output, standard error
function helper.run(argv, stdin, options)
  options = helper.with({ stdin = stdin or "" }, options)
  local child = helper.start(argv, { stdin = options.stdin, env = options.env, cwd = options.cwd })
  local status = child:wait(options.seconds or 30)
  child:stop()
  if not status then
    error(("%s: takes too long:\n%s\n%s"):format(table.concat(argv, " "), child.stdout, child.stderr), 2)
  end
  return status, child.stdout, child.stderr
end

--- Environment for a program that ends with its state open: LeakSanitizer can't see into LuaJIT's memory, so that
-- what only that holds looks lost.
helper.ends_open = rawget(_G, "jit") and { ASAN_OPTIONS = "detect_leaks=0" } or {}

--- Runs openssl, which must succeed.
-- @return its standard output
function helper.openssl(argv, input)
  local status, out, err = helper.run({ "openssl", compat.unpack(argv) }, input)
  if status ~= 0 then error(("openssl %s: %s"):format(table.concat(argv, " "), err), 2) end
  return out
end

--- What openssl s_client, with these options more, sees of a server's context, without a client's certificate.
-- @return the certificates that were sent, a list of PEM texts; OpenSSL's verdict on them, a number; all it has said
function helper.visit(context, ...)
  local argv, out = { ... }, nil
  helper.in_loop(function()
    local luv = require "cotls.luv"
    local listener = assert(tls.listen("127.0.0.1", 0, { context = context }))
    luv.spawn(function()
      local conn = listener()
      listener:close()
      if conn:accept() then conn:shutdown() end
      conn:close()
    end)
    local command = { "openssl", "s_client", "-connect", "127.0.0.1:" .. listener:port(), "-servername", "localhost",
      "-CAfile", helper.temp_file(helper.ca.certificate), "-showcerts" }
    compat.move(argv, 1, #argv, #command + 1, command)
    local _
    _, out = helper.run(command)
  end)
  local sent = {}
  for pem in out:gmatch("%-%-%-%-%-BEGIN CERTIFICATE%-%-%-%-%-.-%-%-%-%-%-END CERTIFICATE%-%-%-%-%-\n") do
    sent[#sent + 1] = pem
  end
  return sent, tonumber(out:match("Verify return code: (%d+)")), out
end

--- Is it a refusal that names the option and has all of these texts? tls.context's results come last.
function helper.assert_refused(option, texts, value, err)
  assert(value == nil, "it is not refused")
  assert(tls.is_error(err) and err.code == "config", tostring(err))
  assert(err.reason:sub(1, #option + 2) == option .. ": ", err.reason)
  for _, text in ipairs(texts) do
    assert(err.reason:find(text, 1, true), err.reason .. "\nwithout: " .. text)
  end
  assert(not tostring(err):find("\n", 1, true), "it is more than a line")
end

--- The code of a failure: what a call that must fail gave.
function helper.code_of(ok, err)
  assert(ok == nil, "it did not fail")
  assert(tls.is_error(err), "not an error object: " .. tostring(err))
  return err.code
end

-- Park's and Miller's next number: from 1 to 2147483646, exact in floats too.
local function next_state(state)
  return state * 16807 % 2147483647
end

--- A source of numbers that are the same wherever a spec runs: random(n) is from 1 to n.
function helper.random(seed)
  local state = seed % 2147483646 + 1
  return function(n)
    state = next_state(state)
    return math.floor(state / 256) % n + 1
  end
end

local function random_bytes(n, state)
  local parts, char = {}, string.char
  for i = 1, n / 3 + 1 do
    state = next_state(state)
    local low = state % 256
    local rest = (state - low) / 256
    local middle = rest % 256
    parts[i] = char(low, middle, (rest - middle) / 256 % 256)
  end
  return table.concat(parts):sub(1, n)
end

local CHUNK, CHUNKS = 61, 1024
local chunks

--- n bytes without a pattern that a wrong offset could hide in; others for another seed. Many are put together of
-- chunks at random, which is faster.
function helper.noise(n, seed)
  local state = ((seed or 0) * 7919 + n) % 2147483646 + 1
  if n < 4096 then return random_bytes(n, state) end
  if not chunks then
    local all = random_bytes(CHUNK * CHUNKS, 1)
    chunks = {}
    for i = 1, CHUNKS do chunks[i] = all:sub((i - 1) * CHUNK + 1, i * CHUNK) end
  end
  local parts = {}
  for i = 1, n / CHUNK + 1 do
    state = next_state(state)
    parts[i] = chunks[state % CHUNKS + 1]
  end
  return table.concat(parts):sub(1, n)
end

return helper
