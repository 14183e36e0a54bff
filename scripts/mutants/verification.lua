-- The checks of a peer's certificate. See scripts/mutants.lua.

local forgiven = (...).forgiven
local CHAIN, DANE, NAME = "spec/chain_spec.lua", "spec/dane_spec.lua", "spec/verify_spec.lua"

return {
  title = "The peer's certificate",
  forgiven("The issuer is known, and the chain complete", "X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY", CHAIN,
    "a chain that is not complete is refused"),
  forgiven("A CA that is only sent is not trusted", "X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN", CHAIN,
    "a chain to a root that is sent but not trusted is refused"),
  forgiven("A certificate does not vouch for itself", "X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT", CHAIN,
    "a chain of a certificate that signs itself is refused, unless it is trusted"),
  forgiven("A chain ends at a root, unless partial_chain", "X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT", CHAIN,
    "partial_chain lets a chain end at a CA that doesn't sign itself"),
  forgiven("Signatures", "X509_V_ERR_CERT_SIGNATURE_FAILURE", CHAIN, "a chain with a wrong signature is refused"),
  forgiven("It has not expired", "X509_V_ERR_CERT_HAS_EXPIRED", CHAIN,
    "the dates: a certificate that has expired is refused"),
  forgiven("No CA of it has expired", "X509_V_ERR_CERT_HAS_EXPIRED", CHAIN,
    "the dates: a CA in between that has expired, or is not valid yet, is refused"),
  forgiven("It is valid already", "X509_V_ERR_CERT_NOT_YET_VALID", CHAIN,
    "the dates: a certificate that is not valid yet is refused"),
  forgiven("Only CAs issue", "X509_V_ERR_INVALID_CA", CHAIN,
    "a CA that is none is refused: a certificate with CA:FALSE issues nothing"),
  forgiven("A CA's path length", "X509_V_ERR_PATH_LENGTH_EXCEEDED", CHAIN, "a CA beyond a path length is refused"),
  forgiven("The purpose", "X509_V_ERR_INVALID_PURPOSE", CHAIN,
    "the purpose: a server's certificate is no client's, and a client's no server's"),
  {
    check = "purpose", file = "src/verify.c", from = "X509_PURPOSE_get_id(X509_PURPOSE_get0(index))",
    to = "X509_PURPOSE_ANY", spec = CHAIN, name = "the purpose: another one may be asked for",
  },
  forgiven("The chain is not too long", "X509_V_ERR_CERT_CHAIN_TOO_LONG", CHAIN,
    "verify_depth refuses more of them"),
  {
    check = "verify_depth", file = "src/verify.c", from = "X509_VERIFY_PARAM_set_depth(param_of(x), (int)depth)",
    to = "X509_VERIFY_PARAM_set_depth(param_of(x), MAX_DEPTH)", spec = CHAIN,
    name = "verify_depth refuses more of them",
  },
  forgiven("The key is strong enough for security_level", "X509_V_ERR_EE_KEY_TOO_SMALL", CHAIN,
    "keys and digests under the security level: a certificate with a weak key is refused"),
  forgiven("CAs' keys are strong enough", "X509_V_ERR_CA_KEY_TOO_SMALL", CHAIN,
    "keys and digests under the security level: a CA with a weak key is refused"),
  forgiven("Signatures' digests are strong enough", "X509_V_ERR_CA_MD_TOO_WEAK", CHAIN,
    "keys and digests under the security level: a CA's weak signature is refused"),
  {
    check = "Clients verify unless told otherwise", file = "src/context.c",
    from = "SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);", to = "SSL_CTX_set_verify(ctx, SSL_VERIFY_NONE, NULL);",
    spec = CHAIN, name = "a chain to an unknown CA is refused",
  },
  {
    check = "A server that requires a certificate refuses who has none", file = "src/verify.c",
    from = "SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT", to = "SSL_VERIFY_PEER",
    spec = "spec/client_certificate_spec.lua", name = "a client without a certificate is refused where one is required",
  },
  {
    check = "A server that takes a certificate judges it", file = "src/verify.c",
    from = '{"optional", SSL_VERIFY_PEER}', to = '{"optional", SSL_VERIFY_NONE}',
    spec = "spec/client_certificate_spec.lua", name = "a client with a bad certificate is refused where one is taken",
  },
  {
    check = "The name is the certificate's", file = "src/verify.c",
    from = "X509_check_host(leaf, name, strlen(name), COTLS_NAME_FLAGS, NULL)", to = "1",
    spec = NAME, name = "the name: matches in any case, and with a trailing dot",
  },
  {
    check = "The address is the certificate's", file = "src/verify.c",
    from = "X509_check_ip(leaf, ASN1_STRING_get0_data(ip), (size_t)ASN1_STRING_length(ip), 0)", to = "1",
    spec = NAME, name = "the name: an address is looked for in the SAN's addresses only",
  },
  {
    check = "A client without a name to check, made for a PSK, takes no certificate", file = "src/verify.c",
    from = "return c->active->verifies ? X509_V_ERR_HOSTNAME_MISMATCH : X509_V_OK;", to = "return X509_V_OK;",
    spec = "spec/psk_spec.lua",
    name = "psk on TLS 1.3 a server that shows a certificate instead is verified, and not without a name",
  },
  {
    check = "The subject's CN is no name", file = "src/parts.h", from = "X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | ",
    to = "", spec = NAME, name = "the name: is looked for in the SAN only: a CN alone is no name",
  },
  {
    check = "A wildcard is a whole label", file = "src/parts.h", from = " | X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS",
    to = "", spec = NAME, name = "the name: a wildcard stands for one whole label, the first",
  },
  {
    check = "pins", file = "src/verify.c", from = "return X509_V_ERR_APPLICATION_VERIFICATION;",
    to = "return X509_V_OK;", spec = "spec/pins_spec.lua", name = "pins refuse a chain that has none of the keys",
  },
  {
    check = "pins of the context that the server name chooses", file = "src/verify.c",
    from = "if (is_pinned(c->active, sk_X509_value(chain, i)))",
    to = "if (is_pinned(c->ctx, sk_X509_value(chain, i)))", spec = "spec/pins_spec.lua",
    name = "pins are those of the context that the server name chooses",
  },
  {
    check = "pins are looked for in the verified chain only", file = "src/verify.c",
    from = "const STACK_OF(X509) *chain = X509_STORE_CTX_get0_chain(store);",
    to = "const STACK_OF(X509) *chain = X509_STORE_CTX_get0_untrusted(store);", spec = "spec/pins_spec.lua",
    name = "pins are of the verified chain: what is only sent beside it doesn't count",
  },
  {
    check = "Options that could not take effect are refused", file = "lua/cotls/verification.lua",
    from = "if given[name] and nothing then", to = "if false then", spec = "spec/client_certificate_spec.lua",
    name = "the options of verification on a server that verifies nobody are refused by name",
  },
  {
    check = "A session is not resumed under other pins", file = "lua/cotls/settings.lua",
    from = '"partial_chain", "pins",', to = '"partial_chain",', spec = "spec/pins_spec.lua",
    name = "pins are part of what a session stands for",
  },
  forgiven("TLSA: one of the records must match", "X509_V_ERR_DANE_NO_MATCH", DANE,
    "a TLSA record 3 1 1 matches the server's certificate, and needs no CA"),
  {
    check = "TLSA: names count for all usages but DANE-EE(3)", file = "src/dane.c",
    from = "read_record(c->dane_match).usage == 3", to = "read_record(c->dane_match).usage >= 2",
    spec = DANE, name = "the names count for the other usages, and so do dates",
  },
  {
    check = "TLSA: without a record that can be used nothing is left to verify by", file = "src/dane.c",
    from = "if (add_records(c) == 0) {", to = "if (add_records(c) < 0) {", spec = DANE,
    name = "of several records that can't be used only, nothing is left to verify by: refused, by name",
  },
  {
    check = "TLSA: a context that verifies nothing refuses them", file = "src/dane.c", from = "if (!c->ctx->verifies)",
    to = "if (false)", spec = DANE, name = "the option dane is for clients that verify",
  },
  {
    check = "TLSA: a session is not resumed under other records", file = "src/session.c",
    from = "{(const char *)c->dane, c->dane_len}", to = "{NULL, 0}", spec = DANE,
    name = "the option dane is part of what a session stands for",
  },
}
