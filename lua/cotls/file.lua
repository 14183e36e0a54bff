-- SPDX-License-Identifier: MIT
-- What an option takes as a file: PEM text, DER, a path, outright { file = path } or { data = bytes }, or a
-- certificate object.
-- Files are read here, once; the core sees { name = what an error calls it, data = bytes }.

local compat = require "cotls.compat"
local core = require "cotls.core"

local file = {}

--- Is the string one whole DER SEQUENCE, its length field matching? (X.690 section 8.1.3)
local function is_der(text)
  local tag, length = text:byte(1, 2)
  if tag ~= 0x30 or not length then return false end
  if length < 0x80 then return #text == length + 2 end
  local size = length - 0x80
  if size < 1 or size > 4 or #text < size + 2 then return false end
  return #text == compat.number_at(text, 3, size) + size + 2
end

local function read_path(path)
  if path == "" or path:find("\0", 1, true) then return nil, "not a path" end
  local handle, err = io.open(path, "rb")
  if not handle then return nil, err end
  local data, why, number = handle:read("*a")
  handle:close()
  if data then return { name = path, data = data } end
  return nil, path .. ": " .. why, number
end

--- Does the value have one of the forms of a file that is no certificate: a key, say?
function file.is_bytes(value)
  if type(value) == "string" then return true end
  return type(value) == "table" and (type(value.file) == "string") ~= (type(value.data) == "string")
end

--- Does the value have one of the forms of a file?
function file.is(value)
  return file.is_bytes(value) or core.is_x509(value)
end

--- Reads a value that is a file.
-- @return { name, data }; or nil, reason, and errno where the path could be opened but not read
function file.read(value)
  if type(value) == "table" then
    if value.data then return { name = "the data", data = value.data } end
    return read_path(value.file)
  end
  if type(value) == "userdata" then return { name = "the certificate object", data = value:der() } end
  if value:find("-----BEGIN", 1, true) then return { name = "the PEM text", data = value } end
  if is_der(value) then return { name = "the DER data", data = value } end
  return read_path(value)
end

--- Reads one file, or each of a list.
-- @return a list of { name, data }, or nil, reason
function file.read_all(value)
  local list = file.is(value) and { value } or value
  local found = {}
  for i, one in ipairs(list) do
    local got, reason = file.read(one)
    if not got then return nil, reason end
    found[i] = got
  end
  return found
end

return file
