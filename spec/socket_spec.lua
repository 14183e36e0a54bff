local compat = require "cotls.compat"
local bytes = require "spec.bytes"
local core = require "cotls.core"
local tls = require "cotls"
local helper = require "spec.helper"

-- Tries until it no longer wants to wait; bounded.
local function eventually(try)
  local value, err
  helper.until_true(function()
    value, err = try()
    return value or err.code ~= "want_read" and err.code ~= "want_write"
  end)
  return value, err
end

local function tcp(address)
  local listener = assert(core.listen_socket(address or "127.0.0.1", 0))
  local host, port = listener:address()
  local client = assert(core.connect_socket(host, port))
  local server = assert(eventually(function() return listener:accept() end))
  assert(eventually(function() return client:finish() end))
  return client, server, listener
end

describe("a socket", function()
  it("listens, connects, accepts, and knows its addresses", function()
    local client, server, listener = tcp()
    local address, port = listener:address()
    assert.equal("127.0.0.1", address)
    assert.equal("integer", compat.math_type(port))
    assert.is_nil((listener:peer()))
    assert.same({ "127.0.0.1", port }, { client:peer() })
    assert.same({ client:address() }, { server:peer() })
    assert.equal("integer", compat.math_type(client:fileno()))
    for _, one in ipairs { client, server, listener } do assert.is_true(one:close()) end
    assert.same({ "127.0.0.1", port }, { client:peer() }) -- known still
  end)

  it("speaks IPv6, and shows a mapped IPv4 peer as what it is", function()
    local probe = core.listen_socket("::1", 0)
    if not probe then return pending("no IPv6 here") end
    probe:close()
    local client, server, listener = tcp("::1")
    assert.equal("::1", (server:peer()))
    for _, one in ipairs { client, server, listener } do one:close() end
    local both = assert(core.listen_socket("::", 0))
    local _, port = both:address()
    client = assert(core.connect_socket("127.0.0.1", port))
    server = assert(eventually(function() return both:accept() end))
    assert.equal("127.0.0.1", (server:peer()))
    for _, one in ipairs { client, server, both } do one:close() end
  end)

  it("answers \"want_read\" when nobody is there to accept", function()
    local listener = assert(core.listen_socket("127.0.0.1", 0))
    local none, err = listener:accept()
    assert.is_nil(none)
    assert.equal("want_read", err.code)
    listener:close()
  end)

  it("tells why a connection is refused", function()
    local port = helper.free_port()
    local socket, err = core.connect_socket("127.0.0.1", port)
    if socket then err = select(2, eventually(function() return socket:finish() end)) end
    assert.equal("system", err.code)
    assert.matches("refused", err.reason)
    assert.is_number(err.errno)
  end)

  it("tells why it can't listen", function()
    local first = assert(core.listen_socket("127.0.0.1", 0))
    local _, port = first:address()
    local second, err = core.listen_socket("127.0.0.1", port)
    assert.is_nil(second)
    assert.equal("system", err.code)
    assert.equal("listen", err.operation)
    assert.matches("in use", err.reason)
    first:close()
    -- an address of documentation, RFC 5737, is nobody's
    second, err = core.listen_socket("192.0.2.1", 0)
    assert.is_nil(second)
    assert.equal("system", err.code)
  end)

  it("takes numeric addresses only; lookup is for names", function()
    for _, make in ipairs { core.connect_socket, core.listen_socket } do
      local socket, err = make("localhost", 80)
      assert.is_nil(socket)
      assert.matches("numeric", tostring(err))
    end
  end)

  it("is non-blocking, closed on exec and without delay", function()
    local client, server, listener = tcp()
    for _, one in ipairs { client, server, listener } do
      local info = assert(io.open("/proc/self/fdinfo/" .. one:fileno())):read("*a")
      local flags = tonumber(info:match("flags:%s*(%d+)"), 8)
      assert.is_true(bytes.has_bit(flags, 2048), "O_NONBLOCK")
      assert.is_true(bytes.has_bit(flags, 524288), "O_CLOEXEC")
      one:close()
    end
  end)

  it("after close answers \"closed\"; close is idempotent", function()
    local socket = assert(core.listen_socket("127.0.0.1", 0))
    assert.matches("fd %d+", tostring(socket))
    assert.is_true(socket:close())
    assert.is_true(socket:close())
    assert.is_nil(socket:fileno())
    assert.matches("closed", tostring(socket))
    for _, name in ipairs { "accept", "address", "finish" } do
      local ok, err = socket[name](socket)
      assert.is_nil(ok)
      assert.equal("closed", err.code)
    end
    local ok, err = core.wait(socket, "read")
    assert.is_nil(ok)
    assert.equal("closed", err.code)
  end)

  it("closes at the end of its scope", function()
    local fds = helper.settled_fds()
    local scoped = assert(core.listen_socket("127.0.0.1", 0))
    compat.closing(scoped, function() assert.equal(fds + 1, helper.count_fds()) end)
    assert.equal(fds, helper.count_fds())
    assert.is_nil(scoped:fileno())
  end)

  it("closes when it is collected", function()
    local fds = helper.settled_fds()
    for _ = 1, 5 do assert(core.listen_socket("127.0.0.1", 0)) end
    collectgarbage()
    collectgarbage()
    assert.equal(fds, helper.count_fds())
  end)

  it("hands its descriptor over to a connection, once", function()
    local client, server, listener = tcp()
    local fd = client:fileno()
    local conn = assert(helper.contexts().client:wrap(client, { server_name = "localhost" }))
    assert.equal(fd, conn:fileno())
    assert.is_nil(client:fileno())
    local again, err = helper.contexts().client:wrap(client, { server_name = "localhost" })
    assert.is_nil(again)
    assert.equal("config", err.code)
    assert.matches("closed", tostring(err))
    conn:close()
    server:close()
    listener:close()
  end)

  it("wrong arguments raise", function()
    for _, port in ipairs { -1, 65536, 1.5, "80", {}, true } do
      for _, make in ipairs { core.connect_socket, core.listen_socket, core.lookup } do
        local ok, err = pcall(make, "127.0.0.1", port)
        assert.is_false(ok)
        assert.matches("port", err)
      end
    end
    for _, host in ipairs { true, {}, "127.0.0.1\0x" } do
      assert.is_false(pcall(core.connect_socket, host, 80))
      assert.is_false(pcall(core.listen_socket, host, 80))
      assert.is_false(pcall(core.lookup, host, 80))
    end
    local listener = core.listen_socket("127.0.0.1", 0)
    for _, name in ipairs { "accept", "address", "close", "fileno", "finish", "peer" } do
      assert.is_false(pcall(listener[name], io.stdout))
      assert.is_false(pcall(listener[name]))
    end
    assert.is_false(pcall(core.wait, 1, "read"))
    listener:close()
  end)
end)

