local compat = require "cotls.compat"
local tls = require "cotls"
local core = require "cotls.core"
local net = require "cotls.net"
local luv = require "cotls.luv"
local uv = require "luv"
local helper = require "spec.helper"

local in_loop = helper.in_loop

-- Two handshaken connections, made under the loop. TLS 1.2 sends nothing after the handshake.
local function pair(version, client_options, server_options)
  return helper.handshaken_under(luv, version or "1.2", client_options, server_options)
end

local function close_both(a, b)
  a:close()
  b:close()
end

-- How many handles of a kind libuv has; with `active` those that are started.
local function handles(kind, active)
  local n = 0
  uv.walk(function(handle)
    local is_it = uv.handle_get_type(handle) == kind and not uv.is_closing(handle)
    if is_it and (not active or uv.is_active(handle) and uv.has_ref(handle)) then n = n + 1 end
  end)
  return n
end

-- How many descriptors are in the process's epoll sets.
local function watched()
  local n = 0
  local scan = uv.fs_scandir("/proc/self/fd")
  while scan do
    local fd = uv.fs_scandir_next(scan)
    if not fd then break end
    if (uv.fs_readlink("/proc/self/fd/" .. fd) or ""):find("eventpoll", 1, true) then
      local info = assert(io.open("/proc/self/fdinfo/" .. fd))
      n = n + select(2, info:read("*a"):gsub("tfd:", ""))
      info:close()
    end
  end
  return n
end

-- How often the loop turns while fn runs.
local function turns(fn)
  local prepare, n = uv.new_prepare(), 0
  prepare:start(function() n = n + 1 end)
  fn()
  prepare:close()
  return n
end

-- A coroutine that waits by that function and then sleeps; a function that looks whether it slept long enough.
local function wait_and_sleep(wait, ...)
  local slept
  local co = luv.spawn(function(...)
    wait(...)
    local started = tls.now()
    luv.sleep(0.1)
    slept = tls.now() - started
  end, ...)
  return co, function() assert.is_true(slept >= 0.099, "slept " .. tostring(slept)) end
end

-- A program of the interpreter in a process of its own, ended with the test.
local function program(text)
  local child = helper.start { helper.lua, helper.temp_file(text) }
  finally(function() child:stop() end)
  return child
end

-- A run that doesn't end is a failure, not a hang.
local watchdog, late

before_each(function()
  watchdog, late = uv.new_timer(), false
  watchdog:start(30000 * helper.slow, 0, function()
    late = true
    luv.stop()
  end)
  watchdog:unref()
end)

after_each(function()
  watchdog:close()
  uv.run("nowait")
  assert.is_false(late, "the loop did not end")
end)

