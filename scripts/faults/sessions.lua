-- SPDX-License-Identifier: MIT
-- Scenarios: resumption, early data, pre-shared keys.

local tls = require "cotls"
local helper = require "spec.helper"

local ca = helper.ca
local KEY = ("k"):rep(32)

return function(add)
  for _, version in ipairs { "1.2", "1.3" } do
    local only = { min_version = version, max_version = version }

    local function client_of(options) return helper.client_context(helper.with(only, options)) end
    local function server_of(options) return helper.server_context(helper.with(only, options)) end

    for name, options in pairs {
      ["tickets"] = { session_cache = false, ticket_keys = { ("t"):rep(80) } },
      ["sessions that stay at the server"] = { tickets = false },
    } do
      add(("resumption by %s on TLS %s"):format(name, version), function()
        local client, server = client_of(), server_of(options)
        return function(run)
          local a = run:visit(client, server)
          local session = run:must(a:session())
          local exported = run:must(session:export())
          run:again()
          a = run:visit(client, server, { server_name = "localhost", session = exported })
          run.resumed = a:resumed()
        end
      end)
    end

    add("resumption by itself on TLS " .. version, function()
      return function(run)
        local client, server = client_of { resume = true, session_key = "k" }, server_of()
        run:visit(client, server)
        run:again()
        run:visit(client, server)
      end
    end)

    add("! a session that goes around a client's certificate on TLS " .. version, function()
      local keys = { ("t"):rep(80) }
      local client = client_of()
      local easy = server_of { ticket_keys = keys }
      local strict = server_of { ticket_keys = keys, ca = ca.certificate, verify_client = "require" }
      return function(run)
        local a = run:visit(client, easy)
        local session = run:must(a:session())
        run:again()
        run.connected, run.accepted, run.second = nil, nil, true
        run:visit(client, strict, { server_name = "localhost", session = session })
      end
    end, "did not return a certificate", {
      believed = function(run) return run.second and run.accepted end })

    add("! a session that goes around the name on TLS " .. version, function()
      local other = helper.leaf { names = { "other.example" } }
      local keys = { ("t"):rep(80) }
      local client = client_of()
      local server = server_of { ticket_keys = keys, certificate = other.certificate, key = other.key }
      return function(run)
        local a = run:visit(client, server, { server_name = "other.example" })
        local session = run:must(a:session())
        run:again()
        run.connected, run.accepted, run.second = nil, nil, true
        run:visit(client, server, { server_name = "localhost", session = session })
      end
    end, "ostname mismatch", {
      believed = function(run) return run.second and (run.connected or run.accepted) end })

    add("a pre-shared key on TLS " .. version, function()
      local client = tls.context(helper.with(only, { ca = ca.certificate, psk = { me = KEY } }))
      local server = tls.context(helper.with(only, { role = "server", psk = { me = KEY }, session_cache = false }))
      return function(run)
        local a, b = run:visit(client, server)
        run:check(a:psk_identity() == "me" and b:psk_identity() == "me", "another key")
      end
    end)

    for name, psk in pairs { ["a wrong key"] = { me = ("x"):rep(32) }, ["an unknown identity"] = { you = KEY } } do
      add(("! %s on TLS %s"):format(name, version), function()
        local client = tls.context(helper.with(only, { ca = ca.certificate, psk = psk }))
        local server = tls.context(helper.with(only, { role = "server", psk = { me = KEY } }))
        return function(run) run:visit(client, server) end
      end, "")
    end
  end

  -- A visit with early data; what the server has read of it, its status.
  local function early(run, client, server, session)
    local a, b = run:pair(client, server, { server_name = "localhost", session = session, early_data = "hello" })
    local got = {}
    run:play(a, function(conn)
      run:must(run:call(conn, "connect"))
      run:must(run:call(conn, "write", "a"))
      run:same("b", run:call(conn, "read", 1))
    end, b, function(conn)
      repeat
        local data = run:may(run:call(conn, "read_early", 3))
        got[#got + 1] = data
      until not data
      run:must(run:call(conn, "accept"))
      run:must(run:call(conn, "write", "b"))
      run:same("a", run:call(conn, "read", 1))
    end)
    return table.concat(got), a:early_data_status(), a, b
  end

  add("early data", function()
    local client = helper.client_context { min_version = "1.3" }
    local server = helper.server_context { min_version = "1.3", max_early_data = 100 }
    return function(run)
      local a = run:visit(client, server)
      local session = run:must(a:session())
      local exported = run:must(session:export())
      run:again()
      local data, status = early(run, client, server, session)
      run:check(data == (status == "accepted" and "hello" or ""), "early data: " .. data .. ", " .. tostring(status))
      run:again()
      if status ~= "accepted" then return end
      data, status = early(run, client, server, exported)
      run:check(data == "" and status ~= "accepted", "a replay is accepted")
    end
  end)

  add("early data by a store that forgets", function()
    local store = {}
    local client = helper.client_context { min_version = "1.3" }
    local server = helper.server_context { min_version = "1.3", max_early_data = 100, session_get_takes = true,
      on_session_get = function(_, id, take)
        local found = store[id]
        if take then store[id] = nil end
        return found
      end,
      on_session_new = function(_, session) store[session:id()] = session:export() end }
    return function(run)
      for id in pairs(store) do store[id] = nil end
      local a = run:visit(client, server)
      local session = run:must(a:session())
      local exported = run:must(session:export())
      run:again()
      local data, status = early(run, client, server, session)
      run:check(data == (status == "accepted" and "hello" or ""), "early data: " .. data .. ", " .. tostring(status))
      run:again()
      if status ~= "accepted" then return end
      data, status = early(run, client, server, exported)
      run:check(data == "" and status ~= "accepted", "a replay is accepted")
    end
  end)

  add("early data piece by piece", function()
    local client = helper.client_context { min_version = "1.3" }
    local server = helper.server_context { min_version = "1.3", max_early_data = 100, anti_replay = false,
      ticket_keys = { ("t"):rep(80) } }
    local session
    return function(run)
      local a = run:visit(client, server)
      session = run:must(a:session())
      run:again()
      local c, s = run:pair(client, server, { server_name = "localhost", session = session })
      run:play(c, function(conn)
        run:must(run:call(conn, "write_early", "one"))
        run:must(run:call(conn, "write_early", "two"))
        run:must(run:call(conn, "connect"))
        run:same("b", run:call(conn, "read", 1))
      end, s, function(conn)
        local got = ""
        repeat
          local data = run:may(run:call(conn, "read_early", 100))
          got = got .. (data or "")
        until not data
        run:check(got == "onetwo" or got == "one" or got == "", "early data: " .. got)
        run:must(run:call(conn, "accept"))
        run:must(run:call(conn, "write", "b"))
      end)
    end
  end)
end
