/* SPDX-License-Identifier: MIT
 * The driver: the one function that reads SSL_get_error, and the only C file
 * that waits. An operation is stepped until it is done or fails; what it wants
 * in between is asked of a scheduler, yielded, or waited for in poll(2).
 * Nothing is owned across a wait: progress lives in the connection's slot, and
 * a coroutine that never comes back leaves nothing behind but a slot that the
 * next operation finds abandoned. */
#include "cotls.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <openssl/err.h>
#include <poll.h>
#include <string.h>

/* The outcome of the SSL_* call that returned ret. Nothing may come between the two. */
enum cotls_step cotls_outcome(struct cotls_conn *c, int ret)
{
    c->receives = 0;
    if (cotls_is_asked(c))
        return STEP_ASK;
    if (c->asks != NULL)
        cotls_asks_settle(c);
    if (ret > 0)
        return STEP_DONE;
    c->ssl_error = SSL_get_error(c->ssl, ret);
    switch (c->ssl_error) {
    case SSL_ERROR_WANT_READ:
        return c->tired ? STEP_TURN : STEP_WANT_READ;
    case SSL_ERROR_WANT_WRITE:
        return STEP_WANT_WRITE;
    case SSL_ERROR_ZERO_RETURN:
        c->ended = true;
        return STEP_END;
    default:
        return STEP_FAIL;
    }
}

/* Sends what is encrypted: STEP_DONE when all is gone. */
enum cotls_step cotls_flush_step(struct cotls_conn *c)
{
    int r = cotls_flush(c);
    if (r >= 0)
        return r > 0 ? STEP_DONE : STEP_WANT_WRITE;
    cotls_clear_errors();
    c->ssl_error = SSL_ERROR_SYSCALL;
    c->sys_errno = c->send_errno;
    return STEP_FAIL;
}

/* May more be encrypted? A stream's output is gathered: one call of its write for several records. */
enum cotls_step cotls_room_step(struct cotls_conn *c)
{
    bool room = cotls_buf_length(&c->out) <= (COTLS_GATHERED - 1) * COTLS_WIRE;
    return c->stream && c->send_errno == 0 && room ? STEP_DONE : cotls_flush_step(c);
}

static int no_op(lua_State *L)
{
    (void)L;
    return 0;
}

/* Blocks in poll(2); pushes nothing, or nil and "timeout" when the deadline passes, or nil and an error.
 * After a signal an empty function is called, so that a debug hook (lua's own
 * Ctrl-C) gets its turn. */
static void block(lua_State *L, int fd, bool write, double deadline)
{
    struct pollfd p = {.fd = fd, .events = write ? POLLOUT : POLLIN};
    for (;;) {
        double left = deadline - cotls_now();
        int ms = left >= INT_MAX / 1000 ? -1 : left <= 0 ? 0 : (int)ceil(left * 1000);
        int r = poll(&p, 1, ms);
        if (r > 0)
            return;
        if (r == 0 && cotls_now() >= deadline) {
            lua_pushnil(L);
            lua_pushliteral(L, "timeout");
            return;
        }
        if (r < 0 && errno != EINTR && errno != EAGAIN) {
            cotls_fail_system(L, "poll", errno);
            return;
        }
        lua_pushcfunction(L, no_op);
        lua_call(L, 0, 0);
    }
}

static void push_want(lua_State *L, bool write, double deadline)
{
    lua_pushvalue(L, 1);
    lua_pushstring(L, write ? "write" : "read");
    if (deadline < HUGE_VAL)
        lua_pushnumber(L, deadline);
    else
        lua_pushnil(L);
}

/* Each of the following that may yield returns STAYS: go on in this frame; or
 * else how many results the C function leaves with at once, to be gone on with
 * by the continuation that was named. */
#define STAYS (-1)

/* Calls the function below n arguments; what it gives comes in its place. May yield: then k goes on. */
static int call_out(lua_State *L, int n, lua_KContext id, lua_KFunction k)
{
    if (!COTLS_RESUMABLE)
        return cotls_leave(L, n, id, k);
    lua_callk(L, n, LUA_MULTRET, id, k);
    return STAYS;
}

