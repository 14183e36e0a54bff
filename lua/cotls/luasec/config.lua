-- SPDX-License-Identifier: MIT
-- ssl.config: what can be asked for.

local core = require "cotls.core"

local curves = core.luasec.curves()
for _, name in ipairs { "P-256", "P-384", "P-521", "X25519", "X448" } do curves[name] = true end

return {
  options = core.luasec.options(),
  protocols = { tlsv1 = true, tlsv1_1 = true, tlsv1_2 = true, tlsv1_3 = true },
  algorithms = { ec = true },
  curves = curves,
  capabilities = {
    alpn = true,
    curves_list = true,
    ecdh_auto = true,
    psk = true,
    dane = { no_ee_namechecks = true },
    ignore_unexpected_eof = true,
  },
}
