-- SPDX-License-Identifier: MIT
-- ssl.x509: certificates in LuaSec's manner. An object's state is the cotls.x509 and how text is given.

local compat = require "cotls.compat"
local core = require "cotls.core"

local luasec = core.luasec

local CLASS = "SSL:Certificate"
local class = luasec.class(CLASS)
local state_of, metatable = class.state, class.metatable
local methods = metatable.__index

local x509 = {}

--- An object for a cotls.x509; nil for nil.
local function push(certificate)
  if certificate == nil then return nil end
  return class.new { certificate = certificate, utf8 = false }
end

--- Reads PEM text; nil where it holds no certificate.
function x509.load(pem)
  if type(pem) ~= "string" then
    error(("bad argument #1 to 'loadcertificate' (string expected, got %s)"):format(type(pem)), 2)
  end
  return push(luasec.read_certificate(pem))
end

function methods.subject(self)
  local s = state_of(self)
  return luasec.name(s.certificate, false, s.utf8)
end

function methods.issuer(self)
  local s = state_of(self)
  return luasec.name(s.certificate, true, s.utf8)
end

function methods.extensions(self)
  local s = state_of(self)
  return luasec.extensions(s.certificate, s.utf8)
end

function methods.notbefore(self)
  return luasec.date(state_of(self).certificate, false)
end

function methods.notafter(self)
  return luasec.date(state_of(self).certificate, true)
end

function methods.validat(self, time)
  return luasec.valid_at(state_of(self).certificate, time)
end

function methods.pem(self)
  return state_of(self).certificate:pem()
end

function methods.pubkey(self)
  return luasec.public_key(state_of(self).certificate)
end

function methods.getsignaturename(self)
  return luasec.signature_name(state_of(self).certificate)
end

--- In hexadecimal digits, an even number of them, as OpenSSL's BN_bn2hex gives it.
function methods.serial(self)
  return luasec.serial(state_of(self).certificate)
end

local DIGESTS = { sha1 = true, sha256 = true, sha512 = true }

function methods.digest(self, name)
  local s = state_of(self)
  name = name == nil and "sha1" or name
  if type(name) ~= "string" then
    error(("bad argument #1 to 'digest' (string expected, got %s)"):format(type(name)), 2)
  end
  if not DIGESTS[name] then return nil, ("digest algorithm not supported (%s)"):format(name) end
  return (s.certificate:fingerprint(name):gsub("[^%x]", ""):lower())
end

--- Does this certificate vouch for the other one, the rest being what lies between?
function methods.issued(self, other, ...)
  local list = { state_of(self).certificate, state_of(other).certificate }
  for i = 1, select("#", ...) do list[i + 2] = state_of((select(i, ...))).certificate end
  return luasec.issued(compat.unpack(list))
end

--- How subject, issuer and extensions give text: "ai5", as it is, or "utf8".
function methods.setencode(self, encoding)
  local s = state_of(self)
  if type(encoding) ~= "string" then
    error(("bad argument #1 to 'setencode' (string expected, got %s)"):format(type(encoding)), 2)
  end
  if encoding:find("^ai5") then
    s.utf8 = false
  elseif encoding:find("^utf8") then
    s.utf8 = true
  else
    return false
  end
  return true
end

function metatable.__tostring(self)
  return "X509 certificate: " .. tostring(state_of(self)):match("0x%x+")
end

-- For the connections; ssl.x509 itself has only load.
package.loaded["cotls.luasec.x509.push"] = push

return x509
