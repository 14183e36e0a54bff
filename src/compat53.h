/* SPDX-License-Identifier: MIT
 * What Lua 5.3 and 5.1 lack of 5.4: several values beside a userdata. They are
 * in a table, which takes the one place that there is. compat.h includes this
 * where it is wanted. */
#ifndef COTLS_COMPAT53_H
#define COTLS_COMPAT53_H

static inline void *compat_newuserdatauv(lua_State *L, size_t size, int values)
{
    void *block = lua_newuserdata(L, size);
    if (values > 0) {
        lua_createtable(L, values, 0);
        lua_setuservalue(L, -2);
    }
    return block;
}
#define lua_newuserdatauv compat_newuserdatauv

static inline int compat_getiuservalue(lua_State *L, int index, int n)
{
    lua_getuservalue(L, index);
    int type = lua_rawgeti(L, -1, n);
    lua_replace(L, -2);
    return type;
}
#define lua_getiuservalue compat_getiuservalue

static inline void compat_setiuservalue(lua_State *L, int index, int n)
{
    lua_getuservalue(L, index);
    lua_insert(L, -2);
    lua_rawseti(L, -2, n);
    lua_pop(L, 1);
}
#define lua_setiuservalue compat_setiuservalue

#endif