/* Yields the n values on top, then k goes on. */
static int yield_out(lua_State *L, int n, lua_KContext id, lua_KFunction k)
{
    return COTLS_RESUMABLE ? lua_yieldk(L, n, id, k) : cotls_leave_yielding(L, n, id, k);
}

/* Waits for the waiter at index 1 to become readable or writable; the values
 * that end the wait come on top of the stack. May yield: then k goes on. */
static int suspend(lua_State *L, struct cotls_conn *c, int fd, bool write, double deadline, lua_KContext id,
                   lua_KFunction k)
{
    luaL_checkstack(L, 8, NULL);
    cotls_push_scheduler(L, c);
    if (lua_istable(L, -1)) {
        lua_getfield(L, -1, "blocking");
        if (!lua_toboolean(L, -1) && !lua_isyieldable(L))
            luaL_error(L, "can't wait here: call it in a coroutine");
        lua_pop(L, 1);
        cotls_note_waited(L, c);
        lua_getfield(L, -1, "wait");
        lua_remove(L, -2);
        push_want(L, write, deadline);
        return call_out(L, 3, id, k);
    }
    lua_pop(L, 1);
    if (lua_isyieldable(L)) {
        push_want(L, write, deadline);
        return yield_out(L, 3, id, k);
    }
    block(L, fd, write, deadline);
    return STAYS;
}

enum verdict { GO_ON, TIMEOUT, CANCELLED, GIVEN };

/* What the values above base say; they are popped, but for why it was
 * cancelled (text) or a given error object. */
static enum verdict judge(lua_State *L, int base)
{
    if (lua_gettop(L) == base || lua_toboolean(L, base + 1)) {
        lua_settop(L, base);
        return GO_ON;
    }
    lua_settop(L, base + 2);
    lua_remove(L, base + 1);
    if (cotls_is_error(L, -1))
        return GIVEN;
    luaL_tolstring(L, -1, NULL);
    lua_remove(L, -2);
    if (strcmp(lua_tostring(L, -1), "timeout") != 0)
        return CANCELLED;
    lua_pop(L, 1);
    return TIMEOUT;
}

/* ---- stepping ---- */

/* Judges the values that ended a wait: true to step again, else *results are on top. */
static bool woken(lua_State *L, struct cotls_conn *c, struct cotls_slot *s, int *results)
{
    enum verdict v = judge(L, s->base);
    bool turn = s->turn;
    s->turn = false;
    if (v == GO_ON || (v == TIMEOUT && turn && c->ssl != NULL))
        return true;
    if (c->ssl == NULL)
        *results = cotls_end_closed(L, c, s);
    else if (v == TIMEOUT)
        *results = cotls_end_timeout(L, c, s);
    else
        *results = cotls_end_cancelled(L, c, s, v == GIVEN);
    return false;
}

static int resumed(lua_State *L, int status, lua_KContext id);

/* Suspends the operation of a slot; true to step again, else the C function is left with *results. May yield. */
static bool suspend_slot(lua_State *L, struct cotls_conn *c, struct cotls_slot *s, bool write,
                         double deadline, int *results)
{
    s->base = lua_gettop(L);
    s->records = 0;
    cotls_slot_hold(L, s);
    *results = suspend(L, c, c->fd, write, deadline, s - c->slot, resumed);
    return *results == STAYS && woken(L, c, s, results);
}

/* Waits for what the step wanted; true to step again, else *results are on top. May yield. */
static bool wait_for(lua_State *L, struct cotls_conn *c, struct cotls_slot *s, bool write, int *results)
{
    double deadline = cotls_deadline(c, s), now = deadline < HUGE_VAL ? cotls_now() : 0;
    bool drained = c->drained;
    c->drained = false;
    if (s->timeout == 0 && drained) /* "empty" was a guess: nothing may be there before it is said so */
        return true;
    if (!write && c->cipher.lost) /* nothing is read any more: nothing to wait for */
        return true;
    if (cotls_time_is_up(c, s, now)) {
        *results = cotls_end_timeout(L, c, s);
        return false;
    }
    if (s->timeout == 0) {
        *results = cotls_end_want(L, c, s, write);
        return false;
    }
    return suspend_slot(L, c, s, write, deadline, results);
}

