/* SPDX-License-Identifier: MIT
 * A stream: a transport that functions written in Lua move. What they are given,
 * what comes of their results, and who is in them. The driver calls them, on the
 * caller's coroutine, where they may yield; nothing in here waits. One coroutine
 * at a time is in `read`, and one in `write`: who finds another one there leaves
 * his output to it. A failed function is remembered as an errno would be, and
 * what is known of it lies in UV_BROKEN. */
#include "cotls.h"

#include <errno.h>
#include <math.h>
#include <string.h>

/* So much is asked for at a time. */
#define MOST (4 * COTLS_WIRE)

/* The fields of UV_STREAM: the functions by cotls_way, and behind them. */
enum { STREAM_READ = 1, STREAM_WRITE, STREAM_TRY_WRITE, STREAM_READ_NAME, STREAM_WRITE_NAME };

/* ---- what goes wrong ---- */

/* The value at index in a few words, whatever it is: nothing of its own is called. [-0, +1] */
static const char *describe(lua_State *L, int index)
{
    if (cotls_is_error(L, index))
        return luaL_tolstring(L, index, NULL);
    if (lua_type(L, index) == LUA_TSTRING)
        lua_pushvalue(L, index);
    else
        lua_pushfstring(L, "a %s value", luaL_typename(L, index));
    return lua_tostring(L, -1);
}

static const char *name_of(lua_State *L, enum cotls_way way)
{
    lua_getiuservalue(L, 1, UV_STREAM);
    lua_rawgeti(L, -1, way == WAY_READ ? STREAM_READ_NAME : STREAM_WRITE_NAME);
    const char *name = lua_tostring(L, -1);
    lua_pop(L, 2); /* UV_STREAM keeps it */
    return name;
}

/* Nothing can be moved that way any more. The text of what the function did is on top, the cause (or nil) at
 * index `cause`. [-1, +0] */
static void set_broken(lua_State *L, struct cotls_conn *c, enum cotls_way way, int cause)
{
    lua_pushfstring(L, "the transport's %s %s", name_of(L, way), lua_tostring(L, -1));
    lua_createtable(L, 0, 2);
    lua_insert(L, -2);
    lua_setfield(L, -2, "reason");
    lua_pushvalue(L, cause);
    lua_setfield(L, -2, "cause");
    if (lua_getiuservalue(L, 1, UV_BROKEN) != LUA_TTABLE) {
        lua_pop(L, 1);
        lua_createtable(L, 2, 0);
        lua_pushvalue(L, -1);
        lua_setiuservalue(L, 1, UV_BROKEN);
    }
    lua_insert(L, -2);
    lua_rawseti(L, -2, way + 1);
    lua_pop(L, 2);
    if (way == WAY_READ)
        c->broken = true;
    else
        c->send_errno = COTLS_BROKEN(WAY_WRITE);
}

/* The same without a cause. */
static void set_wrong(lua_State *L, struct cotls_conn *c, enum cotls_way way)
{
    lua_pushnil(L);
    lua_insert(L, -2);
    set_broken(L, c, way, lua_gettop(L) - 1);
    lua_pop(L, 1);
}

/* It raised; the handler's table, or without memory the error itself, is on top. A write
 * that raises does not mean that the peer is gone: no alert of its is waited for. */
static void take_raise(lua_State *L, struct cotls_conn *c, enum cotls_way way)
{
    if (!lua_istable(L, -1) || cotls_is_error(L, -1)) {
        lua_createtable(L, 0, 1);
        lua_insert(L, -2);
        lua_setfield(L, -2, "error");
    }
    int cause = lua_gettop(L);
    lua_getfield(L, cause, "error");
    lua_pushfstring(L, "failed: %s", describe(L, -1));
    set_broken(L, c, way, cause);
    c->cipher.lost = c->cipher.lost || way == WAY_WRITE;
}

/* Does the function say that its time is up, or that it was cancelled? */
static enum cotls_moved verdict(lua_State *L, int why)
{
    static const struct {
        const char *code;
        enum cotls_moved moved;
    } codes[] = {{"timeout", MOVED_TIMEOUT},
                 {"want_read", MOVED_TIMEOUT},
                 {"want_write", MOVED_TIMEOUT},
                 {"cancelled", MOVED_CANCELLED}};
    bool is_error = cotls_is_error(L, why);
    enum cotls_moved found = MOVED;
    if (!is_error)
        lua_pushvalue(L, why);
    else
        lua_getfield(L, why, "code");
    for (size_t i = 0; i < (is_error ? sizeof codes / sizeof *codes : 1); i++)
        if (lua_type(L, -1) == LUA_TSTRING && strcmp(lua_tostring(L, -1), codes[i].code) == 0)
            found = codes[i].moved;
    lua_pop(L, 1);
    return found;
}

