-- SPDX-License-Identifier: MIT
-- Connections: what wrap takes, the sides, the handshake over every transport, the getters in every state, closing.

local compat = require "cotls.compat"
local tls = require "cotls"
local core = require "cotls.core"
local uv = require "luv"
local helper = require "spec.helper"

local code_of = helper.code_of

-- Runs fn once as a coroutine that must not wait.
local function at_once(fn, ...)
  local co = coroutine.create(fn)
  local got = compat.pack(coroutine.resume(co, ...))
  if not got[1] then error(got[2], 0) end
  assert.equal("dead", coroutine.status(co))
  return compat.unpack(got, 2, got.n)
end

local function is_open(fd)
  return uv.fs_fstat(fd) ~= nil
end

local getters = {
  "alpn", "cipher", "context", "fileno", "handshake_done", "is_server", "peer_certificate", "pending", "resumed",
  "server_name", "state", "stats", "transport", "verify_result", "version",
}

local verbs = {
  { "do_handshake" }, { "read" }, { "read", 5 }, { "recv" }, { "peek" }, { "write", "x" }, { "shutdown" },
  { "shutdown", "write" },
}

describe("wrap", function()
  local contexts = helper.contexts()

  local function refused(transport, pattern, options)
    local conn, err = contexts.server:wrap(transport, options)
    assert.is_nil(conn)
    assert.is_true(tls.is_error(err))
    assert.equal("config", err.code)
    assert.matches("transport", tostring(err), 1, true)
    assert.matches(pattern, tostring(err))
    return err
  end

  it("refuses a negative descriptor", function()
    refused(-1, "negative")
    refused(-0x100000000, "negative")
  end)

  it("refuses integers that are no int", function()
    local a, b = helper.socketpair()
    refused(0x100000000 + a, ".")
    refused({ getfd = function() return 0x100000000 + a end }, ".")
    helper.close_fd(a)
    helper.close_fd(b)
  end)

  it("refuses a closed descriptor", function()
    local a, b = helper.socketpair()
    helper.close_fd(a)
    helper.close_fd(b)
    refused(a, "Bad file descriptor")
  end)

  it("refuses a file's descriptor, and leaves it open", function()
    local fd = assert(uv.fs_open(helper.temp_file "x", "r", 0))
    refused(fd, "[Nn]on%-socket")
    assert.is_true(is_open(fd))
    helper.close_fd(fd)
  end)

  it("refuses a UDP socket", function()
    local udp = uv.new_udp()
    assert(udp:bind("127.0.0.1", 0))
    refused(udp, "not a stream socket")
    refused(udp:fileno(), "not a stream socket")
    udp:close()
    uv.run("nowait")
  end)

  it("refuses what has no descriptor, and says what it takes", function()
    for _, transport in ipairs { "12", {}, true, 1.5, print, { fileno = 5 } } do
      local err = refused(transport, "descriptor")
      for _, word in ipairs { "getfd", "fileno", "pollfd" } do assert.matches(word, tostring(err), 1, true) end
    end
    local _, err = contexts.server:wrap(nil)
    assert.matches("descriptor", tostring(err))
    assert.matches("descriptor", tostring(select(2, contexts.server:wrap(0 / 0))))
  end)

  it("refuses an object whose getfd raises or gives no integer", function()
    refused({ getfd = function() error "no" end }, "descriptor")
    refused({ getfd = function() return "5" end }, "descriptor")
    refused({ getfd = function() return 5.5 end }, "descriptor")
    refused({ getfd = function() end }, "descriptor")
    refused({ getfd = function() return -1 end }, "descriptor")
    refused(setmetatable({}, { __index = function() error "no" end }), "descriptor")
  end)

  it("refuses a closed socket of ours", function()
    local socket = assert(core.listen_socket("127.0.0.1", 0))
    socket:close()
    refused(socket, "closed")
  end)

  it("does not take a connection's descriptor for TLS inside TLS", function()
    local client, server = helper.handshaken()
    refused(server, "a connection is a stream", { transport = "fd" })
    assert(client:write("x\n"))
    assert.equal("x", helper.together { function() return server:read() end }[1][1])
  end)

  it("refuses a transport kind that there is not", function()
    local a, b = helper.socketpair()
    refused(a, "pigeon", { transport = "pigeon" })
    assert(contexts.server:wrap(a, { transport = "fd" }))
    helper.close_fd(b)
  end)

  it("tries getfd, fileno and pollfd in this order", function()
    for _, names in ipairs { { "getfd", "fileno" }, { "fileno", "pollfd" }, { "pollfd", "unused" } } do
      local a, b = helper.socketpair()
      local object = {
        [names[1]] = function() return a end,
        [names[2]] = function() return b end,
      }
      local conn = assert(contexts.server:wrap(object))
      assert.equal(a, conn:fileno())
      conn:close()
      assert.is_true(is_open(a)) -- an object without close keeps its descriptor
      helper.close_fd(a)
      helper.close_fd(b)
    end
  end)

  it("a refused wrap leaves the descriptor with its owner", function()
    local a, b = helper.socketpair()
    local conn, err = contexts.client:wrap(a)
    assert.is_nil(conn)
    assert.equal("config", err.code)
    assert.matches("server_name", tostring(err), 1, true)
    collectgarbage()
    assert.is_true(is_open(a))
    helper.close_fd(a)
    helper.close_fd(b)
  end)

  it("a client's names on a server, and ill-formed ones, are refused by name", function()
    local a, b = helper.socketpair()
    for _, case in ipairs {
      { "server", "server_name", "x" }, { "server", "verify_name", "x" }, { "client", "server_name", "a..b" },
      { "client", "server_name", "a\0b" }, { "client", "server_name", "b\195\188cher" },
      { "client", "server_name", "" },
      { "client", "verify_name", { "ok", "not ok" } },
    } do
      local conn, err = contexts[case[1]]:wrap(a, { [case[2]] = case[3] })
      assert.is_nil(conn)
      assert.equal("config", err.code)
      assert.matches(case[2], tostring(err), 1, true)
    end
    helper.close_fd(a)
    helper.close_fd(b)
  end)

  it("wrong options raise and are named", function()
    local function raises(pattern, options)
      assert.error_matches(function() contexts.server:wrap(0, options) end, pattern)
    end
    raises("unknown option 'sever_name'; did you mean 'server_name'", { sever_name = "x" })
    raises("option 'timeout'", { timeout = -1 })
    raises("option 'timeout'", { timeout = 0 / 0 })
    raises("option 'handshake_timeout'", { handshake_timeout = "5" })
    raises("option 'read_limit'", { read_limit = 0 })
    raises("option 'read_limit'", { read_limit = 1.5 })
    raises("option 'scheduler'", { scheduler = print })
    raises("option 'scheduler'", { scheduler = {} })
    raises("option 'scheduler'", { scheduler = { wait = 5 } })
    raises("option 'owns'", { owns = 1 })
    raises("option 'transport'", { transport = 1 })
    raises("option 'alpn'", { alpn = "h2" })
    raises("table of options", 5)
    assert.error_matches(function() contexts.server.wrap({}, 0) end, "cotls.context")
  end)

  it("makes a blocking descriptor non-blocking", function()
    local fds = assert(uv.socketpair("stream", nil, {}, {}))
    local conn = assert(contexts.server:wrap(fds[1], { timeout = 0 }))
    assert.equal("want_read", code_of(conn:accept()))
    conn:close()
    helper.close_fd(fds[2])
  end)

  it("takes a socket of ours over, or leaves it with owns = false", function()
    local listener = assert(core.listen_socket("127.0.0.1", 0))
    local address, port = listener:address()
    local first = assert(core.connect_socket(address, port))
    local fd = first:fileno()
    local conn = assert(contexts.client:wrap(first, { server_name = "localhost" }))
    assert.is_nil(first:fileno())
    assert.equal(fd, conn:fileno())
    first:close()
    assert.is_true(is_open(fd))
    conn:close()
    assert.is_false(is_open(fd))

    local second = assert(core.connect_socket(address, port))
    conn = assert(contexts.client:wrap(second, { server_name = "localhost", owns = false }))
    assert.equal(second, conn:transport())
    conn:close()
    assert.is_not_nil(second:fileno())
    second:close()
    listener:close()
  end)

  it("owns = false leaves a descriptor open, by close and by the collector", function()
    local a, b = helper.socketpair()
    local conn = assert(contexts.server:wrap(a, { owns = false }))
    conn:close()
    assert.is_true(is_open(a))
    assert(contexts.server:wrap(a, { owns = false }))
    collectgarbage()
    assert.is_true(is_open(a))
    helper.close_fd(a)
    helper.close_fd(b)
  end)

  it("keeps an object alive and closes it once", function()
    local a, b = helper.socketpair()
    local closed, seen = 0, setmetatable({}, { __mode = "k" })
    local function make()
      local object = {
        fileno = function() return a end,
        close = function() closed = closed + 1 end,
      }
      seen[object] = true
      return assert(contexts.server:wrap(object))
    end
    local conn = make()
    collectgarbage()
    assert.is_not_nil(next(seen))
    assert.is_true(seen[conn:transport()])
    conn:close()
    conn:close()
    assert.equal(1, closed)
    conn = nil -- luacheck: ignore
    collectgarbage()
    collectgarbage()
    assert.equal(1, closed)
    assert.is_nil(next(seen))
    make()
    collectgarbage()
    collectgarbage()
    assert.equal(2, closed)
    helper.close_fd(a)
    helper.close_fd(b)
  end)

  it("an object's close that raises harms nobody", function()
    local a, b = helper.socketpair()
    local conn = assert(contexts.server:wrap { fileno = function() return a end, close = function() error "no" end })
    assert.is_true(conn:close())
    helper.close_fd(a)
    helper.close_fd(b)
  end)
end)

