/* SPDX-License-Identifier: MIT
 * The operations of connections in LuaSec's manner: the handshake, receive and
 * send, which give what there is together with what is wanted. Where the timeout
 * is 0 a want is a result here, not an error: no object is made for it. */
#include "cotls.h"

#include <math.h>
#include <string.h>

#define NUMBER_MAX 0x1p53 /* of bytes; what is more is as much */

/* How an operation ended that did not fail: in s->written, s->scanned of a send. */
enum outcome { OUTCOME_DONE, OUTCOME_CLOSED, OUTCOME_READ, OUTCOME_WRITE };

/* ---- wants that are results ---- */

/* A want where nobody waits. */
static bool is_want(const struct cotls_slot *s, enum cotls_step step)
{
    return s->timeout == 0 && (step == STEP_WANT_READ || step == STEP_WANT_WRITE);
}

/* Where nobody waits "empty" is said by what this operation has seen: what an earlier one saw is forgotten. */
static void look_anew(struct cotls_conn *c, const struct cotls_slot *s)
{
    if (s->timeout == 0)
        c->drained = false;
}

static enum outcome outcome_of(enum cotls_step step)
{
    return step == STEP_WANT_READ ? OUTCOME_READ : OUTCOME_WRITE;
}

/* A step of that operation; a want where nobody waits is its outcome. */
static enum cotls_step step_of(const struct cotls_op *op, lua_State *L, struct cotls_conn *c,
                               struct cotls_slot *s, size_t *outcome)
{
    look_anew(c, s);
    enum cotls_step step = op->step(L, c, s);
    *outcome = OUTCOME_DONE;
    if (!is_want(s, step))
        return step;
    *outcome = outcome_of(step);
    return STEP_DONE;
}

static const char *const outcome_texts[] = {
    [OUTCOME_CLOSED] = "closed", [OUTCOME_READ] = "wantread", [OUTCOME_WRITE] = "wantwrite"};

/* ---- the handshake ---- */

static enum cotls_step handshake_step(lua_State *L, struct cotls_conn *c, struct cotls_slot *s)
{
    return step_of(&cotls_op_do_handshake, L, c, s, &s->written);
}

static int push_shaken(lua_State *L, struct cotls_conn *c, struct cotls_slot *s)
{
    enum outcome outcome = (enum outcome)s->written;
    lua_pushboolean(L, outcome == OUTCOME_DONE);
    if (outcome != OUTCOME_DONE) {
        lua_pushstring(L, outcome_texts[outcome]);
        return 2;
    }
    if (c->luasec != NULL)
        c->luasec->stage = LUASEC_CONNECTED;
    return 1;
}

static const struct cotls_op op_handshake = {
    "do_handshake", SLOT_WHOLE, true, handshake_step, push_shaken, NULL,
};

/* luasec.handshake(object) → true; false, text; nil, err; nil where it has no connection yet, or has failed */
static int handshake(lua_State *L)
{
    struct cotls_luasec *o = cotls_luasec_check(L);
    lua_settop(L, 1);
    if (o->stage == LUASEC_NEW && o->c != NULL) {
        lua_getiuservalue(L, 1, UV_LUASEC_CONN);
        lua_replace(L, 1);
        return cotls_run(L, o->c, &op_handshake, handshake);
    }
    if (o->stage == LUASEC_CLOSED) {
        lua_pushboolean(L, false);
        lua_pushstring(L, outcome_texts[OUTCOME_CLOSED]);
        return 2;
    }
    if (o->stage != LUASEC_CONNECTED)
        return 0;
    lua_pushboolean(L, true);
    return 1;
}

/* ---- receive ---- */

/* What the pattern asks for: arguments 2 and 3 of the operation are the pattern and the prefix. */
struct wish {
    bool line, all;
    size_t count;
};

static struct wish read_wish(lua_State *L)
{
    struct wish w = {0};
    size_t prefix = lua_rawlen(L, 3);
    if (lua_type(L, 2) == LUA_TNUMBER) {
        lua_Number n = lua_tonumber(L, 2);
        w.count = n > (lua_Number)prefix ? (size_t)fmin(n, NUMBER_MAX) - prefix : 0;
        return w;
    }
    const char *pattern = lua_tostring(L, 2);
    w.line = pattern[1] == 'l';
    w.all = !w.line;
    return w;
}

/* Is there what is asked for? *n becomes the length that is taken, of what there is. */
static bool fulfilled(struct cotls_conn *c, struct cotls_slot *s, const struct wish *w, size_t *n)
{
    size_t have = cotls_buf_length(&c->plain);
    *n = have;
    if (w->all || have == 0)
        return false;
    if (!w->line) {
        *n = have < w->count ? have : w->count;
        return have >= w->count;
    }
    const char *p = (const char *)cotls_buf_bytes(&c->plain);
    const char *end = memchr(p + s->scanned, '\n', have - s->scanned);
    s->scanned = have;
    if (end != NULL)
        *n = (size_t)(end - p) + 1;
    return end != NULL;
}

