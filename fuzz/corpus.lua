-- SPDX-License-Identifier: MIT
-- The corpora: fuzz/corpus/NAME holds an input a line, in hexadecimal digits; libFuzzer wants a file for each.
--   lua fuzz/corpus.lua unpack FOLDER NAME   writes the inputs into FOLDER
--   lua fuzz/corpus.lua pack FOLDER NAME     makes the corpus of the files in FOLDER

local verb, folder, name = ...
local path = "fuzz/corpus/" .. name

local function unpack_corpus()
  local count = 0
  for line in io.lines(path) do
    count = count + 1
    local file = assert(io.open(("%s/%03d"):format(folder, count), "wb"))
    file:write((line:gsub("%x%x", function(byte) return string.char(tonumber(byte, 16)) end)))
    file:close()
  end
end

local function pack_corpus()
  local lines = {}
  local list = assert(io.popen(("ls -1 '%s'"):format(folder)))
  for file in list:lines() do
    local handle = assert(io.open(folder .. "/" .. file, "rb"))
    local bytes = handle:read("*a")
    handle:close()
    lines[#lines + 1] = bytes:gsub(".", function(byte) return ("%02x"):format(byte:byte()) end)
  end
  list:close()
  table.sort(lines, function(one, other)
    if #one ~= #other then return #one < #other end
    return one < other
  end)
  local out = assert(io.open(path, "w"))
  for _, line in ipairs(lines) do out:write(line, "\n") end
  out:close()
end

local verbs = { pack = pack_corpus, unpack = unpack_corpus }
assert(verbs[verb], "pack or unpack")()
