-- SPDX-License-Identifier: MIT
-- What the values of options come to: files are read, lists become wire format. What comes out is what the core
-- takes; a value that is refused is nil, err with code "config", the option's name in front.

local compat = require "cotls.compat"
local core = require "cotls.core"
local config = require "cotls.config"
local credentials = require "cotls.credentials"
local psk = require "cotls.psk"
local verification = require "cotls.verification"

local settings = {}

local refused = core.refused -- option, reason → nil, err

-- ---- what contexts and connections have in common ----

-- Options that are settings as they are given.
local PLAIN = {
  "role", "verify_client", "ocsp", "verify_depth", "purpose", "renegotiation", "post_handshake_auth",
  "session_timeout", "max_early_data", "anti_replay", "resume", "session_key", "early_data", "on_verify_may_accept",
  "read_limit", "scheduler", "owns", "transport",
}

local function plain(given, out)
  for _, name in ipairs(PLAIN) do out[name] = given[name] end
  return true
end

-- What each side can't be given: options that are for the other one.
local OTHERS = {
  client = {
    "session_cache", "session_timeout", "tickets", "ticket_keys", "max_early_data", "anti_replay", "on_client_hello",
    "on_server_name", "on_alpn", "on_session_get", "on_session_remove", "on_ticket_key", "on_ocsp", "psk_hint",
  },
  server = { "resume", "session_key", "server_name", "verify_name", "session", "early_data", "dane" },
}

local function one_side_only(given, _, role)
  local mine, other = "client", "server"
  if (role or given.role) == "server" then mine, other = other, mine end
  for _, name in ipairs(OTHERS[mine]) do
    if given[name] ~= nil then return refused(name, "is for " .. other .. "s") end
  end
  return true
end

local function seconds_or_none(value)
  if value == false then return -1 end
  return value
end

-- RFC 7301 section 3.1
local function alpn_wire(list)
  local parts = {}
  for i, name in ipairs(list) do
    if #name < 1 or #name > 255 then return nil, "a protocol's name has 1 to 255 bytes" end
    parts[i] = compat.sized(name, 1)
  end
  local wire = table.concat(parts)
  if #wire > 65535 then return nil, "the list is too long" end
  return wire
end

local function alpn(given, out)
  if not given.alpn then return true end
  local reason
  out.alpn, reason = alpn_wire(given.alpn)
  if not out.alpn then return refused("alpn", reason) end
  return true
end

local function limits(given, out)
  out.timeout = seconds_or_none(given.timeout)
  out.handshake_timeout = seconds_or_none(given.handshake_timeout)
  return true
end

--- A DNS name or an IP address as it is sent and checked.
-- @return the name without a trailing dot; or nil, reason
local function checked_name(name)
  if core.is_ip(name) then return name end
  if name:find("[\128-\255]") then return nil, "not ASCII: give the name in its punycode form" end
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

-- ---- contexts ----

local function protocol(given, out)
  out.insecure = given.insecure or false
  out.trusts = given.ca ~= nil
  out.min_version = given.min_version and tostring(given.min_version)
  out.max_version = given.max_version and tostring(given.max_version)
  return true
end

local function sessions(given, out)
  if (given.max_early_data or 0) > 0 and given.anti_replay ~= false and
    (given.session_cache == false or given.session_cache == 0) then
    return refused("max_early_data", "needs session_cache: a replayed ticket is told by its absence there")
  end
  if (given.max_early_data or 0) > 0xFFFFFFFF then return refused("max_early_data", "has 32 bits") end
  out.session_cache = given.session_cache or given.session_cache == false and 0 or nil
  out.tickets = given.tickets or given.tickets == false and -1 or nil
  out.ticket_keys = given.ticket_keys and table.concat(given.ticket_keys)
  return true
end

-- Options that are the functions of a context.
local HOOKS = {
  "on_client_hello", "on_server_name", "on_certificate", "on_verify", "on_alpn", "on_session_get", "on_session_new",
  "on_session_remove", "on_ticket_key", "on_ocsp", "on_psk", "sign", "on_keylog", "on_trace",
}

-- "env": where other programs write theirs, if the environment says so.
local function keylog(given, out)
  out.keylog = given.keylog
  if given.keylog == "env" then
    local path = os.getenv "SSLKEYLOGFILE"
    out.keylog = path ~= "" and path or nil
  end
  return true
end

local function hooks(given, out)
  for _, name in ipairs(HOOKS) do
    if given[name] then
      out.hooks = out.hooks or {}
      out.hooks[name] = given[name]
    end
  end
  if given.ticket_keys and given.on_ticket_key then return refused("ticket_keys", "not together with on_ticket_key") end
  if given.on_verify and given.insecure then return refused("on_verify", "insecure verifies nothing") end
  if given.on_session_get and (given.max_early_data or 0) > 0 and not given.session_get_takes then
    return refused("on_session_get", "with max_early_data the store must forget what it gives (session_get_takes)")
  end
  if given.session_get_takes ~= nil and not given.on_session_get then
    return refused("session_get_takes", "needs on_session_get")
  end
  -- What decides on a peer is part of what sessions are kept apart by.
  out.on_verify = given.on_verify ~= nil or nil
  return true
