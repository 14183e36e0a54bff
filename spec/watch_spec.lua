local uv = require "luv"
local watch = require "cotls.watch"
local helper = require "spec.helper"

-- Runs the loop until the condition holds; an error when it never does.
local function until_true(condition)
  local tired = false
  local timer = uv.new_timer()
  timer:start(5000 * math.ceil(helper.slow), 0, function() tired = true end)
  while not condition() and not tired do uv.run("once") end
  timer:close()
  assert.is_false(tired)
end

for name, new in pairs { epoll = watch.epoll, handles = watch.handles } do
  describe("watching by " .. name, function()
    local events, watcher, a, b

    before_each(function()
      events = {}
      watcher = new(function(entry, what) events[#events + 1] = entry.name .. ":" .. what end)
      a, b = helper.socketpair()
    end)

    after_each(function()
      watcher.close()
      uv.run("nowait")
      helper.close_fd(a)
      if b then helper.close_fd(b) end
      b = nil
    end)

    it("tells what is asked for, as long as it is", function()
      local entry = { name = "a", fd = a }
      assert(watcher.arm(entry, "r"))
      uv.run("nowait")
      assert.same({}, events)
      helper.write_fd(b, "x")
      until_true(function() return #events > 0 end)
      assert.equal("a:r", events[1])
      assert(watcher.arm(entry, "w"))
      events = {}
      until_true(function() return #events > 0 end)
      assert.equal("a:w", events[1])
      assert(watcher.arm(entry, nil))
      events = {}
      uv.run("nowait")
      uv.run("nowait")
      assert.same({}, events)
      watcher.remove(entry)
    end)

    it("tells of a peer that is gone, whatever was asked", function()
      local entry = { name = "a", fd = a }
      assert(watcher.arm(entry, "r"))
      helper.close_fd(b)
      b = nil
      until_true(function() return #events > 0 end)
      assert.matches("^a:r", events[1])
      watcher.remove(entry)
    end)

  end)
end

-- luv leaks a handle that libuv refuses, so this is asked of epoll alone.
describe("watching", function()
  it("refuses what cannot be watched", function()
    local watcher = watch.epoll(function() end)
    local ok, reason = watcher.arm({ name = "none", fd = 999999 }, "r")
    watcher.close()
    uv.run("nowait")
    assert.is_nil(ok)
    assert.is_string(reason)
  end)
end)
