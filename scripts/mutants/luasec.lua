-- What must hold in the drop-in for LuaSec, whatever LuaSec does. See scripts/mutants.lua.

local SPEC, INSTALL = "spec/luasec_spec.lua", "spec/luasec_install_spec.lua"

return {
  title = "The drop-in for LuaSec",
  {
    check = "A partial result ends where what arrived ends", file = "src/luasec_operations.c",
    from = "*n = have < w->count ? have : w->count;", to = "*n = w->count;", spec = SPEC,
    name = "a connection of the drop-in receives a number of bytes",
  },
  {
    check = "What an earlier operation saw says nothing about what is there now", file = "src/luasec_operations.c",
    from = "c->drained = false;", to = "(void)c;", spec = SPEC,
    name = "a new connection of the drop-in shakes hands once",
  },
  {
    check = "A context chosen by name takes no demand for a certificate away", file = "src/luasec_context.c",
    from = "SSL_set_verify(c->ssl, mode | SSL_CTX_get_verify_mode(x->ssl_ctx), NULL);", to = "", spec = SPEC,
    name = "server names of the drop-in take no demand away from who is not verified by the one that is chosen",
  },
  {
    check = "A client's psk is given the server's hint", file = "lua/cotls/luasec/handshake.lua",
    from = "s.context.client_psk(hint, IDENTITY_MAX, KEY_MAX)", to = "s.context.client_psk(nil, IDENTITY_MAX, KEY_MAX)",
    spec = SPEC, name = "the drop-in has LuaSec 1.3's psk, in tlsv1_2",
  },
  {
    check = "A psk that can't be waited for is refused", file = "lua/cotls/luasec/context.lua",
    from = "if hook then return hook(s) end", to = "if hook then hook(s) end", spec = SPEC,
    name = "the drop-in refuses psk where OpenSSL can't wait for its function",
  },
  {
    check = "A strict server name is refused", file = "lua/cotls/luasec/handshake.lua",
    from = "if name and s.sni and s.strict_sni then return nil end", to = "", spec = SPEC,
    name = "server names of the drop-in are refused where that is asked for",
  },
  {
    check = "A handshake that has failed is never done", file = "lua/cotls/luasec/connection.lua",
    from = "luasec.fail(self)", to = "", spec = SPEC,
    name = "the drop-in goes on failing a handshake that has failed, where LuaSec takes it for done",
  },
  {
    check = "Errors of a chain are passed over only where lsec_continue says so", file = "src/hook.c",
    from = "return c->active->verify_goes_on;", to = "return 1;", spec = SPEC,
    name = "parameters of the drop-in verifyext: lsec_ignore_purpose alone refuses what else is wrong",
  },
  {
    check = "strict: the name is verified", file = "lua/cotls/luasec/handshake.lua",
    from = 'local named = context.strict and context.mode == "client" and s.name', to = "local named = false",
    spec = INSTALL, name = "the strict drop-in verifies the name",
  },
  {
    check = "strict: clients verify unless they are told not to", file = "lua/cotls/luasec/context.lua",
    from = "insecure = not settings.strict", to = "insecure = true", spec = INSTALL,
    name = "the strict drop-in verifies the server, by the system's CAs where there are no others",
  },
}
