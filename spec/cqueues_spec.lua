-- SPDX-License-Identifier: MIT
-- What is cotls.cqueues' own; spec/schedulers_spec.lua has what it shares with the others.

local cqueues = require "cqueues"
local condition = require "cqueues.condition"
local dns = require "cqueues.dns"
local core = require "cotls.core"
local helper = require "spec.helper"
local scheduler = require "cotls.cqueues"
local tls = require "cotls"

-- Two handshaken connections, without anything more on its way.
local function pair() return helper.handshaken_under(scheduler, "1.2") end

-- A waiter without a descriptor.
local function pipe() return { fileno = function() end } end

describe("cotls.cqueues.run", function()
  it("passes arguments and gives all results", function()
    local function count(...) return select("#", ...), ... end
    assert.same({ 3, 1, nil, nil }, { scheduler.run(count, 1, nil, nil) })
    assert.equal(0, select("#", scheduler.run(function() end)))
  end)

  it("refuses what is no function, and to run inside a controller", function()
    for _, bad in ipairs { false, 1, "x", {} } do
      local ok, err = pcall(scheduler.run, bad)
      assert.is_false(ok)
      assert.matches("cotls%.cqueues%.run: a function expected", err)
    end
    scheduler.run(function()
      local ok, err = pcall(scheduler.run, print)
      assert.is_false(ok)
      assert.matches("runs already", err)
    end)
    assert.is_nil(tls.scheduler)
  end)

  it("stop ends it although others wait, and closes its descriptors", function()
    local started, before, after = tls.now(), helper.settled_fds(), nil
    local function sleeper()
      scheduler.sleep(30)
      after = true
    end
    scheduler.run(function()
      scheduler.spawn(sleeper)
      scheduler.stop()
      sleeper()
    end)
    assert.is_nil(after)
    assert.is_true(tls.now() - started < 10)
    assert.equal(before, helper.count_fds())
    assert.equal(1, scheduler.run(function() return 1 end))
  end)

  it("a coroutine is needed, and right arguments", function()
    for name, arguments in pairs { spawn = { print }, sleep = { 0 }, connect = { "127.0.0.1", 1 }, wait = { {} } } do
      local ok, err = pcall(scheduler[name], arguments[1], arguments[2])
      assert.is_false(ok)
      assert.matches("cotls%.cqueues%." .. name .. ": call it in a coroutine of a cqueues controller", err)
    end
    scheduler.run(function()
      for _, bad in ipairs { "x", {}, 0 / 0 } do assert.is_false(pcall(scheduler.sleep, bad)) end
      assert.is_false(pcall(scheduler.spawn, 1))
    end)
  end)
end)

