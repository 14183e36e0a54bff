-- The checks of what a context is told to agree on. See scripts/mutants.lua.

local SPEC = "spec/config_spec.lua"
local ANONYMOUS = "ciphers without a certificate are nothing that a context which verifies agrees on"
local SCOPE = "security_level keeps sessions of one level from another, as all that verification depends on"
local OWN = "conf doesn't do by another name what has an option of its own"

local function check(what, file, from, to, name)
  return { check = what, file = file, from = from, to = to, spec = SPEC, name = name }
end

return {
  title = "Configuration",
  check("A client that verifies takes no anonymous cipher", "lua/cotls/config.lua",
    "if verifies and #words > 0", "if false and #words > 0", ANONYMOUS),
  check("Nor does a server that asks for certificates", "lua/cotls/config.lua",
    '(given.verify_client or "none") ~= "none"', "false", ANONYMOUS),
  check("The security level", "src/config.c", "SSL_CTX_set_security_level(x->ssl_ctx, (int)lua_tointeger(L, -1));",
    "(void)x;", "security_level refuses a weak certificate of its own"),
  check("A session is not resumed under another security level", "lua/cotls/settings.lua", '"security_level", ', "",
    SCOPE),
  check("Each name of a list is known", "src/config.c", "if (list->try_one(x->ssl_ctx, name) != 1)", "if (0)",
    "ciphers are tried word by word: an unknown one is refused and named"),
  check("Options that have one of their own are refused", "src/config.c", "if (refused != NULL) {", "if (0) {",
    "options that have one of their own here are refused"),
  check("conf doesn't change who is verified", "src/config.c", "if (now.verify_mode != before->verify_mode)", "if (0)",
    "conf doesn't change who is verified"),
  check("conf loads no CA, certificate or key", "src/config.c", "else if (!is_allowed(name))", "else if (0)",
    "conf loads no certificate, no key and no CA, so it asks nobody for a password"),
  check("conf sets no option that has one of its own", "src/config.c",
    "if (!was && is && f->bit != 0 && f->no_set != NULL)", "if (0)", OWN),
  check("conf clears no option that has one of its own", "src/config.c",
    "if (was && !is && f->no_clear != NULL)", "if (0)", OWN),
}
