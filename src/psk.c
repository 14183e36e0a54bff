/* SPDX-License-Identifier: MIT
 * Pre-shared keys: who has one, instead of a certificate. They lie in C memory of
 * the context, since OpenSSL asks for them in the middle of a handshake: what it
 * calls here touches no lua_State. On TLS 1.3 a key goes with SHA-256 (RFC 8446
 * section 4.2.11), so a server that knows the client's identity chooses among the
 * suites of that hash; on TLS 1.2 suites with such keys (RFC 4279) come first.
 * Whom the list does not know, on_psk may; a client's gives its one key. */
#include "cotls.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

struct key {
    const unsigned char *identity, *key; /* behind the list */
    size_t identity_len, key_len;
};

struct cotls_psk {
    size_t size, count;
    struct key keys[];
};

#define MAX_QUESTIONS 8    /* of on_psk for one hello, which may name thousands */
#define SHORTEST_TICKET 80 /* a key's name, IV, MAC, and a block of what is encrypted */

static const char mark[] = "psk "; /* before the identity, in a session's data */

/* Wipes the keys. */
void cotls_psk_free(struct cotls_psk *psk)
{
    if (psk != NULL)
        OPENSSL_clear_free(psk, psk->size);
}

/* The identity's key, or NULL. All are compared, however early one matches. */
static const struct key *find(const struct cotls_psk *psk, const void *identity, size_t n)
{
    const struct key *found = NULL;
    for (size_t i = 0; psk != NULL && i < psk->count; i++)
        if (psk->keys[i].identity_len == n && CRYPTO_memcmp(psk->keys[i].identity, identity, n) == 0)
            found = &psk->keys[i];
    return found;
}

/* ---- on_psk, at a server ---- */

/* An answer as a key; false: there is none. */
static bool to_key(const struct cotls_answer *w, struct key *k)
{
    if (w == NULL || w->data == NULL)
        return false;
    *k = (struct key){w->question, w->data, w->question_len, w->len};
    return true;
}

/* OpenSSL asks about tickets too (tls_parse_ctos_psk): a session's id where sessions stay here, the name of a ticket
 * key where they don't. on_ticket_key tells its own; that answer is wanted again when the ticket is decrypted. */
static bool is_ticket(struct cotls_conn *c, const unsigned char *identity, size_t n)
{
    unsigned char own[80]; /* OpenSSL's key, its name first */
    uint64_t options = SSL_get_options(c->ssl);
    if (n == SSL_MAX_SSL_SESSION_ID_LENGTH)
        return (options & SSL_OP_NO_TICKET) != 0 ||
               (SSL_get_max_early_data(c->ssl) > 0 && (options & SSL_OP_NO_ANTI_REPLAY) == 0);
    if (n < SHORTEST_TICKET)
        return false;
    if (cotls_hooked(c, HOOK_TICKET_KEY)) {
        const struct cotls_answer *w = cotls_ask(c, HOOK_TICKET_KEY, identity, COTLS_TICKET_NAME, NULL);
        return w == NULL || w->data != NULL;
    }
    bool same = SSL_CTX_get_tlsext_ticket_keys(c->ctx->ssl_ctx, own, sizeof own) == 1 &&
                memcmp(own, identity, COTLS_TICKET_NAME) == 0;
    OPENSSL_cleanse(own, sizeof own);
    return same || cotls_ticket_is_ours(c, identity);
}

/* ---- TLS 1.3 ---- */

/* The session keeps the identity: OpenSSL copies sessions, and a server's tickets keep it too. */
static bool note_identity(SSL_SESSION *session, const struct key *k)
{
    unsigned char data[sizeof mark + PSK_MAX_IDENTITY_LEN];
    memcpy(data, mark, sizeof mark);
    memcpy(data + sizeof mark, k->identity, k->identity_len);
    return SSL_SESSION_set1_ticket_appdata(session, data, sizeof mark + k->identity_len) == 1;
}

