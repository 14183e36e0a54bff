-- SPDX-License-Identifier: MIT
-- A program for the specs of schedulers: the other side, in a process of its own, so that a side that blocks has
-- somebody to talk to. Called as: peer.lua certificate key ca. It prints its port; each connection's first line
-- says what it does. "call PORT WHAT": it connects to that port instead, and does WHAT there.

local tls = require "cotls"
local luv = require "cotls.luv"

local certificate, key, ca = ...
local BLOCK = ("x"):rep(16384)

local acts = {}

-- Gives back what comes, up to its end.
function acts.echo(conn)
  local data = conn:recv(16384)
  while data and conn:write(data) do data = conn:recv(16384) end
  conn:close()
end

-- Sends so many KiB, and the end.
function acts.flood(conn, kib)
  for _ = 1, kib / 16 do
    if not conn:write(BLOCK) then break end
  end
  conn:close()
end

-- Reads all, and tells how much it was.
function acts.count(conn)
  local all = conn:read("a")
  conn:write(all and #all or "nothing", "\n")
  conn:close()
end

-- Says nothing for a while, then reads all.
function acts.silent(conn, seconds)
  luv.sleep(tonumber(seconds))
  acts.count(conn)
end

-- A byte every 10 ms.
function acts.trickle(conn, count)
  for _ = 1, count do
    if not conn:write(".") then break end
    luv.sleep(0.01)
  end
  conn:close()
end

-- Goes without close_notify.
function acts.vanish(conn)
  conn:write("so long")
  getmetatable(conn).__close(conn, "an error")
end

local contexts = {
  server = assert(tls.context { role = "server", certificate = certificate, key = key }),
  client = assert(tls.context { ca = ca }),
}

local function act(conn, line)
  local name, argument = line:match("^(%a+) ?(.*)$")
  return acts[name](conn, argument)
end

-- Connects, and does what it is told.
function acts.call(conn, argument)
  local port, what = argument:match("^(%d+) (.*)$")
  conn:close()
  local other = tls.connect("localhost", tonumber(port), { context = contexts.client })
  if other then act(other, what) end
end

luv.run {
  on_error = function(err, traceback) io.stderr:write(tostring(err), "\n", traceback, "\n") end,
  main = function()
    local listener = assert(tls.listen("127.0.0.1", 0, { context = contexts.server }))
    print("port " .. listener:port())
    io.stdout:flush()
    while true do
      local conn = listener()
      luv.spawn(function()
        local line = conn:accept() and conn:read("l")
        if line then act(conn, line) else conn:close() end
      end)
    end
  end,
}
