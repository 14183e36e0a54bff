local helper = require "spec.helper"
local Deadlines = require "cotls.deadlines"

-- Items that note when they are fired.
local function recorder()
  local fired = {}
  local function item(name, more)
    return {
      name = name,
      fire = function(self, now)
        fired[#fired + 1] = self.name .. "@" .. now
        if more then more(self) end
      end,
    }
  end
  return fired, item
end

describe("deadlines", function()
  it("fire in the order of their moments, and only what is due", function()
    local deadlines, fired, item = Deadlines.new(), recorder()
    for _, due in ipairs { 5, 1, 4, 2, 3 } do deadlines:remember(item("i" .. due), due) end
    assert.equal(1, deadlines:first())
    deadlines:fire(3)
    assert.same({ "i1@3", "i2@3", "i3@3" }, fired)
    assert.equal(4, deadlines:first())
    deadlines:fire(9)
    assert.equal(5, #fired)
    assert.is_nil(deadlines:first())
  end)

  it("of a forgotten item do not, and empty moments are passed over", function()
    local deadlines, fired, item = Deadlines.new(), recorder()
    local a, b = item "a", item "b"
    deadlines:remember(a, 1)
    deadlines:remember(b, 2)
    deadlines:forget(a)
    deadlines:forget(a)
    assert.equal(2, deadlines:first())
    deadlines:forget(b)
    assert.is_nil(deadlines:first())
    deadlines:fire(9)
    assert.same({}, fired)
  end)

  it("move to an earlier moment, never to a later one", function()
    local deadlines, fired, item = Deadlines.new(), recorder()
    local a = item "a"
    deadlines:remember(a, 5)
    deadlines:remember(a, 7)
    assert.equal(5, deadlines:first())
    deadlines:remember(a, 3)
    deadlines:fire(4)
    assert.same({ "a@4" }, fired)
    deadlines:fire(9)
    assert.equal(1, #fired)
  end)

  it("may be set and forgotten while they fire", function()
    local deadlines, fired, item = Deadlines.new(), recorder()
    local victims = {}
    for i = 1, 2 do
      victims[i] = item("v" .. i, function() deadlines:forget(victims[3 - i]) end)
      deadlines:remember(victims[i], 1)
    end
    deadlines:remember(item("again", function(self)
      if #fired < 10 then deadlines:remember(self, 1.5) end
    end), 1.5)
    deadlines:fire(1)
    assert.equal(1, #fired) -- one of the two took the other off
    deadlines:fire(2)
    assert.equal(10, #fired)
  end)

  it("agree with a sorted list, whatever comes and goes", function()
    local deadlines, random = Deadlines.new(), helper.random(7)
    local alive, now = {}, 0
    local function fire(self)
      assert.is_true(self.due <= now)
      alive[self] = nil
    end
    for _ = 1, 3000 do
      local item = { fire = fire, due = now + random(50) }
      alive[item] = true
      deadlines:remember(item, item.due)
      if random(3) == 1 then
        local victim = next(alive)
        deadlines:forget(victim)
        alive[victim] = nil
      end
      if random(4) == 1 then
        now = now + random(5)
        deadlines:fire(now)
        for left in pairs(alive) do assert.is_true(left.due > now) end
      end
    end
    deadlines:clear()
    assert.is_nil(deadlines:first())
  end)
end)
