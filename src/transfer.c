/* SPDX-License-Identifier: MIT
 * The operations on an established connection: read in Lua's file formats,
 * recv, peek, write, shutdown. Each is one SSL_* call a step and a function that
 * pushes results; drive.c does the rest. What is read is taken from c->plain
 * only when the whole operation succeeds, so a failure loses nothing. */
#include "cotls.h"

#include <ctype.h>
#include <math.h>
#include <openssl/err.h>
#include <string.h>

#define NUMERAL_MAX 200 /* the longest numeral, as in liolib */

/* Records that one operation moves before others have their turn: 1 MiB. */
#define RECORDS_PER_TURN 64

static bool turn_is_over(struct cotls_slot *s)
{
    return ++s->records % RECORDS_PER_TURN == 0;
}

/* ---- reading ---- */

/* Output that reading brought forth (a handshake message, an alert) goes out as far as it can. */
static enum cotls_step want_read(struct cotls_conn *c)
{
    bool blocked = cotls_flush(c) == 0;
    return blocked && SSL_in_init(c->ssl) ? STEP_WANT_WRITE : STEP_WANT_READ;
}

static int read_data(SSL *ssl, void *data, size_t size, size_t *got)
{
    cotls_clear_errors();
    return SSL_read_ex(ssl, data, size, got);
}

/* One SSL_read into c->plain. */
enum cotls_step cotls_fill(struct cotls_conn *c)
{
    if (c->ended)
        return STEP_END;
    if (c->failed)
        return STEP_FAIL;
    unsigned char *room = cotls_buf_room(&c->plain, &c->st->plain, COTLS_RECORD);
    cotls_clear_errors();
    if (room == NULL || c->plain.lost) {
        ERR_raise(ERR_LIB_SSL, ERR_R_MALLOC_FAILURE);
        c->ssl_error = SSL_ERROR_SSL;
        return STEP_FAIL;
    }
    size_t n = 0;
    int r = cotls_call_read(c, read_data, room, &n);
    enum cotls_step step = cotls_outcome(c, r);
    if (step == STEP_DONE)
        c->plain.len += n;
    else if (step == STEP_WANT_READ)
        step = want_read(c);
    else if (step == STEP_WANT_WRITE || step == STEP_FAIL)
        cotls_flush(c); /* what is in the way; the alert */
    return step;
}

/* err.partial: the bytes that stay for later reads. */
static void annotate_read(lua_State *L, struct cotls_conn *c, struct cotls_slot *s)
{
    (void)s;
    lua_pushinteger(L, (lua_Integer)cotls_buf_length(&c->plain));
    lua_setfield(L, -2, "partial");
}

static enum cotls_step recv_step(lua_State *L, struct cotls_conn *c, struct cotls_slot *s)
{
    (void)L;
    (void)s;
    if (cotls_buf_length(&c->plain) > 0)
        return STEP_DONE;
    enum cotls_step step = cotls_fill(c);
    return step == STEP_END ? STEP_DONE : step;
}

static int push_peeked(lua_State *L, struct cotls_conn *c, struct cotls_slot *s)
{
    size_t n = cotls_buf_length(&c->plain), max = (size_t)lua_tointeger(L, 2);
    (void)s;
    if (n == 0)
        lua_pushnil(L);
    else
        lua_pushlstring(L, (const char *)cotls_buf_bytes(&c->plain), n < max ? n : max);
    return 1;
}

static int push_received(lua_State *L, struct cotls_conn *c, struct cotls_slot *s)
{
    push_peeked(L, c, s);
    if (!lua_isnil(L, -1))
        cotls_buf_consume(&c->plain, lua_rawlen(L, -1));
    return 1;
}

/* ---- formats ---- */

/* A format: with the bytes at `p` it pushes a value and says how long that was,
 * or -1 when it needs more than `n`. At the end (`last`) it always decides. */
struct view {
    const char *p;
    size_t n;
    bool last;
};

