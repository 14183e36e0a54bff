-- What may be believed of a stream, of what is wrapped, and of answers that were asked for in advance. See
-- scripts/mutants.lua.

local STREAM, DETACH, OBJECTS, PREFETCH = "spec/stream_spec.lua", "spec/detach_spec.lua", "spec/objects_spec.lua",
  "spec/prefetch_spec.lua"
local GIVE = "what a stream's functions give "

return {
  title = "Streams, transports, hooks without jobs",
  {
    check = "A read gives no more bytes than it was asked for", file = "src/stream.c",
    from = "if (n > 0 && n <= MOST) {", to = "if (n > 0) {", spec = STREAM,
    name = GIVE .. "read: what is wrong is said",
  },
  {
    check = "An empty string is no end", file = "src/stream.c",
    from = "if (lua_isnoneornil(L, first)) {", to = "if (n == 0) {", spec = STREAM,
    name = GIVE .. "read: what is wrong is said",
  },
  {
    check = "A number that a write gives is how many bytes it was given", file = "src/stream.c",
    from = "if (lua_type(L, first) == LUA_TNUMBER && lua_tonumber(L, first) != (lua_Number)n) {", to = "if (0) {",
    spec = STREAM, name = GIVE .. "write: what is wrong is said",
  },
  {
    check = "A write that gives up says how much it has written", file = "src/stream.c",
    from = "if (moved != MOVED && written < 0) {", to = "if (0) {", spec = STREAM,
    name = GIVE .. "write: a timeout that doesn't say it ends the sending",
  },
  {
    check = "That is a number of bytes, not more than there are", file = "src/stream.c",
    from = "return whole && n <= (lua_Integer)most ? n : -1;", to = "return n;", spec = STREAM,
    name = GIVE .. "write: how much it has written is a number of bytes, not more than there are",
  },
  {
    check = "Nothing is sent after a write that was left", file = "src/stream.c",
    from = "if (way == WAY_WRITE && c->ssl != NULL) {", to = "if (0) {", spec = STREAM,
    name = "two coroutines one that dies while it writes ends the sending; while it reads, nothing",
  },
  {
    check = "What try_write writes is not dropped with what it was given", file = "src/stream.c",
    from = "cotls_buf_free(&c->out); /* what comes to be written in there is no part of it */", to = "",
    spec = STREAM, name = "output that try_write itself brings forth is not lost",
  },
  {
    check = "What try_write did not take is not told as sent", file = "src/stream.c",
    from = "bool ok = lua_pcall(L, 1, 1, 0) == LUA_OK && lua_tonumber(L, -1) == (lua_Number)n;",
    to = "bool ok = lua_pcall(L, 1, 1, 0) == LUA_OK;", spec = STREAM,
    name = "output that try_write did not take is not told as sent",
  },
  {
    check = "An object with bytes of its own on the way is refused", file = "src/transport.c",
    from = "if (bad)", to = "if (bad && 0)", spec = OBJECTS,
    name = "a handle of luv that has something to send is refused",
  },
  {
    check = "A transport comes back only where TLS has not begun, or has ended", file = "src/transport.c",
    from = "if (!c->ended && !untouched)", to = "if (0)", spec = DETACH,
    name = "detach after the peer's close_notify is for who has read all, and sent all",
  },
  {
    check = "What was decrypted does not go for what is not TLS's", file = "src/transport.c",
    from = "if (cotls_buf_length(&c->plain) > 0)", to = "if (0)", spec = DETACH,
    name = "detach after the peer's close_notify is for who has read all, and sent all",
  },
  {
    check = "No coroutine is at a connection that is taken apart", file = "src/transport.c",
    from = "if (cotls_slot_held(L, c, &c->slot[SLOT_READ]) || cotls_slot_held(L, c, &c->slot[SLOT_WRITE]))",
    to = "if (0)", spec = DETACH, name = "detach before the handshake not while an operation is under way",
  },
  {
    check = "Without jobs a hook that refuses in advance refuses", file = "src/prefetch.c",
    from = "*alert = questions[i].alert;", to = "continue;", spec = PREFETCH,
    name = "without jobs, on TLS 1.3 on_server_name refuses",
  },
  {
    check = "Without jobs no answer of one context counts for another", file = "src/change.c",
    from = "return cotls_can_pause() ? named : named | BIT(HOOK_OCSP) | BIT(HOOK_TICKET_KEY);", to = "return named;",
    spec = PREFETCH,
    name = "without jobs, on TLS 1.3 on_certificate sets no context whose hooks the other one's have answered for",
  },
  {
    check = "Without jobs what can't be asked in advance is refused", file = "src/answer.c",
    from = "if (in_job & (1U << i)) {", to = "if (0) {", spec = PREFETCH,
    name = "without jobs what can't be asked in advance is refused by name",
  },
  {
    check = "A question that nobody has foreseen refuses", file = "src/ask.c",
    from = 'cotls_ask_refuse(c, "a hook is wanted where it can\'t be waited for");', to = "(void)0;", spec = PREFETCH,
    name = "without jobs a question that nobody has foreseen refuses",
  },
  {
    check = "A hello has no fields of bytes that are no ClientHello", file = "src/hello_table.c",
    from = "if (message.data == NULL || !cotls_hello_parse(message, &h))",
    to = "if (message.data == NULL || (cotls_hello_parse(message, &h), 0))",
    spec = "spec/on_client_hello_spec.lua",
    name = "the hello that on_client_hello is given takes fields of the hook's own, and makes none of bytes that it "
      .. "has not got",
  },
  {
    check = "One coroutine's receive takes nothing of another's", file = "src/luasec_operations.c",
    from = "push_taken(L, o->c, taken ? 0 : cotls_buf_length(&o->c->plain));",
    to = "push_taken(L, o->c, cotls_buf_length(&o->c->plain));", spec = "spec/luasec_install_spec.lua",
    name = "the yielding drop-in leaves what one coroutine receives or sends alone when another one comes",
  },
}