/* ---- streams ---- */

/* Another coroutine is in the stream's function: waits until it is out of it. May yield. */
static bool park(lua_State *L, struct cotls_conn *c, struct cotls_slot *s, enum cotls_way way, int *results)
{
    if (s->timeout == 0 || !cotls_can_park(L, c)) {
        *results = cotls_end_with(L, c, s, "busy", "another coroutine is at the transport");
        return false;
    }
    c->parked |= 1U << way;
    return suspend_slot(L, c, s, way == WAY_WRITE, cotls_deadline(c, s), results);
}

/* Is the stream's function what the step waits for? Else it is output that has to go before something else. */
static bool is_wanted(const struct cotls_slot *s, enum cotls_way way)
{
    return way == WAY_READ || s->step == STEP_WANT_WRITE;
}

/* Judges what came of a call of the stream's function: true to go on, else *results are on top. Output that
 * is in nobody's way may stay where it is. */
static bool has_moved(lua_State *L, struct cotls_conn *c, struct cotls_slot *s, enum cotls_way way,
                      enum cotls_moved moved, int *results)
{
    if (moved == MOVED || c->ssl == NULL)
        return true;
    s->tried = true;
    if (!is_wanted(s, way) && (moved == MOVED_TIMEOUT || s->step != STEP_WANT_READ)) {
        lua_settop(L, s->base);
        return true;
    }
    if (moved == MOVED_CANCELLED)
        *results = cotls_end_cancelled(L, c, s, true);
    else if (s->timeout == 0 && !cotls_time_is_up(c, s, cotls_now()))
        *results = cotls_end_want(L, c, s, way == WAY_WRITE);
    else
        *results = cotls_end_timeout(L, c, s);
    return false;
}

static int moved_on(lua_State *L, int status, lua_KContext id);

/* Calls a stream's function below n arguments, above its handler, which is at s->base + 1. May yield. */
static int call_stream(lua_State *L, struct cotls_conn *c, struct cotls_slot *s, int n,
                       enum cotls_moved *moved)
{
    if (!COTLS_RESUMABLE)
        return cotls_leave_protected(L, n, s - c->slot, moved_on);
    int status = lua_pcallk(L, n, LUA_MULTRET, s->base + 1, s - c->slot, moved_on);
    *moved = cotls_stream_take(L, c, s, status != LUA_OK);
    return STAYS;
}

/* Calls the stream's function of that way; true to go on, else the C function is left with *results. May yield. */
static bool move(lua_State *L, struct cotls_conn *c, struct cotls_slot *s, enum cotls_way way, int *results)
{
    double deadline = s->timeout == 0 ? cotls_now() : cotls_deadline(c, s);
    s->base = lua_gettop(L);
    s->records = 0;
    cotls_slot_hold(L, s);
    enum cotls_moved moved = MOVED;
    *results = call_stream(L, c, s, cotls_stream_call(L, c, s, way, deadline), &moved);
    return *results == STAYS && has_moved(L, c, s, way, moved, results);
}

/* As wait_for, on a stream. */
static bool move_for(lua_State *L, struct cotls_conn *c, struct cotls_slot *s, enum cotls_way way,
                     int *results)
{
    if (way == WAY_READ ? cotls_buf_length(&c->cipher) > 0 || c->at_eof : cotls_buf_length(&c->out) == 0)
        return true; /* another coroutine has been faster */
    double deadline = cotls_deadline(c, s);
    if (deadline < HUGE_VAL && cotls_time_is_up(c, s, cotls_now())) {
        *results = cotls_end_timeout(L, c, s);
        return false;
    }
    if (cotls_stream_taken(L, c, way))
        return park(L, c, s, way, results);
    return move(L, c, s, way, results);
}

