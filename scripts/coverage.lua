-- SPDX-License-Identifier: MIT
-- What lcov has counted: a line for each file, the sum, and with a second argument what has not run.
--   coverage.lua src.info [missing]
-- Fails where less than 95 % of the lines or 85 % of the branches have run.

local LINES, BRANCHES = 95, 85
local path, missing = ...
local total = { LF = 0, LH = 0, BRF = 0, BRH = 0 }
local file, counts, starts_here

local function share(hit, found)
  return found == 0 and 100 or hit / found * 100
end

-- Of the functions by the lines where they start, the one that the line is in.
local function function_at(starts, number)
  for at = number, 1, -1 do
    if starts[at] then return starts[at] end
  end
end

for line in io.lines(path) do
  local name, value = line:match("^(%u+):(.*)$")
  if name == "SF" then
    file, counts, starts_here = value:match("[^/]+$"), { LF = 0, LH = 0, BRF = 0, BRH = 0 }, {}
  elseif name == "FN" then
    local at, what = value:match("^(%d+),(.*)$")
    starts_here[tonumber(at)] = what
  elseif total[name] then
    counts[name] = tonumber(value)
    total[name] = total[name] + counts[name]
  elseif name == "DA" and missing and value:find(",0$") then
    local number = tonumber(value:match("^%d+"))
    print(("%s:%d: not run, in %s"):format(file, number, function_at(starts_here, number)))
  elseif line == "end_of_record" and not missing then
    print(("%-22s %5.1f %% of %4d lines, %5.1f %% of %4d branches"):format(file, share(counts.LH, counts.LF), counts.LF,
      share(counts.BRH, counts.BRF), counts.BRF))
  end
end

local lines, branches = share(total.LH, total.LF), share(total.BRH, total.BRF)
print(("%.1f %% of %d lines, %.1f %% of %d branches"):format(lines, total.LF, branches, total.BRF))
os.exit(lines >= LINES and branches >= BRANCHES)