static ptrdiff_t format_count(lua_State *L, struct view v, size_t count)
{
    if (v.n < count || v.n == 0) {
        if (!v.last)
            return -1;
        count = v.n;
    }
    if (v.n == 0)
        lua_pushnil(L);
    else
        lua_pushlstring(L, v.p, count);
    return (ptrdiff_t)count;
}

static ptrdiff_t format_all(lua_State *L, struct view v)
{
    if (!v.last)
        return -1;
    lua_pushlstring(L, v.p, v.n);
    return (ptrdiff_t)v.n;
}

/* -2: longer than limit. */
static ptrdiff_t format_line(lua_State *L, struct view v, struct cotls_slot *s, size_t limit, bool keep)
{
    size_t end = v.n <= limit ? v.n : limit + 1;
    const char *nl = s->scanned < end ? memchr(v.p + s->scanned, '\n', end - s->scanned) : NULL;
    if (nl == NULL) {
        s->scanned = end;
        if (v.n > limit)
            return -2;
        if (!v.last)
            return -1;
        if (v.n == 0)
            lua_pushnil(L);
        else
            lua_pushlstring(L, v.p, v.n);
        return (ptrdiff_t)v.n;
    }
    lua_pushlstring(L, v.p, (size_t)(nl - v.p) + keep);
    return nl - v.p + 1;
}

/* A scan of a numeral: where it stands, and whether it ran out of bytes. */
struct numeral {
    struct view v;
    size_t at, count;
    char text[NUMERAL_MAX + 1];
    bool dry, too_long;
};

/* The byte at hand, 0 at the end. */
static int look(struct numeral *m)
{
    if (m->at < m->v.n)
        return (unsigned char)m->v.p[m->at];
    m->dry = true;
    return 0;
}

static bool take(struct numeral *m)
{
    m->too_long = m->count == NUMERAL_MAX;
    if (!m->too_long)
        m->text[m->count++] = m->v.p[m->at++];
    return !m->too_long;
}

static bool take_one(struct numeral *m, const char *set)
{
    int byte = look(m);
    return byte != 0 && strchr(set, byte) != NULL && take(m);
}

static int take_digits(struct numeral *m, bool hex)
{
    int n = 0;
    while ((hex ? isxdigit(look(m)) : isdigit(look(m))) && take(m))
        n++;
    return n;
}

/* Lua's numerals, as io.read("n") takes them; a pushed nil when there is none.
 * -2: more white space than limit. */
static ptrdiff_t format_number(lua_State *L, struct view v, struct cotls_slot *s, size_t limit)
{
    struct numeral m = {.v = v, .at = s->scanned};
    while (m.at < v.n && isspace((unsigned char)v.p[m.at]))
        m.at++;
    s->scanned = m.at;
    if (m.at > limit)
        return -2;
    take_one(&m, "+-");
    bool zero = take_one(&m, "0"), hex = zero && take_one(&m, "xX");
    int digits = take_digits(&m, hex) + (zero && !hex);
    if (take_one(&m, "."))
        digits += take_digits(&m, hex);
    if (digits > 0 && take_one(&m, hex ? "pP" : "eE")) {
        take_one(&m, "+-");
        take_digits(&m, false);
    }
    look(&m);
    if (m.dry && !v.last && !m.too_long)
        return -1;
    m.text[m.too_long ? 0 : m.count] = '\0';
    if (lua_stringtonumber(L, m.text) == 0)
        lua_pushnil(L);
    return (ptrdiff_t)m.at;
}

/* The format at argument s->arg on what was not read yet: as the format_… above. */
static ptrdiff_t apply_format(lua_State *L, struct cotls_conn *c, struct cotls_slot *s)
{
    bool stale = s->leftover && c->failed;
    struct view v = {"", cotls_buf_length(&c->plain) - s->offset, c->ended};
    if (v.n > 0)
        v.p = (const char *)cotls_buf_bytes(&c->plain) + s->offset;
    if (lua_type(L, s->arg) == LUA_TNUMBER) {
        v.last = v.last || (stale && v.n > 0); /* what a failed read left */
        return format_count(L, v, (size_t)lua_tointeger(L, s->arg));
    }
    const char *format = lua_tostring(L, s->arg);
    switch (format[*format == '*']) {
    case 'a':
        return format_all(L, v);
    case 'n':
        return format_number(L, v, s, c->read_limit);
    default:
        return format_line(L, v, s, c->read_limit, format[*format == '*'] == 'L');
    }
}

