-- examples/https_proxy_get.lua, through a small HTTPS proxy of our own.

local tls = require "cotls"
local luv = require "cotls.luv"
local helper = require "spec.helper"
local tree = require "spec.tree"

local BODY = helper.noise(50000)

-- Passes on what comes, one way, up to the end.
local function pipe(from, to)
  local data = from:recv()
  while data and to:write(data) do data = from:recv() end
  if to.shutdown then to:shutdown "write" else to:close() end
end

-- A plain TCP connection as an object with recv and write.
local function plain(port)
  local socket = assert(luv.connect("127.0.0.1", port))
  local object = {}
  function object.recv()
    local data, err = socket:recv(16384)
    while data == false and socket:fileno() do
      luv.wait(socket, "read")
      if socket:fileno() then data, err = socket:recv(16384) end
    end
    return data or nil, err
  end
  function object.write(_, bytes)
    local at = 1
    while at <= #bytes do
      local n = socket:send(bytes, at)
      if not n then return nil end
      if n == 0 then luv.wait(socket, "write") end
      at = at + n
    end
    return true
  end
  function object.close()
    luv.release(socket) -- which wakes who waits
    socket:close()
  end
  return object
end

-- A proxy: CONNECT to any port of this host, unless it is told to refuse.
local function proxy(log, answer)
  local listener = assert(tls.listen("127.0.0.1", 0, { context = helper.contexts().server }))
  luv.spawn(function()
    local conn = listener()
    listener:close()
    if not (conn and conn:accept()) then return conn and conn:close() end
    local request = conn:read "L"
    log[#log + 1] = request
    repeat local line = conn:read() until not line or line == "\r"
    assert(conn:write(answer or "HTTP/1.1 200 OK\r\nVia: spec\r\n\r\n"))
    if answer then return conn:close() end
    local far = plain(tonumber(request:match(":(%d+) ")))
    luv.spawn(pipe, far, conn)
    pipe(conn, far)
  end)
  return listener:port(), listener
end

local function server(context)
  local listener = assert(tls.listen("127.0.0.1", 0, { context = context or helper.contexts().server }))
  luv.spawn(function()
    local conn = listener()
    listener:close()
    if not conn then return end
    if not conn:accept() then return conn:close() end
    local request = conn:read()
    repeat local line = conn:read() until not line or line == "\r"
    assert(conn:write("HTTP/1.0 200 OK\r\n\r\n", request, "\n", BODY))
    conn:shutdown()
    conn:close()
  end)
  return listener:port(), listener
end

-- Runs the example; log gets what the proxy was asked.
local function fetch(options)
  local log, status, out, err = {}, nil, nil, nil
  local ca = helper.temp_file(helper.ca.certificate)
  helper.in_loop(function()
    local port, listener = server(options.context)
    local proxy_port, proxy_listener = proxy(log, options.answer)
    local argv = { helper.lua, tree.root .. "examples/https_proxy_get.lua", "--ca", ca,
      "https://localhost:" .. proxy_port, ("https://localhost:%d/x"):format(port) }
    status, out, err = helper.run(argv)
    listener:close()
    proxy_listener:close()
  end, 20)
  return status, out, err, log
end

describe("examples/https_proxy_get.lua", function()
  it("gets a page through the proxy, which sees no word of it", function()
    local status, out, err, log = fetch {}
    assert.equal("", err)
    assert.equal(0, status)
    assert.is_true(out == "HTTP/1.0 200 OK\r\n\r\nGET /x HTTP/1.0\r\n" .. BODY)
    assert.equal(1, #log)
    assert.matches("^CONNECT localhost:%d+ HTTP/1.1\r\n$", log[1])
  end)

  it("tells that the proxy refuses, and a server that is not the right one", function()
    local status, out, err = fetch { answer = "HTTP/1.1 403 Forbidden\r\n\r\n" }
    assert.equal(3, status)
    assert.equal("", out)
    assert.matches("403 Forbidden", err, 1, true)
    local leaf = helper.leaf { names = { "elsewhere.test" } }
    status, out, err = fetch { context = helper.server_context { certificate = leaf.certificate, key = leaf.key } }
    assert.equal(2, status)
    assert.equal("", out)
    assert.matches("hostname mismatch", err, 1, true)
  end)
end)
