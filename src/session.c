/* SPDX-License-Identifier: MIT
 * Sessions: the cotls.session objects, what a client marks its sessions with and
 * when it offers one. A session carries, in its ticket's application data, the
 * digest of what was verified and how long a stapled OCSP response holds: it is
 * offered only where a full handshake would have verified the same. Memory is
 * Lua's before anything of OpenSSL's is owned. */
#include "cotls.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <string.h>
#include <time.h>

/* A client's session bears its digest; big-endian, until when it may be offered, 0: no end of its own; and the identity
 * of the key that it was made by, if there is one. */
#define MARK (COTLS_DIGEST + 8)

/* ---- what is verified ---- */

static bool add_text(EVP_MD_CTX *md, struct cotls_text text)
{
    return EVP_DigestUpdate(md, &text.len, sizeof text.len) &&
           (text.len == 0 || EVP_DigestUpdate(md, text.data, text.len));
}

/* The digest of texts, each with its length; false: no memory. */
static bool digest_of(const struct cotls_text *texts, size_t count, unsigned char digest[COTLS_DIGEST])
{
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    bool ok = md != NULL && EVP_DigestInit_ex(md, EVP_sha256(), NULL);
    for (size_t i = 0; ok && i < count; i++)
        ok = add_text(md, texts[i]);
    ok = ok && EVP_DigestFinal_ex(md, digest, NULL);
    EVP_MD_CTX_free(md);
    return ok;
}

/* The context's verification settings, and the names to verify. */
static bool digest_verified(const struct cotls_conn *c, unsigned char digest[COTLS_DIGEST])
{
    const struct cotls_text texts[] = {
        {(const char *)c->ctx->scope, sizeof c->ctx->scope},
        {c->names, c->names_len},
        {(const char *)c->dane, c->dane_len},
    };
    return digest_of(texts, sizeof texts / sizeof *texts, digest);
}

/* ---- marking and offering ---- */

static void write_moment(unsigned char *to, uint64_t moment)
{
    for (int i = 7; i >= 0; i--, moment >>= 8)
        to[i] = (unsigned char)moment;
}

static uint64_t read_moment(const unsigned char *from)
{
    uint64_t moment = 0;
    for (int i = 0; i < 8; i++)
        moment = moment << 8 | from[i];
    return moment;
}

/* Writes on a client's session what it is good for; false: it can't be, and will not be offered. */
bool cotls_session_mark(const struct cotls_conn *c, SSL_SESSION *session)
{
    unsigned char text[MARK + PSK_MAX_IDENTITY_LEN];
    size_t n = c->psk_identity_len;
    if (n > PSK_MAX_IDENTITY_LEN || !digest_verified(c, text))
        return false;
    write_moment(text + COTLS_DIGEST, (uint64_t)c->ocsp_until);
    if (n > 0)
        memcpy(text + MARK, c->psk_identity, n);
    return SSL_SESSION_set1_ticket_appdata(session, text, MARK + n) == 1;
}

/* The identity that a client's session is marked with; false: none. */
bool cotls_session_identity(SSL_SESSION *session, struct cotls_bytes *identity)
{
    void *data = NULL;
    size_t n = 0;
    if (!SSL_SESSION_get0_ticket_appdata(session, &data, &n) || n <= MARK)
        return false;
    *identity = (struct cotls_bytes){(unsigned char *)data + MARK, n - MARK};
    return true;
}

/* For how many seconds from its making it is good. A ticket of TLS 1.3 says so itself (RFC 8446 section 4.6.1). */
static unsigned long lifetime(const SSL_SESSION *session)
{
    long timeout = SSL_SESSION_get_timeout(session);
    unsigned long own = timeout > 0 ? (unsigned long)timeout : 0;
    unsigned long hint = SSL_SESSION_get_ticket_lifetime_hint(session);
    bool bound =
        SSL_SESSION_get_protocol_version(session) >= TLS1_3_VERSION && SSL_SESSION_has_ticket(session);
    return bound && hint < own ? hint : own;
}

