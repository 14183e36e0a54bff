-- SPDX-License-Identifier: MIT
-- Options: their names and types. An unknown or ill-typed one raises and names itself. What their values come to
-- is told by cotls.settings.

local compat = require "cotls.compat"
local core = require "cotls.core"
local file = require "cotls.file"
local settings = require "cotls.settings"
local verification = require "cotls.verification"

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

local FILE = "a file (path, PEM, DER, { file = } or { data = })"
local CERTIFICATE = FILE .. " or a certificate object"
local function is_file(value) return file.is_bytes(value), FILE end
local function is_certificate(value) return file.is(value), CERTIFICATE end
local certificates = either(is_certificate, a_list(is_certificate))
local files = either(is_file, a_list(is_file))
local strings = a_list(kind("string"), "a list of strings")
local function text_or_strings(value)
  return type(value) == "string" or strings(value), "a string or a list of strings"
end

-- A number of seconds, not negative; false: none.
local function seconds(value)
  return value == false or type(value) == "number" and value >= 0, "a number of seconds, not negative, or false"
end

local function positive(value)
  return compat.math_type(value) == "integer" and value > 0, "a positive integer"
end

local function count(value)
  return compat.math_type(value) == "integer" and value >= 0, "an integer, not negative"
end

local function count_or_false(value)
  return value == false or count(value), "an integer, not negative, or false"
end

local function integer(value)
  return compat.math_type(value) == "integer", "an integer"
end

local function is_pair(value)
  return type(value) == "table" and #value == 2 and type(value[1]) == "string" and type(value[2]) == "string"
end

function options.is_scheduler(value)
  return type(value) == "table" and type(value.wait) == "function", "a table with a function wait"
end

local is_ticket_keys = a_list(function(key) return type(key) == "string" and #key == 80 end,
  "a list of strings of 80 bytes")

local function is_session(value)
  return type(value) == "string" or core.is_session(value), "a session or what it exports"
end

local function is_names_table(value)
  local what = "a table of contexts by server name"
  if type(value) ~= "table" or next(value) == nil then return false, what end
  for name, context in pairs(value) do
    if type(name) ~= "string" or not core.is_context(context) then return false, what end
  end
  return true
end

local credential_types = {
  certificate = certificates,
  key = is_file,
  sign = kind("boolean"),
  password = kind("string", "function"),
  pkcs12 = is_file,
  key_uri = kind("string"),
  ocsp_response = is_file,
}

local function is_keys(value)
  local ok = type(value) == "table"
  for identity, key in pairs(ok and value or {}) do
    ok = ok and type(identity) == "string" and type(key) == "string"
  end
  return ok, "a table of strings, identity = key"
end

local context_types = {
  role = kind("string"),
  certificate = certificates,
  key = is_file,
  password = kind("string", "function"),
  credentials = a_list(kind("table"), "a list of tables"),
  pkcs12 = is_file,
  key_uri = kind("string"),
  ocsp_response = is_file,
  ca = certificates,
  insecure = kind("boolean"),
  verify_client = kind("string"),
  psk = is_keys,
  renegotiation = kind("string"),
  post_handshake_auth = kind("boolean"),
  crl = files,
  crl_check = kind("string"),
  verify_depth = count,
  purpose = kind("string"),
  partial_chain = kind("boolean"),
  pins = text_or_strings,
  ocsp = kind("string"),
  min_version = kind("string", "number"),
  max_version = kind("string", "number"),
  ciphers = text_or_strings,
  ciphersuites = text_or_strings,
  groups = text_or_strings,
  signature_algorithms = text_or_strings,
  client_signature_algorithms = text_or_strings,
  security_level = integer,
  max_send_fragment = integer,
  options = strings,
  conf = a_list(is_pair, "a list of { name, value }"),
  alpn = strings,
  names = is_names_table,
  strict_names = kind("boolean"),
  on_client_hello = kind("function"),
  on_server_name = kind("function"),
  on_certificate = kind("function"),
  on_verify = kind("function"),
  on_verify_may_accept = kind("boolean"),
  on_alpn = kind("function"),
  on_session_get = kind("function"),
  session_get_takes = kind("boolean"),
  on_session_new = kind("function"),
  on_session_remove = kind("function"),
  on_ticket_key = kind("function"),
  on_ocsp = kind("function"),
  on_psk = kind("function"),
  psk_hint = kind("string"),
  sign = kind("function"),
  on_keylog = kind("function"),
  keylog = kind("string"),
  on_trace = kind("function"),
  session_cache = count_or_false,
  session_timeout = positive,
  tickets = count_or_false,
  ticket_keys = is_ticket_keys,
  resume = kind("boolean"),
  session_key = kind("string"),
  max_early_data = count,
  anti_replay = kind("boolean"),
  timeout = seconds,
  handshake_timeout = seconds,
  read_limit = positive,
  scheduler = options.is_scheduler,
}

local connection_types = {
  server_name = kind("string"),
  verify_name = text_or_strings,
  dane = verification.are_records,
  alpn = strings,
  timeout = seconds,
  handshake_timeout = seconds,
  read_limit = positive,
  scheduler = options.is_scheduler,
  transport = kind("string"),
  owns = kind("boolean"),
  session = is_session,
  session_key = kind("string"),
  early_data = kind("string"),
}