describe("luv.run", function()
  it("passes arguments and gives all results", function()
    local got = compat.pack(luv.run(function(...) return select("#", ...), nil, ... end, "a", nil))
    assert.same({ n = 4, 2, nil, "a", nil }, got)
    assert.equal(0, select("#", luv.run(function() end)))
  end)

  it("gives main's results when main ends after waiting, and others still run", function()
    local order = {}
    local result = luv.run(function()
      luv.spawn(function()
        luv.sleep(0.03)
        order[#order + 1] = "spawned"
      end)
      luv.sleep(0.001)
      order[#order + 1] = "main"
      return "result"
    end)
    assert.equal("result", result)
    assert.same({ "main", "spawned" }, order)
  end)

  it("is the module's scheduler for its duration only", function()
    local other = { wait = function() end }
    tls.scheduler = other
    local inside = luv.run(function() return tls.scheduler end)
    local after = tls.scheduler
    local ok = pcall(luv.run, function() error("x") end)
    local after_failure = tls.scheduler
    tls.scheduler = nil
    assert.equal(luv, inside)
    assert.equal(other, after)
    assert.is_false(ok)
    assert.equal(other, after_failure)
  end)

  it("refuses to run inside itself, and what is no function", function()
    luv.run(function()
      local ok, err = pcall(luv.run, function() end)
      assert.is_false(ok)
      assert.matches("running already", err)
    end)
    for _, bad in ipairs { false, 1, "x", {} } do
      local ok, err = pcall(luv.run, bad)
      assert.is_false(ok)
      assert.matches("function expected", tostring(err))
    end
    assert.equal(7, luv.run(function() return 7 end)) -- nothing is left of the failures
  end)

  it("fails with the very error value of a spawned coroutine, at once", function()
    local value = setmetatable({}, { __tostring = function() return "mine" end })
    local started = tls.now()
    local ok, err = pcall(luv.run, function()
      luv.spawn(function()
        luv.sleep(0.001)
        error(value)
      end)
      luv.sleep(20)
    end)
    assert.is_false(ok)
    assert.equal(value, err)
    assert.is_true(tls.now() - started < 10)
  end)

  it("fails when a spawned coroutine fails before it waits", function()
    local after
    local ok, err = pcall(luv.run, function()
      luv.spawn(function() error("early") end)
      after = true
      luv.sleep(20)
    end)
    assert.is_false(ok)
    assert.matches("early", err)
    assert.is_true(after)
  end)

  it("tells on_error instead, and goes on", function()
    local told
    local result = luv.run {
      on_error = function(err, traceback) told = { err, traceback } end,
      main = function()
        luv.spawn(function()
          local function the_culprit() error("on purpose") end
          luv.sleep(0.001)
          the_culprit()
        end)
        luv.sleep(0.02)
        return "went on"
      end,
    }
    assert.equal("went on", result)
    assert.matches("on purpose", told[1])
    assert.matches("the_culprit", told[2])
  end)

  it("fails with the error of on_error", function()
    local ok, err = pcall(luv.run, {
      on_error = function() error("worse") end,
      main = function()
        luv.spawn(error, "bad")
        luv.sleep(20)
      end,
    })
    assert.is_false(ok)
    assert.matches("worse", err)
  end)

  it("can be told to leave Ctrl-C alone", function()
    local before = handles("signal")
    luv.run(function() assert.equal(before + 1, handles("signal")) end)
    luv.run { signals = false, main = function() assert.equal(before, handles("signal")) end }
    assert.equal(before, handles("signal"))
  end)
end)

describe("luv.spawn, sleep, stop", function()
  it("a spawned coroutine runs until it waits, then its maker goes on", function()
    local order = {}
    in_loop(function()
      local co = luv.spawn(function(a, b)
        order[#order + 1] = a .. b
        luv.sleep(0.001)
        order[#order + 1] = "later"
      end, "x", "y")
      assert.equal("thread", type(co))
      order[#order + 1] = "maker"
    end)
    assert.same({ "xy", "maker", "later" }, order)
  end)

  it("sleepers wake in the order of their deadlines, not of their calls", function()
    local order = {}
    in_loop(function()
      for _, ms in ipairs { 30, 10, 50, 20, 40, 0, 10 } do
        luv.spawn(function()
          luv.sleep(ms / 1000)
          order[#order + 1] = ms
        end)
      end
    end)
    assert.same({ 0, 10, 10, 20, 30, 40, 50 }, order)
  end)

  it("sleeps as long as it is told, and not less", function()
    in_loop(function()
      local started = tls.now()
      luv.sleep(0.05)
      assert.is_true(tls.now() - started >= 0.049)
      luv.sleep(-1)
      luv.sleep(0)
    end)
  end)

  it("many deadlines at once come in order", function()
    local woken, sorted = {}, true
    local slowest = 0 -- between a look at the clock and the next: so much later a deadline may be than it was meant
    in_loop(function()
      local last = tls.now()
      for i = 1, 300 do
        local after = (i * 7919 % 300) / 10000
        slowest, last = math.max(slowest, tls.now() - last), tls.now()
        luv.spawn(function()
          local due = tls.now() + after
          luv.sleep(after)
          woken[#woken + 1] = due
        end)
      end
    end)
    for i = 2, #woken do sorted = sorted and woken[i - 1] <= woken[i] + 0.002 + slowest end
    assert.equal(300, #woken)
    assert.is_true(sorted)
  end)

  it("stop ends run although others wait", function()
    local after
    local started = tls.now()
    luv.run(function()
      luv.spawn(function() luv.sleep(30) after = true end)
      luv.stop()
      luv.sleep(30)
      after = true
    end)
    assert.is_nil(after)
    assert.is_true(tls.now() - started < 10)
    luv.stop() -- without a run: nothing
    assert.equal(1, luv.run(function() return 1 end))
  end)

  it("raise outside of run, and on wrong arguments", function()
    for _, name in ipairs { "spawn", "sleep", "connect" } do
      local ok, err = pcall(luv[name], name == "spawn" and print or 0, 1)
      assert.is_false(ok)
      assert.matches("cotls%.luv%." .. name .. ": call it under cotls%.luv%.run", err)
    end
    in_loop(function()
      for _, bad in ipairs { "x", {}, 0 / 0 } do
        local ok, err = pcall(luv.sleep, bad)
        assert.is_false(ok)
        assert.matches("number of seconds", err)
      end
      assert.is_false(pcall(luv.spawn))
      assert.is_false(pcall(luv.spawn, 1))
    end)
  end)
end)

describe("waiting in the loop", function()
  it("there is a timer only while there is a deadline", function()
    in_loop(function()
      local a, b = pair(nil, { handshake_timeout = false }, { handshake_timeout = false })
      while handles("timer", true) > 0 do luv.sleep(0) end -- those of the handshake
      local reader = luv.spawn(function() return b:read(1) end)
      assert.equal(0, handles("timer", true))
      luv.spawn(function() luv.sleep(0.01) end)
      assert.equal(1, handles("timer", true))
      luv.sleep(0.02)
      assert.equal(0, handles("timer", true))
      assert(a:write("x"))
      luv.sleep(0.01)
      assert.equal("dead", coroutine.status(reader))
      close_both(a, b)
    end)
  end)

  it("each wait has its own deadline", function()
    in_loop(function()
      local a, b = pair()
      local order = {}
      for i, seconds in ipairs { 0.09, 0.02, 0.05 } do
        luv.spawn(function()
          local ok, why = luv.wait(a, "read", tls.now() + seconds)
          order[#order + 1] = i
          assert.is_nil(ok)
          assert.equal("timeout", why)
        end)
      end
      luv.sleep(0.15)
      assert.same({ 2, 3, 1 }, order)
      close_both(a, b)
    end)
  end)

  it("a wait without a deadline outlives another's on the same connection", function()
    in_loop(function()
      local a, b = pair()
      local got, timed
      luv.spawn(function() got = luv.wait(a, "read") end)
      luv.spawn(function() timed = select(2, luv.wait(a, "read", tls.now() + 0.02)) end)
      luv.sleep(0.06)
      assert.equal("timeout", timed)
      assert.is_nil(got)
      assert(b:write("x"))
      luv.sleep(0.02)
      assert.is_true(got)
      close_both(a, b)
    end)
  end)

  it("an operation's deadline counts from its start, whatever trickles in", function()
    in_loop(function()
      local a, b = pair(nil, { timeout = 0.1 })
      luv.spawn(function()
        for _ = 1, 20 do
          if not b:write(".") then break end
          luv.sleep(0.02)
        end
      end)
      local started = tls.now()
      local data, err = a:read(100)
      assert.is_nil(data)
      assert.equal("timeout", err.code)
      assert.is_true(tls.now() - started < 0.3 * helper.slow)
      assert.is_true(err.partial > 0)
      a:close()
    end)
  end)

  it("two waits of one connection for the same want are both woken", function()
    for _, want in ipairs { "read", "write" } do
      in_loop(function()
        local a, b = pair()
        local woken = 0
        for _ = 1, 3 do
          luv.spawn(function()
            assert.is_true(luv.wait(a, want))
            woken = woken + 1
          end)
        end
        assert(b:write("x"))
        luv.sleep(0.02)
        assert.equal(3, woken)
        close_both(a, b)
      end)
    end
  end)

  it("both directions wait at once", function()
    in_loop(function()
      local a, b = pair("1.3")
      local big = ("x"):rep(4 * 1024 * 1024)
      local got
      luv.spawn(function() got = a:read("l") end)
      local written
      luv.spawn(function() written = a:write(big) end)
      luv.sleep(0.01)
      assert.is_nil(written) -- the socket is full
      assert(b:write("hello\n"))
      luv.sleep(0.02)
      assert.equal("hello", got)
      assert.is_nil(written)
      assert.equal(#big, #b:read(#big))
      luv.sleep(0.01)
      assert.equal(a, written)
      close_both(a, b)
    end)
  end)

  it("a reader beside a writer that waits is not woken for the writer's events", function()
    in_loop(function()
      local a, b = pair()
      local reads, writes = 0, 0
      luv.spawn(function()
        luv.wait(a, "read")
        reads = reads + 1
      end)
      luv.spawn(function()
        luv.wait(a, "write")
        writes = writes + 1
      end)
      luv.sleep(0.02)
      assert.equal(0, reads)
      assert.equal(1, writes)
      close_both(a, b)
      luv.sleep(0.01)
    end)
  end)

  it("closing a connection wakes who waits on it with \"closed\", reader and writer", function()
    for _, version in ipairs { "1.2", "1.3" } do
      in_loop(function()
        local a, b = pair(version)
        local read_err, write_err
        luv.spawn(function() read_err = select(2, a:read(1)) end)
        luv.spawn(function() write_err = select(2, a:write(("x"):rep(8 * 1024 * 1024))) end)
        luv.sleep(0.02)
        assert.is_nil(read_err)
        assert.is_nil(write_err)
        a:close()
        assert.is_nil(read_err) -- close resumes nobody itself
        luv.sleep(0.01)
        assert.equal("closed", read_err.code)
        assert.equal("closed", write_err.code)
        b:close()
      end)
    end
  end)

  it("closing a connection in its handshake ends that with \"closed\"", function()
    in_loop(function()
      local client = helper.pair()
      local err
      luv.spawn(function() err = select(2, client:connect()) end)
      luv.sleep(0.01)
      client:close()
      luv.sleep(0.01)
      assert.equal("closed", err.code)
      assert.equal("connect", err.operation)
    end)
  end)

  it("a cancelled wait is forgotten: later events find nobody of it", function()
    in_loop(function()
      local a, b = pair()
      local co, slept = wait_and_sleep(a.read, a, 1)
      coroutine.resume(co, nil, "enough")
      assert(b:write("y"))
      luv.sleep(0.2)
      slept()
      close_both(a, b)
    end)
  end)

  it("a spurious resume is harmless", function()
    in_loop(function()
      local a, b = pair()
      local got
      local co = luv.spawn(function() got = a:read(3) end)
      for _ = 1, 3 do
        coroutine.resume(co)
        coroutine.resume(co, true)
      end
      assert.is_nil(got)
      assert(b:write("abc"))
      luv.sleep(0.01)
      assert.equal("abc", got)
      close_both(a, b)
    end)
  end)

  it("a wake-up on its way doesn't cut short a later sleep of a coroutine that was cancelled meanwhile", function()
    in_loop(function()
      local a, b = pair()
      local co, slept = wait_and_sleep(a.read, a, 1)
      a:close() -- the loop will wake it
      coroutine.resume(co, nil, "enough") -- but it goes on now
      luv.sleep(0.2)
      slept()
      b:close()
    end)
  end)

  it("nor a later wait: one event's first waiter cancels the second", function()
    in_loop(function()
      local a, b = pair()
      local second, slept
      luv.spawn(function()
        luv.wait(a, "read")
        coroutine.resume(second, nil, "enough")
      end)
      second, slept = wait_and_sleep(luv.wait, a, "read")
      assert(b:write("x"))
      luv.sleep(0.2)
      slept()
      close_both(a, b)
    end)
  end)

  it("two waits whose deadlines pass together: the first may cancel the second", function()
    in_loop(function()
      local a, b = pair()
      local second, slept
      local deadline = tls.now() + 0.02
      luv.spawn(function()
        luv.wait(a, "read", deadline)
        coroutine.resume(second, nil, "enough")
      end)
      second, slept = wait_and_sleep(luv.wait, a, "read", deadline)
      luv.sleep(0.25)
      slept()
      close_both(a, b)
    end)
  end)

  it("a coroutine that is closed while it waits holds neither the connection nor the loop", function()
    local a, b
    in_loop(function()
      a, b = pair()
      local co = luv.spawn(function() a:read(1) end)
      assert.is_true(coroutine.close(co))
      local data, err
      local second = luv.spawn(function() data, err = a:read(1) end)
      assert(b:write("z"))
      luv.sleep(0.02)
      assert.equal("z", data, tostring(err))
      assert.equal("dead", coroutine.status(second))
      local third = luv.spawn(function() a:read(1) end)
      coroutine.close(third)
    end) -- the loop ends, although `third` never came back
    close_both(a, b)
  end)

  it("a coroutine closed in its handshake closes the connection at the next call", function()
    in_loop(function()
      local client, server = helper.pair()
      local co = luv.spawn(function() client:connect() end)
      coroutine.close(co)
      local ok, err = client:read(1)
      assert.is_nil(ok)
      assert.equal("closed", err.code)
      assert.is_nil(client:fileno())
      server:close()
    end)
  end)

  it("outside of a coroutine it can't: the operation says so", function()
    local client, server = helper.pair(nil, { scheduler = luv })
    local ok, err = pcall(client.connect, client)
    assert.is_false(ok)
    assert.matches("can't wait here", err)
    close_both(client, server)
  end)

  it("on a closed connection and twice, release does nothing", function()
    in_loop(function()
      local a, b = pair()
      luv.release(a)
      luv.release(a)
      luv.release(b)
      assert(b:write("x"))
      assert.equal("x", a:read(1))
      close_both(a, b)
    end)
  end)
end)

describe("no spin:", function()
  local IDLE = 0.15
  local FEW = 40 -- turns of the loop; one that spins makes thousands

  local function idles(seconds)
    local n = turns(function() luv.sleep(seconds or IDLE) end)
    assert.is_true(n < FEW, n .. " turns")
  end

  -- Two connections: the first has read once, and there is more that nobody reads.
  local function unread_pair()
    local a, b = pair()
    luv.spawn(function() assert.equal("x", a:recv(1)) end)
    assert(b:write("x"))
    luv.sleep(0.01)
    assert(b:write("unread"))
    return a, b
  end

  it("a connection with data that nobody reads", function()
    in_loop(function()
      local a, b = unread_pair()
      local clock = os.clock()
      idles()
      assert.is_true(os.clock() - clock < IDLE / 2 * helper.slow)
      assert.equal("unread", a:recv(100))
      close_both(a, b)
    end)
  end)

  for name, reads in pairs {
    ["a connection whose writer is done"] = false, ["a reader waits on, beside a writer that is done"] = true,
  } do
    it(name, function()
      in_loop(function()
        local a, b = pair()
        if reads then luv.spawn(function() a:read(1) end) end
        local done
        luv.spawn(function() done = a:write(("x"):rep(4 * 1024 * 1024)) end)
        assert(b:read(4 * 1024 * 1024))
        luv.sleep(0.01)
        assert.equal(a, done)
        idles()
        close_both(a, b)
      end)
    end)
  end

  it("a writer waits, beside data that nobody reads", function()
    in_loop(function()
      local a, b = unread_pair()
      luv.spawn(function() a:write(("x"):rep(4 * 1024 * 1024)) end)
      luv.sleep(0.01)
      idles()
      close_both(a, b)
    end)
  end)

  it("a peer that is gone, while nobody asks", function()
    for _, notify in ipairs { true, false } do
      in_loop(function()
        local a, b = pair()
        luv.spawn(function() a:recv(1) end)
        assert(b:write("x"))
        luv.sleep(0.01)
        if notify then b:close() else getmetatable(b).__close(b, "an error") end
        assert.is_nil(b:fileno())
        idles()
        a:close()
      end)
    end
  end)

  it("a listener with a connection that nobody takes", function()
    in_loop(function()
      local listener = assert(tls.listen("127.0.0.1", 0, { context = helper.contexts().server }))
      local taken = 0
      luv.spawn(function()
        helper.each(listener, function(conn)
          taken = taken + 1
          luv.sleep(IDLE)
          conn:close()
        end)
      end)
      local sockets = {}
      for i = 1, 3 do sockets[i] = assert(luv.connect("127.0.0.1", listener:port())) end
      idles(IDLE / 2)
      assert.equal(1, taken)
      listener:close()
      for _, socket in ipairs(sockets) do socket:close() end
    end)
  end)
end)

describe("what run leaves behind:", function()
  it("nothing: no descriptor and no handle after 200 connections at once", function()
    in_loop(function() luv.sleep(0.001) end) -- what the loop keeps for ever
    local before, polls, seen = helper.settled_fds(), handles("poll"), watched()
    local answers = 0
    in_loop(function()
      local listener = assert(tls.listen("127.0.0.1", 0, { context = helper.contexts().server }))
      luv.spawn(function()
        helper.each(listener, function(conn)
          luv.spawn(function()
            assert(conn:accept())
            helper.each(function() return conn:read() end, function(line) assert(conn:write(line, "\n")) end)
            conn:close()
          end)
        end)
      end)
      local left, most, open = 200, 0, 0
      for i = 1, 200 do
        luv.spawn(function()
          local conn = assert(tls.connect("127.0.0.1", listener:port(), { context = helper.contexts().client }))
          open = open + 1
          most = math.max(most, open)
          while open < 200 and left == 200 do luv.sleep(0.005) end -- all at once
          assert(conn:write("line ", i, "\n"))
          if conn:read() == "line " .. i then answers = answers + 1 end
          conn:close()
          left = left - 1
          if left == 0 then listener:close() end
        end)
      end
      while left > 0 do luv.sleep(0.01) end
      assert.equal(200, most)
    end, 40)
    assert.equal(200, answers)
    collectgarbage()
    collectgarbage()
    uv.run("nowait")
    assert.equal(polls, handles("poll"))
    assert.equal(seen, watched())
    assert.equal(before, helper.count_fds())
  end)

  it("connections that nobody closed don't keep it from ending, and work on", function()
    local a, b
    in_loop(function()
      a, b = pair()
      luv.spawn(function() a:recv(1) end)
      assert(b:write("x"))
      luv.sleep(0.01)
      luv.spawn(function() b:recv(1) end) -- armed
      assert(a:write("y"))
      luv.sleep(0.01)
    end, 3)
    assert.is_truthy(a:fileno())
    in_loop(function() -- a second run takes them over
      luv.spawn(function() assert(b:write("again")) end)
      assert.equal("again", a:read(5))
    end)
    close_both(a, b)
  end)

  it("collected connections are watched no longer, and their descriptors closed", function()
    in_loop(function()
      luv.sleep(0.001)
      local before, seen = helper.settled_fds(), watched()
      for _ = 1, 10 do pair("1.3") end
      assert.is_true(watched() >= seen + 10)
      collectgarbage()
      collectgarbage()
      luv.sleep(0.001)
      assert.equal(seen, watched())
      assert.equal(before, helper.count_fds())
    end)
  end)

  it("a coroutine that waits when run is stopped keeps nothing alive", function()
    in_loop(function() luv.sleep(0.001) end)
    local before, polls, seen = helper.settled_fds(), handles("poll"), watched()
    helper.stop_in_mid_wait(luv)
    uv.run("nowait")
    assert.equal(polls, handles("poll"))
    assert.equal(seen, watched())
    assert.equal(before, helper.count_fds())
  end)

  it("a connection whose reader was left by a stopped run can be read in the next", function()
    local a, b
    luv.run(function()
      a, b = pair()
      luv.spawn(function() a:read(1) end)
      luv.sleep(0.001)
      luv.stop()
    end)
    for _ = 1, 4 do collectgarbage() end
    in_loop(function()
      luv.spawn(function() assert(b:write("x")) end)
      local data, err = a:read(1)
      assert.equal("x", data, tostring(err))
    end)
    close_both(a, b)
  end)

  it("a descriptor that is used again after a close belongs to the new connection", function()
    in_loop(function()
      for _ = 1, 20 do
        local a, b = pair("1.3")
        local fd = a:fileno()
        local err
        luv.spawn(function() err = select(2, a:read(1)) end)
        a:close()
        local c, d = pair("1.3")
        assert.equal(fd, math.min(c:fileno(), d:fileno()))
        luv.spawn(function() assert(d:write("new")) end)
        assert.equal("new", c:read(3))
        luv.sleep(0)
        assert.equal("closed", err.code)
        b:close()
        close_both(c, d)
      end
    end)
  end)
end)

describe("luv.connect and luv.listen", function()
  -- Replaces libuv's resolver while fn runs.
  local function with_lookup(stub, fn)
    local original = uv.getaddrinfo
    uv.getaddrinfo = stub
    local got = compat.pack(compat.pcall(fn))
    uv.getaddrinfo = original
    assert(got[1], got[2])
    return compat.unpack(got, 2, got.n)
  end

  it("look up \"localhost\" and take an address as it is", function()
    in_loop(function()
      local listening = assert(luv.listen("127.0.0.1", 0))
      local _, port = listening:address()
      for _, host in ipairs { "localhost", "127.0.0.1" } do
        local socket = assert(luv.connect(host, port))
        assert.equal("127.0.0.1", (socket:peer()))
        socket:close()
      end
      listening:close()
    end)
  end)

  it("IPv6", function()
    local probe = core.listen_socket("::1", 0)
    if not probe then return pending("no IPv6 here") end
    probe:close()
    in_loop(function()
      local listener = assert(tls.listen("::1", 0, { context = helper.contexts().server }))
      assert.equal("::1", listener:address())
      luv.spawn(function()
        helper.each(listener, function(conn)
          assert(assert(conn:accept()):write("six"))
          conn:close()
        end)
      end)
      local conn = assert(tls.connect("::1", listener:port(), { context = helper.contexts().client }))
      assert.equal("six", conn:read("a"))
      conn:close()
      listener:close()
    end)
  end)

  it("a name that does not exist is an error that names it", function()
    local name = ("x"):rep(64) .. ".invalid" -- no label is as long: the resolver asks nobody
    in_loop(function()
      local socket, err = luv.connect(name, 443)
      assert.is_nil(socket)
      assert.equal("system", err.code)
      assert.equal("connect", err.operation)
      assert.matches(name, tostring(err), 1, true)
      local conn
      conn, err = tls.connect(name, 443, { context = helper.contexts().client, server_name = "localhost" })
      assert.is_nil(conn)
      assert.equal("system", err.code)
    end)
  end)

  it("all addresses are tried, in their order", function()
    in_loop(function()
      local listening = assert(luv.listen("127.0.0.1", 0))
      local _, port = listening:address()
      local function two(_, _, _, answer)
        local timer = uv.new_timer()
        timer:start(1, 0, function()
          timer:close()
          answer(nil, { { addr = "127.0.0.2" }, { addr = "127.0.0.1" } })
        end)
        return timer
      end
      with_lookup(two, function()
        local socket = assert(luv.connect("two.example", port))
        assert.equal("127.0.0.1", (socket:peer()))
        socket:close()
        listening:close()
        local none, err = luv.connect("two.example", port)
        assert.is_nil(none)
        assert.equal("system", err.code)
        assert.equal("127.0.0.1:" .. port, err.peer)
        assert.matches("refused", tostring(err))
      end)
    end)
  end)

  it("localhost, where only one of its addresses is listened on", function()
    local addresses = assert(core.lookup("localhost", 80))
    in_loop(function()
      for _, one in ipairs(addresses) do
        local listening = assert(luv.listen(one.address, 0))
        local address, port = listening:address()
        assert.equal(one.address, address)
        local socket = assert(luv.connect("localhost", port))
        assert.equal(one.address, (socket:peer()))
        socket:close()
        listening:close()
      end
    end)
  end)

  it("the deadline ends a lookup that takes too long", function()
    in_loop(function()
      local cancelled
      local function never() return uv.new_async(function() end) end
      local cancel = uv.cancel
      uv.cancel = function(request)
        cancelled = true
        request:close()
      end
      with_lookup(never, function()
        local started = tls.now()
        local socket, err = luv.connect("slow.example", 443, tls.now() + 0.05)
        assert.is_nil(socket)
        assert.equal("timeout", err.code)
        assert.is_true(tls.now() - started < 2 * helper.slow)
      end)
      uv.cancel = cancel
      assert.is_true(cancelled)
    end)
  end)

  it("an answer that comes after the deadline finds nobody", function()
    in_loop(function()
      local function slow_answer(_, _, _, answer)
        local timer = uv.new_timer()
        timer:start(60, 0, function()
          timer:close()
          answer(nil, { { addr = "127.0.0.1" } })
        end)
        return timer
      end
      local cancel = uv.cancel
      uv.cancel = function() return nil, "EBUSY" end
      with_lookup(slow_answer, function()
        local socket, err = luv.connect("slow.example", 443, tls.now() + 0.02)
        assert.is_nil(socket)
        assert.equal("timeout", err.code)
        local started = tls.now()
        luv.sleep(0.1)
        assert.is_true(tls.now() - started >= 0.099)
      end)
      uv.cancel = cancel
    end)
  end)

  it("a lookup is cancelled by resuming its coroutine, and survives a spurious resume", function()
    in_loop(function()
      local answers = {}
      local function asked(_, _, _, answer)
        answers[#answers + 1] = answer
        return uv.new_timer()
      end
      local cancel = uv.cancel
      uv.cancel = function() return 0 end
      with_lookup(asked, function()
        local err
        local co = luv.spawn(function() err = select(2, luv.connect("one.example", 443)) end)
        coroutine.resume(co, nil, "enough")
        assert.equal("cancelled", err.code)
        assert.equal("enough", err.reason)

        local listening = assert(luv.listen("127.0.0.1", 0))
        local _, port = listening:address()
        local socket
        co = luv.spawn(function() socket, err = luv.connect("two.example", port) end)
        coroutine.resume(co)
        coroutine.resume(co, true)
        assert.equal("suspended", coroutine.status(co))
        answers[2](nil, { { addr = "127.0.0.1" } })
        luv.sleep(0.02)
        assert(socket, tostring(err))
        socket:close()
        listening:close()
      end)
      uv.cancel = cancel
    end)
  end)

  it("a port that nobody listens on is refused, with the peer's address", function()
    in_loop(function()
      local port = helper.free_port()
      local socket, err = luv.connect("127.0.0.1", port)
      assert.is_nil(socket)
      assert.equal("system", err.code)
      assert.equal("127.0.0.1:" .. port, err.peer)
      assert.matches("refused", err.reason)
      assert.is_number(err.errno)
    end)
  end)

  it("an attempt gets its share of the time that is left", function()
    -- addresses are tried one after another also without the loop
    local listening = assert(core.listen_socket("127.0.0.1", 0))
    local _, port = listening:address()
    local socket = assert(net.connect_any({ { address = "127.0.0.2", port = port },
      { address = "127.0.0.1", port = port } }, tls.now() + 5))
    socket:close()
    listening:close()
  end)
end)

it("a moment that is far away is no error", function()
  luv.run(function()
    luv.spawn(luv.sleep, math.huge)
    luv.spawn(luv.sleep, 1e18)
    for _, far in ipairs { 1e9, 1e18, 1e300, math.huge } do
      local a, b = pair(nil, { timeout = far, handshake_timeout = far }, { timeout = far })
      local got
      luv.spawn(function() got = b:read(1) end)
      luv.sleep(0.001)
      assert(a:write("x"))
      luv.sleep(0.01)
      assert.equal("x", got)
      close_both(a, b)
    end
    luv.stop()
  end)
end)

it("many waits that end in one moment end quickly", function()
  local ended = 0
  local started = tls.now()
  luv.run(function()
    local moment = 0.2
    for _ = 1, 20000 do
      luv.spawn(function()
        luv.sleep(moment - (tls.now() - started))
        ended = ended + 1
      end)
    end
  end)
  assert.equal(20000, ended)
  assert.is_true(tls.now() - started < 5 * helper.slow)
end)

it("where there is no epoll a poll handle each does the same", function()
  local child = program [[
    require("cotls.core").poller = nil
    local tls = require "cotls"
    local luv = require "cotls.luv"
    local own = assert(tls.make_certificate { names = { "localhost" } })
    local echoed, timed, closed = 0, 0, 0
    luv.run(function()
      local listener = assert(tls.listen("127.0.0.1", 0, own))
      luv.spawn(function()
        local conn = listener()
        while conn do
          luv.spawn(function(accepted)
            assert(accepted:accept())
            local line = accepted:read()
            while line do
              assert(accepted:write(line, "\n"))
              line = accepted:read()
            end
            accepted:close()
          end, conn)
          conn = listener()
        end
      end)
      local left = 20
      for i = 1, left do
        luv.spawn(function()
          local conn = assert(tls.connect("localhost", listener:port(), { ca = own.certificate }))
          assert(conn:write(i, "\n"))
          if conn:read() == tostring(i) then echoed = echoed + 1 end
          conn:settimeout(0.01)
          if select(2, conn:read()).code == "timeout" then timed = timed + 1 end
          conn:settimeout(nil)
          luv.spawn(function()
            luv.sleep(0.01)
            conn:close()
          end)
          if select(2, conn:read()).code == "closed" then closed = closed + 1 end
          left = left - 1
          if left == 0 then listener:close() end
        end)
      end
    end)
    print("done", echoed, timed, closed)
  ]]
  assert.equal(0, child:wait(20), child.stderr)
  assert.matches("done\t20\t20\t20", child.stdout)
end)

describe("Ctrl-C", function()
  local SERVER = [[
    local tls = require "cotls"
    local luv = require "cotls.luv"
    local own = assert(tls.make_certificate { names = { "localhost" } })
    local listener
    local ended = false
    print("result", luv.run(function()
      listener = assert(tls.listen("127.0.0.1", 0, own))
      luv.spawn(function()
        repeat
          local conn = listener()
          if conn then conn:close() end
        until not conn
        ended = true
      end)
      luv.spawn(function() luv.sleep(300) end)
      print("ready")
      io.stdout:flush()
      luv.sleep(300)
    end))
    print("ended", ended, tostring(listener), tls.scheduler)
  ]]

  it("ends run with nil, \"interrupted\" after closing the listeners", function()
    local child = program(SERVER)
    child:wait_for("ready")
    child:kill("sigint")
    assert.equal(0, child:wait())
    assert.matches("result\tnil\tinterrupted", child.stdout)
    assert.matches("ended\ttrue\tcotls%.listener %([^)]*closed%)\tnil", child.stdout)
  end)

  it("a second one raises", function()
    local child = program [[
      local uv = require "luv"
      local luv = require "cotls.luv"
      local pid = uv.os_getpid()
      local ok, err = pcall(luv.run, function()
        uv.kill(pid, "sigint")
        uv.kill(pid, "sigint")
        luv.sleep(300)
      end)
      print(ok, tostring(err))
      print(luv.run(function() luv.sleep(0.001) return "again" end))
    ]]
    assert.equal(0, child:wait())
    assert.matches("false\t[^\n]*interrupted", child.stdout)
    assert.matches("again", child.stdout)
  end)

  it("with signals = false it is the program's own affair", function()
    local child = program [[
      local uv = require "luv"
      local luv = require "cotls.luv"
      local signal = uv.new_signal()
      print("result", luv.run { signals = false, main = function()
        signal:start("sigint", function() luv.stop() end)
        print("ready")
        io.stdout:flush()
        luv.sleep(300)
      end })
      signal:close()
      uv.run("nowait")
      print("end")
    ]]
    child:wait_for("ready")
    child:kill("sigint")
    assert.equal(0, child:wait())
    assert.is_nil(child.stdout:find("interrupted"))
    assert.matches("end", child.stdout)
  end)
end)

describe("a peer that never stops sending", function()
  -- Sends as fast as it can for as long as it is read.
  local function flood(options, reader)
    in_loop(function()
      local client, server = pair("1.3", options)
      local block, ticks, over = ("x"):rep(65536), 0, false
      luv.spawn(function()
        while not over and server:write(block) do end
        server:close()
      end)
      luv.spawn(function()
        while not over do
          ticks = ticks + 1
          luv.sleep(0)
        end
      end)
      reader(client, function() return ticks end)
      over = true
      client:close()
    end)
  end

  it("does not keep a read from its deadline", function()
    flood({ timeout = 0.2 }, function(client)
      local started = tls.now()
      local data, err = client:read(0x10000000000)
      assert.is_nil(data)
      assert.equal("timeout", err.code)
      assert.is_true(tls.now() - started < 5 * helper.slow)
      assert.is_true(err.partial > 0)
    end)
  end)

  it("does not keep others from their turn", function()
    flood({}, function(client, ticks)
      local before = ticks()
      assert(client:read(0x1000000))
      assert.is_true(ticks() - before >= 8)
    end)
  end)
end)