static bool is_fresh(const SSL_SESSION *session)
{
    time_t now = time(NULL), made = (time_t)SSL_SESSION_get_time(session);
    return SSL_SESSION_is_resumable(session) && made <= now &&
           (unsigned long)(now - made) < lifetime(session);
}

/* Offers the session, if a full handshake would verify just what it stands for. */
static bool offer(struct cotls_conn *c, SSL_SESSION *session)
{
    unsigned char digest[COTLS_DIGEST];
    void *data = NULL;
    size_t n = 0;
    if (!is_fresh(session) || !SSL_SESSION_get0_ticket_appdata(session, &data, &n) || n < MARK ||
        !digest_verified(c, digest) || memcmp(data, digest, sizeof digest) != 0)
        return false;
    uint64_t until = read_moment((unsigned char *)data + COTLS_DIGEST);
    if (until != 0 && until <= (uint64_t)time(NULL))
        return false;
    c->ocsp_until = (time_t)until;
    return SSL_set_session(c->ssl, session) == 1;
}

/* ---- sessions that a client context remembers ---- */

/* By what they are found again: what was verified, what was asked for, and whose they are. */
static bool find_key(struct cotls_conn *c, unsigned char key[COTLS_DIGEST])
{
    unsigned char verified[COTLS_DIGEST];
    const char *sni = SSL_get_servername(c->ssl, TLSEXT_NAMETYPE_host_name);
    struct cotls_text peer = c->session_key;
    struct cotls_bytes alpn = cotls_alpn(c);
    if (peer.data == NULL)
        peer = cotls_peer(c);
    if (peer.data == NULL || !digest_verified(c, verified))
        return false;
    const struct cotls_text texts[] = {
        {(const char *)verified, sizeof verified},
        {sni, sni != NULL ? strlen(sni) : 0},
        {(const char *)alpn.data, alpn.len},
        {c->session_key.data != NULL ? "key" : "peer", c->session_key.data != NULL ? 3 : 4},
        peer,
    };
    return digest_of(texts, sizeof texts / sizeof *texts, key);
}

/* A client's handshake begins: what its context remembers is offered, unless the caller has given a session. */
void cotls_session_begin(struct cotls_conn *c)
{
    if (c->ctx->cache == NULL || c->side != SIDE_CONNECT || !find_key(c, c->cache_key))
        return;
    c->remembers = true;
    if (c->offered)
        return;
    SSL_SESSION *session = cotls_cache_take(c->ctx->cache, c->cache_key);
    if (session != NULL)
        c->offered = offer(c, session);
    SSL_SESSION_free(session);
    ERR_clear_error();
}

/* The connection closes before its handshake is done. What the session that was offered did may be why, and
 * others of the same server may do it again (RFC 5077 section 3.2): the next handshake is a full one. */
void cotls_session_forget(struct cotls_conn *c)
{
    if (c->remembers && c->offered && c->ctx->cache != NULL)
        cotls_cache_drop(c->ctx->cache, c->cache_key);
}

/* A new session of a client; true: the reference is the cache's. */
bool cotls_session_new(struct cotls_conn *c, SSL_SESSION *session)
{
    if (!c->remembers || c->ctx->cache == NULL || !cotls_session_mark(c, session))
        return false;
    return cotls_cache_put(c->ctx->cache, c->cache_key, session);
}

/* The handshake is done. TLS 1.2 tells of no new session when it resumes one and the ticket is renewed. */
void cotls_session_established(struct cotls_conn *c)
{
    if (!c->remembers || !SSL_session_reused(c->ssl) || SSL_version(c->ssl) >= TLS1_3_VERSION)
        return;
    SSL_SESSION *session = SSL_get1_session(c->ssl);
    if (session != NULL && !cotls_session_new(c, session))
        SSL_SESSION_free(session);
}

/* ---- objects ---- */

/* Pushes an empty one; the collector takes it as it is. [-0, +1] */
static SSL_SESSION **push_empty(lua_State *L)
{
    SSL_SESSION **slot = lua_newuserdatauv(L, sizeof *slot, 0);
    *slot = NULL;
    luaL_setmetatable(L, COTLS_SESSION);
    return slot;
}

