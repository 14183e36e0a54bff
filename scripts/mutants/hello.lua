-- The checks of ClientHellos. See scripts/mutants.lua.

local PARSED, ASKED = "spec/client_hello_spec.lua", "spec/on_client_hello_spec.lua"

-- A check in hello.c.
local function check(text, name, from, to, spec)
  return { check = text, file = "src/hello.c", from = from, to = to, spec = spec or PARSED, name = name }
end

local FUZZED = "a fuzzed ClientHello whose extensions are malformed is read as the definitions say, or not at all"
local EMPTY = "parse_client_hello has nothing of a list that is malformed but its bytes"

return {
  title = "ClientHellos",
  check("No length goes beyond what is there", FUZZED, "if (from->len < n)", "if (from->len + 1 < n)"),
  check("A list fills its extension", EMPTY, "!take_vector(&body, width, list) || body.len > 0 ||",
    "!take_vector(&body, width, list) ||"),
  check("A list has whole items", EMPTY, "list->len % size != 0)", "false)"),
  check("No protocol's name is empty", EMPTY, "!take_vector(&rest, 1, &name) || name.len == 0)",
    "!take_vector(&rest, 1, &name))"),
  check("A server name has no NUL", EMPTY, "memchr(name->data, 0, name->len) == NULL", "true"),
  check("There is one server name", EMPTY, "take_vector(&list, 2, name) && list.len == 0 &&",
    "take_vector(&list, 2, name) &&"),
  check("A session id has at most 32 bytes", "parse_client_hello refuses what is none",
    "h->session_id.len > SSL_MAX_SSL_SESSION_ID_LENGTH", "false"),
  check("Nothing comes behind the extensions", "parse_client_hello refuses what is none",
    "take_vector(&body, 2, &h->extensions) && body.len == 0", "take_vector(&body, 2, &h->extensions)"),
  check("No extension comes twice", "parse_client_hello refuses an extension that comes twice, of whatever type",
    "if (repeats(&h))", "if (false)"),
  {
    check = "A hook that does not say true refuses", file = "src/answer.c",
    from = "return take_true(L, w, first);", to = "return lua_isnil(L, first) ? \"true\" : NULL;",
    spec = ASKED, name = "on_client_hello on TLS 1.2 refuses by whatever is not true",
  },
  {
    check = "After a HelloRetryRequest the hello is what hooks have judged", file = "src/second_hello.c",
    from = "a->first_hello != NULL && is_same(a, parts)", to = "true", spec = "spec/hook_fault_spec.lua",
    name = "after a HelloRetryRequest on_client_hello has judged the first hello, and another is refused",
  },
  {
    check = "A refusal ends the handshake", file = "src/hook.c",
    from = "return later ? SSL_CLIENT_HELLO_RETRY : SSL_CLIENT_HELLO_ERROR;",
    to = "return later ? SSL_CLIENT_HELLO_RETRY : SSL_CLIENT_HELLO_SUCCESS;",
    spec = ASKED, name = "on_client_hello on TLS 1.2 refuses by the alert that it names",
  },
}
