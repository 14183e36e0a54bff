-- The checks of hooks: who is not answered well refuses. See scripts/mutants.lua.

local WAIT = "spec/hook_wait_spec.lua"
local SCOPE = "spec/hook_scope_spec.lua"
local PSK = "spec/psk_hook_spec.lua"
local CLIENT = "spec/psk_client_spec.lua"

local function wait(hook, what)
  return hook .. " on TLS 1.3 " .. what
end

local BY_TYPE = "refuses by a wrong type, and by nil unless that is an answer"
local OBEYED = "a hook that waits, on TLS 1.3 on_verify of a server is obeyed"
local ANEW = "a handshake after the first one asks on_verify anew on TLS "

return {
  title = "Hooks",
  {
    check = "A function that fails has not answered", file = "src/answer.c",
    from = "w->ok = !failed && expected == NULL && !a->refused;", to = "w->ok = expected == NULL;",
    spec = "spec/hook_spec.lua",
    name = OBEYED,
  },
  {
    check = "An answer of another type is none", file = "src/answer.c",
    from = "w->ok = !failed && expected == NULL && !a->refused;", to = "w->ok = !failed;", spec = "spec/hook_spec.lua",
    name = OBEYED,
  },
  {
    check = "A server's on_verify is obeyed", file = "src/hook.c", from = "return good && ok;", to = "return ok;",
    spec = "spec/hook_spec.lua",
    name = OBEYED,
  },
  {
    check = "A server's on_verify waits in its job", file = "src/hook.c",
    from = "SSL_is_server(ssl) ? NULL : &later) != NULL;", to = "&later) != NULL;",
    spec = "spec/hook_spec.lua",
    name = OBEYED,
  },
  {
    check = "on_verify accepts no chain that was refused", file = "src/hook.c",
    from = "if (good && !ok && c->active->verify_may_accept) {", to = "if (good && !ok) {", spec = "spec/hook_spec.lua",
    name = "a hook that waits, on TLS 1.3 on_verify of a client makes it stricter, and laxer only if that is said",
  },
  {
    check = "A chain that was refused stays so when a client is retried", file = "src/hook.c",
    from = "return a->verify_ok;", to = "return true;", spec = "spec/hook_spec.lua",
    name = "a hook that waits, on TLS 1.3 on_verify of a client makes it stricter, and laxer only if that is said",
  },
  {
    check = "Another certificate's answer is forgotten on TLS 1.3", file = "src/ask.c",
    from = "c->asks->job == NULL && !SSL_in_init(c->ssl))", to = "c->asks->job == NULL && 0)",
    spec = SCOPE,
    name = ANEW .. "1.3, while data go by",
  },
  {
    check = "on_alpn gives one of the offered names", file = "src/answer.c",
    from = "if (w->question[at] == n && memcmp(w->question + at + 1, text, n) == 0)", to = "if (true)",
    spec = WAIT, name = wait("on_alpn of a server", BY_TYPE),
  },
  {
    check = "on_alpn that refuses ends the handshake", file = "src/hook.c",
    from = "cotls_ask(c, HOOK_ALPN, in, inlen, NULL);",
    to = "cotls_ask(c, HOOK_ALPN, in, inlen, NULL); if (w == NULL) return SSL_TLSEXT_ERR_NOACK;",
    spec = "spec/hook_spec.lua",
    name = "a hook that waits, on TLS 1.3 on_alpn chooses, refuses",
  },
  {
    check = "on_server_name that refuses ends the handshake", file = "src/hook.c",
    from = "*alert = SSL_AD_UNRECOGNIZED_NAME;", to = "return SSL_TLSEXT_ERR_NOACK;", spec = "spec/hook_spec.lua",
    name = "a hook that waits, on TLS 1.3 on_server_name is told the name, refuses",
  },
  {
    check = "A refusal that OpenSSL does not hear fails the operation", file = "src/ask.c",
    from = "if (c->asks->refused && s->step", to = "if (0 && s->step", spec = "spec/keylog_spec.lua",
    name = "the secrets of TLS 1.3 refuse the operation where the hook fails, and wait where it waits",
  },
  {
    check = "Who sets a context and then refuses has refused", file = "src/names.c",
    from = "SSL_set_cert_cb(ssl, cotls_hook_certificate, NULL);", to = "", spec = SCOPE,
    name = "the hooks of names and of a context that a hook sets are asked; who sets one and then refuses has refused",
  },
  {
    check = "An answer that comes too late is none", file = "src/drive.c", from = "return in_time(L, c, s, results);",
    to = "return true;", spec = "spec/hook_spec.lua",
    name = "a hook that takes longer than handshake_timeout has accepted nothing",
  },
  {
    check = "A hook that needs a job is refused where there are none", file = "src/answer.c",
    from = "if (!check_pause(L, x))", to = "if (0)", spec = SCOPE,
    name = "hooks without jobs are refused by name, but for those that OpenSSL retries or that are asked in advance",
  },
  {
    check = "Of two hooks that fail the first counts", file = "src/answer.c",
    from = "if (c->asks->refused) /* the first one counts */", to = "if (false)", spec = "spec/hook_mix_spec.lua",
    name = "two hooks on TLS 1.3 of which one is told and fails: it does not hide the one that has refused",
  },
  {
    check = "A closed connection sends nothing while its job ends", file = "src/ask.c", from = "c->dead = true;",
    to = "", spec = WAIT,
    name = wait("on_alpn of a server", "may be closed by another coroutine meanwhile, and nothing is sent any more"),
  },
  {
    check = "A renegotiation brings no other context", file = "src/change.c",
    from = "if (c->ctx->server && (c->hello_seen || c->established))", to = "if (false)",
    spec = "spec/hook_fault_spec.lua", name = "set_context takes no other one in a renegotiation",
  },
  {
    check = "on_psk that refuses ends the handshake", file = "src/psk.c",
    from = "return c->asks == NULL || !c->asks->refused;", to = "return true;", spec = PSK,
    name = "on_psk on TLS 1.3 an error and a wrong answer refuse",
  },
  {
    check = "on_psk is not asked about tickets", file = "src/psk.c", from = "is_ticket(c, identity, n))", to = "0)",
    spec = PSK, name = "on_psk on TLS 1.3 is not asked about tickets of ours",
  },
  {
    check = "A client's on_psk that refuses ends the handshake", file = "src/psk.c",
    from = "return c->asks == NULL || !(c->asks->refused || c->asks->cancelled);", to = "return true;", spec = CLIENT,
    name = "a client's on_psk on TLS 1.3 an error refuses, and is told",
  },
  {
    check = "What a client's on_psk gives has the lengths that OpenSSL takes", file = "src/answer.c",
    from = "if (!is_long(L, first, PSK_MAX_IDENTITY_LEN - 1))", to = "if (lua_type(L, first) != LUA_TSTRING)",
    spec = CLIENT, name = "a client's on_psk on TLS 1.3 tells by name what is wrong with an answer",
  },
  {
    check = "A client's identity with a NUL is for TLS 1.3 alone", file = "src/answer.c",
    from = "SSL_get_min_proto_version(c->ssl) < TLS1_3_VERSION &&", to = "0 &&", spec = CLIENT,
    name = "a client's on_psk may give an identity with a NUL on TLS 1.3 alone",
  },
  {
    check = "A client's on_psk is asked before OpenSSL is given early data", file = "src/ask.c",
    from = "if (!cotls_prefetch_psk(c))", to = "if (0)", spec = CLIENT,
    name = "a client's on_psk may outlast the timeout of write_early, which is called again with something else",
  },
  {
    check = "Early data wait for on_psk", file = "src/early.c", from = "if (step != STEP_ASK)", to = "if (1)",
    spec = CLIENT, name = "a client's on_psk goes before early data, all of which are sent",
  },
  {
    check = "A session knows the identity that it was made by", file = "src/session.c",
    from = "SSL_SESSION_set1_ticket_appdata(session, text, MARK + n)",
    to = "SSL_SESSION_set1_ticket_appdata(session, text, MARK)", spec = CLIENT,
    name = "a client's on_psk on TLS 1.3 a session tells the identity of the handshake that made it",
  },
  {
    check = "A key's identity that finds no memory fails the handshake", file = "src/psk.c",
    from = "c->psk_lost = c->psk_identity == NULL;", to = "", spec = "spec/faults_spec.lua",
    name = "with a fault a key that finds no memory is not passed over in silence",
  },
  {
    check = "A hint that nobody would be given is refused", file = "lua/cotls/psk.lua",
    from = "if reason then return refused(\"psk_hint\", reason) end", to = "", spec = CLIENT,
    name = "psk_hint is refused where it can't be right",
  },
}
