/* SPDX-License-Identifier: MIT
 * How a server resumes: its cache, its session tickets (RFC 5077; RFC 8446
 * section 4.6.1) and the keys they are encrypted with, which can be changed while
 * it serves. cotls_ticket_key runs inside OpenSSL and touches no lua_State. */
#include "cotls.h"

#include <limits.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <string.h>

/* 80 bytes, in the order that OpenSSL and nginx keep them. */
struct key {
    unsigned char name[COTLS_TICKET_NAME], hmac[32], aes[32];
};
_Static_assert(sizeof(struct key) == 80, "a ticket key is 80 bytes without padding");

struct cotls_tickets {
    size_t count; /* the first encrypts, all decrypt */
    struct key keys[];
};

void cotls_tickets_free(struct cotls_tickets *t)
{
    if (t != NULL)
        OPENSSL_clear_free(t, sizeof *t + t->count * sizeof *t->keys);
}

static struct cotls_tickets *new_tickets(size_t count)
{
    struct cotls_tickets *t = OPENSSL_zalloc(sizeof *t + count * sizeof *t->keys);
    if (t != NULL)
        t->count = count;
    return t;
}

/* ---- what OpenSSL asks ---- */

/* The keys of the context that the server name chose, else of the one at the door. */
static const struct cotls_tickets *tickets_of(const struct cotls_conn *c)
{
    return c->active->tickets != NULL ? c->active->tickets : c->ctx->tickets;
}

static bool set_mac(EVP_MAC_CTX *mac, struct key *k)
{
    char digest[] = "SHA256";
    OSSL_PARAM params[] = {
        OSSL_PARAM_octet_string(OSSL_MAC_PARAM_KEY, k->hmac, sizeof k->hmac),
        OSSL_PARAM_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, sizeof digest - 1),
        OSSL_PARAM_END,
    };
    return EVP_MAC_CTX_set_params(mac, params) == 1;
}

static int begin_ticket(struct key k, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
                        EVP_MAC_CTX *mac)
{
    memcpy(name, k.name, sizeof k.name);
    bool ok = RAND_bytes(iv, 16) == 1 && EVP_EncryptInit_ex(cipher, EVP_aes_256_cbc(), NULL, k.aes, iv) &&
              set_mac(mac, &k);
    OPENSSL_cleanse(&k, sizeof k);
    return ok ? 1 : -1;
}

static int open_ticket(struct key k, bool renew, const unsigned char *iv, EVP_CIPHER_CTX *cipher,
                       EVP_MAC_CTX *mac)
{
    bool ok = EVP_DecryptInit_ex(cipher, EVP_aes_256_cbc(), NULL, k.aes, iv) && set_mac(mac, &k);
    OPENSSL_cleanse(&k, sizeof k);
    return !ok ? -1 : renew ? 2 : 1;
}

/* SSL_CTX_set_tlsext_ticket_key_evp_cb(3): -1: failure, 0: no such key, 1: go on, 2: go on and renew the
 * ticket, which on TLS 1.3 is asked for each time, for a ticket is used once there. */
int cotls_ticket_key(const struct cotls_conn *c, unsigned char *name, unsigned char *iv,
                     EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, bool encrypt)
{
    const struct cotls_tickets *t = tickets_of(c);
    if (t == NULL || t->count == 0)
        return 0;
    if (encrypt)
        return begin_ticket(t->keys[0], name, iv, cipher, mac);
    for (size_t i = 0; i < t->count; i++)
        if (memcmp(name, t->keys[i].name, sizeof t->keys[i].name) == 0)
            return open_ticket(t->keys[i], i > 0 || SSL_version(c->ssl) >= TLS1_3_VERSION, iv, cipher, mac);
    return 0;
}

/* Is that the name of one of the keys? */
bool cotls_ticket_is_ours(const struct cotls_conn *c, const unsigned char *name)
{
    const struct cotls_tickets *t = tickets_of(c);
    for (size_t i = 0; t != NULL && i < t->count; i++)
        if (memcmp(name, t->keys[i].name, sizeof t->keys[i].name) == 0)
            return true;
    return false;
}

/* As cotls_ticket_key, with the key that on_ticket_key gave. */
int cotls_ticket_answer(const struct cotls_conn *c, const unsigned char *key, unsigned char *name,
                        unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, bool encrypt)
{
    struct key k;
    int r = 0;
    memcpy(&k, key, sizeof k);
    if (encrypt)
        r = begin_ticket(k, name, iv, cipher, mac);
    else if (memcmp(name, k.name, sizeof k.name) == 0)
        r = open_ticket(k, SSL_version(c->ssl) >= TLS1_3_VERSION, iv, cipher, mac);
    OPENSSL_cleanse(&k, sizeof k);
    return r;
}

