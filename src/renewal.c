/* SPDX-License-Identifier: MIT
 * What comes after the handshake: key_update, renegotiate, request_client_certificate,
 * and the settings that allow them. OpenSSL is asked for one, and then written or
 * read as for data. A renegotiation is driven by SSL_read: SSL_do_handshake takes
 * data that arrive meanwhile for an error, SSL_read lets them come first. */
#include "cotls.h"

#include <math.h>
#include <openssl/err.h>
#include <string.h>

/* How far an operation that sends one message has come: in cotls_slot.offset. */
enum { PHASE_ASK, PHASE_MAKE, PHASE_SEND };

static enum cotls_step refuse(struct cotls_conn *c, const char *reason)
{
    c->refusal = reason;
    return STEP_REFUSED;
}

static bool is_tls13(const struct cotls_conn *c)
{
    return SSL_version(c->ssl) == TLS1_3_VERSION;
}

/* May what is read be handshake messages that ask for something, or is such a handshake under way? */
bool cotls_may_shake_again(const struct cotls_conn *c)
{
    if (SSL_in_init(c->ssl))
        return true;
    if (is_tls13(c))
        return c->ctx->server ? c->requested : c->ctx->post_handshake_auth;
    return (SSL_get_options(c->ssl) & SSL_OP_NO_RENEGOTIATION) == 0;
}

/* Reads what the peer sends until its handshake messages are over: a renegotiation, a certificate.
 * Data that come before are kept. A reader that waits shares what is received, so that its wait must
 * end as well: nothing is taken before this operation has waited too. */
enum cotls_step cotls_settle(struct cotls_conn *c, struct cotls_slot *s)
{
    enum cotls_step step = STEP_DONE;
    while (SSL_in_init(c->ssl)) {
        bool shared = s != &c->slot[SLOT_READ] && c->slot[SLOT_READ].op != NULL;
        if (step != STEP_DONE)
            return step;
        if (cotls_buf_length(&c->plain) > COTLS_KEPT)
            return STEP_LIMIT;
        if (shared && !s->waited && cotls_buf_length(&c->cipher) == 0)
            step = STEP_WANT_READ;
        else
            step = cotls_fill(c);
        s->waited = true;
    }
    s->waited = false;
    return STEP_DONE;
}

/* Brings the connection to where a message of its own can be made. */
static enum cotls_step make_ready(struct cotls_conn *c, struct cotls_slot *s)
{
    enum cotls_step step = cotls_flush_step(c);
    if (step == STEP_DONE)
        step = cotls_settle(c, s);
    if (step == STEP_DONE && (SSL_get_shutdown(c->ssl) & SSL_SENT_SHUTDOWN) != 0)
        step = STEP_SHUT;
    return step;
}

/* Makes the one message that ask() is about, then sends it: waits for output only. */
static enum cotls_step send_message(struct cotls_conn *c, struct cotls_slot *s,
                                    enum cotls_step (*ask)(struct cotls_conn *c, bool with_answer),
                                    bool with_answer)
{
    enum cotls_step step;
    if (s->offset == PHASE_ASK) {
        step = make_ready(c, s);
        if (step == STEP_DONE)
            step = ask(c, with_answer);
        if (step != STEP_DONE)
            return step;
        s->offset = PHASE_MAKE;
    }
    if (s->offset == PHASE_MAKE) {
        cotls_clear_errors();
        step = cotls_outcome(c, SSL_do_handshake(c->ssl));
        if (step != STEP_DONE)
            return step;
        s->offset = PHASE_SEND;
    }
    return cotls_flush_step(c);
}

/* ---- key_update ---- */

static enum cotls_step ask_key_update(struct cotls_conn *c, bool with_answer)
{
    if (!is_tls13(c))
        return refuse(c, "TLS 1.2 has no key update");
    cotls_clear_errors();
    if (SSL_key_update(c->ssl, with_answer ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED) == 1)
        return STEP_DONE;
    return refuse(c, "OpenSSL refuses a key update");
}