/* Applies formats as long as the bytes last: STEP_DONE, STEP_LIMIT, or STEP_WANT_READ for more. */
static enum cotls_step apply_formats(lua_State *L, struct cotls_conn *c, struct cotls_slot *s)
{
    while (s->arg <= s->top) {
        ptrdiff_t n = apply_format(L, c, s);
        if (n < 0)
            return n == -1 ? STEP_WANT_READ : STEP_LIMIT;
        s->offset += (size_t)n;
        s->scanned = 0;
        s->arg = lua_isnil(L, -1) ? s->top + 1 : s->arg + 1; /* as io.read: nothing after a nil */
    }
    return STEP_DONE;
}

static enum cotls_step read_step(lua_State *L, struct cotls_conn *c, struct cotls_slot *s)
{
    for (;;) {
        enum cotls_step step = apply_formats(L, c, s);
        if (step != STEP_WANT_READ)
            return step;
        step = cotls_fill(c);
        if (step == STEP_DONE && turn_is_over(s))
            return STEP_TURN;
        if (step != STEP_DONE && step != STEP_END)
            return step;
    }
}

static int push_read(lua_State *L, struct cotls_conn *c, struct cotls_slot *s)
{
    if (s->offset > 0)
        cotls_buf_consume(&c->plain, s->offset);
    return lua_gettop(L) - s->top;
}

/* ---- writing ---- */

/* The next bytes to write, at most a record: short strings are put side by side. */
static size_t next_bytes(lua_State *L, struct cotls_conn *c, const struct cotls_slot *s, const void **data)
{
    size_t n, have = 0, offset = s->offset;
    for (int arg = s->arg; arg <= s->top; arg++, offset = 0) {
        const char *text = lua_tolstring(L, arg, &n);
        text += offset;
        n -= offset;
        if (have == 0 && (n >= COTLS_RECORD || arg == s->top)) {
            *data = text;
            return n < COTLS_RECORD ? n : COTLS_RECORD;
        }
        if (n > COTLS_RECORD - have)
            n = COTLS_RECORD - have;
        memcpy(c->st->gather + have, text, n);
        have += n;
    }
    *data = c->st->gather;
    return have;
}

static void advance(lua_State *L, struct cotls_slot *s, size_t n)
{
    s->written += n;
    s->offset += n;
    while (s->arg <= s->top && s->offset >= lua_rawlen(L, s->arg)) {
        s->offset -= lua_rawlen(L, s->arg);
        s->arg++;
    }
}

static enum cotls_step write_step(lua_State *L, struct cotls_conn *c, struct cotls_slot *s)
{
    for (;;) {
        const void *data;
        enum cotls_step step = cotls_room_step(c);
        if (step == STEP_DONE)
            step = cotls_settle(c, s);
        if (step != STEP_DONE)
            return step;
        if ((SSL_get_shutdown(c->ssl) & SSL_SENT_SHUTDOWN) != 0)
            return STEP_SHUT;
        size_t n = next_bytes(L, c, s, &data);
        if (n == 0)
            return cotls_flush_step(c);
        cotls_clear_errors();
        int r = SSL_write(c->ssl, data, (int)n);
        step = cotls_outcome(c, r);
        if (step != STEP_DONE)
            return step;
        advance(L, s, (size_t)r);
        if (turn_is_over(s))
            return STEP_TURN;
    }
}

/* err.written: the bytes that are encrypted; they are sent or will be. An error that is told again and again has
 * another number each time. */
void cotls_annotate_written(lua_State *L, struct cotls_conn *c, struct cotls_slot *s)
{
    if (c->failed)
        cotls_error_copy(L);
    lua_pushinteger(L, (lua_Integer)s->written);
    lua_setfield(L, -2, "written");
}

