/* SPDX-License-Identifier: MIT
 * The scheduler in force: which one it is, and what it is told when a waiter's
 * descriptor is about to close. A scheduler is a table written in Lua; only
 * drive.c calls its wait. */
#include "cotls.h"

static const char scheduler_key; /* its address: the registry's key of tls.scheduler */

/* core.set_scheduler(table or nil): the one that is asked where no other is given. */
int cotls_set_scheduler(lua_State *L)
{
    if (!lua_isnoneornil(L, 1))
        luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &scheduler_key);
    return 0;
}

int cotls_get_scheduler(lua_State *L)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, &scheduler_key);
    return 1;
}

/* [-0, +1] the connection's, its context's, the module's scheduler, or nil. The
 * waiter at index 1 is c, or where that is NULL a socket with its own (or nil) at index 4. */
void cotls_push_scheduler(lua_State *L, const struct cotls_conn *c)
{
    if (c == NULL) {
        lua_pushvalue(L, 4);
    } else if (c->scheduled) {
        lua_getiuservalue(L, 1, UV_OPTIONS);
        lua_getfield(L, -1, "scheduler");
        lua_remove(L, -2);
    } else if (c->ctx->scheduled) {
        lua_getiuservalue(L, 1, UV_CONTEXT);
        lua_getiuservalue(L, -1, UV_CTX_SCHEDULER);
        lua_remove(L, -2);
    } else {
        lua_pushnil(L);
    }
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        lua_rawgetp(L, LUA_REGISTRYINDEX, &scheduler_key);
    }
}

/* pcall's frame: an object, the address of a method's name → its result; nothing
 * when there is no such method. */
static int call_method(lua_State *L)
{
    if (lua_getfield(L, 1, lua_touserdata(L, 2)) == LUA_TNIL)
        return 0;
    lua_pushvalue(L, 1);
    lua_call(L, 1, 1);
    return 1;
}

/* Calls object:name(), whatever the object on top is; raises nothing, not even
 * without memory. [-1, +1] the result, or nil */
void cotls_call_method(lua_State *L, const char *name)
{
    union {
        const char *name;
        void *address;
    } key = {name};
    lua_pushcfunction(L, call_method);
    lua_insert(L, -2);
    lua_pushlightuserdata(L, key.address);
    if (lua_pcall(L, 2, 1, 0) != LUA_OK) {
        lua_pop(L, 1);
        lua_pushnil(L);
    }
}

/* pcall's frame: a scheduler, a waiter. */
static int call_release(lua_State *L)
{
    if (lua_getfield(L, 1, "release") != LUA_TNIL) {
        lua_pushvalue(L, 2);
        lua_call(L, 1, 0);
    }
    return 0;
}

/* Calls release(waiter) of the scheduler that was asked last. The collector
 * calls this too: what goes wrong in there is nobody's to hear. [-0, +0] */
void cotls_release(lua_State *L, int index)
{
    index = lua_absindex(L, index);
    if (lua_getiuservalue(L, index, UV_WAITED) != LUA_TTABLE) {
        lua_pop(L, 1);
        return;
    }
    lua_pushnil(L);
    lua_setiuservalue(L, index, UV_WAITED);
    lua_pushcfunction(L, call_release);
    lua_insert(L, -2);
    lua_pushvalue(L, index);
    if (lua_pcall(L, 2, 0, 0) != LUA_OK)
        lua_pop(L, 1);
}

/* May somebody wait for the connection at index 1 without a descriptor? Who resumes a raw yield tries again. */
bool cotls_can_park(lua_State *L, const struct cotls_conn *c)
{
    bool can = lua_isyieldable(L);
    cotls_push_scheduler(L, c);
    if (lua_istable(L, -1)) {
        can = lua_getfield(L, -1, "wake") == LUA_TFUNCTION;
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    return can;
}

/* pcall's frame: a scheduler, a waiter, what it waits for. */
static int call_wake(lua_State *L)
{
    if (lua_getfield(L, 1, "wake") != LUA_TNIL) {
        lua_pushvalue(L, 2);
        lua_pushvalue(L, 3);
        lua_call(L, 2, 0);
    }
    return 0;
}

/* Wakes who is parked on the connection at index 1. What goes wrong is not the caller's fault. [-0, +0] */
void cotls_wake(lua_State *L, struct cotls_conn *c)
{
    static const char *const wants[] = {[WAY_READ] = "read", [WAY_WRITE] = "write"};
    unsigned parked = c->parked;
    int top = lua_gettop(L);
    c->parked = 0;
    for (int way = 0; way < WAY_COUNT; way++) {
        lua_pushcfunction(L, call_wake);
        if ((parked & 1U << way) != 0 && lua_getiuservalue(L, 1, UV_WAITED) == LUA_TTABLE) {
            lua_pushvalue(L, 1);
            lua_pushstring(L, wants[way]);
            lua_pcall(L, 3, 0, 0);
        }
        lua_settop(L, top);
    }
}

/* Remembers whom to tell when the fd closes; the scheduler is on top. [-0, +0] */
void cotls_note_waited(lua_State *L, struct cotls_conn *c)
{
    if (c != NULL && c->waited == lua_topointer(L, -1))
        return;
    lua_getiuservalue(L, 1, UV_WAITED);
    bool same = lua_rawequal(L, -1, -2);
    lua_pop(L, 1);
    if (!same) {
        cotls_release(L, 1);
        lua_pushvalue(L, -1);
        lua_setiuservalue(L, 1, UV_WAITED);
    }
    if (c != NULL)
        c->waited = lua_topointer(L, -1);
}

/* What the collector, and who has no memory, pushes later. */
void cotls_scheduler_open(lua_State *L)
{
    lua_pushcfunction(L, call_method);
    lua_pushcfunction(L, call_release);
    lua_pushcfunction(L, call_wake);
    lua_pop(L, 3);
}
