/* SPDX-License-Identifier: MIT
 * Every SSL, X509 and PEM callback. OpenSSL calls them in the middle of a
 * step: they read and write C fields of the connection and touch no lua_State. */
#include "cotls.h"

#include <string.h>

/* The connection is closing, and its job runs to its end: everything refuses. */
static bool is_cancelled(const struct cotls_conn *c)
{
    return c->asks != NULL && c->asks->cancelled;
}

/* What on_verify is told. */
static void note_verdict(struct cotls_conn *c, X509_STORE_CTX *store, bool ok)
{
    struct cotls_asks *a = c->asks;
    sk_X509_pop_free(a->chain, X509_free);
    a->chain = X509_STORE_CTX_get1_chain(store);
    a->store_error = X509_STORE_CTX_get_error(store);
    a->verify_ok = ok;
    a->verify_code = c->verify_code;
    a->verify_depth = c->verify_depth;
    a->verify_text = c->verify_text;
}

/* What was judged before on_verify was asked stands when a client is retried. */
static bool recall_verdict(const struct cotls_asks *a, X509_STORE_CTX *store)
{
    X509_STORE_CTX_set0_verified_chain(store, a->chain != NULL ? X509_chain_up_ref(a->chain) : NULL);
    X509_STORE_CTX_set_error(store, (int)a->store_error);
    return a->verify_ok;
}

/* The verdict with on_verify's: a client is retried, a server's job pauses in here, for its own retry would
 * accept the client's certificate (SSL_set_retry_verify(3) is for clients). */
static int ask_verify(struct cotls_conn *c, SSL *ssl, X509_STORE_CTX *store)
{
    unsigned char leaf[COTLS_DIGEST];
    bool later = false, ok;
    if (!X509_digest(X509_STORE_CTX_get0_cert(store), EVP_sha256(), leaf, NULL))
        return 0;
    if (cotls_answered(c, HOOK_VERIFY, leaf, sizeof leaf) != NULL) {
        ok = recall_verdict(c->asks, store);
    } else {
        ok = cotls_verify_chain(c, store);
        note_verdict(c, store, ok);
        if (c->asks->chain == NULL && X509_STORE_CTX_get0_chain(store) != NULL) { /* no memory to show it */
            cotls_ask_refuse(c, "no memory for on_verify's report");
            return 0;
        }
    }
    bool good = cotls_ask(c, HOOK_VERIFY, leaf, sizeof leaf, SSL_is_server(ssl) ? NULL : &later) != NULL;
    if (later)
        return SSL_set_retry_verify(ssl);
    if (good && !ok && c->active->verify_may_accept) {
        X509_STORE_CTX_set_error(store, X509_V_OK);
        cotls_verify_judged(c, X509_V_OK);
        return 1;
    }
    if (!good && ok) {
        X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_REJECTED);
        cotls_verify_judged(c, X509_V_ERR_CERT_REJECTED);
    }
    return good && ok;
}

/* X509_STORE_CTX_set_verify_cb(3), where LuaSec's verifyext wants what is wrong noted */
int cotls_hook_verify_error(int ok, X509_STORE_CTX *store)
{
    SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct cotls_conn *c = SSL_get_app_data(ssl);
    if (ok != 0)
        return ok;
    cotls_verify_note(c, X509_STORE_CTX_get_error_depth(store), X509_STORE_CTX_get_error(store));
    return c->active->verify_goes_on;
}

/* SSL_CTX_set_cert_verify_callback(3) */
int cotls_hook_verify(X509_STORE_CTX *store, void *arg)
{
    SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct cotls_conn *c = SSL_get_app_data(ssl);
    (void)arg;
    if (is_cancelled(c))
        return 0;
    return cotls_hooked(c, HOOK_VERIFY) ? ask_verify(c, ssl, store) : cotls_verify_chain(c, store);
}

/* A ClientHello behind a ServerHello of the same handshake: that was a HelloRetryRequest. */
static void note_hello(struct cotls_conn *c, OSSL_HANDSHAKE_STATE state)
{
    if (state == TLS_ST_CR_SRVR_HELLO || state == TLS_ST_SW_SRVR_HELLO)
        c->hello_seen = true;
    else if (c->hello_seen && (state == TLS_ST_CW_CLNT_HELLO || state == TLS_ST_SR_CLNT_HELLO))
        c->hello_retry = true;
}

