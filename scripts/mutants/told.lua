-- Sessions that are kept elsewhere, and what is told afterwards: secrets, messages. See scripts/mutants.lua.

local STORE, KEYLOG, TRACE = "spec/session_store_spec.lua", "spec/keylog_spec.lua", "spec/trace_spec.lua"

return {
  title = "Sessions kept elsewhere, secrets, traces",
  {
    check = "A store's session is that of the id", file = "src/session.c",
    from = "own == n && memcmp(is, id, n) == 0", to = "is != id", spec = STORE,
    name = "a store of sessions, on TLS 1.2 resumes nothing but the session of that id",
  },
  {
    check = "A store's session has nothing behind it", file = "src/session.c",
    from = "if (session != NULL && end == data + size && own", to = "if (session != NULL && own", spec = STORE,
    name = "a store of sessions, on TLS 1.3 resumes nothing that is damaged",
  },
  {
    check = "on_session_get with early data needs session_get_takes", file = "lua/cotls/settings.lua",
    from = "and not given.session_get_takes then", to = "and false then", spec = STORE,
    name = "early data and a store go together only where the store forgets what it gives",
  },
  {
    check = "With early data a session is not taken from the own cache", file = "src/answer.c",
    from = "x->takes = SSL_CTX_get_max_early_data(x->ssl_ctx) > 0;", to = "x->takes = false;", spec = STORE,
    name = "early data and a store is accepted once, whichever of two servers is asked first and second",
  },
  {
    check = "Nor where the server name chooses the context", file = "src/names.c", from = "if (x->takes)",
    to = "if (false)", spec = STORE,
    name = "early data and a store is accepted once where the server name chooses the context",
  },
  {
    check = "The file of secrets is its owner's alone", file = "src/keylog.c", from = "O_NONBLOCK, 0600)",
    to = "O_NONBLOCK, 0666)", spec = KEYLOG,
    name = "the file of keylog is appended to, shared, and made for its owner alone",
  },
  {
    check = "Programs that are started don't have it", file = "src/keylog.c", from = " | O_CLOEXEC", to = "",
    spec = KEYLOG, name = "the file of keylog is closed with the context, and no program that is started has it",
  },
  {
    check = "Secrets don't go into a pipe", file = "src/keylog.c", from = "S_ISFIFO(is.st_mode)", to = "false",
    spec = KEYLOG, name = "the file of keylog is refused by its name where it can't be opened",
  },
  {
    check = "A flood of messages is not kept", file = "src/trace.c", from = "if (a->traced >= MOST)",
    to = "if (a->traced >= 1000000)", spec = TRACE,
    name = "on_trace is told no flood: what is beyond a step's 512 events is lost, and it goes on",
  },
}