/* A session that stands for the key. NULL: no memory. */
static SSL_SESSION *make_session(const struct cotls_conn *c, const struct key *k)
{
    static const unsigned char suite[] = {0x13, 0x01}; /* TLS_AES_128_GCM_SHA256: only its hash counts */
    const SSL_CIPHER *cipher = SSL_CIPHER_find(c->ssl, suite);
    SSL_SESSION *session = SSL_SESSION_new();
    if (session != NULL && cipher != NULL && SSL_SESSION_set1_master_key(session, k->key, k->key_len) &&
        SSL_SESSION_set_cipher(session, cipher) &&
        SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION) &&
        SSL_SESSION_set1_id_context(session, c->active->scope, sizeof c->active->scope) &&
        note_identity(session, k))
        return session;
    SSL_SESSION_free(session);
    return NULL;
}

/* What a client has: its one key, or what on_psk answers to the hint, if there is one. false: none. */
static bool own_key(struct cotls_conn *c, const char *hint, struct key *k)
{
    if (c->active->psk != NULL) {
        *k = c->active->psk->keys[0];
        return true;
    }
    if (!cotls_hooked(c, HOOK_PSK))
        return false;
    const struct cotls_answer *w = cotls_ask(c, HOOK_PSK, hint, hint != NULL ? strlen(hint) : 0, NULL);
    if (w == NULL || w->data == NULL)
        return false;
    *k = (struct key){w->data, w->data + w->identity_len, w->identity_len, w->len - w->identity_len};
    return true;
}

/* A client's offer; none after a HelloRetryRequest for another hash, nor in a renegotiation, which is TLS 1.2's.
 * false: no memory, or on_psk refuses. */
bool cotls_psk_offer(struct cotls_conn *c, const EVP_MD *md, const unsigned char **identity, size_t *n,
                     SSL_SESSION **session)
{
    struct key k;
    *session = NULL;
    if (c->established || (md != NULL && !EVP_MD_is_a(md, "SHA256")))
        return true;
    if (!own_key(c, NULL, &k))
        return c->asks == NULL || !(c->asks->refused || c->asks->cancelled);
    *identity = k.identity;
    *n = k.identity_len;
    *session = make_session(c, &k);
    return *session != NULL;
}

/* What a server has for an identity, a ticket maybe: *session is NULL where it is none of ours. false: no memory. */
bool cotls_psk_find(struct cotls_conn *c, const unsigned char *identity, size_t n, SSL_SESSION **session)
{
    const struct key *k = find(c->active->psk, identity, n);
    struct key given;
    if (k == NULL && cotls_hooked(c, HOOK_PSK) && to_key(cotls_answered(c, HOOK_PSK, identity, n), &given))
        k = &given;
    *session = k != NULL ? make_session(c, k) : NULL;
    c->psk_found = k != NULL;
    return k == NULL || *session != NULL;
}

/* ---- TLS 1.2 ---- */

/* OpenSSL asks these for TLS 1.3 too, where it would end an identity at a NUL. */
static bool is_tls13(const struct cotls_conn *c)
{
    return SSL_version(c->ssl) == TLS1_3_VERSION;
}

/* A client's identity, ended by NUL, and its key; the key's length, 0: none. */
unsigned cotls_psk_client(struct cotls_conn *c, const char *hint, char *identity, size_t max_identity,
                          unsigned char *key, size_t max_key)
{
    struct key k;
    if (is_tls13(c) || !own_key(c, hint, &k) || k.identity_len >= max_identity || k.key_len > max_key)
        return 0;
    memcpy(identity, k.identity, k.identity_len);
    identity[k.identity_len] = '\0';
    memcpy(key, k.key, k.key_len);
    return (unsigned)k.key_len;
}

/* The length of the identity's key, 0: unknown. */
unsigned cotls_psk_server(struct cotls_conn *c, const char *identity, unsigned char *key, size_t max_key)
{
    struct key given;
    if (identity == NULL || is_tls13(c))
        return 0;
    const struct key *k = find(c->active->psk, identity, strlen(identity));
    if (k == NULL && cotls_hooked(c, HOOK_PSK) &&
        to_key(cotls_ask(c, HOOK_PSK, identity, strlen(identity), NULL), &given))
        k = &given;
    if (k == NULL || k->key_len > max_key)
        return 0;
    memcpy(key, k->key, k->key_len);
    return (unsigned)k->key_len;
}