describe("the side", function()
  it("must be chosen", function()
    local client, server = helper.pair()
    for _, conn in ipairs { client, server } do
      for _, verb in ipairs { { "do_handshake" }, { "read" }, { "write", "x" }, { "recv" }, { "peek" } } do
        local ok, err = conn[verb[1]](conn, compat.unpack(verb, 2))
        assert.equal("tls", code_of(ok, err))
        assert.matches("connection type not set", tostring(err), 1, true)
        assert.equal(verb[1], err.operation)
      end
      assert.is_not_nil(conn:fileno()) -- nothing was harmed
    end
    helper.shake(client, server)
  end)

  it("raises when it is contrary to the context's role", function()
    local client, server = helper.pair()
    assert.error_matches(function() client:accept() end, "role is \"client\"")
    assert.error_matches(function() client:set_accept_state() end, "role is \"client\"")
    assert.error_matches(function() server:connect() end, "role is \"server\"")
    assert.error_matches(function() server:set_connect_state() end, "role is \"server\"")
    assert.is_not_nil(client:fileno())
    assert.is_not_nil(server:fileno())
  end)

  it("is chosen by calls that chain", function()
    local client, server = helper.pair()
    assert.equal(client, client:set_connect_state())
    assert.equal(client, client:set_connect_state())
    assert.equal(server, server:set_accept_state())
  end)
end)

