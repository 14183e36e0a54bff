/* SPDX-License-Identifier: MIT
 * Connections in LuaSec's manner: an object that owns the descriptor and outlives
 * its cotls connection, what loops ask of it, and its life. luasec_operations.c has
 * what it does; cotls/luasec does the rest, in Lua. */
#include "cotls.h"

#include <unistd.h>

/* ---- the objects ---- */

static const char *const classes[] = {"SSL:Connection", "SSL:Context", "SSL:Certificate", NULL};
static const char class_keys[3]; /* their addresses: the registry's keys of the metatables */

static struct cotls_luasec *test(lua_State *L, int index, int class)
{
    struct cotls_luasec *o = lua_touserdata(L, index);
    if (o == NULL || !lua_getmetatable(L, index))
        return NULL;
    lua_rawgetp(L, LUA_REGISTRYINDEX, &class_keys[class]);
    bool same = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    return same ? o : NULL;
}

static struct cotls_luasec *check(lua_State *L, int index, int class)
{
    struct cotls_luasec *o = test(L, index, class);
    if (o == NULL)
        luaL_error(L, "bad argument #%d (%s expected, got %s)", index, classes[class],
                   luaL_typename(L, index));
    return o;
}

/* luasec.new(class, state) → an object of the class */
static int new_object(lua_State *L)
{
    int class = luaL_checkoption(L, 1, NULL, classes);
    luaL_checktype(L, 2, LUA_TTABLE);
    struct cotls_luasec *o = lua_newuserdatauv(L, sizeof *o, UV_LUASEC_COUNT);
    *o = (struct cotls_luasec){.fd = -1, .birthday = cotls_now()};
    lua_rawgetp(L, LUA_REGISTRYINDEX, &class_keys[class]);
    lua_setmetatable(L, -2);
    lua_pushvalue(L, 2);
    lua_setiuservalue(L, -2, UV_LUASEC_STATE);
    return 1;
}

/* luasec.metatable(class) → the metatable of its objects */
static int push_metatable(lua_State *L)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, &class_keys[luaL_checkoption(L, 1, NULL, classes)]);
    return 1;
}

/* luasec.test(object, class) → its state, or nil where it is none of the class */
static int test_state(lua_State *L)
{
    int class = luaL_checkoption(L, 2, NULL, classes);
    if (test(L, 1, class) == NULL)
        lua_pushnil(L);
    else
        lua_getiuservalue(L, 1, UV_LUASEC_STATE);
    return 1;
}

/* One for each class: its state; raises for anything else. */
static int push_state(lua_State *L)
{
    check(L, 1, (int)lua_tointeger(L, lua_upvalueindex(1)));
    lua_getiuservalue(L, 1, UV_LUASEC_STATE);
    return 1;
}

/* luasec.state(class) → the function above */
static int state_function(lua_State *L)
{
    lua_pushinteger(L, luaL_checkoption(L, 1, NULL, classes));
    lua_pushcclosure(L, push_state, 1);
    return 1;
}

struct cotls_luasec *cotls_luasec_check(lua_State *L)
{
    return check(L, 1, 0);
}

/* ---- what loops ask ---- */

/* Bytes that select can't see: those that OpenSSL has, and those that wait for it, if it has not asked for more. */
static int dirty(lua_State *L)
{
    const struct cotls_luasec *o = cotls_luasec_check(L);
    const struct cotls_conn *c = o->stage == LUASEC_CLOSED ? NULL : o->c;
    bool is =
        c != NULL &&
        (cotls_buf_length(&c->plain) > 0 ||
         (c->ssl != NULL && (SSL_pending(c->ssl) > 0 || (!o->starved && cotls_buf_length(&c->cipher) > 0))));
    lua_pushboolean(L, is);
    return 1;
}

static int get_fd(lua_State *L)
{
    lua_pushinteger(L, cotls_luasec_check(L)->fd);
    return 1;
}

static int want(lua_State *L)
{
    const struct cotls_luasec *o = cotls_luasec_check(L);
    const struct cotls_conn *c = o->stage == LUASEC_CLOSED ? NULL : o->c;
    int code = c == NULL || c->ssl == NULL ? SSL_NOTHING : SSL_want(c->ssl);
    if (c != NULL && cotls_buf_length(&c->out) > 0)
        code = SSL_WRITING;
    lua_pushstring(L, code == SSL_WRITING ? "write" : code == SSL_READING ? "read" : "nothing");
    return 1;
}

static int get_stats(lua_State *L)
{
    const struct cotls_luasec *o = cotls_luasec_check(L);
    lua_pushnumber(L, o->received);
    lua_pushnumber(L, o->sent);
    lua_pushnumber(L, cotls_now() - o->birthday);
    return 3;
}