/* ---- settings ---- */

/* The value on top: the keys, one behind the other; the face has checked the length. */
static bool replace_keys(lua_State *L, struct cotls_ctx *x)
{
    size_t n;
    const char *text = lua_tolstring(L, -1, &n);
    struct cotls_tickets *t = new_tickets(n / sizeof *t->keys);
    if (t == NULL)
        return cotls_refuse(L, "no memory");
    memcpy(t->keys, text, t->count * sizeof *t->keys);
    cotls_tickets_free(x->tickets);
    x->tickets = t;
    SSL_CTX_set_tlsext_ticket_key_evp_cb(x->ssl_ctx, cotls_hook_ticket_key);
    return true;
}

static bool set_ticket_keys(lua_State *L, struct cotls_ctx *x)
{
    return replace_keys(L, x);
}

/* The context at the door asks for the keys of those behind it; where nobody gave it any, it has its own. */
bool cotls_tickets_for_names(struct cotls_ctx *x)
{
    if (x->tickets == NULL) {
        struct cotls_tickets *t = new_tickets(1);
        if (t == NULL || RAND_bytes((unsigned char *)t->keys, sizeof *t->keys) != 1) {
            cotls_tickets_free(t);
            return false;
        }
        x->tickets = t;
    }
    SSL_CTX_set_tlsext_ticket_key_evp_cb(x->ssl_ctx, cotls_hook_ticket_key);
    return true;
}

/* ---- a server's cache ---- */

/* Does OpenSSL put a session of the connection into its own cache? One that was looked up always, where there is one. */
static bool is_cached(const SSL *ssl, SSL_CTX *ctx, bool looked_up)
{
    bool by_id = (SSL_get_options(ssl) & SSL_OP_NO_TICKET) != 0 || SSL_CTX_sess_get_remove_cb(ctx) != NULL;
    bool once = SSL_get_max_early_data(ssl) > 0 && (SSL_get_options(ssl) & SSL_OP_NO_ANTI_REPLAY) == 0;
    return (SSL_CTX_get_session_cache_mode(ctx) & SSL_SESS_CACHE_NO_INTERNAL_STORE) == 0 &&
           (looked_up || SSL_version(ssl) < TLS1_3_VERSION || by_id || once);
}

static bool is_in_table(SSL_CTX *ctx, const SSL_SESSION *session)
{
    return OPENSSL_LH_retrieve((OPENSSL_LHASH *)SSL_CTX_sessions(ctx), session) == session;
}

/* Where OpenSSL's table of sessions finds no memory for one, its list names it nevertheless, without holding it
 * (SSL_CTX_add_session), and would touch it once it is freed. It is put in again; where that fails too, it is never
 * freed. */
void cotls_session_cached(struct cotls_conn *c, SSL_SESSION *session, bool looked_up)
{
    SSL_CTX *ctx = c->ctx->ssl_ctx;
    if (!is_cached(c->ssl, ctx, looked_up) || is_in_table(ctx, session))
        return;
    SSL_CTX_add_session(ctx, session);
    if (!is_in_table(ctx, session))
        SSL_SESSION_up_ref(session);
}

/* 0: none are kept */
static bool set_session_cache(lua_State *L, struct cotls_ctx *x)
{
    long size = (long)lua_tointeger(L, -1);
    SSL_CTX_set_session_cache_mode(x->ssl_ctx, size > 0 ? SSL_SESS_CACHE_SERVER : SSL_SESS_CACHE_OFF);
    if (size > 0) /* OpenSSL takes 0 for no limit, and keeps one less than it is told */
        SSL_CTX_sess_set_cache_size(x->ssl_ctx, size < LONG_MAX ? size + 1 : size);
    return true;
}

static bool set_session_timeout(lua_State *L, struct cotls_ctx *x)
{
    SSL_CTX_set_timeout(x->ssl_ctx, (long)lua_tointeger(L, -1));
    return true;
}

