-- SPDX-License-Identifier: MIT
-- A drop-in for LuaSec: after install, `require "ssl"` and its kin give what is made of cotls.

local settings = require "cotls.luasec.settings"

---@class cotls.luasec
local luasec = {}

-- What software requires, and where it is.
local MODULES = {
  ["ssl"] = "cotls.luasec.ssl",
  ["ssl.core"] = "cotls.luasec.core",
  ["ssl.context"] = "cotls.luasec.context",
  ["ssl.x509"] = "cotls.luasec.x509",
  ["ssl.config"] = "cotls.luasec.config",
  ["ssl.https"] = "cotls.luasec.https",
  ["ssl.options"] = "cotls.luasec.options",
}

local OPTIONS = { strict = true, yielding = true }

local function check(given, level)
  if type(given) ~= "table" then
    error("cotls.luasec.install: a table of options expected, got " .. type(given), level + 1)
  end
  for name, value in pairs(given) do
    if not OPTIONS[name] then
      error(("cotls.luasec.install: unknown option '%s'"):format(tostring(name)), level + 1)
    end
    if type(value) ~= "boolean" then
      error(("cotls.luasec.install: option '%s': boolean expected, got %s"):format(name, type(value)), level + 1)
    end
  end
end

--- Makes `require` find cotls where LuaSec is asked for, through package.preload. What has required LuaSec's own
-- modules before keeps them.
function luasec.install(options)
  check(options or {}, 2)
  for name in pairs(OPTIONS) do settings[name] = options and options[name] or false end
  for name, path in pairs(MODULES) do
    package.preload[name] = function() return require(path) end
    package.loaded[name] = nil
  end
  return luasec
end

--- One of the modules, without any installation.
function luasec.module(name)
  if not MODULES[name] then error(("cotls.luasec.module: no module '%s'"):format(tostring(name)), 2) end
  return require(MODULES[name])
end

return luasec