/* ---- the ClientHello, at a server ---- */

static size_t number_at(const unsigned char *p)
{
    return (size_t)p[0] << 8 | p[1];
}

/* May TLS 1.3 be agreed on, as far as this side goes? */
bool cotls_may_be_tls13(SSL *ssl)
{
    long max = SSL_get_max_proto_version(ssl);
    return (max == 0 || max >= TLS1_3_VERSION) && (SSL_get_options(ssl) & SSL_OP_NO_TLSv1_3) == 0;
}

/* Is TLS 1.3 to be agreed on? */
bool cotls_will_be_tls13(SSL *ssl)
{
    const unsigned char *p;
    size_t n;
    if (!cotls_may_be_tls13(ssl) || !SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_supported_versions, &p, &n))
        return false;
    for (size_t at = 1; at + 2 <= n; at += 2)
        if (number_at(p + at) == TLS1_3_VERSION)
            return true;
    return false;
}

/* Has the context in force a key for the identity? on_psk is asked while OpenSSL waits in here: *questions are left. */
static bool has_key(struct cotls_conn *c, const unsigned char *identity, size_t n, unsigned *questions)
{
    struct key given;
    if (find(c->active->psk, identity, n) != NULL)
        return true;
    if (!cotls_hooked(c, HOOK_PSK) || n == 0 || n > PSK_MAX_IDENTITY_LEN - 1 || *questions == 0 ||
        is_ticket(c, identity, n))
        return false;
    --*questions;
    return to_key(cotls_ask(c, HOOK_PSK, identity, n, NULL), &given);
}

/* Does the pre_shared_key extension name one of ours? Each identity has a length before and an age after it. */
static bool is_offered(struct cotls_conn *c)
{
    const unsigned char *p;
    size_t n, end, at = 2;
    unsigned questions = MAX_QUESTIONS;
    if (!SSL_client_hello_get0_ext(c->ssl, TLSEXT_TYPE_psk, &p, &n) || n < 2 || !cotls_will_be_tls13(c->ssl))
        return false;
    end = number_at(p) + 2;
    while (end <= n && at + 2 <= end) {
        size_t length = number_at(p + at);
        if (length > end - at - 2)
            return false;
        if (has_key(c, p + at + 2, length, &questions))
            return true;
        at += 2 + length + 4;
    }
    return false;
}

/* A suite of TLS 1.3 with SHA-256? */
static int rank_13(const SSL_CIPHER *cipher)
{
    const EVP_MD *md = SSL_CIPHER_get_handshake_digest(cipher);
    bool is_13 = strcmp(SSL_CIPHER_get_version(cipher), "TLSv1.3") == 0;
    return is_13 && md != NULL && EVP_MD_is_a(md, "SHA256") ? 0 : COTLS_NO_RANK;
}

/* Leaves of the TLS 1.3 suites those with SHA-256. false: no memory, and the key would be passed over. */
static bool choose_suites(SSL *ssl)
{
    const STACK_OF(SSL_CIPHER) *before = SSL_get_ciphers(ssl);
    char *names = cotls_join_ciphers(before, rank_13, 1);
    bool ok = names != NULL;
    if (ok && *names != '\0') /* what it returns does not tell whether there was memory for the new list */
        ok = SSL_set_ciphersuites(ssl, names) == 1 && SSL_get_ciphers(ssl) != before;
    OPENSSL_free(names);
    return ok;
}

/* Has the context keys, or a function for them? */
bool cotls_has_psk(const struct cotls_ctx *x)
{
    return x->psk != NULL || (x->hooks & (1U << HOOK_PSK)) != 0;
}

static void answer_as(SSL *ssl, bool keys)
{
    if (keys) {
        SSL_set_psk_find_session_callback(ssl, cotls_hook_psk_find);
        SSL_set_psk_server_callback(ssl, cotls_hook_psk_server);
    } else {
        SSL_set_psk_find_session_callback(ssl, NULL);
        SSL_set_psk_server_callback(ssl, NULL);
    }
}

