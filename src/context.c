/* SPDX-License-Identifier: MIT
 * Contexts: an immutable SSL_CTX and the defaults of its connections. The face
 * has checked the options' types and read the files; what OpenSSL refuses is
 * `nil, err` with code "config", the option's name in front. */
#include "cotls.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <string.h>

/* ERR_clear_error: the queue told OpenSSL's own reason, which would be told again. */
bool cotls_refuse(lua_State *L, const char *reason)
{
    ERR_clear_error();
    lua_pushstring(L, reason);
    return false;
}

static bool set_role(lua_State *L, struct cotls_ctx *x)
{
    const char *role = lua_tostring(L, -1);
    x->server = strcmp(role, "server") == 0;
    if (!x->server && strcmp(role, "client") != 0)
        return cotls_refuse(L, "must be \"client\" or \"server\"");
    if (x->server)
        cotls_verify_nobody(x);
    return true;
}

static const struct {
    const char *name;
    int number;
} versions[] = {
    {"TLSv1.0", TLS1_VERSION},
    {"TLSv1.1", TLS1_1_VERSION},
    {"TLSv1.2", TLS1_2_VERSION},
    {"TLSv1.3", TLS1_3_VERSION},
};

/* NULL where it has no name. */
const char *cotls_version_name(int version)
{
    for (size_t i = 0; i < sizeof versions / sizeof *versions; i++)
        if (versions[i].number == version)
            return versions[i].name;
    return NULL;
}

static int version_number(const char *text)
{
    if (strncmp(text, "TLSv", 4) == 0)
        text += 4;
    for (size_t i = 0; i < sizeof versions / sizeof *versions; i++)
        if (strcmp(text, versions[i].name + 4) == 0)
            return versions[i].number;
    return strcmp(text, "1") == 0 ? TLS1_VERSION : 0;
}

static bool refuse_version(lua_State *L)
{
    lua_pushfstring(L, "unknown version '%s': must be \"1.0\", \"1.1\", \"1.2\" or \"1.3\"",
                    lua_tostring(L, -1));
    return false;
}

static bool set_min_version(lua_State *L, struct cotls_ctx *x)
{
    int version = version_number(lua_tostring(L, -1));
    if (version == 0)
        return refuse_version(L);
    return SSL_CTX_set_min_proto_version(x->ssl_ctx, version) || cotls_refuse(L, "is refused by OpenSSL");
}

static bool set_max_version(lua_State *L, struct cotls_ctx *x)
{
    int version = version_number(lua_tostring(L, -1));
    if (version == 0)
        return refuse_version(L);
    if (version < SSL_CTX_get_min_proto_version(x->ssl_ctx))
        return cotls_refuse(L, "is below min_version (default \"1.2\")");
    return SSL_CTX_set_max_proto_version(x->ssl_ctx, version) || cotls_refuse(L, "is refused by OpenSSL");
}

/* Wire format, RFC 7301 section 3.1; the face made and checked it. */
static bool set_alpn(lua_State *L, struct cotls_ctx *x)
{
    x->alpn = (const unsigned char *)lua_tolstring(L, -1, &x->alpn_len);
    lua_pushvalue(L, -1);
    lua_setiuservalue(L, 1, UV_CTX_ALPN);
    if (!x->server && SSL_CTX_set_alpn_protos(x->ssl_ctx, x->alpn, (unsigned)x->alpn_len) != 0)
        return cotls_refuse(L, "is refused by OpenSSL");
    return true;
}

static bool set_timeout(lua_State *L, struct cotls_ctx *x)
{
    x->timeout = lua_tonumber(L, -1);
    return true;
}

static bool set_handshake_timeout(lua_State *L, struct cotls_ctx *x)
{
    x->handshake_timeout = lua_tonumber(L, -1);
    return true;
}

static bool set_read_limit(lua_State *L, struct cotls_ctx *x)
{
    x->read_limit = (size_t)lua_tointeger(L, -1);
    return true;
}

static bool set_scheduler(lua_State *L, struct cotls_ctx *x)
{
    x->scheduled = true;
    lua_pushvalue(L, -1);
    lua_setiuservalue(L, 1, UV_CTX_SCHEDULER);
    return true;
}

