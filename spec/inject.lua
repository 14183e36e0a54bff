-- SPDX-License-Identifier: MIT
-- The tested core once more, linked with scripts/faults/inject.c, which lets its calls fail.

local assert = require "luassert"
local helper = require "spec.helper"
local tree = require "spec.tree"

local inject = {}

local folder

--- Links it, once; the environment of a program that is to load it in the core's place, and inject from INJECT.
function inject.env()
  if not folder then
    folder = helper.temp_dir()
    local status, out, err = helper.run({ "sh", tree.root .. "scripts/faults/link.sh", tree.build .. "/obj",
      folder .. "/cotls/core.so" }, nil, { env = { CFLAGS = "-O1 -g" } })
    assert(status == 0, out .. err)
  end
  return { LUA_CPATH = folder .. "/?.so;" .. package.cpath, INJECT = folder .. "/cotls/core.so" }
end

return inject
