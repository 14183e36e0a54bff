-- tls.pair: two connections joined in memory, under the raw yields and under the embedded loop.

local tls = require "cotls"
local luv = require "cotls.luv"
local helper = require "spec.helper"

local code_of = helper.code_of
local contexts = helper.contexts()
local LOCALHOST = { server_name = "localhost" }

local function make(size, client_options, server_options)
  return assert(tls.pair(contexts.client, contexts.server,
    { size = size, client = helper.with(LOCALHOST, client_options), server = server_options }))
end

-- The server gives back what it is given.
local function echo(server)
  assert(server:accept())
  assert(server:write("x"))
  local data = assert(server:read("a"))
  assert(server:write(data))
  assert(server:shutdown("write"))
end

local function ask(client, data)
  assert(client:connect())
  assert.equal("x", client:recv(1)) -- and the session tickets: in a small pipe they stand in the server's way
  assert(client:write(data))
  assert(client:shutdown("write"))
  return client:read("a")
end

describe("tls.pair", function()
  it("carries data under the raw yields and under cotls.luv, whatever the size", function()
    for _, size in ipairs { 1, 64, 512, 17000, false } do
      local data = helper.noise(size == 1 and 500 or 100000)
      local client, server = make(size or nil)
      local got = helper.together { function() return ask(client, data) end, function() echo(server) end }[1][1]
      assert.is_true(got == data)
      client, server = make(size or nil)
      got = helper.in_loop(function()
        luv.spawn(echo, server)
        return ask(client, data)
      end)
      assert.is_true(got == data)
    end
  end)

  it("wakes at once: a round trip takes no tick of a clock", function()
    local client, server = make()
    helper.in_loop(function()
      luv.spawn(function()
        assert(server:accept())
        helper.each(server:lines(), function(line) assert(server:write(line, "\n")) end)
      end)
      assert(client:connect())
      local from = tls.now()
      for i = 1, 300 do
        assert(client:write(i, "\n"))
        assert.equal(tostring(i), client:read())
      end
      assert.is_true(tls.now() - from < 0.3 * helper.slow, "too slow: " .. tls.now() - from)
      client:close()
    end)
  end)

  it("wakes who waits when the other end closes, and when time is up", function()
    local client, server = make()
    helper.in_loop(function()
      local late = false
      luv.spawn(function()
        assert(server:accept())
        repeat luv.sleep(0.001) until late
        server:close()
      end)
      assert(client:connect())
      client:settimeout(0.001)
      local ok, err = client:recv()
      late = true
      assert.equal("timeout", code_of(ok, err))
      client:settimeout(nil)
      assert.is_nil(client:recv())
      local failed, why
      repeat failed, why = client:write("x") until not failed
      assert.equal("system", code_of(failed, why))
      assert.matches("broken pipe", tostring(why), 1, true)
    end)
  end)

  it("cotls.luv.wake ends the waits for one want, of a waiter without a descriptor", function()
    helper.in_loop(function()
      local waiter, log = { fileno = function() end }, {}
      for i, want in ipairs { "read", "read", "write" } do
        luv.spawn(function() log[i] = luv.wait(waiter, want) and want end)
      end
      luv.wake({}, "read")
      luv.wake(waiter, "read")
      luv.wake(waiter, "read")
      assert.same({}, log)
      luv.sleep(0.001)
      assert.same({ "read", "read" }, log)
      luv.release(waiter)
      luv.sleep(0.001)
      assert.is_false(log[3] ~= nil and log[3])
    end)
    luv.wake({}, "read") -- outside of run: nobody waits
  end)

  it("one that closes under its own reader ends it", function()
    local client, server = make()
    helper.in_loop(function()
      luv.spawn(function() assert(server:accept()) end)
      assert(client:connect())
      local got
      luv.spawn(function() got = { client:recv() } end)
      luv.sleep(0.001)
      client:close()
      luv.sleep(0.001)
      assert.equal("closed", code_of(got[1], got[2]))
    end)
  end)

  it("takes the schedulers of options and contexts", function()
    local client, server = make(64, { scheduler = luv }, { scheduler = luv })
    local data = helper.noise(1000)
    assert.is_true(helper.in_loop(function()
      tls.scheduler = nil
      luv.spawn(echo, server)
      return ask(client, data)
    end) == data)
  end)

  it("in one coroutine, or in none, can't wait for itself, and says so", function()
    local client = make()
    local ok, err = client:connect()
    assert.equal("cancelled", code_of(ok, err))
    assert.matches("can't wait here: call it in a coroutine", tostring(err), 1, true)
    client = make(nil, { timeout = 0 })
    assert.equal("want_read", code_of(client:connect()))
    client = make(nil, { scheduler = { wait = print, blocking = true } })
    ok, err = client:connect()
    assert.equal("cancelled", code_of(ok, err))
    assert.matches("the scheduler has no wake", tostring(err), 1, true)
    -- Nothing can happen any more: the loop ends.
    local came = false
    helper.in_loop(function()
      client = make(nil, { handshake_timeout = false })
      luv.spawn(function()
        client:connect()
        came = true
      end)
    end)
    assert.is_false(came)
  end)

  -- The peer renegotiates: who writes needs what comes in, and finds the reader at the transport.
  it("wakes a writer that has to read behind a reader", function()
    local old = { min_version = "1.2", max_version = "1.2" }
    local client_context = helper.client_context(helper.with(old, { renegotiation = "allow" }))
    local server_context = helper.server_context(helper.with(old, { renegotiation = "allow-client" }))
    local data = helper.noise(30000)
    for _, size in ipairs { 64, 512 } do
      local client, server = assert(tls.pair(client_context, server_context, { size = size, client = LOCALHOST }))
      local parked, wake = 0, luv.wake
      local counting = helper.with(luv, { wake = function(waiter, want)
        if waiter == server then parked = parked + 1 end
        return wake(waiter, want)
      end })
      helper.in_loop(function()
        tls.scheduler = counting
        local rest, got
        luv.spawn(function()
          assert(server:accept())
          luv.spawn(function()
            for at = 1, #data, 1000 do assert(server:write(data:sub(at, at + 999))) end
          end)
          rest = assert(server:read("a"))
        end)
        assert(client:connect())
        for _ = 1, 3 do assert(client:renegotiate()) end
        got = client:read(#data)
        assert(client:write("done"))
        assert(client:shutdown("write"))
        helper.until_true(function() luv.sleep(0.001) return rest end)
        assert.is_true(data == got)
        assert.equal("done", rest)
        tls.scheduler = luv
      end)
      assert.is_true(parked > 0, "nobody had to wait")
    end
  end)

  it("refuses what is no option, and contexts of the other role", function()
    local function try(pattern, ...)
      local ok, err = pcall(tls.pair, ...)
      assert.is_false(ok)
      assert.matches(pattern, tostring(err))
    end
    try("tls.pair: a client's context expected, its role is \"server\"", contexts.server, contexts.server)
    try("tls.pair: a server's context expected, its role is \"client\"", contexts.client, contexts.client)
    try("cotls.context", 5, contexts.server)
    try("tls.pair: option 'size': a positive integer expected, got 0", contexts.client, contexts.server, { size = 0 })
    try("tls.pair: unknown option 'sizes'; did you mean 'size'", contexts.client, contexts.server, { sizes = 5 })
    try("tls.pair: option 'client': table expected", contexts.client, contexts.server, { client = 5 })
    try("tls.pair: unknown option 'sever_name'", contexts.client, contexts.server, { client = { sever_name = "x" } })
    local client, err = tls.pair(contexts.client, contexts.server)
    assert.equal("config", code_of(client, err))
    assert.matches("server_name", tostring(err), 1, true)
  end)

  it("is collected", function()
    local seen = setmetatable({}, { __mode = "k" })
    for _ = 1, 10 do
      local client, server = make()
      seen[client], seen[server] = true, true
      helper.shake(client, server)
    end
    collectgarbage()
    collectgarbage()
    assert.is_nil(next(seen))
  end)
end)
