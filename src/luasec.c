/* SPDX-License-Identifier: MIT
 * Connections in LuaSec's manner: an object that owns the descriptor and outlives
 * its cotls connection, and the two operations that give what there is together
 * with what is wanted. Where the timeout is 0 a want is a result here, not an
 * error: no object is made for it. cotls/luasec does the rest, in Lua. */
#include "cotls.h"

#include <errno.h>
#include <math.h>
#include <openssl/err.h>
#include <string.h>
#include <unistd.h>

enum state { STATE_NEW, STATE_CONNECTED, STATE_CLOSED };

#define NUMBER_MAX 0x1p53 /* of bytes; what is more is as much */

/* How an operation ended that did not fail: in s->written of a receive, s->scanned of a send. */
enum outcome { OUTCOME_DONE, OUTCOME_CLOSED, OUTCOME_READ, OUTCOME_WRITE };

struct cotls_luasec {
    struct cotls_conn *c; /* kept by UV_CONN; NULL: none yet */
    enum state state;
    int fd; /* -1: none */
    double received, sent, birthday;
    size_t base;   /* bytes of the string before those that are sent */
    bool starved;  /* the last receive has used up all that had arrived */
    bool withheld; /* the last byte is on its way, but was told unsent: it comes again */
    char last;
};
enum { UV_STATE = 1, UV_CONN, UV_LUASEC_COUNT = UV_CONN };

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
    lua_setiuservalue(L, -2, UV_STATE);
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
        lua_getiuservalue(L, 1, UV_STATE);
    return 1;
}

/* One for each class: its state; raises for anything else. */
static int push_state(lua_State *L)
{
    check(L, 1, (int)lua_tointeger(L, lua_upvalueindex(1)));
    lua_getiuservalue(L, 1, UV_STATE);
    return 1;
}

/* luasec.state(class) → the function above */
static int state_function(lua_State *L)
{
    lua_pushinteger(L, luaL_checkoption(L, 1, NULL, classes));
    lua_pushcclosure(L, push_state, 1);
    return 1;
}

static struct cotls_luasec *check_connection(lua_State *L)
{
    return check(L, 1, 0);
}

/* ---- wants that are results ---- */

/* A want where nobody waits. */
static bool is_want(const struct cotls_slot *s, enum cotls_step step)
{
    return s->timeout == 0 && (step == STEP_WANT_READ || step == STEP_WANT_WRITE);
}

/* The last "empty" may have been a guess: then nothing is known before it is asked again. */
static bool was_guessed(struct cotls_conn *c)
{
    bool guessed = c->drained;
    c->drained = false;
    return guessed;
}

static enum outcome outcome_of(enum cotls_step step)
{
    return step == STEP_WANT_READ ? OUTCOME_READ : OUTCOME_WRITE;
}

static const char *const outcome_texts[] = {
    [OUTCOME_CLOSED] = "closed", [OUTCOME_READ] = "wantread", [OUTCOME_WRITE] = "wantwrite"};

/* ---- the handshake ---- */

static enum cotls_step handshake_step(lua_State *L, struct cotls_conn *c, struct cotls_slot *s)
{
    enum cotls_step step;
    s->written = OUTCOME_DONE;
    do
        step = cotls_op_do_handshake.step(L, c, s);
    while (is_want(s, step) && was_guessed(c));
    if (!is_want(s, step))
        return step;
    s->written = outcome_of(step);
    return STEP_DONE;
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
        c->luasec->state = STATE_CONNECTED;
    return 1;
}

static const struct cotls_op op_handshake = {
    "do_handshake", SLOT_WHOLE, true, handshake_step, push_shaken, NULL,
};

