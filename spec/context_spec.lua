local compat = require "cotls.compat"
local tls = require "cotls"
local core = require "cotls.core"
local luv = require "cotls.luv"
local helper = require "spec.helper"

local LEAF = helper.server_leaf
local CA = helper.ca.certificate

describe("tls.context", function()
  it("makes a client's context by default", function()
    for _, context in ipairs { tls.context(), tls.context {}, tls.context { role = "client" } } do
      assert.matches("^cotls.context %(client%)", tostring(context))
    end
    assert.matches("^cotls.context %(server%)", tostring(helper.contexts().server))
  end)

  it("doesn't look at the options again: it is immutable", function()
    local alpn = { "one" }
    local options = { role = "server", certificate = LEAF.certificate, key = LEAF.key, alpn = alpn }
    local context = assert(tls.context(options))
    alpn[1] = "two"
    options.role, options.certificate = nil, nil
    local client, server = helper.handshaken(nil, { alpn = { "one", "two" } }, nil,
      { client = helper.contexts().client, server = context })
    assert.equal("one", client:alpn())
    assert.equal(context, server:context())
    assert.is_false(pcall(function() context.role = "client" end))
  end)

  it("the caller's options table stays as it was", function()
    local options = { ca = { CA }, alpn = { "x" } }
    assert(tls.context(options))
    assert.same({ ca = { CA }, alpn = { "x" } }, options)
  end)

  it("a side contrary to the role raises, before anything is sent", function()
    local client, server = helper.pair()
    for _, case in ipairs { { client, "accept" }, { client, "set_accept_state" }, { server, "connect" },
      { server, "set_connect_state" } } do
      local ok, err = pcall(case[1][case[2]], case[1])
      assert.is_false(ok)
      assert.is_truthy(err:find(case[2] .. ": the context's role is", 1, true), err)
    end
    assert.same({ bytes_in = 0, bytes_out = 0 }, client:stats())
    helper.shake(client, server)
    client:close()
    server:close()
  end)

  it("lives as long as its connections", function()
    local client, server = helper.handshaken(nil, nil, nil,
      { client = helper.client_context { alpn = { "a" } }, server = helper.server_context { alpn = { "a" } } })
    collectgarbage()
    collectgarbage()
    helper.together { function() assert(server:write("still here")) end }
    assert.equal("still here", client:read(10))
    assert.equal("a", client:alpn())
    client:close()
    server:close()
  end)

  it("many come and go without a trace", function()
    local fds = helper.settled_fds()
    for _ = 1, 50 do
      assert(helper.server_context { verify_client = "require", ca = CA })
      tls.context { role = "server", certificate = LEAF.certificate, key = helper.ca.key }
    end
    collectgarbage()
    assert.equal(fds, helper.count_fds())
  end)

  it("wrong objects raise", function()
    for _, wrong in ipairs { false, 1, "x", {}, io.stdout } do
      assert.is_false(pcall(core.methods("cotls.context").wrap, wrong, 0))
    end
    local connection = helper.pair()
    assert.is_false(pcall(core.methods("cotls.context").wrap, connection, 0))
    connection:close()
  end)
end)

describe("wrap", function()
  local context = helper.contexts().server

  local function refused(transport, pattern)
    local conn, err = context:wrap(transport)
    assert.is_nil(conn)
    assert.equal("config", err.code)
    assert.matches("^transport: ", err.reason)
    assert.is_truthy(err.reason:find(pattern, 1, true), err.reason)
  end

  it("refuses what has no descriptor, and says what is possible", function()
    for _, bad in ipairs { false, "x", {}, print, 1.5, { fileno = 1 }, { getfd = function() return "x" end },
      { getfd = function() error("no") end }, setmetatable({}, { __index = function() error("never") end }) } do
      refused(bad, "getfd, fileno or pollfd")
    end
    local ok, conn = pcall(context.wrap, context)
    assert.is_true(not ok or conn == nil)
  end)

  it("refuses descriptors that are none, or no stream sockets", function()
    refused(-1, "negative")
    refused(-0x20000000000000, "negative")
    refused(0x10000000000, "")
    refused(999999, "Bad file descriptor")
    local file = assert(io.open("/dev/null"))
    local fd
    for i = 3, 200 do -- the descriptor of a file of Lua's is nowhere told
      if not fd and (io.open("/proc/self/fd/" .. i) and true) then
        local target = require("luv").fs_readlink("/proc/self/fd/" .. i)
        if target == "/dev/null" then fd = i end
      end
    end
    if fd then refused(fd, "socket") end
    file:close()
  end)

  it("takes a descriptor, and objects with getfd, fileno or pollfd", function()
    for _, method in ipairs { "getfd", "fileno", "pollfd" } do
      local fd, other = helper.socketpair()
      local closed = 0
      local object = {
        [method] = function() return fd end,
        close = function()
          closed = closed + 1
          helper.close_fd(fd)
        end,
      }
      local conn = assert(context:wrap(object))
      assert.equal(fd, conn:fileno())
      assert.equal(object, conn:transport())
      conn:close()
      conn:close()
      assert.equal(1, closed)
      helper.close_fd(other)
    end
  end)

  it("a transport whose close fails does no harm", function()
    local fd, other = helper.socketpair()
    local conn = assert(context:wrap { fileno = function() return fd end, close = function() error("oh") end })
    assert.is_true(conn:close())
    helper.close_fd(fd)
    helper.close_fd(other)
  end)

  it("keeps the transport alive", function()
    local fd, other = helper.socketpair()
    local weak = setmetatable({ { fileno = function() return fd end } }, { __mode = "v" })
    local conn = assert(context:wrap(weak[1]))
    collectgarbage()
    collectgarbage()
    assert.is_table(weak[1])
    conn:close()
    helper.close_fd(fd)
    helper.close_fd(other)
  end)
end)

