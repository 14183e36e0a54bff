-- SPDX-License-Identifier: MIT
-- Transports that are objects of other libraries: LuaSocket, cqueues, luv. They are taken as they are, kept alive,
-- and closed once, by their own close.

local core = require "cotls.core"
local helper = require "spec.helper"
local luasocket = require "socket"
local tls = require "cotls"
local uv = require "luv"

local contexts = helper.contexts()

-- Is a descriptor open?
local function is_open(fd) return uv.fs_fstat(fd) ~= nil end

-- libuv closes a handle in its loop.
local function turn() uv.run("nowait") end

-- A connected pair: an object of the library, and a descriptor.
local libraries = {
  {
    name = "LuaSocket",
    make = function()
      local listener = assert(core.listen_socket("127.0.0.1", 0))
      local _, port = listener:address()
      local object = assert(luasocket.connect("127.0.0.1", port))
      assert(core.poll(listener:fileno(), "read", tls.now() + 5))
      local other = assert(listener:accept())
      listener:close()
      return object, other
    end,
    fd = function(object) return object:getfd() end,
    say = function(object, text) return object:send(text) end,
    buffer = function(object)
      object:settimeout(5)
      return object:receive(1)
    end,
  },
  {
    name = "luv's pipe",
    make = function()
      local a, b = helper.socketpair()
      local pipe = uv.new_pipe(false)
      assert(pipe:open(a))
      return pipe, b
    end,
    fd = function(object) return object:fileno() end,
    say = function(object, text) return object:try_write(text) end,
  },
  {
    name = "luv's tcp",
    make = function()
      local listener = assert(core.listen_socket("127.0.0.1", 0))
      local _, port = listener:address()
      local tcp, connected = uv.new_tcp(), nil
      tcp:connect("127.0.0.1", port, function(err) connected = err or true end)
      helper.until_true(function()
        uv.run("nowait")
        return connected
      end, "a connection")
      assert.is_true(connected)
      local other = assert(listener:accept())
      listener:close()
      return tcp, other
    end,
    fd = function(object) return object:fileno() end,
    say = function(object, text) return object:try_write(text) end,
  },
}

local found, cqueues_socket = pcall(require, "cqueues.socket")

if found then
  libraries[#libraries + 1] = {
    name = "cqueues",
    make = function()
      local a, b = helper.socketpair()
      local object = assert(cqueues_socket.fdopen(a))
      object:setmode("bn", "bn")
      return object, b
    end,
    fd = function(object) return object:pollfd() end,
    say = function(object, text) return object:write(text) end,
    buffer = function(object) return object:read(1) end,
  }
end

-- ours: a socket or a descriptor.
local function read_other(other)
  local fd = type(other) == "number" and other or other:fileno()
  helper.until_true(function() return core.poll(fd, "read", tls.now() + 0.1) end, "bytes")
  return helper.read_fd(fd)
end

local function close_other(other)
  if type(other) == "number" then helper.close_fd(other) else other:close() end
end

-- A client over the object, which only the connection holds, and a server at the other end, handshaken.
local function handshaken(library, options)
  local object, other = library.make()
  local client = assert(contexts.client:wrap(object, helper.with({ server_name = "localhost" }, options)))
  local server = assert(contexts.server:wrap(other))
  local fd = library.fd(object)
  object = options and object
  for _ = 1, 2 do collectgarbage() end
  helper.shake(client, server)
  return client, server, object, fd
end

