-- What is left out on some Lua is there on Lua 5.4, and docs/testing.md tells it.

local helper = require "spec.helper"
local languages = require "spec.languages"
local tree = require "spec.tree"

describe("what the specs leave out", function()
  it("is there on Lua 5.4", function()
    if languages.here ~= "5.4" or helper.slow > 1 then return end
    local argv, patterns = { helper.lua, tree.root .. "scripts/busted.lua", "--list" }, {}
    for _, reason in ipairs(languages.reasons) do
      assert.is_nil((table.concat(reason.on, " "):find("5.4", 1, true)))
      for file, names in pairs(reason.specs) do
        argv[#argv + 1] = tree.root .. "spec/" .. file
        for _, name in ipairs(names) do patterns[languages.pattern(name)] = true end
      end
    end
    local status, out, err = helper.run(argv, nil, { seconds = 120 })
    assert.equal(0, status, err)
    for full in out:gmatch("[%w_]+%.lua:%d+: ([^\n]+)") do
      for pattern in pairs(patterns) do
        if full:find(pattern) then patterns[pattern] = nil end
      end
    end
    assert.is_nil((next(patterns)))
  end)

  it("is listed in docs/testing.md: lua5.4 spec/languages.lua --write", function()
    local page = tree.read "docs/testing.md"
    assert.equal(languages.page_with(page, languages.table()), page)
  end)
end)