/* Subject and alternative names. */
static bool add_names(EVP_MD_CTX *md, const X509 *leaf)
{
    unsigned char *subject = NULL, *others = NULL;
    int at = X509_get_ext_by_NID(leaf, NID_subject_alt_name, -1);
    int n = i2d_X509_NAME(X509_get_subject_name(leaf), &subject);
    int m = at >= 0 ? i2d_X509_EXTENSION(X509_get_ext(leaf, at), &others) : 0;
    bool ok = n >= 0 && m >= 0 && EVP_DigestUpdate(md, subject, (size_t)n) &&
              EVP_DigestUpdate(md, others, (size_t)m);
    OPENSSL_free(subject);
    OPENSSL_free(others);
    return ok;
}

/* A session resumes only where this is equal: the face gives text that tells
 * apart contexts of different role, trust and verification. The certificates'
 * names are added here. */
static bool set_session_scope(lua_State *L, struct cotls_ctx *x)
{
    size_t n;
    const char *scope = lua_tolstring(L, -1, &n);
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    bool ok = md != NULL && EVP_DigestInit_ex(md, EVP_sha256(), NULL) && EVP_DigestUpdate(md, scope, n) == 1;
    for (size_t i = 0; i < x->credential_count; i++)
        ok = ok && add_names(md, x->credentials[i]->leaf);
    ok = ok && EVP_DigestFinal_ex(md, x->scope, NULL) &&
         EVP_Digest(scope, n, x->verification, NULL, EVP_sha256(), NULL) &&
         SSL_CTX_set_session_id_context(x->ssl_ctx, x->scope, sizeof x->scope);
    EVP_MD_CTX_free(md);
    return ok || cotls_refuse(L, "no memory");
}

static const struct cotls_setting first_settings[] = {
    {"role", set_role},
    {"min_version", set_min_version},
    {"max_version", set_max_version},
    {NULL, NULL},
};

static const struct cotls_setting last_settings[] = {
    {"alpn", set_alpn},
    {"timeout", set_timeout},
    {"handshake_timeout", set_handshake_timeout},
    {"read_limit", set_read_limit},
    {"scheduler", set_scheduler},
    {"session_scope", set_session_scope},
    {NULL, NULL},
};

/* Applied in this order: a limit belongs to the one before it. */
static const struct cotls_setting *const settings[] = {
    first_settings,            /* what the others depend on */
    cotls_config_settings,     /* ciphers, groups, the security level; certificates are judged by it */
    cotls_psk_settings,        /* they order the ciphers */
    cotls_verify_settings,     /* whether and how the peer is verified */
    cotls_trust_settings,      /* trusted CAs */
    cotls_crl_settings,        /* what they have revoked */
    cotls_ocsp_settings,       /* what a client wants stapled */
    cotls_credential_settings, /* certificates and keys */
    cotls_ticket_settings,     /* sessions, tickets, early data */
    cotls_keylog_settings,     /* where secrets are written */
    cotls_hook_settings,       /* Lua functions that OpenSSL waits for */
    cotls_names_settings,      /* after the tickets: the door's keys are for all */
    cotls_renewal_settings,    /* what may come after the handshake */
    last_settings,             /* what concerns connections, and the digest of it all */
};

