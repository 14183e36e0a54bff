/* SPDX-License-Identifier: MIT
 * Every SSL, X509 and PEM callback. OpenSSL calls them in the middle of a
 * step: they read and write C fields of the connection and touch no lua_State. */
#include "cotls.h"

#include <string.h>

/* SSL_CTX_set_cert_verify_callback(3) */
int cotls_hook_verify(X509_STORE_CTX *store, void *arg)
{
    SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    (void)arg;
    return cotls_verify_chain(SSL_get_app_data(ssl), store);
}

/* A ClientHello behind a ServerHello of the same handshake: that was a HelloRetryRequest. */
static void note_hello(struct cotls_conn *c, OSSL_HANDSHAKE_STATE state)
{
    if (state == TLS_ST_CR_SRVR_HELLO || state == TLS_ST_SW_SRVR_HELLO)
        c->hello_seen = true;
    else if (c->hello_seen && (state == TLS_ST_CW_CLNT_HELLO || state == TLS_ST_SR_CLNT_HELLO))
        c->hello_retry = true;
}

/* SSL_CTX_set_info_callback(3): the states and the alerts that go by, and the end. */
void cotls_hook_info(const SSL *ssl, int where, int ret)
{
    struct cotls_conn *c = SSL_get_app_data(ssl);
    if (c != NULL && (where & SSL_CB_HANDSHAKE_START) != 0)
        c->hello_seen = c->hello_retry = false;
    if (c != NULL && (where & SSL_CB_LOOP) != 0)
        note_hello(c, SSL_get_state(ssl));
    if (c != NULL && (where & SSL_CB_HANDSHAKE_DONE) != 0)
        cotls_psk_done(c);
    if ((where & SSL_CB_ALERT) == 0 || c == NULL || (ret >> 8) != SSL3_AL_FATAL)
        return;
    c->alert = ret & 255;
    c->alert_sent = (where & SSL_CB_WRITE) != 0;
}

/* SSL_CTX_set_alpn_select_cb(3): the server's order decides; no overlap is fatal (RFC 7301 section 3.2). */
int cotls_hook_alpn(SSL *ssl, const unsigned char **out, unsigned char *outlen, const unsigned char *in,
                    unsigned int inlen, void *arg)
{
    const struct cotls_conn *c = SSL_get_app_data(ssl);
    const unsigned char *mine = c->alpn != NULL ? c->alpn : c->active->alpn;
    size_t n = c->alpn != NULL ? c->alpn_len : c->active->alpn_len;
    unsigned char *chosen;
    (void)arg;
    if (mine == NULL)
        return SSL_TLSEXT_ERR_NOACK;
    if (SSL_select_next_proto(&chosen, outlen, mine, (unsigned)n, in, inlen) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

/* SSL_CTX_set_cert_cb(3), of clients */
int cotls_hook_certificate(SSL *ssl, void *arg)
{
    const struct cotls_conn *c = SSL_get_app_data(ssl);
    (void)arg;
    if (SSL_version(ssl) < TLS1_3_VERSION)
        cotls_choose_credential(ssl, c->active);
    return 1;
}

/* SSL_CTX_set_client_hello_cb(3) */
int cotls_hook_client_hello(SSL *ssl, int *alert, void *arg)
{
    struct cotls_conn *c = SSL_get_app_data(ssl);
    (void)arg;
    if (c->ctx->names != NULL && !cotls_names_choose(c, alert))
        return SSL_CLIENT_HELLO_ERROR;
    cotls_psk_hello(c);
    return SSL_CLIENT_HELLO_SUCCESS;
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
    (void)hint;
    return cotls_psk_client(SSL_get_app_data(ssl), identity, max_identity, key, max_key);
}

/* SSL_CTX_set_psk_server_callback(3) */
unsigned cotls_hook_psk_server(SSL *ssl, const char *identity, unsigned char *key, unsigned max_key)
{
    return cotls_psk_server(SSL_get_app_data(ssl), identity, key, max_key);
}

/* SSL_CTX_sess_set_new_cb(3): 1 keeps the reference */
int cotls_hook_new_session(SSL *ssl, SSL_SESSION *session)
{
    return cotls_session_new(SSL_get_app_data(ssl), session);
}

/* SSL_CTX_set_tlsext_ticket_key_evp_cb(3) */
int cotls_hook_ticket_key(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
                          EVP_MAC_CTX *mac, int encrypt)
{
    return cotls_ticket_key(SSL_get_app_data(ssl), name, iv, cipher, mac, encrypt != 0);
}

/* SSL_CTX_set_tlsext_servername_callback(3): acknowledged, a name is kept in the session and known
 * after a resumption too. */
int cotls_hook_server_name(SSL *ssl, int *alert, void *arg)
{
    (void)alert;
    (void)arg;
    return SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name) != NULL ? SSL_TLSEXT_ERR_OK
                                                                      : SSL_TLSEXT_ERR_NOACK;
}

/* SSL_CTX_set_tlsext_status_cb(3): a server gives its staple, a client judges what it was given. */
int cotls_hook_status(SSL *ssl, void *arg)
{
    (void)arg;
    if (SSL_is_server(ssl))
        return cotls_ocsp_give(SSL_get_app_data(ssl));
    return cotls_ocsp_check(SSL_get_app_data(ssl));
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
