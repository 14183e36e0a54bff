local compat = require "cotls.compat"
local tls = require "cotls"
local core = require "cotls.core"
local luv = require "cotls.luv"
local uv = require "luv"
local helper = require "spec.helper"

local CLIENT, SERVER = helper.contexts().client, helper.contexts().server

local function listen(options)
  return assert(tls.listen("127.0.0.1", 0, options or { context = SERVER }))
end

-- A server for one connection in a process of its own: prints its port, says "hello" and what it was told.
local SERVER_PROGRAM = [[
  local tls = require "cotls"
  local function slurp(path)
    local handle = assert(io.open(path))
    local text = handle:read("*a")
    handle:close()
    return text
  end
  local listener = assert(tls.listen("127.0.0.1", 0, { certificate = slurp(arg[1]), key = slurp(arg[2]) }))
  print("port", listener:port())
  io.stdout:flush()
  for conn in listener do
    local ok, err = conn:accept()
    if ok then
      local line = conn:read()
      conn:write("hello ", tostring(line), "\n")
    else
      print("failed", err.code)
      io.stdout:flush()
    end
    conn:close()
  end
]]

local function start_server()
  local child = helper.start { helper.lua, helper.temp_file(SERVER_PROGRAM),
    helper.temp_file(helper.server_leaf.certificate), helper.temp_file(helper.server_leaf.key) }
  finally(function() child:stop() end)
  return child, tonumber(child:wait_for("port\t(%d+)"))
end

-- A socket that takes connections into its backlog, and nobody answers.
local function silent()
  local socket = assert(core.listen_socket("127.0.0.1", 0))
  local _, port = socket:address()
  return port, socket
end

local function talk(conn)
  assert(conn:write("you\n"))
  assert.equal("hello you", conn:read())
  assert.is_nil(conn:read())
  conn:close()
end

-- Serves "hello …" to each connection of the listener, in the loop.
local function serve(listener)
  luv.spawn(function()
    helper.each(listener, function(conn)
      luv.spawn(function()
        if conn:accept() then conn:write("hello ", conn:read() or "", "\n") end
        conn:close()
      end)
    end)
  end)
end

