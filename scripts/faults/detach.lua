-- SPDX-License-Identifier: MIT
-- Scenarios: TLS that ends while its transport goes on.

local tls = require "cotls"
local uv = require "luv"
local helper = require "spec.helper"
local streams = require "scripts.faults.pipes"

-- Gives the transport and what has followed. Where Lua had no memory for it, once more; nothing is made here behind
-- it, lest the transport is lost by the scenario.
local function detached(run, conn)
  local ok, transport, rest = pcall(conn.detach, conn)
  if not ok then transport, rest = conn:detach() end
  return run:must(transport, rest), rest
end

-- Both ends have a word, and end; the second leaves `tail` behind its close_notify. `gone` are the results of detach,
-- by place: what has been detached from is nobody's.
local function leave(run, a, b, tail, on_left)
  local gone = { false, false, false, false }
  run:play(a, function(conn)
    run:must(run:call(conn, "connect"))
    run:must(conn:write "a") -- once: an error that is raised says nothing of how much was written
    run:same("b", run:call(conn, "read", 1))
    run.connected = true
    run:must(run:call(conn, "shutdown"))
    gone[1], gone[2] = detached(run, conn)
    on_left(1, gone[1])
  end, b, function(conn)
    run:must(run:call(conn, "accept"))
    run:must(conn:write "b")
    run:same("a", run:call(conn, "read", 1))
    run.accepted = true
    run:must(run:call(conn, "shutdown", "write"))
    if tail then tail(conn) end
    run:same(nil, run:call(conn, "read", 1))
    gone[3], gone[4] = detached(run, conn)
    on_left(2, gone[3])
  end)
  return gone
end

return function(add)
  for _, version in ipairs { "1.2", "1.3" } do
    local only = { min_version = version, max_version = version }
    local function contexts()
      return helper.client_context(only), helper.server_context(helper.with(only, { session_cache = false }))
    end

    add("a descriptor that is had back on TLS " .. version, function()
      local client, server = contexts()
      return function(run)
        local fds = run.fds[1]
        local kept = { fds[1], fds[2] }
        run.fds[1] = run.fds[#run.fds]
        run.fds[#run.fds] = fds
        local a, b = run:pair(client, server)
        run.fds[#run.fds + 1] = fds -- its places are empty until they are had back
        local gone = leave(run, a, b, function(conn) uv.fs_write(conn:fileno(), "plain", -1) end,
          function(i, fd) fds[i] = fd end)
        run:check(gone[1] == kept[1] and gone[3] == kept[2], "another descriptor")
        local rest = gone[2]
        if #rest < 5 then rest = rest .. (uv.fs_read(gone[1], 5 - #rest, -1) or "") end
        run:check(rest == "plain" and gone[4] == "", "what follows is lost")
      end
    end)

    add("a stream that is had back on TLS " .. version, function()
      local client, server = contexts()
      return function(run)
        local one, other = streams()
        local a = run:must(client:wrap(one, { server_name = "localhost" }))
        run.conns[1] = a
        local b = run:must(server:wrap(other))
        run.conns[2] = b
        local gone = leave(run, a, b, function(conn) conn:transport():write "plain" end, function() end)
        run:check(gone[1] == one and gone[3] == other, "another transport")
        run:check(gone[2] == "plain" or gone[2] == "" and one:read(5) == "plain", "what follows is lost")
      end
    end)

    add("pipes of a pair that are had back on TLS " .. version, function()
      local client, server = contexts()
      return function(run)
        local a, b = run:must(tls.pair(client, server, { size = 300, client = { server_name = "localhost" } }))
        run.conns[1], run.conns[2] = a, b
        local one, other = a:transport(), b:transport()
        local gone = leave(run, a, b, nil, function() end)
        run:check(gone[1] == one and gone[3] == other and gone[2] == "" and gone[4] == "", "other pipes")
      end
    end)

    add("a connection under another that is had back on TLS " .. version, function()
      local client, server = contexts()
      return function(run)
        local a, b = run:visit(client, server)
        run.connected, run.accepted = nil, nil
        local inner = run:must(client:wrap(a, { server_name = "localhost" }))
        run.conns[3] = inner
        local other = run:must(server:wrap(b))
        run.conns[4] = other
        local gone = leave(run, inner, other, nil, function() end)
        run:check(gone[1] == a and gone[3] == b and gone[2] == "" and gone[4] == "", "another connection")
        run:play(a, function(conn)
          run:must(run:call(conn, "write", "c"))
          run:same("d", run:call(conn, "read", 1))
          run:must(run:call(conn, "shutdown"))
          run.fds[#run.fds][1] = detached(run, conn)
        end, b, function(conn)
          run:must(run:call(conn, "write", "d"))
          run:same("c", run:call(conn, "read", 1))
          run:must(run:call(conn, "shutdown"))
          run.fds[#run.fds][2] = detached(run, conn)
        end)
      end
    end)

    add("! having back what still carries TLS " .. version, function()
      local client, server = contexts()
      return function(run)
        local a, b = run:visit(client, server)
        run:must(run:call(b, "write", "secret"))
        a:settimeout(0)
        run:call(a, "read", 0)
        run.fds[#run.fds][1] = detached(run, a)
        run.had = true
      end
    end, "comes after the peer's close_notify", { believed = function(run) return run.had end })
  end

  add("a descriptor that is had back before the handshake", function()
    local server = helper.server_context()
    return function(run)
      local fds = run.fds[#run.fds]
      local a = run:pair(helper.client_context(), server)
      run.fds[#run.fds + 1] = fds
      local rest
      fds[1], rest = detached(run, a)
      run:check(rest == "", "something was read")
    end
  end)
end
