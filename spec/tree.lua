-- SPDX-License-Identifier: MIT
-- The tree's own files, for specs that look at them.

local uv = require "luv"

--- Where the tree lies: "" or a path with a slash behind it.
local tree = { root = debug.getinfo(1, "S").source:match("^@(.*)spec/[^/]*$") or "" }

--- The core that is tested: its file.
for template in package.cpath:gmatch "[^;]+" do
  local path = template:gsub("%?", "cotls/core")
  if not tree.core and uv.fs_stat(path) then tree.core = path end
end

--- The folder that it was built in.
tree.build = tree.core:match("^(.*)/cotls/core%.so$")

--- A file's content.
function tree.read(path)
  local handle = assert(io.open(tree.root .. path, "rb"))
  local text = handle:read("*a")
  handle:close()
  return text
end

--- The files of a folder, and of those in it, whose names have the pattern: a list of { path =, text = }.
function tree.files(folder, pattern)
  local found = {}
  local scan = uv.fs_scandir(tree.root .. folder)
  while scan do
    local name, kind = uv.fs_scandir_next(scan)
    if not name then break end
    local path = folder .. "/" .. name
    if kind == "directory" then
      for _, one in ipairs(tree.files(path, pattern)) do found[#found + 1] = one end
    elseif name:find(pattern) then
      found[#found + 1] = { path = path, text = tree.read(path) }
    end
  end
  return found
end

return tree
