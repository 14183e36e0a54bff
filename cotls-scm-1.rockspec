rockspec_format = "3.0"
package = "cotls"
version = "scm-1"

source = {
  -- `luarocks make` builds the checkout it stands in and never fetches this.
  url = "git+file://.",
}

description = {
  summary = "Coroutine TLS: OpenSSL's handshake, read and write as straight-line Lua",
  detailed = [[
The SSL object as a Lua userdata. Every reason OpenSSL has for not being
finished becomes a wait of the calling coroutine, under a scheduler of the
caller's choice, or blocks where there is none.]],
  license = "MIT",
  labels = { "tls", "ssl", "openssl", "coroutine", "network" },
}

dependencies = {
  "lua >= 5.1, < 5.5",
}

external_dependencies = {
  OPENSSL = {
    header = "openssl/ssl.h",
  },
}

-- The Makefile knows the sources, the flags and the files to install; a second
-- list here would drift. LuaRocks' own compiler, paths and tree are handed over,
-- so neither pkg-config nor a lua5.4 on the PATH is needed.
build = {
  type = "make",
  variables = {
    BUILD = "build/rock",
    WERROR = "",
    V = "1",
    CC = "$(CC)",
    CFLAGS = "$(CFLAGS)",
    LIBFLAG = "$(LIBFLAG)",
    LUA_CFLAGS = "-I$(LUA_INCDIR)",
    OPENSSL_CFLAGS = "-I$(OPENSSL_INCDIR)",
    OPENSSL_LIBS = "-L$(OPENSSL_LIBDIR) -lssl -lcrypto",
    DESTDIR = "",
    INST_LUADIR = "$(LUADIR)",
    INST_LIBDIR = "$(LIBDIR)",
  },
  build_target = "build",
  install_target = "install",
}