/* Inside client_hello, when the context in force is chosen: its keys count. false: no memory, or on_psk refuses. */
bool cotls_psk_hello(struct cotls_conn *c)
{
    bool keys = cotls_has_psk(c->active);
    if (c->active != c->ctx)
        answer_as(c->ssl, keys);
    if (keys && is_offered(c) && !choose_suites(c->ssl))
        return false;
    return c->asks == NULL || !c->asks->refused;
}

/* A server's ticket of another context's: OpenSSL would go on without any session, and so without the key
 * that the client has as well. */
int cotls_psk_judge_ticket(const struct cotls_conn *c, const SSL_SESSION *session, int status)
{
    unsigned n;
    if (status != SSL_TICKET_SUCCESS && status != SSL_TICKET_SUCCESS_RENEW)
        return SSL_TICKET_RETURN_IGNORE_RENEW;
    const unsigned char *scope = SSL_SESSION_get0_id_context(session, &n);
    if (n != sizeof c->active->scope || memcmp(scope, c->active->scope, n) != 0)
        return SSL_TICKET_RETURN_IGNORE_RENEW;
    return status == SSL_TICKET_SUCCESS ? SSL_TICKET_RETURN_USE : SSL_TICKET_RETURN_USE_RENEW;
}

/* ---- which key it was ---- */

static void remember(struct cotls_conn *c, const void *identity, size_t n)
{
    c->psk_identity = OPENSSL_memdup(identity, n);
    c->psk_identity_len = c->psk_identity != NULL ? n : 0;
    c->psk_lost = c->psk_identity == NULL;
}

/* What OpenSSL calls a resumption on TLS 1.3: by a key, or of a session that was made by one. On a server
 * the identity asked about last decides, and the session tells which it was; so it does on a client, which
 * marks sessions of tickets anew (session.c). */
static void look_at_session(struct cotls_conn *c)
{
    SSL_SESSION *session = SSL_get_session(c->ssl);
    struct cotls_bytes own;
    void *data;
    size_t n;
    bool marked = SSL_SESSION_get0_ticket_appdata(session, &data, &n) && n > sizeof mark &&
                  memcmp(data, mark, sizeof mark) == 0;
    c->psk_used = marked && (c->psk_found || !SSL_is_server(c->ssl));
    if (marked)
        remember(c, (const char *)data + sizeof mark, n - sizeof mark);
    else if (!SSL_is_server(c->ssl) && cotls_session_identity(session, &own))
        remember(c, own.data, own.len);
}

/* The handshake is done. What comes after it on TLS 1.3 is no other one. */
void cotls_psk_done(struct cotls_conn *c)
{
    if (is_tls13(c) && c->established)
        return;
    OPENSSL_free(c->psk_identity);
    c->psk_identity = NULL;
    c->psk_identity_len = 0;
    c->psk_used = false;
    const char *identity = SSL_get_psk_identity(c->ssl); /* of TLS 1.2 */
    if (is_tls13(c) && SSL_session_reused(c->ssl))
        look_at_session(c);
    else if (identity != NULL)
        remember(c, identity, strlen(identity));
}

/* Was there no memory to remember it? Then it would pass for a handshake without a key. */
bool cotls_psk_lost(struct cotls_conn *c)
{
    if (!c->psk_lost)
        return false;
    cotls_clear_errors();
    ERR_raise(ERR_LIB_SSL, ERR_R_MALLOC_FAILURE);
    c->ssl_error = SSL_ERROR_SSL;
    return true;
}

static int conn_psk_identity(lua_State *L)
{
    const struct cotls_conn *c = cotls_check_conn(L);
    if (c->psk_identity != NULL)
        lua_pushlstring(L, c->psk_identity, c->psk_identity_len);
    else
        lua_pushnil(L);
    return 1;
}

const luaL_Reg cotls_psk_methods[] = {
    {"psk_identity", conn_psk_identity},
    {NULL, NULL},
};

/* ---- settings ---- */

