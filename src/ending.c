/* SPDX-License-Identifier: MIT
 * How an operation ends that does not succeed: when its time is up, the error
 * object, what the failure means for the connection (a failed handshake closes
 * it, another failure is for good, a timeout of the call is nothing), nil, err. */
#include "cotls.h"

#include <math.h>

/* The error is on top. Returns nil, err; an iterator raises it. */
int cotls_end(lua_State *L, struct cotls_conn *c, struct cotls_slot *s)
{
    const struct cotls_op *op = s->next != NULL ? s->next : s->op;
    bool raise = s->raise;
    if (op->annotate != NULL)
        op->annotate(L, c, s);
    s->op = NULL;
    return raise ? lua_error(L) : cotls_nil_error(L);
}

static const char *slot_name(const struct cotls_slot *s)
{
    return s->next != NULL ? s->next->name : s->op->name;
}

int cotls_end_with(lua_State *L, struct cotls_conn *c, struct cotls_slot *s, const char *code,
                   const char *reason)
{
    cotls_error_plain(L, code, slot_name(s), reason);
    return cotls_end(L, c, s);
}

int cotls_end_closed(lua_State *L, struct cotls_conn *c, struct cotls_slot *s)
{
    return cotls_end_with(L, c, s, "closed", "the connection is closed");
}

/* Did only sending fail? What arrives can still be read then. */
static bool only_sending(const struct cotls_conn *c, const struct cotls_slot *s)
{
    return s->op->slot != SLOT_READ && c->send_errno != 0 && c->ssl_error == SSL_ERROR_SYSCALL;
}

/* What the connection has failed by. Where Lua had no memory for the error, it is told so. [-0, +1] */
void cotls_push_failure(lua_State *L, const char *operation)
{
    lua_getiuservalue(L, 1, UV_ERROR);
    if (!lua_isnil(L, -1))
        return;
    lua_pop(L, 1);
    cotls_error_plain(L, "tls", operation, "the connection has failed, and there was no memory to say why");
}

/* A step that ended or failed. A failed handshake closes; any other failure is
 * for good, and told again by whatever comes next: but what arrives can still be
 * read when only sending failed. It is noted first: the error may not find memory,
 * and OpenSSL takes an alert that it has told for the end when it is asked again. */
int cotls_end_step(lua_State *L, struct cotls_conn *c, struct cotls_slot *s, enum cotls_step step)
{
    bool told = c->failed, ends = step != STEP_REFUSED && step != STEP_LIMIT;
    bool lasts = ends && !s->op->handshake && step == STEP_FAIL && !only_sending(c, s);
    c->failed = told || lasts || (ends && s->op->handshake);
    if (told)
        cotls_push_failure(L, slot_name(s));
    else
        cotls_error_conn(L, c, slot_name(s), step);
    if (ends && s->op->handshake) {
        c->failed = told;
        cotls_conn_close(L, 1, false);
    } else if (lasts) {
        lua_pushvalue(L, -1);
        lua_setiuservalue(L, 1, UV_ERROR);
    }
    return cotls_end(L, c, s);
}

/* Lua is about to run: the error of the step is made before it meets another one's queue. */
void cotls_keep_error(lua_State *L, struct cotls_conn *c, struct cotls_slot *s)
{
    if (s->step != STEP_FAIL || c->failed || only_sending(c, s))
        return;
    c->failed = true; /* also without memory for the error */
    cotls_error_conn(L, c, slot_name(s), s->step);
    lua_setiuservalue(L, 1, UV_ERROR);
}

/* Is it a handshake that handshake_timeout bounds, the first or a renegotiation? */
static bool shaking(const struct cotls_conn *c, const struct cotls_slot *s)
{
    return s->op->handshake && (!c->established || c->renegotiating);
}

/* When the operation must have ended, on cotls_now()'s clock. */
double cotls_deadline(struct cotls_conn *c, struct cotls_slot *s)
{
    if (s->deadline == 0)
        s->deadline = s->timeout < 0 ? HUGE_VAL : cotls_now() + s->timeout;
    if (shaking(c, s) && c->handshake_deadline < s->deadline)
        return c->handshake_deadline;
    return s->deadline;
}

/* A timeout of 0 is no time that passes: only the handshake's own can be up then. */
bool cotls_time_is_up(struct cotls_conn *c, struct cotls_slot *s, double now)
{
    bool whole = shaking(c, s) && now >= c->handshake_deadline;
    return whole || (s->timeout != 0 && now >= cotls_deadline(c, s));
}

/* It would wait, and the timeout is 0. */
int cotls_end_want(lua_State *L, struct cotls_conn *c, struct cotls_slot *s, bool write)
{
    return cotls_end_with(L, c, s, write ? "want_write" : "want_read", "would wait, and the timeout is 0");
}

int cotls_end_timeout(lua_State *L, struct cotls_conn *c, struct cotls_slot *s)
{
    bool whole = shaking(c, s) && cotls_now() >= c->handshake_deadline;
    cotls_error_plain(L, "timeout", slot_name(s),
                      whole ? "the handshake took longer than handshake_timeout" : "timed out");
    if (whole)
        cotls_conn_close(L, 1, false);
    return cotls_end(L, c, s);
}

/* The reason, or the given error object, is on top. */
int cotls_end_cancelled(lua_State *L, struct cotls_conn *c, struct cotls_slot *s, bool given)
{
    if (!given)
        cotls_error_plain(L, "cancelled", slot_name(s), lua_tostring(L, -1));
    if (s->op->handshake)
        cotls_conn_close(L, 1, false);
    return cotls_end(L, c, s);
}
