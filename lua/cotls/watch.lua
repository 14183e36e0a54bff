-- SPDX-License-Identifier: MIT
-- Watching descriptors for cotls.luv: all in one epoll set, which is one poll handle of libuv's, or, where there
-- is no epoll, by a poll handle each. A watched entry has `fd` and `mask`: "r", "w", "rw", or nil for nothing.
-- on_event(entry, events) is told "r", "w" or "rw"; "rw" also of an error and of a peer that is gone.

local uv = require "luv"
local core = require "cotls.core"

local watch = {}

--- One epoll set.
function watch.epoll(on_event)
  local poller = assert(core.poller())
  local handle = assert(uv.new_poll(poller:fileno()))
  local watched = {} -- descriptor → entry

  local function deliver(fd, events)
    local entry = watched[fd]
    if entry then on_event(entry, events) end
  end

  handle:start("r", function() poller:deliver(deliver) end)
  handle:unref()
  local self, armed = {}, 0

  -- With nothing in the set the loop must be able to end.
  local function count(difference)
    armed = armed + difference
    if armed == 0 then handle:unref() elseif armed == difference then handle:ref() end
  end

  --- Watches for a mask; nil, reason where the descriptor cannot be watched.
  function self.arm(entry, mask)
    if mask == entry.mask then return true end
    local ok, reason = poller:watch(entry.fd, mask, entry.mask ~= nil)
    if not ok then return nil, reason end
    if not (mask and entry.mask) then count(mask and 1 or -1) end
    entry.mask = mask
    watched[entry.fd] = entry
    return true
  end

  --- No more events; before the descriptor closes.
  function self.remove(entry)
    self.arm(entry, nil)
    if watched[entry.fd] == entry then watched[entry.fd] = nil end
  end

  function self.close()
    handle:close()
    poller:close()
  end

  return self
end

--- A poll handle for each.
function watch.handles(on_event)
  local self = {}

  local function handle_of(entry)
    local handle, reason = uv.new_poll(entry.fd)
    if not handle then return nil, reason end
    entry.handle = handle
    function entry.on_poll(err, events)
      if not err then return on_event(entry, events:find("[dp]") and "rw" or events) end
      entry.mask = nil -- libuv has stopped it
      on_event(entry, "rw")
    end
    return handle
  end

  function self.arm(entry, mask)
    if mask == entry.mask then return true end
    local handle = entry.handle
    if not handle then
      local reason
      handle, reason = handle_of(entry)
      if not handle then return nil, reason end
    end
    entry.mask = mask
    if mask then return handle:start(mask, entry.on_poll) end
    return handle:stop()
  end

  function self.remove(entry)
    if entry.handle and not entry.handle:is_closing() then entry.handle:close() end
  end

  function self.close()
  end

  return self
end

watch.new = core.poller and watch.epoll or watch.handles

return watch