static SSL_SESSION *check_session(lua_State *L, int index)
{
    SSL_SESSION **slot = luaL_checkudata(L, index, COTLS_SESSION);
    luaL_argcheck(L, *slot != NULL, index, "the session is not usable");
    return *slot;
}

/* core.session(bytes) → session, or nil, err */
int cotls_session(lua_State *L)
{
    size_t n;
    const unsigned char *data = (const unsigned char *)luaL_checklstring(L, 1, &n), *end = data;
    SSL_SESSION **slot = push_empty(L);
    ERR_clear_error();
    *slot = n < INT32_MAX ? d2i_SSL_SESSION(NULL, &end, (long)n) : NULL;
    ERR_clear_error();
    if (*slot != NULL && end == data + n)
        return 1;
    lua_pushliteral(L, "damaged, or not an exported session");
    return cotls_fail_config(L, "session");
}

/* Another process may have used a session up: it is looked up in the store alone. It is still kept here, for OpenSSL
 * takes early data only with a session that it can remove from its cache. */
void cotls_session_not_here(struct cotls_ctx *x)
{
    long mode = SSL_CTX_get_session_cache_mode(x->ssl_ctx);
    SSL_CTX_set_session_cache_mode(x->ssl_ctx, mode | SSL_SESS_CACHE_NO_INTERNAL_LOOKUP);
}

/* What on_session_get gave, if it is the session of that id; else NULL. */
SSL_SESSION *cotls_session_decode(const unsigned char *data, size_t size, const unsigned char *id, size_t n)
{
    const unsigned char *end = data;
    unsigned own = 0;
    SSL_SESSION *session = size < INT32_MAX ? d2i_SSL_SESSION(NULL, &end, (long)size) : NULL;
    const unsigned char *is = session != NULL ? SSL_SESSION_get_id(session, &own) : NULL;
    ERR_clear_error();
    if (session != NULL && end == data + size && own == n && memcmp(is, id, n) == 0)
        return session;
    SSL_SESSION_free(session);
    return NULL;
}

/* [-0, +1] an object with a reference of its own */
void cotls_session_push(lua_State *L, SSL_SESSION *session)
{
    SSL_SESSION **slot = push_empty(L);
    if (SSL_SESSION_up_ref(session))
        *slot = session;
}

/* core.is_session(value) */
int cotls_is_session(lua_State *L)
{
    lua_pushboolean(L, luaL_testudata(L, 1, COTLS_SESSION) != NULL);
    return 1;
}

/* A connection's option: offered if it fits, else a full handshake follows. */
void cotls_session_option(lua_State *L, int index, struct cotls_conn *c)
{
    SSL_SESSION **slot = luaL_testudata(L, index, COTLS_SESSION);
    if (slot != NULL && *slot != NULL)
        c->offered = offer(c, *slot);
    ERR_clear_error();
}

/* The connection closes: its session stays at hand, to be marked if it is asked for. */
void cotls_session_keep(struct cotls_conn *c)
{
    if (!c->failed)
        c->session = SSL_get1_session(c->ssl);
}

/* conn:session() → session, or nil before the handshake is done */
static int conn_session(lua_State *L)
{
    struct cotls_conn *c = cotls_check_conn(L);
    SSL_SESSION **slot = push_empty(L);
    if (c->ssl == NULL && c->session != NULL && SSL_SESSION_up_ref(c->session))
        *slot = c->session;
    else if (c->ssl != NULL && c->established)
        *slot = SSL_get1_session(c->ssl);
    if (*slot == NULL)
        lua_pushnil(L);
    else if (!c->ctx->server)
        cotls_session_mark(c, *slot);
    ERR_clear_error();
    return 1;
}

const luaL_Reg cotls_session_methods[] = {
    {"session", conn_session},
    {NULL, NULL},
};

/* ---- methods ---- */