local versions = { "1.2", "1.3" }

for _, transport in ipairs(helper.transports_in_use()) do
  for _, version in ipairs(versions) do
    describe(("TLS %s over %s"):format(version, transport.name), function()
      local contexts = helper.contexts(version)

      local function pair()
        return helper.pair(transport, nil, nil, contexts)
      end

      local function check(client, server)
        for _, conn in ipairs { client, server } do
          assert.is_true(conn:handshake_done())
          assert.equal("TLSv" .. version, conn:version())
          assert.is_string(conn:cipher())
          assert.equal("localhost", conn:server_name())
          assert.is_true(conn:stats().handshake_seconds >= 0)
        end
        assert.matches("BEGIN CERTIFICATE", client:peer_certificate():pem(), 1, true)
        assert.equal(0, client:verify_result().code)
      end

      it("accept and connect give the connection, and once more at once", function()
        local client, server, pump = pair()
        local results = helper.together({
          function() return client:connect() end,
          function() return server:accept() end,
        }, pump)
        assert.equal(client, results[1][1])
        assert.equal(server, results[2][1])
        check(client, server)
        assert.equal(client, at_once(client.connect, client))
        assert.equal(server, at_once(server.accept, server))
        assert.equal(server, at_once(server.do_handshake, server))
      end)

      it("set_*_state and do_handshake do", function()
        local client, server, pump = pair()
        client:set_connect_state()
        server:set_accept_state()
        local results = helper.together({
          function() return client:do_handshake() end,
          function() return server:do_handshake() end,
        }, pump)
        assert.equal(client, results[1][1])
        assert.equal(server, results[2][1])
        check(client, server)
      end)

      it("read and write handshake by themselves", function()
        local client, server, pump = pair()
        client:set_connect_state()
        server:set_accept_state()
        local results = helper.together({
          function()
            assert.equal(client, client:write("question\n"))
            return client:read("a")
          end,
          function()
            local line = server:read()
            assert(server:write("answer to ", line))
            assert(server:shutdown("write"))
            return line
          end,
        }, pump)
        assert.equal("answer to question", results[1][1])
        assert.equal("question", results[2][1])
        check(client, server)
      end)

      it("recv and peek too", function()
        local client, server, pump = pair()
        client:set_connect_state()
        server:set_accept_state()
        helper.together({
          function() assert.equal("h", client:peek(1)) end,
          function()
            assert(server:write("hello"))
          end,
        }, pump)
        check(client, server)
      end)

      it("close says close_notify, and the getters go on answering", function()
        local client, server, pump = helper.handshaken(transport, nil, nil, contexts)
        local before = {}
        for _, name in ipairs(getters) do before[name] = client[name](client) end
        assert.is_true(client:close())
        assert.is_true(client:close())
        local results = helper.together({ function() return server:read() end }, pump)
        assert.equal(1, results[1].n)
        assert.is_nil(results[1][1])
        for _, name in ipairs { "alpn", "cipher", "context", "handshake_done", "is_server", "peer_certificate",
                                "resumed", "server_name", "version" } do
          assert.equal(before[name], client[name](client), name)
        end
        assert.same(before.verify_result, client:verify_result())
        assert.equal(before.stats.bytes_in, client:stats().bytes_in)
        assert.equal(before.stats.handshake_seconds, client:stats().handshake_seconds)
        assert.is_nil(client:fileno())
        assert.equal(0, client:pending())
        assert.equal("closed", client:state())
        assert.matches("closed", tostring(client))
      end)
    end)
  end
