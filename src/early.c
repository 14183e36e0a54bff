/* SPDX-License-Identifier: MIT
 * Early data (0-RTT, RFC 8446 section 2.3): what a client sends with its hello,
 * and what a server reads before the handshake is done. It may have been
 * replayed, so read never gives it: only read_early does. The SSL_*_early_data
 * calls carry the handshake; what they leave of it is accept's and connect's. */
#include "cotls.h"

#include <openssl/err.h>
#include <string.h>

/* ---- the client ---- */

static bool has_name(const SSL_SESSION *session, const char *sni)
{
    const char *name = SSL_SESSION_get0_hostname(session);
    return name == NULL || (sni != NULL && strcmp(name, sni) == 0);
}

/* Is the session's protocol in the list that the hello offers? */
static bool has_protocol(const struct cotls_conn *c, const SSL_SESSION *session)
{
    struct cotls_bytes list = cotls_alpn(c);
    const unsigned char *name;
    size_t length;
    SSL_SESSION_get0_alpn_selected(session, &name, &length);
    if (length == 0)
        return true;
    for (size_t at = 0; at < list.len; at += 1U + list.data[at])
        if (list.data[at] == length && memcmp(list.data + at + 1, name, length) == 0)
            return true;
    return false;
}

/* How many bytes the session that is offered allows. OpenSSL fails the handshake where the hello does
 * not go with the session; here nothing is sent then. */
static size_t allowance(const struct cotls_conn *c)
{
    const SSL_SESSION *session = c->offered ? SSL_get0_session(c->ssl) : NULL;
    long max = SSL_get_max_proto_version(c->ssl);
    if (session == NULL || SSL_SESSION_get_protocol_version(session) != TLS1_3_VERSION ||
        (max != 0 && max < TLS1_3_VERSION) || !has_protocol(c, session) ||
        !has_name(session, SSL_get_servername(c->ssl, TLSEXT_NAMETYPE_host_name)))
        return 0;
    return SSL_SESSION_get_max_early_data(session);
}

static int write_early(SSL *ssl, void *data, size_t n, size_t *written)
{
    cotls_clear_errors();
    return SSL_write_early_data(ssl, data, n, written);
}

/* One SSL_write_early_data; the BIO takes all there is. */
static enum cotls_step write_some(struct cotls_conn *c, const void *data, size_t n)
{
    size_t written;
    c->hold = true;
    enum cotls_step step = cotls_outcome(c, cotls_call(c, write_early, (void *)(uintptr_t)data, n, &written));
    c->hold = false;
    if (step == STEP_DONE)
        c->early_written += n;
    return step;
}

/* The option early_data, with the hello, behind what write_early has sent: all of it, or nothing. */
enum cotls_step cotls_early_option(struct cotls_conn *c)
{
    struct cotls_text data = c->early_data;
    enum cotls_step step = STEP_DONE;
    if (data.len > 0 && c->early_written + data.len <= allowance(c))
        step = write_some(c, data.data, data.len);
    if (step != STEP_ASK) /* the same call goes on with the answer */
        c->early_data = (struct cotls_text){0};
    return step;
}

/* Has the server answered early data with an older version? Then a client must fail (RFC 8446 appendix D.3).
 * OpenSSL goes on, and has encrypted what is not initialised: nothing of that is sent. */
bool cotls_early_downgraded(struct cotls_conn *c)
{
    if (c->early_written == 0 || !c->hello_seen || SSL_version(c->ssl) >= TLS1_3_VERSION)
        return false;
    cotls_buf_free(&c->out);
    cotls_clear_errors();
    ERR_raise(ERR_LIB_SSL, SSL_R_WRONG_SSL_VERSION);
    c->ssl_error = SSL_ERROR_SSL;
    c->alert = -1;
    c->refusal = "the server has answered early data with an older version of TLS";
    return true;
}

static enum cotls_step write_early_step(lua_State *L, struct cotls_conn *c, struct cotls_slot *s)
{
    enum cotls_step step = STEP_DONE;
    cotls_handshake_begin(c);
    while (s->arg <= s->top && step == STEP_DONE) {
        size_t n;
        const char *data = lua_tolstring(L, s->arg, &n);
        if (n > 0)
            step = write_some(c, data, n);
        if (step == STEP_DONE) { /* else the same one goes on */
            s->written += n;
            s->arg++;
        }
    }
    return step == STEP_DONE ? cotls_flush_step(c) : step;
}

/* ---- the server ---- */

static int read_early(SSL *ssl, void *data, size_t size, size_t *got)
{
    cotls_clear_errors();
    return SSL_read_early_data(ssl, data, size, got);
}