/* ---- shutdown ---- */

/* Sends close_notify, once. */
static enum cotls_step send_shutdown(struct cotls_conn *c)
{
    if ((SSL_get_shutdown(c->ssl) & SSL_SENT_SHUTDOWN) == 0) {
        cotls_clear_errors();
        int r = SSL_shutdown(c->ssl);
        if (r < 0)
            return cotls_outcome(c, r);
    }
    return cotls_flush_step(c);
}

static enum cotls_step shutdown_write_step(lua_State *L, struct cotls_conn *c, struct cotls_slot *s)
{
    enum cotls_step step = cotls_flush_step(c);
    (void)L;
    if (step == STEP_DONE)
        step = cotls_settle(c, s);
    return step == STEP_DONE ? send_shutdown(c) : step;
}

/* A second SSL_shutdown would fail on data that is on its way: they are read and kept. */
static enum cotls_step shutdown_step(lua_State *L, struct cotls_conn *c, struct cotls_slot *s)
{
    enum cotls_step step = shutdown_write_step(L, c, s);
    if (step != STEP_DONE)
        return step;
    do
        step = cotls_buf_length(&c->plain) > COTLS_KEPT ? STEP_LIMIT : cotls_fill(c);
    while (step == STEP_DONE);
    return step == STEP_END ? STEP_DONE : step;
}

static const struct cotls_op op_read = {"read", SLOT_READ, false, read_step, push_read, annotate_read};
static const struct cotls_op op_recv = {"recv", SLOT_READ, false, recv_step, push_received, annotate_read};
static const struct cotls_op op_peek = {"peek", SLOT_READ, false, recv_step, push_peeked, annotate_read};
const struct cotls_op cotls_op_write = {"write",    SLOT_WRITE,      false,
                                        write_step, cotls_push_self, cotls_annotate_written};
static const struct cotls_op op_shutdown_write = {"shutdown",          SLOT_WRITE,      false,
                                                  shutdown_write_step, cotls_push_self, NULL};
static const struct cotls_op op_shutdown = {"shutdown",    SLOT_WHOLE,      false,
                                            shutdown_step, cotls_push_self, annotate_read};

/* ---- methods ---- */

static void check_formats(lua_State *L)
{
    int top = lua_gettop(L);
    for (int arg = 2; arg <= top; arg++) {
        if (lua_type(L, arg) == LUA_TNUMBER) {
            luaL_argcheck(L, luaL_checkinteger(L, arg) >= 0, arg, "a count must not be negative");
            continue;
        }
        const char *format = luaL_checkstring(L, arg);
        format += *format == '*';
        luaL_argcheck(L, *format != '\0' && strchr("lLan", *format) != NULL, arg, "invalid format");
    }
    luaL_checkstack(L, top + 8, "too many formats");
}

static int conn_read(lua_State *L)
{
    struct cotls_conn *c = cotls_check_conn(L);
    if (lua_gettop(L) == 1)
        lua_pushliteral(L, "l");
    check_formats(L);
    return cotls_run(L, c, &op_read, conn_read);
}

/* The iterator: upvalues are the count of what follows, the connection, the formats. */
static int next_line(lua_State *L)
{
    int n = (int)lua_tointeger(L, lua_upvalueindex(1));
    lua_settop(L, 0);
    luaL_checkstack(L, n, "too many formats");
    for (int i = 1; i <= n; i++)
        lua_pushvalue(L, lua_upvalueindex(i + 1));
    return cotls_run_lines(L, lua_touserdata(L, 1), &op_read, next_line);
}

static int conn_lines(lua_State *L)
{
    cotls_check_conn(L);
    if (lua_gettop(L) == 1)
        lua_pushliteral(L, "l");
    check_formats(L);
    luaL_argcheck(L, lua_gettop(L) < 200, 200, "too many formats");
    lua_pushinteger(L, lua_gettop(L));
    lua_insert(L, 1);
    lua_pushcclosure(L, next_line, lua_gettop(L));
    return 1;
}

