-- SPDX-License-Identifier: MIT
-- Waiting where C functions can't be resumed (Lua 5.1, LuaJIT). A method that has to wait leaves with a mark, the
-- waiter, its slot's number, and a function to be called; with what that gives the core goes on. The core loads this.

local compat = require "cotls.compat"

return function(core)
  local resume, carry = core.resume, nil
  local mark, names

  local function finish(first, ...)
    if first ~= mark then return first, ... end
    return carry(...)
  end

  -- The core knows this function by its frame, in which a coroutine holds the slot: no tail call here.
  function carry(waiter, id, fn, ...)
    return finish(resume(waiter, id, fn(...)))
  end

  mark, names = core.set_loop(carry, coroutine.yield, compat.xpcall)

  local function waits(method)
    return function(...) return finish(method(...)) end
  end

  local methods = core.methods("cotls.connection")
  for _, name in ipairs(names) do methods[name] = waits(methods[name]) end
  for _, name in ipairs { "wait", "recv_until", "write_until" } do core[name] = waits(core[name]) end
  for _, name in ipairs { "handshake", "receive", "send" } do core.luasec[name] = waits(core.luasec[name]) end

  local lines = methods.lines
  function methods.lines(...) return waits(lines(...)) end
end
