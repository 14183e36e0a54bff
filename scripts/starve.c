/* SPDX-License-Identifier: MIT
 * A Lua module for spec/memory_spec.lua: lets one allocation fail, of Lua's or of
 * OpenSSL's. It must be loaded before anything of OpenSSL's is called.
 *   starve.arm("lua" or "openssl", n)  the n-th allocation from now on fails
 *   starve.disarm()                    → has it come to that?
 *   starve.queue()                     → the first error in OpenSSL's queue, or nil; empties it */
#include <lauxlib.h>
#include <lua.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { NOBODY, OF_LUA, OF_OPENSSL };

static int whose = NOBODY;
static lua_Integer left, times; /* before the first that fails; how many fail */
static lua_Alloc allocate;

static bool fails(int asker)
{
    return whose == asker && --left <= 0 && left > -times;
}

static void *for_lua(void *ud, void *block, size_t old, size_t size)
{
    bool grows = size > 0 && (block == NULL || size > old);
    return grows && fails(OF_LUA) ? NULL : allocate(ud, block, old, size);
}

static void *for_openssl(size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    return fails(OF_OPENSSL) ? NULL : malloc(size);
}

static void *more_for_openssl(void *block, size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    return fails(OF_OPENSSL) ? NULL : realloc(block, size);
}

static void from_openssl(void *block, const char *file, int line)
{
    (void)file;
    (void)line;
    free(block);
}

static int starve_arm(lua_State *L)
{
    int asker = strcmp(luaL_checkstring(L, 1), "lua") == 0 ? OF_LUA : OF_OPENSSL;
    left = luaL_checkinteger(L, 2);
    times = asker == OF_LUA ? 2 : 1; /* Lua collects garbage and tries again */
    whose = asker;
    return 0;
}

static int starve_disarm(lua_State *L)
{
    lua_pushboolean(L, left <= 0);
    whose = NOBODY;
    return 1;
}

static int starve_queue(lua_State *L)
{
    char text[256];
    unsigned long code = ERR_peek_error();
    ERR_error_string_n(code, text, sizeof text);
    ERR_clear_error();
    lua_pushstring(L, code != 0 ? text : NULL);
    return 1;
}

__attribute__((visibility("default"))) int luaopen_starve(lua_State *L);

int luaopen_starve(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"arm", starve_arm}, {"disarm", starve_disarm}, {"queue", starve_queue}, {NULL, NULL}};
    void *ud;
    if (!CRYPTO_set_mem_functions(for_openssl, more_for_openssl, from_openssl))
        return luaL_error(L, "OpenSSL has allocated already");
    luaL_newlib(L, functions);
    allocate = lua_getallocf(L, &ud);
    lua_setallocf(L, for_lua, ud);
    return 1;
}