static enum cotls_step key_update_step(lua_State *L, struct cotls_conn *c, struct cotls_slot *s)
{
    return send_message(c, s, ask_key_update, lua_toboolean(L, 2));
}

/* ---- request_client_certificate ---- */

static const char *request_refused(void)
{
    unsigned long code = ERR_peek_last_error();
    switch (ERR_GET_REASON(code)) {
    case SSL_R_EXTENSION_NOT_RECEIVED:
        return "the client has not offered post_handshake_auth";
    case SSL_R_REQUEST_PENDING:
    case SSL_R_REQUEST_SENT:
        return "a request is pending: a read takes in the answer";
    default:
        return "OpenSSL refuses a request for a certificate";
    }
}

/* A client's certificate is wanted from now on, whatever verify_client says. */
static enum cotls_step ask_certificate(struct cotls_conn *c, bool with_answer)
{
    int mode = SSL_get_verify_mode(c->ssl);
    (void)with_answer;
    if (!SSL_is_server(c->ssl))
        return refuse(c, "only a server can ask its client for a certificate");
    if (!is_tls13(c))
        return refuse(c, "TLS 1.2 has no request for a certificate after the handshake");
    if (!c->active->trusts)
        return refuse(c, "the context has no ca: whom a client's certificate must come from");
    if (c->ended)
        return STEP_END;
    SSL_set_verify(c->ssl, mode | SSL_VERIFY_PEER, NULL);
    cotls_clear_errors();
    c->requested = true;
    if (SSL_verify_client_post_handshake(c->ssl) == 1)
        return STEP_DONE;
    SSL_set_verify(c->ssl, mode, NULL);
    return refuse(c, request_refused());
}

static enum cotls_step request_step(lua_State *L, struct cotls_conn *c, struct cotls_slot *s)
{
    (void)L;
    return send_message(c, s, ask_certificate, false);
}

/* ---- renegotiate ---- */

static enum cotls_step ask_renegotiation(struct cotls_conn *c)
{
    if (!c->established)
        return refuse(c, "the handshake is not done");
    if (is_tls13(c))
        return refuse(c, "TLS 1.3 has no renegotiation: key_update renews the keys");
    if ((SSL_get_options(c->ssl) & SSL_OP_NO_RENEGOTIATION) != 0)
        return refuse(c, "the context's renegotiation is \"never\"");
    if (SSL_get_secure_renegotiation_support(c->ssl) != 1)
        return refuse(c, "the peer has no secure renegotiation (RFC 5746)");
    if (c->ended)
        return STEP_END;
    cotls_clear_errors();
    if (SSL_renegotiate(c->ssl) != 1)
        return refuse(c, "OpenSSL refuses a renegotiation");
    c->renegotiating = true;
    c->handshake_deadline = c->handshake_timeout < 0 ? HUGE_VAL : cotls_now() + c->handshake_timeout;
    return STEP_DONE;
}

static bool is_renegotiating(const struct cotls_conn *c)
{
    return SSL_renegotiate_pending(c->ssl) || SSL_in_init(c->ssl);
}

/* One that was begun, and then left by a timeout, is gone on with. */
static enum cotls_step renegotiate_step(lua_State *L, struct cotls_conn *c, struct cotls_slot *s)
{
    enum cotls_step step = STEP_DONE;
    (void)L;
    if (!c->renegotiating)
        step = c->established ? make_ready(c, s) : STEP_DONE;
    if (step == STEP_DONE && !c->renegotiating)
        step = ask_renegotiation(c);
    while (step == STEP_DONE && is_renegotiating(c))
        step = cotls_buf_length(&c->plain) > COTLS_KEPT ? STEP_LIMIT : cotls_fill(c);
    if (step == STEP_WANT_READ && is_renegotiating(c) && cotls_flush(c) == 0)
        step = STEP_WANT_WRITE;
    if (step == STEP_WANT_READ && !is_renegotiating(c))
        step = STEP_DONE;
    if (step == STEP_DONE)
        step = cotls_flush_step(c);
    if (step == STEP_DONE)
        c->renegotiating = false;
    return step;
}

