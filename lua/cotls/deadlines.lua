-- SPDX-License-Identifier: MIT
-- A heap of items by `due`; item.at is an item's place in it. Knows nothing of clocks.

local Deadlines = {}
Deadlines.__index = Deadlines

function Deadlines.new()
  return setmetatable({ size = 0 }, Deadlines)
end

local function place(heap, item, at)
  heap[at] = item
  item.at = at
end

local function sift_up(heap, item, at)
  while at > 1 and heap[at // 2].due > item.due do
    place(heap, heap[at // 2], at)
    at = at // 2
  end
  place(heap, item, at)
end

local function sift_down(heap, item, at)
  local size = heap.size
  while 2 * at <= size do
    local child = 2 * at
    if child < size and heap[child + 1].due < heap[child].due then child = child + 1 end
    if heap[child].due >= item.due then break end
    place(heap, heap[child], at)
    at = child
  end
  place(heap, item, at)
end

--- The item that is due first, or nil.
function Deadlines:first()
  return self[1]
end

--- Sees to it that an item comes up no later than due. One that comes up earlier anyhow keeps its place.
function Deadlines:remember(item, due)
  if not item.at then
    item.due = due
    self.size = self.size + 1
    sift_up(self, item, self.size)
  elseif due < item.due then
    item.due = due
    sift_up(self, item, item.at)
  end
end

function Deadlines:forget(item)
  local at = item.at
  if not at then return end
  item.at = nil
  local last = self[self.size]
  self[self.size] = nil
  self.size = self.size - 1
  if last ~= item then
    sift_down(self, last, at)
    sift_up(self, last, last.at)
  end
end

return Deadlines