static enum cotls_step receive_step(lua_State *L, struct cotls_conn *c, struct cotls_slot *s)
{
    struct wish w = read_wish(L);
    size_t n;
    s->written = OUTCOME_DONE;
    look_anew(c, s);
    while (!fulfilled(c, s, &w, &n)) {
        enum cotls_step step = cotls_fill(c);
        if (step == STEP_END) {
            s->written = w.all && n > 0 ? OUTCOME_DONE : OUTCOME_CLOSED;
            break;
        }
        if (is_want(s, step)) {
            s->written = outcome_of(step);
            break;
        }
        if (step != STEP_DONE)
            return step;
        if (++s->records % 64 == 0)
            return STEP_TURN;
    }
    s->offset = n;
    return STEP_DONE;
}

/* A line without its end; LuaSocket leaves out every \r. */
static void add_line(luaL_Buffer *b, const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] != '\r' && p[i] != '\n')
            luaL_addchar(b, p[i]);
}

/* The prefix and n received bytes, which are gone then. [-0, +1] */
static void push_taken(lua_State *L, struct cotls_conn *c, size_t n)
{
    size_t prefix;
    const char *before = lua_tolstring(L, 3, &prefix);
    const char *p = n > 0 ? (const char *)cotls_buf_bytes(&c->plain) : "";
    if (prefix == 0 && lua_type(L, 2) == LUA_TNUMBER) {
        lua_pushlstring(L, p, n);
    } else {
        luaL_Buffer b;
        luaL_buffinit(L, &b);
        luaL_addlstring(&b, before, prefix);
        if (read_wish(L).line)
            add_line(&b, p, n);
        else
            luaL_addlstring(&b, p, n);
        luaL_pushresult(&b);
    }
    if (n > 0)
        cotls_buf_consume(&c->plain, n);
    if (c->luasec != NULL)
        c->luasec->received += (double)n;
}

static int push_outcome(lua_State *L, enum outcome outcome)
{
    lua_pushnil(L);
    lua_insert(L, -2);
    lua_pushstring(L, outcome_texts[outcome]);
    lua_insert(L, -2);
    return 3;
}

static int push_two_nils(lua_State *L)
{
    lua_pushnil(L);
    lua_pushnil(L);
    return 3;
}

static int push_received(lua_State *L, struct cotls_conn *c, struct cotls_slot *s)
{
    enum outcome outcome = (enum outcome)s->written;
    if (c->luasec != NULL)
        c->luasec->starved = outcome == OUTCOME_READ;
    push_taken(L, c, s->offset);
    return outcome == OUTCOME_DONE ? push_two_nils(L) : push_outcome(L, outcome);
}

static const struct cotls_op op_receive = {"receive", SLOT_READ, false, receive_step, push_received, NULL};

/* The connection takes the object's place, which stays alive in the caller's frame. false: it is not connected. */
static bool take_place(lua_State *L, const struct cotls_luasec *o)
{
    if (o->stage != LUASEC_CONNECTED)
        return false;
    lua_getiuservalue(L, 1, UV_LUASEC_CONN);
    lua_replace(L, 1);
    return true;
}

static void check_pattern(lua_State *L)
{
    bool number = lua_isnumber(L, 2);
    lua_settop(L, 3);
    if (number) {
        lua_pushnumber(L, lua_tonumber(L, 2)); /* a numeral, too */
        lua_replace(L, 2);
        luaL_argcheck(L, lua_tonumber(L, 2) >= 0, 2, "invalid receive pattern");
    } else if (lua_isnil(L, 2)) {
        lua_pushliteral(L, "*l");
        lua_replace(L, 2);
    }
    const char *pattern = number ? "*l" : luaL_checkstring(L, 2);
    luaL_argcheck(L, pattern[0] == '*' && (pattern[1] == 'l' || pattern[1] == 'a'), 2,
                  "invalid receive pattern");
    if (lua_isnil(L, 3)) {
        lua_pushliteral(L, "");
        lua_replace(L, 3);
    }
    luaL_checkstring(L, 3);
}

/* luasec.receive(object, pattern, prefix) → data; nil, text, partial; or nil, err, and `rest` tells what is there */
static int receive(lua_State *L)
{
    struct cotls_luasec *o = cotls_luasec_check(L);
    check_pattern(L);
    if (take_place(L, o))
        return cotls_run(L, o->c, &op_receive, receive);
    return push_outcome(L, OUTCOME_CLOSED);
}