end

-- What tells sessions of one context from those of another, in every process alike: all that is said about
-- verification, and what a session of TLS 1.2 takes with it, its cipher and extended master secret. Each is the name
-- of a setting.
local SCOPE = {
  "role", "insecure", "verify_client", "ca", "crl", "crl_check", "verify_depth", "purpose", "partial_chain", "pins",
  "ocsp", "security_level", "signature_algorithms", "client_signature_algorithms", "ciphers", "ciphersuites", "options",
  "conf", "psk", "on_psk", "on_verify", "on_verify_may_accept",
}

-- A value as text that no other value has; of files only the contents count.
local function canonical(value)
  if type(value) ~= "table" then
    return compat.sized(compat.math_type(value) or type(value), 1) .. compat.sized(tostring(value), 4)
  end
  if value.data then return canonical(value.data) end
  local keys, parts = {}, {}
  for key in pairs(value) do keys[#keys + 1] = key end
  table.sort(keys, function(a, b) return tostring(a) < tostring(b) end)
  for i, key in ipairs(keys) do parts[i] = canonical(key) .. canonical(value[key]) end
  return compat.sized("table", 1) .. compat.sized(table.concat(parts), 4)
end

local function session_scope(_, out)
  local parts = {}
  for i, name in ipairs(SCOPE) do parts[i] = canonical(out[name]) end
  out.session_scope = table.concat(parts)
  return true
end

-- A server name in lower case, as clients ask for it, or a wildcard in the place of its first label.
local function checked_server_name(name)
  local star, rest = name:lower():match("^(%*?%.?)(.*)$")
  if star ~= "" and star ~= "*." then return nil, "a wildcard is a whole label, as in *.example.org" end
  local good, reason = checked_name(rest)
  if not good then return nil, reason end
  if core.is_ip(good) or good:find("*", 1, true) then return nil, "not a server name" end
  return star .. good
end

local function server_names(given, out)
  if given.strict_names ~= nil and not given.names then return refused("strict_names", "needs names") end
  if not given.names then return true end
  local list, seen = {}, {}
  for given_name, context in pairs(given.names) do
    local name, reason = checked_server_name(given_name)
    if not name then return refused("names", ("'%s': %s"):format(given_name, reason)) end
    if seen[name] then return refused("names", ("'%s' stands there twice"):format(name)) end
    seen[name] = true
    list[#list + 1] = { name = name, context = context }
  end
  local other = given.certificate or given.credentials or given.pkcs12 or given.key_uri or given.psk or given.on_psk or
    given.on_certificate
  out.names = { names = list, strict = given.strict_names or not other }
  return true
end

-- Each is given the options and adds settings; session_scope sees those of all the others.
local CONTEXT = {
  one_side_only, plain, protocol, config.read, credentials.read, verification.trust, verification.demands, psk.read,
  server_names, sessions, alpn, limits, keylog, hooks, session_scope,
}

local function all(steps, given, ...)
  local out = {}
  for _, step in ipairs(steps) do
    local ok, err = step(given, out, ...)
    if not ok then return nil, err end
  end
  return out
end

--- The settings of checked context options.
-- @return what core.context takes; or nil, err
function settings.context(given)
  return all(CONTEXT, given)
end

-- ---- connections ----

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

local function names(given, out)
  if given.server_name then
    local name, reason = checked_name(given.server_name)
    if not name then return refused("server_name", reason) end
    if not core.is_ip(name) then out.server_name = name end -- RFC 6066 section 3: no SNI for an address
  end
  local verify, reason = names_to_verify(given)
  if not verify then return refused("verify_name", reason) end
  if verify ~= "" then out.verify_names = verify end
  return true
end

local function transport(given)
  if given.transport and given.transport ~= "fd" and given.transport ~= "stream" then
    return refused("transport", ('unknown kind "%s": must be "fd" or "stream"'):format(given.transport))
  end
  return true
end

local function session(given, out)
  out.session = given.session
  if type(given.session) == "string" then
    local err
    out.session, err = core.session(given.session)
    if not out.session then return nil, err end
  end
  return true
end

local CONNECTION = { one_side_only, plain, limits, names, transport, alpn, session, verification.dane }

--- The settings of checked connection options.
-- @param role "client" or "server"
-- @return what core.wrap takes; or nil, err
function settings.connection(given, role)
  return all(CONNECTION, given, role)
end

return settings