local function is_names(value)
  return type(value) == "table" and (#value == 0 or strings(value)), "a list of strings"
end

local certificate_types = {
  subject = kind("string"),
  names = is_names,
  days = kind("number"),
  not_before = kind("number"),
  not_after = kind("number"),
  key_type = kind("string"),
  bits = positive,
  digest = kind("string"),
  path_length = count,
  purposes = either(kind("string"), is_names),
  must_staple = kind("boolean"),
  ocsp_urls = is_names,
  ca_issuer_urls = is_names,
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
  local best, least = nil, math.max(2, math.floor(#name / 3)) + 1
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

-- Raises at the caller of the public function, which is `level` functions up. The prefix says in which option of
-- options it stands.
local function unknown(who, prefix, name, level, ...)
  local near = type(name) == "string" and nearest(name, ...)
  local hint = near and ("; did you mean '%s'?"):format(near) or ""
  error(("%s: unknown option '%s%s'%s"):format(who, prefix, tostring(name), hint), level + 1)
end

local function check_type(who, name, value, check, level)
  local ok, what = check(value)
  if not ok then
    local got = type(value) == "number" and tostring(value) or type(value)
    if got == "table" and next(value) == nil then got = "an empty table" end
    error(("%s: option '%s': %s expected, got %s"):format(who, name, what or "another value", got), level + 1)
  end
end

local function check_table(who, given, level)
  if type(given) ~= "table" then
    error(("%s: a table of options expected, got %s"):format(who, type(given)), level + 1)
  end
end

-- Options that are lists of options.
local ENTRIES = { credentials = credential_types }

-- A plain copy of the options, each of its type; those that a metatable gives are among them.
local function check_all(who, given, types, level, prefix)
  local checked = {}
  prefix = prefix or ""
  check_table(who, given, level + 1)
  for name in pairs(given) do
    if not types[name] then unknown(who, prefix, name, level + 1, types) end
  end
  for name, check in pairs(types) do
    local value = given[name]
    if value ~= nil then check_type(who, prefix .. name, value, check, level + 1) end
    checked[name] = value
    if value ~= nil and ENTRIES[name] then
      checked[name] = {}
      for i, one in ipairs(value) do
        checked[name][i] = check_all(who, one, ENTRIES[name], level + 1, ("%s[%d]."):format(name, i))
      end
    end
  end
  return checked
end

--- Checks what tls.context is given.
-- @return what core.context takes; or nil, err
function options.context(given, who, level)
  return settings.context(check_all(who, given, context_types, level + 1))
end

--- Checks the types of one credential.
function options.credential(given, who, level)
  return check_all(who, given, credential_types, level + 1)
end

--- Checks a list of ticket keys.
-- @return them as one string
function options.ticket_keys(given, who, level)
  check_type(who, "ticket_keys", given, is_ticket_keys, level + 1)
  return table.concat(given)
end

--- Checks what ctx:wrap is given.
-- @return what core.wrap takes; or nil, err
function options.connection(given, role, who, level)
  return settings.connection(check_all(who, given, connection_types, level + 1), role)
end

-- Raises for a value without a name.
local function check_alone(who, value, check, level)
  local ok, what = check(value)
  if not ok then error(("%s: %s expected, got %s"):format(who, what, type(value)), level + 1) end
end

--- Checks the type of a certificate's file that is given without a name.
function options.certificate_file(value, who, level)
  check_alone(who, value, is_certificate, level + 1)
end

--- Checks the type of a file that is given without a name.
function options.file(value, who, level)
  check_alone(who, value, is_file, level + 1)
end

--- Checks the type of a string that is given without a name.
-- @return it
function options.text(value, who, level)
  check_alone(who, value, function() return type(value) == "string", "a string" end, level + 1)
  return value
end

--- Checks the types of what tls.make_certificate is given.
function options.certificate(given, who, level)
  local checked = check_all(who, given, certificate_types, level + 1)
  if type(checked.purposes) == "string" then checked.purposes = { checked.purposes } end
  return checked
end

--- Checks the type of what tls.ciphers is given.
function options.ciphers(given, who, level)
  if given ~= nil then check_alone(who, given, text_or_strings, level + 1) end
  return given
end

local pair_types = { size = positive, client = kind("table"), server = kind("table") }

--- Checks what tls.pair is given.
-- @return the size or nil; connection options by side, not checked
function options.pair(given, who, level)
  local checked = check_all(who, given, pair_types, level + 1)
  return checked.size, checked
end

--- Sorts what tls.connect and tls.listen are given: context options, connection options, the context.
-- An option of both kinds is the connection's; a server's context takes it, so that one chosen by name has its own.
function options.split(given, role, who, level)
  local context, connection = nil, {}
  check_table(who, given, level + 1)
  for name in pairs(given) do
    if not (context_types[name] or connection_types[name] or name == "context") then
      unknown(who, "", name, level + 1, context_types, connection_types, { context = true })
    end
  end
  for name in pairs(context_types) do
    local value = given[name]
    if value ~= nil and (role == "server" and given.context == nil or not connection_types[name]) then
      context = context or {}
      context[name] = value
    end
  end
  for name in pairs(connection_types) do
    if not (context and context[name] ~= nil) then connection[name] = given[name] end
  end
  if given.context ~= nil and context then
    error(("%s: option '%s' is the context's, and a context is given"):format(who, (next(context))), level + 1)
  end
  return context, connection, given.context
end

return options
