-- SPDX-License-Identifier: MIT
-- Waiting: the raw yields, deadlines, cancellation, "busy", abandoned coroutines, poll(2) and schedulers.

local compat = require "cotls.compat"
local tls = require "cotls"
local uv = require "luv"
local helper = require "spec.helper"

-- Both ends of a pair live as long as a spec: the collector would close the one that it doesn't name.
local kept = {}

local function keep(...)
  kept[#kept + 1] = { ... }
  return ...
end

local function pair(...)
  return keep(helper.pair(...))
end

local function handshaken(...)
  return keep(helper.handshaken(...))
end

before_each(function() kept = {} end)

-- Seconds; a deadline that a spec waits for. Under valgrind one step of a handshake takes as long.
local SHORT = 0.03 * math.max(1, helper.slow / 4)

local code_of = helper.code_of

-- Resumes; gives what it yields or returns. An error in the coroutine is raised.
local function resume(co, ...)
  local got = compat.pack(coroutine.resume(co, ...))
  if not got[1] then error(got[2], 0) end
  return compat.unpack(got, 2, got.n)
end

-- A coroutine in conn[verb](conn, ...), which waits; gives want and deadline too.
local function waiting(conn, verb, ...)
  local args = compat.pack(...)
  local co = coroutine.create(function() return conn[verb](conn, compat.unpack(args, 1, args.n)) end)
  local who, want, deadline = resume(co)
  assert.equal("suspended", coroutine.status(co), verb)
  assert.equal(conn, who)
  return co, want, deadline
end

-- A read that waits: nothing is on its way.
local function reading(conn, ...)
  local co, want, deadline = waiting(conn, "read", ...)
  assert.equal("read", want)
  return co, deadline
end

local BIG = ("x"):rep(0x100000)

local function writing(conn)
  local co, want, deadline = waiting(conn, "write", BIG)
  assert.equal("write", want)
  return co, deadline
end

local function wait_past(deadline)
  helper.until_true(function() return tls.now() > deadline end, "the deadline")
end

-- An established connection, all session tickets read, and its peer.
local function quiet_pair(options)
  local client, server = handshaken(nil, options)
  helper.together { function() assert(server:write("x")) end, function() assert.equal("x", client:read(1)) end }
  return client, server
end

local function finish(co, ...)
  local got = compat.pack(resume(co, ...))
  assert.equal("dead", coroutine.status(co))
  return compat.unpack(got, 1, got.n)
end

describe("the raw protocol", function()
  it("yields connection, want and no deadline", function()
    local client, server = quiet_pair()
    local co = coroutine.create(function() return client:read() end)
    local got = compat.pack(coroutine.resume(co))
    assert.same({ true, client, "read", nil, n = 4 }, got)
    assert(server:write("line\n"))
    assert.equal("line", finish(co))
  end)

  it("takes no value, and any true one, as: try again", function()
    local client, server = quiet_pair()
    local co = reading(client)
    for _, value in ipairs { true, 1, "timeout", {}, tls.now } do
      local who, want = resume(co, value)
      assert.equal(client, who)
      assert.equal("read", want)
      resume(co, value, "why")
      resume(co)
    end
    assert(server:write("line\n"))
    assert.equal("line", finish(co, "event", 5, nil))
  end)

  it("wants to write when the socket is full, and goes on", function()
    local client, server = quiet_pair()
    local co = writing(client)
    for _ = 1, 5 do
      local _, want = resume(co)
      assert.equal("write", want)
    end
    local results = helper.together {
      function()
        while coroutine.status(co) ~= "dead" do
          resume(co)
          coroutine.yield(client, "write")
        end
        client:shutdown("write")
      end,
      function() return server:read("a") end,
    }
    assert.is_true(results[2][1] == BIG)
  end)

  it("a connection closed by another coroutine ends the wait with \"closed\"", function()
    for _, start in ipairs { reading, writing } do
      local pack = compat.pack
      for _, with in ipairs { pack(), pack(true), pack(nil, "timeout"), pack(nil, "stop") } do
        local client = quiet_pair()
        local co = start(client)
        client:close()
        local ok, err = finish(co, compat.unpack(with, 1, with.n))
        assert.equal("closed", code_of(ok, err))
        assert.equal(start == reading and "read" or "write", err.operation)
      end
    end
    local client = pair()
    local co = waiting(client, "connect")
    client:close()
    assert.equal("closed", code_of(finish(co)))
  end)

  it("lines raises \"closed\" when it is closed under the loop", function()
    local client, server = quiet_pair()
    assert(server:write("one\n"))
    local co = coroutine.create(function()
      helper.each(client:lines(), function(line) assert.equal("one", line) end)
    end)
    resume(co)
    while client:stats().bytes_in == 0 do resume(co) end
    client:close()
    local ok, err = coroutine.resume(co)
    assert.is_false(ok)
    assert.equal("closed", err.code)
  end)
end)

describe("timeout 0", function()
  it("never waits: want_read and want_write, and nothing is lost", function()
    local client, server = quiet_pair()
    client:settimeout(0)
    for _, verb in ipairs { "read", "recv", "peek" } do
      local ok, err = client[verb](client)
      assert.equal("want_read", code_of(ok, err))
      assert.equal(verb, err.operation)
      assert.equal(0, err.partial)
    end
    local ok, err = client:write(BIG)
    assert.equal("want_write", code_of(ok, err))
    assert.is_true(err.written > 0 and err.written < #BIG)
    local sent = err.written
    server:settimeout(0)
    local parts = {}
    while sent < #BIG do
      local part = server:recv()
      if part then
        parts[#parts + 1] = part
      else
        ok, err = client:write(BIG:sub(sent + 1))
        sent = ok and #BIG or sent + err.written
      end
    end
    assert(client:shutdown("write"))
    helper.together { function()
      server:settimeout(nil)
      parts[#parts + 1] = server:read("a")
    end }
    assert.is_true(table.concat(parts) == BIG)
  end)

  it("finds at the first call what is there", function()
    local client, server = quiet_pair()
    client:settimeout(0)
    for i = 1, 5 do
      assert(server:write("message ", i))
      assert.equal("message " .. i, client:recv())
    end
  end)

  it("leaves a handshake resumable", function()
    for _, version in ipairs { "1.2", "1.3" } do
      local none = { timeout = 0 }
      local client, server, pump = pair("a relay of 64 bytes", none, none, helper.contexts(version))
      local done = {}
      helper.until_true(function()
        for conn, verb in pairs { [client] = "connect", [server] = "accept" } do
          if not done[conn] then
            local ok, err = conn[verb](conn)
            if ok then
              done[conn] = true
            else
              assert.is_true(err.code == "want_read" or err.code == "want_write")
              assert.equal(verb, err.operation)
            end
          end
        end
        pump()
        return done[client] and done[server]
      end, "the handshake")
      assert.is_true(client:handshake_done() and server:handshake_done())
    end
  end)

  it("set in the middle is for later operations only", function()
    local client, server = quiet_pair()
    local co = reading(client)
    client:settimeout(0)
    local _, want = resume(co)
    assert.equal("suspended", coroutine.status(co))
    assert.equal("read", want)
    assert(server:write("x\n"))
    assert.equal("x", finish(co))
    assert.equal("want_read", code_of(client:read()))
  end)
end)

describe("a timeout", function()
  it("is one deadline for an operation, however often it is resumed", function()
    for _, start in ipairs { reading, writing } do
      local client = quiet_pair()
      local before = tls.now()
      client:settimeout(SHORT * 10)
      local co, deadline = start(client)
      assert.is_true(deadline >= before + SHORT * 10 and deadline <= tls.now() + SHORT * 10)
      for _ = 1, 100 do
        local _, _, again = resume(co)
        assert.equal(deadline, again)
      end
      client:settimeout(1000)
      local _, _, again = resume(co)
      assert.equal(deadline, again)
      wait_past(deadline)
      local ok, err = finish(co)
      assert.equal("timeout", code_of(ok, err))
      assert.matches("timed out", tostring(err), 1, true)
    end
  end)

  it("gives what has come in time, even after the deadline", function()
    local client, server = quiet_pair()
    client:settimeout(SHORT)
    local co, deadline = reading(client)
    assert(server:write("late\n"))
    wait_past(deadline)
    assert.equal("late", finish(co))
  end)

  it("a trickle does not put it off", function()
    local client, server = quiet_pair()
    client:settimeout(SHORT)
    local co, deadline = reading(client)
    while coroutine.status(co) == "suspended" do
      assert(server:write("."))
      local _, _, again = resume(co)
      if coroutine.status(co) == "suspended" then assert.equal(deadline, again) end
      assert.is_true(tls.now() < deadline + 5 * helper.slow)
    end
    assert.is_true(tls.now() >= deadline)
    assert.is_true(client:pending() > 0)
  end)

  it("said by the scheduler is one too", function()
    local client = quiet_pair()
    local co = reading(client)
    local ok, err = finish(co, nil, "timeout")
    assert.equal("timeout", code_of(ok, err))
    assert.equal("read", err.operation)
    co = reading(client)
    assert.equal("timeout", code_of(finish(co, false, "timeout")))
  end)

  it("of lines raises the error object; the loop can be begun again", function()
    local client, server = quiet_pair()
    assert(server:write("one\ntw"))
    local seen = {}
    local co = coroutine.create(function()
      helper.each(client:lines(), function(line) seen[#seen + 1] = line end)
    end)
    while #seen == 0 do resume(co) end
    local ok, err = coroutine.resume(co, nil, "timeout")
    assert.is_false(ok)
    assert.is_true(tls.is_error(err))
    assert.equal("timeout", err.code)
    assert.equal(2, err.partial)
    assert(server:write("o\n"))
    assert.equal("two", helper.together { client:lines() }[1][1])
  end)

  it("of a handshake leaves it resumable", function()
    local client, server = pair(nil, { timeout = SHORT })
    local co, _, deadline = waiting(client, "connect")
    wait_past(deadline)
    local ok, err = finish(co)
    assert.equal("timeout", code_of(ok, err))
    assert.equal("connect", err.operation)
    assert.is_not_nil(client:fileno())
    client:settimeout(nil)
    co = waiting(client, "connect")
    assert.equal("timeout", code_of(finish(co, nil, "timeout")))
    helper.shake(client, server)
  end)

  it("handshake_timeout counts over all retries and closes", function()
    local client = pair(nil, { handshake_timeout = SHORT })
    local _, _, first = waiting(client, "connect")
    assert.is_true(first <= tls.now() + SHORT)
    client:close()

    client = pair(nil, { handshake_timeout = SHORT, timeout = SHORT / 10 })
    local tries, begun = 0, tls.now()
    local last
    repeat
      local co = coroutine.create(function() return client:connect() end)
      local _, conn, err, deadline = coroutine.resume(co)
      if coroutine.status(co) == "dead" then -- a slow machine: the time was up before it had to wait
        assert.is_nil(conn)
        last = err
      else
        assert.is_true(deadline <= begun + SHORT + 0.02 * helper.slow)
        wait_past(deadline)
        last = select(2, finish(co))
      end
      assert.equal("timeout", last.code)
      tries = tries + 1
    until not client:fileno() or tries > 1000
    assert.is_nil(client:fileno())
    assert.is_true(tls.now() >= begun + SHORT)
    assert.matches("handshake_timeout", tostring(last), 1, true)
    assert.equal("closed", code_of(client:connect()))
  end)

  it("handshake_timeout holds for an implicit handshake, with timeout 0 too", function()
    local client = pair(nil, { handshake_timeout = SHORT, timeout = 0 })
    client:set_connect_state()
    assert.equal("want_read", code_of(client:read()))
    wait_past(tls.now() + SHORT)
    local ok, err = client:read()
    assert.equal("timeout", code_of(ok, err))
    assert.equal("read", err.operation)
    assert.is_nil(client:fileno())
  end)

  it("handshake_timeout is 60 seconds by default, or none", function()
    local client = pair()
    local _, _, deadline = waiting(client, "connect")
    assert.is_true(math.abs(deadline - tls.now() - 60) < 5 * helper.slow)
    client = pair(nil, { handshake_timeout = false })
    _, _, deadline = waiting(client, "connect")
    assert.is_nil(deadline)
  end)

  it("handshake_timeout of the past does not bother what comes after", function()
    local client, server = handshaken(nil, { handshake_timeout = 2 * helper.slow })
    local _, deadline = reading(client)
    assert.is_nil(deadline)
    server:close()
  end)

  it("handshake_timeout of the past is no timeout of what never waits", function()
    local client = handshaken(nil, { handshake_timeout = SHORT })
    client:settimeout(0)
    wait_past(tls.now() + SHORT)
    assert.equal("want_read", code_of(client:read()))
  end)
end)

describe("cancellation", function()
  it("gives \"cancelled\" and the reason", function()
    local client, server = quiet_pair()
    for _, case in ipairs {
      { compat.pack(nil, "shutting down"), "shutting down" }, { compat.pack(false, "no"), "no" },
      { compat.pack(nil), "nil" }, { compat.pack(nil, 42), "42" }, { compat.pack(false, nil), "nil" },
      { compat.pack(nil, setmetatable({}, { __tostring = function() return "text" end })), "text" },
    } do
      local co = reading(client)
      local ok, err = finish(co, compat.unpack(case[1], 1, case[1].n))
      assert.equal("cancelled", code_of(ok, err))
      assert.equal(case[2], err.reason)
      assert.equal("read", err.operation)
    end
    -- nothing was harmed
    local co = reading(client)
    assert(server:write("fine\n"))
    assert.equal("fine", finish(co))
  end)

  it("with an error object gives that object", function()
    local _, given = tls.context { role = "nobody" }
    assert.is_true(tls.is_error(given))
    local client = quiet_pair()
    for _, start in ipairs { reading, writing } do
      local co = start(client)
      local ok, err = finish(co, nil, given)
      assert.is_nil(ok)
      assert.equal(given, err)
      assert.equal("config", err.code)
    end
  end)

  it("of a handshake closes", function()
    for _, verb in ipairs { "connect", "do_handshake", "read", "write", "recv" } do
      local client, server = pair()
      client:set_connect_state()
      local co = waiting(client, verb, compat.unpack(verb == "write" and { "x" } or {}))
      local ok, err = finish(co, nil, "why not")
      assert.equal("cancelled", code_of(ok, err))
      assert.equal("why not", err.reason)
      assert.equal(verb, err.operation)
      assert.is_nil(client:fileno())
      local got = helper.together { function() return server:accept() end }[1]
      assert.is_nil(got[1])
    end
  end)

  it("of a read loses nothing", function()
    local client, server = quiet_pair()
    assert(server:write("0123456789"))
    local co = reading(client, 20)
    resume(co)
    assert.equal(10, client:pending())
    local ok, err = finish(co, nil, "stop")
    assert.equal("cancelled", code_of(ok, err))
    assert.equal(10, err.partial)
    assert.equal(10, client:pending())
    assert(server:write("abcdefghij"))
    co = coroutine.create(function() return client:read(20) end)
    local got
    helper.until_true(function()
      got = resume(co)
      return coroutine.status(co) == "dead"
    end)
    assert.equal("0123456789abcdefghij", got)
  end)

  it("of a write tells what is written, exactly", function()
    local client, server = quiet_pair()
    local co = writing(client)
    local ok, err = finish(co, nil, "stop")
    assert.equal("cancelled", code_of(ok, err))
    assert.is_true(err.written > 0 and err.written < #BIG)
    local rest = BIG:sub(err.written + 1):gsub("x", "y")
    local results = helper.together {
      function()
        assert(client:write(rest))
        assert(client:shutdown("write"))
      end,
      function() return server:read("a") end,
    }
    assert.is_true(results[2][1] == ("x"):rep(err.written) .. rest)
  end)
end)

describe("busy", function()
  it("is a second reader", function()
    local client, server = quiet_pair()
    local co = reading(client)
    for _, verb in ipairs { "read", "recv", "peek", "shutdown" } do
      local ok, err = client[verb](client)
      assert.equal("busy", code_of(ok, err))
      assert.equal(verb, err.operation)
    end
    local ok, err = pcall(client:lines())
    assert.is_false(ok)
    assert.equal("busy", err.code)
    assert(client:write("writing is another matter\n"))
    assert(server:write("x\n"))
    assert.equal("x", finish(co))
    assert.equal("writing is another matter", helper.together { function() return server:read() end }[1][1])
  end)

  it("is a second writer", function()
    local client, server = quiet_pair()
    local co = writing(client)
    for _, verb in ipairs { { "write", "x" }, { "write" }, { "shutdown", "write" }, { "shutdown" } } do
      local ok, err = client[verb[1]](client, compat.unpack(verb, 2))
      assert.equal("busy", code_of(ok, err))
      assert.equal(verb[1], err.operation)
      if verb[1] == "write" then assert.equal(0, err.written) end
    end
    assert(server:write("reading is another matter\n"))
    assert.equal("reading is another matter", helper.together { function() return client:read() end }[1][1])
    resume(co)
    assert.equal("suspended", coroutine.status(co))
  end)

  it("is anything during a handshake", function()
    for _, verb in ipairs { "connect", "read", "write" } do
      local client, server = pair()
      client:set_connect_state()
      local co = waiting(client, verb, compat.unpack(verb == "write" and { "x\n" } or {}))
      local others = { { "connect" }, { "do_handshake" }, { "read" }, { "recv" }, { "peek" }, { "write", "x" } }
      for _, other in ipairs(others) do
        local ok, err = client[other[1]](client, compat.unpack(other, 2))
        assert.equal("busy", code_of(ok, err))
        assert.equal(other[1], err.operation)
      end
      assert.is_nil(client:shutdown())
      helper.together {
        function()
          assert(server:accept())
          assert(server:write("x\n"))
        end,
        function()
          while coroutine.status(co) == "suspended" do
            resume(co)
            coroutine.yield(client, "read")
          end
        end,
      }
      assert.is_true(client:handshake_done())
    end
  end)

  it("is anything during a two-way shutdown", function()
    local client = quiet_pair()
    local co = waiting(client, "shutdown")
    for _, verb in ipairs { { "read" }, { "recv" }, { "write", "x" }, { "shutdown" }, { "shutdown", "write" } } do
      assert.equal("busy", code_of(client[verb[1]](client, compat.unpack(verb, 2))))
    end
    assert.equal("timeout", code_of(finish(co, nil, "timeout")))
  end)

  it("closing is not", function()
    local client = quiet_pair()
    local co = reading(client)
    assert.is_true(client:close())
    assert.equal("closed", code_of(finish(co)))
  end)
end)

describe("an abandoned coroutine's slot", function()
  -- A quiet pair, and the client's scheduler, whose wait may be set.
  local function with_scheduler()
    local scheduler = { wait = coroutine.yield }
    local client, server = quiet_pair { scheduler = { wait = function(...) return scheduler.wait(...) end } }
    return client, server, scheduler
  end

  local function still_works(client, server)
    local results = helper.together {
      function()
        assert(client:write("ping\n"))
        return client:read()
      end,
      function()
        local line
        repeat line = server:read() until line:find("ping", 1, true)
        assert(server:write("pong\n"))
      end,
    }
    assert.equal("pong", results[1][1])
  end

  it("is free when the coroutine is dropped and collected", function()
    local client, server = quiet_pair()
    local dropped = { reading(client) }
    assert.equal("busy", code_of(client:read()))
    assert.equal("suspended", coroutine.status(dropped[1]))
    dropped[1] = nil
    collectgarbage()
    still_works(client, server)
  end)

  it("is free when the coroutine is closed", function()
    local client, server = quiet_pair()
    local co = reading(client)
    assert.is_true(coroutine.close(co))
    still_works(client, server)
  end)

  it("is free for writing too: what was accepted is flushed first", function()
    for _, leave in ipairs { "collected", coroutine.close } do
      local client, server = quiet_pair()
      local abandoned = { writing(client) }
      if leave == coroutine.close then leave(abandoned[1]) end
      abandoned[1] = nil
      collectgarbage()
      local results = helper.together {
        function()
          assert(client:write("ping\n"))
          assert(client:shutdown("write"))
        end,
        function() return server:read("a") end,
      }
      assert.matches("^x+ping\n$", results[2][1])
    end
  end)

  it("is free when the scheduler's wait raised, in the coroutine that goes on", function()
    local client, server, scheduler = with_scheduler()
    scheduler.wait = function() error("no more waiting", 0) end
    local co = coroutine.create(function()
      for _ = 1, 3 do
        local ok, err = pcall(client.read, client)
        assert.is_false(ok)
        assert.equal("no more waiting", err)
      end
      assert(server:write("x\n"))
      scheduler.wait = coroutine.yield
      return client:read()
    end)
    if resume(co) == client then assert.equal("x", finish(co)) end
    still_works(client, server)
  end)

  it("is free for others when the scheduler's wait raised and the coroutine lives on", function()
    local occupations = {
      ["yields the connection"] = function(client) return coroutine.yield(client, "something else") end,
      ["writes"] = function(client) return client:write(BIG) end,
    }
    for name, occupation in pairs(occupations) do
      local client, server, scheduler = with_scheduler()
      scheduler.wait = function() error("once", 0) end
      local co = coroutine.create(function()
        assert.is_false(pcall(client.read, client))
        scheduler.wait = coroutine.yield
        return occupation(client)
      end)
      resume(co)
      assert.equal("suspended", coroutine.status(co))
      assert(server:write("for the other\n"))
      local got = helper.together { function() return client:read() end }[1]
      assert.equal("for the other", got[1], name .. ": " .. tostring(got[2]))
    end
  end)

  it("is free when the coroutine died of an error", function()
    local client, server, scheduler = with_scheduler()
    scheduler.wait = function() error("dead", 0) end
    local co = coroutine.create(function() return client:read() end)
    assert.same({ false, "dead" }, { coroutine.resume(co) })
    scheduler.wait = coroutine.yield
    still_works(client, server)
    assert.equal("dead", coroutine.status(co))
  end)

  it("of a handshake that died of an error closes at the next call", function()
    local scheduler = { wait = function() error("dead", 0) end }
    local client = pair(nil, { scheduler = scheduler })
    local co = coroutine.create(function() return client:connect() end)
    assert.same({ false, "dead" }, { coroutine.resume(co) })
    scheduler.wait = coroutine.yield
    assert.equal("closed", code_of(finish(coroutine.create(function() return client:connect() end))))
    assert.equal("dead", coroutine.status(co))
  end)

  it("of a handshake closes the connection at the next call", function()
    for _, leave in ipairs { function() end, coroutine.close } do
      local client, server = pair()
      local abandoned = { waiting(client, "connect") }
      leave(abandoned[1])
      abandoned[1] = nil
      collectgarbage()
      assert.equal("closed", code_of(client:connect()))
      assert.is_nil(client:fileno())
      local got = helper.together { function() return server:accept() end }[1]
      assert.is_nil(got[1])
    end
  end)

  it("of an implicit handshake too", function()
    local client = pair()
    client:set_connect_state()
    coroutine.close((waiting(client, "write", "x")))
    assert.equal("closed", code_of(client:read()))
    assert.is_nil(client:fileno())
  end)

  it("is held by a coroutine that is suspended, running or normal", function()
    local client, _, scheduler = with_scheduler()
    local inner
    scheduler.wait = function()
      -- in the same coroutine, in the middle of its own read
      inner = { client:recv() }
      -- and from another one, while this one is "normal"
      local co = coroutine.create(function() return client:peek() end)
      inner[3] = select(2, finish(co))
      return nil, "enough"
    end
    local ok, err = finish(coroutine.create(function() return client:read() end))
    assert.equal("cancelled", code_of(ok, err))
    assert.equal("busy", inner[2].code)
    assert.equal("busy", inner[3].code)
  end)
end)

describe("in the main thread", function()
  it("poll(2) waits for what is to come", function()
    local client, server = quiet_pair()
    client:settimeout(10 * helper.slow)
    local fd = server:fileno()
    assert(client:write("x\n"))
    assert.equal("x", server:read())
    local ok, err
    server:settimeout(SHORT)
    local before = tls.now()
    ok, err = server:read()
    assert.equal("timeout", code_of(ok, err))
    assert.is_true(tls.now() >= before + SHORT - 0.001)
    assert.is_true(tls.now() < before + SHORT + 2 * helper.slow)
    assert.equal(fd, server:fileno())
    server:settimeout(0)
    assert.equal("want_read", code_of(server:read()))
  end)

  it("poll(2) waits to write, too", function()
    local client = quiet_pair()
    client:settimeout(SHORT)
    local ok, err = client:write(BIG)
    assert.equal("timeout", code_of(ok, err))
    assert.is_true(err.written > 0)
  end)

  it("a handshake blocks, and times out", function()
    local client = pair(nil, { handshake_timeout = SHORT })
    local ok, err = client:connect()
    assert.equal("timeout", code_of(ok, err))
    assert.is_nil(client:fileno())
  end)

  it("a peer in another process is waited for", function()
    local child = helper.start({ helper.lua, "-e", [[
      local tls, core, helper = require "cotls", require "cotls.core", require "spec.helper"
      local listener = assert(tls.listen("127.0.0.1", 0, { context = helper.server_context() }))
      io.stdout:setvbuf "no"
      io.write(listener:port(), " ", helper.ca.certificate, "ready\n")
      helper.each(listener, function(conn)
        assert(conn:accept())
        for line in conn:lines() do assert(conn:write(line:upper(), "\n")) end
        assert(conn:shutdown())
        os.exit(0, true)
      end)
    ]] })
    local port, ca = child:wait_for("^(%d+) (.*)ready\n", 20)
    local conn = assert(tls.connect("127.0.0.1", tonumber(port), { ca = ca, timeout = 20 * helper.slow }))
    for i = 1, 20 do
      assert(conn:write("line ", i, "\n"))
      assert.equal("LINE " .. i, conn:read())
    end
    assert(conn:shutdown())
    assert.is_nil(conn:read())
    assert.equal(0, child:wait(20))
    child:stop()
  end)

  -- Sends SIGINT once the child sleeps: in poll(2), or so near that it makes no difference.
  local function interrupt(child)
    child:wait_for("ready")
    helper.until_true(function()
      local handle = assert(io.open(("/proc/%d/stat"):format(child.pid)))
      local state = handle:read("*a"):match("%) (%a)")
      handle:close()
      return state == "S"
    end, "its sleep")
    child:kill("sigint")
    local status = child:wait(10)
    child:stop()
    return status
  end

  it("Ctrl-C interrupts a wait", function()
    local child = helper.start({ helper.lua, "-e", [[
      local helper = require "spec.helper"
      local client = helper.pair()
      io.stderr:write "ready\n"
      client:connect()
    ]] })
    assert.equal(1, interrupt(child))
    assert.matches("interrupted!", child.stderr, 1, true)
  end)

  it("a debug hook that raises ends a wait and frees the slot", function()
    local child = helper.start({ helper.lua, "-e", [[
      local helper = require "spec.helper"
      local client, server = helper.handshaken()
      print(pcall(function()
        io.stderr:write "ready\n"
        client:read()
      end))
      debug.sethook()
      assert(server:write "x\n")
      print(client:read())
    ]] })
    assert.equal(0, interrupt(child), child.stderr)
    assert.matches("false\t[^\n]*interrupted!\nx\n", child.stdout)
  end)
end)

describe("a scheduler", function()
  after_each(function() tls.scheduler = nil end)

  -- Notes who is asked; cancels with its name.
  local function named(name, log)
    return {
      wait = function(conn, want, deadline)
        log[#log + 1] = { name, conn, want, deadline }
        return nil, name
      end,
    }
  end

  local function asked(client)
    local co = coroutine.create(function() return client:read() end)
    local ok, err = finish(co)
    assert.equal("cancelled", code_of(ok, err))
    return err.reason
  end

  it("is the connection's, its context's, then the module's", function()
    local log = {}
    local contexts = {
      client = helper.client_context { scheduler = named("the context's", log) },
      server = helper.contexts().server,
    }
    tls.scheduler = named("the module's", log)
    local function fresh(options, which)
      local client = pair(nil, options, nil, which)
      client:set_connect_state()
      return client
    end
    assert.equal("the connection's", asked(fresh({ scheduler = named("the connection's", log) }, contexts)))
    assert.equal("the context's", asked(fresh({}, contexts)))
    assert.equal("the module's", asked(fresh({})))
    assert.equal(3, #log)
    assert.equal("read", log[1][3])
    tls.scheduler = nil
    local client = fresh({})
    assert.equal("read", (select(2, waiting(client, "connect"))))
  end)

  it("is told connection, want and deadline; its answer is judged as a resume is", function()
    local answers = {
      { compat.pack(nil, "timeout"), "timeout" }, { compat.pack(false, "timeout"), "timeout" },
      { compat.pack(nil, "x"), "cancelled" }, { compat.pack(nil), "cancelled" },
    }
    local scheduler = { wait = coroutine.yield }
    local client, server = quiet_pair { scheduler = { wait = function(...) return scheduler.wait(...) end } }
    client:settimeout(100)
    for _, case in ipairs(answers) do
      scheduler.wait = function(conn, want, deadline)
        assert.equal(client, conn)
        assert.equal("read", want)
        assert.is_true(deadline > tls.now())
        return compat.unpack(case[1], 1, case[1].n)
      end
      local co = coroutine.create(function() return client:read() end)
      assert.equal(case[2], code_of(finish(co)))
    end
    local calls = 0
    scheduler.wait = function()
      calls = calls + 1
      if calls == 3 then assert(server:write("x\n")) end
      if calls % 2 == 0 then return true end
    end
    assert.equal("x", finish(coroutine.create(function() return client:read() end)))
    assert.is_true(calls >= 3)
  end)

  it("that yields is not asked where the caller can't", function()
    local log = {}
    local client = pair(nil, { scheduler = named("x", log) })
    local ok, err = pcall(client.connect, client)
    assert.is_false(ok)
    assert.matches("can't wait here: call it in a coroutine", err, 1, true)
    assert.equal(0, #log)
  end)

  it("that says blocking = true is asked in the main thread", function()
    local count = 0
    local scheduler = { blocking = true, wait = print }
    local client, server = pair(nil, { scheduler = scheduler }, { timeout = 0 })
    function scheduler.wait(conn, want)
      assert.equal(client, conn)
      assert.equal("read", want)
      server:accept()
      return true
    end
    assert(client:connect())
    function scheduler.wait(_, _, deadline)
      assert.is_nil(deadline)
      count = count + 1
      assert(server:write("x\n"))
      return true
    end
    assert.equal("x", client:read())
    assert.is_true(count >= 1)
  end)

  it("may close the connection while it waits", function()
    local client = nil
    local scheduler = { blocking = true, wait = function()
      client:close()
      return true
    end }
    client = pair(nil, { scheduler = scheduler })
    assert.equal("closed", code_of(client:connect()))
  end)

  it("of a wrong type is refused at once", function()
    for _, wrong in ipairs { 5, "luv", true, {}, { wait = 5 }, print } do
      assert.error_matches(function() tls.scheduler = wrong end, "tls.scheduler")
      assert.is_nil(tls.scheduler)
    end
    tls.scheduler = { wait = coroutine.yield }
    tls.scheduler = nil
    assert.is_nil(tls.scheduler)
  end)

  it("is told of a release before the descriptor closes, by close and by the collector", function()
    local released = {}
    local scheduler = {
      wait = function(...) return coroutine.yield(...) end,
      release = function(conn)
        local fd = conn:fileno()
        released[#released + 1] = { fd = fd, open = fd and uv.fs_fstat(fd) ~= nil }
        conn:close()
        conn:read()
      end,
    }
    local client = pair(nil, { scheduler = scheduler })
    client:close()
    assert.equal(0, #released) -- never waited
    client = pair(nil, { scheduler = scheduler })
    local co = waiting(client, "connect")
    local fd = client:fileno()
    client:close()
    client:close()
    assert.same({ { fd = fd, open = true } }, released)
    assert.equal("closed", code_of(finish(co)))
    local server
    client, server = helper.pair(nil, { scheduler = scheduler })
    fd = client:fileno()
    co = waiting(client, "connect")
    assert.is_not_nil(server:fileno())
    assert.equal("suspended", coroutine.status(co))
    co, client = nil, nil -- luacheck: ignore
    collectgarbage()
    collectgarbage()
    assert.equal(2, #released)
    assert.same({ fd = fd, open = true }, released[2])
  end)

  it("whose release raises or yields harms nobody", function()
    for _, release in ipairs { function() error "no" end, coroutine.yield, 5 } do
      local scheduler = { wait = function(...) return coroutine.yield(...) end, release = release }
      local client = pair(nil, { scheduler = scheduler })
      local co = waiting(client, "connect")
      local fd = client:fileno()
      finish(coroutine.create(function() assert.is_true(client:close()) end))
      assert.is_nil(uv.fs_fstat(fd))
      assert.equal("closed", code_of(finish(co)))
    end
  end)

  it("that is replaced is told of the release", function()
    local log = {}
    local function make(name)
      return {
        wait = function(...) return coroutine.yield(...) end,
        release = function() log[#log + 1] = name end,
      }
    end
    local client = pair()
    tls.scheduler = make "first"
    local co = waiting(client, "connect")
    tls.scheduler = make "second"
    resume(co)
    assert.same({ "first" }, log)
    client:close()
    assert.same({ "first", "second" }, log)
  end)
end)

describe("a transport that answers \"not now\" after every byte", function()
  it("completes", function()
    for _, version in ipairs { "1.2", "1.3" } do
      local client, server, pump = handshaken("a relay of 1 byte", nil, nil, helper.contexts(version))
      local results = helper.together({
        function()
          assert(client:write("all of it\n"))
          local line, three, rest = client:read("l", 3, "a")
          assert(client:shutdown())
          return line, three, rest
        end,
        function()
          assert.equal("all of it", server:read())
          assert(server:write("line\nabcdef"))
          assert(server:shutdown())
        end,
      }, pump)
      assert.same({ "line", "abc", "def", n = 3 }, results[1])
    end
  end)
end)

describe("a scheduler whose release cannot even be looked up", function()
  it("does not keep a connection from closing", function()
    local fds = helper.settled_fds()
    for _ = 1, 5 do
      local scheduler = setmetatable({ wait = function() return nil, "no" end, blocking = true }, {
        __index = function(_, name) if name == "release" then error "no release" end end,
      })
      local client, server = helper.pair(nil, { scheduler = scheduler })
      local ok, err = client:connect()
      assert.is_nil(ok)
      assert.equal("cancelled", err.code)
      assert.is_nil(client:fileno())
      assert.is_true(client:close())
      server:close()
    end
    collectgarbage()
    assert.equal(fds, helper.count_fds())
    local client, server = helper.handshaken()
    assert(client:write("x\n"))
    assert.equal("x", helper.together { function() return server:read() end }[1][1])
  end)
end)