/* luasec.handshake(object) → true; false, text; or nil, err */
static int handshake(lua_State *L)
{
    struct cotls_luasec *o = check_connection(L);
    luaL_argcheck(L, o->c != NULL, 1, "it has no connection yet");
    lua_settop(L, 1);
    lua_getiuservalue(L, 1, UV_CONN);
    lua_replace(L, 1);
    return cotls_run(L, o->c, &op_handshake, handshake);
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
    while (!fulfilled(c, s, &w, &n)) {
        enum cotls_step step = cotls_fill(c);
        if (step == STEP_END) {
            s->written = w.all && n > 0 ? OUTCOME_DONE : OUTCOME_CLOSED;
            break;
        }
        if (is_want(s, step)) {
            if (was_guessed(c))
                continue;
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
    if (o->state != STATE_CONNECTED)
        return false;
    lua_getiuservalue(L, 1, UV_CONN);
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
    struct cotls_luasec *o = check_connection(L);
    check_pattern(L);
    if (take_place(L, o))
        return cotls_run(L, o->c, &op_receive, receive);
    return push_outcome(L, OUTCOME_CLOSED);
}

/* luasec.rest(object, pattern, prefix) → the prefix and what has arrived, if that is no other coroutine's */
static int rest(lua_State *L)
{
    struct cotls_luasec *o = check_connection(L);
    check_pattern(L);
    if (o->c == NULL)
        return 1;
    lua_getiuservalue(L, 1, UV_CONN);
    lua_replace(L, 1);
    bool taken = cotls_slot_held(L, o->c, &o->c->slot[SLOT_READ]);
    push_taken(L, o->c, taken ? 0 : cotls_buf_length(&o->c->plain));
    return 1;
}

/* ---- send ---- */

static enum cotls_step send_step(lua_State *L, struct cotls_conn *c, struct cotls_slot *s)
{
    enum cotls_step step;
    s->scanned = OUTCOME_DONE;
    do
        step = cotls_op_write.step(L, c, s);
    while (is_want(s, step) && was_guessed(c));
    if (!is_want(s, step))
        return step;
    s->scanned = outcome_of(step);
    return STEP_DONE;
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
    struct cotls_luasec *o = check_connection(L);
    lua_Integer start, end;
    size_t size;
    const char *data = luaL_checklstring(L, 2, &size);
    read_range(L, (lua_Integer)size, &start, &end);
    if (o->state != STATE_CONNECTED) {
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

/* ---- what loops ask ---- */

/* Bytes that select can't see: those that OpenSSL has, and those that wait for it, if it has not asked for more. */
static int dirty(lua_State *L)
{
    const struct cotls_luasec *o = check_connection(L);
    const struct cotls_conn *c = o->state == STATE_CLOSED ? NULL : o->c;
    bool is =
        c != NULL &&
        (cotls_buf_length(&c->plain) > 0 ||
         (c->ssl != NULL && (SSL_pending(c->ssl) > 0 || (!o->starved && cotls_buf_length(&c->cipher) > 0))));
    lua_pushboolean(L, is);
    return 1;
}

static int get_fd(lua_State *L)
{
    lua_pushinteger(L, check_connection(L)->fd);
    return 1;
}

static int want(lua_State *L)
{
    const struct cotls_luasec *o = check_connection(L);
    const struct cotls_conn *c = o->state == STATE_CLOSED ? NULL : o->c;
    int code = c == NULL || c->ssl == NULL ? SSL_NOTHING : SSL_want(c->ssl);
    if (c != NULL && cotls_buf_length(&c->out) > 0)
        code = SSL_WRITING;
    lua_pushstring(L, code == SSL_WRITING ? "write" : code == SSL_READING ? "read" : "nothing");
    return 1;
}

static int get_stats(lua_State *L)
{
    const struct cotls_luasec *o = check_connection(L);
    lua_pushnumber(L, o->received);
    lua_pushnumber(L, o->sent);
    lua_pushnumber(L, cotls_now() - o->birthday);
    return 3;
}

static int set_stats(lua_State *L)
{
    struct cotls_luasec *o = check_connection(L);
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
    struct cotls_luasec *o = check_connection(L);
    luaL_argcheck(L, o->state == STATE_NEW && o->c == NULL, 1, "invalid SSL object state");
    o->fd = (int)luaL_checkinteger(L, 2);
    return 0;
}

/* luasec.attach(object, connection) */
static int attach(lua_State *L)
{
    struct cotls_luasec *o = check_connection(L);
    struct cotls_conn *c = luaL_checkudata(L, 2, COTLS_CONNECTION);
    lua_settop(L, 2);
    lua_setiuservalue(L, 1, UV_CONN);
    o->c = c;
    c->luasec = o;
    c->owns = false; /* the descriptor is the object's, and outlives a handshake that fails */
    return 0;
}

/* luasec.stage(object) → "new", "connected" or "closed" */
static int stage(lua_State *L)
{
    static const char *const names[] = {"new", "connected", "closed"};
    lua_pushstring(L, names[check_connection(L)->state]);
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
    o->state = STATE_CLOSED;
    o->fd = -1;
    if (o->c != NULL) {
        lua_getiuservalue(L, 1, UV_CONN);
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
    let_go(L, check_connection(L), true);
    return 0;
}

static int collect(lua_State *L)
{
    let_go(L, check_connection(L), false);
    return 0;
}

static int to_string(lua_State *L)
{
    const struct cotls_luasec *o = check_connection(L);
    lua_pushfstring(L, "SSL connection: %p%s", (const void *)o, o->state == STATE_CLOSED ? " (closed)" : "");
    return 1;
}

static const luaL_Reg functions[] = {
    {"attach", attach},        {"handshake", handshake}, {"metatable", push_metatable},
    {"new", new_object},       {"receive", receive},     {"rest", rest},
    {"send", send_data},       {"set_fd", set_fd},       {"stage", stage},
    {"state", state_function}, {"test", test_state},     {NULL, NULL},
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
    luaL_setfuncs(L, cotls_luasec_context_functions, 0);
    luaL_setfuncs(L, cotls_luasec_option_functions, 0);
    luaL_setfuncs(L, cotls_luasec_x509_functions, 0);
    lua_setfield(L, -2, "luasec");
}
