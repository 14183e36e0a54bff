/* SPDX-License-Identifier: MIT
 * Where cotls/loop.lua calls the methods (Lua 5.1, LuaJIT), errors about arguments
 * tell the method by the name that its caller has for it, and its caller's line:
 * the loop's frame in between is passed over. compat51.h includes this. */
#ifndef COTLS_CHECK51_H
#define COTLS_CHECK51_H

/* The level of the frame that stands for the running C function: 1 where the loop has called it. */
static inline int compat_level(lua_State *L, lua_Debug *ar)
{
    static const char loop[] = "cotls/loop.lua";
    if (!lua_getstack(L, 1, ar) || !lua_getinfo(L, "S", ar))
        return 0;
    size_t n = strlen(ar->source);
    return n >= sizeof loop - 1 && strcmp(ar->source + n - (sizeof loop - 1), loop) == 0;
}

static inline int compat_error(lua_State *L, const char *format, ...)
{
    lua_Debug ar;
    va_list list;
    va_start(list, format);
    luaL_where(L, 1 + compat_level(L, &ar));
    lua_pushvfstring(L, format, list);
    va_end(list);
    lua_concat(L, 2);
    return lua_error(L);
}
#define luaL_error compat_error

static inline int compat_argerror(lua_State *L, int arg, const char *text)
{
    lua_Debug ar;
    int level = compat_level(L, &ar);
    if (!lua_getstack(L, level, &ar))
        return luaL_error(L, "bad argument #%d (%s)", arg, text);
    lua_getinfo(L, "n", &ar);
    if (strcmp(ar.namewhat, "method") == 0 && --arg == 0)
        return luaL_error(L, "calling '%s' on bad self (%s)", ar.name, text);
    return luaL_error(L, "bad argument #%d to '%s' (%s)", arg, ar.name != NULL ? ar.name : "?", text);
}
#define luaL_argerror compat_argerror

static inline int compat_typerror(lua_State *L, int arg, const char *expected)
{
    return luaL_argerror(
        L, arg, lua_pushfstring(L, "%s expected, got %s", expected, lua_typename(L, lua_type(L, arg))));
}

static inline const char *compat_checklstring(lua_State *L, int arg, size_t *n)
{
    const char *text = lua_tolstring(L, arg, n);
    if (text == NULL)
        compat_typerror(L, arg, "string");
    return text;
}
#define luaL_checklstring compat_checklstring

static inline const char *compat_optlstring(lua_State *L, int arg, const char *otherwise, size_t *n)
{
    if (!lua_isnoneornil(L, arg))
        return compat_checklstring(L, arg, n);
    if (n != NULL)
        *n = otherwise != NULL ? strlen(otherwise) : 0;
    return otherwise;
}
#define luaL_optlstring compat_optlstring

static inline lua_Number compat_checknumber(lua_State *L, int arg)
{
    if (!lua_isnumber(L, arg))
        compat_typerror(L, arg, "number");
    return lua_tonumber(L, arg);
}
#define luaL_checknumber compat_checknumber

static inline lua_Number compat_optnumber(lua_State *L, int arg, lua_Number otherwise)
{
    return lua_isnoneornil(L, arg) ? otherwise : compat_checknumber(L, arg);
}
#define luaL_optnumber compat_optnumber

static inline void compat_checktype(lua_State *L, int arg, int type)
{
    if (lua_type(L, arg) != type)
        compat_typerror(L, arg, lua_typename(L, type));
}
#define luaL_checktype compat_checktype

static inline void compat_checkany(lua_State *L, int arg)
{
    if (lua_isnone(L, arg))
        luaL_argerror(L, arg, "value expected");
}
#define luaL_checkany compat_checkany

static inline int compat_checkoption(lua_State *L, int arg, const char *otherwise, const char *const list[])
{
    const char *given = otherwise != NULL ? luaL_optstring(L, arg, otherwise) : luaL_checkstring(L, arg);
    for (int i = 0; list[i] != NULL; i++)
        if (strcmp(list[i], given) == 0)
            return i;
    return luaL_argerror(L, arg, lua_pushfstring(L, "invalid option '%s'", given));
}
#define luaL_checkoption compat_checkoption

static inline void *compat_checkudata(lua_State *L, int arg, const char *name)
{
    void *block = luaL_testudata(L, arg, name);
    if (block == NULL)
        compat_typerror(L, arg, name);
    return block;
}
#define luaL_checkudata compat_checkudata

#endif