describe("lookup", function()
  it("gives each address with the port", function()
    local found = assert(core.lookup("localhost", 443))
    assert.is_true(#found > 0)
    for _, one in ipairs(found) do
      assert.equal(443, one.port)
      assert.is_true(one.address == "127.0.0.1" or one.address == "::1", one.address)
    end
    assert.same({ { address = "127.0.0.1", port = 1 } }, core.lookup("127.0.0.1", 1))
    assert.same({ { address = "::1", port = 1 } }, core.lookup("::1", 1))
  end)

  it("fails for what no name can be", function()
    local found, err = core.lookup(("x"):rep(64) .. ".invalid", 443)
    assert.is_nil(found)
    assert.equal("system", err.code)
    assert.is_string(err.reason)
  end)
end)

describe("waiting for a socket without a scheduler", function()
  it("blocks in poll, up to the deadline", function()
    local listener = assert(core.listen_socket("127.0.0.1", 0))
    local started = tls.now()
    local ok, err = core.wait(listener, "read", tls.now() + 0.05)
    assert.is_nil(ok)
    assert.equal("timeout", err.code)
    assert.is_true(tls.now() - started >= 0.049)
    local _, port = listener:address()
    local client = assert(core.connect_socket("127.0.0.1", port))
    assert.is_true(core.wait(listener, "read", tls.now() + 5))
    client:close()
    listener:close()
  end)

  it("yields the socket in a coroutine", function()
    local listener = assert(core.listen_socket("127.0.0.1", 0))
    local co = coroutine.create(function() return core.wait(listener, "read", 12.5) end)
    assert.same({ true, listener, "read", 12.5 }, { coroutine.resume(co) })
    assert.same({ true, true }, { coroutine.resume(co) })
    for _, case in ipairs { { "timeout", "timeout" }, { "why not", "cancelled" } } do
      co = coroutine.create(function() return core.wait(listener, "write") end)
      assert.same({ true, listener, "write", nil }, { coroutine.resume(co) })
      local _, ok, err = coroutine.resume(co, nil, case[1])
      assert.is_nil(ok)
      assert.equal(case[2], err.code)
    end
    local given = core.error { code = "hook", reason = "mine" }
    co = coroutine.create(function() return core.wait(listener, "read") end)
    coroutine.resume(co)
    assert.equal(given, select(3, coroutine.resume(co, false, given)))
    listener:close()
  end)
end)

describe("a socket's recv and send", function()
  local a, b, listener = tcp()

  it("move what there is, and never wait", function()
    assert.is_false(b:recv(10))
    assert.equal(5, a:send("hello"))
    assert.equal(2, a:send("xhi", 2))
    local got = ""
    helper.until_true(function()
      got = got .. (b:recv(4) or "")
      return #got == 7
    end)
    assert.equal("hellohi", got)
    local block, sent = ("x"):rep(1000000), 0
    for _ = 1, 100 do
      local n = a:send(block)
      sent = sent + n
      if n == 0 then break end
    end
    assert.equal(0, a:send(block))
    assert.is_true(sent > 0)
    assert.error_matches(function() b:recv(0) end, "at least 1")
    assert.error_matches(function() a:send("abc", 5) end, "no position")
    assert.error_matches(function() a:send("abc", 0) end, "no position")
    a:close()
    helper.until_true(function() return b:recv(65536) == nil end)
    local ok, err = a:recv(1)
    assert.is_nil(ok)
    assert.equal("system", err.code)
    ok, err = a:send("x")
    assert.is_nil(ok)
    assert.equal("system", err.code)
    b:close()
    listener:close()
  end)
end)
