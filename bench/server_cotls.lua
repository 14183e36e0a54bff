-- SPDX-License-Identifier: MIT
--
-- The benchmark's server on cotls over its luv loop, or over cqueues'. README.md tells the wire protocol.
-- Called as: server_cotls.lua [hooks|remote|cqueues|stream] certificate key
-- hooks: Lua functions that OpenSSL waits for, and that answer at once. remote: the key is luaossl's, behind `sign`.
-- stream: connections lie on an object written in Lua that moves the bytes.

local mode, certificate, key = ...
if not key then mode, certificate, key = nil, mode, certificate end

local have, tls = pcall(require, "cotls")
local have_loop, loop = pcall(require, mode == "cqueues" and "cotls.cqueues" or "cotls.luv")
if not (have and have_loop) then
  io.stderr:write(tostring(have and loop or tls):match("[^\n]*"), "\n")
  os.exit(77)
end

local block = ("b"):rep(16384)

local function collect(conn)
  collectgarbage()
  collectgarbage()
  return conn:write("g")
end

local function bulk(conn, command)
  for _ = 1, tonumber(command:match("%d+")) do
    if not conn:write(block) then return nil end
  end
  return conn
end

local function echo(conn, data)
  while data and conn:write(data) do data = conn:recv(16384) end
end

local function serve(conn)
  if not conn:accept() then return end
  local data = conn:recv(16384)
  while data do
    local kind = data:sub(1, 1)
    local done
    if kind == "G" then
      done = collect(conn)
    elseif kind == "B" then
      done = bulk(conn, data)
    else
      echo(conn, data)
    end
    if not done then break end
    data = conn:recv(16384)
  end
  conn:close()
end

local options = { role = "server", certificate = certificate, key = key }

if mode == "hooks" then
  for _, name in ipairs { "on_client_hello", "on_server_name", "on_certificate" } do
    options[name] = function() return true end
  end
elseif mode == "remote" then
  local found, pkey = pcall(require, "openssl.pkey")
  if not found then os.exit(77) end
  local digest = require "openssl.digest"
  local handle = assert(io.open(key))
  local signer = pkey.new(handle:read("*a"))
  handle:close()
  options.key = nil
  options.sign = function(_, request)
    return signer:sign(digest.new(request.digest:lower()):update(request.message))
  end
end

local context = assert(tls.context(options))

-- ---- a stream ----

local Stream = {}
Stream.__index = Stream

function Stream:read(max, deadline)
  local socket = self.socket
  local data, err = socket:recv(max)
  while data == false do
    local ok, why = loop.wait(socket, "read", deadline)
    if not ok then return nil, why end
    data, err = socket:recv(max)
  end
  return data, err
end

function Stream:write(bytes, deadline)
  local socket = self.socket
  local sent, err = socket:send(bytes)
  if sent == #bytes then return true end
  local written = 0
  while sent do
    written = written + sent
    if written == #bytes then return true end
    local ok, why = loop.wait(socket, "write", deadline)
    if not ok then return nil, why, written end
    sent, err = socket:send(bytes, written + 1)
  end
  return nil, err
end

function Stream:try_write(bytes) return (self.socket:send(bytes)) end

function Stream:close()
  loop.release(self.socket)
  self.socket:close()
end

-- The loop over a listening socket of the core, whose connections lie on streams.
local function serve_streams()
  local core = require "cotls.core"
  local listening = assert(core.listen_socket("127.0.0.1", 0))
  print((select(2, listening:address())))
  io.stdout:flush()
  while true do
    local socket = listening:accept()
    if socket then
      loop.spawn(serve, context:wrap(setmetatable({ socket = socket }, Stream)))
    else
      loop.wait(listening, "read")
    end
  end
end

assert(loop.run(function()
  if mode == "stream" then return serve_streams() end
  local listener = assert(tls.listen("127.0.0.1", 0, { context = context }))
  print(listener:port())
  io.stdout:flush()
  for conn in listener do loop.spawn(serve, conn) end
end))
