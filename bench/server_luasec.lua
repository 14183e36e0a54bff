-- SPDX-License-Identifier: MIT
--
-- The benchmark's server on LuaSec and LuaSocket, with one of three loops: "select" is what LuaSocket brings,
-- "luv" waits on LuaSec's descriptors with libuv, "blocking" serves one connection after the other.
-- Connections are coroutines that yield what LuaSec wants. README.md tells the wire protocol.
-- Called as: server_luasec.lua loop certificate key

local loop_name, certificate, key = ...

local function need(name)
  local have, module = pcall(require, name)
  if have then return module end
  io.stderr:write(tostring(module):match("[^\n]*"), "\n")
  os.exit(77)
end

local socket, ssl = need("socket"), need("ssl")
local uv = loop_name == "luv" and need("luv")

local block = ("b"):rep(16384)

local context = assert(ssl.newcontext {
  mode = "server",
  protocol = "any",
  certificate = certificate,
  key = key,
  verify = "none",
  options = {
    "all", "no_sslv2", "no_sslv3", "no_tlsv1", "no_tlsv1_1", "no_compression", "no_renegotiation",
    "cipher_server_preference",
  },
})

-- The straight-line part: each call is tried until it no longer wants something.

local function handshake(conn)
  while true do
    local ok, want = conn:dohandshake()
    if ok then return true end
    if want ~= "wantread" and want ~= "wantwrite" then return nil end
    coroutine.yield(want)
  end
end

-- A read of 16 KiB that ends early has what is there now in its third result.
local function receive(conn)
  while true do
    local data, want, part = conn:receive(16384)
    if data then return data end
    if part and #part > 0 then return part end
    if want ~= "wantread" and want ~= "wantwrite" then return nil end
    coroutine.yield(want)
  end
end

local function send(conn, data)
  local from = 1
  while true do
    local last, want, sent = conn:send(data, from)
    if last then return true end
    if want ~= "wantread" and want ~= "wantwrite" then return nil end
    from = sent + 1
    coroutine.yield(want)
  end
end

local function command(conn, data)
  local kind = data:sub(1, 1)
  if kind == "G" then
    collectgarbage()
    collectgarbage()
    return send(conn, "g")
  end
  for _ = 1, tonumber(data:match("%d+")) do
    if not send(conn, block) then return nil end
  end
  return true
end

local function serve(conn)
  if not handshake(conn) then return end
  local data = receive(conn)
  while data and data:find("^[GB]") do
    data = command(conn, data) and receive(conn)
  end
  while data and send(conn, data) do data = receive(conn) end
end

local function wrap(client)
  client:setoption("tcp-nodelay", true)
  local conn = assert(ssl.wrap(client, context))
  conn:settimeout(0)
  return conn
end

local function listen()
  local listener = assert(socket.tcp4())
  listener:setoption("reuseaddr", true)
  assert(listener:bind("127.0.0.1", 0))
  assert(listener:listen(4096))
  local _, port = listener:getsockname()
  print(port)
  io.stdout:flush()
  return listener
end

-- select: two lists that change only where a want does; an entry's place in its list is kept with it.

local function list_add(list, item)
  list[#list + 1] = item
  list.place[item] = #list
end

local function list_remove(list, item)
  local place, last = list.place[item], list[#list]
  list[place] = last
  list.place[last] = place
  list[#list] = nil
  list.place[item] = nil
end

local function run_select()
  local lists = { wantread = { place = {} }, wantwrite = { place = {} } }
  local wants, threads = {}, {}

  local function step(conn)
    local alive, want = coroutine.resume(threads[conn], conn)
    local before = wants[conn]
    if alive and want and want == before then return end
    if before then list_remove(lists[before], conn) end
    if alive and want then
      wants[conn] = want
      return list_add(lists[want], conn)
    end
    wants[conn], threads[conn] = nil, nil
    conn:close()
  end

  local listener = listen()
  listener:settimeout(0)
  list_add(lists.wantread, listener)
  while true do
    local readable, writable = socket.select(lists.wantread, lists.wantwrite)
    for _, conn in ipairs(readable) do
      if conn == listener then
        local client = listener:accept()
        while client do
          local new = wrap(client)
          threads[new] = coroutine.create(serve)
          step(new)
          client = listener:accept()
        end
      else
        step(conn)
      end
    end
    for _, conn in ipairs(writable) do step(conn) end
  end
end

-- luv: one poll handle a connection, started again only where the want changes.

local function run_luv()
  local events = { wantread = "r", wantwrite = "w" }

  local function start(conn)
    local poll = uv.new_poll(conn:getfd())
    local thread = coroutine.create(serve)
    local armed, step

    function step()
      local alive, want = coroutine.resume(thread, conn)
      if alive and want and want == armed then return end
      if alive and want then
        armed = want
        return poll:start(events[want], step)
      end
      poll:close(function() conn:close() end)
    end

    step()
  end

  local listener = listen()
  listener:settimeout(0)
  local poll = uv.new_poll(listener:getfd())
  poll:start("r", function()
    local client = listener:accept()
    while client do
      start(wrap(client))
      client = listener:accept()
    end
  end)
  uv.run()
end

local function run_blocking()
  local listener = listen()
  while true do
    local conn = wrap(assert(listener:accept()))
    conn:settimeout(nil)
    serve(conn)
    conn:close()
  end
end

local loops = { select = run_select, luv = run_luv, blocking = run_blocking }
loops[loop_name]()
