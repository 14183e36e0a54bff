-- SPDX-License-Identifier: MIT
-- What Lua 5.1, LuaJIT, 5.3 and 5.4 do differently, under one name each. Nothing global is changed.

local compat = {}

compat.unpack = table.unpack or unpack
compat.loadstring = loadstring or load

compat.pack = table.pack or function(...)
  return { n = select("#", ...), ... }
end

compat.move = table.move or function(list, first, last, at, target)
  for i = first, last do target[at + i - first] = list[i] end
  return target
end

--- "integer", "float", or nil for what is no number. Where all numbers are floats, a whole one is an integer.
compat.math_type = math.type or function(value)
  if type(value) ~= "number" then return nil end
  return value % 1 == 0 and value >= -2 ^ 53 and value <= 2 ^ 53 and "integer" or "float"
end

-- ---- numbers as bytes, big-endian ----

--- A whole number, not negative, in that many bytes.
function compat.bytes_of(number, size)
  local bytes = {}
  for i = size, 1, -1 do
    bytes[i] = number % 256
    number = (number - bytes[i]) / 256
  end
  return string.char(compat.unpack(bytes))
end

--- The number that stands in `size` bytes from a position on.
function compat.number_at(text, at, size)
  local number = 0
  for i = at, at + size - 1 do number = number * 256 + text:byte(i) end
  return number
end

--- A text behind its length, which takes `size` bytes.
function compat.sized(text, size)
  return compat.bytes_of(#text, size) .. text
end

-- ---- coroutines ----

-- Can a coroutine yield inside of pcall? Not in Lua 5.1.
local yields_through = coroutine.wrap(function() return (pcall(coroutine.yield, "yielded")) end)() == "yielded"

-- Where it can't, compat.pcall has a coroutine of its own for the function and passes its yields on.
-- That coroutine → the one that called compat.pcall.
local callers = setmetatable({}, { __mode = "kv" })

local function pass_on(co, ...)
  if coroutine.status(co) ~= "suspended" then return ... end
  return pass_on(co, coroutine.resume(co, coroutine.yield(select(2, ...))))
end

local function explained(co, handler, ok, ...)
  if ok then return true, ... end
  return false, handler((...), co)
end

--- pcall, in which the function may yield.
compat.pcall = yields_through and pcall or function(fn, ...)
  local caller = coroutine.running()
  if not caller then return pcall(fn, ...) end
  local co = coroutine.create(function(...) return fn(...) end)
  callers[co] = caller
  return pass_on(co, coroutine.resume(co, ...))
end

--- xpcall with arguments, in which the function may yield. Of a function that had a coroutine of its own the handler
-- is told that coroutine too: what it did when it failed is still there to see.
compat.xpcall = yields_through and xpcall or function(fn, handler, ...)
  local caller = coroutine.running()
  if not caller then
    local given = compat.pack(...)
    return xpcall(function() return fn(compat.unpack(given, 1, given.n)) end, handler)
  end
  local co = coroutine.create(function(...) return fn(...) end)
  callers[co] = caller
  return explained(co, handler, pass_on(co, coroutine.resume(co, ...)))
end

--- The running coroutine, as who waits has to be resumed; in the main one nil or that.
compat.running = yields_through and coroutine.running or function()
  local co = coroutine.running()
  while callers[co] do co = callers[co] end
  return co
end

--- May the running coroutine yield? Where the language doesn't tell: is it one?
compat.is_yieldable = coroutine.isyieldable or function() return coroutine.running() ~= nil end

--- coroutine.close, where there is something to close.
compat.close = coroutine.close or function() end

--- Calls fn(...) with `resource` to be closed, by its __close, when that ends, also by coroutine.close: where the
-- language has such variables; nil elsewhere.
compat.closing = coroutine.close and compat.loadstring [[
return function(resource, fn, ...)
  local _ <close> = resource
  fn(...)
end]]()

return compat