/* What every context has. */
static void set_defaults(struct cotls_ctx *x)
{
    SSL_CTX *ctx = x->ssl_ctx;
    if (SSL_CTX_get_min_proto_version(ctx) < TLS1_2_VERSION) /* the system's may be higher */
        SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    x->verifies = true;
    SSL_CTX_set_options(ctx,
                        SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_mode(ctx, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_cert_verify_callback(ctx, cotls_hook_verify, NULL);
    SSL_CTX_set_app_data(ctx, x);
    SSL_CTX_set_info_callback(ctx, cotls_hook_info);
    SSL_CTX_sess_set_new_cb(ctx, cotls_hook_new_session);
    SSL_CTX_set_alpn_select_cb(ctx, cotls_hook_alpn, NULL);
    SSL_CTX_set_tlsext_status_cb(ctx, cotls_hook_status);
    SSL_CTX_set_tlsext_servername_callback(ctx, cotls_hook_server_name);
    x->timeout = -1;
    x->handshake_timeout = 60;
    x->read_limit = 1024 * 1024;
}

/* Applies those settings that are given in the table at 2. NULL, or the name of the one that is refused,
 * with the reason, or the error, on top. */
static const char *apply(lua_State *L, struct cotls_ctx *x, const struct cotls_setting *s)
{
    for (; s->name != NULL; s++) {
        if (lua_getfield(L, 2, s->name) != LUA_TNIL && !s->apply(L, x))
            return s->name;
        lua_settop(L, 2);
    }
    return NULL;
}

/* All settings of the table at 2, to the context at 1 → context, or nil, err */
static int apply_all(lua_State *L, struct cotls_ctx *x)
{
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        const char *refused = apply(L, x, settings[i]);
        if (refused != NULL)
            return cotls_is_error(L, -1) ? cotls_nil_error(L) : cotls_fail_config(L, refused);
    }
    lua_settop(L, 1);
    return 1;
}

static int make_context(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    struct cotls_ctx *x = lua_newuserdatauv(L, sizeof *x, UV_CTX_COUNT);
    *x = (struct cotls_ctx){0};
    luaL_setmetatable(L, COTLS_CONTEXT);
    lua_insert(L, 1);
    x->ssl_ctx = SSL_CTX_new(TLS_method());
    if (x->ssl_ctx == NULL) {
        cotls_push_queue_reason(L);
        return luaL_error(L, "OpenSSL makes no context: %s", lua_tostring(L, -1));
    }
    set_defaults(x);
    return apply_all(L, x);
}

static int change_context(lua_State *L)
{
    struct cotls_ctx *x = cotls_check_context(L, 1);
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_settop(L, 2);
    return apply_all(L, x);
}

/* core.change_context(context, settings) → context, or nil, err: before any connection is made of it */
int cotls_change_context(lua_State *L)
{
    lua_pushcfunction(L, change_context);
    lua_insert(L, 1);
    cotls_call_clean(L, lua_gettop(L) - 1, LUA_MULTRET);
    return lua_gettop(L);
}

/* core.context(settings) → context, or nil, err */
int cotls_context(lua_State *L)
{
    lua_pushcfunction(L, make_context);
    lua_insert(L, 1);
    cotls_call_clean(L, lua_gettop(L) - 1, LUA_MULTRET);
    return lua_gettop(L);
}

struct cotls_ctx *cotls_check_context(lua_State *L, int index)
{
    struct cotls_ctx *x = luaL_checkudata(L, index, COTLS_CONTEXT);
    luaL_argcheck(L, x->ssl_ctx != NULL, index, "the context is not usable");
    return x;
}

/* core.context_scheduler(context) → its scheduler, or nil */
int cotls_context_scheduler(lua_State *L)
{
    cotls_check_context(L, 1);
    lua_getiuservalue(L, 1, UV_CTX_SCHEDULER);
    return 1;
}

/* core.context_role(context) → "client" or "server" */
int cotls_context_role(lua_State *L)
{
    lua_pushstring(L, cotls_check_context(L, 1)->server ? "server" : "client");
    return 1;
}

/* core.is_context(value) */
int cotls_is_context(lua_State *L)
{
    lua_pushboolean(L, luaL_testudata(L, 1, COTLS_CONTEXT) != NULL);
    return 1;
}

/* core.context_timeouts(context) → timeout, handshake_timeout; negative: none */
int cotls_context_timeouts(lua_State *L)
{
    const struct cotls_ctx *x = cotls_check_context(L, 1);
    lua_pushnumber(L, x->timeout);
    lua_pushnumber(L, x->handshake_timeout);
    return 2;
}

static int ctx_gc(lua_State *L)
{
    struct cotls_ctx *x = luaL_checkudata(L, 1, COTLS_CONTEXT);
    SSL_CTX *ctx = x->ssl_ctx;
    x->ssl_ctx = NULL;
    if (ctx != NULL)
        SSL_CTX_set_app_data(ctx, NULL); /* its sessions go without a word */
    SSL_CTX_free(ctx);
    cotls_removed_free(x);
    cotls_keylog_close(x);
    cotls_psk_free(x->psk);
    x->psk = NULL;
    cotls_tickets_free(x->tickets);
    cotls_cache_free(x->cache);
    x->tickets = NULL;
    x->cache = NULL;
    return 0;
}

static int ctx_tostring(lua_State *L)
{
    const struct cotls_ctx *x = luaL_checkudata(L, 1, COTLS_CONTEXT);
    lua_pushfstring(L, "%s (%s): %p", COTLS_CONTEXT, x->server ? "server" : "client", lua_topointer(L, 1));
    return 1;
}

void cotls_context_open(lua_State *L)
{
    static const luaL_Reg meta[] = {{"__gc", ctx_gc}, {"__tostring", ctx_tostring}, {NULL, NULL}};
    cotls_new_class(L, COTLS_CONTEXT, meta, cotls_ticket_context_methods); /* `wrap` is the face's */
    luaL_getmetatable(L, COTLS_CONTEXT);
    lua_getfield(L, -1, "__index");
    luaL_setfuncs(L, cotls_config_context_methods, 0);
    lua_pop(L, 2);
}
