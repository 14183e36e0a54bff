/* SPDX-License-Identifier: MIT
 * What Lua 5.1 and LuaJIT lack of 5.3, as far as it is used here, by the same
 * names and with the same results: getters tell the type, a number is an integer
 * where its value is one, and what can't be resumed is only called. compat.h
 * includes this where it is wanted. */
#ifndef COTLS_COMPAT51_H
#define COTLS_COMPAT51_H

#include <stdarg.h>
#include <stdint.h>
#include <string.h>

typedef ptrdiff_t lua_KContext;
typedef int (*lua_KFunction)(lua_State *L, int status, lua_KContext context);

/* Never reached: COTLS_RESUMABLE is asked before. */
#define lua_callk(L, arguments, results, context, k) lua_call(L, arguments, results)
#define lua_pcallk(L, arguments, results, handler, context, k) lua_pcall(L, arguments, results, handler)
#define lua_yieldk(L, results, context, k) lua_yield(L, results)

/* A userdata's one value is its environment. */
#define lua_getuservalue lua_getfenv
#define lua_setuservalue lua_setfenv

static inline int lua_absindex(lua_State *L, int index)
{
    return index > 0 || index <= LUA_REGISTRYINDEX ? index : lua_gettop(L) + index + 1;
}

/* ---- access ---- */

static inline int compat_getfield(lua_State *L, int index, const char *key)
{
    lua_getfield(L, index, key);
    return lua_type(L, -1);
}
#define lua_getfield compat_getfield

static inline int compat_rawget(lua_State *L, int index)
{
    lua_rawget(L, index);
    return lua_type(L, -1);
}
#define lua_rawget compat_rawget

static inline int compat_rawgeti(lua_State *L, int index, lua_Integer n)
{
    lua_rawgeti(L, index, (int)n);
    return lua_type(L, -1);
}
#define lua_rawgeti compat_rawgeti

static inline int lua_geti(lua_State *L, int index, lua_Integer n)
{
    index = lua_absindex(L, index);
    lua_pushinteger(L, n);
    lua_gettable(L, index);
    return lua_type(L, -1);
}

static inline void compat_push_address(lua_State *L, const void *address)
{
    union {
        const void *constant;
        void *address;
    } key = {address};
    lua_pushlightuserdata(L, key.address);
}

static inline int lua_rawgetp(lua_State *L, int index, const void *key)
{
    index = lua_absindex(L, index);
    compat_push_address(L, key);
    return lua_rawget(L, index);
}

static inline void lua_rawsetp(lua_State *L, int index, const void *key)
{
    index = lua_absindex(L, index);
    compat_push_address(L, key);
    lua_insert(L, -2);
    lua_rawset(L, index);
}

/* A function of C is an object here, which takes memory once: where there must be memory, it was pushed before. */
static inline void compat_pushcfunction(lua_State *L, lua_CFunction function)
{
    union {
        lua_CFunction function;
        const void *address;
    } key = {function};
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, key.address) == LUA_TFUNCTION)
        return;
    lua_pop(L, 1);
    lua_pushcclosure(L, function, 0);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, key.address);
}
#undef lua_pushcfunction
#define lua_pushcfunction compat_pushcfunction

/* lua_objlen makes a string of a number. */
static inline size_t lua_rawlen(lua_State *L, int index)
{
    return lua_type(L, index) == LUA_TNUMBER ? 0 : lua_objlen(L, index);
}

static inline lua_Integer luaL_len(lua_State *L, int index)
{
    if (!luaL_callmeta(L, index, "__len"))
        return (lua_Integer)lua_objlen(L, index);
    lua_Integer n = lua_tointeger(L, -1);
    lua_pop(L, 1);
    return n;
}

static inline void compat_copy(lua_State *L, int from, int to)
{
    to = lua_absindex(L, to);
    lua_pushvalue(L, from);
    lua_replace(L, to);
}
#define lua_copy compat_copy

/* ---- text ---- */

static inline const char *compat_pushlstring(lua_State *L, const char *text, size_t n)
{
    lua_pushlstring(L, text, n);
    return lua_tostring(L, -1);
}
#define lua_pushlstring compat_pushlstring

static inline const char *compat_pushstring(lua_State *L, const char *text)
{
    lua_pushstring(L, text);
    return lua_tostring(L, -1);
}
#define lua_pushstring compat_pushstring

static inline const char *luaL_tolstring(lua_State *L, int index, size_t *n)
{
    index = lua_absindex(L, index);
    if (luaL_callmeta(L, index, "__tostring")) {
        if (!lua_isstring(L, -1))
            luaL_error(L, "'__tostring' must return a string");
        return lua_tolstring(L, -1, n);
    }
    switch (lua_type(L, index)) {
    case LUA_TNUMBER:
    case LUA_TSTRING:
        lua_pushvalue(L, index);
        break;
    case LUA_TBOOLEAN:
        lua_pushstring(L, lua_toboolean(L, index) ? "true" : "false");
        break;
    case LUA_TNIL:
        lua_pushliteral(L, "nil");
        break;
    default:
        lua_pushfstring(L, "%s: %p", luaL_typename(L, index), lua_topointer(L, index));
        break;
    }
    return lua_tolstring(L, -1, n);
}