/* nil, and why at that index. Leaves an error object of a cancellation on top. */
static enum cotls_moved take_failure(lua_State *L, struct cotls_conn *c, enum cotls_way way, int why)
{
    enum cotls_moved moved = verdict(L, why);
    if (moved == MOVED) {
        lua_createtable(L, 0, 1);
        lua_pushvalue(L, why);
        lua_setfield(L, -2, "error");
        int cause = lua_gettop(L);
        lua_pushfstring(L, "failed: %s", describe(L, why));
        set_broken(L, c, way, cause);
    } else {
        lua_pushvalue(L, why);
    }
    return moved;
}

/* ---- results: the first is at index `first` ---- */

static enum cotls_moved take_read(lua_State *L, struct cotls_conn *c, int first)
{
    size_t n = 0;
    bool given = lua_type(L, first) == LUA_TSTRING;
    const char *data = given ? lua_tolstring(L, first, &n) : NULL;
    if (n > 0 && n <= MOST) {
        lua_pushvalue(L, first);
        lua_setiuservalue(L, 1, UV_LENT);
        cotls_buf_lend(&c->cipher, data, n);
        c->bytes_in += n;
        return MOVED;
    }
    if (lua_isnoneornil(L, first) && !lua_isnoneornil(L, first + 1))
        return take_failure(L, c, WAY_READ, first + 1);
    if (lua_isnoneornil(L, first)) {
        c->at_eof = true;
        return MOVED;
    }
    if (!given)
        lua_pushfstring(L, "gave a %s, not a string", luaL_typename(L, first));
    else if (n == 0)
        lua_pushliteral(L, "gave an empty string: nil is the end");
    else
        lua_pushfstring(L, "gave %d bytes, and was asked for at most %d", (int)n, MOST);
    set_wrong(L, c, WAY_READ);
    return MOVED;
}

/* How many bytes are written where not all are: said by the third result or by an error of ours; -1: by nobody. */
static lua_Integer told_written(lua_State *L, int first, size_t most)
{
    lua_Integer n = -1;
    lua_settop(L, first + 2);
    if (lua_isnil(L, first + 2) && cotls_is_error(L, first + 1))
        lua_getfield(L, first + 1, "written");
    int whole = 0;
    if (lua_type(L, -1) == LUA_TNUMBER)
        n = lua_tointegerx(L, -1, &whole);
    lua_settop(L, first + 2);
    return whole && n <= (lua_Integer)most ? n : -1;
}

static enum cotls_moved take_unwritten(lua_State *L, struct cotls_conn *c, int first, size_t n)
{
    lua_Integer written = told_written(L, first, n);
    if (lua_isnil(L, first + 1)) {
        lua_pushliteral(L, "gave neither a true value nor an error");
        set_wrong(L, c, WAY_WRITE);
        return MOVED;
    }
    enum cotls_moved moved = take_failure(L, c, WAY_WRITE, first + 1);
    if (written > 0)
        cotls_buf_consume(&c->out, (size_t)written);
    if (moved != MOVED && written < 0) { /* a byte sent twice would be worse */
        lua_pushliteral(L, "gave up without saying how much it had written");
        set_wrong(L, c, WAY_WRITE);
    }
    return moved;
}

static enum cotls_moved take_written(lua_State *L, struct cotls_conn *c, int first)
{
    size_t n = c->moving;
    c->moving = 0;
    if (!lua_toboolean(L, first))
        return take_unwritten(L, c, first, n);
    if (lua_type(L, first) == LUA_TNUMBER && lua_tonumber(L, first) != (lua_Number)n) {
        lua_pushfstring(L, "gave %s, and had %d bytes to write", lua_tostring(L, first), (int)n);
        set_wrong(L, c, WAY_WRITE);
        return MOVED;
    }
    cotls_buf_consume(&c->out, n);
    return MOVED;
}

/* ---- for the driver ---- */

/* [-0, +n + 2] the handler, the function of that way and what it is given; returns n */
int cotls_stream_call(lua_State *L, struct cotls_conn *c, struct cotls_slot *s, enum cotls_way way,
                      double deadline)
{
    luaL_checkstack(L, 10, NULL);
    lua_pushcfunction(L, cotls_explain);
    lua_getiuservalue(L, 1, UV_STREAM);
    lua_rawgeti(L, -1, way == WAY_READ ? STREAM_READ : STREAM_WRITE);
    lua_replace(L, -2);
    lua_getiuservalue(L, 1, UV_TRANSPORT);
    if (way == WAY_READ) {
        lua_pushnil(L);
        lua_setiuservalue(L, 1, UV_LENT);
        lua_pushinteger(L, MOST);
    } else {
        c->moving = cotls_buf_length(&c->out);
        lua_pushlstring(L, (const char *)cotls_buf_bytes(&c->out), c->moving);
    }
    if (deadline < HUGE_VAL)
        lua_pushnumber(L, deadline);
    else
        lua_pushnil(L);
    c->mover[way] = s;
    return 3;
}

