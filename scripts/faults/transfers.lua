-- SPDX-License-Identifier: MIT
-- Scenarios: reading, writing, ending, and what may come after a handshake.

local helper = require "spec.helper"

local ca, leaf = helper.ca, helper.server_leaf
local other = helper.leaf { subject = "CN=stranger", ca = helper.other_ca }

return function(add)
  local function both(version, client, server)
    local only = { min_version = version, max_version = version }
    return helper.client_context(helper.with(only, client)),
      helper.server_context(helper.with(only, server, { session_cache = false }))
  end

  for _, version in ipairs { "1.2", "1.3" } do
    add("every format on TLS " .. version, function()
      local client, server = both(version)
      return function(run)
        local a, b = run:pair(client, server)
        run:play(a, function(conn)
          run:must(run:call(conn, "connect"))
          run:must(conn:write("one\ntwo\n", 3.5, " ", 17, "\n"))
          run:must(conn:write("rest", ("x"):rep(100)))
          run:must(conn:write(("y"):rep(40000), "end"))
          run:must(conn:shutdown "write")
          run:same("done", conn:read "a")
        end, b, function(conn)
          run:must(run:call(conn, "accept"))
          run:same("one", conn:read())
          run:same("two\n", conn:read "L")
          run:same(3.5, conn:read "n")
          run:same(17, conn:read "n")
          run:same("", conn:read "l")
          run:same("re", conn:read(2))
          run:same("s", conn:peek(1))
          run:same("st", conn:read(2))
          run:same("", conn:read(0))
          run:same(("x"):rep(100), conn:read(100))
          local got = run:must(conn:recv(10))
          run:same(("y"):rep(40000 - #got) .. "end", conn:read "a")
          run:same(nil, conn:read(1))
          run:must(conn:write "done")
          run:must(conn:shutdown())
        end)
      end
    end, nil, { without = { lua = "a raised error says nothing of how much it has read" } })

    add("lines on TLS " .. version, function()
      local client, server = both(version)
      return function(run)
        local a, b = run:pair(client, server)
        run:play(a, function(conn)
          run:must(run:call(conn, "connect"))
          for i = 1, 5 do run:must(conn:write(i, "\n")) end
          run:must(conn:shutdown())
        end, b, function(conn)
          run:must(run:call(conn, "accept"))
          local i = 0
          for line in conn:lines() do
            i = i + 1
            run:check(line == tostring(i), "another line: " .. line)
          end
          run:check(i == 5, "lines are missing at a clean end")
          run:must(conn:shutdown())
        end)
      end
    end, nil, { without = { lua = "a raised error says nothing of how much it has read" } })

    add("more than the buffers take on TLS " .. version, function()
      local client, server = both(version)
      local data = helper.noise(900000)
      return function(run)
        local a, b = run:pair(client, server)
        run:play(a, function(conn)
          run:must(run:call(conn, "connect"))
          run:must(conn:write(data))
          run:must(conn:shutdown "write")
          local got = run:may(conn:read "a")
          run:check(got == data, "something else comes back")
        end, b, function(conn)
          run:must(run:call(conn, "accept"))
          local got = run:may(conn:read "a")
          run:check(got == data, "something else comes")
          run:must(conn:write(got))
          run:must(conn:shutdown())
        end)
      end
    end, nil, { without = { lua = "a raised error says nothing of how much it has read" } })

    add("both ways at the same time on TLS " .. version, function()
      local client, server = both(version)
      local data = helper.noise(300000)
      return function(run)
        local a, b = run:pair(client, server)
        local function shake(verb)
          return function(conn) run:must(run:call(conn, verb)) end
        end
        run:play(a, shake "connect", b, shake "accept")
        local function writer(conn)
          return coroutine.create(function()
            run:must(conn:write(data))
            run:must(conn:shutdown "write")
          end)
        end
        local writers = { writer(a), writer(b) }
        local function read(conn)
          local got
          local reader = coroutine.create(function() got = run:may(conn:read "a") end)
          for _ = 1, 2000 do
            for _, co in ipairs { writers[1], writers[2], reader } do
              if coroutine.status(co) == "suspended" then
                local ok, err = coroutine.resume(co)
                if not ok then error(err, 0) end
              end
            end
            coroutine.yield()
            if coroutine.status(reader) == "dead" then break end
          end
          run:check(got == data, "something else comes")
        end
        run:play(a, read, b, read)
      end
    end, nil, { without = { lua = "a raised error says nothing of how much it has read" } })

    add("data that arrive while one ends on TLS " .. version, function()
      local client, server = both(version)
      return function(run)
        local a, b = run:pair(client, server)
        run:play(a, function(conn)
          run:must(run:call(conn, "connect"))
          run:must(conn:write "late")
          run:same("", conn:read "a")
          run:must(conn:shutdown())
        end, b, function(conn)
          run:must(run:call(conn, "accept"))
          run:must(conn:shutdown())
          run:same("late", conn:read "a")
        end)
      end
    end, nil, { without = { lua = "a raised error says nothing of how much it has read" } })

    add("an end without its alert on TLS " .. version, function()
      local client, server = both(version)
      return function(run)
        local a, b = run:visit(client, server)
        b:close() -- its close_notify comes
        run:same(nil, run:call(a, "read", 1))
        run:again()
        a, b = run:visit(client, server)
        getmetatable(b).__close(b, "an error")
        local got, err = run:call(a, "read", 1)
        run:check(got == nil and err ~= nil, "a truncation is taken for an end")
      end
    end, nil, { notices = "close sends its alert only where that can go at once" })

    add("polling on TLS " .. version, function()
      local client, server = both(version)
      return function(run)
        local a, b = run:visit(client, server)
        a:settimeout(0)
        local ok, err = run:call(a, "read", 1)
        run:check(ok == nil and err, "something is read")
        a:settimeout(0.002)
        ok, err = run:call(a, "read", 1)
        run:check(ok == nil and err, "something is read")
        run:must(run:call(b, "write", "x"))
        a:settimeout(0.5)
        run:same("x", run:call(a, "read", 1))
      end
    end)

    add("left to the collector on TLS " .. version, function()
      local client, server = both(version)
      return function(run)
        run:visit(client, server)
        run.conns, run.client, run.server = {}, nil, nil
        local a, b = run:pair(client, server)
        local co = coroutine.create(function() a:connect() end)
        coroutine.resume(co)
        run.conns = {}
        return b
      end
    end)
  end

  add("key updates", function()
    local client, server = both "1.3"
    return function(run)
      run:visit(client, server, nil, { client = function(conn)
        run:must(run:call(conn, "key_update", true))
        run:must(run:call(conn, "write", "c"))
        run:same("d", run:call(conn, "read", 1))
      end, server = function(conn)
        run:must(run:call(conn, "key_update"))
        run:same("c", run:call(conn, "read", 1))
        run:must(run:call(conn, "write", "d"))
      end })
    end
  end)

  local own = { certificate = leaf.certificate, key = leaf.key }
  local stranger = { certificate = other.certificate, key = other.key }

  local function renegotiates(client_options, server_options)
    return function()
      local client, server = both("1.2", helper.with({ renegotiation = "allow" }, client_options),
        helper.with({ renegotiation = "allow-client", on_verify = function(_, ok) return ok end,
          ca = ca.certificate, verify_client = "require" }, server_options))
      return function(run)
        run:visit(client, server, nil, { client = function(conn)
          run:must(run:call(conn, "renegotiate"))
          run:must(run:call(conn, "write", "c"))
          run:same("d", run:call(conn, "read", 1))
          run.renegotiated = true
        end, server = function(conn)
          run:same("c", run:call(conn, "read", 1))
          run:must(run:call(conn, "write", "d"))
        end })
      end
    end
  end

  local function renegotiated(run) return run.renegotiated end
  add("renegotiation", renegotiates(own))
  add("! renegotiation that is not allowed", renegotiates(own, { renegotiation = "never" }), "",
    { believed = renegotiated })
  add("! renegotiation whose hook refuses", function()
    local seen = setmetatable({}, { __mode = "k" })
    return renegotiates(own, { on_verify = function(conn, ok)
      if seen[conn] then return false end
      seen[conn] = true
      return ok
    end })()
  end, "", { believed = renegotiated })

  local function asked(client_options)
    return function()
      local client, server = both("1.3", helper.with({ post_handshake_auth = true }, client_options),
        { ca = ca.certificate })
      return function(run)
        run:visit(client, server, nil, { server = function(conn)
          run:must(run:call(conn, "request_client_certificate"))
          run:must(run:call(conn, "write", "d"))
          run:same("c", run:call(conn, "read", 1))
          if conn:peer_certificate() then run.asked = true end
          if not run.asked then error "no certificate: without memory OpenSSL's client shows none" end
        end, client = function(conn)
          run:same("d", run:call(conn, "read", 1))
          run:must(run:call(conn, "write", "c"))
          run:may(run:call(conn, "read", "a"))
        end })
      end
    end
  end

  local function was_asked(run) return run.asked end
  add("a certificate that is asked for later", function()
    local play = asked(own)()
    return function(run)
      local on_done = run.play
      run.play = function(self, a, on_a, b, on_b)
        return on_done(self, a, on_a, b, function(conn)
          on_b(conn)
          run:must(conn:shutdown "write")
        end)
      end
      play(run)
    end
  end)
  add("! a stranger's certificate that is asked for later", asked(stranger), "", { believed = was_asked })
end
