/* SPDX-License-Identifier: MIT
 * The fuzzer's C side: libFuzzer's inputs go to the Lua function that
 * fuzz/targets/NAME.lua returns (COTLS_FUZZ=NAME), in one Lua state with cotls
 * linked in and instrumented. An error that the target lets through is a
 * finding, as is whatever a sanitizer says. */
#include "tools.h"

#include <lualib.h>
#include <openssl/crypto.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int luaopen_cotls_core(lua_State *L);

#define COLLECT_EVERY 256

static lua_State *state;

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "fuzz: %s: %s\n", what, lua_tostring(state, -1));
    abort();
}

static void stop(void)
{
    lua_close(state);
}

static int explain(lua_State *L)
{
    luaL_traceback(L, L, luaL_tolstring(L, 1, NULL), 1);
    return 1;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    const char *name = getenv("COTLS_FUZZ");
    (void)argc;
    (void)argv;
    OPENSSL_init_crypto(0, NULL); /* its own atexit handler before ours */
    state = luaL_newstate();
    luaL_openlibs(state);
    luaL_requiref(state, "cotls.core", luaopen_cotls_core, 0);
    luaL_requiref(state, "fuzz.tools", fuzz_tools_open, 0);
    lua_settop(state, 0);
    lua_pushcfunction(state, explain);
    lua_pushfstring(state, "fuzz/targets/%s.lua", name != NULL ? name : "");
    if (luaL_loadfile(state, lua_tostring(state, -1)) != LUA_OK || lua_pcall(state, 0, 1, 1) != LUA_OK)
        die("the target does not load");
    lua_replace(state, 2);
    if (!lua_isfunction(state, 2))
        die("the target is not a function");
    atexit(stop);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static unsigned count;
    lua_pushvalue(state, 2);
    lua_pushlstring(state, (const char *)data, size);
    if (lua_pcall(state, 1, 0, 1) != LUA_OK)
        die("found");
    lua_settop(state, 2);
    if (++count % COLLECT_EVERY == 0)
        lua_gc(state, LUA_GCCOLLECT);
    return 0;
}