/* How many TLS 1.3 sends; -1: sessions stay here, and a ticket is their id. */
static bool set_tickets(lua_State *L, struct cotls_ctx *x)
{
    lua_Integer count = lua_tointeger(L, -1);
    if (count < 0) {
        SSL_CTX_set_options(x->ssl_ctx, SSL_OP_NO_TICKET);
        return true;
    }
    return SSL_CTX_set_num_tickets(x->ssl_ctx, (size_t)count) || cotls_refuse(L, "is refused by OpenSSL");
}

static bool set_max_early_data(lua_State *L, struct cotls_ctx *x)
{
    uint32_t max = (uint32_t)lua_tointeger(L, -1);
    if (max == 0) /* OpenSSL's default: a client that still sends some is skipped over */
        return true;
    return (SSL_CTX_set_max_early_data(x->ssl_ctx, max) &&
            SSL_CTX_set_recv_max_early_data(x->ssl_ctx, max)) ||
           cotls_refuse(L, "is refused by OpenSSL");
}

static bool set_anti_replay(lua_State *L, struct cotls_ctx *x)
{
    if (!lua_toboolean(L, -1))
        SSL_CTX_set_options(x->ssl_ctx, SSL_OP_NO_ANTI_REPLAY);
    return true;
}

/* A client's: it remembers sessions. */
static bool set_resume(lua_State *L, struct cotls_ctx *x)
{
    if (!lua_toboolean(L, -1))
        return true;
    x->cache = cotls_cache_new();
    if (x->cache == NULL)
        return cotls_refuse(L, "no memory");
    SSL_CTX_set_session_cache_mode(x->ssl_ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    return true;
}

static bool set_session_key(lua_State *L, struct cotls_ctx *x)
{
    lua_pushvalue(L, -1);
    lua_setiuservalue(L, 1, UV_CTX_SESSION_KEY);
    x->session_key.data = lua_tolstring(L, -1, &x->session_key.len);
    return true;
}

const struct cotls_setting cotls_ticket_settings[] = {
    {"session_cache", set_session_cache},
    {"session_timeout", set_session_timeout},
    {"tickets", set_tickets},
    {"ticket_keys", set_ticket_keys},
    {"max_early_data", set_max_early_data},
    {"anti_replay", set_anti_replay},
    {"resume", set_resume},
    {"session_key", set_session_key},
    {NULL, NULL},
};

/* ---- methods of contexts ---- */

/* core.set_ticket_keys(context, keys one behind the other) */
int cotls_set_ticket_keys(lua_State *L)
{
    struct cotls_ctx *x = cotls_check_context(L, 1);
    luaL_checkstring(L, 2);
    lua_settop(L, 2);
    if (!replace_keys(L, x))
        return lua_error(L);
    lua_settop(L, 1);
    return 1;
}

/* Counts of OpenSSL's, SSL_CTX_sess_number(3). */
static int ctx_session_stats(lua_State *L)
{
    static const struct {
        const char *name;
        int command;
    } counts[] = {
        {"accepted", SSL_CTRL_SESS_ACCEPT_GOOD}, {"cache_full", SSL_CTRL_SESS_CACHE_FULL},
        {"cached", SSL_CTRL_SESS_NUMBER},        {"connected", SSL_CTRL_SESS_CONNECT_GOOD},
        {"resumed", SSL_CTRL_SESS_HIT},          {"timeouts", SSL_CTRL_SESS_TIMEOUTS},
        {"unknown", SSL_CTRL_SESS_MISSES},
    };
    struct cotls_ctx *x = cotls_check_context(L, 1);
    lua_createtable(L, 0, sizeof counts / sizeof *counts);
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        lua_pushinteger(L, SSL_CTX_ctrl(x->ssl_ctx, counts[i].command, 0, NULL));
        lua_setfield(L, -2, counts[i].name);
    }
    if (x->cache != NULL) {
        lua_pushinteger(L, (lua_Integer)cotls_cache_count(x->cache));
        lua_setfield(L, -2, "cached");
    }
    return 1;
}

/* Every session that is kept here goes. */
static int ctx_flush_sessions(lua_State *L)
{
    struct cotls_ctx *x = cotls_check_context(L, 1);
    SSL_CTX_flush_sessions(x->ssl_ctx, 0); /* 0: all, fresh or not */
    ERR_clear_error();
    if (x->cache != NULL)
        cotls_cache_clear(x->cache);
    lua_settop(L, 1);
    return 1;
}

const luaL_Reg cotls_ticket_context_methods[] = {
    {"flush_sessions", ctx_flush_sessions},
    {"session_stats", ctx_session_stats},
    {NULL, NULL},
};
