-- SPDX-License-Identifier: MIT
-- The scratch buffers that all connections of a Lua state share, seen from outside: whatever the order in which many
-- connections get, peek, leave and take bytes, each has its own.

local tls = require "cotls"
local helper = require "spec.helper"

local random_source = helper.random

local noise = helper.noise

-- Pairs with what each server has sent and each client has read so far.
local function make_streams(count)
  local streams = {}
  for i = 1, count do
    local client, server = helper.handshaken(nil, nil, nil, helper.contexts(i % 2 == 0 and "1.2" or "1.3"))
    streams[i] = { client = client, server = server, sent = "", at = 0, number = i }
    client:settimeout(0)
    server:settimeout(0)
  end
  return streams
end

local function send(stream, n)
  local data = noise(n, stream.number)
  local ok, err = stream.server:write(data)
  stream.sent = stream.sent .. (ok and data or data:sub(1, err.written))
end

-- Takes what a read gave, and compares.
local function took(stream, data)
  local want = stream.sent:sub(stream.at + 1, stream.at + #data)
  if want ~= data then
    error(("connection %d: wrong bytes at %d: %d of them"):format(stream.number, stream.at, #data))
  end
  stream.at = stream.at + #data
end

-- A read at timeout 0: data, or nil when there is not enough.
local function try(stream, verb, ...)
  local data, err = stream.client[verb](stream.client, ...)
  if not data then assert.equal("want_read", err and err.code) end
  return data
end

local actions = {
  function(stream, random) send(stream, random(100)) end,
  function(stream, random) send(stream, random(40000)) end,
  function(stream, random) -- a burst of short records
    for _ = 1, random(20) do send(stream, random(50)) end
  end,
  function(stream, random)
    local data = try(stream, "recv", random(3))
    if data then took(stream, data) end
  end,
  function(stream)
    local data = try(stream, "recv")
    if data then took(stream, data) end
  end,
  function(stream, random)
    local data = try(stream, "peek", random(20000))
    if data then assert.is_true(stream.sent:sub(stream.at + 1, stream.at + #data) == data) end
  end,
  function(stream, random)
    local data = try(stream, "read", random(30000))
    if data then took(stream, data) end
  end,
  function(stream) -- fails, with what there is kept
    assert.is_nil(try(stream, "read", 10000000))
  end,
  function(stream)
    local left = #stream.sent - stream.at
    assert.is_true(stream.client:pending() <= left)
  end,
  function() collectgarbage("step") end,
}

describe("the shared buffers", function()
  it("keep the bytes of many connections apart", function()
    local random = random_source(4711)
    local streams = make_streams(8)
    for _ = 1, helper.slow < 10 and 4000 or 200 do
      actions[random(#actions)](streams[random(#streams)], random)
    end
    for _, stream in ipairs(streams) do
      assert.is_true(#stream.sent > 0)
      helper.together {
        function()
          stream.server:settimeout(nil)
          assert(stream.server:shutdown("write"))
        end,
        function()
          stream.client:settimeout(nil)
          took(stream, stream.client:read("a"))
        end,
      }
      assert.equal(#stream.sent, stream.at)
    end
  end)

  it("keep a half read stream while its neighbours come and go", function()
    local streams = make_streams(3)
    local first = streams[1]
    send(first, 50000)
    helper.together { function()
      first.client:settimeout(nil)
      took(first, first.client:recv(1))
    end }
    local left = first.client:pending()
    assert.is_true(left > 0)
    for i = 1, 20 do
      local client, server = helper.handshaken()
      assert(server:write(noise(20000, i)))
      assert.equal(5, #client:peek(5))
      if i % 3 == 0 then client:close() end
      if i % 5 == 0 then collectgarbage() end
      assert.equal(left, first.client:pending())
    end
    collectgarbage()
    helper.together { function() took(first, first.client:read(49999)) end }
    assert.equal(#first.sent, first.at)
  end)

  it("outlive a connection that is closed or collected with bytes in them", function()
    for i = 1, 30 do
      local client, server = helper.handshaken()
      assert(server:write(noise(30000, i)))
      assert.equal(1, #client:peek(1))
      if i % 2 == 0 then client:close() end
    end
    collectgarbage()
    local client, server = helper.handshaken()
    assert(server:write("fresh"))
    assert.equal("fresh", client:recv())
  end)

  it("survive that the module is loaded again in the same state", function()
    local client, server = helper.handshaken()
    assert(server:write(noise(30000, 1)))
    assert.equal(noise(30000, 1):sub(1, 10), client:read(10))
    local saved = {}
    for name in pairs(package.loaded) do
      if name:find("^cotls") then
        saved[name] = package.loaded[name]
        package.loaded[name] = nil
      end
    end
    local again = require "cotls"
    assert.is_not_equal(tls, again)
    collectgarbage()
    collectgarbage()
    local ca = again.make_certificate { subject = "CN=again" }
    assert(again.context { ca = ca.certificate })
    assert.is_true(noise(30000, 1):sub(11) == client:read(29990))
    local other_client, other_server = helper.handshaken()
    assert(other_server:write("x"))
    assert.equal("x", other_client:recv())
    -- one scheduler in force, whichever copy of the module sets it
    again.scheduler = { wait = coroutine.yield }
    assert.equal(again.scheduler, tls.scheduler)
    tls.scheduler = nil
    assert.is_nil(again.scheduler)
    for name, value in pairs(saved) do package.loaded[name] = value end
  end)
end)