describe("the system's CAs", function()
  local PROGRAM = [[
    local tls = require "cotls"
    local conn, err = tls.connect("localhost", tonumber(arg[1]), { timeout = 10 })
    print(conn and conn:version() or err.code, err and tostring(err) or "")
    if conn then conn:close() end
  ]]

  -- What a client in its own process says to a server of that context.
  local function client_says(env)
    local said
    helper.in_loop(function()
      local listener = assert(tls.listen("127.0.0.1", 0, { context = helper.contexts().server }))
      luv.spawn(function()
        helper.each(listener, function(conn)
          conn:accept()
          conn:close()
        end)
      end)
      local status, out, err = helper.run({ helper.lua, helper.temp_file(PROGRAM), tostring(listener:port()) }, nil,
        { env = env })
      assert.equal(0, status, err)
      said = out
      listener:close()
    end, 20)
    return said
  end

  it("are a client's default, from SSL_CERT_FILE", function()
    local none = helper.temp_dir()
    assert.matches("^TLSv1.3", client_says { SSL_CERT_FILE = helper.temp_file(CA), SSL_CERT_DIR = none })
    local said = client_says { SSL_CERT_FILE = helper.temp_file(helper.other_ca.certificate), SSL_CERT_DIR = none }
    assert.matches("^verify", said)
  end)

  it("or from SSL_CERT_DIR, hashed", function()
    local dir = helper.temp_dir()
    local handle = assert(io.open(dir .. "/ca.pem", "w"))
    handle:write(CA)
    handle:close()
    assert.equal(0, (helper.run { "openssl", "rehash", dir }))
    assert.matches("^TLSv1.3", client_says { SSL_CERT_DIR = dir, SSL_CERT_FILE = "/nonexistent" })
    assert.matches("^verify", client_says { SSL_CERT_DIR = helper.temp_dir(), SSL_CERT_FILE = "/nonexistent" })
  end)

  it("without any, every server is refused, but contexts are made", function()
    assert.matches("^verify", client_says { SSL_CERT_FILE = "/nonexistent", SSL_CERT_DIR = "/nonexistent" })
  end)
end)

describe("a server resumes sessions", function()
  -- Runs openssl s_client against a server of that context, in the loop; the session goes through a file.
  local function visit(server, flags, session, own)
    local resumed
    helper.in_loop(function()
      local listener = assert(tls.listen("127.0.0.1", 0, { context = server }))
      luv.spawn(function()
        local conn = listener()
        local ok = conn:accept()
        resumed = ok and conn:resumed()
        if ok then
          assert(conn:write("hello\n"))
          conn:read()
        end
        conn:close()
        listener:close()
      end)
      local argv = { "openssl", "s_client", "-connect", "127.0.0.1:" .. listener:port(), "-servername", "localhost" }
      for _, flag in ipairs(flags) do argv[#argv + 1] = flag end
      if own then compat.move({ "-cert", own.cert, "-key", own.key }, 1, 4, #argv + 1, argv) end
      compat.move(session, 1, 2, #argv + 1, argv)
      local child = helper.start(argv)
      child:wait_for("hello") -- tickets have come by then
      child:write("bye\n")
      child:close_input()
      child:wait()
      child:stop()
    end)
    return resumed
  end

  for _, version in ipairs { "-tls1_2", "-tls1_3" } do
    it("of openssl s_client " .. version, function()
      local server = helper.server_context()
      local path = helper.temp_dir() .. "/session"
      assert.is_false(visit(server, { version }, { "-sess_out", path }))
      assert.is_true(visit(server, { version }, { "-sess_in", path }))
      -- another context has other ticket keys
      assert.is_false(visit(helper.server_context(), { version }, { "-sess_in", path }))
    end)

    it("with client certificates " .. version, function()
      local own = helper.leaf { subject = "CN=client" }
      own = { cert = helper.temp_file(own.certificate), key = helper.temp_file(own.key) }
      local server = helper.server_context { verify_client = "require", ca = CA }
      local path = helper.temp_dir() .. "/session"
      assert.is_false(visit(server, { version }, { "-sess_out", path }, own))
      assert.is_true(visit(server, { version }, { "-sess_in", path }, own))
    end)
  end

  -- No option shares sessions between contexts yet, so what goes into the session id context is looked at itself.
  it("only under contexts with the same settings, in every process alike", function()
    local PROGRAM = [[
      local options = require "cotls.options"
      local given = assert((loadstring or load)("return " .. arg[1]))()
      given.role, given.certificate, given.key = "server", arg[2], arg[3]
      local scope = assert(options.context(given, "x", 1)).session_scope
      print(require("spec.bytes").hex(scope))
    ]]
    local program = helper.temp_file(PROGRAM)
    local function scope(given)
      local status, out, err = helper.run { helper.lua, program, given, LEAF.certificate, LEAF.key }
      assert.equal(0, status, err)
      return out
    end
    local ca, other = helper.temp_file(CA), helper.temp_file(helper.other_ca.certificate)
    local optional = ("{ ca = %q, verify_client = 'optional' }"):format(ca)
    local require = ("{ ca = %q, verify_client = 'require' }"):format(ca)
    local require_other = ("{ ca = %q, verify_client = 'require' }"):format(other)
    assert.equal(scope(require), scope(require))
    local seen = {}
    for _, given in ipairs { "{}", optional, require, require_other } do
      local one = scope(given)
      assert.is_true(#one > 10)
      assert.is_nil(seen[one], given)
      seen[one] = true
    end
  end)
end)
