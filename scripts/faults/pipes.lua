-- SPDX-License-Identifier: MIT
-- Two ends of a stream written in Lua: read gives what the other has written, and yields while there is nothing.
return function()
  local function stream(from, to)
    return {
      read = function(_, max)
        while #from == 0 do
          if from.closed then return nil end
          coroutine.yield()
        end
        local data = table.remove(from, 1)
        if #data > max then table.insert(from, 1, data:sub(max + 1)) end
        return data:sub(1, max)
      end,
      write = function(_, data)
        if to.closed then return nil, "closed" end
        to[#to + 1] = data
        return true
      end,
      close = function() from.closed, to.closed = true, true end,
    }
  end
  local up, down = {}, {}
  return stream(down, up), stream(up, down)
end