/* session:export() → DER, in memory that is Lua's from the start */
static int session_export(lua_State *L)
{
    SSL_SESSION *session = check_session(L, 1);
    int n = i2d_SSL_SESSION(session, NULL);
    if (n <= 0)
        return luaL_error(L, "OpenSSL can't encode the session");
    unsigned char *der = lua_newuserdatauv(L, (size_t)n, 0), *end = der;
    n = i2d_SSL_SESSION(session, &end);
    lua_pushlstring(L, (const char *)der, n > 0 ? (size_t)n : 0);
    return 1;
}

bool cotls_session_text(lua_State *L, int index)
{
    if (luaL_testudata(L, index, COTLS_SESSION) == NULL)
        return false;
    lua_pushcfunction(L, session_export);
    lua_pushvalue(L, index);
    lua_call(L, 1, 1);
    return true;
}

static int session_id(lua_State *L)
{
    unsigned int n;
    const unsigned char *id = SSL_SESSION_get_id(check_session(L, 1), &n);
    lua_pushlstring(L, (const char *)id, n);
    return 1;
}

static int session_version(lua_State *L)
{
    lua_pushstring(L, cotls_version_name(SSL_SESSION_get_protocol_version(check_session(L, 1))));
    return 1;
}

static int session_cipher(lua_State *L)
{
    const SSL_CIPHER *cipher = SSL_SESSION_get0_cipher(check_session(L, 1));
    lua_pushstring(L, cipher != NULL ? SSL_CIPHER_get_name(cipher) : NULL);
    return 1;
}

static int session_timeout(lua_State *L)
{
    lua_pushinteger(L, SSL_SESSION_get_timeout(check_session(L, 1)));
    return 1;
}

static int session_time(lua_State *L)
{
    lua_pushinteger(L, SSL_SESSION_get_time(check_session(L, 1)));
    return 1;
}

static int session_ticket_lifetime(lua_State *L)
{
    SSL_SESSION *session = check_session(L, 1);
    if (SSL_SESSION_has_ticket(session))
        lua_pushinteger(L, (lua_Integer)SSL_SESSION_get_ticket_lifetime_hint(session));
    else
        lua_pushnil(L);
    return 1;
}

static int session_max_early_data(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)SSL_SESSION_get_max_early_data(check_session(L, 1)));
    return 1;
}

static int session_server_name(lua_State *L)
{
    lua_pushstring(L, SSL_SESSION_get0_hostname(check_session(L, 1)));
    return 1;
}

static int session_alpn(lua_State *L)
{
    const unsigned char *name;
    size_t n;
    SSL_SESSION_get0_alpn_selected(check_session(L, 1), &name, &n);
    if (n > 0)
        lua_pushlstring(L, (const char *)name, n);
    else
        lua_pushnil(L);
    return 1;
}

static int session_is_resumable(lua_State *L)
{
    lua_pushboolean(L, is_fresh(check_session(L, 1)));
    return 1;
}

static int session_gc(lua_State *L)
{
    SSL_SESSION **slot = luaL_checkudata(L, 1, COTLS_SESSION);
    SSL_SESSION *session = *slot;
    *slot = NULL;
    SSL_SESSION_free(session);
    return 0;
}

static int session_tostring(lua_State *L)
{
    SSL_SESSION *session = check_session(L, 1);
    lua_pushfstring(L, "%s (%s): %p", COTLS_SESSION,
                    cotls_version_name(SSL_SESSION_get_protocol_version(session)), lua_topointer(L, 1));
    return 1;
}

void cotls_session_open(lua_State *L)
{
    static const luaL_Reg meta[] = {{"__gc", session_gc}, {"__tostring", session_tostring}, {NULL, NULL}};
    static const luaL_Reg meth[] = {
        {"alpn", session_alpn},
        {"cipher", session_cipher},
        {"export", session_export},
        {"id", session_id},
        {"is_resumable", session_is_resumable},
        {"max_early_data", session_max_early_data},
        {"server_name", session_server_name},
        {"ticket_lifetime", session_ticket_lifetime},
        {"time", session_time},
        {"timeout", session_timeout},
        {"version", session_version},
        {NULL, NULL},
    };
    cotls_new_class(L, COTLS_SESSION, meta, meth);
}
