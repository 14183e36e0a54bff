-- SPDX-License-Identifier: MIT
-- The collector: every object in every state, who keeps whom alive, and that nothing is left behind.

local compat = require "cotls.compat"
local tls = require "cotls"
local uv = require "luv"
local helper = require "spec.helper"

local function collect()
  collectgarbage()
  collectgarbage()
end

local function is_open(fd)
  return uv.fs_fstat(fd) ~= nil
end

-- Resumes a coroutine in conn's method until it waits; gives it.
local function waiting(conn, verb, ...)
  local args = compat.pack(...)
  local co = coroutine.create(function() return conn[verb](conn, compat.unpack(args, 1, args.n)) end)
  assert(coroutine.resume(co))
  assert.equal("suspended", coroutine.status(co), verb)
  return co
end

local old = helper.contexts "1.2" -- without session tickets, the end of a stream is an end, no reset
local BIG = ("x"):rep(0x100000)

-- What makes a connection of a state: gives it, and what is to be dropped with it.
local states = {
  ["fresh"] = function() return helper.pair(nil, nil, nil, old) end,
  ["with a side"] = function()
    local client, server = helper.pair(nil, nil, nil, old)
    client:set_connect_state()
    return client, server
  end,
  ["in a handshake, resumable"] = function()
    local client, server = helper.pair(nil, { timeout = 0 }, nil, old)
    assert.is_nil(client:connect())
    return client, server
  end,
  ["in a handshake that waits"] = function()
    local client, server = helper.pair(nil, nil, nil, old)
    return client, server, waiting(client, "connect")
  end,
  ["in a handshake by a read that waits"] = function()
    local client, server = helper.pair(nil, nil, nil, old)
    client:set_connect_state()
    return client, server, waiting(client, "read", "a")
  end,
  ["established"] = function() return helper.handshaken(nil, nil, nil, old) end,
  ["with unread data"] = function()
    local client, server = helper.handshaken(nil, nil, nil, old)
    assert(server:write(("x"):rep(50000)))
    assert.equal(3, #client:read(3))
    return client, server
  end,
  ["in a read that waits"] = function()
    local client, server = helper.handshaken(nil, nil, nil, old)
    return client, server, waiting(client, "read", "l", 5)
  end,
  ["in a write that waits"] = function()
    local client, server = helper.handshaken(nil, nil, nil, old)
    return client, server, waiting(client, "write", BIG)
  end,
  ["in both"] = function()
    local client, server = helper.handshaken(nil, nil, nil, old)
    return client, server, { waiting(client, "write", BIG), waiting(client, "read") }
  end,
  ["in a shutdown that waits"] = function()
    local client, server = helper.handshaken(nil, nil, nil, old)
    return client, server, waiting(client, "shutdown")
  end,
  ["with a write given up"] = function()
    local client, server = helper.handshaken(nil, nil, nil, old)
    client:settimeout(0)
    assert.is_nil(client:write(BIG))
    return client, server
  end,
  ["half closed"] = function()
    local client, server = helper.handshaken(nil, nil, nil, old)
    assert(client:shutdown("write"))
    return client, server
  end,
  ["failed"] = function()
    local client, server = helper.handshaken(nil, nil, nil, old)
    assert.equal(4, uv.fs_write(server:fileno(), "junk", -1))
    server:close()
    assert.is_nil(helper.together { function() return client:read(1) end }[1][1])
    return client, server
  end,
  ["with an iterator"] = function()
    local client, server = helper.handshaken(nil, nil, nil, old)
    return client, server, client:lines("n", "l")
  end,
  ["held by a closure of its own scheduler"] = function()
    local client, server
    local scheduler = {
      wait = function(...) return coroutine.yield(...) end,
      release = function() return client end,
    }
    client, server = helper.pair(nil, { scheduler = scheduler }, nil, old)
    return client, server, waiting(client, "connect")
  end,
  ["closed"] = function()
    local client, server = helper.handshaken(nil, nil, nil, old)
    client:close()
    return client, server
  end,
}

describe("a connection", function()
  for name, make in pairs(states) do
    it("goes, with its descriptor: " .. name, function()
      local seen = setmetatable({}, { __mode = "k" })
      local fd, server
      do
        local function scope()
          local client, peer, extra = make()
          seen[client] = extra ~= nil
          return client:fileno(), peer
        end
        fd, server = scope()
      end
      assert.is_true(fd == nil or is_open(fd))
      collect()
      assert.is_nil(next(seen))
      assert.is_true(fd == nil or not is_open(fd))
      if name ~= "failed" and name ~= "closed" then
        -- nothing was sent: the peer sees no clean end
        local got = helper.together { function()
          server:set_accept_state()
          local data, err
          repeat data, err = server:recv() until not data
          return data, err
        end }[1]
        if name == "half closed" or name == "in a shutdown that waits" then
          assert.is_nil(got[2])
        else
          assert.is_true(tls.is_error(got[2]), tostring(got[2]))
        end
      end
      server:close()
    end)

    it("may be closed and collected, the peer too: " .. name, function()
      local function scope()
        local client, server, extra = make()
        client:close()
        client:close()
        collect()
        assert.is_nil(client:fileno())
        local ok, err = client:read()
        assert.is_nil(ok)
        assert.equal("closed", err.code)
        server:close()
        return extra
      end
      assert.has_no.errors(scope)
      collect()
    end)
  end

  it("keeps its context, options and transport alive", function()
    local a, b = helper.socketpair()
    local closed = false
    local client, server
    do
      local function scope()
        local transport = {
          getfd = function() return a end,
          close = function() closed = true end,
        }
        local contexts = {
          client = helper.client_context { alpn = { "proto-" .. "one" } },
          server = helper.server_context { alpn = { "proto-" .. "two", "proto-" .. "one" } },
        }
        client = assert(contexts.client:wrap(transport, {
          server_name = "local" .. "host", verify_name = { "nobody." .. "example", "local" .. "host" },
        }))
        server = assert(contexts.server:wrap(b, { alpn = { "proto-" .. "one" } }))
      end
      scope()
    end
    collect()
    for i = 1, 2000 do assert(("junk %d"):format(i)) end -- over what was freed
    collect()
    helper.shake(client, server)
    assert.equal("proto-one", client:alpn())
    assert.equal("proto-one", server:alpn())
    assert.equal("localhost", server:server_name())
    assert.is_false(client:context() == nil)
    assert.is_false(closed)
    client:close()
    assert.is_true(closed)
    helper.close_fd(a)
  end)

  it("is kept alive by its iterator and by a coroutine that waits", function()
    local fds = {}
    local function scope()
      local client, server = helper.handshaken(nil, nil, nil, old)
      fds[1], fds[2] = client:fileno(), server:fileno()
      return client:lines(), waiting(server, "read")
    end
    local held = compat.pack(scope())
    local lines = held[1]
    collect()
    assert.is_true(is_open(fds[1]))
    assert.is_true(is_open(fds[2]))
    held = nil -- luacheck: ignore
    collect()
    assert.is_false(is_open(fds[2]))
    assert.is_true(is_open(fds[1]))
    local ok, err = pcall(function() helper.together { lines } end)
    assert.is_false(ok)
    assert.equal("truncated", err.code)
    lines = nil -- luacheck: ignore
    collect()
    assert.is_false(is_open(fds[1]))
  end)

  it("may be used by another object's finalizer", function()
    local seen = {}
    local function scope()
      local client, server = helper.handshaken(nil, nil, nil, old)
      local object = helper.when_collected(function()
        for _, conn in ipairs { client, server } do
          seen[#seen + 1] = conn:version()
          seen[#seen + 1] = conn:handshake_done()
          conn:settimeout(0)
          local _, err = conn:read()
          seen[#seen + 1] = err and err.code or "the end"
          tostring(conn)
          conn:write("x")
          conn:close()
        end
      end)
      -- the finalizer of what is marked last runs first: both orders
      local later = helper.when_collected(function() client:stats() end)
      return object ~= later
    end
    assert.is_true(scope())
    local function reversed()
      local held = {}
      held.object = helper.when_collected(function()
        local conn = held.conn
        for _, getter in ipairs { "version", "cipher", "alpn", "server_name", "peer_certificate", "verify_result",
                                  "resumed", "state", "stats", "pending", "fileno", "transport", "context" } do
          conn[getter](conn)
        end
        seen.closed = select(2, conn:read()).code
        seen.again = conn:close()
      end)
      held.conn = helper.handshaken(nil, nil, nil, old)
    end
    reversed()
    collect()
    assert.equal(6, #seen)
    assert.same({ "TLSv1.2", true, "want_read", "TLSv1.2", true, "the end" }, seen[1] and { compat.unpack(seen) })
    assert.equal("closed", seen.closed)
    assert.is_true(seen.again)
  end)
end)

describe("under a collector that runs after every resume", function()
  after_each(function() helper.collect = false end)

  local names = { "a socketpair", "small buffers", "a relay of 512 bytes, small buffers", "TCP" }
  for _, name in ipairs(names) do
    for _, version in ipairs { "1.2", "1.3" } do
      it(("everything works: over %s, TLS %s"):format(name, version), function()
        helper.collect = helper.slow < 10 or "step"
        local client, server, pump = helper.handshaken(name, nil, nil, helper.contexts(version))
        local data = ("0123456789abcde\n"):rep(1500)
        local results = helper.together({
          function()
            helper.each(client:lines("L"), function(line) assert(client:write(line:upper())) end)
            assert(client:shutdown("write"))
          end,
          function()
            for at = 1, #data, 5000 do assert(server:write(data:sub(at, at + 4999))) end
            assert(server:shutdown("write"))
          end,
          function() return server:read("a") end,
        }, pump)
        assert.is_true(results[3][1] == data:upper())
      end)
    end
  end
end)

describe("a context", function()
  it("goes when its connections have gone", function()
    local seen = setmetatable({}, { __mode = "k" })
    local function scope()
      local contexts = { client = helper.client_context(), server = helper.server_context() }
      seen[contexts.client], seen[contexts.server] = true, true
      return helper.handshaken(nil, nil, nil, contexts)
    end
    local client, server = scope()
    collect()
    assert.is_not_nil(next(seen))
    assert.is_true(seen[client:context()] and seen[server:context()])
    client:close()
    server:close()
    collect()
    assert.is_true(seen[client:context()]) -- a closed connection still tells it
    client, server = nil, nil -- luacheck: ignore
    collect()
    assert.is_nil(next(seen))
  end)

  it("that was refused leaves nothing", function()
    for _ = 1, 50 do
      assert.is_nil(tls.context { role = "server" })
      assert.is_nil(tls.context { min_version = "9.9" })
    end
    collect()
  end)
end)

describe("an error object", function()
  it("outlives its connection", function()
    local function scope()
      local client, server = helper.handshaken(nil, nil, nil, old)
      uv.fs_write(server:fileno(), "junk", -1)
      server:close()
      return helper.together { function() return client:read(1) end }[1][2]
    end
    local err = scope()
    collect()
    assert.is_string(tostring(err))
    assert.is_string(err.code)
    assert.is_string(err.queue[1].text)
  end)
end)

describe("a thousand connections opened and dropped", function()
  -- Pairs in every state, dropped without a close.
  local function open_and_drop(count)
    local makers = {}
    for _, make in pairs(states) do makers[#makers + 1] = make end
    for i = 1, count do
      makers[i % #makers + 1]()
      if i % 100 == 0 then collect() end -- else they'd all be open at once
    end
    collect()
  end

  it("leave no memory and no descriptor behind", function()
    local count = helper.slow < 10 and 500 or 60
    collect()
    local fds = helper.count_fds()
    open_and_drop(count) -- what is allocated once
    assert.equal(fds, helper.count_fds())
    local lua, resident = collectgarbage("count"), helper.resident()
    open_and_drop(count) -- two connections each
    assert.equal(fds, helper.count_fds())
    assert.is_true(collectgarbage("count") < lua + 50, collectgarbage("count") - lua)
    if helper.slow == 1 then -- the sanitizers keep what is freed for a while
      local grown = helper.resident() - resident
      -- a leak of one SSL each would be 10 MiB and more
      assert.is_true(grown < 0x300000, grown)
    end
  end)

  it("or closed, and their coroutines, do neither", function()
    local count = helper.slow < 10 and 500 or 60
    local function open_and_close()
      for _ = 1, count do
        local client, server = helper.handshaken()
        assert(client:write("hello\n"))
        assert.equal("hello", server:read())
        client:close()
        server:close()
      end
      collect()
    end
    collect()
    local fds = helper.count_fds()
    open_and_close()
    assert.equal(fds, helper.count_fds())
    local resident, least = helper.resident(), math.huge
    for _ = 1, 3 do -- a table that grows to its size does so once; a leak is in each
      local lua = collectgarbage("count")
      open_and_close()
      least = math.min(least, collectgarbage("count") - lua)
    end
    assert.equal(fds, helper.count_fds())
    assert.is_true(least < 30, least)
    if helper.slow == 1 then
      local grown = helper.resident() - resident
      assert.is_true(grown < 0x300000, grown)
    end
  end)

  it("idle, hold no buffers", function()
    if helper.slow > 1 then return end
    local function hold(n)
      local list = {}
      for i = 1, n do
        local client, server = helper.handshaken()
        assert(server:write(("x"):rep(16384)))
        helper.together { function() assert.equal(16384, #client:read(16384)) end }
        list[i] = { client, server }
      end
      collect()
      return list
    end
    local first = hold(20)
    collect()
    local resident = helper.resident()
    local list = hold(150)
    local each = (helper.resident() - resident) / 300
    assert.is_true(each < 24 * 1024, each) -- 34 KiB with OpenSSL's buffers, 14 without
    assert.equal(20, #first)
    assert.equal(150, #list)
  end)
end)

describe("the end of a Lua state", function()
  it("takes connections in every state along", function()
    local script = helper.temp_file [[
      local helper, uv, tls = require "spec.helper", require "luv", require "cotls"
      local compat = require "cotls.compat"
      local kept = {}
      local function waiting(conn, verb, ...)
        local args = compat.pack(...)
        local co = coroutine.create(function() return conn[verb](conn, compat.unpack(args, 1, args.n)) end)
        assert(coroutine.resume(co))
        kept[#kept + 1] = co
      end
      local function keep(...)
        kept[#kept + 1] = { ... }
        return ...
      end
      keep(helper.pair())
      waiting(keep(helper.pair()), "connect")
      keep(helper.handshaken())
      waiting(keep(helper.handshaken()), "read")
      waiting(keep(helper.handshaken "small buffers"), "write", ("x"):rep(0x100000))
      local client, server = keep(helper.handshaken "TCP")
      assert(server:write(("x"):rep(50000)))
      assert(#client:read(1) == 1)
      keep(client:lines())
      keep(helper.handshaken "a relay of 512 bytes, small buffers"):close()
      local released = 0
      tls.scheduler = { wait = coroutine.yield, release = function(conn)
        released = released + 1
        conn:fileno()
        io.write("released ", released, "\n")
      end }
      waiting(keep(helper.handshaken()), "read")
      KEPT = kept
      io.write "end\n"
    ]]
    local status, out, err = helper.run { helper.lua, script }
    assert.equal(0, status, err)
    assert.equal("", err)
    assert.equal("end\nreleased 1\nreleased 2\n", out)
  end)

  it("under cotls.luv too", function()
    local script = helper.temp_file [[
      local helper, luv = require "spec.helper", require "cotls.luv"
      luv.run(function()
        local client, server = helper.pair()
        luv.spawn(function()
          assert(server:accept())
          server:read()
        end)
        assert(client:connect())
        KEPT = { client, server }
        luv.stop()
      end)
      io.write "end\n"
    ]]
    local status, out, err = helper.run { helper.lua, script }
    assert.equal(0, status, err)
    assert.equal("", err)
    assert.equal("end\n", out)
  end)
end)