/* One SSL_read_early_data, of a record at most; *n is 0 when early data is over. */
static enum cotls_step read_some(struct cotls_conn *c, void *data, size_t *n)
{
    c->hold = true;
    int r = cotls_call_read(c, read_early, data, n);
    enum cotls_step step = cotls_outcome(c, r > 0 ? 1 : r);
    c->hold = false;
    int sent = cotls_flush(c);
    c->early = r == SSL_READ_EARLY_DATA_FINISH ? EARLY_OVER : EARLY_READING;
    if (step == STEP_WANT_READ && sent == 0)
        return STEP_WANT_WRITE;
    return step;
}

/* Reads once into what is kept for read_early. */
static enum cotls_step keep_some(struct cotls_conn *c)
{
    size_t n;
    enum cotls_step step = read_some(c, c->st->gather, &n);
    if (step != STEP_DONE || n == 0 || cotls_buf_append(&c->early_kept, c->st->gather, n))
        return step;
    ERR_raise(ERR_LIB_SSL, ERR_R_MALLOC_FAILURE);
    c->ssl_error = SSL_ERROR_SSL;
    return STEP_FAIL;
}

/* accept comes before early data was read to its end. */
enum cotls_step cotls_early_drain(struct cotls_conn *c)
{
    enum cotls_step step = STEP_DONE;
    while (step == STEP_DONE && c->early == EARLY_READING)
        step = keep_some(c);
    return step;
}

static enum cotls_step read_early_step(lua_State *L, struct cotls_conn *c, struct cotls_slot *s)
{
    (void)L;
    (void)s;
    cotls_handshake_begin(c);
    if (cotls_buf_length(&c->early_kept) > 0 || c->early == EARLY_OVER)
        return STEP_DONE;
    return keep_some(c);
}

static int push_early(lua_State *L, struct cotls_conn *c, struct cotls_slot *s)
{
    size_t n = cotls_buf_length(&c->early_kept), max = (size_t)lua_tointeger(L, 2);
    (void)s;
    if (n == 0)
        lua_pushnil(L);
    else
        lua_pushlstring(L, (const char *)cotls_buf_bytes(&c->early_kept), n < max ? n : max);
    if (n > 0)
        cotls_buf_consume(&c->early_kept, n < max ? n : max);
    return 1;
}

static const struct cotls_op op_write_early = {"write_early",    SLOT_WHOLE,      true,
                                               write_early_step, cotls_push_self, cotls_annotate_written};
static const struct cotls_op op_read_early = {"read_early",    SLOT_WHOLE, true,
                                              read_early_step, push_early, NULL};

/* ---- methods ---- */

/* conn:write_early(...) → conn, or nil, err */
static int conn_write_early(lua_State *L)
{
    struct cotls_conn *c = cotls_check_conn(L);
    size_t total = 0, n;
    for (int arg = 2; arg <= lua_gettop(L); arg++) {
        luaL_checklstring(L, arg, &n);
        total += n;
    }
    cotls_choose_side(L, c, SIDE_CONNECT, "write_early");
    if (c->ssl != NULL && c->early == EARLY_OVER)
        return cotls_fail(L, "tls", "write_early", "early data goes before the handshake, which has begun");
    if (c->ssl != NULL && !c->begun)
        cotls_session_begin(c);
    if (c->ssl != NULL && c->early_written + total > allowance(c)) {
        lua_pushinteger(L, (lua_Integer)allowance(c));
        lua_pushfstring(L, "the session allows %s bytes of early data", lua_tostring(L, -1));
        return cotls_fail(L, "limit", "write_early", lua_tostring(L, -1));
    }
    return cotls_run(L, c, &op_write_early, conn_write_early);
}

/* conn:read_early(max) → bytes, nil at the end, or nil, err */
static int conn_read_early(lua_State *L)
{
    struct cotls_conn *c = cotls_check_conn(L);
    lua_Integer max = luaL_optinteger(L, 2, COTLS_RECORD);
    luaL_argcheck(L, max > 0, 2, "must be at least 1");
    cotls_choose_side(L, c, SIDE_ACCEPT, "read_early");
    lua_settop(L, 1);
    lua_pushinteger(L, max < COTLS_RECORD ? max : COTLS_RECORD);
    return cotls_run(L, c, &op_read_early, conn_read_early);
}

/* conn:early_data_status() */
static int conn_early_data_status(lua_State *L)
{
    static const char *const names[] = {
        [SSL_EARLY_DATA_NOT_SENT] = "not_sent",
        [SSL_EARLY_DATA_REJECTED] = "rejected",
        [SSL_EARLY_DATA_ACCEPTED] = "accepted",
    };
    const struct cotls_conn *c = cotls_check_conn(L);
    lua_pushstring(L, names[c->ssl != NULL ? SSL_get_early_data_status(c->ssl) : c->early_status]);
    return 1;
}

const luaL_Reg cotls_early_methods[] = {
    {"early_data_status", conn_early_data_status},
    {"read_early", conn_read_early},
    {"write_early", conn_write_early},
    {NULL, NULL},
};
