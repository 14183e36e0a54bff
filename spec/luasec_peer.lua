-- SPDX-License-Identifier: MIT
-- A program for the specs of the drop-in: one side of a connection, by LuaSec's functions alone. Called as:
-- luasec_peer.lua PORT WISH. Port 0: a server for one client, which prints its port first. WISH is a Lua table:
-- params (of ssl.newcontext), sni (a name, or name → params), strict_sni, dane (a name and records in hex digits),
-- alpn_function, psk (identity and key). It prints what it sees, a line for each thing.

local compat = require "cotls.compat"
local socket = require "socket"
local ssl = require "ssl"
local bytes = require "spec.bytes"

local SECONDS = 10
local port, text = ...
port = tonumber(port)
local wish = assert(compat.loadstring("return " .. text))()
local server = port == 0

local function hex(data)
  return data and bytes.hex(data) or "none"
end

local function say(name, value)
  if type(value) == "number" then value = ("%d"):format(value) end -- LuaSec gives 256.0
  print(("%s: %s"):format(name, (tostring(value):gsub("\n", " "))))
end

local function finish(what)
  say("result", what)
  io.stdout:flush()
  os.exit(0, true)
end

-- ---- the context ----

local function context_of(params)
  params.mode = server and "server" or "client"
  if wish.alpn_function then
    params.alpn = function(offered)
      say("offered", table.concat(offered, " "))
      return wish.alpn_function
    end
  end
  if wish.psk and server then
    params.psk = { hint = "a hint", callback = function(identity)
      return identity == wish.psk[1] and wish.psk[2] or nil
    end }
  elseif wish.psk then
    params.psk = function(hint, ...)
      say("hint", hint)
      assert(select("#", ...) == 2 and ... == 255 and select(2, ...) == 512)
      return wish.psk[1], wish.psk[2]
    end
  end
  return assert(ssl.newcontext(params))
end

-- ---- the connection ----

local function connect()
  local sock
  if server then
    local listener = assert(socket.bind("127.0.0.1", 0))
    say("port", (select(2, listener:getsockname())))
    io.stdout:flush()
    listener:settimeout(SECONDS)
    sock = assert(listener:accept())
    listener:close()
  else
    sock = assert(socket.connect("127.0.0.1", port))
  end
  return sock
end

say("made by", ssl._COPYRIGHT:match "^%a+")
local context = context_of(wish.params)
local conn = assert(ssl.wrap(connect(), context))
conn:settimeout(SECONDS)
if type(wish.sni) == "table" then
  local contexts = {}
  for name, params in pairs(wish.sni) do contexts[name] = context_of(params) end
  conn:sni(contexts, wish.strict_sni)
elseif wish.sni then
  conn:sni(wish.sni)
end
if wish.dane then
  assert(conn:setdane(wish.dane[1]))
  for i = 2, #wish.dane do
    local usage, selector, matching, data = wish.dane[i]:match "^(%d) (%d) (%d) (%x+)$"
    assert(conn:settlsa(tonumber(usage), tonumber(selector), tonumber(matching), bytes.of_hex(data)))
  end
end
local ok, err = conn:dohandshake()
if not ok then finish("handshake: " .. tostring(err)) end

-- ---- what it sees ----

local function exchange()
  local long = ("%d "):format(server and 1 or 2):rep(50000)
  local line
  if server then
    line, err = conn:receive "*l"
    if not line then return "receive: " .. err end
    say("received", #line)
    ok, err = conn:send(line .. "\n" .. long)
    if not ok then return "send: " .. err end
    err = select(2, conn:receive "*a")
    return err == "closed" and "talked" or "end: " .. tostring(err)
  end
  ok, err = conn:send(long .. "\n")
  if not ok then return "send: " .. err end
  line, err = conn:receive "*l"
  if not line then return "receive: " .. err end
  if line ~= long then return "another line" end
  line, err = conn:receive(#long)
  if not line then return "receive: " .. err end
  say("received", #line)
  return "talked"
end

local result = exchange()
local info = conn:info()
for _, name in ipairs { "protocol", "cipher", "bits" } do say(name, info[name]) end
say("alpn", conn:getalpn())
say("name", conn:getsniname())
say("finished", hex(conn:getfinished()))
say("peer finished", hex(conn:getpeerfinished()))
if conn.exportkeyingmaterial then say("keys", hex(conn:exportkeyingmaterial("EXPORTER-spec", 32))) end
local peer = conn:getpeercertificate()
say("peer", peer and peer:subject()[1].value)
say("chain", #conn:getpeerchain())
local mine = conn.getlocalcertificate and conn:getlocalcertificate()
say("own", mine and mine:subject()[1].value)
say("verified", (conn:getpeerverification()))
conn:close()
finish(result)
