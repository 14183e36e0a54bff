/* SPDX-License-Identifier: MIT
 * Connections in LuaSec's manner: an object that owns the descriptor and outlives
 * its cotls connection, what loops ask of it, and its life. luasec_operations.c has
 * what it does; cotls/luasec does the rest, in Lua. */
#include "cotls.h"

#include <unistd.h>

/* ---- the objects ---- */

static const char *const classes[] = {"SSL:Connection", "SSL:Context", "SSL:Certificate", NULL};
enum { CONNECTION };             /* the first of them */
static const char class_keys[3]; /* their addresses: the registry's keys of the metatables */

/* The functions of a class have its metatable and its number as upvalues: no look-up at each call. */
enum { OWN_META = 1, OWN_CLASS };

static struct cotls_luasec *test_own(lua_State *L)
{
    struct cotls_luasec *o = lua_touserdata(L, 1);
    if (o == NULL || !lua_getmetatable(L, 1))
        return NULL;
    bool same = lua_rawequal(L, -1, lua_upvalueindex(OWN_META));
    lua_pop(L, 1);
    return same ? o : NULL;
}

static int own_class(lua_State *L)
{
    return (int)lua_tointeger(L, lua_upvalueindex(OWN_CLASS));
}

/* The first argument, of the class whose the running function is; raises for anything else. */
struct cotls_luasec *cotls_luasec_check(lua_State *L)
{
    struct cotls_luasec *o = test_own(L);
    if (o == NULL)
        luaL_error(L, "bad argument #1 (%s expected, got %s)", classes[own_class(L)], luaL_typename(L, 1));
    return o;
}

/* [-0, +0] functions of the class, into the table on top */
static void set_functions(lua_State *L, int class, const luaL_Reg *list)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, &class_keys[class]);
    lua_pushinteger(L, class);
    luaL_setfuncs(L, list, 2);
}

/* new(state) → an object */
static int new_object(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    struct cotls_luasec *o = lua_newuserdatauv(L, sizeof *o, UV_LUASEC_COUNT);
    *o = (struct cotls_luasec){.fd = -1, .block = -1, .total = -1, .birthday = cotls_now()};
    lua_pushvalue(L, lua_upvalueindex(OWN_META));
    lua_setmetatable(L, -2);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, UV_LUASEC_STATE);
    return 1;
}

/* test(value) → the state of an object, or nil where it is none */
static int test_state(lua_State *L)
{
    if (test_own(L) == NULL)
        lua_pushnil(L);
    else
        lua_getiuservalue(L, 1, UV_LUASEC_STATE);
    return 1;
}

/* state(object) → its state; raises for anything else */
static int push_state(lua_State *L)
{
    cotls_luasec_check(L);
    lua_getiuservalue(L, 1, UV_LUASEC_STATE);
    return 1;
}

/* luasec.class(name) → {metatable=, new=, state=, test=}: the functions above, for objects of that class */
static int push_class(lua_State *L)
{
    static const luaL_Reg of_class[] = {
        {"new", new_object}, {"state", push_state}, {"test", test_state}, {NULL, NULL}};
    int class = luaL_checkoption(L, 1, NULL, classes);
    lua_newtable(L);
    set_functions(L, class, of_class);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &class_keys[class]);
    lua_setfield(L, -2, "metatable");
    return 1;
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

/* What one operation may take, of both timeouts: those of LuaSocket, -1 for no limit. */
static void apply_timeouts(const struct cotls_luasec *o)
{
    if (o->c == NULL)
        return;
    if (o->block == 0 || o->total == 0)
        o->c->timeout = 0;
    else
        o->c->timeout = o->total >= 0 ? o->total : o->block;
}

/* settimeout(seconds, mode): "b", of each wait; "t" or "r", of the whole operation */
static int set_timeout(lua_State *L)
{
    struct cotls_luasec *o = cotls_luasec_check(L);
    lua_Number seconds = luaL_optnumber(L, 2, -1);
    const char *mode = luaL_optstring(L, 3, "b");
    luaL_argcheck(L, mode[0] == 'b' || mode[0] == 'r' || mode[0] == 't', 3, "invalid timeout mode");
    seconds = seconds >= 0 ? seconds : -1;
    if (mode[0] == 'b')
        o->block = seconds;
    else
        o->total = seconds;
    apply_timeouts(o);
    lua_pushinteger(L, 1);
    return 1;
}

