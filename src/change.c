/* SPDX-License-Identifier: MIT
 * What a hook may change of the connection that it is called for: the context in
 * force, the certificate, the staple. OpenSSL is suspended meanwhile. What can't
 * take effect any more where the handshake stands is refused. */
#include "cotls.h"

#include <openssl/err.h>

#define BIT(hook) (1U << (hook))
#define CHANGES (BIT(HOOK_CLIENT_HELLO) | BIT(HOOK_CERTIFICATE) | BIT(HOOK_SERVER_NAME))

static bool in_hook(const struct cotls_conn *c, unsigned which)
{
    return c->ssl != NULL && cotls_is_asked(c) && (which & BIT(c->asks->pending->hook)) != 0;
}

/* ---- another context ---- */

/* The hooks of a context that would not be asked any more if that one of another context set it. (Of sessions and
 * ticket keys the switch makes the door ask; one that is not asked for is unknown.) */
static unsigned too_late(const struct cotls_conn *c, enum cotls_hook hook)
{
    unsigned named = BIT(HOOK_CLIENT_HELLO) | BIT(HOOK_SERVER_NAME) | BIT(HOOK_PSK);
    if (hook == HOOK_CLIENT_HELLO)
        return BIT(HOOK_CLIENT_HELLO);
    if (hook == HOOK_SERVER_NAME)
        return named;
    named |= BIT(HOOK_CERTIFICATE) | BIT(HOOK_ALPN);
    if (!c->ctx->server)
        return named | BIT(HOOK_VERIFY);
    /* Without jobs these have been asked of the other context. */
    return cotls_can_pause() ? named : named | BIT(HOOK_OCSP) | BIT(HOOK_TICKET_KEY);
}

static bool takes_version(SSL_CTX *ctx, int version)
{
    long min = SSL_CTX_get_min_proto_version(ctx), max = SSL_CTX_get_max_proto_version(ctx);
    return version >= min && (max == 0 || version <= max);
}

/* What TLS 1.3 agrees on first of all. */
static bool takes_cipher(SSL_CTX *ctx, const SSL *ssl)
{
    const SSL_CIPHER *cipher = SSL_get_pending_cipher(ssl);
    return SSL_version(ssl) < TLS1_3_VERSION || cipher == NULL ||
           sk_SSL_CIPHER_find(SSL_CTX_get_ciphers(ctx), (SSL_CIPHER *)(uintptr_t)cipher) >= 0;
}

/* Why the context can't be set by that hook, or NULL. After a ServerHello OpenSSL has chosen among the certificates
 * of the one in force, and looks at them again. */
static const char *refuse_context(const struct cotls_conn *c, const struct cotls_ctx *x, enum cotls_hook hook)
{
    /* Where there are no jobs on_server_name is asked as early as that, too. */
    bool early = hook == HOOK_CLIENT_HELLO || (hook == HOOK_SERVER_NAME && !cotls_can_pause());
    if (c->ctx->server && (c->hello_seen || c->established))
        return "the first ClientHello has chosen the context";
    if ((x->hooks & too_late(c, hook)) != 0)
        return "the context has a hook that would not be asked any more";
    if ((hook == HOOK_SERVER_NAME || !c->ctx->server) && !cotls_same_verification(c->active, x))
        return c->ctx->server
                   ? "on_server_name comes after sessions are looked up: a context that verifies otherwise "
                     "is set in on_client_hello"
                   : "the server is verified already, and the context verifies otherwise";
    if (!early && !takes_version(x->ssl_ctx, SSL_version(c->ssl)))
        return "the context does not take the protocol version that is agreed on: set it in on_client_hello";
    if (!early && !takes_cipher(x->ssl_ctx, c->ssl))
        return "the context does not take the cipher suite that is agreed on: set it in on_client_hello";
    return NULL;
}

/* conn:set_context(ctx) → conn */
static int conn_set_context(lua_State *L)
{
    struct cotls_conn *c = cotls_check_conn(L);
    struct cotls_ctx *x = cotls_check_context(L, 2);
    luaL_argcheck(L, x->server == c->ctx->server, 2, "the context has the other role");
    if (!in_hook(c, CHANGES))
        return luaL_error(L, "set_context: only in on_client_hello, on_server_name and on_certificate");
    lua_settop(L, 2);
    const char *reason = x != c->active ? refuse_context(c, x, c->asks->pending->hook) : NULL;
    if (reason != NULL)
        return luaL_error(L, "set_context: %s", reason);
    if (x != c->active && !cotls_names_switch(c, x)) {
        cotls_ask_refuse(c, "OpenSSL can't switch to the context"); /* it may have done so by half */
        return luaL_error(L, "set_context: OpenSSL can't switch to the context");
    }
    lua_setiuservalue(L, 1, UV_ACTIVE);
    return 1;
}

/* ---- another certificate ---- */

/* Why the connection can't have a key that lives elsewhere, or NULL. */
static const char *refuse_remote(struct cotls_conn *c, const struct cotls_credential *k)
{
    if (!cotls_hooked(c, HOOK_SIGN))
        return "the context in force has no function sign";
    return c->ctx->server && EVP_PKEY_is_a(k->key, "RSA") ? cotls_signing_suites(NULL, c->ssl) : NULL;
}

/* The staple of the credential on top; one that set_ocsp_response gave stays where it has none. [-0, +0] */
static void take_staple(lua_State *L, struct cotls_conn *c, const struct cotls_credential *k)
{
    bool given = lua_getiuservalue(L, 1, UV_STAPLE) != LUA_TNIL;
    lua_pop(L, 1);
    if (k->ocsp == NULL && given)
        return;
    c->staple = (struct cotls_text){(const char *)k->ocsp, k->ocsp_len};
    lua_pushnil(L);
    lua_setiuservalue(L, 1, UV_STAPLE);
}

/* core.use_credential(conn, credential) → conn or nil, err */
int cotls_use_credential(lua_State *L)
{
    struct cotls_conn *c = cotls_check_conn(L);
    const struct cotls_credential *k = luaL_checkudata(L, 2, COTLS_CREDENTIAL);
    lua_settop(L, 2);
    if (!in_hook(c, CHANGES))
        return luaL_error(L, "use_certificate: only in on_client_hello, on_server_name and on_certificate");
    const char *fault = k->remote ? refuse_remote(c, k) : NULL;
    if (fault != NULL) {
        lua_pushstring(L, fault);
        return cotls_fail_config(L, "sign");
    }
    cotls_clear_errors();
    if (SSL_use_cert_and_key(c->ssl, k->leaf, k->key, k->chain, 1) != 1) {
        cotls_push_queue_reason(L);
        return cotls_fail_config(L, "certificate");
    }
    take_staple(L, c, k);
    lua_setiuservalue(L, 1, UV_CREDENTIAL);
    return 1;
}

/* core.use_staple(conn, der) → conn */
int cotls_use_staple(lua_State *L)
{
    struct cotls_conn *c = cotls_check_conn(L);
    size_t n;
    const char *der = luaL_checklstring(L, 2, &n);
    lua_settop(L, 2);
    if (c->ssl == NULL || !cotls_is_asked(c))
        return luaL_error(L, "set_ocsp_response: only in a hook");
    c->staple = (struct cotls_text){der, n};
    lua_setiuservalue(L, 1, UV_STAPLE);
    return 1;
}

const luaL_Reg cotls_hook_methods[] = {
    {"set_context", conn_set_context},
    {NULL, NULL},
};
