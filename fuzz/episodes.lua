-- SPDX-License-Identifier: MIT
-- make fuzz: lua fuzz/episodes.lua SEED RUNS

local model = require "fuzz.model"

local seed, runs = tonumber(arg[1]) or 1, tonumber(arg[2]) or 1000
local ok, sum = pcall(model.runs, seed, runs)
if not ok then
  io.stderr:write(tostring(sum), "\n")
  os.exit(1)
end
print(("%d episodes, %d of them disturbed: %.1f MB in %d waits"):format(sum.episodes, sum.disturbed, sum.bytes / 1e6,
  sum.waits))
