-- SPDX-License-Identifier: MIT
-- The scenarios of scripts/faults.lua, by name. Each has
--   prepare()   what may not fail → play(run), which is called again and again, with a run of scripts/faults/run.lua
--   like(err)   "!" before the name: it must fail, by such an error
--   believed(run)   such a run, if somebody was content who must not be. Default: a side has got the other's byte
--   spares      functions of OpenSSL's: what they call does not fail
--   notices     an interrupted call may be noticed here
--   without     { kind = why }: kinds of faults that it is not repeated with

local scenarios = {}

local function believes(run)
  return run.connected or run.accepted
end

--- Adds one. `text`: what the error of a scenario that must fail says.
local function add(name, prepare, text, more)
  assert(not scenarios[name], name)
  local one = { prepare = prepare, believed = believes }
  one.like = function(err)
    return text ~= nil and tostring(err):find(text, 1, true) ~= nil
  end
  for key, value in pairs(more or {}) do one[key] = value end
  scenarios[name] = one
end

for _, file in ipairs { "contexts", "handshakes", "hooks", "sessions", "transfers", "streams", "detach",
  "sockets", "luasec" } do
  require("scripts.faults." .. file)(add)
end

return scenarios
