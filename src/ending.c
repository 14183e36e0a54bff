/* SPDX-License-Identifier: MIT
 * How an operation ends that does not succeed: the error object, what the
 * failure means for the connection (a failed handshake closes it, another
 * failure is for good, a timeout of the call is nothing), and nil, err. */
#include "cotls.h"

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

const char *cotls_slot_name(const struct cotls_slot *s)
{
    return s->next != NULL ? s->next->name : s->op->name;
}

int cotls_end_with(lua_State *L, struct cotls_conn *c, struct cotls_slot *s, const char *code,
                   const char *reason)
{
    cotls_error_plain(L, code, cotls_slot_name(s), reason);
    return cotls_end(L, c, s);
}

int cotls_end_closed(lua_State *L, struct cotls_conn *c, struct cotls_slot *s)
{
    return cotls_end_with(L, c, s, "closed", "the connection is closed");
}

/* Did only sending fail? What arrives can still be read then. */
bool cotls_only_sending(const struct cotls_conn *c, const struct cotls_slot *s)
{
    return s->op->slot != SLOT_READ && c->send_errno != 0 && c->ssl_error == SSL_ERROR_SYSCALL;
}

/* A step that ended or failed. A failed handshake closes; any other failure is
 * for good, and told again by whatever comes next: but what arrives can still be
 * read when only sending failed. */
int cotls_end_step(lua_State *L, struct cotls_conn *c, struct cotls_slot *s, enum cotls_step step)
{
    if (c->failed)
        lua_getiuservalue(L, 1, UV_ERROR);
    else
        cotls_error_conn(L, c, cotls_slot_name(s), step);
    if (step == STEP_REFUSED || step == STEP_LIMIT)
        return cotls_end(L, c, s);
    if (s->op->handshake) {
        cotls_conn_close(L, 1, false);
    } else if (step == STEP_FAIL && !cotls_only_sending(c, s)) {
        c->failed = true;
        lua_pushvalue(L, -1);
        lua_setiuservalue(L, 1, UV_ERROR);
    }
    return cotls_end(L, c, s);
}

/* Is it a handshake that handshake_timeout bounds, the first or a renegotiation? */
bool cotls_shaking(const struct cotls_conn *c, const struct cotls_slot *s)
{
    return s->op->handshake && (!c->established || c->renegotiating);
}

int cotls_end_timeout(lua_State *L, struct cotls_conn *c, struct cotls_slot *s)
{
    bool whole = cotls_shaking(c, s) && cotls_now() >= c->handshake_deadline;
    cotls_error_plain(L, "timeout", cotls_slot_name(s),
                      whole ? "the handshake took longer than handshake_timeout" : "timed out");
    if (whole)
        cotls_conn_close(L, 1, false);
    return cotls_end(L, c, s);
}

/* The reason, or the given error object, is on top. */
int cotls_end_cancelled(lua_State *L, struct cotls_conn *c, struct cotls_slot *s, bool given)
{
    if (!given)
        cotls_error_plain(L, "cancelled", cotls_slot_name(s), lua_tostring(L, -1));
    if (s->op->handshake)
        cotls_conn_close(L, 1, false);
    return cotls_end(L, c, s);
}
