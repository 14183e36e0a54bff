-- SPDX-License-Identifier: MIT
-- The options that say who a context is: certificates and keys, their files read, passwords asked for.

local core = require "cotls.core"
local file = require "cotls.file"

local credentials = {}

local refused = core.refused -- option, reason → nil, err

local function is_encrypted(data)
  return data:find("ENCRYPTED", 1, true) or not data:find("-----BEGIN", 1, true)
end

local function read_key(given, certificates)
  local key, reason
  if given.key then
    key, reason = file.read(given.key)
    if not key then return nil, reason end
  else
    for _, one in ipairs(certificates) do
      if one.data:find("PRIVATE KEY-----", 1, true) then key = { name = one.name, data = one.data } end
    end
    if not key then return nil, "no private key is given, and none is in the certificate's file" end
  end
  key.password = given.password
  if type(key.password) == "function" then
    key.password = is_encrypted(key.data) and key.password(key.name) or nil
    if key.password ~= nil and type(key.password) ~= "string" then return nil, "password gave no string" end
  end
  return key
end

--- Reads the files of a context's options into its settings.
-- @return true; or nil, err
function credentials.read(given, out)
  local reason
  if given.certificate then
    out.certificate, reason = file.read_all(given.certificate)
    if not out.certificate then return refused("certificate", reason) end
    out.key, reason = read_key(given, out.certificate)
    if not out.key then return refused("key", reason) end
  elseif given.key then
    return refused("key", "there is no certificate to it")
  elseif given.role == "server" and not given.names then
    return refused("certificate", "a server needs one")
  end
  return true
end

return credentials
