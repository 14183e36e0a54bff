-- SPDX-License-Identifier: MIT
-- Options: their names, types and meaning. An unknown or ill-typed one raises and names itself; a value that
-- is refused is nil, err with code "config". What comes out is what the core takes: files read, lists in wire format.

local core = require "cotls.core"
local file = require "cotls.file"

local options = {}

-- ---- types ----

local function kind(...)
  local wanted = { ... }
  return function(value)
    for _, name in ipairs(wanted) do
      if type(value) == name then return true end
    end
    return false, table.concat(wanted, " or ")
  end
end

local function a_list(check, what)
  return function(value)
    if type(value) ~= "table" or #value == 0 then return false, what end
    for _, one in ipairs(value) do
      if not check(one) then return false, what end
    end
    return true
  end
end

local function either(first, second)
  return function(value)
    local ok, what = first(value)
    if ok then return true end
    return second(value), what
  end
end

local function is_file(value) return file.is(value), "a file (path, PEM, DER, { file = } or { data = })" end
local files = either(is_file, a_list(is_file))
local strings = a_list(kind("string"), "a list of strings")
local text_or_strings = either(kind("string"), strings)

-- A number of seconds, not negative; false: none.
local function seconds(value)
  return value == false or type(value) == "number" and value >= 0, "a number of seconds, not negative, or false"
end

local function positive(value)
  return math.type(value) == "integer" and value > 0, "a positive integer"
end

function options.is_scheduler(value)
  return type(value) == "table" and type(value.wait) == "function", "a table with a function wait"
end

local context_types = {
  role = kind("string"),
  certificate = files,
  key = is_file,
  password = kind("string", "function"),
  ca = files,
  insecure = kind("boolean"),
  verify_client = kind("string"),
  min_version = kind("string", "number"),
  max_version = kind("string", "number"),
  alpn = strings,
  timeout = seconds,
  handshake_timeout = seconds,
  read_limit = positive,
  scheduler = options.is_scheduler,
}

local connection_types = {
  server_name = kind("string"),
  verify_name = text_or_strings,
  alpn = strings,
  timeout = seconds,
  handshake_timeout = seconds,
  read_limit = positive,
  scheduler = options.is_scheduler,
  transport = kind("string"),
  owns = kind("boolean"),
}

