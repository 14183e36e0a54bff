-- SPDX-License-Identifier: MIT
-- The options that say who a context is: certificates and keys, their files read, passwords asked for. The core makes
-- a credential of each certificate with its key.

local compat = require "cotls.compat"
local core = require "cotls.core"
local file = require "cotls.file"

local credentials = {}

local refused = core.refused -- option, reason → nil, err

-- What a credential is made of, and what there may not be beside it.
local SOURCES = {
  { "pkcs12", "certificate", "key", "key_uri" },
  { "key_uri", "key" },
  { "sign", "key", "key_uri", "pkcs12", "password" },
}

local PARTS = { "certificate", "key", "pkcs12", "key_uri", "ocsp_response" }

-- An unencrypted key may stand in the certificate's file.
local function key_among(files)
  for _, one in ipairs(files) do
    if one.data:find("PRIVATE KEY-----", 1, true) then return { name = one.name, data = one.data } end
  end
  return nil, "no private key is given, and none is in the certificate's file"
end

-- What core.credential takes, of options whose names have that prefix, in a context of that role; or nil, err.
local function read_parts(given, prefix, role)
  local spec = { key_uri = given.key_uri }
  local reason
  if given.ocsp_response and role ~= "server" then return refused(prefix .. "ocsp_response", "is for servers") end
  for _, source in ipairs(SOURCES) do
    for i = 2, #source do
      if given[source[1]] and given[source[i]] then
        return refused(prefix .. source[i], "not together with " .. source[1])
      end
    end
  end
  if given.key_uri and (given.key_uri == "" or given.key_uri:find("\0", 1, true)) then
    return refused(prefix .. "key_uri", "not a URI")
  end
  for _, part in ipairs { "key", "pkcs12", "ocsp_response" } do
    if given[part] then spec[part], reason = file.read(given[part]) end
    if reason then return refused(prefix .. part, reason) end
  end
  if given.certificate then
    spec.certificate, reason = file.read_all(given.certificate)
    if reason then return refused(prefix .. "certificate", reason) end
    spec.sign = given.sign and true
    if not (spec.key or spec.key_uri or spec.sign) then spec.key, reason = key_among(spec.certificate) end
    if reason then return refused(prefix .. "key", reason) end
  elseif given.key then
    return refused(prefix .. "key", "there is no certificate to it")
  end
  return spec
end

-- The credential of a spec. A function that gives a password is asked when the core has found that one is needed.
-- @return credential, type of key; or nil, part, reason
local function load(spec, password)
  if type(password) ~= "function" then
    spec.password = password
    return core.credential(spec)
  end
  local credential, part, reason, wanted = core.credential(spec)
  if credential or not wanted then return credential, part, reason end
  spec.password = password(spec.key_uri or spec[part].name)
  if spec.password == nil then return nil, part, reason end
  if type(spec.password) ~= "string" then return nil, part, "password gave no string" end
  return core.credential(spec)
end

-- One credential as the core's setting takes it: { credential, option, name }, the type of its key; or nil, err.
local function read_one(given, prefix, role)
  local spec, err = read_parts(given, prefix, role)
  if not spec then return nil, err end
  local credential, kind, reason = load(spec, given.password)
  if not credential then return refused(prefix .. kind, reason) end
  local part = spec.certificate and "certificate" or spec.pkcs12 and "pkcs12" or "key_uri"
  local name = spec.key_uri or (spec.pkcs12 or spec.certificate[1]).name
  return { credential = credential, option = prefix .. part, name = name }, kind
end

local function is_given(given)
  return given.certificate or given.key or given.pkcs12 or given.key_uri
end

-- Each certificate is chosen by the type of its key, so there is one for each.
local function read_list(list, role, sign)
  local all, place = {}, {}
  for i, given in ipairs(list) do
    local at = ("credentials[%d]"):format(i)
    if not is_given(given) then return refused(at, "no certificate is given") end
    if given.sign and not sign then return refused(at .. ".sign", "the context has no function sign") end
    local one, kind = read_one(given, at .. ".", role)
    if not one then return nil, kind end
    if place[kind] then
      return refused(at, ("its key is of type %s, as that of credentials[%d]"):format(kind, place[kind]))
    end
    all[i], place[kind] = one, i
  end
  return all
end

local function is_alone(given)
  for _, name in ipairs { "password", compat.unpack(PARTS) } do
    if given[name] ~= nil then return refused(name, "goes into credentials where those are given") end
  end
  return true
end

local function read_all(given)
  if given.credentials then
    local ok, err = is_alone(given)
    if not ok then return nil, err end
    return read_list(given.credentials, given.role, given.sign)
  end
  local one, err = read_one(given, "", given.role)
  if not one then return nil, err end
  return { one }
end

--- The core's credential of one entry, as in `credentials`.
-- @return credential; or nil, err
function credentials.one(given)
  if not is_given(given) then return refused("certificate", "none is given") end
  local one, err = read_one(given, "", "server")
  if not one then return nil, err end
  return one.credential
end

-- Does anything ask the function sign: a certificate now, or one that a hook gives later?
local function is_asked(given)
  local asked = given.certificate or given.on_certificate or given.on_client_hello or given.on_server_name
  for _, one in ipairs(given.credentials or {}) do asked = asked or one.sign end
  return asked
end

--- Reads the files of a context's options into its settings.
-- @return true; or nil, err
function credentials.read(given, out)
  local err
  if given.sign and not is_asked(given) then
    return refused("sign", given.credentials and "no entry of credentials says sign = true"
      or "there is no certificate to it")
  end
  if given.credentials or is_given(given) then
    out.credentials, err = read_all(given)
    if not out.credentials then return nil, err end
  elseif given.ocsp_response then
    return refused("ocsp_response", "there is no certificate to it")
  elseif given.role == "server" and not (given.names or given.psk or given.on_psk or given.on_certificate) then
    return refused("certificate", "a server needs one")
  end
  return true
end

return credentials
