-- SPDX-License-Identifier: MIT
-- What is cotls.blocking's own; spec/schedulers_spec.lua has what it shares with the others.

local blocking = require "cotls.blocking"
local core = require "cotls.core"
local helper = require "spec.helper"
local tls = require "cotls"

describe("cotls.blocking", function()
  it("blocks in a coroutine too, which doesn't yield", function()
    local client, server = helper.handshaken(nil, nil, nil, helper.contexts("1.2"))
    tls.scheduler = blocking
    finally(function() tls.scheduler = nil end)
    client:settimeout(0.03)
    local started = tls.now()
    local co = coroutine.create(function() return client:read(1) end)
    local _, data, err = coroutine.resume(co)
    assert.equal("dead", coroutine.status(co))
    assert.is_nil(data)
    assert.equal("timeout", err.code)
    assert.is_true(tls.now() - started >= 0.029)
    assert(server:write("x"))
    assert.equal("x", client:read(1))
    client:close()
    server:close()
  end)

  it("run passes arguments and gives all results, or the error", function()
    local function count(...) return select("#", ...), tls.scheduler, ... end
    assert.same({ 2, blocking, "a", nil }, { blocking.run(count, "a", nil) })
    local value = {}
    local ok, err = pcall(blocking.run, error, value)
    assert.is_false(ok)
    assert.equal(value, err)
    assert.is_nil(tls.scheduler)
  end)

  it("spawn runs to the end at once", function()
    local order = {}
    blocking.spawn(function(a, b)
      blocking.sleep(0.001)
      order[1] = a .. b
    end, "x", "y")
    assert.same({ "xy" }, order)
  end)

  it("refuses wrong arguments", function()
    for _, bad in ipairs { false, 1, "x", {} } do
      for _, name in ipairs { "run", "spawn" } do
        local ok, err = pcall(blocking[name], bad)
        assert.is_false(ok)
        assert.matches("cotls%.blocking%." .. name .. ": a function expected, got " .. type(bad), err)
      end
    end
    for _, bad in ipairs { "x", {}, 0 / 0 } do
      local ok, err = pcall(blocking.sleep, bad)
      assert.is_false(ok)
      assert.matches("cotls%.blocking%.sleep: a number of seconds", err)
    end
  end)

  it("connects by name and address, and tells why not", function()
    local listening = assert(blocking.listen("127.0.0.1", 0))
    local _, port = listening:address()
    for _, host in ipairs { "localhost", "127.0.0.1" } do
      local socket = assert(blocking.connect(host, port, tls.now() + 10))
      assert.equal("127.0.0.1", (socket:peer()))
      socket:close()
    end
    listening:close()
    local socket, err = blocking.connect("127.0.0.1", port)
    assert.is_nil(socket)
    assert.matches("refused", err.reason)
    socket, err = blocking.connect(("x"):rep(64) .. ".invalid", 443)
    assert.is_nil(socket)
    assert.equal("system", err.code)
  end)

  it("can't wait for what has no descriptor, and says so", function()
    local ok, err = blocking.wait({ fileno = function() end }, "read")
    assert.is_nil(ok)
    assert.is_true(tls.is_error(err))
    assert.equal("cancelled", err.code)
    assert.matches("pipe", err.reason)
  end)
end)

describe("core.poll", function()
  it("tells what is ready, and \"timeout\"", function()
    local a, b = helper.socketpair()
    assert.is_true(core.poll(a, "write"))
    local ok, why = core.poll(a, "read", tls.now() + 0.01)
    assert.is_nil(ok)
    assert.equal("timeout", why)
    helper.write_fd(b, "x")
    assert.is_true(core.poll(a, "read", tls.now() + 10))
    assert.is_true(core.poll(a, "read", 0))
    helper.close_fd(a)
    helper.close_fd(b)
  end)

  it("of nothing waits for the time alone", function()
    local started = tls.now()
    assert.is_nil((core.poll(-1, "read", started + 0.02)))
    assert.is_true(tls.now() - started >= 0.019)
  end)
end)