/* The function has come back: its results, or the error, lie above the handler at s->base + 1. They are popped,
 * but for the error object of a cancellation. */
enum cotls_moved cotls_stream_take(lua_State *L, struct cotls_conn *c, struct cotls_slot *s, bool failed)
{
    enum cotls_way way = c->mover[WAY_WRITE] == s ? WAY_WRITE : WAY_READ;
    enum cotls_moved moved = MOVED;
    int first = s->base + 2;
    c->mover[way] = NULL;
    if (c->ssl == NULL)
        moved = MOVED;
    else if (failed)
        take_raise(L, c, way);
    else
        moved = way == WAY_READ ? take_read(L, c, first) : take_written(L, c, first);
    if (moved == MOVED_CANCELLED)
        lua_replace(L, s->base + 1);
    lua_settop(L, s->base + (moved == MOVED_CANCELLED));
    if (c->parked != 0)
        cotls_wake(L, c);
    return moved;
}

/* A coroutine that died in the function: what it wrote nobody knows; what it would have read is still there. */
void cotls_stream_check(lua_State *L, struct cotls_conn *c)
{
    for (enum cotls_way way = WAY_READ; way < WAY_COUNT; way++) {
        struct cotls_slot *s = c->mover[way];
        if (s == NULL || cotls_slot_held(L, c, s))
            continue;
        c->mover[way] = NULL;
        if (way == WAY_WRITE && c->ssl != NULL) {
            lua_pushliteral(L, "was left by a coroutine that died in it");
            set_wrong(L, c, way);
        }
    }
}

/* Is another coroutine in that function? */
bool cotls_stream_taken(lua_State *L, struct cotls_conn *c, enum cotls_way way)
{
    if (c->mover[way] != NULL)
        cotls_stream_check(L, c);
    return c->mover[way] != NULL;
}

/* Is output the business of a writer that waits for the stream? */
static bool is_writers(lua_State *L, struct cotls_conn *c, const struct cotls_slot *s)
{
    struct cotls_slot *w = &c->slot[SLOT_WRITE];
    return w != s && w->op != NULL && w->step == STEP_WANT_WRITE && cotls_slot_held(L, c, w);
}

/* Has the step left output that the stream should take before anything else comes? */
bool cotls_stream_has_output(lua_State *L, struct cotls_conn *c, const struct cotls_slot *s)
{
    static const bool then[] = {[STEP_DONE] = true, [STEP_WANT_READ] = true, [STEP_TURN] = true,
                                [STEP_END] = true,  [STEP_FAIL] = true,      [STEP_REFUSED] = false};
    return c->ssl != NULL && then[s->step] && !s->tried && cotls_buf_length(&c->out) > 0 &&
           cotls_stream_flush(c) == 0 && !cotls_stream_taken(L, c, WAY_WRITE) && !is_writers(L, c, s);
}

/* ---- without waiting ---- */

/* pcall's frame: a connection → what its stream's try_write gives. */
static int call_try_write(lua_State *L)
{
    struct cotls_conn *c = lua_touserdata(L, 1);
    lua_getiuservalue(L, 1, UV_STREAM);
    if (lua_rawgeti(L, -1, STREAM_TRY_WRITE) == LUA_TNIL)
        return 0;
    lua_getiuservalue(L, 1, UV_TRANSPORT);
    lua_pushlstring(L, (const char *)cotls_buf_bytes(&c->out), cotls_buf_length(&c->out));
    cotls_buf_free(&c->out); /* what comes to be written in there is no part of it */
    lua_call(L, 2, 1);
    return 1;
}

/* Gives the stream of the connection at index what can be written at once. What is not taken is lost, and nothing
 * can be sent any more. try_write may itself write to the connection, or close it. Raises nothing. [-0, +0] */
void cotls_stream_give(lua_State *L, int index)
{
    struct cotls_conn *c = lua_touserdata(L, index);
    size_t n = cotls_buf_length(&c->out);
    index = lua_absindex(L, index);
    if (n == 0)
        return;
    lua_pushcfunction(L, call_try_write);
    lua_pushvalue(L, index);
    bool ok = lua_pcall(L, 1, 1, 0) == LUA_OK && lua_tonumber(L, -1) == (lua_Number)n;
    lua_pop(L, 1);
    if (!ok) {
        cotls_buf_free(&c->out);
        c->send_errno = EPIPE;
    }
}

/* What the collector, and who has no memory, pushes later. */
void cotls_stream_open(lua_State *L)
{
    lua_pushcfunction(L, call_try_write);
    lua_pushcfunction(L, cotls_explain);
    lua_pop(L, 2);
}
