-- Waiting where C functions can't be resumed: src/leave.c and lua/cotls/loop.lua. What the other specs show of
-- waiting and of hooks holds there too; here is what could go wrong only there, on every Lua.

local compat = require "cotls.compat"
local core = require "cotls.core"
local helper = require "spec.helper"
local tls = require "cotls"
local tree = require "spec.tree"

local methods = core.methods("cotls.connection")

-- The values with which a scheduler's wait ends, and what the connection was asked with.
local function scheduler(wait)
  return { wait = wait, release = function() end }
end

describe("what may leave", function()
  local list, in_c = {}, tree.read("src/leave.c"):match("waiting%[%] = (%b{})")
  for name in in_c:gmatch('"([%w_]+)"') do list[name] = true end
  for names in tree.read("lua/cotls/loop.lua"):gmatch("ipairs (%b{})") do
    for name in names:gmatch('"([%w_]+)"') do list[name] = true end
  end

  it("is every function that runs an operation", function()
    local all, count = {}, 0
    for _, one in ipairs(tree.files("src", "%.c$")) do all[#all + 1] = one.text end
    local text = table.concat(all)
    for method in text:gmatch("%f[%w_]cotls_run%(L, [^;{]-, ([%w_]+)%);") do
      local name = text:match('{"([%w_]+)",%s*' .. method .. "}")
      assert.is_true(method == "method" or list[name], method .. " is not in leave.c, nor in loop.lua")
      count = count + 1
    end
    assert.is_true(count > 12)
  end)

  it("is there", function()
    for name in in_c:gmatch('"([%w_]+)"') do assert.is_function(methods[name], name) end
  end)
end)

describe("a method that has waited", function()
  local function waits_n(n)
    return scheduler(function()
      for _ = 1, n do coroutine.yield() end
      return true
    end)
  end

  it("has its arguments again: 200 strings, over many waits", function()
    local client, server, pump = helper.handshaken("a relay of 64 bytes")
    local given = {}
    for i = 1, 200 do given[i] = ("%d,"):format(i):rep(20) end
    local all = table.concat(given)
    local results = helper.together({
      function() return client:write(compat.unpack(given)) end,
      function() return server:read(#all) end,
    }, pump)
    assert.equal(client, results[1][1])
    assert.equal(all, results[2][1])
  end)

  it("has what it had read of several formats", function()
    local client, server, pump = helper.handshaken("a relay of 64 bytes")
    local line = ("x"):rep(500)
    local results = helper.together({
      function() return client:write(line, "\n", 17, " ", line, "\nend") and client:shutdown("write") end,
      function() return server:read("l", "n", 1, "L", 3, "l") end,
    }, pump)
    local got = results[2]
    assert.same({ line, 17, " ", line .. "\n", "end", n = 6 }, got)
  end)

  it("gives as many results as it has: none is lost, none is added", function()
    local client, server, pump = helper.handshaken("a relay of 64 bytes")
    helper.together({
      function() assert(client:shutdown()) end,
      function()
        local got = compat.pack(server:read("l"))
        assert.same({ n = 1 }, got)
        assert(server:shutdown())
      end,
    }, pump)
  end)

  it("under a scheduler that yields on its own account", function()
    local client, server, pump = helper.pair("a socketpair", { scheduler = waits_n(3) }, { scheduler = waits_n(5) })
    helper.together({
      function() assert(client:connect()) assert.equal("x", client:read(1)) end,
      function() assert(server:accept()) assert(server:write("x")) end,
    }, pump)
  end)

  it("hands on what the scheduler's wait raises, and leaves the slot free", function()
    local raises = false
    local client, server = helper.handshaken("a socketpair", { scheduler = scheduler(function()
      if raises then error("mine", 0) end
      coroutine.yield()
    end) })
    raises = true
    for _ = 1, 2 do
      local ok, err = coroutine.resume(coroutine.create(function() return client:read(1) end))
      assert.same({ false, "mine" }, { ok, err })
    end
    client:settimeout(0)
    assert.equal("want_read", helper.code_of(client:read(1)))
    server:close()
  end)

  it("takes its coroutine's slot only: a read that has failed is not held by a write that waits", function()
    local fail = false
    local client, server = helper.handshaken("small buffers", { scheduler = scheduler(function(_, want)
      if want == "read" and fail then error("mine", 0) end
      coroutine.yield()
    end) })
    fail = true
    local co = coroutine.create(function()
      local reading = coroutine.create(function() return client:read(1) end)
      assert.is_false(coroutine.resume(reading))
      return client:write(("x"):rep(1000000))
    end)
    assert.same({ true }, { coroutine.resume(co) })
    assert.equal("suspended", coroutine.status(co))
    fail = false
    local reader = coroutine.create(function() return client:read(1) end)
    assert.same({ true }, { coroutine.resume(reader) })
    assert.equal("suspended", coroutine.status(reader))
    client:close()
    server:close()
  end)

  it("keeps nothing of what it was given once it is done", function()
    local client, server, pump = helper.handshaken("small buffers")
    local function all_kept()
      collectgarbage()
      collectgarbage()
      return collectgarbage("count")
    end
    local before, size = all_kept(), 4 * 1024 * 1024
    helper.together({
      function() assert(client:write(("x"):rep(size))) end,
      function()
        local left = size
        while left > 0 do left = left - #assert(server:recv()) end
      end,
    }, pump)
    assert.is_true(all_kept() < before + 1024)
    client:close()
    server:close()
  end)
end)

describe("core.resume", function()
  it("goes on with no operation that was left for good", function()
    local client, server = helper.handshaken "a socketpair"
    coroutine.resume(coroutine.create(function() return client:write(("x"):rep(8e6)) end))
    collectgarbage()
    collectgarbage()
    client:settimeout(0)
    client:shutdown() -- finds that nobody writes any more
    for id = 0, 3 do
      assert.is_false((pcall(core.resume, client, id, true)))
      assert.is_false((pcall(core.resume, client, id, nil, "timeout")))
    end
    client:close()
    server:close()
  end)

  it("refuses what does not wait", function()
    local client = helper.handshaken("a socketpair")
    for _, id in ipairs { 0, 1, 2, -2, 1000000 } do
      assert.has_error(function() core.resume(client, id) end)
    end
    assert.has_error(function() core.resume(client) end)
    assert.has_error(function() core.resume(tls, 0) end)
  end)
end)

describe("a hook", function()
  local function shake(options, pump_more)
    local contexts = { client = helper.client_context(), server = helper.server_context(options) }
    local client, server, pump = helper.pair("a socketpair", nil, nil, contexts)
    local ok, err
    helper.together({
      function() client:connect() client:close() end,
      function() ok, err = server:accept() if ok then server:close() end end,
    }, pump_more or pump)
    return ok, err
  end

  it("is given all of its arguments and gives its results over yields", function()
    local given
    assert(shake({ on_server_name = function(...)
      given = compat.pack(...)
      helper.ponder()
      return true
    end }))
    assert.equal(2, given.n)
    assert.equal("localhost", given[2])
  end)

  it("that fails after a yield tells where", function()
    local function deep() helper.ponder() error("the reason") end
    local ok, err = shake({ on_server_name = function() local x = deep() return x end })
    assert.is_nil(ok)
    assert.equal("hook", err.code)
    assert.matches("the reason", err.cause.error)
    assert.matches("leave_spec.lua", err.cause.traceback, 1, true)
    assert.matches("deep", err.cause.traceback, 1, true)
  end)

  it("that yields in the main coroutine fails", function()
    local contexts = { client = helper.client_context(),
      server = helper.server_context { on_server_name = function() coroutine.yield() return true end } }
    local client, server = helper.pair("a socketpair", nil, nil, contexts)
    client:settimeout(0)
    client:connect()
    local ok, err = server:accept()
    assert.is_nil(ok)
    assert.equal("hook", err.code)
    assert.matches("attempt to yield", err.reason)
  end)
end)
