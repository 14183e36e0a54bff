-- SPDX-License-Identifier: MIT
-- The names of LuaSec's options. (LuaSec's own file of this name writes C source at its build.)

local core = require "cotls.core"

return core.luasec.options()