/* ---- turns ---- */

/* Is there a scheduler with others to give a turn to? [-0, +0] */
static bool has_others(lua_State *L, const struct cotls_conn *c)
{
    cotls_push_scheduler(L, c);
    bool others = lua_istable(L, -1) && lua_isyieldable(L);
    lua_pop(L, 1);
    return others;
}

/* A peer that is always ready must not keep the operation from its deadline, nor
 * others from their turn: after so much in one go, a wait whose time is up at once. */
static bool take_turn(lua_State *L, struct cotls_conn *c, struct cotls_slot *s, int *results)
{
    double now = cotls_now();
    bool tired = c->tired;
    c->tired = false;
    if (s->timeout == 0 && tired) /* what there is may never end */
        *results = cotls_end_want(L, c, s, false);
    if (s->timeout == 0)
        return !tired;
    if (now >= cotls_deadline(c, s)) {
        *results = cotls_end_timeout(L, c, s);
        return false;
    }
    if (c->stream || !has_others(L, c)) /* a stream's own functions wait */
        return true;
    s->turn = true;
    return suspend_slot(L, c, s, s->op->slot == SLOT_WRITE, now, results);
}

/* A hook has taken its time: what it took too much of is not made up by its answer. */
static bool in_time(lua_State *L, struct cotls_conn *c, struct cotls_slot *s, int *results)
{
    if (!cotls_time_is_up(c, s, cotls_now()))
        return true;
    *results = cotls_end_timeout(L, c, s);
    return false;
}

/* Acts on what came of a step: true to step again, else *results are on top. May yield. */
static bool act(lua_State *L, struct cotls_conn *c, struct cotls_slot **at, int *results)
{
    struct cotls_slot *s = *at;
    const struct cotls_op *op = s->op;
    if (c->ssl == NULL) {
        *results = cotls_end_closed(L, c, s);
        return false;
    }
    switch (s->step) {
    case STEP_ASK: /* answered */
        return in_time(L, c, s, results);
    case STEP_BUSY:
        *results = cotls_end_with(L, c, s, "busy", "a hook of the connection is at work");
        return false;
    case STEP_DONE:
        if (s->next != NULL) {
            *at = cotls_slot_next(L, c, s);
            return true;
        }
        s->op = NULL;
        *results = op->push(L, c, s);
        return false;
    case STEP_TURN:
        return take_turn(L, c, s, results);
    case STEP_WANT_READ:
    case STEP_WANT_WRITE:
        if (c->stream)
            return move_for(L, c, s, s->step == STEP_WANT_WRITE ? WAY_WRITE : WAY_READ, results);
        return wait_for(L, c, s, s->step == STEP_WANT_WRITE, results);
    default:
        *results = cotls_end_step(L, c, s, s->step);
        return false;
    }
}

/* ---- hooks ---- */

static int go_on(lua_State *L, struct cotls_conn *c, struct cotls_slot *s);

/* After a hook's yield. Where it was left for, xpcall's first result is in the handler's place. */
static int hooked(lua_State *L, int status, lua_KContext id)
{
    struct cotls_conn *c = lua_touserdata(L, 1);
    struct cotls_slot *s = &c->slot[id];
    cotls_hook_take(L, c, s->base, status != LUA_YIELD || !lua_toboolean(L, s->base + 1));
    return go_on(L, c, s);
}

/* One step, unless OpenSSL is suspended for another operation's question. */
static enum cotls_step step(lua_State *L, struct cotls_conn *c, struct cotls_slot *s)
{
    if (c->ssl != NULL && cotls_asks_elsewhere(L, c, s) && !c->asks->telling)
        return STEP_BUSY;
    return c->ssl != NULL ? s->op->step(L, c, s) : STEP_FAIL;
}

