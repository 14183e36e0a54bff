-- What binds to a connection, and what getters must not tell. See scripts/mutants.lua.

local INFO, KEYING, CERTIFICATES = "spec/info_spec.lua", "spec/keying_spec.lua", "spec/certificates_spec.lua"
local NO_EMS = "gnutls-cli prints what channel_binding tells 1.2, without extended master secret"

return {
  title = "Bindings and getters",
  {
    check = "No keys are exported without extended master secret (RFC 7627)", file = "src/keying.c",
    from = "if (reason == NULL && !is_bound(&f))", to = "if (0)", spec = KEYING, name = NO_EMS,
  },
  {
    check = "tls-exporter needs extended master secret (RFC 9266)", file = "src/keying.c",
    from = "if (!is_bound(f))", to = "if (0)", spec = KEYING, name = NO_EMS,
  },
  {
    check = "tls-unique of a resumed session needs it too", file = "src/keying.c",
    from = "if (f->resumed && !is_bound(f))", to = "if (0)", spec = KEYING, name = NO_EMS,
  },
  {
    check = "tls-exporter is not for renegotiation (RFC 9266)", file = "src/keying.c",
    from = "if (!f->is_13 && (SSL_get_options", to = "if (0 && (SSL_get_options", spec = INFO,
    name = "after the handshake a renegotiation changes all of it, at both ends",
  },
  {
    check = "tls-unique is not for TLS 1.3", file = "src/keying.c",
    from = "if (f->is_13)", to = "if (0)", spec = KEYING,
    name = "channel_binding 1.3: is equal at both ends, and what the RFCs say",
  },
  {
    check = "tls-unique is the server's Finished after a resumption (RFC 5929)", file = "src/keying.c",
    from = "if (c->ctx->server == f->resumed)", to = "if (c->ctx->server)", spec = KEYING,
    name = "gnutls-cli prints what channel_binding tells 1.2",
  },
  {
    check = "tls-server-end-point: SHA-256 for SHA-1 (RFC 5929)", file = "src/keying.c",
    from = "digest == NID_md5 || digest == NID_sha1", to = "digest == NID_md5", spec = KEYING,
    name = "channel_binding tls-server-end-point: SHA-256 where that is SHA-1 or MD5",
  },
  {
    check = "tls-server-end-point: SHA-256 for MD5 (RFC 5929)", file = "src/keying.c",
    from = "digest == NID_md5 || digest == NID_sha1", to = "digest == NID_sha1", spec = KEYING,
    name = "channel_binding tls-server-end-point: SHA-256 where that is SHA-1 or MD5",
  },
  {
    check = "A resumed session's certificate is told only if there is one", file = "src/facts.c",
    from = "return count == 1 ? found : NULL;", to = "return found;", spec = KEYING,
    name = "gnutls-cli prints what channel_binding tells " ..
      "1.3, but not that of a certificate that a resumed session does not tell",
  },
  {
    check = "Nothing is bound or exported before the handshake is done", file = "src/keying.c",
    from = "if (!c->established)", to = "if (0)", spec = KEYING,
    name = "channel_binding is refused before the handshake, and after one that failed",
  },
  {
    check = "A session that is only offered is not told", file = "src/facts.c",
    from = "if (!c->hello_seen && !c->established)", to = "if (0)", spec = CERTIFICATES,
    name = "a resumed session 1.3: on a client, the chain is what the session has kept",
  },
  {
    check = "A client that verifies nothing has no verified chain", file = "src/facts.c",
    from = "SSL_get_verify_mode(c->ssl) != SSL_VERIFY_NONE &&", to = "", spec = CERTIFICATES,
    name = "chains 1.3: a client that verifies nothing sees what came",
  },
  {
    check = "A refused staple leaves no verified chain", file = "src/facts.c",
    from = "c->verify_code == X509_V_OK && SSL", to = "SSL", spec = CERTIFICATES,
    name = "chains 1.3: a staple that is refused leaves no verified chain",
  },
  {
    check = "A refused name leaves no verified chain", file = "src/facts.c",
    from = "if (c->verify_code == X509_V_OK && SSL_get_verify_mode(c->ssl) != SSL_VERIFY_NONE &&", to = "if (1 ||",
    spec = CERTIFICATES, name = "chains 1.3: a name that is refused leaves no verified chain",
  },
  {
    check = "SCTs are not collected before all are there", file = "src/certificates.c",
    from = "(c->ssl != NULL && !c->established)", to = "0", spec = CERTIFICATES,
    name = "scts are complete at the end, however often they are asked for before",
  },
  {
    check = "Nothing is bound in the middle of a renegotiation", file = "src/keying.c",
    from = "if (c->ssl != NULL && !f->is_13 && SSL_in_init(c->ssl))", to = "if (false)", spec = "spec/keying_spec.lua",
    name = "channel_binding is refused while a renegotiation is under way",
  },
}
