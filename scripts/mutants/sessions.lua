-- Server names, sessions, tickets and early data. See scripts/mutants.lua.

local NAMES, SWITCH, HELLO = "spec/names_spec.lua", "spec/names_switch_spec.lua", "spec/hello_spec.lua"
local SESSION, CACHE, TICKET = "spec/session_spec.lua", "spec/session_cache_spec.lua", "spec/ticket_spec.lua"
local EARLY, PROCESSES = "spec/early_spec.lua", "spec/processes_spec.lua"

-- A line of switch_to in src/names.c.
local function switched(check, from, to, setting)
  return {
    check = "The context that the name chose: " .. check, file = "src/names.c", from = from, to = to, spec = SWITCH,
    name = "of the context that the server name has chosen " .. setting .. " counts, and not the first one's",
  }
end

local AROUND = " is no way around the certificate that another demands"

return {
  title = "Names, sessions, early data",
  {
    check = "strict_names", file = "src/names.c", from = "x == NULL && list->strict", to = "x == NULL && false",
    spec = NAMES, name = "names refuse others with unrecognized_name, strict by option",
  },
  {
    check = "A second ClientHello asks for the same name", file = "src/names.c",
    from = "if (c->chosen != NULL && x != c->chosen)", to = "if (false)", spec = HELLO,
    name = "after a HelloRetryRequest another name is refused, whichever context it was that answered the first",
  },
  {
    check = "Also where the first name has chosen a context", file = "src/names.c",
    from = "SSL_CTX_set_client_hello_cb(list->names[i].context->ssl_ctx, cotls_hook_client_hello, NULL);",
    to = "(void)0;", spec = HELLO,
    name = "after a HelloRetryRequest another name is refused, whichever context it was that answered the first",
  },
  switched("whether clients need a certificate", "SSL_set_verify(ssl, SSL_CTX_get_verify_mode(ctx), NULL);", "(void)0;",
    "verify_client on 1.3"),
  switched("how it is verified", " || !take_parameters(ssl, ctx)", " || (false && !take_parameters(ssl, ctx))",
    "crl and crl_check"),
  switched("what the first one sets is taken back", "X509_VP_FLAG_OVERWRITE | X509_VP_FLAG_RESET_FLAGS",
    "X509_VP_FLAG_OVERWRITE", "crl and crl_check"),
  switched("min_version", "SSL_set_min_proto_version(ssl, SSL_CTX_get_min_proto_version(ctx))", "true", "min_version"),
  switched("max_version", "SSL_set_max_proto_version(ssl, SSL_CTX_get_max_proto_version(ctx))", "true", "max_version"),
  switched("options", "SSL_set_options(ssl, SSL_CTX_get_options(ctx));", "(void)0;", "tickets = false"),
  switched("options that it does not have", "SSL_clear_options(ssl, SSL_get_options(ssl) & ~SSL_CTX_get_options(ctx));",
    "(void)0;", "tickets = false"),
  switched("max_early_data", "SSL_set_max_early_data(ssl, SSL_CTX_get_max_early_data(ctx));", "(void)0;",
    "max_early_data"),
  {
    check = "No session around another context's client certificate", file = "src/context.c",
    from = "SSL_CTX_set_session_id_context(x->ssl_ctx, x->scope, sizeof x->scope)",
    to = "(memset(x->scope, 0, sizeof x->scope), SSL_CTX_set_session_id_context(x->ssl_ctx, x->scope, 1))",
    spec = SWITCH, name = "a session made under one name on 1.3 by ticket" .. AROUND,
  },
  {
    check = "Nor by its id, on TLS 1.2", file = "src/context.c",
    from = "SSL_CTX_set_session_id_context(x->ssl_ctx, x->scope, sizeof x->scope)",
    to = "(memset(x->scope, 0, sizeof x->scope), SSL_CTX_set_session_id_context(x->ssl_ctx, x->scope, 1))",
    spec = SWITCH, name = "a session made under one name on 1.2 by id" .. AROUND,
  },
  {
    check = "Settings keep sessions apart", file = "lua/cotls/settings.lua",
    from = "out.session_scope = table.concat(parts)", to = 'out.session_scope = ""', spec = TICKET,
    name = "ticket keys on TLS 1.3 do not open what was sealed for other settings",
  },
  {
    check = "The identity keeps sessions apart", file = "src/context.c",
    from = "EVP_DigestUpdate(md, subject, (size_t)n)", to = "subject != NULL", spec = SESSION,
    name = "a session of TLS 1.3 is not offered by another identity",
  },
  {
    check = "A client offers a session only where the same is verified", file = "src/session.c",
    from = "memcmp(data, digest, sizeof digest) != 0", to = "false", spec = SESSION,
    name = "a session is not offered where this differs: insecure",
  },
  {
    check = "The names to verify are part of that", file = "src/session.c", from = "{c->names, c->names_len}",
    to = "{NULL, 0}", spec = SESSION,
    name = "a session of TLS 1.3 is not offered for other names, or other TLSA records",
  },
  {
    check = "TLSA records are", file = "src/session.c", from = "{(const char *)c->dane, c->dane_len}",
    to = "{NULL, 0}", spec = SESSION,
    name = "a session of TLS 1.3 is not offered for other names, or other TLSA records",
  },
  {
    check = "A session that is first asked for after close stands for it too", file = "src/session.c",
    from = "else if (!c->ctx->server)", to = "else if (c->ssl != NULL && !c->ctx->server)", spec = SESSION,
    name = "a session of TLS 1.3 stands for what was verified if it is first asked for after close",
  },
  {
    check = "A ticket has an end", file = "src/session.c", from = "(unsigned long)(now - made) < lifetime(session)",
    to = "true", spec = TICKET, name = "session_timeout ends tickets and kept sessions",
  },
  {
    check = "resume: a ticket of TLS 1.3 is used once", file = "src/session_cache.c",
    from = "return SSL_SESSION_get_protocol_version(session) >= TLS1_3_VERSION;", to = "return session == NULL;",
    spec = CACHE, name = "a ticket of TLS 1.3 is used once, also by connections at the same time",
  },
  {
    check = "resume: by the server name", file = "src/session.c", from = "{sni, sni != NULL ? strlen(sni) : 0}",
    to = "{sni, 0}", spec = CACHE,
    name = "resume = true on TLS 1.3 keeps apart names, protocols, names to verify and contexts",
  },
  {
    check = "resume: by the address", file = "src/session.c", from = "peer = cotls_peer(c);",
    to = 'peer = (struct cotls_text){"", 0};', spec = CACHE,
    name = "resume = true on TLS 1.3 keeps apart addresses and ports",
  },
  {
    check = "resume: nothing after a handshake that failed", file = "src/session.c",
    from = "if (c->remembers && c->offered && c->ctx->cache != NULL)", to = "if (c->ssl == NULL)", spec = CACHE,
    name = "resume = true on TLS 1.3 forgets a server's sessions when a handshake that offers one fails",
  },
  {
    check = "Early data is accepted once", file = "src/ticket.c",
    from = "if (max == 0)", to = "SSL_CTX_set_options(x->ssl_ctx, SSL_OP_NO_ANTI_REPLAY);\n    if (max == 0)",
    spec = PROCESSES,
    name = "a replayed ticket with early data is never accepted twice, at the same process nor at another that " ..
      "shares keys",
  },
  {
    check = "max_early_data without a place to see a replay", file = "lua/cotls/settings.lua",
    from = "(given.session_cache == false or given.session_cache == 0)", to = "false", spec = TICKET,
    name = "options of sessions are refused by name",
  },
  {
    check = "Early data is no more than max_early_data", file = "src/ticket.c",
    from = "SSL_CTX_set_recv_max_early_data(x->ssl_ctx, max)",
    to = "SSL_CTX_set_recv_max_early_data(x->ssl_ctx, 100000)", spec = EARLY,
    name = "early data of more than the server allows is refused by an alert",
  },
  {
    check = "No older version after early data (RFC 8446 appendix D.3)", file = "src/connection.c",
    from = "if (cotls_early_downgraded(c) || ", to = "if (", spec = EARLY,
    name = "early data fails the handshake with a server that has TLS 1.2 only now, and the next one is a full one",
  },
  {
    check = "Early data is not for another server name", file = "src/early.c",
    from = "return name == NULL || (sni != NULL && strcmp(name, sni) == 0);", to = "return name != sni;", spec = EARLY,
    name = "early data is not sent where the server name or the protocol is another",
  },
}