/* Calls a hook's function below n arguments, above its handler, which is at s->base + 1. May yield. */
static int call_hook(lua_State *L, struct cotls_conn *c, struct cotls_slot *s, int n)
{
    cotls_slot_hold(L, s);
    if (!COTLS_RESUMABLE)
        return cotls_leave_protected(L, n, s - c->slot, hooked);
    int status = lua_pcallk(L, n, LUA_MULTRET, s->base + 1, s - c->slot, hooked);
    cotls_hook_take(L, c, s->base, status != LUA_OK);
    return STAYS;
}

/* Runs the Lua functions that are due, on this coroutine: they may yield, and close the connection. */
static int run_hooks(lua_State *L, struct cotls_conn *c, struct cotls_slot *s)
{
    int n, left = STAYS;
    if (cotls_asks_elsewhere(L, c, s)) /* that one tells the rest, too */
        return STAYS;
    if (c->asks->first != NULL)
        cotls_keep_error(L, c, s);
    if (s->step == STEP_ASK)
        cotls_deadline(c, s); /* the function's time counts */
    s->base = lua_gettop(L);
    while (left == STAYS && c->ssl != NULL && (n = cotls_hook_push(L, c, s)) >= 0)
        left = call_hook(L, c, s, n);
    if (left == STAYS)
        cotls_asks_fail(c, s);
    return left;
}

/* Writes what the step has left to the stream; true to go on, else the C function is left with *results. May yield. */
static bool push_output(lua_State *L, struct cotls_conn *c, struct cotls_slot *s, int *results)
{
    bool stays = true;
    while (stays && cotls_stream_has_output(L, c, s)) {
        cotls_keep_error(L, c, s);
        stays = move(L, c, s, WAY_WRITE, results);
    }
    return stays;
}

/* Goes on after a step, whose outcome is in s->step. May yield. */
static int go_on(lua_State *L, struct cotls_conn *c, struct cotls_slot *s)
{
    int results;
    for (;;) {
        results = c->asks != NULL && c->ssl != NULL ? run_hooks(L, c, s) : STAYS;
        if (results != STAYS || (c->stream && !push_output(L, c, s, &results)) || !act(L, c, &s, &results))
            return results;
        s->tried = false;
        s->step = step(L, c, s);
    }
}

/* Steps the operation of a slot until it ends. Stack: 1 the connection, the
 * arguments, the results so far. May yield. */
static int proceed(lua_State *L, struct cotls_conn *c, struct cotls_slot *s)
{
    s->step = step(L, c, s);
    return go_on(L, c, s);
}

/* After a yield: the values that ended the wait are above s->base. */
static int resumed(lua_State *L, int status, lua_KContext id)
{
    struct cotls_conn *c = lua_touserdata(L, 1);
    struct cotls_slot *s = &c->slot[id];
    int results;
    (void)status;
    return woken(L, c, s, &results) ? proceed(L, c, s) : results;
}

/* After a yield in a stream's function; as with `hooked`, true or the handler is at s->base + 1. */
static int moved_on(lua_State *L, int status, lua_KContext id)
{
    struct cotls_conn *c = lua_touserdata(L, 1);
    struct cotls_slot *s = &c->slot[id];
    enum cotls_way way = c->mover[WAY_WRITE] == s ? WAY_WRITE : WAY_READ;
    int results;
    enum cotls_moved moved =
        cotls_stream_take(L, c, s, status != LUA_YIELD || !lua_toboolean(L, s->base + 1));
    if (!has_moved(L, c, s, way, moved, &results))
        return results;
    return is_wanted(s, way) ? proceed(L, c, s) : go_on(L, c, s);
}

/* The deadline that this operation alone was given, in the place of the timeout. */
static void take_until(struct cotls_conn *c, struct cotls_slot *init)
{
    if (c->until == 0)
        return;
    init->deadline = c->until;
    init->timeout = c->until == HUGE_VAL ? -1 : c->until > cotls_now() ? 1 : 0;
    c->until = 0;
}

