-- SPDX-License-Identifier: MIT
-- Takes out each check once and sees its spec fail. scripts/mutants/<subject>.lua names the checks: each is a
-- replacement in one source file and a spec that must not survive it. The tree is copied; only the copy is changed.
--
--   lua5.4 scripts/mutants.lua [words]   takes out the checks whose description or spec has the words (default: all)
--   lua5.4 scripts/mutants.lua --write   writes their table into docs/testing.md
--
-- As a module (spec/mutants_spec.lua) it gives the lists and the table.

local mutants = {}

local root = debug.getinfo(1, "S").source:match("^@(.*)scripts/[^/]*$") or ""

local function read(path)
  local handle = assert(io.open(path, "rb"))
  local text = handle:read("*a")
  handle:close()
  return text
end

local function write(path, text)
  local handle = assert(io.open(path, "wb"))
  assert(handle:write(text))
  handle:close()
end

local function quote(text)
  return "'" .. text:gsub("'", "'\\''") .. "'"
end

-- What a command prints; its exit status.
local function run(command)
  local pipe = assert(io.popen("{ " .. command .. "\n} 2>&1; echo \" status $?\"")) -- not every Lua's close tells it
  local out, status = pipe:read("*a"):match("^(.*) status (%d+)\n$")
  pipe:close()
  return out, tonumber(status)
end

-- ---- the lists ----

