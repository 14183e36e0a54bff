-- Streams: which objects are taken for one, what their functions are given, and what comes of their results.

local compat = require "cotls.compat"
local tls = require "cotls"
local core = require "cotls.core"
local helper = require "spec.helper"
local streams = require "spec.streams"

local code_of = helper.code_of
local contexts = helper.contexts()

local function nothing() end

-- A connection of the server's over an object, not handshaken.
local function over(object, options)
  return assert(contexts.server:wrap(object, options))
end

-- What accept comes to over a stream with these functions, in a coroutine.
local function accept_over(functions, options)
  local conn = over(functions, options)
  return helper.together({ function() return conn:accept() end })[1], conn
end

describe("what is a stream", function()
  local function is_stream(object, options)
    local conn = over(object, options)
    assert.is_nil(conn:fileno())
    assert.equal(object, conn:transport())
    return conn
  end

  it("is found out by its methods", function()
    is_stream { read = nothing, write = nothing }
    is_stream { recv = nothing, write = nothing }
    is_stream { receiveany = nothing, send = nothing }
    is_stream(setmetatable({}, { __index = { read = nothing, write = nothing } }))
  end)

  it("is chosen in this order", function()
    local log = {}
    local function note(name)
      return function()
        log[#log + 1] = name
        return nil, name
      end
    end
    local fd, other = helper.socketpair()
    local object = {
      receiveany = note "receiveany", send = note "send", recv = note "recv", write = note "write", read = note "read",
      getfd = function() return fd end,
    }
    for _, case in ipairs {
      { "receiveany", "receiveany" }, { "recv", "recv" }, { "fd", "getfd" }, { "read", "read" },
    } do
      local conn = over(object)
      if case[1] == "fd" then
        assert.equal(fd, conn:fileno())
      else
        local ok, err = conn:accept()
        assert.equal("system", code_of(ok, err))
        assert.equal(case[1], log[#log])
        assert.matches("the transport's " .. case[1] .. " failed: " .. case[1], tostring(err), 1, true)
      end
      object[case[2]] = nil
    end
    helper.close_fd(fd)
    helper.close_fd(other)
  end)

  it("a descriptor comes before read and write, unless the option says otherwise", function()
    local fd, other = helper.socketpair()
    local object = { read = nothing, write = nothing, fileno = function() return fd end }
    assert.equal(fd, over(object):fileno())
    is_stream(object, { transport = "stream" })
    object.recv = nothing
    is_stream(object)
    assert.equal(fd, over(object, { transport = "fd" }):fileno())
    object.pollfd = object.fileno -- a socket of cqueues: its recv is of another kind
    assert.equal(fd, over(object):fileno())
    helper.close_fd(fd)
    helper.close_fd(other)
  end)

  it("what is none is refused", function()
    for _, object in ipairs { 5, "x", {}, true, { read = nothing }, { recv = nothing, send = nothing } } do
      local conn, err = contexts.server:wrap(object, { transport = "stream" })
      assert.equal("config", code_of(conn, err))
      for _, word in ipairs { "receiveany and send", "recv and write", "read and write" } do
        assert.matches(word, tostring(err), 1, true)
      end
    end
    local conn, err = contexts.server:wrap { read = nothing }
    assert.equal("config", code_of(conn, err))
    for _, word in ipairs { "integer", "receiveany and send", "recv and write", "getfd", "read and write" } do
      assert.matches(word, tostring(err), 1, true)
    end
  end)

  it("a refused wrap closes nothing", function()
    local closed = 0
    local object = { read = nothing, write = nothing, close = function() closed = closed + 1 end }
    local conn, err = contexts.client:wrap(object)
    assert.equal("config", code_of(conn, err))
    collectgarbage()
    collectgarbage()
    assert.equal(0, closed)
  end)

  it("is closed once, kept alive until then, and not closed with owns = false", function()
    local closed = 0
    local function make(options)
      return over({ read = nothing, write = nothing, close = function() closed = closed + 1 end }, options)
    end
    local conn = make()
    collectgarbage()
    conn:close()
    conn:close()
    assert.equal(1, closed)
    make()
    collectgarbage()
    collectgarbage()
    assert.equal(2, closed)
    make({ owns = false }):close()
    assert.equal(2, closed)
    assert.is_true(over({ read = nothing, write = nothing }):close())
    assert.is_true(over({ read = nothing, write = nothing, close = function() error "no" end }):close())
  end)
end)

describe("a cosocket", function()
  it("gets its milliseconds before each call, and closed is the end", function()
    local log = {}
    local a, b = streams.pipes(65536)
    local socket = {
      settimeout = function(_, ms) log[#log + 1] = ms end,
      receiveany = function(_, max)
        local data, err = a:read(max)
        if not data then return nil, err or "closed" end
        return data
      end,
      send = function(_, bytes) return a:write(bytes) and #bytes end,
    }
    local client = assert(contexts.client:wrap(socket, { server_name = "localhost", timeout = 5 }))
    local server = over(b)
    helper.together {
      function()
        assert(client:connect())
        assert(client:write("hello\n"))
        assert.equal("bye", client:read())
        assert.is_nil(client:recv())
        client:settimeout(nil)
        assert(client:write("x"))
      end,
      function()
        assert(server:accept())
        assert.equal("hello", server:read())
        assert(server:write("bye\n"))
        assert(server:shutdown("write"))
        assert.equal("x", server:recv())
        server:close()
      end,
    }
    assert.is_true(#log >= 5)
    for i = 1, #log - 1 do assert.is_true(log[i] >= 1 and log[i] <= 5000) end
    assert.is_true(log[#log] > 1e9)
    local got = helper.together { function() return client:read() end }[1]
    assert.is_nil(got[1])
    assert.is_nil(got[2])
  end)
end)

describe("what a stream's functions give", function()
  -- In the place of read.
  local function reads(...)
    local given = compat.pack(...)
    local got = accept_over { read = function() return compat.unpack(given, 1, given.n) end, write = nothing }
    local ok, err = got[1], got[2]
    return code_of(ok, err), err
  end

  it("read: what is wrong is said", function()
    for _, case in ipairs {
      { "", "gave an empty string" }, { ("x"):rep(100000), "gave 100000 bytes, and was asked for at most" },
      { 5, "gave a number, not a string" }, { {}, "gave a table, not a string" }, { false, "gave a boolean" },
    } do
      local code, err = reads(case[1])
      assert.equal("system", code)
      assert.matches("accept: the transport's read " .. case[2], tostring(err), 1, true)
      assert.is_nil(err.errno)
      assert.is_nil(err.cause)
    end
  end)

  it("read: nil is the end, nothing too", function()
    assert.equal("truncated", (reads(nil)))
    assert.equal("truncated", (reads()))
  end)

  it("read: nil and a reason fail, with the reason as the cause", function()
    local value = {}
    for _, reason in ipairs { "no route", value, 17 } do
      local code, err = reads(nil, reason)
      assert.equal("system", code)
      assert.equal(reason, err.cause.error)
      assert.matches("the transport's read failed: ", tostring(err), 1, true)
    end
    assert.matches("failed: no route", tostring(select(2, reads(nil, "no route"))), 1, true)
  end)

  it("read: an error that is raised comes with its traceback", function()
    local got = accept_over { read = function() error({ "mine" }) end, write = nothing }
    assert.equal("system", code_of(got[1], got[2]))
    assert.equal("mine", got[2].cause.error[1])
    assert.matches("stream_spec", got[2].cause.traceback, 1, true)
    got = accept_over { recv = function() error "mine" end, write = nothing }
    assert.matches("the transport's recv failed: ", tostring(got[2]), 1, true)
    assert.matches("mine", tostring(got[2]), 1, true)
  end)

  it("read: a timeout is one, an error object of ours that says so too; a cancellation is told as it is", function()
    assert.equal("timeout", (reads(nil, "timeout")))
    local cancelled = core.error { code = "cancelled", operation = "wait", reason = "no more" }
    assert.equal(cancelled, select(2, reads(nil, cancelled)))
    assert.equal("timeout", (reads(nil, core.error { code = "timeout", operation = "recv" })))
    local other = core.error { code = "truncated", operation = "recv", reason = "gone" }
    local code, err = reads(nil, other)
    assert.equal("system", code)
    assert.equal(other, err.cause.error)
    assert.matches("recv: gone", tostring(err), 1, true)
  end)

  -- A client's first flight into a write.
  local function writes(...)
    local given = compat.pack(...)
    local conn = assert(contexts.client:wrap({
      read = nothing,
      write = function() return compat.unpack(given, 1, given.n) end,
    }, { server_name = "localhost" }))
    local got = helper.together { function() return conn:connect() end }[1]
    return code_of(got[1], got[2]), got[2], conn
  end

  it("write: a true value is all of it", function()
    assert.equal("truncated", (writes(true))) -- and then it reads
    assert.equal("truncated", (writes({})))
  end)

  it("write: what is wrong is said", function()
    for _, case in ipairs {
      { { 5 }, "gave 5, and had " }, { { nil }, "gave neither a true value nor an error" }, { {}, "gave neither" },
      { { false }, "gave neither" }, { { nil, "no room" }, "failed: no room" },
    } do
      local code, err = writes(compat.unpack(case[1], 1, 2))
      assert.equal("system", code)
      assert.matches("connect: the transport's write " .. case[2], tostring(err), 1, true)
    end
    assert.equal("no room", select(2, writes(nil, "no room")).cause.error)
  end)

  it("write: a timeout that says how much was written can be gone on from", function()
    local a, b = streams.pipes(65536)
    local calls, taken = 0, 0
    local narrow = {
      read = function(_, max, deadline) return a:read(max, deadline) end,
      write = function(_, bytes)
        calls = calls + 1
        local part = bytes:sub(1, 10)
        taken = taken + #part
        assert(a:write(part))
        if part == bytes then return true end
        return nil, "timeout", #part
      end,
    }
    local client = assert(contexts.client:wrap(narrow, { server_name = "localhost", timeout = 0 }))
    local server = over(b, { timeout = 0 })
    local c_ok, s_ok, c_err, s_err
    for _ = 1, 1000 do
      if not c_ok then c_ok, c_err = client:connect() end
      if not s_ok then s_ok, s_err = server:accept() end
      if c_ok and s_ok then break end
      assert.matches("^want_", c_err and c_err.code or "want_")
      assert.matches("^want_", s_err and s_err.code or "want_")
    end
    assert.is_truthy(c_ok and s_ok)
    assert.is_true(calls > 20)
    assert.equal(client:stats().bytes_out, taken)
    assert.equal(client:stats().bytes_out, server:stats().bytes_in)
  end)

  it("write: a timeout that doesn't say it ends the sending", function()
    local code, _, conn = writes(nil, "timeout")
    assert.equal("timeout", code)
    local ok, err = conn:connect()
    assert.equal("system", code_of(ok, err))
    assert.matches("without saying how much", tostring(err), 1, true)
  end)

  it("write: how much it has written is a number of bytes, not more than there are", function()
    for _, written in ipairs { 0.5, 0 / 0, 1 / 0, -1 / 0, 2 ^ 64, -1, 1e6, "0" } do
      local code, _, conn = writes(nil, "timeout", written)
      assert.equal("timeout", code)
      local ok, err = conn:connect()
      assert.equal("system", code_of(ok, err), tostring(written))
      assert.matches("without saying how much", tostring(err), 1, true)
    end
  end)
end)

describe("deadlines of a stream", function()
  -- The deadlines that connect's first read sees.
  local function seen(options, settimeout)
    local deadlines = {}
    local conn = assert(contexts.client:wrap({
      read = function(_, _, deadline)
        deadlines[#deadlines + 1] = deadline or "none"
        return nil, "timeout"
      end,
      write = function() return true end,
    }, helper.with({ server_name = "localhost" }, options)))
    if settimeout then conn:settimeout(settimeout) end
    local ok, err = conn:connect()
    return code_of(ok, err), deadlines[1]
  end

  it("are the operation's and the handshake's, whichever is first", function()
    local now = tls.now()
    local code, deadline = seen { timeout = 7 }
    assert.equal("timeout", code)
    assert.is_true(deadline >= now + 7 and deadline <= tls.now() + 7)
    code, deadline = seen { timeout = 100, handshake_timeout = 50 }
    assert.equal("timeout", code)
    assert.is_true(deadline >= now + 50 and deadline <= tls.now() + 50)
    code, deadline = seen { handshake_timeout = false }
    assert.equal("timeout", code)
    assert.equal("none", deadline)
  end)

  it("with a timeout of 0 have passed, and the timeout becomes a want", function()
    local code, deadline = seen({}, 0)
    assert.equal("want_read", code)
    assert.is_true(deadline <= tls.now())
  end)

  it("are looked at again by the driver", function()
    local conn = assert(contexts.client:wrap({
      read = function(_, _, deadline)
        while tls.now() < deadline do nothing() end
        return "\22\3\3"
      end,
      write = function() return true end,
    }, { server_name = "localhost", timeout = 0.02 }))
    local ok, err = conn:connect()
    assert.equal("timeout", code_of(ok, err))
  end)
end)

describe("a stream without a scheduler", function()
  it("works outside of coroutines", function()
    local a, b = streams.pipes(65536)
    local client = assert(contexts.client:wrap(a, { server_name = "localhost", timeout = 0 }))
    local server = over(b, { timeout = 0 })
    local done
    for _ = 1, 10 do
      local one, other = client:connect(), server:accept()
      done = one and other
      if done then break end
    end
    assert.is_truthy(done)
    assert(client:write("hello"))
    assert.equal("hello", server:recv())
    local ok, err = server:recv()
    assert.equal("want_read", code_of(ok, err))
    server:settimeout(nil)
    ok, err = server:recv()
    assert.equal("cancelled", code_of(ok, err))
    assert.matches("can't wait here: call it in a coroutine", tostring(err), 1, true)
    assert(client:write("again"))
    assert.equal("again", server:recv())
  end)
end)

-- Two handshaken connections whose pipes have this size, and the streams.
local function joined(size, version, client_options, server_options)
  local a, b = streams.pipes(size)
  local some = helper.contexts(version)
  local client = assert(some.client:wrap(a, helper.with({ server_name = "localhost" }, client_options)))
  local server = assert(some.server:wrap(b, server_options))
  helper.together {
    function()
      assert(client:connect())
      assert.equal("x", client:recv(1)) -- the session tickets with it
    end,
    function()
      assert(server:accept())
      assert(server:write("x"))
    end,
  }
  return client, server, a, b
end

describe("output", function()
  it("is pushed before what is to come is pulled, and after a step", function()
    local calls = ""
    local a, b = streams.pipes(65536)
    local client = assert(contexts.client:wrap({
      read = function(_, ...)
        calls = calls .. "r"
        return a:read(...)
      end,
      write = function(_, ...)
        calls = calls .. "w"
        return a:write(...)
      end,
    }, { server_name = "localhost" }))
    local server = over(b)
    helper.shake(client, server)
    assert.matches("^wr+w$", calls) -- ClientHello; the server's flight; Finished
    assert(client:write("x"))
    assert.matches("ww$", calls)
  end)

  it("of several records goes in one write", function()
    local client, server, a = joined(1024 * 1024)
    local pipe, count = a.to, 0
    local put = pipe.put
    function pipe:put(bytes)
      count = count + 1
      return put(self, bytes)
    end
    assert(client:write(("x"):rep(16384 * 8)))
    assert.equal(2, count)
    assert.equal(16384 * 8, #helper.together { function() return server:read(16384 * 8) end }[1][1])
  end)

  it("carries the alert of a failed handshake", function()
    local some = helper.strangers()
    local a, b = streams.pipes(64)
    local client = assert(some.client:wrap(a, { server_name = "localhost" }))
    local server = assert(some.server:wrap(b))
    local results = helper.together {
      function() return client:connect() end,
      function() return server:accept() end,
    }
    assert.equal("verify", code_of(results[1][1], results[1][2]))
    assert.equal("alert", code_of(results[2][1], results[2][2]))
    assert.equal("unknown_ca", results[2][2].alert.name)
  end)

  it("of a closing connection goes by try_write, or not at all, and never waits", function()
    for _, version in ipairs { "1.2", "1.3" } do
      local client, server = joined(65536, version)
      client:close()
      local got = helper.together { function() return server:read() end }[1]
      assert.equal(1, got.n)
      assert.is_nil(got[1])

      client, server = joined(16, version)
      client:close() -- which needs more room than 16 bytes
      got = helper.together { function() return server:read() end }[1]
      assert.equal("truncated", code_of(got[1], got[2]))
    end
    local plain = { read = nothing, write = function() error "never" end, close = nothing }
    local conn = over(plain)
    assert.is_true(conn:close())
  end)

  it("that try_write itself brings forth is not lost", function()
    local a, b = streams.pipes(65536)
    local client
    local object = {
      read = function(_, ...) return a:read(...) end,
      write = function(_, ...) return a:write(...) end,
      close = function() a:close() end,
      try_write = function(_, bytes)
        local n = a:try_write(bytes)
        assert(client:write "after it")
        return n
      end,
    }
    client = assert(contexts.client:wrap(object, { server_name = "localhost" }))
    local server = over(b)
    helper.shake(client, server)
    local sent
    local got = helper.together {
      function()
        sent = core.try_write(client, "first ")
        assert(client:write " and more")
        assert(client:shutdown "write")
      end,
      function() return server:read "a" end,
    }[2]
    assert.equal(6, sent)
    assert.equal("first after it and more", got[1])
  end)

  it("that try_write did not take is not told as sent", function()
    for _, given in ipairs { 0, 1, 1e6, "no", false } do
      local a, b = streams.pipes(65536)
      local client = assert(contexts.client:wrap({
        read = function(_, ...) return a:read(...) end,
        write = function(_, ...) return a:write(...) end,
        try_write = function() return given end,
      }, { server_name = "localhost" }))
      local server = over(b)
      helper.shake(client, server)
      assert.is_nil(core.try_write(client, "bytes"))
      assert.equal("system", code_of(client:write("more"))) -- a gap is no stream
    end
  end)

  it("is over where try_write closes the connection, too", function()
    local a, b = streams.pipes(65536)
    local client, server
    local object = {
      read = function(_, ...) return a:read(...) end,
      write = function(_, ...) return a:write(...) end,
      close = function() a:close() end,
      try_write = function() client:close() end,
    }
    client = assert(contexts.client:wrap(object, { server_name = "localhost" }))
    server = over(b)
    helper.shake(client, server)
    assert.is_true(client:close())
    local got = helper.together { function() return server:read() end }[1]
    assert.equal("truncated", code_of(got[1], got[2]))
  end)
end)

describe("two coroutines", function()
  it("read and write at once", function()
    local client, server = joined(64)
    local data = helper.noise(20000)
    local function send(conn)
      return function()
        assert(conn:write(data))
        assert(conn:shutdown("write"))
      end
    end
    local function take(conn)
      return function() assert.is_true(conn:read("a") == data) end
    end
    helper.together { send(client), take(server), send(server), take(client) }
  end)

  it("a second reader is busy, and the first one goes on", function()
    local client, server = joined(65536)
    local reader = coroutine.create(function() return server:recv() end)
    assert(coroutine.resume(reader))
    local ok, err = server:recv()
    assert.equal("busy", code_of(ok, err))
    assert(client:write("hello"))
    local _, got = coroutine.resume(reader)
    assert.equal("hello", got)
  end)

  it("closing a connection under one that reads or writes ends it", function()
    local client, server = joined(64)
    local reader = coroutine.create(function() return server:recv() end)
    assert(coroutine.resume(reader))
    local writer = coroutine.create(function() return client:write(("x"):rep(1000)) end)
    assert(coroutine.resume(writer))
    server:close()
    local _, ok, err = coroutine.resume(reader)
    assert.equal("closed", code_of(ok, err))
    client:close()
    _, ok, err = coroutine.resume(writer)
    assert.equal("closed", code_of(ok, err))
  end)

  it("one that dies while it writes ends the sending; while it reads, nothing", function()
    local client, server = joined(64)
    local reader = coroutine.create(function() return server:recv() end)
    assert(coroutine.resume(reader))
    reader = nil -- luacheck: ignore
    collectgarbage()
    collectgarbage()
    assert(client:write("x"))
    assert.equal("x", helper.together { function() return server:recv() end }[1][1])

    local writer = coroutine.create(function() return client:write(("x"):rep(1000)) end)
    assert(coroutine.resume(writer))
    assert.equal("suspended", coroutine.status(writer))
    writer = nil -- luacheck: ignore
    collectgarbage()
    collectgarbage()
    local ok, err = client:write("y")
    assert.equal("system", code_of(ok, err))
    assert.matches("the transport's write was left by a coroutine that died in it", tostring(err), 1, true)
    assert(server:write("z"))
    assert.equal("z", helper.together { function() return client:recv() end }[1][1]) -- reading goes on
  end)
end)

describe("every want in every state", function()
  for _, size in ipairs { 1, 64, 512, 17000 } do
    for _, version in ipairs { "1.2", "1.3" } do
      it(("pipes of %d, TLS %s"):format(size, version), function()
        local client, server = joined(size, version)
        local wants = {}
        local data = helper.noise(size == 1 and 1000 or 5000)
        local function note(fn)
          return function()
            local co = coroutine.create(fn)
            while true do
              local got = compat.pack(coroutine.resume(co))
              assert(got[1], got[2])
              if coroutine.status(co) == "dead" then return compat.unpack(got, 2, got.n) end
              wants[got[3]] = (wants[got[3]] or 0) + 1
              coroutine.yield(compat.unpack(got, 2, got.n))
            end
          end
        end
        local renewal = version == "1.3" and function(conn) assert(conn:key_update(true)) end or nothing
        helper.together {
          note(function()
            assert(client:write(data))
            renewal(client)
            assert(client:write(data))
            assert(client:shutdown("write"))
            assert.is_true(client:read("a") == data)
            assert.is_nil(client:recv())
          end),
          note(function()
            assert.is_true(server:read(2 * #data) == data .. data)
            assert.is_nil(server:read(1))
            assert(server:write(data))
            assert(server:shutdown())
          end),
        }
        assert.is_true(wants.read > 0)
        assert.is_true(wants.write and wants.write > 0 or size == 17000)
        assert.equal(client:stats().bytes_out, server:stats().bytes_in)
        assert.equal(server:stats().bytes_out, client:stats().bytes_in)
      end)
    end
  end
end)

describe("hooks over a stream", function()
  it("may wait, on both sides", function()
    local function wait_a_little() for _ = 1, 3 do coroutine.yield() end end
    local seen = {}
    local some = {
      client = helper.client_context {
        on_verify = function(_, ok)
          wait_a_little()
          seen.verify = true
          return ok
        end,
      },
      server = helper.server_context {
        on_server_name = function(_, name)
          wait_a_little()
          seen.name = name
          return true
        end,
      },
    }
    local a, b = streams.pipes(64)
    local client = assert(some.client:wrap(a, { server_name = "localhost" }))
    local server = assert(some.server:wrap(b))
    local results = helper.together {
      function()
        assert(client:connect())
        return client:recv(1)
      end,
      function()
        assert(server:accept())
        assert(server:write("x"))
      end,
    }
    assert.equal("x", results[1][1])
    assert.same({ verify = true, name = "localhost" }, seen)
  end)
end)

describe("TLS in TLS", function()
  it("three deep carries data, and an end is an end on each", function()
    for _, name in ipairs { "a socketpair", "a relay of 64 bytes", "a stream", "pipes of 512 bytes", "TCP" } do
      local client, server, pump = streams.tunnels(helper, name, 3)
      local data = helper.noise(20000)
      local results = helper.together({
        function()
          assert(client:write(data))
          assert(client:shutdown("write"))
          return client:read("a")
        end,
        function()
          local got = server:read("a")
          assert(server:write(got))
          assert(server:shutdown("write"))
          return got
        end,
      }, pump)
      assert.is_true(results[1][1] == data)
      assert.is_true(results[2][1] == data)
      local below = client:transport()
      assert.equal("userdata", type(below))
      assert.equal("userdata", type(below:transport()))
      client:close()
      assert.matches("closed", tostring(below), 1, true)
      assert.matches("closed", tostring(below:transport()), 1, true)
      server:close()
    end
  end)

  it("owns = false leaves the one below open, for what follows", function()
    local below, other = helper.handshaken()
    local client = assert(contexts.client:wrap(below, { server_name = "localhost", owns = false }))
    local server = assert(contexts.server:wrap(other, { owns = false }))
    helper.together {
      function()
        assert(client:connect())
        assert(client:shutdown())
      end,
      function()
        assert(server:accept())
        assert(server:shutdown())
      end,
    }
    client:close()
    server:close()
    assert(below:write("still here"))
    assert.equal("still here", helper.together { function() return other:recv() end }[1][1])
  end)

  it("the deadline is the one above's; the timeout of the one below stays its own", function()
    local below = helper.handshaken(nil, { timeout = 100 })
    local client = assert(contexts.client:wrap(below, { server_name = "localhost", timeout = 0 }))
    local ok, err = client:connect()
    assert.equal("want_read", code_of(ok, err))
    client:settimeout(0.01)
    ok, err = client:connect()
    assert.equal("timeout", code_of(ok, err))
    local reader = coroutine.create(function() return below:recv() end)
    local _, _, _, deadline = coroutine.resume(reader)
    assert.is_true(deadline > tls.now() + 50)
  end)

  it("the collector says nothing through the one below", function()
    local below, other = helper.handshaken(nil, nil, nil, helper.contexts "1.2")
    local client = assert(contexts.client:wrap(below, { server_name = "localhost" }))
    assert.equal(below, client:transport())
    client, below = nil, nil -- luacheck: ignore
    collectgarbage()
    collectgarbage()
    local got = helper.together { function() return other:read() end }[1]
    assert.equal("truncated", code_of(got[1], got[2]))
  end)
end)

describe("an idle stream", function()
  it("keeps no string", function()
    local a, b = streams.pipes(65536)
    local client = assert(contexts.client:wrap(a, { server_name = "localhost" }))
    local seen = setmetatable({}, { __mode = "v" })
    local server = over {
      read = function(_, max, deadline)
        local data = b:read(max, deadline)
        seen[1] = { data } -- strings themselves are no weak values
        return data
      end,
      write = function(_, bytes, deadline) return b:write(bytes, deadline) end,
    }
    helper.shake(client, server)
    assert(client:write(("x"):rep(10000)))
    assert.equal(10000, #helper.together { function() return server:read(10000) end }[1][1])
    local reader = coroutine.create(function() return server:recv() end)
    coroutine.resume(reader)
    collectgarbage()
    local before = collectgarbage("count")
    assert.is_true(before > 0)
    assert.is_nil(seen[1])
  end)
end)