it("serves under a controller of the program's own, beside cqueues' other things", function()
  local controller, order, got = cqueues.new(), {}, nil
  tls.scheduler = scheduler
  finally(function() tls.scheduler = nil end)
  controller:wrap(function()
    local client, server = pair()
    local woken = condition.new()
    controller:wrap(function()
      order[#order + 1] = "reads"
      got = client:read(5)
      woken:signal()
    end)
    cqueues.sleep(0.001)
    order[#order + 1] = "writes"
    assert(server:write("hello"))
    assert.is_true(woken:wait(5))
    client:close()
    server:close()
  end)
  assert(controller:loop(20 * helper.slow))
  assert.equal("hello", got)
  assert.same({ "reads", "writes" }, order)
end)

describe("several waits of one connection", function()
  -- Waits so in a coroutine of its own; the list of results grows when it ends.
  local function wait(list, waiter, want, deadline)
    scheduler.spawn(function()
      local got = { want, scheduler.wait(waiter, want, deadline) }
      list[#list + 1] = got
    end)
  end

  it("end each by its own want, whoever came first", function()
    for _, wants in ipairs { { "read", "write" }, { "write", "read" } } do
      scheduler.run(function()
        local a, b = pair()
        local list = {}
        wait(list, a, wants[1])
        wait(list, a, wants[2])
        scheduler.sleep(0.02)
        assert.same({ { "write", true, "timeout" } }, list)
        assert(b:write("x"))
        scheduler.sleep(0.02)
        assert.same({ "read", true, "timeout" }, list[2])
        a:close()
        b:close()
      end)
    end
  end)

  it("go on when the one that polls for all has gone: by its deadline", function()
    scheduler.run(function()
      local a, b = pair()
      local list = {}
      wait(list, a, "read", tls.now() + 0.02)
      wait(list, a, "read")
      wait(list, a, "read")
      scheduler.sleep(0.04)
      assert.same({ { "read", false, "timeout" } }, list)
      assert(b:write("x"))
      scheduler.sleep(0.02)
      assert.equal(3, #list)
      a:close()
      b:close()
    end)
  end)

  it("go on when the one that polls for all is gone for good", function()
    scheduler.run(function()
      local client, server = pair()
      coroutine.resume(coroutine.create(function() return client:read() end)) -- and nobody has it any more
      collectgarbage()
      collectgarbage()
      local line
      scheduler.spawn(function() line = client:read() end)
      scheduler.sleep(0.01)
      assert(server:write("hello\n"))
      for _ = 1, 2000 do
        if line then break end
        scheduler.sleep(0.001)
      end
      assert.equal("hello", line)
      client:close()
      server:close()
    end)
  end)

  it("a close under many of them is told to all, and none watches the descriptor after", function()
    scheduler.run(function()
      for _ = 1, 20 do
        local a, b = pair()
        local list = {}
        for _ = 1, 3 do
          wait(list, a, "read")
          wait(list, a, "read", tls.now() + 30)
        end
        scheduler.sleep(0.001)
        a:close()
        local c, d = pair() -- takes the descriptor
        helper.until_true(function() scheduler.sleep(0.001) return #list == 6 end)
        b:close()
        c:close()
        d:close()
      end
    end)
  end)
end)

describe("a waiter without a descriptor", function()
  it("waits until it is woken, for what it wants", function()
    scheduler.run(function()
      local waiter, order = pipe(), {}
      for _, want in ipairs { "read", "write", "read" } do
        scheduler.spawn(function()
          assert.is_true((scheduler.wait(waiter, want)))
          order[#order + 1] = want
        end)
      end
      scheduler.wake(waiter, "read") -- nobody yet
      scheduler.sleep(0.01)
      assert.same({}, order)
      scheduler.wake(waiter, "read")
      scheduler.sleep(0.01)
      assert.same({ "read", "read" }, order)
      scheduler.wake(waiter, "write")
      scheduler.sleep(0.01)
      assert.equal("write", order[3])
    end)
  end)

  it("or until its deadline, or its release", function()
    scheduler.run(function()
      local waiter, released = pipe(), nil
      local started = tls.now()
      local ok, why = scheduler.wait(waiter, "read", tls.now() + 0.02)
      assert.is_falsy(ok)
      assert.equal("timeout", why)
      assert.is_true(tls.now() - started >= 0.019)
      scheduler.spawn(function() released = scheduler.wait(waiter, "write", tls.now() + 30) end)
      scheduler.sleep(0.001)
      scheduler.release(waiter)
      scheduler.sleep(0.001)
      assert.is_true(released)
      scheduler.wake(waiter, "read") -- of what is released: nothing
      scheduler.release(waiter)
    end)
  end)
end)

describe("names", function()
  -- Replaces cqueues' resolver while fn runs.
  local function with_names(answers, fn)
    local query, asked = dns.query, {}
    dns.query = function(host, kind)
      asked[#asked + 1] = kind
      local list = answers[kind]
      if not list then return nil, 110 end
      return { grep = function()
        local i = 0
        return function()
          i = i + 1
          return list[i] and { addr = function() return list[i] end }
        end
      end }, host
    end
    finally(function() dns.query = query end)
    scheduler.run(fn, asked)
  end

  it("all addresses are tried, IPv6 after IPv4", function()
    local listening = assert(core.listen_socket("127.0.0.1", 0))
    local _, port = listening:address()
    with_names({ A = { "127.0.0.2", "127.0.0.1" }, AAAA = {} }, function(asked)
      local socket = assert(scheduler.connect("two.example", port))
      assert.equal("127.0.0.1", (socket:peer()))
      assert.same({ "A" }, asked)
      socket:close()
      listening:close()
      local none, err = scheduler.connect("two.example", port)
      assert.is_nil(none)
      assert.matches("refused", err.reason)
      assert.same({ "A", "A", "AAAA" }, asked)
    end)
  end)

  it("IPv6 alone", function()
    local probe = core.listen_socket("::1", 0)
    if not probe then return pending("no IPv6 here") end
    local _, port = probe:address()
    with_names({ AAAA = { "::1" } }, function()
      local socket = assert(scheduler.connect("six.example", port))
      assert.equal("::1", (socket:peer()))
      socket:close()
      probe:close()
    end)
  end)

  it("one that has no address is an error that names it, a late answer a timeout", function()
    with_names({}, function()
      local socket, err = scheduler.connect("none.example", 443)
      assert.is_nil(socket)
      assert.equal("system", err.code)
      assert.equal("connect", err.operation)
      assert.matches("none.example: no address", err.reason, 1, true)
      socket, err = scheduler.connect("none.example", 443, tls.now())
      assert.is_nil(socket)
      assert.equal("timeout", err.code)
    end)
  end)

  it("\"localhost\" comes from /etc/hosts", function()
    scheduler.run(function()
      local listening = assert(scheduler.listen("127.0.0.1", 0))
      local _, port = listening:address()
      local socket = assert(scheduler.connect("localhost", port, tls.now() + 10))
      socket:close()
      listening:close()
    end)
  end)
end)

it("a coroutine that waits when run is stopped keeps nothing alive", function()
  scheduler.run(function() pair() end)
  local before = helper.settled_fds()
  helper.stop_in_mid_wait(scheduler)
  assert.equal(before, helper.count_fds())
end)