#if !defined(LUA_OK) /* LuaJIT has what follows */

#define LUA_OK 0

/* A C function can't know whether there is another one below it: the yield then raises. */
static inline bool lua_isyieldable(lua_State *L)
{
    bool main_thread = lua_pushthread(L);
    lua_pop(L, 1);
    return !main_thread;
}

static inline void luaL_setfuncs(lua_State *L, const luaL_Reg *list, int upvalues)
{
    for (; list->name != NULL; list++) {
        for (int i = 0; i < upvalues; i++)
            lua_pushvalue(L, -upvalues);
        lua_pushcclosure(L, list->func, upvalues);
        lua_setfield(L, -(upvalues + 2), list->name);
    }
    lua_pop(L, upvalues);
}
#define luaL_newlib(L, list) (lua_newtable(L), luaL_setfuncs(L, list, 0))

static inline void luaL_setmetatable(lua_State *L, const char *name)
{
    luaL_getmetatable(L, name);
    lua_setmetatable(L, -2);
}

static inline void *luaL_testudata(lua_State *L, int index, const char *name)
{
    void *block = lua_touserdata(L, index);
    if (block == NULL || !lua_getmetatable(L, index))
        return NULL;
    luaL_getmetatable(L, name);
    bool same = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    return same ? block : NULL;
}

/* One line of a traceback on top of the text at the top. [-1, +1] */
static inline void compat_add_level(lua_State *L, lua_State *of, lua_Debug *ar)
{
    lua_getinfo(of, "Snl", ar);
    lua_pushfstring(L, "\n\t%s:", ar->short_src);
    if (ar->currentline > 0)
        lua_pushfstring(L, "%d:", ar->currentline);
    else
        lua_pushliteral(L, "");
    if (*ar->namewhat != '\0')
        lua_pushfstring(L, " in function '%s'", ar->name);
    else if (*ar->what == 'm')
        lua_pushliteral(L, " in main chunk");
    else if (*ar->what == 'L')
        lua_pushfstring(L, " in function <%s:%d>", ar->short_src, ar->linedefined);
    else
        lua_pushliteral(L, " ?");
    lua_concat(L, 4);
}

#define COMPAT_LEVELS 22 /* as many are told, as elsewhere */

static inline void luaL_traceback(lua_State *L, lua_State *of, const char *text, int level)
{
    lua_Debug ar;
    lua_pushfstring(L, "%s%sstack traceback:", text != NULL ? text : "", text != NULL ? "\n" : "");
    for (int told = 0; lua_getstack(of, level, &ar); level++) {
        if (told++ < COMPAT_LEVELS) {
            compat_add_level(L, of, &ar);
        } else {
            lua_pushliteral(L, "\n\t...");
            lua_concat(L, 2);
            return;
        }
    }
}

#endif

#include "check51.h"

/* ---- integers ---- */

static inline bool compat_is_integral(lua_Number n)
{
    return n >= -0x1p63 && n < 0x1p63 && (lua_Number)(int64_t)n == n;
}

static inline bool lua_isinteger(lua_State *L, int index)
{
    return lua_type(L, index) == LUA_TNUMBER && compat_is_integral(lua_tonumber(L, index));
}

static inline lua_Integer compat_tointegerx(lua_State *L, int index, int *done)
{
    lua_Number n = lua_tonumber(L, index);
    bool good = lua_isnumber(L, index) && compat_is_integral(n);
    if (done != NULL)
        *done = good;
    return good ? (lua_Integer)n : 0;
}
#define lua_tointegerx compat_tointegerx
#undef lua_tointeger
#define lua_tointeger(L, index) compat_tointegerx(L, index, NULL)

static inline lua_Integer compat_checkinteger(lua_State *L, int arg)
{
    int done;
    luaL_checknumber(L, arg);
    lua_Integer n = compat_tointegerx(L, arg, &done);
    luaL_argcheck(L, done, arg, "number has no integer representation");
    return n;
}
#define luaL_checkinteger compat_checkinteger

static inline lua_Integer compat_optinteger(lua_State *L, int arg, lua_Integer otherwise)
{
    return lua_isnoneornil(L, arg) ? otherwise : compat_checkinteger(L, arg);
}
#define luaL_optinteger compat_optinteger

/* [-0, +1] unless the text is no numeral */
static inline size_t lua_stringtonumber(lua_State *L, const char *text)
{
    lua_pushstring(L, text);
    bool good = lua_isnumber(L, -1);
    lua_Number n = lua_tonumber(L, -1);
    lua_pop(L, 1);
    if (!good)
        return 0;
    lua_pushnumber(L, n);
    return strlen(text) + 1;
}

#endif
