-- SPDX-License-Identifier: MIT
-- A few episodes of the random driver; `make fuzz` runs many.

local helper = require "spec.helper"
local model = require "fuzz.model"

describe("two ends with several coroutines each, driven at random", function()
  local count = math.max(1, math.floor(8 / helper.slow))
  for first = 1, 9, 8 do
    it(("give what the model says: %d seeds from %d on"):format(count, first), function()
      assert.equal(count, model.runs(first, count).episodes)
    end)
  end
end)