--- The subjects in the order of their titles, each { title =, a list of { check =, file =, from =, to =, spec =,
-- name =, note = } }: `from` is what `to` replaces in `file`, `name` the full name of what must fail in `spec`.
function mutants.subjects()
  local subjects = {}
  for path in run("ls " .. quote(root .. "scripts/mutants")):gmatch("([%w_]+)%.lua") do
    subjects[#subjects + 1] = assert(loadfile(root .. "scripts/mutants/" .. path .. ".lua"))(mutants)
  end
  table.sort(subjects, function(a, b) return a.title < b.title end)
  return subjects
end

--- A check of X509_verify_cert(3), taken out by forgiving what it finds.
function mutants.forgiven(check, code, spec, name)
  local verdict = "bool ok = X509_verify_cert(store) > 0"
  return {
    check = check, file = "src/verify.c", from = verdict .. ";", note = "OpenSSL's " .. code,
    to = verdict .. " || X509_STORE_CTX_get_error(store) == " .. code .. ";", spec = spec, name = name,
  }
end

--- The source of a file with that check taken out; nil and how often `from` is there, if not once.
function mutants.apply(one, text)
  local first, last = text:find(one.from, 1, true)
  local count = 0
  for _ in text:gmatch((one.from:gsub("%p", "%%%0"))) do count = count + 1 end
  if count ~= 1 then return nil, count end
  return text:sub(1, first - 1) .. one.to .. text:sub(last + 1)
end

-- The function in whose source that position is.
local function function_at(text, at)
  local name
  for line in text:sub(1, text:find("\n", at, true)):gmatch("([^\n]*)\n") do
    name = line:match("^#define ([%w_]+)") or line:match("^[%a][^;=]-([%w_]+)%(") or
      line:match("^function [%w_]+[%.:]([%w_]+)%(") or line:match("^static [^;(]-([%w_]+)%[?%]? = {") or name
  end
  return name
end

local function row(one)
  local text = read(root .. one.file)
  local where = function_at(text, text:find(one.from, 1, true) or 1)
  return ("| %s | `%s`%s%s | %s: %s |"):format(one.check, one.file, where and ", `" .. where .. "`" or "",
    one.note and " (" .. one.note .. ")" or "", one.spec:match("[^/]+$"), (one.name:gsub("|", "\\|")))
end

--- The tables of docs/testing.md.
function mutants.table()
  local lines = {}
  for _, subject in ipairs(mutants.subjects()) do
    lines[#lines + 1] = "\n### " .. subject.title .. "\n"
    lines[#lines + 1] = "| Check | Where | Spec |"
    lines[#lines + 1] = "| --- | --- | --- |"
    for _, one in ipairs(subject) do lines[#lines + 1] = row(one) end
  end
  return table.concat(lines, "\n") .. "\n"
end

mutants.page = root .. "docs/testing.md"

--- The page with that table in the place of its own.
function mutants.page_with(page, text)
  local before, after = page:match("^(.-<!%-%- checks %-%->\n).-(<!%-%- end of checks %-%->.*)$")
  return assert(before, "the marks are missing") .. text .. "\n" .. after
end

-- ---- taking them out ----

local folder

local function in_copy(command)
  return run(("cd %s && env -u MAKEFLAGS -u MAKELEVEL timeout 120 %s"):format(quote(folder), command))
end

local function copy()
  local here = root == "" and "." or root
  folder = run("mktemp -d"):match("[^\n]+")
  local command = ("tar -C %s --exclude=./.git --exclude=./build -cf - . | tar -C %s -xf -"):format(quote(here),
    quote(folder))
  assert(select(2, run(command)) == 0, "the tree can't be copied")
end

local function build()
  return in_copy(("make -s -j2 build DEPS=: LUA=%s CFLAGS=-O0 WERROR="):format(quote(arg[-1] or "lua5.4")))
end

-- How many specs of those names in the file succeed and fail.
local function specs(file, names)
  local filters = {}
  for i, name in ipairs(names) do filters[i] = "--filter=" .. quote((name:gsub("%p", "%%%0")) .. "$") end
  local paths = ("%s/lua/?.lua;%s/lua/?/init.lua;%s/?.lua;%s"):format(folder, folder, folder,
    os.getenv "LUA_PATH_5_4" or os.getenv "LUA_PATH" or ";")
  local cpaths = ("%s/build/?.so;%s"):format(folder, os.getenv "LUA_CPATH_5_4" or os.getenv "LUA_CPATH" or ";")
  local out = in_copy(("env -u LUA_PATH_5_4 -u LUA_CPATH_5_4 LUA_PATH=%s LUA_CPATH=%s %s scripts/busted.lua %s %s")
    :format(quote(paths), quote(cpaths), arg[-1] or "lua5.4", table.concat(filters, " "), file))
  local good, bad, errors = out:match("(%d+) success%a* / (%d+) failures? / (%d+) errors?")
  return tonumber(good) or 0, (tonumber(bad) or 0) + (tonumber(errors) or 0), out
end

-- Without any change each spec must be there and succeed.
local function check_unchanged(list)
  local by_file, files = {}, {}
  for _, one in ipairs(list) do
    if not by_file[one.spec] then
      by_file[one.spec] = {}
      files[#files + 1] = one.spec
    end
    local names = by_file[one.spec]
    if not names[one.name] then
      names[one.name] = true
      names[#names + 1] = one.name
    end
  end
  for _, file in ipairs(files) do
    local good, bad, out = specs(file, by_file[file])
    if bad > 0 or good < #by_file[file] then
      error(("%s: %d of its specs, %d succeed unchanged\n%s"):format(file, #by_file[file], good, out), 0)
    end
  end
end

-- "killed", or what is wrong.
local function try(one)
  local path = folder .. "/" .. one.file
  local text = read(path)
  local changed, count = mutants.apply(one, text)
  if not changed then return ("stands there %d times"):format(count) end
  write(path, changed)
  local out, status = "", 0
  if one.file:find("^src/") then out, status = build() end
  local verdict = "does not build:\n" .. out
  if status == 0 then
    local good, bad = specs(one.spec, { one.name })
    verdict = (bad > 0 or good == 0) and "killed" or "SURVIVED" -- without any result it has crashed
  end
  write(path, text)
  return verdict
end

local function chosen(words)
  local list = {}
  for _, subject in ipairs(mutants.subjects()) do
    for _, one in ipairs(subject) do
      local text = one.check .. " " .. one.spec .. " " .. one.name
      if text:find(words, 1, true) then list[#list + 1] = one end
    end
  end
  return list
end

local function main(words)
  if words == "--write" then
    write(mutants.page, mutants.page_with(read(mutants.page), mutants.table()))
    return true
  end
  local list, alive = chosen(words or ""), 0
  copy()
  local ok, err = pcall(function()
    local out, status = build()
    assert(status == 0, out)
    check_unchanged(list)
    for _, one in ipairs(list) do
      local verdict = try(one)
      if verdict ~= "killed" then alive = alive + 1 end
      print(("%-8s  %s  (%s: %s)"):format(verdict, one.check, one.spec, one.name))
    end
    print(("%d checks taken out, %d not noticed"):format(#list, alive))
  end)
  run("rm -rf " .. quote(folder))
  if not ok then print(err) end
  return ok and alive == 0 and #list > 0
end

if arg and arg[0] and arg[0]:find("mutants%.lua$") then
  os.exit(main(arg[1]) and 0 or 1)
end

return mutants
