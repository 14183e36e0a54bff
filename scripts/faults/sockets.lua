-- SPDX-License-Identifier: MIT
-- Scenarios: sockets, the loop, waits in poll(2), files that are written.

local tls = require "cotls"
local luv = require "cotls.luv"
local uv = require "luv"
local helper = require "spec.helper"

local OUT_OF_MEMORY = "libuv's binding ends the process where a callback has no memory"

-- A program that serves "hello" to whoever comes, until its input ends.
local SERVER = [[
local tls, luv, uv = require "cotls", require "cotls.luv", require "luv"
luv.run(function()
  local listener = assert(tls.listen("127.0.0.1", 0, { certificate = arg[1], key = arg[2], session_cache = false }))
  print(listener:port())
  io.stdout:flush()
  local pipe = uv.new_pipe(false)
  pipe:open(0)
  pipe:read_start(function(_, data) if not data then os.exit(0) end end)
  for conn in listener do
    luv.spawn(function()
      conn:settimeout(5)
      if conn:accept() and conn:write("hello\n") then conn:shutdown() end
      conn:close()
    end)
  end
end)
]]

return function(add)
  add("a listener and a client in the loop", function()
    local server = helper.server_context { session_cache = false, timeout = 2 }
    local client = helper.client_context { timeout = 2 }
    local function serve(run, listener)
      for conn in listener do
        luv.spawn(function()
          run:must(conn:accept())
          run:same("ping", conn:read())
          run:must(conn:write("pong\n"))
          conn:shutdown()
          conn:close()
        end)
      end
    end
    return function(run)
      local late = false
      local timer = uv.new_timer()
      uv.update_time()
      timer:start(5000, 0, function()
        late = true
        luv.stop()
      end)
      timer:unref()
      local ok, err = pcall(luv.run, function()
        local listener = run:must(tls.listen("127.0.0.1", 0, { context = server }))
        luv.spawn(function() serve(run, listener) end)
        local conn, reason = tls.connect("127.0.0.1", listener:port(), { context = client, server_name = "localhost" })
        if conn then
          run.conns[1] = conn
          local _
          _, reason = conn:write "ping\n"
          if not reason then
            run:same("pong", conn:read())
            run:must(conn:shutdown())
          end
        end
        listener:close()
        run:must(reason == nil or nil, reason)
      end)
      timer:close()
      for _, conn in ipairs(run.conns) do conn:close() end
      uv.run "nowait"
      run:check(not late, "it hangs")
      if not ok then error(err, 0) end
    end
  end, nil, { without = { lua = OUT_OF_MEMORY } })

  add("a client that waits in poll", function()
    local program, leaf = helper.temp_file(SERVER), helper.server_leaf
    local child = helper.start({ helper.lua, program, helper.temp_file(leaf.certificate), helper.temp_file(leaf.key) })
    local port = math.tointeger(tonumber(child:wait_for "^(%d+)\n"))
    local context = helper.client_context { timeout = 5 }
    return function(run)
      local conn = run:must(tls.connect("localhost", port, { context = context }))
      run.conns[1] = conn
      run:same("hello", conn:read())
      run:same("", conn:read "a")
      run:must(conn:shutdown())
    end, function() child:stop() end
  end)

  add("! nobody listens", function()
    local port = helper.free_port()
    local context = helper.client_context { timeout = 5 }
    return function(run)
      run:must(tls.connect("127.0.0.1", port, { context = context }))
      run.connected = true
    end
  end, "refused")

  add("! a host that does not exist", function()
    local context = helper.client_context { timeout = 5 }
    return function(run)
      run:must(tls.connect("256.256.256.256", 443, { context = context }))
      run.connected = true
    end
  end, "")

  add("a log of keys", function()
    local path = helper.temp_dir() .. "/keys"
    local client = helper.client_context { keylog = path }
    local server = helper.server_context { session_cache = false }
    return function(run) run:visit(client, server) end
  end)

  add("a context with a log of keys", function()
    local folder = helper.temp_dir()
    local path = folder .. "/keys"
    local ca = helper.ca.certificate
    return function(run)
      run:must(tls.context { keylog = path, ca = { ca, folder } })
    end
  end)

  add("sockets", function()
    local core = require "cotls.core"
    return function(run)
      local sockets, err = {}, nil
      local ok, failure = pcall(function()
        local listener = run:must(core.listen_socket("127.0.0.1", 0))
        sockets[1] = listener
        local address, port = run:must(listener:address())
        local client = run:must(core.connect_socket(address, port))
        sockets[2] = client
        local server
        for _ = 1, 100 do
          server, err = listener:accept()
          if server or err.code ~= "want_read" and err.code ~= "limit" then break end
        end
        sockets[3] = run:must(server, err)
        for _ = 1, 100 do
          server, err = client:finish()
          if server or err.code ~= "want_write" then break end
        end
        run:must(server, err)
        return tostring(client), client:peer(), server:peer()
      end)
      for _, socket in ipairs(sockets) do socket:close() end
      if not ok then error(failure, 0) end
    end
  end)
end