/* A renegotiation that the peer refuses ends the connection: OpenSSL takes it for a failed handshake. */
static void annotate_renegotiation(lua_State *L, struct cotls_conn *c, struct cotls_slot *s)
{
    (void)c;
    (void)s;
    lua_getfield(L, -1, "reason");
    const char *reason = lua_tostring(L, -1),
               *refused = ERR_reason_error_string(ERR_PACK(ERR_LIB_SSL, 0, SSL_R_NO_RENEGOTIATION));
    bool same = reason != NULL && refused != NULL && strcmp(reason, refused) == 0;
    lua_pop(L, 1);
    if (same) {
        lua_pushliteral(L, "the peer refuses to renegotiate");
        lua_setfield(L, -2, "reason");
    }
}

static const struct cotls_op op_key_update = {"key_update",    SLOT_WRITE,      false,
                                              key_update_step, cotls_push_self, NULL};
static const struct cotls_op op_request = {
    "request_client_certificate", SLOT_WRITE, false, request_step, cotls_push_self, NULL};
static const struct cotls_op op_renegotiate = {"renegotiate",    SLOT_WHOLE,      true,
                                               renegotiate_step, cotls_push_self, annotate_renegotiation};

/* ---- methods ---- */

static int conn_key_update(lua_State *L)
{
    struct cotls_conn *c = cotls_check_conn(L);
    lua_settop(L, 2);
    return cotls_run(L, c, &op_key_update, conn_key_update);
}

static int conn_request_client_certificate(lua_State *L)
{
    struct cotls_conn *c = cotls_check_conn(L);
    lua_settop(L, 1);
    return cotls_run(L, c, &op_request, conn_request_client_certificate);
}

static int conn_renegotiate(lua_State *L)
{
    struct cotls_conn *c = cotls_check_conn(L);
    lua_settop(L, 1);
    return cotls_run(L, c, &op_renegotiate, conn_renegotiate);
}

const luaL_Reg cotls_renewal_methods[] = {
    {"key_update", conn_key_update},
    {"request_client_certificate", conn_request_client_certificate},
    {"renegotiate", conn_renegotiate},
    {NULL, NULL},
};

/* ---- settings ---- */

/* A renegotiation is a full handshake, whoever starts it: it verifies anew. */
static bool set_renegotiation(lua_State *L, struct cotls_ctx *x)
{
    const char *value = lua_tostring(L, -1);
    bool client = strcmp(value, "allow-client") == 0;
    if (client && !x->server)
        return cotls_refuse(L, "\"allow-client\" is for servers");
    if (!client && strcmp(value, "allow") != 0 && strcmp(value, "never") != 0)
        return cotls_refuse(L, "must be \"never\", \"allow\" or \"allow-client\"");
    if (strcmp(value, "never") != 0)
        SSL_CTX_clear_options(x->ssl_ctx, SSL_OP_NO_RENEGOTIATION);
    if (client)
        SSL_CTX_set_options(x->ssl_ctx, SSL_OP_ALLOW_CLIENT_RENEGOTIATION);
    SSL_CTX_set_options(x->ssl_ctx, SSL_OP_NO_SESSION_RESUMPTION_ON_RENEGOTIATION);
    return true;
}

static bool set_post_handshake_auth(lua_State *L, struct cotls_ctx *x)
{
    bool offer = lua_toboolean(L, -1);
    if (offer && x->server)
        return cotls_refuse(L, "is for clients; a server calls request_client_certificate");
    SSL_CTX_set_post_handshake_auth(x->ssl_ctx, offer);
    x->post_handshake_auth = offer;
    return true;
}

static bool set_trusts(lua_State *L, struct cotls_ctx *x)
{
    x->trusts = lua_toboolean(L, -1);
    return true;
}

const struct cotls_setting cotls_renewal_settings[] = {
    {"renegotiation", set_renegotiation},
    {"post_handshake_auth", set_post_handshake_auth},
    {"trusts", set_trusts},
    {NULL, NULL},
};
