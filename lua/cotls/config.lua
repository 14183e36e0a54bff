-- SPDX-License-Identifier: MIT
-- The options that say what may be agreed on: lists of names are taken apart here, so that the core can try each,
-- and values are checked that OpenSSL would not refuse.

local core = require "cotls.core"

local config = {}

local refused = core.refused -- option, reason → nil, err

-- The names of a colon list, or of a Lua list of names or colon lists.
local function names_of(value, separators)
  local names = {}
  for _, text in ipairs(type(value) == "table" and value or { value }) do
    for name in text:gmatch("[^" .. separators .. "]+") do names[#names + 1] = name end
  end
  return names
end

local function as_list(names)
  if #names == 0 then return nil, "the list is empty" end
  local text = table.concat(names, ":")
  if text:find("\0", 1, true) then return nil, "a name has a NUL byte" end
  names.text = text
  return names
end

local function plain_list(value)
  return as_list(names_of(value, ":"))
end

-- ---- cipher lists, ciphers(1) ----

local SUITE_B = { SUITEB128 = true, SUITEB128C2 = true, SUITEB128ONLY = true, SUITEB192 = true }

-- What can be told without OpenSSL, which takes some words by their beginning and ignores others: a reason, or nil.
local function wrong_word(word, i, count)
  if word:find("^@") then
    return not (word == "@STRENGTH" or word:find("^@SECLEVEL=[0-5]$")) and ("unknown command '%s'"):format(word)
  elseif word:find("^DEFAULT") then
    return not (word == "DEFAULT" and i == 1) and ("'%s': DEFAULT stands first, by itself"):format(word)
  elseif word:find("^SUITEB") then
    return not (SUITE_B[word] and count == 1) and ("'%s': Suite B stands by itself"):format(word)
  elseif word:find("^TLS_") then
    return ("'%s': suites of TLS 1.3 are for ciphersuites"):format(word)
  end
end

-- Does a word that adds ciphers ask for DHE by name?
local function names_dhe(word)
  for part in word:gmatch("[^+]+") do
    if part:find("^k?DHE") or part:find("^k?EDH") then return true end
  end
  return false
end

-- A cipher list. `verifies`: nobody must get around it by a cipher that needs no certificate.
local function cipher_list(value, verifies)
  local words = {}
  -- commands and exclusions may follow without a colon
  for i, text in ipairs(names_of(value, ":;, ")) do words[i] = text:gsub("[@!]", ":%0") end
  words = names_of(words, ":")
  for i, word in ipairs(words) do
    local wrong = wrong_word(word, i, #words)
    if wrong then return nil, wrong end
  end
  local dhe
  for _, word in ipairs(words) do
    dhe = dhe or not word:find("^[@!-]") and names_dhe(word)
  end
  if verifies and #words > 0 and not SUITE_B[words[1]] then words[#words + 1] = "!aNULL" end
  local list, reason = as_list(words)
  if list then list.dhe = dhe end
  return list, reason
end

-- Does the context verify its peers?
local function verifies(given)
  if given.role == "server" then return (given.verify_client or "none") ~= "none" end
  return not given.insecure
end

local function ciphers(given, out)
  out.security_level = given.security_level
  if not given.ciphers then return true end
  local list, reason = cipher_list(given.ciphers, verifies(given))
  if not list then return refused("ciphers", reason) end
  out.ciphers = list
  return true
end

-- ---- the others ----

local LISTS = { "ciphersuites", "groups", "signature_algorithms", "client_signature_algorithms" }

local function lists(given, out)
  for _, name in ipairs(LISTS) do
    if given[name] then
      local list, reason = plain_list(given[name])
      if not list then return refused(name, reason) end
      out[name] = list
    end
  end
  return true
end

local RANGES = { security_level = { 0, 5 }, max_send_fragment = { 512, 16384 } }

local function numbers(given, out)
  for name, range in pairs(RANGES) do
    local value = given[name]
    if value and (value < range[1] or value > range[2]) then
      return refused(name, ("must be from %d to %d"):format(range[1], range[2]))
    end
  end
  out.max_send_fragment = given.max_send_fragment
  return true
end

local function options(given, out)
  if not given.options then return true end
  out.options = {}
  for i, name in ipairs(given.options) do
    if name:find("\0", 1, true) then return refused("options", "a name has a NUL byte") end
    out.options[i] = name
  end
  return true
end

-- Commands for lists, whose names are tried too.
local CHECKED = {
  cipherstring = cipher_list,
  ciphersuites = plain_list,
  groups = plain_list,
  curves = plain_list,
  signaturealgorithms = plain_list,
  clientsignaturealgorithms = plain_list,
}

local function conf(given, out)
  if not given.conf then return true end
  out.conf = {}
  for i, pair in ipairs(given.conf) do
    local name, value = pair[1], pair[2]
    if (name .. value):find("\0", 1, true) then return refused("conf", "a NUL byte in " .. name:gsub("%z.*", "")) end
    local setting = { name, value }
    local check = CHECKED[name:lower()]
    if check then
      local list, reason = check(value, verifies(given))
      if not list then return refused("conf", name .. ": " .. reason) end
      setting.list = list
    end
    out.conf[i] = setting
  end
  return true
end

local STEPS = { ciphers, lists, numbers, options, conf }

--- Adds what a context's options say to its settings.
-- @return true; or nil, err
function config.read(given, out)
  for _, step in ipairs(STEPS) do
    local ok, err = step(given, out)
    if not ok then return nil, err end
  end
  return true
end

-- ---- tls.ciphers ----

--- What a cipher list means: suites of TLS 1.3 and others, in the order in which they are preferred.
-- @param value a list as the option takes it, suites of TLS 1.3 among it; nil: what a context has
-- @return a list of ciphers; or nil, err
function config.ciphers(value)
  local suites, others = {}, {}
  for _, name in ipairs(value and names_of(value, ":;, ") or {}) do
    local kind = name:find("^TLS_") and suites or others
    kind[#kind + 1] = name
  end
  local all = value == nil
  local given = { insecure = true, ciphersuites = suites[1] and suites, ciphers = (others[1] or value and not suites[1])
    and others or nil }
  local out = { role = "client", insecure = true }
  local ok, err = config.read(given, out)
  local context
  if ok then context, err = core.context(out) end
  if not context then return nil, err end
  local found = {}
  for _, cipher in ipairs(core.listed_ciphers(context)) do
    if all or (cipher.version == "TLSv1.3" and suites or others)[1] then found[#found + 1] = cipher end
  end
  return found
end

return config
