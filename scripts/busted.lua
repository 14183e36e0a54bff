-- Runs busted under the interpreter that runs this file: the `busted` command
-- picks its own, by a first line that differs from system to system.
--
-- A folder is run file by file, each in a process of its own: full collections,
-- of which the specs make thousands, would otherwise go through what all files hold.
local folder = arg[#arg]
local is_folder = folder and not folder:find("%.lua$") and not folder:find("^%-")

if not is_folder then
  require "busted.runner" { standalone = false }
  return
end

local SUMMARY = "(%d+) success%a* / (%d+) failure%a* / (%d+) error%a* / (%d+) pending[^\n]*\n?"

local function quote(text)
  return "'" .. text:gsub("'", "'\\''") .. "'"
end

local function files()
  local list = {}
  local handle = assert(io.popen("ls -1 " .. quote(folder) .. "/*_spec.lua"))
  for path in handle:lines() do list[#list + 1] = path end
  handle:close()
  return list
end

local command = { quote(os.getenv "LUA" or arg[-1]), quote(arg[0]) }
for i = 1, #arg - 1 do command[#command + 1] = quote(arg[i]) end
command = table.concat(command, " ") .. " "

local totals, start, failed = { 0, 0, 0, 0 }, os.time(), false

for _, path in ipairs(files()) do
  local handle = assert(io.popen(command .. quote(path) .. " 2>&1"))
  local out = handle:read("a")
  local ok = handle:close()
  local counts = { out:match(SUMMARY) }
  if #counts == 0 or (not ok and counts[2] == "0" and counts[3] == "0") then -- it crashed, or left a leak behind
    counts = { counts[1] or 0, 0, 1, counts[4] or 0 }
    out = path .. "\n" .. out
  end
  for i, count in ipairs(counts) do totals[i] = totals[i] + math.tointeger(count) end
  failed = failed or not ok
  io.write(out:gsub(SUMMARY, "", 1), out:find("\n$") and "" or "\n")
  io.flush()
end

print(("%d successes / %d failures / %d errors / %d pending : %d seconds"):format(totals[1], totals[2], totals[3],
  totals[4], os.time() - start))
os.exit(not failed, true)