end

describe("getters", function()
  local before = { alpn = "nil", cipher = "nil", peer_certificate = "nil", version = "nil" }

  local function check_types(conn)
    for _, name in ipairs(getters) do assert.has_no.errors(function() conn[name](conn) end) end
    assert.is_boolean(conn:is_server())
    assert.is_boolean(conn:handshake_done())
    assert.is_boolean(conn:resumed())
    assert.is_string(conn:state())
    assert.is_number(conn:verify_result().code)
    assert.is_string(conn:verify_result().text)
    assert.is_true(compat.math_type(conn:pending()) == "integer")
    assert.is_true(compat.math_type(conn:stats().bytes_in) == "integer")
    assert.is_true(compat.math_type(conn:stats().bytes_out) == "integer")
  end

  it("answer before the handshake", function()
    local client, server = helper.pair()
    for _, conn in ipairs { client, server } do
      check_types(conn)
      for name, kind in pairs(before) do assert.equal(kind, type(conn[name](conn)), name) end
      assert.is_false(conn:handshake_done())
      assert.is_false(conn:resumed())
      assert.is_nil(conn:stats().handshake_seconds)
      assert.equal(0, conn:stats().bytes_in)
      assert.equal(0, conn:stats().bytes_out)
    end
    assert.equal("localhost", client:server_name())
    assert.is_nil(server:server_name())
    assert.is_false(client:is_server())
    assert.is_true(server:is_server())
    assert.equal(helper.contexts().client, client:context())
    assert.equal(client:fileno(), client:transport())
    client:close()
    check_types(client)
  end)

  it("answer at every step of a handshake", function()
    for _, version in ipairs(versions) do
      local client, server, pump = helper.pair("a relay of 64 bytes", nil, nil, helper.contexts(version))
      local function shake(conn, verb)
        return function() assert(conn[verb](conn)) end
      end
      local function look()
        check_types(client)
        check_types(server)
        pump()
      end
      helper.together({ shake(client, "connect"), shake(server, "accept") }, look)
    end
  end)

  it("answer after a failed handshake", function()
    local client, server = helper.pair(nil, nil, nil, helper.strangers())
    local results = helper.together {
      function() return client:connect() end,
      function() return server:accept() end,
    }
    assert.equal("verify", code_of(results[1][1], results[1][2]))
    assert.equal("alert", code_of(results[2][1], results[2][2]))
    assert.equal("unknown_ca", results[2][2].alert.name)
    assert.is_false(results[2][2].alert.sent)
    assert.equal(48, results[2][2].alert.number)
    assert.equal("unknown_ca", tostring(results[2][2].alert))
    for _, conn in ipairs { client, server } do
      check_types(conn)
      assert.is_false(conn:handshake_done())
      assert.is_nil(conn:fileno())
      assert.equal("closed", code_of(conn:read()))
    end
    assert.is_true(client:verify_result().code ~= 0)
    assert.equal("localhost", server:server_name())
  end)

  it("tell the bytes that went by", function()
    local client, server = helper.handshaken()
    local from = client:stats()
    assert(client:write(("x"):rep(1000)))
    assert.equal(1000, #server:read(1000))
    assert.is_true(client:stats().bytes_out >= from.bytes_out + 1000)
    assert.equal(client:stats().bytes_out, server:stats().bytes_in)
  end)

  it("tell what is negotiated by ALPN", function()
    local contexts = {
      client = helper.client_context { alpn = { "http/1.1", "h2" } },
      server = helper.server_context { alpn = { "h2", "http/1.1" } },
    }
    local client, server = helper.handshaken(nil, nil, nil, contexts)
    assert.equal("h2", client:alpn())
    assert.equal("h2", server:alpn())
    client:close()
    assert.equal("h2", client:alpn())
    client, server = helper.handshaken(nil, { alpn = { "http/1.1" } }, nil, contexts)
    assert.equal("http/1.1", client:alpn())
    server:close()
    assert.equal("http/1.1", server:alpn())
  end)
end)

describe("use after close", function()
  local states = {
    ["a fresh connection"] = function() return helper.pair() end,
    ["an established connection"] = function() return helper.handshaken() end,
    ["a failed connection"] = function()
      local client, server = helper.handshaken(nil, nil, nil, helper.contexts "1.2")
      uv.fs_write(server:fileno(), "no TLS", -1)
      server:settimeout(0)
      local got = helper.together { function() return client:read() end }
      assert.equal("tls", code_of(got[1][1], got[1][2]))
      return client
    end,
  }

  for name, make in pairs(states) do
    it("gives \"closed\" for each verb: " .. name, function()
      local conn = make()
      assert.is_true(conn:close())
      for _, verb in ipairs(verbs) do
        local ok, err = conn[verb[1]](conn, compat.unpack(verb, 2))
        assert.equal("closed", code_of(ok, err), verb[1])
        assert.matches("closed", tostring(err), 1, true)
        assert.equal(verb[1], err.operation)
      end
      assert.equal("closed", code_of(conn:connect()))
      assert.equal("closed", code_of(conn:set_connect_state()))
      assert.equal(conn, conn:settimeout(1))
      for _, getter in ipairs(getters) do assert.has_no.errors(function() conn[getter](conn) end) end
      local ok, err = pcall(function() for _ in conn:lines() do end end) -- luacheck: ignore
      assert.is_false(ok)
      assert.is_true(tls.is_error(err))
      assert.equal("closed", err.code)
    end)
  end

  it("bad arguments still raise", function()
    local conn = helper.pair()
    conn:close()
    assert.error_matches(function() conn:write({}) end, "bad argument #1 to 'write'")
    assert.error_matches(function() conn:read("x") end, "bad argument #1 to 'read'")
    assert.error_matches(function() conn:accept() end, "role")
  end)
end)

describe("bad arguments", function()
  local conn = helper.pair()

  local function raises(pattern, fn, ...)
    local args = compat.pack(...)
    assert.error_matches(function() fn(compat.unpack(args, 1, args.n)) end, pattern)
  end

  it("raise and are named", function()
    raises("#1 to 'read' %(string expected, got table%)", function() conn:read({}) end)
    raises("#2 to 'read' %(invalid format%)", function() conn:read("l", "q") end)
    raises("#1 to 'read' %(invalid format%)", function() conn:read("") end)
    raises("#1 to 'read' %(invalid format%)", function() conn:read("*") end)
    raises("#1 to 'read' %(invalid format%)", function() conn:read("*x") end)
    raises("#1 to 'read'.*negative", function() conn:read(-1) end)
    raises("#1 to 'read'.*integer", function() conn:read(1.5) end)
    raises("#1 to 'read'", function() conn:read(nil) end)
    raises("#1 to 'lines' %(invalid format%)", function() conn:lines("z") end)
    local many = {}
    for i = 1, 300 do many[i] = 1 end
    raises("too many formats", function() conn:lines(compat.unpack(many)) end)
    raises("#1 to 'recv'.*at least 1", function() conn:recv(0) end)
    raises("#1 to 'recv'.*at least 1", function() conn:recv(-5) end)
    raises("#1 to 'recv'.*number expected", function() conn:recv("x") end)
    raises("#1 to 'peek'.*at least 1", function() conn:peek(0) end)
    raises("#1 to 'write' %(string expected, got nil%)", function() conn:write(nil) end)
    raises("#2 to 'write' %(string expected, got table%)", function() conn:write("a", {}) end)
    raises("#1 to 'write' %(string expected, got boolean%)", function() conn:write(true) end)
    raises("#1 to 'shutdown' %(invalid option 'read'%)", function() conn:shutdown("read") end)
    raises("#1 to 'shutdown'", function() conn:shutdown({}) end)
    raises("#1 to 'settimeout'.*negative", function() conn:settimeout(-1) end)
    raises("#1 to 'settimeout'.*negative", function() conn:settimeout(0 / 0) end)
    raises("#1 to 'settimeout'.*number expected", function() conn:settimeout("soon") end)
  end)

  it("methods take connections only", function()
    for name, method in pairs(getmetatable(conn).__index) do
      raises("cotls.connection expected", method)
      raises("cotls.connection expected", method, {})
      raises("cotls.connection expected", method, io.stdout)
      raises("cotls.connection expected", method, helper.contexts().client)
      assert.is_string(name)
    end
  end)
end)

describe("closing", function()
  local function read_end(server)
    return helper.together({ function() return server:read("a") end })[1]
  end

  it("__close without an error says close_notify", function()
    local client, server = helper.handshaken()
    at_once(compat.closing, client, function() assert(client:write("bye")) end)
    assert.same({ "bye", n = 1 }, read_end(server))
    assert.is_nil(client:fileno())
  end)

  -- TLS 1.2: a TLS 1.3 client that closes over unread session tickets resets the connection.
  local old = helper.contexts "1.2"

  it("__close with an error says nothing: the peer sees a truncation", function()
    local client, server = helper.handshaken(nil, nil, nil, old)
    local ok, err = pcall(compat.closing, client, function()
      assert(client:write("bye"))
      error("broken", 0)
    end)
    assert.is_false(ok)
    assert.equal("broken", err)
    assert.is_nil(client:fileno())
    assert.equal("truncated", code_of(compat.unpack(read_end(server), 1, 2)))
    assert.equal("bye", server:recv())
  end)

  it("the collector says nothing either", function()
    local client, server = helper.handshaken(nil, nil, nil, old)
    assert(client:write("bye"))
    client = nil -- luacheck: ignore
    collectgarbage()
    collectgarbage()
    local got = read_end(server)
    assert.equal("truncated", code_of(got[1], got[2]))
    assert.equal(3, got[2].partial)
  end)

  it("coroutine.close runs __close, which doesn't yield", function()
    local client, server = helper.handshaken()
    local co = coroutine.create(compat.closing)
    local _, conn, want = coroutine.resume(co, client, client.read, client)
    assert.equal(client, conn)
    assert.equal("read", want)
    assert.is_true(coroutine.close(co))
    assert.is_nil(client:fileno())
    assert.same({ "", n = 1 }, read_end(server))
  end)

  it("never waits: what the socket doesn't take is dropped, and the peer sees a truncation", function()
    local client, server = helper.handshaken("small buffers", nil, nil, old)
    client:settimeout(0)
    local _, err = client:write(("x"):rep(0x100000))
    assert.equal("want_write", err.code)
    assert.is_true(client:close())
    local got = read_end(server)
    assert.equal("truncated", code_of(got[1], got[2]))
    assert.is_true(got[2].partial <= err.written)
  end)

  it("closes the descriptor once: its number may be somebody else's", function()
    local client, server = helper.handshaken()
    local fd = client:fileno()
    client:close()
    local a, b = helper.socketpair()
    assert.is_true(a == fd or b == fd)
    client:close()
    client = nil -- luacheck: ignore
    collectgarbage()
    assert.is_true(is_open(a))
    assert.is_true(is_open(b))
    helper.close_fd(a)
    helper.close_fd(b)
    server:close()
  end)

  it("in the middle of a handshake is seen by the peer", function()
    for _, version in ipairs(versions) do
      local client, server = helper.pair(nil, nil, nil, helper.contexts(version))
      client:settimeout(0)
      assert.equal("want_read", code_of(client:connect()))
      client:close()
      local results = helper.together { function() return server:accept() end }
      local code = code_of(results[1][1], results[1][2])
      assert.is_true(code == "truncated" or code == "system", code)
    end
  end)

  it("before a handshake sends nothing", function()
    local a, b = helper.socketpair()
    local conn = assert(helper.contexts().client:wrap(a, { server_name = "localhost" }))
    conn:close()
    assert.equal("", helper.read_fd(b))
    helper.close_fd(b)
  end)
end)

describe("settimeout", function()
  it("gives the connection and takes nil, none, 0, a number", function()
    local conn = helper.pair()
    for _, value in ipairs { 0, 1, 2.5, math.huge } do assert.equal(conn, conn:settimeout(value)) end
    assert.equal(conn, conn:settimeout(nil))
    assert.equal(conn, conn:settimeout())
  end)

  it("is what the context says, unless the connection does", function()
    local contexts = {
      client = helper.client_context { timeout = 0 },
      server = helper.server_context { timeout = 0.01 },
    }
    local client, server = helper.pair(nil, nil, nil, contexts)
    assert.equal("want_read", code_of(client:connect()))
    server:settimeout(0)
    assert.equal("want_read", code_of(server:accept())) -- it has sent its flight and waits
    local other, silent = helper.pair(nil, { timeout = 0.01 }, nil, contexts)
    assert.equal("timeout", code_of(other:connect()))
    silent:close()
    client:settimeout(nil)
    local co = coroutine.create(function() return client:read() end)
    coroutine.resume(co)
    assert.equal("suspended", coroutine.status(co))
  end)
end)

describe("a connection as text", function()
  it("tells its class and state", function()
    local client, server = helper.pair()
    assert.matches("^cotls.connection %(before the handshake%)", tostring(client))
    helper.shake(client, server)
    assert.matches("^cotls.connection %(open%)", tostring(client))
    client:close()
    assert.matches("^cotls.connection %(closed%)", tostring(client))
  end)
end)
