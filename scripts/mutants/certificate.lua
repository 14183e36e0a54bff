-- The checks of certificate objects and of what takes them. See scripts/mutants.lua.

local SPEC = "spec/x509_spec.lua"
local CHECKS = "check_host, check_ip, check_email "
local FLAGS = "X509_check_host(cert, name, n, COTLS_NAME_FLAGS, NULL)"
local IS_HOST = "lua_pushboolean(L, is_host(name, n) &&"

return {
  title = "Certificate objects",
  {
    check = "check_host: the subject's CN doesn't count", file = "src/x509.c", from = FLAGS,
    to = "X509_check_host(cert, name, n, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS, NULL)",
    spec = SPEC, name = CHECKS .. "never fall back to the subject",
  },
  {
    check = "check_host: a wildcard is a whole label", file = "src/x509.c", from = FLAGS,
    to = "X509_check_host(cert, name, n, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT, NULL)",
    spec = SPEC, name = CHECKS .. "say whose it is",
  },
  {
    check = "check_host: what is no name belongs to nobody", file = "src/x509.c", from = IS_HOST,
    to = "lua_pushboolean(L, (true || is_host(name, n)) &&",
    spec = SPEC, name = CHECKS .. "say no to what is no name",
  },
  {
    check = "check_ip: nothing follows the address", file = "src/x509.c", from = "size > 0 && strlen(text) == n &&",
    to = "size > 0 &&", spec = SPEC, name = CHECKS .. "say no to what is no name",
  },
  {
    check = "check_email: the subject's address doesn't count", file = "src/x509.c",
    from = "X509_check_email(cert, address, n, COTLS_NAME_FLAGS)", to = "X509_check_email(cert, address, n, 0)",
    spec = SPEC, name = CHECKS .. "never fall back to the subject",
  },
  {
    check = "check_email: no NUL in the address", file = "src/x509.c", from = "n > 0 && strlen(address) == n;",
    to = "n > 0;", spec = SPEC, name = CHECKS .. "say no to what is no name",
  },
  {
    check = "is_ca: by basic constraints only", file = "src/extension.c",
    from = "X509_check_ca(cotls_check_x509(L)) == 1", to = "X509_check_ca(cotls_check_x509(L)) > 0",
    spec = SPEC, name = "is_ca and purposes need more than a guess for a CA",
  },
  {
    check = "purposes: a malformed extension allows nothing", file = "src/extension.c",
    from = "if (X509_get_ext_by_NID(cert, NID_ext_key_usage, -1) < 0) {", to = "if (usage == NULL) {",
    spec = SPEC, name = "is_ca and purposes tell what a certificate is for",
  },
  {
    check = "Equal certificates are equal in every byte", file = "src/x509.c",
    from = "equal = an == bn && memcmp(first, second, an) == 0;", to = "equal = an == bn;",
    spec = SPEC, name = "a certificate object equals another of the same DER",
  },
  {
    check = "A certificate with trust settings is no plain one", file = "src/x509.c",
    from = "PEM_read_bio_X509(bio", to = "PEM_read_bio_X509_AUX(bio",
    spec = SPEC, name = "tls.x509 doesn't read a trusted certificate, whose settings it would lose",
  },
  {
    check = "A certificate object is no key", file = "lua/cotls/options.lua",
    from = "local function is_file(value) return file.is_bytes(value)",
    to = "local function is_file(value) return file.is(value)",
    spec = SPEC, name = "tls.x509 is what an option takes for a certificate, and not for a key",
  },
}
