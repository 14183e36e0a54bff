-- docs/testing.md and the lists behind it (scripts/mutants): they name what is there. That each check is missed when
-- it is taken out, `make mutants` shows.

local helper = require "spec.helper"
local languages = require "spec.languages"
local tree = require "spec.tree"

local root, read = tree.root, tree.read
local mutants = dofile(root .. "scripts/mutants.lua")

local function entries()
  local list = {}
  for _, subject in ipairs(mutants.subjects()) do
    for _, one in ipairs(subject) do list[#list + 1] = one end
  end
  assert(#list > 0)
  return list
end

-- "file: full name" of each spec in the files, as a set.
local function names_in(files)
  local argv, names = { helper.lua, root .. "scripts/busted.lua", "--list" }, {}
  for _, file in ipairs(files) do argv[#argv + 1] = root .. file end
  local status, out, errors = helper.run(argv, nil, { seconds = 120 }) -- each file makes its certificates
  assert(status == 0, errors)
  for file, name in out:gmatch("([%w_]+%.lua):%d+: ([^\n]+)") do names["spec/" .. file .. ": " .. name] = true end
  return names
end

-- Is the spec left out on this Lua?
local function is_left_out(name)
  for _, pattern in ipairs(languages.left_out(languages.here)) do
    if name:find(pattern) then return true end
  end
  return false
end

describe("the checks that are taken out once each", function()
  it("have their place in the source, once, on one line", function()
    for _, one in ipairs(entries()) do
      local changed, count = mutants.apply(one, read(one.file))
      assert.is_truthy(changed, ("%s: %s is there %s times"):format(one.check, one.from, tostring(count)))
      assert.not_equal(one.from, one.to)
      assert.is_nil(one.from:find("\n"), one.check)
    end
  end)

  it("have a spec of that name", function()
    if helper.slow > 1 then return pending("the files of specs take long to load here, and it is not about them") end
    local files, seen = {}, {}
    for _, one in ipairs(entries()) do
      if not seen[one.spec] then files[#files + 1] = one.spec end
      seen[one.spec] = true
    end
    local known = names_in(files)
    for _, one in ipairs(entries()) do
      local name = one.spec .. ": " .. one.name
      assert.is_true(known[name] or is_left_out(one.name), name .. " is not there")
    end
  end)

  it("are listed in docs/testing.md: lua5.4 scripts/mutants.lua --write", function()
    local page = read "docs/testing.md"
    assert.equal(mutants.page_with(page, mutants.table()), page)
  end)

  it("are found missing: a place that is not there, a row that is old", function()
    local one = entries()[1]
    assert.is_nil((mutants.apply(one, "nothing of it")))
    assert.is_nil((mutants.apply(one, one.from .. one.from)))
    local page = read "docs/testing.md"
    assert.not_equal(page, mutants.page_with(page, "another table\n"))
  end)
end)
