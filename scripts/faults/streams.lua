-- SPDX-License-Identifier: MIT
-- Scenarios: connections that are joined in memory, over transports written in Lua, and TLS in TLS.

local tls = require "cotls"
local helper = require "spec.helper"
local streams = require "scripts.faults.pipes"

-- Handshake, data both ways, an end.
local function meet(run, a, b)
  run.conns[#run.conns + 1] = a
  run.conns[#run.conns + 1] = b
  run:play(a, function(conn)
    run:must(run:call(conn, "connect"))
    run:must(conn:write(("y"):rep(30000), "end\n"))
    run:must(conn:shutdown "write")
    run:same("done", conn:read "*a")
    run.inside = true
  end, b, function(conn)
    run:must(run:call(conn, "accept"))
    run:same(("y"):rep(30000) .. "end", conn:read())
    run:must(conn:write "done")
    run:must(conn:shutdown())
    run.inside = true
  end)
end

local UNKNOWN = "a raised error says nothing of how much it has read"

return function(add)
  for _, version in ipairs { "1.2", "1.3" } do
    local only = { min_version = version, max_version = version }
    local function contexts()
      return helper.client_context(only), helper.server_context(helper.with(only, { session_cache = false }))
    end

    for refused, name in pairs { [""] = "localhost", ["! a wrong name: "] = "wrong.example" } do
      local text = refused ~= "" and "ostname mismatch" or nil
      local more = { without = { lua = refused == "" and UNKNOWN or nil },
        believed = function(run) return run.inside end }

      add(("%sa pair in memory on TLS %s"):format(refused, version), function()
        local client, server = contexts()
        return function(run)
          meet(run, run:must(tls.pair(client, server, { size = 5000, client = { server_name = name } })))
        end
      end, text, more)

      add(("%sa stream written in Lua on TLS %s"):format(refused, version), function()
        local client, server = contexts()
        return function(run)
          local one, other = streams()
          local a = run:must(client:wrap(one, { server_name = name }))
          run.conns[1] = a
          meet(run, a, run:must(server:wrap(other)))
        end
      end, text, more)

      add(("%sTLS in TLS on TLS %s"):format(refused, version), function()
        local client, server = contexts()
        return function(run)
          local a, b = run:visit(client, server)
          local inner = run:must(client:wrap(a, { server_name = name }))
          run.conns[#run.conns + 1] = inner
          meet(run, inner, run:must(server:wrap(b)))
        end
      end, text, more)
    end
  end
end