/* luasec.rest(object, pattern, prefix) → the prefix and what has arrived, if that is no other coroutine's */
static int rest(lua_State *L)
{
    struct cotls_luasec *o = cotls_luasec_check(L);
    check_pattern(L);
    if (o->c == NULL)
        return 1;
    lua_getiuservalue(L, 1, UV_LUASEC_CONN);
    lua_replace(L, 1);
    bool taken = cotls_slot_held(L, o->c, &o->c->slot[SLOT_READ]);
    push_taken(L, o->c, taken ? 0 : cotls_buf_length(&o->c->plain));
    return 1;
}

/* ---- send ---- */

static enum cotls_step send_step(lua_State *L, struct cotls_conn *c, struct cotls_slot *s)
{
    return step_of(&cotls_op_write, L, c, s, &s->scanned);
}

/* Who is told that all is sent does not come again; but somebody must, for what could not go out yet. */
static size_t withhold(lua_State *L, struct cotls_luasec *o, size_t written)
{
    size_t size;
    const char *data = lua_tolstring(L, 2, &size);
    if (written == 0 || written < size)
        return written;
    o->withheld = true;
    o->last = data[size - 1];
    return written - 1;
}

static int push_sent(lua_State *L, struct cotls_conn *c, struct cotls_slot *s)
{
    struct cotls_luasec *o = c->luasec;
    enum outcome outcome = (enum outcome)s->scanned;
    size_t written = s->written;
    if (o != NULL)
        o->sent += (double)written;
    if (o != NULL && outcome != OUTCOME_DONE)
        written = withhold(L, o, written);
    lua_pushinteger(L, (lua_Integer)(written + (o != NULL ? o->base : 0)));
    return outcome == OUTCOME_DONE ? push_two_nils(L) : push_outcome(L, outcome);
}

/* err.written: the index of the last byte that is encrypted. */
static void annotate_send(lua_State *L, struct cotls_conn *c, struct cotls_slot *s)
{
    size_t base = c->luasec != NULL ? c->luasec->base : 0;
    lua_pushinteger(L, (lua_Integer)(s->written + base));
    lua_setfield(L, -2, "written");
}

static const struct cotls_op op_send = {"send", SLOT_WRITE, false, send_step, push_sent, annotate_send};

static lua_Integer number_at(lua_State *L, int index, lua_Number otherwise)
{
    return (lua_Integer)fmin(fmax(luaL_optnumber(L, index, otherwise), -NUMBER_MAX), NUMBER_MAX);
}

/* Of the string of that size the bytes from *start to *end, counted from 1, as LuaSocket counts. */
static void read_range(lua_State *L, lua_Integer size, lua_Integer *start, lua_Integer *end)
{
    *start = number_at(L, 3, 1);
    *end = number_at(L, 4, -1);
    if (*start < 0)
        *start = size + *start + 1;
    if (*end < 0)
        *end = size + *end + 1;
    if (*start < 1)
        *start = 1;
    if (*end > size)
        *end = size;
}

/* luasec.send(object, data, from, to) → the last byte's index; nil, text, index; or nil, err */
static int send_data(lua_State *L)
{
    struct cotls_luasec *o = cotls_luasec_check(L);
    lua_Integer start, end;
    size_t size;
    const char *data = luaL_checklstring(L, 2, &size);
    read_range(L, (lua_Integer)size, &start, &end);
    if (o->stage != LUASEC_CONNECTED) {
        lua_pushinteger(L, start - 1);
        return start <= end ? push_outcome(L, OUTCOME_CLOSED) : push_two_nils(L);
    }
    take_place(L, o);
    size_t base = o->base;
    bool busy = cotls_slot_busy(L, o->c, &op_send); /* what is known is of another coroutine's string then */
    if (o->withheld && start <= end && !busy) {     /* it is on its way */
        if (data[start - 1] == o->last)
            start++;
        o->withheld = false;
    }
    o->base = (size_t)(start - 1);
    if (start > end) {
        lua_pushliteral(L, "");
        lua_replace(L, 2);
    } else if (start > 1 || end < (lua_Integer)size) {
        lua_pushlstring(L, data + start - 1, (size_t)(end - start + 1));
        lua_replace(L, 2);
    }
    lua_settop(L, 2);
    int n = cotls_run(L, o->c, &op_send, send_data);
    if (busy) /* it has not waited */
        o->base = base;
    return n;
}

const luaL_Reg cotls_luasec_operations[] = {
    {"handshake", handshake}, {"receive", receive}, {"rest", rest}, {"send", send_data}, {NULL, NULL},
};
