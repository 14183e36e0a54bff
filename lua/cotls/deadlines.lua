-- SPDX-License-Identifier: MIT
-- Items by the moment they are due. Those of one moment share a bucket, so that coming and going costs a table
-- entry; only the buckets are in a heap. item.bucket is where an item is. Knows nothing of clocks.

local floor = math.floor

local Deadlines = {}
Deadlines.__index = Deadlines

function Deadlines.new()
  return setmetatable({ heap = {}, size = 0, buckets = {} }, Deadlines)
end

local function push(self, bucket)
  local heap, at = self.heap, self.size + 1
  self.size = at
  local above = floor(at / 2)
  while at > 1 and heap[above].due > bucket.due do
    heap[at] = heap[above]
    at, above = above, floor(above / 2)
  end
  heap[at] = bucket
end

local function pop(self)
  local heap, size, at = self.heap, self.size, 1
  local last = heap[size]
  self.buckets[heap[1].due] = nil
  heap[size] = nil
  self.size = size - 1
  while 2 * at < size do
    local child = 2 * at
    if child + 1 < size and heap[child + 1].due < heap[child].due then child = child + 1 end
    if heap[child].due >= last.due then break end
    heap[at] = heap[child]
    at = child
  end
  if size > 1 then heap[at] = last end
end

--- The moment that is due first, or nil.
function Deadlines:first()
  local bucket = self.heap[1]
  while bucket and bucket.count == 0 do
    pop(self)
    bucket = self.heap[1]
  end
  return bucket and bucket.due
end

--- Takes off all items that are due and calls item:fire(now) of each; that may take off and add others.
function Deadlines:fire(now)
  local due = self:first()
  while due and due <= now do
    local bucket = self.heap[1]
    pop(self)
    for item in pairs(bucket.items) do
      self:forget(item)
      item:fire(now)
    end
    due = self:first()
  end
end

--- Forgets everything.
function Deadlines:clear()
  self.heap, self.size, self.buckets = {}, 0, {}
end

function Deadlines:forget(item)
  local bucket = item.bucket
  if not bucket then return end
  item.bucket = nil
  bucket.items[item] = nil
  bucket.count = bucket.count - 1
end

--- Sees to it that an item comes up no later than due. One that comes up earlier anyhow stays.
function Deadlines:remember(item, due)
  local bucket = item.bucket
  if bucket then
    if bucket.due <= due then return end
    self:forget(item)
  end
  bucket = self.buckets[due]
  if not bucket then
    bucket = { due = due, count = 0, items = {} }
    self.buckets[due] = bucket
    push(self, bucket)
  end
  item.bucket = bucket
  bucket.items[item] = true
  bucket.count = bucket.count + 1
end

return Deadlines