/* How good a TLS 1.2 suite is for a pre-shared key: forward secret, not, of no use. */
static int rank_12(const SSL_CIPHER *cipher)
{
    switch (SSL_CIPHER_get_kx_nid(cipher)) {
    case NID_kx_ecdhe_psk:
    case NID_kx_dhe_psk:
        return 0;
    case NID_kx_psk:
        return 1;
    case NID_kx_any: /* TLS 1.3 has a list of its own */
        return COTLS_NO_RANK;
    default:
        return 2;
    }
}

/* Brings the suites of TLS 1.2 with such keys to the front; the order is otherwise as it was. */
static bool order_suites(SSL_CTX *ctx)
{
    char *names = cotls_join_ciphers(SSL_CTX_get_ciphers(ctx), rank_12, 3);
    bool ok = names != NULL && (*names == '\0' || SSL_CTX_set_cipher_list(ctx, names) == 1);
    OPENSSL_free(names);
    return ok;
}

/* The table on top, identity → key; the context owns the copy at once. false: no memory. */
static bool copy_keys(lua_State *L, struct cotls_ctx *x)
{
    size_t count = 0, bytes = 0, size;
    int table = lua_gettop(L);
    for (lua_pushnil(L); lua_next(L, table); lua_pop(L, 1), count++)
        bytes += lua_rawlen(L, -2) + lua_rawlen(L, -1);
    size = sizeof *x->psk + count * sizeof *x->psk->keys + bytes;
    cotls_psk_free(x->psk); /* of an earlier setting */
    x->psk = OPENSSL_zalloc(size);
    if (x->psk == NULL)
        return false;
    x->psk->size = size;
    unsigned char *to = (unsigned char *)&x->psk->keys[count];
    for (lua_pushnil(L); lua_next(L, table); lua_pop(L, 1)) {
        struct key *k = &x->psk->keys[x->psk->count++];
        k->identity_len = lua_rawlen(L, -2);
        k->key_len = lua_rawlen(L, -1);
        k->identity = memcpy(to, lua_tostring(L, -2), k->identity_len);
        k->key = memcpy(to + k->identity_len, lua_tostring(L, -1), k->key_len);
        to += k->identity_len + k->key_len;
    }
    return true;
}

static void install(struct cotls_ctx *x)
{
    SSL_CTX *ctx = x->ssl_ctx;
    if (x->server) {
        SSL_CTX_set_psk_find_session_callback(ctx, cotls_hook_psk_find);
        SSL_CTX_set_psk_server_callback(ctx, cotls_hook_psk_server);
        SSL_CTX_set_session_ticket_cb(ctx, NULL, cotls_hook_ticket, NULL);
        SSL_CTX_set_client_hello_cb(ctx, cotls_hook_client_hello, NULL);
    } else {
        SSL_CTX_set_psk_use_session_callback(ctx, cotls_hook_psk_use);
        SSL_CTX_set_psk_client_callback(ctx, cotls_hook_psk_client);
    }
}

/* The value: identity → key, strings that the face has checked. */
static bool set_psk(lua_State *L, struct cotls_ctx *x)
{
    install(x);
    return copy_keys(L, x) || cotls_refuse(L, "no memory");
}

/* on_psk is one of the hooks; true here: there is such a hook. */
static bool set_on_psk(lua_State *L, struct cotls_ctx *x)
{
    if (lua_toboolean(L, -1))
        install(x);
    return true;
}

/* What clients of TLS 1.2 are told before they choose (RFC 4279 section 5.2). */
static bool set_hint(lua_State *L, struct cotls_ctx *x)
{
    return SSL_CTX_use_psk_identity_hint(x->ssl_ctx, lua_tostring(L, -1)) == 1 ||
           cotls_refuse(L, "no memory");
}

/* Are the suites to be ordered? Not those that the user lists. */
static bool set_psk_first(lua_State *L, struct cotls_ctx *x)
{
    return !lua_toboolean(L, -1) || order_suites(x->ssl_ctx) || cotls_refuse(L, "no memory");
}

const struct cotls_setting cotls_psk_settings[] = {
    {"psk", set_psk}, {"on_psk", set_on_psk}, {"psk_hint", set_hint}, {"psk_first", set_psk_first},
    {NULL, NULL},
};
