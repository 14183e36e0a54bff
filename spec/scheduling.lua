-- SPDX-License-Identifier: MIT
-- The body of specs that every way to wait must pass: a function of a bed (spec/beds.lua).

local assert = require "luassert"
local busted = require "busted"
local compat = require "cotls.compat"
local core = require "cotls.core"
local helper = require "spec.helper"
local tls = require "cotls"

local describe, it, setup, teardown = busted.describe, busted.it, busted.setup, busted.teardown

local code_of = helper.code_of
local noise = helper.noise

local BIG = 4 * 1024 * 1024
local VERSIONS = { "1.2", "1.3" }

-- The error of an operation that must end by its timeout of so many seconds: not before, and not much later.
local function timed_out(seconds, operation, ...)
  local started = tls.now()
  local ok, err = operation(...)
  assert.equal("timeout", code_of(ok, err))
  assert.is_true(tls.now() - started >= seconds - 0.001 and tls.now() - started < 2 * helper.slow)
  return err
end

-- ---- one side here, the other in a process of its own ----

-- What the side under test does with the program spec/peer.lua: all beds.
local function with_peer(bed)
  local sleep = bed.sleep
  local peer, port

  setup(function()
    local file = helper.temp_file
    peer = helper.start { helper.lua, "spec/peer.lua", file(helper.server_leaf.certificate),
      file(helper.server_leaf.key), file(helper.ca.certificate) }
    port = tonumber((peer:wait_for("port (%d+)")))
  end)

  teardown(function()
    peer:stop()
    assert.equal("", peer.stderr)
  end)

  -- A connection to the peer, which has been told what to do.
  local function call(what, options)
    local conn = assert(tls.connect("localhost", port, helper.with({ ca = helper.ca.certificate }, options)))
    return assert(conn:write(what, "\n"))
  end

  it("echoes, line by line", function()
    for _, version in ipairs(VERSIONS) do
      bed.run(function()
        local conn = call("echo", { min_version = version, max_version = version })
        for i = 1, 100 do
          assert(conn:write("line ", i, "\n"))
          assert.equal("line " .. i, conn:read("l"))
        end
        assert(conn:shutdown())
        assert.is_nil((conn:read(1)))
        conn:close()
      end)
    end
  end)

  it("is the module's scheduler for the run only", function()
    local inside = bed.run(function() return tls.scheduler or false end)
    assert.equal(bed.scheduler or false, inside)
    assert.is_nil(tls.scheduler)
  end)

  it("reads until the end, waiting again and again", function()
    bed.run(function()
      local conn = call("flood 2048")
      local data = assert(conn:read("a"))
      assert.equal(2048 * 1024, #data)
      assert.is_nil(data:find("[^x]"))
      conn:close()
    end)
  end)

  it("writes all, waiting for the peer to read", function()
    bed.run(function()
      local conn = call("silent 0.1")
      assert(conn:write(("y"):rep(BIG)))
      assert(conn:shutdown("write"))
      assert.equal(tostring(BIG), conn:read("l"))
      conn:close()
    end)
  end)

  it("a read's timeout ends it, and nothing else", function()
    bed.run(function()
      local conn = call("echo")
      conn:settimeout(0.05)
      timed_out(0.05, conn.read, conn, 5)
      conn:settimeout(nil)
      assert(conn:write("hello"))
      assert.equal("hello", conn:read(5))
      conn:close()
    end)
  end)

  it("a write's timeout tells how much is written", function()
    bed.run(function()
      local conn = call("silent " .. 0.4 * helper.slow)
      conn:settimeout(0.05)
      local ok, err = conn:write(("y"):rep(4 * BIG))
      assert.equal("timeout", code_of(ok, err))
      assert.is_true(err.written > 0 and err.written < 4 * BIG)
      conn:settimeout(nil)
      assert(conn:shutdown("write"))
      assert.equal(tostring(err.written), conn:read("l"))
      conn:close()
    end)
  end)

  it("an operation's deadline counts from its start, whatever trickles in", function()
    bed.run(function()
      local conn = call("trickle 1000")
      conn:settimeout(0.1)
      local err = timed_out(0.1, conn.read, conn, 1000)
      assert.equal(err.partial, #conn:recv(1000))
      conn:close()
    end)
  end)

  it("a timeout of 0 never waits", function()
    bed.run(function()
      local conn = call("echo")
      conn:settimeout(0)
      assert.equal("want_read", code_of(conn:read(1)))
      local ok, err = conn:write(("x"):rep(4 * BIG))
      assert.equal("want_write", code_of(ok, err))
      conn:close()
    end)
  end)

  it("handshake_timeout ends a handshake that gets no answer, and closes", function()
    bed.run(function()
      local mute = assert(core.listen_socket("127.0.0.1", 0))
      local _, mute_port = mute:address()
      timed_out(0.05, tls.connect, "localhost", mute_port, { ca = helper.ca.certificate, handshake_timeout = 0.05 })
      mute:close()
    end)
  end)

  it("is refused where nobody listens", function()
    bed.run(function()
      local conn, err = tls.connect("127.0.0.1", helper.free_port(), { ca = helper.ca.certificate, server_name = "x" })
      assert.equal("system", code_of(conn, err))
      assert.matches("refused", err.reason)
    end)
  end)

  it("an end without close_notify is truncated", function()
    bed.run(function()
      local conn = call("vanish")
      local data, err = conn:read("a")
      assert.equal("truncated", code_of(data, err))
      assert.equal("so long", conn:recv(100))
      conn:close()
    end)
  end)

  it("serves: a listener waits for a client, which is answered", function()
    local contexts = helper.contexts()
    bed.run(function()
      local listener = assert(tls.listen("127.0.0.1", 0, { context = contexts.server }))
      call("call " .. listener:port() .. " echo"):close()
      local conn = listener()
      assert(conn:accept())
      assert(conn:write("one\n", "two\n"))
      assert.equal("one", conn:read())
      assert.equal("two", conn:read())
      conn:close()
      listener:close()
      assert.is_nil((listener()))
    end)
  end)

  it("a hook that sleeps holds up its own handshake only", function()
    for _, version in ipairs(VERSIONS) do
      bed.run(function()
        local asked = 0
        local conn = call("echo", { min_version = version, max_version = version, on_verify = function(_, ok)
          sleep(0.01)
          asked = asked + 1
          return ok
        end })
        assert.equal(1, asked)
        assert(conn:write("after\n"))
        assert.equal("after", conn:read())
        conn:close()
      end)
    end
  end)

  it("hooks of a server sleep, too", function()
    bed.run(function()
      local order = {}
      local function hook(name)
        return function()
          order[#order + 1] = name
          sleep(0.01)
          return true
        end
      end
      local context = helper.server_context { on_client_hello = hook "hello", on_server_name = hook "name",
        on_certificate = hook "certificate" }
      local listener = assert(tls.listen("127.0.0.1", 0, { context = context }))
      call("call " .. listener:port() .. " echo"):close()
      local conn = listener()
      assert(conn:accept())
      assert(conn:write("x\n"))
      assert.equal("x", conn:read())
      assert.same({ "hello", "name", "certificate" }, order)
      conn:close()
      listener:close()
    end)
  end)

  it("a hook that sleeps for too long is timed out by handshake_timeout", function()
    bed.run(function()
      local conn, err = tls.connect("localhost", port, { ca = helper.ca.certificate, handshake_timeout = 0.05,
        on_verify = function()
          sleep(0.1)
          return true
        end })
      assert.equal("timeout", code_of(conn, err))
    end)
  end)

  it("sleeps as long as it is told, and not less", function()
    bed.run(function()
      local started = tls.now()
      sleep(0.05)
      assert.is_true(tls.now() - started >= 0.049)
      sleep(0)
      sleep(-1)
    end)
  end)
end

-- ---- both sides here ----

-- Where coroutines run beside each other.
local function with_both(bed)
  local sleep, spawn = bed.sleep, bed.spawn

  -- Calls fn in a coroutine; gives a function that waits for its end and gives its results.
  local function beside(fn)
    local results, count
    local function keep(...) results, count = { ... }, select("#", ...) end
    spawn(function() keep(fn()) end)
    return function()
      local bound = tls.now() + 10 * helper.slow
      while not results do
        assert(tls.now() < bound, "it takes too long")
        sleep(0.001)
      end
      return compat.unpack(results, 1, count)
    end
  end

  -- Two handshaken connections over a transport (default: a socketpair), the client first.
  local function pair(transport, client_options, server_options, version)
    local client, server, pump = helper.pair(transport, client_options, server_options, helper.contexts(version))
    if pump then
      spawn(function()
        while client:state() ~= "closed" or server:state() ~= "closed" do
          for _ = 1, 50 do pump() end
          sleep(0)
        end
        pump()
      end)
    end
    local accepted = beside(function() return server:accept() end)
    assert(client:connect())
    assert(accepted())
    return client, server
  end

  local function close_both(a, b)
    a:close()
    b:close()
  end

  for _, transport in ipairs(helper.transports_in_use()) do
    it("both directions at once, over " .. transport.name, function()
      local size = transport.width and transport.width < 100 and 4000 or 300000
      local up, down = noise(size, 1), noise(size, 2)
      bed.run(function()
        local a, b = pair(transport)
        local from_a = beside(function() return b:read(#up) end)
        local from_b = beside(function() return a:read(#down) end)
        local written = beside(function() return a:write(up) end)
        assert.equal(b, b:write(down))
        assert.equal(a, written())
        assert.is_true(up == from_a())
        assert.is_true(down == from_b())
        close_both(a, b)
      end)
    end)
  end

  it("many connections at once", function()
    local contexts, done = helper.contexts(), 0
    bed.run(function()
      local listener = assert(tls.listen("127.0.0.1", 0, { context = contexts.server }))
      spawn(function()
        local conn = listener()
        while conn do
          local one = conn
          spawn(function()
            assert(one:accept())
            local line = one:read()
            while line and one:write(line, "\n") do line = one:read() end
            one:close()
          end)
          conn = listener()
        end
      end)
      local ends = {}
      for i = 1, 30 do
        ends[i] = beside(function()
          local conn = assert(tls.connect("localhost", listener:port(), { context = contexts.client }))
          for j = 1, 5 do
            assert(conn:write(i, " ", j, "\n"))
            assert.equal(i .. " " .. j, conn:read())
          end
          conn:close()
          done = done + 1
        end)
      end
      for i = 1, 30 do ends[i]() end
      listener:close()
    end)
    assert.equal(30, done)
  end)

  it("a read waits while a write does, and neither is the other's", function()
    bed.run(function()
      local a, b = pair()
      local written = beside(function() return a:write(("x"):rep(BIG)) end)
      local line = beside(function() return a:read() end)
      sleep(0.01)
      assert(b:write("hello\n"))
      assert.equal("hello", line())
      assert.equal(BIG, #b:read(BIG))
      assert.equal(a, written())
      close_both(a, b)
    end)
  end)

  it("closing wakes who waits with \"closed\", reader and writer", function()
    for _, version in ipairs(VERSIONS) do
      bed.run(function()
        local a, b = pair(nil, nil, nil, version)
        local data = beside(function() return a:read(1) end)
        local written = beside(function() return a:write(("x"):rep(2 * BIG)) end)
        sleep(0.01)
        a:close()
        assert.equal("closed", code_of(data()))
        assert.equal("closed", code_of(written()))
        b:close()
      end)
    end
  end)

  it("closing ends a handshake with \"closed\"", function()
    bed.run(function()
      local client, server = helper.pair()
      local connected = beside(function() return client:connect() end)
      sleep(0.01)
      client:close()
      local ok, err = connected()
      assert.equal("closed", code_of(ok, err))
      assert.equal("connect", err.operation)
      server:close()
    end)
  end)

  it("closing a listener ends the loop over it", function()
    bed.run(function()
      local listener = assert(tls.listen("127.0.0.1", 0, { context = helper.contexts().server }))
      local ended = beside(function() return (listener()) end)
      sleep(0.01)
      listener:close()
      assert.is_nil(ended())
    end)
  end)

  it("a descriptor that is used again after a close belongs to the new connection", function()
    bed.run(function()
      for _ = 1, 10 do
        local a, b = pair()
        local fd = a:fileno()
        local data = beside(function() return a:read(1) end)
        sleep(0)
        a:close()
        local c, d = pair()
        assert.equal(fd, math.min(c:fileno(), d:fileno()))
        assert.equal("closed", code_of(data()))
        local got = beside(function() return c:read(3) end)
        assert(d:write("new"))
        assert.equal("new", got())
        b:close()
        close_both(c, d)
      end
    end)
  end)

  it("connections that are collected while they are watched take their descriptors along", function()
    bed.run(function()
      pair()
      collectgarbage()
      collectgarbage()
      sleep(0.001)
      local before = helper.count_fds()
      for _ = 1, 10 do pair() end
      for _ = 1, 4 do
        sleep(0.001)
        collectgarbage()
      end
      assert.equal(before, helper.count_fds())
      local a, b = pair() -- nothing of them is in the way
      assert(b:write("x"))
      assert.equal("x", a:read(1))
      close_both(a, b)
    end)
  end)

  it("a wait ends by resuming its coroutine: cancelled, with the reason", function()
    local function some_time() sleep(0.01) end
    for _, pause in ipairs { some_time, bed.at_once and function() end } do
      bed.run(function()
        local a, b = pair()
        local err
        local task = bed.start(function() err = select(2, a:read(1)) end)
        pause()
        bed.cancel(task, "enough of it")
        pause()
        assert.equal("cancelled", err.code)
        assert.equal("enough of it", err.reason)
        assert(b:write("y")) -- and it can be tried again
        assert.equal("y", a:read(1))
        close_both(a, b)
      end)
    end
  end)

  it("an error object that ends a wait is what the operation gives", function()
    bed.run(function()
      local a, b = pair()
      local given, err = core.error { code = "limit", operation = "mine", reason = "no more" }, nil
      local task = bed.start(function() err = select(2, a:read(1)) end)
      sleep(0.01)
      bed.cancel(task, given)
      sleep(0.01)
      assert.equal(given, err)
      close_both(a, b)
    end)
  end)

  it("cancelling a handshake closes", function()
    bed.run(function()
      local client, server = helper.pair()
      local err
      local task = bed.start(function() err = select(2, client:connect()) end)
      sleep(0.01)
      bed.cancel(task, "stop")
      sleep(0.01)
      assert.equal("cancelled", err.code)
      assert.is_nil(client:fileno())
      server:close()
    end)
  end)

  if not bed.scheduler then return end
  local wait = bed.scheduler.wait

  it("two waits of one connection for the same want are both woken", function()
    for _, want in ipairs { "read", "write" } do
      bed.run(function()
        local a, b = pair(nil, nil, nil, "1.2")
        local first = beside(function() return wait(a, want) end)
        local second = beside(function() return wait(a, want) end)
        sleep(0.001)
        assert(b:write("x"))
        assert.is_true((first()))
        assert.is_true((second()))
        close_both(a, b)
      end)
    end
  end)

  it("each wait has its own deadline", function()
    bed.run(function()
      local a, b = pair(nil, nil, nil, "1.2") -- without tickets on their way
      local order = {}
      local function waiter(name, seconds)
        return beside(function()
          local ok, why = wait(a, "read", tls.now() + seconds)
          order[#order + 1] = name
          return ok, why
        end)
      end
      local ends = { waiter("late", 0.15), waiter("early", 0.02), waiter("middle", 0.08) }
      for _, ended in ipairs(ends) do
        local ok, why = ended()
        assert.is_falsy(ok)
        assert.equal("timeout", why)
      end
      assert.same({ "early", "middle", "late" }, order)
      close_both(a, b)
    end)
  end)

  it("a wait without a deadline outlives another's on the same connection", function()
    bed.run(function()
      local a, b = pair(nil, nil, nil, "1.2") -- without tickets on their way
      local woken
      local patient = beside(function()
        local ok = wait(a, "read")
        woken = true
        return ok
      end)
      local hasty = beside(function() return wait(a, "read", tls.now() + 0.02) end)
      assert.is_falsy((hasty()))
      sleep(0.02)
      assert.is_nil(woken)
      assert(b:write("x"))
      assert.is_true((patient()))
      close_both(a, b)
    end)
  end)

  it("fails with an error of main, with where it came from", function()
    local function the_culprit() error("on purpose") end
    local ok, err = pcall(bed.run, function()
      sleep(0.001)
      the_culprit()
    end)
    assert.is_false(ok)
    assert.matches("on purpose", err)
    assert.matches("the_culprit", err)
  end)

  it("what is spawned gets its arguments, and an error in it fails the run", function()
    bed.run(function()
      local got
      spawn(function(...) got = { select("#", ...), ... } end, "a", nil, "b", nil)
      sleep(0.001)
      assert.same({ 4, "a", nil, "b" }, got)
    end)
    local value = {}
    local ok, err = pcall(bed.run, function()
      spawn(function()
        sleep(0.001)
        error(value)
      end)
      sleep(5)
    end)
    assert.is_false(ok)
    assert.equal(value, err)
    assert.is_nil(tls.scheduler)
  end)
end

return function(bed)
  describe(bed.name .. ":", function()
    with_peer(bed)
    if bed.yields then with_both(bed) end
  end)
end