static int start(lua_State *L, struct cotls_conn *c, const struct cotls_op *op, lua_CFunction method,
                 bool raise)
{
    struct cotls_slot init = {
        .op = op,
        .method = method,
        .timeout = c->timeout,
        .top = lua_gettop(L),
        .arg = 2,
        .raise = raise,
        .leftover = c->failed,
    };
    struct cotls_slot *s;
    take_until(c, &init);
    if (c->ssl != NULL && cotls_slot_busy(L, c, op))
        return cotls_end_with(L, c, &init, "busy", "another coroutine is at it");
    if (c->stream && c->ssl != NULL)
        cotls_stream_check(L, c);
    if (c->stream && op->slot == SLOT_WRITE)
        c->parks = cotls_can_park(L, c);
    if (c->ssl == NULL)
        return cotls_end_closed(L, c, &init);
    if (c->failed && op->slot != SLOT_READ) {
        cotls_push_failure(L, op->name);
        if (op->annotate != NULL)
            op->annotate(L, c, &init);
        return cotls_nil_error(L);
    }
    s = cotls_slot_claim(c, op, &init);
    if (s->op->handshake && c->side == SIDE_NONE) {
        cotls_error_plain(L, "tls", op->name,
                          "connection type not set: call accept, connect, set_accept_state or "
                          "set_connect_state first");
        return cotls_end(L, c, s);
    }
    return proceed(L, c, s);
}

/* Runs an operation on the connection at index 1; its arguments are all that is
 * above. method is the function that Lua called. */
int cotls_run(lua_State *L, struct cotls_conn *c, const struct cotls_op *op, lua_CFunction method)
{
    return start(L, c, op, method, false);
}

/* The same for an iterator, which raises errors. */
int cotls_run_lines(lua_State *L, struct cotls_conn *c, const struct cotls_op *op, lua_CFunction method)
{
    return start(L, c, op, method, true);
}

/* ---- waiting for a socket ---- */

/* The base of core.wait's frame: waiter, want, deadline, scheduler. */
#define WAIT_TOP 4

/* The values that end the wait are above base. */
int cotls_wait_ended(lua_State *L, int base)
{
    switch (judge(L, base)) {
    case GO_ON:
        lua_pushboolean(L, 1);
        return 1;
    case TIMEOUT:
        cotls_error_plain(L, "timeout", "wait", "timed out");
        break;
    case CANCELLED:
        cotls_error_plain(L, "cancelled", "wait", lua_tostring(L, -1));
        break;
    case GIVEN:
        break;
    }
    return cotls_nil_error(L);
}

static int wait_done(lua_State *L, int status, lua_KContext id)
{
    (void)status;
    (void)id;
    return cotls_wait_ended(L, WAIT_TOP);
}

/* core.wait(socket, want, deadline or nil, scheduler or nil) → true, or nil, err */
int cotls_wait(lua_State *L)
{
    const struct cotls_socket *socket = cotls_test_socket(L, 1);
    luaL_argcheck(L, socket != NULL, 1, "cotls.socket expected");
    bool write = strcmp(luaL_checkstring(L, 2), "write") == 0;
    double deadline = luaL_optnumber(L, 3, HUGE_VAL);
    lua_settop(L, WAIT_TOP);
    if (socket->fd < 0)
        return cotls_fail(L, "closed", "wait", "the socket is closed");
    int left = suspend(L, NULL, socket->fd, write, deadline, COTLS_NO_SLOT, wait_done);
    return left == STAYS ? cotls_wait_ended(L, WAIT_TOP) : left;
}

/* core.poll(descriptor or -1, want, deadline or nil): blocks until it is readable
 * or writable → true; or nil, "timeout". With -1 only time can end it. */
int cotls_poll(lua_State *L)
{
    int fd = (int)luaL_checkinteger(L, 1);
    bool write = strcmp(luaL_checkstring(L, 2), "write") == 0;
    double deadline = luaL_optnumber(L, 3, HUGE_VAL);
    lua_settop(L, 0);
    block(L, fd, write, deadline);
    if (lua_gettop(L) == 0)
        lua_pushboolean(L, 1);
    return lua_gettop(L);
}
