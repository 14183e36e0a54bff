/* SPDX-License-Identifier: MIT
 * Who is at a connection: a reader and a writer at a time, or one operation of
 * the whole. A slot names its coroutine weakly, and is held only while that one
 * is still in the operation's frame: nothing has to be told when a coroutine is
 * closed, dies or is collected. */
#include "cotls.h"

/* Is the frame, whose nth local is a userdata or a number, that of the connection or the id? [-0, +0] */
static bool has_local(lua_State *co, lua_Debug *ar, int n, const void *address, ptrdiff_t id)
{
    if (lua_getlocal(co, ar, n) == NULL)
        return false;
    bool same = address != NULL ? lua_touserdata(co, -1) == address : lua_tointeger(co, -1) == id;
    lua_pop(co, 1);
    return same;
}

/* Is the frame that of the method that began the slot's operation, or, where methods are left, of the loop
 * that waits for the slot? */
static bool is_at(lua_State *co, lua_Debug *ar, const struct cotls_conn *c, const struct cotls_slot *s)
{
    lua_getinfo(co, "f", ar);
    bool method = lua_tocfunction(co, -1) == s->method;
    bool loop = !COTLS_RESUMABLE && lua_topointer(co, -1) == c->st->carry;
    lua_pop(co, 1);
    if (!(method || loop) || !has_local(co, ar, 1, c, 0))
        return false;
    return method || has_local(co, ar, 2, NULL, s - c->slot);
}

/* Is the coroutine at the top still in the slot's operation: is one of its frames, but for the one that asks? */
static bool in_operation(lua_State *L, const struct cotls_conn *c, const struct cotls_slot *s)
{
    lua_State *co = lua_tothread(L, -1);
    lua_Debug ar;
    if (co == NULL || (lua_status(co) != LUA_OK && lua_status(co) != LUA_YIELD) || !lua_checkstack(co, 2))
        return false;
    for (int level = co == L; lua_getstack(co, level, &ar); level++)
        if (is_at(co, &ar, c, s))
            return true;
    return false;
}

/* An operation whose coroutine is dead, closed or collected holds its slot no longer. */
bool cotls_slot_held(lua_State *L, struct cotls_conn *c, struct cotls_slot *s)
{
    if (s->op == NULL)
        return false;
    cotls_push_threads(L);
    lua_rawgetp(L, -1, s);
    bool held_still = in_operation(L, c, s);
    lua_pop(L, 2);
    if (!held_still && s->op->handshake && !c->established && c->begun)
        cotls_conn_close(L, 1, false);
    if (!held_still)
        s->op = NULL;
    return held_still;
}

/* A handshake, and whatever is the whole connection's, stands in the reader's place. */
static struct cotls_slot *slot_of(struct cotls_conn *c, const struct cotls_op *op)
{
    return &c->slot[op->slot == SLOT_WRITE ? SLOT_WRITE : SLOT_READ];
}

/* Is another coroutine at what the operation needs? */
bool cotls_slot_busy(lua_State *L, struct cotls_conn *c, const struct cotls_op *op)
{
    struct cotls_slot *reader = &c->slot[SLOT_READ], *writer = &c->slot[SLOT_WRITE];
    bool whole = reader->op != NULL && reader->op->slot == SLOT_WHOLE;
    if ((op->slot != SLOT_WRITE || whole) && cotls_slot_held(L, c, reader))
        return true;
    return op->slot != SLOT_READ && cotls_slot_held(L, c, writer);
}

/* The slot is this coroutine's. [-0, +0] */
void cotls_slot_hold(lua_State *L, struct cotls_slot *s)
{
    cotls_push_threads(L);
    lua_pushthread(L);
    lua_rawsetp(L, -2, s);
    lua_pop(L, 1);
}

/* Sets up the slot of op; on a connection whose handshake is not done, that of
 * the handshake with op after it. */
struct cotls_slot *cotls_slot_claim(struct cotls_conn *c, const struct cotls_op *op,
                                    const struct cotls_slot *init)
{
    bool first = !c->established && !op->handshake && op->slot != SLOT_WHOLE;
    const struct cotls_op *now = first ? &cotls_op_do_handshake : op;
    struct cotls_slot *s = slot_of(c, now);
    if (c->asks != NULL && c->asks->at == s)
        cotls_asks_abandon(c->asks);
    c->resume[s - c->slot] = NULL;
    *s = *init;
    s->op = now;
    s->next = first ? op : NULL;
    return s;
}

/* The handshake is done, for the operation that needed it first. */
struct cotls_slot *cotls_slot_next(lua_State *L, struct cotls_conn *c, struct cotls_slot *s)
{
    struct cotls_slot *to = slot_of(c, s->next);
    struct cotls_slot from = *s;
    s->op = NULL;
    *to = from;
    to->op = from.next;
    to->next = NULL;
    cotls_slot_hold(L, to);
    return to;
}

/* Does another operation of the connection run a function? */
bool cotls_asks_elsewhere(lua_State *L, struct cotls_conn *c, struct cotls_slot *s)
{
    struct cotls_asks *a = c->asks;
    if (a == NULL || a->at == NULL || a->at == s)
        return false;
    if (cotls_slot_held(L, c, a->at))
        return true;
    cotls_asks_abandon(a);
    return false;
}
