/* SPDX-License-Identifier: MIT
 * Waiting where C functions can't be resumed (Lua 5.1, LuaJIT). A method leaves
 * with a mark and what is to be called; cotls/loop.lua, which has called the
 * method, calls that and comes back here with its results. The method's stack is
 * kept meanwhile beside the connection. Elsewhere nothing of this is used. */
#include "cotls.h"

static char mark;                        /* its address, as a result: a method has left */
static const char yield_key, xpcall_key; /* their addresses: the registry's keys of what set_loop was given */

/* What waits: cotls/loop.lua has a wrapper for each. */
static const char *const waiting[] = {
    "do_handshake",
    "accept",
    "connect",
    "read",
    "recv",
    "peek",
    "write",
    "shutdown",
    "read_early",
    "write_early",
    "key_update",
    "renegotiate",
    "request_client_certificate",
};

/* [-0, +1] the table of a slot's stack, of the connection at 1 */
static void push_frame(lua_State *L, lua_KContext id)
{
    if (lua_getiuservalue(L, 1, UV_FRAMES + (int)id) == LUA_TTABLE)
        return;
    lua_pop(L, 1);
    lua_createtable(L, 2, 0);
    lua_pushvalue(L, -1);
    lua_setiuservalue(L, 1, UV_FRAMES + (int)id);
}

/* Leaves to have the function below n arguments called: k goes on with its results in their place. id is that of
 * the connection's slot; or COTLS_NO_SLOT, where cotls_wait_ended goes on and only index 1 is kept. Returns the number
 * of results to leave with. */
int cotls_leave(lua_State *L, int n, lua_KContext id, lua_KFunction k)
{
    int base = lua_gettop(L) - n - 1;
    luaL_checkstack(L, 8, NULL);
    if (id != COTLS_NO_SLOT) {
        struct cotls_conn *c = lua_touserdata(L, 1);
        c->resume[id] = k;
        push_frame(L, id);
        for (int i = 2; i <= base; i++) {
            lua_pushvalue(L, i);
            lua_rawseti(L, -2, i);
        }
        lua_pop(L, 1);
    }
    lua_pushinteger(L, id);
    lua_insert(L, base + 1);
    lua_pushvalue(L, 1);
    lua_insert(L, base + 1);
    lua_pushlightuserdata(L, &mark);
    lua_insert(L, base + 1);
    return n + 4;
}

/* The same, to yield the n values on top. */
int cotls_leave_yielding(lua_State *L, int n, lua_KContext id, lua_KFunction k)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, &yield_key);
    lua_insert(L, -n - 1);
    return cotls_leave(L, n, id, k);
}

/* The same, to call the function below n arguments with the handler below it; what comes is as xpcall's. */
int cotls_leave_protected(lua_State *L, int n, lua_KContext id, lua_KFunction k)
{
    int handler = lua_gettop(L) - n - 1;
    lua_pushvalue(L, handler + 1);
    lua_insert(L, handler);
    lua_remove(L, handler + 2);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &xpcall_key);
    lua_insert(L, handler);
    return cotls_leave(L, n + 2, id, k);
}

/* core.resume(waiter, id, …): what was called has returned. */
int cotls_resume(lua_State *L)
{
    lua_KContext id = luaL_checkinteger(L, 2);
    lua_remove(L, 2);
    if (id == COTLS_NO_SLOT)
        return cotls_wait_ended(L, 1);
    struct cotls_conn *c = cotls_check_conn(L);
    luaL_argcheck(L, id >= 0 && id < SLOT_COUNT && c->resume[id] != NULL && c->slot[id].op != NULL, 2,
                  "nobody waits");
    struct cotls_slot *s = &c->slot[id];
    lua_KFunction k = c->resume[id];
    c->resume[id] = NULL;
    luaL_checkstack(L, s->base + 8, "too many arguments");
    push_frame(L, id);
    lua_insert(L, 2);
    for (int i = 2; i <= s->base; i++) {
        lua_rawgeti(L, i, i);
        lua_insert(L, i);
        lua_pushnil(L);
        lua_rawseti(L, i + 1, i);
    }
    lua_remove(L, s->base + 1);
    return k(L, LUA_YIELD, id);
}

/* core.set_loop(carry, yield, xpcall): carry's frame, which has the waiter and the id as its first locals, holds the
 * slot. Returns the mark, and the names of the methods that may leave. */
int cotls_set_loop(lua_State *L)
{
    for (int i = 1; i <= 3; i++)
        luaL_checktype(L, i, LUA_TFUNCTION);
    lua_settop(L, 3);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &xpcall_key);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &yield_key);
    cotls_state(L)->carry = lua_topointer(L, 1);
    lua_pushlightuserdata(L, &mark);
    lua_newtable(L);
    for (size_t i = 0; i < sizeof waiting / sizeof *waiting; i++) {
        lua_pushstring(L, waiting[i]);
        lua_rawseti(L, -2, (int)i + 1);
    }
    return 2;
}

/* Has cotls/loop.lua take over what waits, where it must; core is on top. [-0, +0] */
void cotls_loop_open(lua_State *L)
{
    if (COTLS_RESUMABLE)
        return;
    lua_getglobal(L, "require");
    lua_pushliteral(L, "cotls.loop");
    lua_call(L, 1, 1);
    lua_pushvalue(L, -2);
    lua_call(L, 1, 0);
}
