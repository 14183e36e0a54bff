-- Pre-shared keys, and what comes after the handshake. See scripts/mutants.lua.

local PSK, RENEWAL = "spec/psk_spec.lua", "spec/renewal_spec.lua"

return {
  title = "Pre-shared keys and after the handshake",
  {
    check = "A known identity is not passed over for a certificate", file = "src/psk.c",
    from = "is_offered(c) && !choose_suites(c->ssl))", to = "is_offered(c) && !choose_suites)", spec = PSK,
    name = "psk on TLS 1.3 is preferred to a certificate",
  },
  {
    check = "An identity does not end at a NUL on TLS 1.3", file = "src/psk.c",
    from = "identity == NULL || is_tls13(c)", to = "identity == NULL", spec = PSK,
    name = "psk on TLS 1.3 takes identities with NULs for what they are",
  },
  {
    check = "The keys are those of the context that the server name chooses", file = "src/psk.c",
    from = "    if (c->active != c->ctx)", to = "    if (0)", spec = PSK,
    name = "psk on TLS 1.3 the context that the server name chooses counts",
  },
  {
    check = "A ticket of another context gives way to the key behind it", file = "src/psk.c",
    from = "if (n != sizeof c->active->scope ||", to = "if (0 &&", spec = PSK,
    name = "psk on TLS 1.3 a session is not resumed where the keys are others",
  },
  {
    check = "A session is not resumed where the keys are others", file = "lua/cotls/settings.lua",
    from = '"conf", "psk",', to = '"conf",', spec = PSK,
    name = "psk on TLS 1.2 a session is not resumed where the keys are others",
  },
  {
    check = "A server does not take a client's renegotiation under \"allow\"", file = "src/renewal.c",
    from = "    if (client)", to = "    if (1)", spec = RENEWAL,
    name = "renegotiate that the client or the server is not allowed, over a socketpair",
  },
  {
    check = "Nobody without RFC 5746 is asked to renegotiate", file = "src/renewal.c",
    from = "if (SSL_get_secure_renegotiation_support(c->ssl) != 1)", to = "if (0)",
    spec = "spec/renewal_interop_spec.lua", name = "a peer without secure renegotiation is not asked to renegotiate",
  },
  {
    check = "A server that asks for a certificate later knows whom it must come from", file = "src/renewal.c",
    from = "if (!c->active->trusts)", to = "if (0)", spec = RENEWAL,
    name = "request_client_certificate is told its limits, and nothing has happened",
  },
  {
    check = "Data do not kill a renegotiation that meets a write", file = "src/transfer.c",
    from = "            step = cotls_settle(c, s);", to = "            step = STEP_DONE;", spec = RENEWAL,
    name = "renegotiate does not make an error of data that meet a write of its other side",
  },
  {
    check = "One call of OpenSSL's does not receive for as long as a peer sends", file = "src/bio_fd.c",
    from = "c->receives++ >= RECEIVES", to = "false", spec = RENEWAL,
    name = "a flood of key update requests does not hold up an operation that never waits",
  },
}