describe("tls.connect and tls.listen", function()
  it("under luv: a context's own, a shared one, options together", function()
    helper.in_loop(function()
      for _, options in ipairs { { context = SERVER }, helper.server_leaf } do
        local listener = listen(options)
        serve(listener)
        for _, host in ipairs { "localhost", "127.0.0.1" } do
          talk(assert(tls.connect(host, listener:port(), { context = CLIENT })))
          talk(assert(tls.connect(host, listener:port(), { ca = helper.ca.certificate, timeout = 5 })))
        end
        listener:close()
      end
    end)
  end)

  it("blocking, without a scheduler and outside of coroutines", function()
    local child, port = start_server()
    for _, host in ipairs { "localhost", "127.0.0.1" } do
      talk(assert(tls.connect(host, port, { context = CLIENT, timeout = 10 })))
    end
    local conn, err = tls.connect("127.0.0.1", port, { ca = helper.other_ca.certificate })
    assert.is_nil(conn)
    assert.equal("verify", err.code)
    child:wait_for("failed\talert")
  end)

  it("under raw yields: sockets are yielded, then connections", function()
    local listener = listen()
    local kinds = {}
    local served
    local server = coroutine.create(function()
      helper.each(listener, function(conn)
        assert(conn:accept())
        assert(conn:write("hello ", conn:read(), "\n"))
        assert(conn:shutdown())
        conn:close()
        served = true
        listener:close()
      end)
    end)
    local client = coroutine.create(function()
      talk(assert(tls.connect("127.0.0.1", listener:port(), { context = CLIENT })))
    end)
    helper.until_true(function()
      for _, co in ipairs { server, client } do
        if coroutine.status(co) == "suspended" then
          local _, waiter, want = assert(coroutine.resume(co))
          if waiter then
            assert.is_true(want == "read" or want == "write")
            kinds[tostring(waiter):match("^[%w.]+")] = true
          end
        end
      end
      return coroutine.status(server) == "dead" and coroutine.status(client) == "dead"
    end)
    assert.is_true(served)
    assert.is_true(kinds["cotls.socket"] and kinds["cotls.connection"])
  end)

  it("with a scheduler of the options, and of the context", function()
    for _, whose in ipairs { "connection", "context" } do
      local waits, released = 0, 0
      local scheduler
      scheduler = {
        wait = function(waiter, want, deadline)
          waits = waits + 1
          return coroutine.yield(waiter, want, deadline)
        end,
        release = function() released = released + 1 end,
      }
      local listener = listen()
      local options = { ca = helper.ca.certificate, scheduler = scheduler }
      if whose == "context" then options = { context = assert(tls.context(options)) } end
      helper.together {
        function()
          local conn = listener()
          assert(conn:accept())
          assert(conn:write("hello you\n"))
          conn:close()
        end,
        function()
          local conn = assert(tls.connect("127.0.0.1", listener:port(), options))
          assert.equal("hello you", conn:read())
          conn:close()
        end,
      }
      listener:close()
      assert.is_true(waits > 0)
      assert.is_true(released > 0)
    end
  end)

  it("a scheduler's own connect and listen are asked", function()
    local asked = {}
    local scheduler = {
      wait = function() error("not here") end,
      connect = function(host, port, deadline)
        asked = { host, port, deadline }
        return nil, core.error { code = "system", reason = "mine" }
      end,
      listen = function(host, port)
        asked = { host, port }
        return core.listen_socket("127.0.0.1", 0)
      end,
    }
    local conn, err = tls.connect("some.example", 4433, { context = CLIENT, scheduler = scheduler, timeout = 3 })
    assert.is_nil(conn)
    assert.equal("mine", err.reason)
    assert.same({ "some.example", 4433 }, { asked[1], asked[2] })
    assert.is_true(math.abs(asked[3] - tls.now() - 3) < 1)
    local listener = assert(tls.listen("any.example", 7, { context = SERVER, scheduler = scheduler }))
    assert.same({ "any.example", 7 }, asked)
    listener:close()
  end)

  it("a scheduler's connect may give a stream", function()
    local function connect(host, port, deadline)
      local socket, stream = assert(luv.connect(host, port, deadline)), {}
      function stream.read(_, max)
        while true do
          local data, name = helper.read_fd(socket:fileno(), max)
          if name ~= "EAGAIN" then return data ~= "" and data or nil, name end
          luv.wait(socket, "read")
        end
      end
      function stream.write(_, bytes) return helper.write_fd(socket:fileno(), bytes) end
      function stream.close() socket:close() end
      return stream
    end
    helper.in_loop(function()
      local listener = listen()
      serve(listener)
      local conn = assert(tls.connect("localhost", listener:port(), { context = CLIENT,
        scheduler = helper.with(luv, { connect = connect }) }))
      assert.is_nil(conn:fileno())
      assert.equal("function", type(conn:transport().read))
      talk(conn)
      listener:close()
    end)
  end)

  it("the shared default context verifies: an unknown CA is refused", function()
    helper.in_loop(function()
      local listener = listen()
      local errs = {}
      luv.spawn(function()
        helper.each(listener, function(conn) errs[#errs + 1] = select(2, conn:accept()) end)
      end)
      for _, options in ipairs { false, {}, { timeout = 5 } } do
        local conn, err = tls.connect("localhost", listener:port(), options or nil)
        assert.is_nil(conn)
        assert.equal("verify", err.code)
        assert.is_true(err.alert.sent)
      end
      luv.sleep(0.02)
      listener:close()
      assert.equal(3, #errs)
      for _, err in ipairs(errs) do assert.equal("unknown_ca", err.alert.name) end
    end)
  end)

  it("server_name defaults to the host, and is sent; not for an address", function()
    helper.in_loop(function()
      local listener = listen()
      local names = {}
      luv.spawn(function()
        helper.each(listener, function(conn)
          if conn:accept() then names[#names + 1] = conn:server_name() or "none" end
          conn:close()
        end)
      end)
      for _, host in ipairs { "localhost", "127.0.0.1" } do
        local conn = assert(tls.connect(host, listener:port(), { context = CLIENT }))
        conn:read("a")
        conn:close()
      end
      local conn, err = tls.connect("127.0.0.1", listener:port(), { context = CLIENT, server_name = "other.example" })
      assert.is_nil(conn)
      assert.equal("verify", err.code)
      listener:close()
      assert.same({ "localhost", "none" }, names)
    end)
  end)

  it("no descriptor is left of a failure", function()
    local port, socket = silent()
    local fds = helper.settled_fds()
    for _ = 1, 3 do
      local conn, err = tls.connect("127.0.0.1", port, { context = CLIENT, timeout = 0.01 })
      assert.is_nil(conn)
      assert.equal("timeout", err.code)
      conn, err = tls.connect("127.0.0.1", helper.free_port(), { context = CLIENT })
      assert.is_nil(conn)
      assert.equal("system", err.code)
      assert.matches("refused", tostring(err))
    end
    assert.equal(fds, helper.count_fds())
    socket:close()
  end)

  it("a client that writes and closes without reading loses nothing", function()
    helper.in_loop(function()
      local listener = listen()
      local got = {}
      luv.spawn(function()
        helper.each(listener, function(conn)
          assert(conn:accept())
          luv.sleep(0.01) -- the client is gone
          got = compat.pack(conn:read("a"))
          conn:close()
        end)
      end)
      local conn = assert(tls.connect("127.0.0.1", listener:port(), { context = CLIENT }))
      assert(conn:write("all of it"))
      conn:close()
      luv.sleep(0.1)
      listener:close()
      assert.equal("all of it", got[1], tostring(got[2]))
    end)
  end)
end)

describe("deadlines of tls.connect", function()
  -- Runs fn in the loop, in a coroutine of raw yields, and blocking.
  local function everywhere(fn)
    helper.in_loop(fn)
    helper.together { fn }
    fn()
  end

  local function timed(least, most, options)
    local port, socket = silent()
    local started = tls.now()
    local conn, err = tls.connect("127.0.0.1", port, options)
    local took = tls.now() - started
    socket:close()
    assert.is_nil(conn)
    assert.equal("timeout", err.code)
    assert.is_true(took >= least - 0.001 and took < most * helper.slow + 1, ("took %.3f s"):format(took))
  end

  it("timeout bounds lookup, connect and handshake together", function()
    everywhere(function() timed(0.1, 0.3, { context = CLIENT, timeout = 0.1 }) end)
    everywhere(function() timed(0.1, 0.3, { ca = helper.ca.certificate, timeout = 0.1 }) end)
  end)

  it("handshake_timeout does, too; the shorter counts", function()
    everywhere(function() timed(0.1, 0.3, { context = CLIENT, handshake_timeout = 0.1 }) end)
    everywhere(function() timed(0.1, 0.3, { context = CLIENT, handshake_timeout = 0.1, timeout = 30 }) end)
    everywhere(function() timed(0.1, 0.3, { context = CLIENT, handshake_timeout = 30, timeout = 0.1 }) end)
  end)

  it("those of a context that is given count, too", function()
    helper.in_loop(function()
      for _, name in ipairs { "timeout", "handshake_timeout" } do
        timed(0.1, 0.3, { context = helper.client_context { [name] = 0.1 } })
      end
    end, 5)
  end)

  it("the connection's own outdo the context's", function()
    helper.in_loop(function()
      timed(0.1, 0.3, { context = helper.client_context { timeout = 0.01, handshake_timeout = 0.01 }, timeout = 0.1,
        handshake_timeout = 0.1 })
    end)
  end)

  it("a peer that never takes the connection", function()
    local server = uv.new_tcp()
    assert(server:bind("127.0.0.1", 0))
    assert(server:listen(1, function() end))
    local port = server:getsockname().port
    local fill = {} -- the backlog is full then
    for i = 1, 8 do fill[i] = core.connect_socket("127.0.0.1", port) end
    local started = tls.now()
    local conn, err = tls.connect("127.0.0.1", port, { context = CLIENT, timeout = 0.1 })
    assert.is_nil(conn)
    assert.equal("timeout", err.code)
    assert.is_true(tls.now() - started < 1 + helper.slow)
    for _, socket in pairs(fill) do socket:close() end
    server:close()
    uv.run("nowait")
  end)

  it("is cancelled by resuming its coroutine", function()
    for _, in_handshake in ipairs { false, true } do
      local server = in_handshake and assert(core.listen_socket("127.0.0.1", 0)) or nil
      local port
      if server then port = select(2, server:address()) else port = helper.free_port() end
      local conn, err
      local co = coroutine.create(function() conn, err = tls.connect("127.0.0.1", port, { context = CLIENT }) end)
      local _, waiter = assert(coroutine.resume(co))
      helper.until_true(function()
        if coroutine.status(co) == "dead" or not in_handshake then return true end
        if tostring(waiter):find("connection") then return true end
        _, waiter = assert(coroutine.resume(co))
      end)
      if coroutine.status(co) ~= "dead" then
        assert(coroutine.resume(co, nil, "no longer"))
        assert.equal("cancelled", err.code)
        assert.equal("no longer", err.reason)
      end
      assert.is_nil(conn)
      assert.equal("dead", coroutine.status(co))
      if server then server:close() end
    end
  end)
end)

describe("arguments of tls.connect and tls.listen", function()
  local function raises(pattern, fn, ...)
    local ok, err = pcall(fn, ...)
    assert.is_false(ok)
    assert.is_truthy(tostring(err):find(pattern, 1, true), tostring(err))
    assert.is_truthy(tostring(err):find("net_spec.lua", 1, true) or fn == tls.connect or fn == tls.listen,
      tostring(err))
  end

  it("a host is a string, not empty, without NUL", function()
    for _, host in ipairs { "", "a\0b", 1, true, {} } do
      raises("tls.connect: a host name or an IP address expected", tls.connect, host, 443)
      raises("tls.listen: a host name or an IP address expected", tls.listen, host, 443, { context = SERVER })
    end
    raises("got nil", tls.connect)
  end)

  it("a host that can be no name is refused before anything is sent", function()
    for host, reason in pairs {
      ["a..b"] = "empty label", [".b"] = "empty label", ["has space"] = "space", ["m\195\188ller.example"] = "ASCII",
      [("x"):rep(64) .. ".example"] = "63 bytes", [("x."):rep(127) .. "xx"] = "253 bytes", ["1:2"] = "neither",
      ["."] = "253",
    } do
      local conn, err = tls.connect(host, 443, { context = CLIENT })
      assert.is_nil(conn)
      assert.equal("config", err.code)
      assert.matches("^server_name: ", err.reason)
      assert.is_truthy(err.reason:find(reason, 1, true), err.reason)
    end
  end)

  it("a port is an integer of its range", function()
    for _, port in ipairs { 0, -1, 65536, 1.5, "443", true } do
      raises("tls.connect: a port from 1 to 65535 expected", tls.connect, "127.0.0.1", port)
      if port ~= 0 then
        raises("tls.listen: a port from 0 to 65535 expected", tls.listen, "127.0.0.1", port, { context = SERVER })
      end
    end
    raises("got 65536", tls.connect, "x", 65536)
    raises("got nil", tls.connect, "x")
  end)

  it("options: unknown ones are named, with the nearest", function()
    raises("unknown option 'timout'; did you mean 'timeout'?", tls.connect, "x", 1, { timout = 1 })
    raises("unknown option 'contxt'; did you mean 'context'?", tls.connect, "x", 1, { contxt = 1 })
    raises("unknown option 'certficate'; did you mean 'certificate'?", tls.listen, "x", 1, { certficate = 1 })
    raises("tls.listen: unknown option 'zzzzzzzzzz'", tls.listen, "x", 1, { zzzzzzzzzz = 1 })
    raises("a table of options expected, got string", tls.connect, "x", 1, "y")
    raises("option 'timeout'", tls.connect, "x", 1, { timeout = "1" })
    raises("option 'alpn'", tls.connect, "x", 1, { alpn = "h2" })
  end)

  it("a context goes with no options of a context, and must have the right role", function()
    raises("option 'ca' is the context's", tls.connect, "x", 1, { context = CLIENT, ca = helper.ca.certificate })
    raises("option 'context': its role is \"server\"", tls.connect, "x", 1, { context = SERVER })
    raises("option 'context': its role is \"client\"", tls.listen, "x", 1, { context = CLIENT })
    raises("option 'role'", tls.connect, "x", 1, { role = "server" })
    raises("option 'role'", tls.listen, "x", 1, { role = "client" })
    assert.is_false(pcall(tls.connect, "x", 1, { context = 1 }))
    assert.is_false(pcall(tls.listen, "x", 1, { context = "y" }))
  end)

  it("values that are refused are errors with their name", function()
    for option, value in pairs { ca = "/nonexistent/ca.pem", min_version = "9.9", verify_client = "require" } do
      local conn, err = tls.connect("localhost", 1, { [option] = value })
      assert.is_nil(conn)
      assert.equal("config", err.code)
      assert.matches("^" .. option .. ": ", err.reason)
    end
    local listener, err = tls.listen("127.0.0.1", 0)
    assert.is_nil(listener)
    assert.equal("config", err.code)
    assert.matches("certificate", err.reason)
    listener, err = tls.listen("127.0.0.1", 0, { context = SERVER, server_name = "x" })
    assert.is_nil(listener)
    assert.matches("server_name: is for clients", err.reason)
  end)

  it("the options table stays as it was", function()
    local options = { context = CLIENT, timeout = 0.01 }
    tls.connect("localhost", helper.free_port(), options)
    assert.same({ context = CLIENT, timeout = 0.01 }, options)
  end)

  it("a port in use, an address that is not here", function()
    local first = listen()
    local second, err = tls.listen("127.0.0.1", first:port(), { context = SERVER })
    assert.is_nil(second)
    assert.equal("system", err.code)
    assert.matches("in use", err.reason)
    assert.is_truthy(tostring(err):find("127.0.0.1:" .. first:port(), 1, true), tostring(err))
    first:close()
    second, err = tls.listen("192.0.2.1", 0, { context = SERVER })
    assert.is_nil(second)
    assert.equal("system", err.code)
  end)
end)

describe("a listener", function()
  it("tells its address and port", function()
    local listener = listen()
    assert.equal("127.0.0.1", listener:address())
    assert.equal("integer", compat.math_type(listener:port()))
    assert.is_true(listener:port() > 0)
    assert.matches("127.0.0.1 port " .. listener:port(), tostring(listener), 1, true)
    assert.is_true(listener:close())
    assert.is_true(listener:close())
    assert.equal("127.0.0.1", listener:address())
    assert.matches("closed", tostring(listener))
    helper.each(listener, function(conn) error("a connection of a closed listener: " .. tostring(conn)) end)
  end)

  it("listens on every address with \"*\"", function()
    local listener = assert(tls.listen("*", 0, { context = SERVER }))
    local socket = assert(core.connect_socket("127.0.0.1", listener:port()))
    local conn = listener()
    assert.matches("before the handshake", tostring(conn))
    conn:close()
    socket:close()
    listener:close()
  end)

  it("gives connections that are wrapped and not handshaken, with its options", function()
    helper.in_loop(function()
      local listener = assert(tls.listen("127.0.0.1", 0, { certificate = helper.server_leaf.certificate,
        key = helper.server_leaf.key, alpn = { "mine" }, timeout = 0.05 }))
      local alpn, code
      luv.spawn(function()
        local conn = listener()
        assert.is_false(conn:handshake_done())
        assert.is_true(conn:is_server())
        assert(conn:accept())
        alpn = conn:alpn()
        code = select(2, conn:read(1)).code
        conn:close()
      end)
      local conn = assert(tls.connect("127.0.0.1", listener:port(), { context = CLIENT, alpn = { "theirs", "mine" } }))
      luv.sleep(0.1)
      assert.equal("mine", alpn)
      assert.equal("timeout", code)
      conn:close()
      listener:close()
    end)
  end)

  it("ends its loop when another coroutine closes it", function()
    helper.in_loop(function()
      local listener = listen()
      local ended
      luv.spawn(function()
        helper.each(listener, function(conn) conn:close() end)
        ended = true
      end)
      luv.sleep(0.01)
      assert.is_nil(ended)
      listener:close()
      luv.sleep(0.01)
      assert.is_true(ended)
    end)
  end)

  it("ends its loop under raw yields, when the wait is resumed after close", function()
    local listener = listen()
    local co = coroutine.create(function()
      helper.each(listener, function(conn) conn:close() end)
      return "ended"
    end)
    local _, socket, want, deadline = assert(coroutine.resume(co))
    assert.matches("cotls.socket", tostring(socket), 1, true)
    assert.equal("read", want)
    assert.is_nil(deadline)
    listener:close()
    assert.same({ true, "ended" }, { coroutine.resume(co) })
  end)

  it("raises what cancels its wait", function()
    local listener = listen()
    local co = coroutine.create(function()
      helper.each(listener, function(conn) conn:close() end)
    end)
    assert(coroutine.resume(co))
    local ok, err = coroutine.resume(co, nil, "enough")
    assert.is_false(ok)
    assert.is_true(tls.is_error(err))
    assert.equal("cancelled", err.code)
    listener:close()
  end)

  it("closes at the end of a scope", function()
    local port
    local listener = listen()
    compat.closing(listener, function() port = listener:port() end)
    local socket, err = tls.connect("127.0.0.1", port, { context = CLIENT })
    assert.is_nil(socket)
    assert.matches("refused", tostring(err))
  end)

  it("takes another context for the connections to come", function()
    local renewed = helper.leaf { subject = "CN=renewed" }
    local context = helper.server_context { certificate = renewed.certificate, key = renewed.key }
    helper.in_loop(function()
      local listener = listen()
      serve(listener)
      local old = assert(tls.connect("127.0.0.1", listener:port(), { context = CLIENT }))
      assert.equal(listener, listener:set_context(context))
      local new = assert(tls.connect("127.0.0.1", listener:port(), { context = CLIENT }))
      assert.is_not.equal(old:peer_certificate(), new:peer_certificate())
      assert.equal(renewed.certificate, new:peer_certificate():pem())
      talk(old)
      talk(new)
      listener:close()
      local ok, err = pcall(listener.set_context, listener, CLIENT)
      assert.is_false(ok)
      assert.matches("client", err)
      assert.is_false(pcall(listener.set_context, listener, {}))
      assert.is_false(pcall(listener.set_context, listener))
    end)
  end)

  it("goes on after a client that goes away, or speaks something else", function()
    helper.in_loop(function()
      local listener = listen()
      local codes = {}
      luv.spawn(function()
        helper.each(listener, function(conn)
          luv.spawn(function()
            local ok, err = conn:accept()
            codes[#codes + 1] = ok and "fine" or err.code
            if ok then conn:write("hello ", conn:read(), "\n") end
            conn:close()
          end)
        end)
      end)
      local gone = assert(luv.connect("127.0.0.1", listener:port()))
      gone:close()
      local plain = uv.new_tcp()
      local answered
      plain:connect("127.0.0.1", listener:port(), function()
        plain:write("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        plain:read_start(function() answered = true end)
      end)
      for _ = 1, 100 do
        if answered and #codes == 2 then break end
        luv.sleep(0.01)
      end
      plain:close()
      talk(assert(tls.connect("127.0.0.1", listener:port(), { context = CLIENT })))
      listener:close()
      table.sort(codes)
      assert.same({ "fine", "tls", "truncated" }, codes)
    end)
  end)

  it("out of descriptors it waits, collects, and goes on", function()
    local child = helper.start { "sh", "-c", ("ulimit -n 32 && exec '%s' '%s'"):format(helper.lua, helper.temp_file [[
      local tls = require "cotls"
      local luv = require "cotls.luv"
      local own = assert(tls.make_certificate { names = { "localhost" } })
      local served = 0
      luv.run(function()
        local listener = assert(tls.listen("127.0.0.1", 0, own))
        print("port", listener:port())
        io.stdout:flush()
        local held = {}
        local conn = listener()
        while conn do
          served = served + 1
          held[#held + 1] = conn
          if #held == 1 then
            luv.spawn(function()
              luv.sleep(0.5) -- every descriptor is taken long before
              print("before", served, os.clock())
              io.stdout:flush()
              held = {} -- the collector may have them
              luv.sleep(1)
              print("after", served, os.clock())
              listener:close()
            end)
          end
          conn = listener()
        end
      end)
    ]]) }
    finally(function() child:stop() end)
    local port = tonumber(child:wait_for("port\t(%d+)"))
    local sockets = {}
    for i = 1, 40 do sockets[i] = assert(core.connect_socket("127.0.0.1", port)) end
    local before, clock = child:wait_for("before\t(%d+)\t([%d.]+)")
    local after, later = child:wait_for("after\t(%d+)\t([%d.]+)")
    assert.is_true(tonumber(before) < 32, before)
    assert.equal(40, tonumber(after))
    assert.is_true(later - clock < 0.5 * helper.slow, "it spun")
    for _, socket in ipairs(sockets) do socket:close() end
  end)
end)

describe("close", function()
  it("does not reset what was written when the peer's session tickets are unread", function()
    helper.in_loop(function()
      local contexts = helper.contexts "1.3"
      local listener = assert(tls.listen("127.0.0.1", 0, { context = contexts.server }))
      local data, accepted = ("x"):rep(300000), false
      luv.spawn(function()
        local conn = assert(tls.connect("127.0.0.1", listener:port(), { context = contexts.client }))
        while not accepted do luv.sleep(0.001) end
        assert(conn:write(data))
        conn:close()
      end)
      local server = listener()
      assert(server:accept())
      accepted = true
      assert.equal(#data, #assert(server:read("a")))
      server:close()
      listener:close()
    end)
  end)
end)
