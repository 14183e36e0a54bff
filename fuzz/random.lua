-- SPDX-License-Identifier: MIT
-- Random numbers that a seed decides, the same on every Lua: Park and Miller's minimal standard generator.

local Random = {}
Random.__index = Random

function Random.new(seed)
  return setmetatable({ state = seed * 7919 % 2147483646 + 1 }, Random)
end

--- A whole number from 1 to n.
function Random:below(n)
  self.state = self.state * 16807 % 2147483647
  return math.floor(self.state / 2147483647 * n) + 1
end

--- True once in n times.
function Random:once_in(n)
  return self:below(n) == 1
end

--- One of a list.
function Random:one_of(list)
  return list[self:below(#list)]
end

--- A size: most are small, few are large.
function Random:size(most)
  return math.min(most, self:below(2 ^ self:below(17)))
end

--- Text of n bytes, with lines and numerals in it.
function Random:text(n)
  local pieces, length = {}, 0
  while length < n do
    local piece = self:once_in(3) and "\n" or self:once_in(3) and tostring(self:below(99999)) .. " "
      or string.char(self:below(256) - 1):rep(self:size(3000))
    pieces[#pieces + 1], length = piece, length + #piece
  end
  return table.concat(pieces):sub(1, n)
end

return Random