/* luasec.block(connection) → seconds that each of its waits may take, if that is not what the operation may */
static int push_block(lua_State *L)
{
    const struct cotls_conn *c = luaL_checkudata(L, 1, COTLS_CONNECTION);
    if (c->luasec == NULL || c->luasec->block <= 0 || c->luasec->total <= 0)
        return 0;
    lua_pushnumber(L, c->luasec->block);
    return 1;
}

/* luasec.apply_timeouts(object): after its connection had another */
static int reapply_timeouts(lua_State *L)
{
    apply_timeouts(cotls_luasec_check(L));
    return 0;
}

/* luasec.attach(object, connection): a new one, whose side and timeouts are set */
static int attach(lua_State *L)
{
    struct cotls_luasec *o = cotls_luasec_check(L);
    struct cotls_conn *c = luaL_checkudata(L, 2, COTLS_CONNECTION);
    lua_settop(L, 2);
    lua_setiuservalue(L, 1, UV_LUASEC_CONN);
    o->c = c;
    c->luasec = o;
    c->owns = false; /* the descriptor is the object's, and outlives a handshake that fails */
    cotls_choose_side(L, c, c->ctx->server ? SIDE_ACCEPT : SIDE_CONNECT, "dohandshake");
    apply_timeouts(o);
    return 0;
}

/* luasec.fail(object): its handshake is over, and not done */
static int fail_object(lua_State *L)
{
    struct cotls_luasec *o = cotls_luasec_check(L);
    if (o->stage == LUASEC_NEW)
        o->stage = LUASEC_FAILED;
    return 0;
}

/* luasec.stage(object) → one of these */
static int stage(lua_State *L)
{
    static const char *const names[] = {"new", "connected", "failed", "closed"};
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

static const luaL_Reg functions[] = {{"block", push_block}, {"class", push_class}, {NULL, NULL}};

static const luaL_Reg connection_functions[] = {
    {"apply_timeouts", reapply_timeouts},
    {"attach", attach},
    {"fail", fail_object},
    {"set_fd", set_fd},
    {"stage", stage},
    {NULL, NULL},
};

static const luaL_Reg methods[] = {
    {"close", close_object}, {"dirty", dirty},
    {"getfd", get_fd},       {"getstats", get_stats},
    {"setstats", set_stats}, {"settimeout", set_timeout},
    {"want", want},          {NULL, NULL},
};

static const luaL_Reg meta[] = {
    {"__gc", collect}, {"__close", close_object}, {"__tostring", to_string}, {NULL, NULL}};

/* [-0, +0] */
static void open_class(lua_State *L, int class)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, &class_keys[class]);
    bool there = lua_istable(L, -1); /* the module may be opened again */
    lua_pop(L, 1);
    if (there)
        return;
    lua_newtable(L);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &class_keys[class]);
    lua_pushstring(L, classes[class]);
    lua_setfield(L, -2, "__name");
    lua_newtable(L);
    if (class == CONNECTION)
        set_functions(L, class, methods);
    lua_setfield(L, -2, "__index");
    if (class == CONNECTION)
        set_functions(L, class, meta);
    lua_pop(L, 1);
}

/* [-0, +0] core.luasec, of the table on top */
void cotls_luasec_open(lua_State *L)
{
    for (int i = 0; classes[i] != NULL; i++)
        open_class(L, i);
    luaL_newlib(L, functions);
    set_functions(L, CONNECTION, connection_functions);
    set_functions(L, CONNECTION, cotls_luasec_operations);
    luaL_setfuncs(L, cotls_luasec_context_functions, 0);
    luaL_setfuncs(L, cotls_luasec_option_functions, 0);
    luaL_setfuncs(L, cotls_luasec_x509_functions, 0);
    lua_setfield(L, -2, "luasec");
}
