-- Runs busted under the interpreter that runs this file: the `busted` command
-- picks its own, by a first line that differs from system to system. What
-- spec/languages.lua names for that interpreter is left out.
--
-- A folder is run file by file, each in a process of its own: full collections,
-- of which the specs make thousands, would otherwise go through what all files hold.
local folder = arg[#arg]
local is_folder = folder and not folder:find("%.lua$") and not folder:find("^%-")

if not is_folder then
  local root = arg[0]:match("^(.*)scripts/") or ""
  local languages = assert(loadfile(root .. "spec/languages.lua"))()
  for _, pattern in ipairs(languages.left_out(languages.here)) do table.insert(arg, 1, "--filter-out=" .. pattern) end
  require "busted.runner" { standalone = false }
  return
end

local SUMMARY = "(%d+) success%a* / (%d+) failure%a* / (%d+) error%a* / (%d+) pending[^\n]*\n?"

local function quote(text)
  return "'" .. text:gsub("'", "'\\''") .. "'"
end

-- What a command prints, and its status, which not every Lua tells.
local function run(text)
  local handle = assert(io.popen(text .. " 2>&1; echo \" status $?\""))
  local out, status = handle:read("*a"):match("^(.*) status (%d+)\n$")
  handle:close()
  return out, tonumber(status)
end

local command = { quote(os.getenv "LUA" or arg[-1]), quote(arg[0]) }
for i = 1, #arg - 1 do command[#command + 1] = quote(arg[i]) end
command = table.concat(command, " ") .. " "

local totals, start, failed = { 0, 0, 0, 0 }, os.time(), false

for path in run("ls -1 " .. quote(folder) .. "/*_spec.lua"):gmatch("[^\n]+") do
  local out, status = run(command .. quote(path))
  local counts = { out:match(SUMMARY) }
  local ok = status == 0
  if #counts == 0 or (not ok and counts[2] == "0" and counts[3] == "0") then -- it crashed, or left a leak behind
    counts = { counts[1] or 0, 0, 1, counts[4] or 0 }
    out = path .. "\n" .. out
  end
  for i, count in ipairs(counts) do totals[i] = totals[i] + tonumber(count) end
  failed = failed or not ok
  io.write((out:gsub(SUMMARY, "", 1)), out:find("\n$") and "" or "\n")
  io.flush()
end

print(("%d successes / %d failures / %d errors / %d pending : %d seconds"):format(totals[1], totals[2], totals[3],
  totals[4], os.time() - start))
os.exit(failed and 1 or 0)