for _, library in ipairs(libraries) do
  describe("an object of " .. library.name, function()
    it("is taken as it is, and kept alive", function()
      local client, server, _, fd = handshaken(library)
      assert.equal(fd, client:fileno())
      for _ = 1, 3 do
        collectgarbage()
        turn()
        helper.together {
          function()
            assert(client:write("ping\n"))
            assert.equal("pong", client:read())
          end,
          function()
            assert.equal("ping", server:read())
            assert(server:write("pong\n"))
          end,
        }
      end
      assert.equal(fd, library.fd(client:transport()))
      client:close()
      server:close()
      turn()
    end)

    it("is closed with the connection, once", function()
      local client, server, object, fd = handshaken(library, {})
      client:close()
      turn()
      assert.is_false(is_open(fd))
      local a, b = helper.socketpair() -- one of them has its number
      assert.is_true(a == fd or b == fd)
      client:close()
      if library.name:find "luv" then assert.is_true(object:is_closing()) else object:close() end
      client, object = nil, nil -- luacheck: ignore
      for _ = 1, 3 do collectgarbage() end
      turn()
      assert.is_true(is_open(a) and is_open(b))
      helper.close_fd(a)
      helper.close_fd(b)
      server:close()
    end)

    it("is closed when the connection is collected", function()
      local held, fd = {}
      held.client, held.server, held.object, fd = handshaken(library)
      held.client = nil
      for _ = 1, 3 do collectgarbage() end
      turn()
      assert.is_false(is_open(fd))
      held.server:close()
    end)

    it("with owns = false is left usable", function()
      local object, other = library.make()
      assert(contexts.client:wrap(object, { server_name = "localhost", owns = false })):close()
      for _ = 1, 3 do collectgarbage() end
      turn()
      assert.is_true(is_open(library.fd(object)))
      library.say(object, "plain text")
      assert.equal("plain text", read_other(other))
      object:close()
      turn()
      close_other(other)
    end)

    if library.buffer then
      it("that has bytes in its buffer is refused: they would be missing", function()
        local object, other = library.make()
        helper.write_fd(type(other) == "number" and other or other:fileno(), "abc")
        assert.equal("a", library.buffer(object))
        local conn, err = contexts.client:wrap(object, { server_name = "localhost" })
        assert.is_nil(conn)
        assert.equal("config", err.code)
        assert.matches("transport: the socket has bytes in its buffer", err.reason, 1, true)
        assert.is_true(is_open(library.fd(object)))
        object:close()
        close_other(other)
      end)
    end

    it("that is closed is refused", function()
      local object, other = library.make()
      object:close()
      turn()
      local conn, err = contexts.client:wrap(object, { server_name = "localhost" })
      assert.is_nil(conn)
      assert.equal("config", err.code)
      assert.matches("transport: ", err.reason, 1, true)
      close_other(other)
    end)
  end)
end

describe("a handle of luv", function()
  -- A pipe over one end; both are the caller's.
  local function make()
    local a, b = helper.socketpair()
    local pipe = uv.new_pipe(false)
    assert(pipe:open(a))
    return pipe, b
  end

  it("that is reading is refused, and taken when it has stopped", function()
    local pipe, other = make()
    pipe:read_start(function() end)
    local conn, err = contexts.client:wrap(pipe, { server_name = "localhost" })
    assert.is_nil(conn)
    assert.equal("config", err.code)
    assert.matches("transport: the handle is reading", err.reason, 1, true)
    pipe:read_stop()
    conn = assert(contexts.client:wrap(pipe, { server_name = "localhost" }))
    conn:close()
    turn()
    helper.close_fd(other)
  end)

  it("that has something to send is refused", function()
    local pipe, other = make()
    pipe:write(("x"):rep(4 * 1024 * 1024))
    local conn, err = contexts.client:wrap(pipe, { server_name = "localhost" })
    assert.is_nil(conn)
    assert.matches("transport: the handle has bytes to send", err.reason, 1, true)
    pipe:close()
    turn()
    helper.close_fd(other)
  end)

  it("is waited for in cotls.luv's loop, where libuv has it too", function()
    helper.in_loop(function()
      local luv = require "cotls.luv"
      local pipe, other = make()
      local client = assert(contexts.client:wrap(pipe, { server_name = "localhost" }))
      local server = assert(contexts.server:wrap(other))
      luv.spawn(function()
        assert(server:accept())
        luv.sleep(0.01)
        assert(server:write("hello"))
      end)
      assert(client:connect())
      assert.equal("hello", client:read(5))
      client:close()
      server:close()
    end)
  end)
end)
