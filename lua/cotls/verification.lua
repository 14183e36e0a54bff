-- SPDX-License-Identifier: MIT
-- The options that say whom to believe: trusted CAs, revocation, pins, the limits of a chain, TLSA records.

local compat = require "cotls.compat"
local core = require "cotls.core"
local file = require "cotls.file"

local verification = {}

local refused = core.refused -- option, reason → nil, err

-- ---- trust ----

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

local function asks_clients(given)
  return given.verify_client ~= nil and given.verify_client ~= "none"
end

function verification.trust(given, out)
  local reason
  if given.ca then
    out.ca, reason = read_ca(given.ca)
    if not out.ca then return refused("ca", reason) end
    out.ca.client_ca = given.role == "server" or nil
  elseif given.role ~= "server" and not given.insecure then
    out.ca = { files = {}, directories = {}, system = true }
  elseif asks_clients(given) then
    return refused("verify_client", "needs ca: whom a client's certificate must come from")
  end
  return true
end

-- ---- what else a chain must be ----

-- Why no certificate is verified, if so. A server with ca may ask for one later, whatever verify_client says.
local function verifies_nothing(given)
  if given.role == "server" then return not given.ca and "nothing is verified: there is no ca" end
  return given.insecure and "nothing is verified: the context is insecure"
end

-- A pin as the digest that it stands for, RFC 4648 section 4.
local function read_pin(pin)
  local text = pin:match("^sha256/([%w+/]+)=$")
  if not text or #text ~= 43 then return nil, "a pin is \"sha256/\" and the base64 of a key's digest" end
  local bits, value, bytes = 0, 0, {}
  for char in text:gmatch(".") do
    local alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    value, bits = value * 64 + alphabet:find(char, 1, true) - 1, bits + 6
    if bits >= 8 then
      bits = bits - 8
      local rest = value % 2 ^ bits
      bytes[#bytes + 1] = string.char((value - rest) / 2 ^ bits)
      value = rest
    end
  end
  if value ~= 0 then return nil, "a pin ends in the middle of a byte" end
  return table.concat(bytes)
end

local function read_pins(pins)
  local digests = {}
  for i, pin in ipairs(type(pins) == "string" and { pins } or pins) do
    local reason
    digests[i], reason = read_pin(pin)
    if not digests[i] then return nil, reason end
  end
  table.sort(digests)
  return table.concat(digests)
end

local function revocation(given, out)
  local reason
  out.crl_check = given.crl_check
  if given.crl then
    out.crl, reason = file.read_all(given.crl)
    if not out.crl then return refused("crl", reason) end
    out.crl_check = given.crl_check or "leaf"
  elseif given.crl_check and not (out.ca and #out.ca.directories > 0) then
    return refused("crl_check", "there is nothing to check by: give crl, or in ca a directory with CRLs by hash (.r0)")
  end
  return true
end

--- What a chain must be beside trusted; after `trust`.
function verification.demands(given, out)
  local nothing = verifies_nothing(given)
  for _, name in ipairs { "crl", "crl_check", "verify_depth", "purpose", "partial_chain", "pins" } do
    if given[name] and nothing then return refused(name, nothing) end
  end
  out.partial_chain = given.partial_chain or nil
  if given.pins then
    local reason
    out.pins, reason = read_pins(given.pins)
    if not out.pins then return refused("pins", reason) end
  end
  return revocation(given, out)
end

-- ---- TLSA records ----

--- Are these TLSA records? (RFC 6698 section 2.1)
function verification.are_records(value)
  local what = "a list of { usage =, selector =, matching_type = (0 to 255), data = a string }"
  local function is_byte(n) return compat.math_type(n) == "integer" and n >= 0 and n <= 255 end
  if type(value) ~= "table" or #value == 0 then return false, what end
  for _, one in ipairs(value) do
    if type(one) ~= "table" or type(one.data) ~= "string" then return false, what end
    if not (is_byte(one.usage) and is_byte(one.selector) and is_byte(one.matching_type)) then return false, what end
  end
  return true
end

--- The records as one string, the same for the same set of them.
function verification.dane(given, out)
  if not given.dane then return true end
  local records = {}
  for i, one in ipairs(given.dane) do
    records[i] = string.char(one.usage, one.selector, one.matching_type) .. compat.sized(one.data, 4)
  end
  table.sort(records)
  out.dane = table.concat(records)
  return true
end

return verification