static void begin_handshake(struct cotls_conn *c)
{
    c->hello_seen = c->hello_retry = false;
    if (c->established)
        cotls_asks_forget(c);
}

/* SSL_CTX_set_info_callback(3): the states and the alerts that go by, and the end. */
void cotls_hook_info(const SSL *ssl, int where, int ret)
{
    struct cotls_conn *c = SSL_get_app_data(ssl);
    if (c != NULL && (where & SSL_CB_HANDSHAKE_START) != 0)
        begin_handshake(c);
    if (c != NULL && (where & SSL_CB_LOOP) != 0) {
        note_hello(c, SSL_get_state(ssl));
        if (cotls_hooked(c, HOOK_TRACE) && !is_cancelled(c))
            cotls_trace_state(c, ssl);
    }
    if (c != NULL && (where & SSL_CB_HANDSHAKE_DONE) != 0)
        cotls_psk_done(c);
    if ((where & SSL_CB_ALERT) == 0 || c == NULL || (ret >> 8) != SSL3_AL_FATAL)
        return;
    c->alert = ret & 255;
    c->alert_sent = (where & SSL_CB_WRITE) != 0;
}

static int ask_alpn(struct cotls_conn *c, const unsigned char **out, unsigned char *outlen,
                    const unsigned char *in, unsigned int inlen)
{
    const struct cotls_answer *w = cotls_ask(c, HOOK_ALPN, in, inlen, NULL);
    if (w == NULL)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = w->data;
    *outlen = (unsigned char)w->len;
    return SSL_TLSEXT_ERR_OK;
}

