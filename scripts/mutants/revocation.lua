-- The checks of revocation by CRLs. See scripts/mutants.lua.

local forgiven = (...).forgiven
local CRL = "spec/crl_spec.lua"

return {
  title = "Revocation lists",
  forgiven("It is not revoked", "X509_V_ERR_CERT_REVOKED", CRL, "with crl a certificate that is on it is refused"),
  forgiven("A list is there", "X509_V_ERR_UNABLE_TO_GET_CRL", CRL,
    "with crl a certificate whose issuer has no list is refused"),
  forgiven("The list has not expired", "X509_V_ERR_CRL_HAS_EXPIRED", CRL, "with crl a list that has expired is none"),
  forgiven("The list is valid already", "X509_V_ERR_CRL_NOT_YET_VALID", CRL,
    "with crl a list that is not valid yet is none"),
  forgiven("The list's signature", "X509_V_ERR_CRL_SIGNATURE_FAILURE", CRL,
    "with crl a list with a wrong signature is none"),
  {
    check = "crl implies crl_check", file = "lua/cotls/verification.lua",
    from = 'out.crl_check = given.crl_check or "leaf"', to = "out.crl_check = given.crl_check",
    spec = CRL, name = "with crl a certificate that is on it is refused",
  },
  {
    check = 'crl_check = "leaf"', file = "src/verify.c", from = "X509_V_FLAG_CRL_CHECK | (chain",
    to = "(chain", spec = CRL, name = "with crl a certificate that is on it is refused",
  },
  {
    check = 'crl_check = "chain"', file = "src/verify.c", from = "chain ? X509_V_FLAG_CRL_CHECK_ALL : 0",
    to = "chain ? 0 : 0", spec = CRL, name = 'crl_check "chain" refuses a CA that is revoked',
  },
  {
    check = "The lists of the context that the server name chooses", file = "src/names.c",
    from = "SSL_set_SSL_CTX(ssl, ctx) == NULL || !take_parameters(ssl, ctx)", to = "SSL_set_SSL_CTX(ssl, ctx) == NULL",
    spec = CRL, name = "the lists are those of the context that the server name chooses",
  },
  {
    check = "crl_check without any list is refused", file = "lua/cotls/verification.lua",
    from = "elseif given.crl_check and not (out.ca and #out.ca.directories > 0) then", to = "elseif false then",
    spec = CRL, name = "the lists must be somewhere if they are to be checked",
  },
  {
    check = "A session is not resumed under other lists", file = "lua/cotls/settings.lua",
    from = '"ca", "crl", ', to = '"ca", ', spec = CRL, name = "the lists are part of what a session stands for",
  },
}
