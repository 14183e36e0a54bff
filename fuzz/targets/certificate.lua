-- SPDX-License-Identifier: MIT
-- Certificates, keys and whatever else comes from files, in all forms; the first byte says as what.

package.path = "./lua/?.lua;./lua/?/init.lua;./?.lua;" .. package.path
local tls = require "cotls"
local core = require "cotls.core"
local peers = require "fuzz.peers"

local getters = core.methods "cotls.x509"
local WITH_ARGUMENT = { check_host = "a.example", check_ip = "127.0.0.1", check_email = "a@b.example" }

local function ask(cert)
  for name, getter in pairs(getters) do peers.judge(getter(cert, WITH_ARGUMENT[name])) end
  assert(tls.x509 { data = cert:der() } == cert and tls.x509(cert:pem()) == cert, "not what it was read from")
  tostring(cert)
end

local function made(options)
  return function(data)
    local filled = {}
    for name, value in pairs(options) do filled[name] = value == "data" and { data = data } or value end
    local ctx, err = peers.judge(tls.context(filled))
    if not ctx and err.code ~= "config" then error("refused as " .. err.code) end
  end
end

local leaf = peers.leaf
local kinds = {
  function(data)
    local cert = peers.judge(tls.x509 { data = data })
    if cert then ask(cert) end
  end,
  made { role = "server", certificate = "data", key = leaf.key },
  made { role = "server", certificate = leaf.certificate, key = "data", password = "fuzz" },
  made { role = "server", certificate = "data", key = "data" },
  made { role = "server", pkcs12 = "data", password = "fuzz" },
  made { ca = "data" },
  made { ca = leaf.certificate, crl = "data" },
  made {
    role = "server",
    credentials = { { certificate = leaf.certificate, key = leaf.key, ocsp_response = "data" } },
  },
}

return function(data)
  local kind = peers.choose(kinds, data:byte())
  kind(data:sub(2))
end
