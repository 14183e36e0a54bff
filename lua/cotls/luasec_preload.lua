-- SPDX-License-Identifier: MIT
-- For the command line: lua -l cotls.luasec_preload script.lua

return require("cotls.luasec").install()
