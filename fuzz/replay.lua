-- SPDX-License-Identifier: MIT
-- The inputs of the corpora go through their targets once, without libFuzzer: for coverage, with the tested module.
--   lua fuzz/replay.lua TOOLS      the library made of fuzz/tools.c

package.preload["fuzz.tools"] = package.loadlib(assert(arg[1], "the library of fuzz/tools.c"), "fuzz_tools_open")

local count = 0
local targets = assert(io.popen "ls -1 fuzz/corpus")
for name in targets:lines() do
  local target = assert(loadfile(("fuzz/targets/%s.lua"):format(name)))()
  for line in io.lines("fuzz/corpus/" .. name) do
    target((line:gsub("%x%x", function(byte) return string.char(tonumber(byte, 16)) end)))
    count = count + 1
  end
  collectgarbage()
end
targets:close()
print(("%d inputs of the corpora"):format(count))