static int set_stats(lua_State *L)
{
    struct cotls_luasec *o = cotls_luasec_check(L);
    o->received = luaL_optnumber(L, 2, o->received);
    o->sent = luaL_optnumber(L, 3, o->sent);
    if (lua_isnumber(L, 4))
        o->birthday = cotls_now() - lua_tonumber(L, 4);
    lua_pushinteger(L, 1);
    return 1;
}

/* ---- its life ---- */

/* luasec.set_fd(object, fd): from now on its own */
static int set_fd(lua_State *L)
{
    struct cotls_luasec *o = cotls_luasec_check(L);
    luaL_argcheck(L, o->stage == LUASEC_NEW && o->c == NULL, 1, "invalid SSL object state");
    o->fd = (int)luaL_checkinteger(L, 2);
    return 0;
}

/* luasec.attach(object, connection) */
static int attach(lua_State *L)
{
    struct cotls_luasec *o = cotls_luasec_check(L);
    struct cotls_conn *c = luaL_checkudata(L, 2, COTLS_CONNECTION);
    lua_settop(L, 2);
    lua_setiuservalue(L, 1, UV_LUASEC_CONN);
    o->c = c;
    c->luasec = o;
    c->owns = false; /* the descriptor is the object's, and outlives a handshake that fails */
    return 0;
}

/* luasec.stage(object) → "new", "connected" or "closed" */
static int stage(lua_State *L)
{
    static const char *const names[] = {"new", "connected", "closed"};
    lua_pushstring(L, names[cotls_luasec_check(L)->stage]);
    return 1;
}

/* What has arrived unread would make the kernel answer close with a reset, which destroys what is still to be sent. */
static void drain(int fd)
{
    unsigned char waste[4096];
    for (int i = 0; i < 16; i++)
        if (recv(fd, waste, sizeof waste, MSG_DONTWAIT) <= 0)
            return;
}

/* The connection first, so that its scheduler hears of it before the descriptor goes. Never waits. */
static void let_go(lua_State *L, struct cotls_luasec *o, bool notify)
{
    int fd = o->fd;
    o->stage = LUASEC_CLOSED;
    o->fd = -1;
    if (o->c != NULL) {
        lua_getiuservalue(L, 1, UV_LUASEC_CONN);
        cotls_conn_close(L, -1, notify);
        lua_pop(L, 1);
        if (notify && fd >= 0 && !o->c->ended)
            drain(fd);
        o->c->luasec = NULL;
        o->c = NULL;
    }
    if (fd >= 0)
        close(fd);
}

static int close_object(lua_State *L)
{
    let_go(L, cotls_luasec_check(L), true);
    return 0;
}

static int collect(lua_State *L)
{
    let_go(L, cotls_luasec_check(L), false);
    return 0;
}

static int to_string(lua_State *L)
{
    const struct cotls_luasec *o = cotls_luasec_check(L);
    lua_pushfstring(L, "SSL connection: %p%s", (const void *)o, o->stage == LUASEC_CLOSED ? " (closed)" : "");
    return 1;
}

static const luaL_Reg functions[] = {
    {"attach", attach}, {"metatable", push_metatable}, {"new", new_object},  {"set_fd", set_fd},
    {"stage", stage},   {"state", state_function},     {"test", test_state}, {NULL, NULL},
};

static const luaL_Reg methods[] = {
    {"close", close_object}, {"dirty", dirty}, {"getfd", get_fd}, {"getstats", get_stats},
    {"setstats", set_stats}, {"want", want},   {NULL, NULL},
};

static const luaL_Reg meta[] = {
    {"__gc", collect}, {"__close", close_object}, {"__tostring", to_string}, {NULL, NULL}};

/* [-0, +0] core.luasec, of the table on top */
void cotls_luasec_open(lua_State *L)
{
    for (int i = 0; classes[i] != NULL; i++) {
        lua_rawgetp(L, LUA_REGISTRYINDEX, &class_keys[i]);
        bool there = lua_istable(L, -1); /* the module may be opened again */
        lua_pop(L, 1);
        if (there)
            continue;
        lua_newtable(L);
        lua_pushstring(L, classes[i]);
        lua_setfield(L, -2, "__name");
        lua_newtable(L);
        if (i == 0)
            luaL_setfuncs(L, methods, 0);
        lua_setfield(L, -2, "__index");
        if (i == 0)
            luaL_setfuncs(L, meta, 0);
        lua_rawsetp(L, LUA_REGISTRYINDEX, &class_keys[i]);
    }
    luaL_newlib(L, functions);
    luaL_setfuncs(L, cotls_luasec_operations, 0);
    luaL_setfuncs(L, cotls_luasec_context_functions, 0);
    luaL_setfuncs(L, cotls_luasec_option_functions, 0);
    luaL_setfuncs(L, cotls_luasec_x509_functions, 0);
    lua_setfield(L, -2, "luasec");
}
