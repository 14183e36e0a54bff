-- SPDX-License-Identifier: MIT
-- What kind of transport an object is: one with a descriptor, or a stream, whose functions move the bytes.

local core = require "cotls.core"

local transport = {}

-- The function of an object, whatever that is.
local function method(object, name)
  local ok, value = pcall(function() return object[name] end)
  return ok and type(value) == "function" and value or nil
end

-- ---- OpenResty's cosockets ----

-- Milliseconds until the deadline: 0 would be "as configured" there.
local function set_timeout(socket, deadline)
  local left = deadline and (deadline - core.now()) * 1000 or 2 ^ 31 - 1
  socket:settimeout(math.max(1, math.min(math.ceil(left), 2 ^ 31 - 1)))
end

local function receive_any(socket, max, deadline)
  if socket.settimeout then set_timeout(socket, deadline) end
  local data, err = socket:receiveany(max)
  if not data and err == "closed" then return nil end
  return data, err
end

local function send(socket, bytes, deadline)
  if socket.settimeout then set_timeout(socket, deadline) end
  return socket:send(bytes)
end

-- ---- the choice ----

-- What core.wrap takes for a stream: read, write, try_write (or nil) and the names of the first two.
local function stream(object, read, write, read_name, write_name)
  return { read, write, method(object, "try_write"), read_name, write_name }
end

local function connection_stream()
  return { core.recv_until, core.write_until, core.try_write, "recv", "write" }
end

local function by_methods(object, read_name, write_name)
  local read, write = method(object, read_name), method(object, write_name)
  return read and write and stream(object, read, write, read_name, write_name)
end

-- A socket of cqueues has a pollfd; its recv, read and write are of another kind, also once it is closed.
local function has_descriptor(object)
  if method(object, "pollfd") then return true end
  for _, name in ipairs { "getfd", "fileno" } do
    local give = method(object, name)
    local ok, fd = pcall(give or error, object)
    if give and ok and type(fd) == "number" then return true end
  end
  return false
end

local function first_stream(object)
  if core.is_connection(object) then return connection_stream() end
  if method(object, "receiveany") and method(object, "send") then
    return stream(object, receive_any, send, "receiveany", "send")
  end
  return not method(object, "pollfd") and by_methods(object, "recv", "write")
end

--- Finds out what an object is.
-- @param kind "fd", "stream", or nil: whichever it is
-- @return what core.wrap takes for a stream; nil for all else; or nil and why it is refused
function transport.choose(object, kind)
  local is_object = type(object) == "table" or type(object) == "userdata"
  if kind == "fd" and is_object and core.is_connection(object) then
    return nil, "a connection is a stream"
  end
  if kind == "fd" or not is_object then
    if kind ~= "stream" then return nil end
  else
    local found = first_stream(object)
      or (kind == "stream" or not has_descriptor(object)) and by_methods(object, "read", "write")
      or kind == "stream" and by_methods(object, "recv", "write")
    if found then return found end
  end
  if kind == "stream" then
    return nil, "a stream is a connection, or an object with receiveany and send, recv and write, or read and write"
  end
  return nil
end

return transport
