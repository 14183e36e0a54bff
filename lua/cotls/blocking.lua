-- SPDX-License-Identifier: MIT
-- A scheduler without a loop: each wait blocks the process in poll(2), in a coroutine too. What is spawned runs to
-- its end before its maker goes on, so that a server written for cotls.luv serves one connection after the other.

local core = require "cotls.core"
local net = require "cotls.net"
local tasks = require "cotls.tasks"

---@class cotls.blocking
local blocking = { blocking = true }

--- A scheduler's wait.
function blocking.wait(waiter, want, deadline)
  local fd = waiter:fileno()
  if fd then return core.poll(fd, want, deadline) end
  return tasks.cannot_wait "cotls.blocking can't wait for a pipe: nobody else runs who could fill or empty it"
end

--- A scheduler's release: nobody else can be waiting.
function blocking.release(waiter) -- luacheck: no unused args
end

--- Calls fn, to its end.
function blocking.spawn(fn, ...)
  tasks.bind("cotls.blocking.spawn", fn, ...)()
end

--- Waits.
function blocking.sleep(seconds)
  tasks.check_seconds("cotls.blocking.sleep", seconds)
  core.poll(-1, "read", core.now() + seconds)
end

--- A scheduler's connect: the system's resolver, then all addresses in turn.
function blocking.connect(host, port, deadline)
  local addresses, err = core.lookup(host, port)
  if not addresses then return nil, err end
  return net.connect_any(addresses, deadline, blocking)
end

--- A scheduler's listen.
function blocking.listen(host, port)
  return net.listen_any(host, port)
end

--- Calls main(...); meanwhile this is tls.scheduler.
function blocking.run(main, ...)
  return tasks.under(blocking, tasks.bind("cotls.blocking.run", main, ...))
end

return blocking