static int receive(lua_State *L, const struct cotls_op *op, lua_CFunction method)
{
    struct cotls_conn *c = cotls_check_conn(L);
    lua_Integer max = luaL_optinteger(L, 2, COTLS_RECORD);
    luaL_argcheck(L, max > 0, 2, "must be at least 1");
    lua_settop(L, 1);
    lua_pushinteger(L, max);
    return cotls_run(L, c, op, method);
}

static int conn_recv(lua_State *L)
{
    return receive(L, &op_recv, conn_recv);
}

static int conn_peek(lua_State *L)
{
    return receive(L, &op_peek, conn_peek);
}

static int conn_write(lua_State *L)
{
    struct cotls_conn *c = cotls_check_conn(L);
    for (int arg = 2; arg <= lua_gettop(L); arg++)
        luaL_checkstring(L, arg); /* a number becomes its text */
    return cotls_run(L, c, &cotls_op_write, conn_write);
}

static int conn_shutdown(lua_State *L)
{
    static const char *const kinds[] = {"write", "both", NULL};
    struct cotls_conn *c = cotls_check_conn(L);
    int kind = luaL_checkoption(L, 2, "both", kinds);
    lua_settop(L, 1);
    if (c->ssl != NULL && !c->established)
        return cotls_fail(L, "tls", "shutdown", "shutdown while in init: the handshake is not done");
    return cotls_run(L, c, kind == 0 ? &op_shutdown_write : &op_shutdown, conn_shutdown);
}

/* ---- for a connection that another one carries ---- */

/* The frame: connection, argument, deadline or nil. */
static int run_until(lua_State *L, const struct cotls_op *op, lua_CFunction method)
{
    struct cotls_conn *c = cotls_check_conn(L);
    c->until = luaL_optnumber(L, 3, HUGE_VAL);
    lua_settop(L, 2);
    return cotls_run(L, c, op, method);
}

/* core.recv_until(conn, max, deadline or nil): recv with a deadline in the place of the timeout */
int cotls_recv_until(lua_State *L)
{
    luaL_checkinteger(L, 2);
    return run_until(L, &op_recv, cotls_recv_until);
}

/* core.write_until(conn, bytes, deadline or nil): write, as above */
int cotls_write_until(lua_State *L)
{
    luaL_checkstring(L, 2);
    return run_until(L, &cotls_op_write, cotls_write_until);
}

/* Is there nothing in the way of a record that is made now? */
static bool can_write_now(lua_State *L, struct cotls_conn *c)
{
    return c->ssl != NULL && c->established && !c->failed && !cotls_is_asked(c) && !SSL_in_init(c->ssl) &&
           c->mover[WAY_WRITE] == NULL && !cotls_slot_held(L, c, &c->slot[SLOT_WRITE]) &&
           (SSL_get_shutdown(c->ssl) & SSL_SENT_SHUTDOWN) == 0 && cotls_flush(c) == 1;
}

/* core.try_write(conn, bytes) → how many there are, or nothing: they went out at once, or never will */
int cotls_try_write(lua_State *L)
{
    struct cotls_conn *c = cotls_check_conn(L);
    size_t n;
    const char *data = luaL_checklstring(L, 2, &n);
    if (n == 0 || n > COTLS_RECORD || !can_write_now(L, c))
        return 0;
    cotls_clear_errors();
    int r = SSL_write(c->ssl, data, (int)n);
    cotls_clear_errors();
    if (c->stream)
        cotls_stream_give(L, 1);
    if (r != (int)n || (c->stream ? c->send_errno != 0 : cotls_flush(c) != 1))
        return 0;
    lua_pushinteger(L, r);
    return 1;
}

const luaL_Reg cotls_transfer_methods[] = {
    {"read", conn_read},   {"lines", conn_lines},       {"recv", conn_recv}, {"peek", conn_peek},
    {"write", conn_write}, {"shutdown", conn_shutdown}, {NULL, NULL},
};