local function is_names(value)
  return type(value) == "table" and (#value == 0 or strings(value)), "a list of strings"
end

local certificate_types = {
  subject = kind("string"),
  names = is_names,
  days = kind("number"),
  key_type = kind("string"),
  ca = kind("table"),
  is_ca = kind("boolean"),
}

-- ---- unknown names ----

-- Levenshtein's distance.
local function distance(a, b)
  local row = {}
  for j = 0, #b do row[j] = j end
  for i = 1, #a do
    local diagonal = row[0]
    row[0] = i
    for j = 1, #b do
      local above = row[j]
      local cost = a:byte(i) == b:byte(j) and 0 or 1
      row[j] = math.min(above + 1, row[j - 1] + 1, diagonal + cost)
      diagonal = above
    end
  end
  return row[#b]
end

local function nearest(name, ...)
  local best, least = nil, math.max(2, #name // 3) + 1
  for _, types in ipairs { ... } do
    for known in pairs(types) do
      local d = distance(name, known)
      if d < least or d == least and best and known < best then
        best, least = known, d
      end
    end
  end
  return best
end

-- Raises at the caller of the public function, which is `level` functions up.
local function unknown(who, name, level, ...)
  local near = type(name) == "string" and nearest(name, ...)
  local hint = near and ("; did you mean '%s'?"):format(near) or ""
  error(("%s: unknown option '%s'%s"):format(who, tostring(name), hint), level + 1)
end

local function check_type(who, name, value, check, level)
  local ok, what = check(value)
  if not ok then
    error(("%s: option '%s': %s expected, got %s"):format(who, name, what or "another value",
      type(value) == "number" and tostring(value) or type(value)), level + 1)
  end
end

local function check_table(who, given, level)
  if type(given) ~= "table" then
    error(("%s: a table of options expected, got %s"):format(who, type(given)), level + 1)
  end
end

-- A plain copy of the options, each of its type; those that a metatable gives are among them.
local function check_all(who, given, types, level)
  local checked = {}
  check_table(who, given, level + 1)
  for name in pairs(given) do
    if not types[name] then unknown(who, name, level + 1, types) end
  end
  for name, check in pairs(types) do
    local value = given[name]
    if value ~= nil then check_type(who, name, value, check, level + 1) end
    checked[name] = value
  end
  return checked
end

--- Error objects of refused values.
local function refused(name, reason)
  return nil, core.error { code = "config", reason = name .. ": " .. reason }
end

-- ---- values ----

-- RFC 7301 section 3.1
local function alpn_wire(list)
  local parts = {}
  for i, name in ipairs(list) do
    if #name < 1 or #name > 255 then return nil, "a protocol's name has 1 to 255 bytes" end
    parts[i] = string.pack("s1", name)
  end
  local wire = table.concat(parts)
  if #wire > 65535 then return nil, "the list is too long" end
  return wire
end

--- A DNS name or an IP address as it is sent and checked.
-- @return the name without a trailing dot; or nil, reason
local function checked_name(name)
  if core.is_ip(name) then return name end
  if name:find("[\x80-\xFF]") then return nil, "not ASCII: give the name in its punycode form" end
  if name:find("[%z\1-\32\127]") then return nil, "a name has no NUL, space or control character" end
  local bare = name:gsub("%.$", "")
  if #bare == 0 or #bare > 253 then return nil, "a name has 1 to 253 bytes" end
  if bare:find(":", 1, true) then return nil, "neither a name nor an IP address" end
  for label in (bare .. "."):gmatch("(.-)%.") do
    if label == "" then return nil, "a name has no empty label" end
    if #label > 63 then return nil, "a label has at most 63 bytes" end
  end
  -- the resolver would take it for an IPv4 address, and not always for the same one
  if bare:find("^[%d.]*%d$") or bare:find("%.?0[xX]%x*$") then return nil, "neither a name nor an IP address" end
  return bare
end

local function seconds_or_none(value)
  if value == false then return -1 end
  return value
end

-- What tells sessions of one context from those of another, in every process alike.
local function session_scope(given, ca)
  local parts = { given.role or "client", given.verify_client or "none", tostring(given.insecure or false) }
  for _, one in ipairs(ca and ca.files or {}) do parts[#parts + 1] = one.data end
  for _, path in ipairs(ca and ca.directories or {}) do parts[#parts + 1] = path end
  for i, part in ipairs(parts) do parts[i] = string.pack("s4", part) end
  return table.concat(parts)
end

-- EISDIR: the one errno that says "a directory", found by asking for it.
local _, _, eisdir = (function()
  local handle = io.open("/", "rb")
  if not handle then return end
  local data, why, number = handle:read(1)
  handle:close()
  return data, why, number
end)()

local function read_ca(value)
  local ca = { files = {}, directories = {} }
  for _, one in ipairs(file.is(value) and { value } or value) do
    local got, reason, number = file.read(one)
    if got then
      ca.files[#ca.files + 1] = got
    elseif number and number == eisdir then
      ca.directories[#ca.directories + 1] = type(one) == "table" and one.file or one
    else
      return nil, reason
    end
  end
  return ca
end

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

local function credentials(given, settings)
  local reason
  if given.certificate then
    settings.certificate, reason = file.read_all(given.certificate)
    if not settings.certificate then return refused("certificate", reason) end
    settings.key, reason = read_key(given, settings.certificate)
    if not settings.key then return refused("key", reason) end
  elseif given.key then
    return refused("key", "there is no certificate to it")
  elseif given.role == "server" then
    return refused("certificate", "a server needs one")
  end
  return true
end

local function trust(given, settings)
  local reason
  if given.ca then
    settings.ca, reason = read_ca(given.ca)
    if not settings.ca then return refused("ca", reason) end
    settings.ca.client_ca = given.role == "server" or nil
  elseif given.role ~= "server" and not given.insecure then
    settings.ca = { files = {}, directories = {}, system = true }
  elseif given.verify_client and given.verify_client ~= "none" then
    return refused("verify_client", "needs ca: whom a client's certificate must come from")
  end
  return true
end

--- Checks what tls.context is given.
-- @return what core.context takes; or nil, err
function options.context(given, who, level)
  given = check_all(who, given, context_types, level + 1)
  local settings = {
    role = given.role,
    insecure = given.insecure or false,
    verify_client = given.verify_client,
    min_version = given.min_version and tostring(given.min_version),
    max_version = given.max_version and tostring(given.max_version),
    timeout = seconds_or_none(given.timeout),
    handshake_timeout = seconds_or_none(given.handshake_timeout),
    read_limit = given.read_limit,
    scheduler = given.scheduler,
  }
  local ok, err = credentials(given, settings)
  if ok then ok, err = trust(given, settings) end
  if not ok then return nil, err end
  if given.alpn then
    settings.alpn, err = alpn_wire(given.alpn)
    if not settings.alpn then return refused("alpn", err) end
  end
  settings.session_scope = session_scope(given, settings.ca)
  return settings
end

local function names_to_verify(given)
  local names = given.verify_name or given.server_name
  local checked = {}
  for i, name in ipairs(type(names) == "table" and names or { names }) do
    local good, reason = checked_name(name)
    if not good then return nil, reason end
    checked[i] = good .. "\0"
  end
  return table.concat(checked)
end

local function names(given, settings, role)
  for _, name in ipairs { "server_name", "verify_name" } do
    if given[name] and role == "server" then return refused(name, "is for clients") end
  end
  if given.server_name then
    local name, reason = checked_name(given.server_name)
    if not name then return refused("server_name", reason) end
    if not core.is_ip(name) then settings.server_name = name end -- RFC 6066 section 3: no SNI for an address
  end
  local verify, reason = names_to_verify(given)
  if not verify then return refused("verify_name", reason) end
  if verify ~= "" then settings.verify_names = verify end
  return true
end

--- Checks what ctx:wrap is given.
-- @return what core.wrap takes; or nil, err
function options.connection(given, role, who, level)
  given = check_all(who, given, connection_types, level + 1)
  local settings = {
    timeout = seconds_or_none(given.timeout),
    handshake_timeout = seconds_or_none(given.handshake_timeout),
    read_limit = given.read_limit,
    scheduler = given.scheduler,
    owns = given.owns,
  }
  local ok, err = names(given, settings, role)
  if not ok then return nil, err end
  if given.transport and given.transport ~= "fd" then
    return refused("transport", ('unknown kind "%s": must be "fd"'):format(given.transport))
  end
  if given.alpn then
    settings.alpn, err = alpn_wire(given.alpn)
    if not settings.alpn then return refused("alpn", err) end
  end
  return settings
end

--- Checks the types of what tls.make_certificate is given.
function options.certificate(given, who, level)
  return check_all(who, given, certificate_types, level + 1)
end

--- Sorts what tls.connect and tls.listen are given: context options, connection options, the context.
-- An option of both kinds is the connection's.
function options.split(given, who, level)
  local context, connection = nil, {}
  check_table(who, given, level + 1)
  for name in pairs(given) do
    if not (context_types[name] or connection_types[name] or name == "context") then
      unknown(who, name, level + 1, context_types, connection_types, { context = true })
    end
  end
  for name in pairs(context_types) do
    local value = given[name]
    if value ~= nil and not connection_types[name] then
      context = context or {}
      context[name] = value
    end
  end
  for name in pairs(connection_types) do connection[name] = given[name] end
  if given.context ~= nil and context then
    error(("%s: option '%s' is the context's, and a context is given"):format(who, (next(context))), level + 1)
  end
  return context, connection, given.context
end

return options