/* SSL_CTX_set_alpn_select_cb(3): the server's order decides; no overlap is fatal (RFC 7301 section 3.2). */
int cotls_hook_alpn(SSL *ssl, const unsigned char **out, unsigned char *outlen, const unsigned char *in,
                    unsigned int inlen, void *arg)
{
    struct cotls_conn *c = SSL_get_app_data(ssl);
    struct cotls_bytes mine = cotls_alpn(c);
    unsigned char *chosen;
    (void)arg;
    if (cotls_hooked(c, HOOK_ALPN))
        return ask_alpn(c, out, outlen, in, inlen);
    if (mine.data == NULL)
        return SSL_TLSEXT_ERR_NOACK;
    if (SSL_select_next_proto(&chosen, outlen, mine.data, (unsigned)mine.len, in, inlen) !=
        OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

/* SSL_CTX_set_cert_cb(3): -1 comes again, 0 refuses. What on_session_get had to refuse ends here. */
int cotls_hook_certificate(SSL *ssl, void *arg)
{
    struct cotls_conn *c = SSL_get_app_data(ssl);
    bool later = false;
    (void)arg;
    if (c->asks != NULL && (c->asks->refused || c->asks->cancelled))
        return 0;
    if (!SSL_is_server(ssl) && SSL_version(ssl) < TLS1_3_VERSION)
        cotls_choose_credential(ssl, c->active);
    if (!cotls_hooked(c, HOOK_CERTIFICATE) || cotls_ask(c, HOOK_CERTIFICATE, NULL, 0, &later) != NULL)
        return 1;
    return later ? -1 : 0;
}

/* SSL_CTX_sess_set_get_cb(3): the answer's session, or NULL for one that is unknown */
SSL_SESSION *cotls_hook_session_get(SSL *ssl, const unsigned char *id, int n, int *copy)
{
    struct cotls_conn *c = SSL_get_app_data(ssl);
    *copy = 0;
    if (!cotls_hooked(c, HOOK_SESSION_GET))
        return NULL;
    const struct cotls_answer *w = cotls_ask(c, HOOK_SESSION_GET, id, (size_t)n, NULL);
    if (w == NULL || w->data == NULL)
        return NULL;
    SSL_SESSION *session = cotls_session_decode(w->data, w->len, id, (size_t)n);
    if (session != NULL)
        cotls_session_cached(c, session, true); /* OpenSSL does, too, and finds it there */
    return session;
}

/* SSL_CTX_sess_set_remove_cb(3) */
void cotls_hook_session_remove(SSL_CTX *ctx, SSL_SESSION *session)
{
    cotls_removed_note(SSL_CTX_get_app_data(ctx), session);
}

/* SSL_CTX_set_keylog_callback(3) */
void cotls_hook_keylog(const SSL *ssl, const char *line)
{
    struct cotls_conn *c = SSL_get_app_data(ssl);
    cotls_keylog_write(c->ctx, line);
    if (cotls_hooked(c, HOOK_KEYLOG) && !is_cancelled(c))
        cotls_tell(c, HOOK_KEYLOG, line, strlen(line));
}

static bool is_client_hello(int write, int type, const void *data, size_t n)
{
    return write == 0 && type == SSL3_RT_HANDSHAKE && n > 0 && *(const char *)data == SSL3_MT_CLIENT_HELLO;
}

/* SSL_CTX_set_msg_callback(3): each message, when it is there and not yet read */
void cotls_hook_message(int write, int version, int type, const void *data, size_t n, SSL *ssl, void *arg)
{
    struct cotls_conn *c = SSL_get_app_data(ssl);
    (void)arg;
    if (c == NULL || is_cancelled(c))
        return;
    if (cotls_hooked(c, HOOK_CLIENT_HELLO) && is_client_hello(write, type, data, n))
        cotls_hello_keep(c, data, n);
    if (cotls_hooked(c, HOOK_TRACE))
        cotls_trace_message(c, write != 0, version, type, data, n);
}

static int judge_hello(struct cotls_conn *c, int *alert)
{
    if (!cotls_same_hello(c, alert))
        return SSL_CLIENT_HELLO_ERROR;
    if (cotls_hooked(c, HOOK_CLIENT_HELLO)) {
        bool later;
        const struct cotls_answer *w = cotls_ask(c, HOOK_CLIENT_HELLO, NULL, 0, &later);
        *alert = cotls_refused_alert(c, HOOK_CLIENT_HELLO, SSL_AD_HANDSHAKE_FAILURE);
        if (w == NULL)
            return later ? SSL_CLIENT_HELLO_RETRY : SSL_CLIENT_HELLO_ERROR;
    }
    bool chosen = c->chosen == NULL && c->active != c->ctx; /* by the hook */
    if (c->ctx->names != NULL && !chosen && !cotls_names_choose(c, alert))
        return SSL_CLIENT_HELLO_ERROR;
    if (!cotls_prefetch(c, alert))
        return SSL_CLIENT_HELLO_ERROR;
    if (cotls_psk_hello(c))
        return SSL_CLIENT_HELLO_SUCCESS;
    *alert = SSL_AD_UNKNOWN_PSK_IDENTITY;
    return SSL_CLIENT_HELLO_ERROR;
}

/* SSL_CTX_set_client_hello_cb(3). Where there are no jobs, all that is asked in here comes again. */
int cotls_hook_client_hello(SSL *ssl, int *alert, void *arg)
{
    struct cotls_conn *c = SSL_get_app_data(ssl);
    (void)arg;
    if (c->asks == NULL)
        return judge_hello(c, alert);
    c->asks->in_hello = !cotls_can_pause();
    int result = judge_hello(c, alert);
    if (c->asks->in_hello && cotls_is_asked(c))
        result = SSL_CLIENT_HELLO_RETRY;
    c->asks->in_hello = false;
    return result;
}

/* SSL_CTX_set_psk_use_session_callback(3) */
int cotls_hook_psk_use(SSL *ssl, const EVP_MD *md, const unsigned char **identity, size_t *n,
                       SSL_SESSION **session)
{
    return cotls_psk_offer(SSL_get_app_data(ssl), md, identity, n, session);
}

/* SSL_CTX_set_psk_find_session_callback(3) */
int cotls_hook_psk_find(SSL *ssl, const unsigned char *identity, size_t n, SSL_SESSION **session)
{
    return cotls_psk_find(SSL_get_app_data(ssl), identity, n, session);
}

/* SSL_CTX_set_session_ticket_cb(3), a ticket that was decrypted or not */
SSL_TICKET_RETURN cotls_hook_ticket(SSL *ssl, SSL_SESSION *session, const unsigned char *name, size_t n,
                                    SSL_TICKET_STATUS status, void *arg)
{
    (void)name;
    (void)n;
    (void)arg;
    return cotls_psk_judge_ticket(SSL_get_app_data(ssl), session, status);
}

/* SSL_CTX_set_psk_client_callback(3) */
unsigned cotls_hook_psk_client(SSL *ssl, const char *hint, char *identity, unsigned max_identity,
                               unsigned char *key, unsigned max_key)
{
    return cotls_psk_client(SSL_get_app_data(ssl), hint, identity, max_identity, key, max_key);
}

/* SSL_CTX_set_psk_server_callback(3) */
unsigned cotls_hook_psk_server(SSL *ssl, const char *identity, unsigned char *key, unsigned max_key)
{
    return cotls_psk_server(SSL_get_app_data(ssl), identity, key, max_key);
}

/* SSL_CTX_sess_set_new_cb(3): 1 keeps the reference */
int cotls_hook_new_session(SSL *ssl, SSL_SESSION *session)
{
    struct cotls_conn *c = SSL_get_app_data(ssl);
    if (cotls_hooked(c, HOOK_SESSION_NEW) && !is_cancelled(c)) {
        struct cotls_event *e = cotls_tell(c, HOOK_SESSION_NEW, NULL, 0);
        if (e != NULL && SSL_SESSION_up_ref(session))
            e->session = session;
        if (!SSL_is_server(ssl))
            cotls_session_mark(c, session);
    }
    if (SSL_is_server(ssl))
        cotls_session_cached(c, session, false);
    return cotls_session_new(c, session);
}

/* SSL_CTX_set_tlsext_ticket_key_evp_cb(3) */
int cotls_hook_ticket_key(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
                          EVP_MAC_CTX *mac, int encrypt)
{
    struct cotls_conn *c = SSL_get_app_data(ssl);
    if (!cotls_hooked(c, HOOK_TICKET_KEY))
        return cotls_ticket_key(c, name, iv, cipher, mac, encrypt != 0);
    const struct cotls_answer *w = cotls_ask(c, HOOK_TICKET_KEY, name, encrypt ? 0 : 16, NULL);
    if (w == NULL || w->data == NULL)
        return w == NULL ? -1 : 0;
    return cotls_ticket_answer(c, w->data, name, iv, cipher, mac, encrypt != 0);
}

/* SSL_CTX_set_tlsext_servername_callback(3): acknowledged, a name is kept in the session and known
 * after a resumption too. */
int cotls_hook_server_name(SSL *ssl, int *alert, void *arg)
{
    struct cotls_conn *c = SSL_get_app_data(ssl);
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    (void)arg;
    if (cotls_hooked(c, HOOK_SERVER_NAME) &&
        cotls_ask(c, HOOK_SERVER_NAME, name, name != NULL ? strlen(name) : 0, NULL) == NULL) {
        *alert = SSL_AD_UNRECOGNIZED_NAME;
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    }
    return name != NULL ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_NOACK;
}

static int ask_staple(struct cotls_conn *c)
{
    const struct cotls_answer *w = cotls_ask(c, HOOK_OCSP, NULL, 0, NULL);
    if (w == NULL)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    return w->data != NULL ? cotls_ocsp_staple(c, w->data, w->len) : SSL_TLSEXT_ERR_NOACK;
}

/* SSL_CTX_set_tlsext_status_cb(3): a server gives its staple, a client judges what it was given. */
int cotls_hook_status(SSL *ssl, void *arg)
{
    struct cotls_conn *c = SSL_get_app_data(ssl);
    (void)arg;
    if (SSL_is_server(ssl))
        return cotls_hooked(c, HOOK_OCSP) ? ask_staple(c) : cotls_ocsp_give(c);
    return cotls_ocsp_check(c);
}

/* SSL_CTX_set_ct_validation_callback(3): SCTs fail no handshake. Those that can't be parsed have left errors in the
 * queue, for which SSL_get_error would take the next wait for a failure. */
int cotls_hook_scts(const CT_POLICY_EVAL_CTX *ctx, const STACK_OF(SCT) * scts, void *arg)
{
    (void)ctx;
    (void)scts;
    (void)arg;
    cotls_clear_errors();
    return 1;
}

/* pem_password_cb(3): never asks at the terminal; without a password it fails. */
int cotls_hook_password(char *buf, int size, int rwflag, void *password)
{
    struct cotls_password *p = password;
    (void)rwflag;
    if (p != NULL)
        p->asked = true;
    if (p == NULL || p->text == NULL || p->size > (size_t)size || strlen(p->text) != p->size)
        return -1;
    memcpy(buf, p->text, p->size);
    return (int)p->size;
}
