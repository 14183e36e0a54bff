-- SPDX-License-Identifier: MIT
-- Two real ends and an attacker between them, who changes, drops, repeats or inserts bytes. What is read is a prefix
-- of what was written, and a clean end comes only after all of it. The first byte chooses the ends; then
-- instructions of five bytes: direction and deed, the offset in the stream (2), a count, a value.

package.path = "./lua/?.lua;./lua/?/init.lua;./?.lua;" .. package.path
local peers = require "fuzz.peers"
local tools = require "fuzz.tools"

local MESSAGE = { up = "from the client", down = "from the server" }
local ROUNDS = 12

local function change(bytes, at, count, value)
  local stop = math.min(at + count, #bytes)
  local changed = bytes:sub(at, stop):gsub(".", function(byte) return string.char(byte:byte() ~ value) end)
  return bytes:sub(1, at - 1) .. changed .. bytes:sub(stop + 1)
end

local deeds = {
  change,
  function(bytes, at, count) return bytes:sub(1, at - 1) .. bytes:sub(at + count + 1) end,
  function(bytes, at, count) return bytes:sub(1, at + count) .. bytes:sub(at) end,
  function(bytes, at, count, value) return bytes:sub(1, at - 1) .. string.char(value):rep(count) .. bytes:sub(at) end,
}

local function instructions(data)
  local list = { up = {}, down = {} }
  for at = 2, math.min(#data, 41), 5 do
    local first = data:byte(at)
    local way = first % 2 == 0 and list.up or list.down
    way[#way + 1] = {
      deed = peers.choose(deeds, first // 2), at = peers.number(data, at + 1, 2) % 6000,
      count = data:byte(at + 3) or 0, value = data:byte(at + 4) or 1,
    }
  end
  return list
end

-- Passes on what there is, after the deeds that fall into it.
local function pass(from, to, way)
  local bytes = tools.receive(from)
  if not bytes then return end
  local first, last = way.passed or 0, (way.passed or 0) + #bytes
  way.passed = last
  for i = #way, 1, -1 do
    local one = way[i]
    if one.at >= first and one.at < last then
      bytes = one.deed(bytes, math.min(one.at - first + 1, #bytes + 1), one.count, one.value)
      table.remove(way, i)
    end
  end
  tools.send(to, bytes)
end

-- One end's part: the handshake, then its message, then what the other says.
local function go_on(side)
  local conn = side.conn
  if side.over then return end
  if not side.done then
    local ok, err = peers.judge(conn[side.first](conn))
    side.done = ok ~= nil
    side.over = not ok and err.code ~= "want_read" and err.code ~= "want_write"
    return
  end
  if not side.said then side.said = peers.judge(conn:write(side.message)) and peers.judge(conn:shutdown("write")) end
  local data, err = peers.judge(conn:recv(4096))
  side.heard = side.heard .. (data or "")
  side.ended = data == nil and err == nil
  side.over = side.ended or err ~= nil and err.code ~= "want_read"
end

local function check(side, expected)
  assert(expected:sub(1, #side.heard) == side.heard, "reads what was not written")
  assert(not side.ended or side.heard == expected, "a clean end before everything")
end

return function(data)
  local ways = instructions(data)
  local a, to_client = tools.socketpair()
  local b, to_server = tools.socketpair()
  local pick = data:byte() or 0
  local client = {
    conn = assert(peers.choose(peers.clients, pick % 8):wrap(a, { server_name = "localhost" })),
    first = "connect", message = MESSAGE.up, heard = "",
  }
  local server = { conn = assert(peers.choose(peers.servers, pick // 8):wrap(b)), first = "accept",
    message = MESSAGE.down, heard = "" }
  client.conn:settimeout(0)
  server.conn:settimeout(0)
  for _ = 1, ROUNDS do
    go_on(client)
    pass(to_client, to_server, ways.up)
    go_on(server)
    pass(to_server, to_client, ways.down)
  end
  check(client, MESSAGE.down)
  check(server, MESSAGE.up)
  peers.inspect(client.conn)
  peers.inspect(server.conn)
  tools.close(to_client)
  tools.close(to_server)
end
