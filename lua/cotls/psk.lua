-- SPDX-License-Identifier: MIT
-- The options psk, on_psk and psk_hint: what is asked of identities, keys and hints.

local core = require "cotls.core"

local psk = {}

local refused = core.refused -- option, reason → nil, err

-- OpenSSL's: PSK_MAX_IDENTITY_LEN without the NUL, PSK_MAX_PSK_LEN, PSK_MAX_IDENTITY_LEN
local IDENTITY_MAX, KEY_MAX, HINT_MAX = 255, 512, 256

local function check(identity, key, tls12)
  if #identity < 1 or #identity > IDENTITY_MAX then return "an identity has 1 to " .. IDENTITY_MAX .. " bytes" end
  if #key < 1 or #key > KEY_MAX then return "a key has 1 to " .. KEY_MAX .. " bytes" end
  if tls12 and identity:find("\0", 1, true) then return 'an identity with a NUL needs min_version = "1.3"' end
end

-- Why a server can't give that hint; nil: it can.
local function check_hint(given)
  local hint = given.psk_hint
  if not (given.psk or given.on_psk) then return "needs psk or on_psk" end
  if #hint < 1 or #hint > HINT_MAX then return "a hint has 1 to " .. HINT_MAX .. " bytes" end
  if hint:find("\0", 1, true) then return "a hint has no NUL" end
  if tostring(given.min_version):find("1.3", 1, true) then return "TLS 1.3 has no hints" end
end

--- The settings of a context's pre-shared keys.
-- @return true; or nil, err
function psk.read(given, out)
  local keys, count = {}, 0
  if (given.psk or given.on_psk) and given.verify_client == "require" then
    return refused(given.psk and "psk" or "on_psk",
      'who has the key shows no certificate, and verify_client = "require" wants one')
  end
  if given.psk and given.on_psk and given.role ~= "server" then
    return refused("on_psk", "a client has one identity: not together with psk")
  end
  local reason = given.psk_hint and check_hint(given)
  if reason then return refused("psk_hint", reason) end
  out.on_psk, out.psk_hint = given.on_psk ~= nil or nil, given.psk_hint
  if given.psk or given.on_psk then out.psk_first = given.ciphers == nil end
  if not given.psk then return true end
  local tls12 = not tostring(given.min_version):find("1.3", 1, true)
  for identity, key in pairs(given.psk) do
    reason = check(identity, key, tls12)
    if reason then return refused("psk", reason) end
    keys[identity], count = key, count + 1
  end
  if count == 0 then return refused("psk", "there is no identity") end
  if given.role ~= "server" and count > 1 then return refused("psk", "a client has one identity") end
  out.psk = keys
  return true
end

return psk
