/* SPDX-License-Identifier: MIT
 * on_session_remove: the ids of sessions that have gone from a server's cache
 * wait in the context, until an operation of one of its connections tells them,
 * or flush_sessions. cotls_removed_note runs inside OpenSSL. */
#include "cotls.h"

#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>

struct cotls_removed {
    struct cotls_removed *next;
    size_t len;
    unsigned char id[SSL_MAX_SSL_SESSION_ID_LENGTH];
};

/* As many as the cache may hold, so that all of it can be flushed; the latest are lost beyond that. */
static bool is_full(struct cotls_ctx *x)
{
    long most = SSL_CTX_sess_get_cache_size(x->ssl_ctx);
    return most > 0 && x->removed_count >= (size_t)most;
}

/* Nobody is told what goes with the context itself. */
void cotls_removed_note(struct cotls_ctx *x, const SSL_SESSION *session)
{
    unsigned n;
    const unsigned char *id = SSL_SESSION_get_id(session, &n);
    if (x == NULL || x->ssl_ctx == NULL || (x->hooks & (1U << HOOK_SESSION_REMOVE)) == 0 || is_full(x))
        return;
    struct cotls_removed *r = malloc(sizeof *r);
    if (r == NULL)
        return;
    *r = (struct cotls_removed){.len = n <= sizeof r->id ? n : 0};
    memcpy(r->id, id, r->len);
    *(x->removed != NULL ? x->removed_last : &x->removed) = r;
    x->removed_last = &r->next;
    x->removed_count++;
}

static void drop_first(struct cotls_ctx *x)
{
    struct cotls_removed *r = x->removed;
    x->removed = r->next;
    x->removed_count--;
    OPENSSL_cleanse(r, sizeof *r);
    free(r);
}

/* An operation of the connection is about to tell what it has to. */
void cotls_removed_tell(struct cotls_conn *c)
{
    struct cotls_ctx *x = c->ctx;
    while (x->removed != NULL && cotls_tell(c, HOOK_SESSION_REMOVE, x->removed->id, x->removed->len) != NULL)
        drop_first(x);
}

void cotls_removed_free(struct cotls_ctx *x)
{
    while (x->removed != NULL)
        drop_first(x);
}

/* core.take_removed(context) → the next id and the function to tell it to, or nil */
int cotls_take_removed(lua_State *L)
{
    struct cotls_ctx *x = cotls_check_context(L, 1);
    if (x->removed == NULL)
        return 0;
    lua_pushlstring(L, (const char *)x->removed->id, x->removed->len);
    lua_getiuservalue(L, 1, UV_CTX_HOOKS);
    lua_geti(L, -1, HOOK_SESSION_REMOVE + 1);
    lua_replace(L, -2);
    drop_first(x);
    return 2;
}
