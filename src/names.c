/* SPDX-License-Identifier: MIT
 * Many names on one port: which context a client's server name (SNI, RFC 6066)
 * chooses, and the switch to it. SSL_set_SSL_CTX takes over certificates, trust
 * store and cipher lists only; the rest is set on the SSL here. That happens
 * inside client_hello, before OpenSSL looks at versions, sessions and tickets.
 * cotls_names_choose runs inside OpenSSL and touches no lua_State. */
#include "cotls.h"

#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

struct name {
    const char *text; /* lower case; "*." and more for a wildcard; kept by UV_CTX_NAMES */
    struct cotls_ctx *context;
};

/* Sorted by text. */
struct cotls_names {
    bool strict;
    size_t count;
    struct name names[];
};

/* ---- the name in a ClientHello ---- */

/* Copies the host name of the server_name extension, in lower case; its length, 0 where
 * there is none. What is malformed is none either: OpenSSL refuses it afterwards. */
static size_t read_name(SSL *ssl, char name[TLSEXT_MAXLEN_host_name + 1])
{
    const unsigned char *p;
    size_t n;
    if (!SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_server_name, &p, &n) || n < 5)
        return 0;
    size_t list = (size_t)p[0] << 8 | p[1], length = (size_t)p[3] << 8 | p[4];
    if (list != n - 2 || p[2] != TLSEXT_NAMETYPE_host_name || length != n - 5 || length == 0 ||
        length > TLSEXT_MAXLEN_host_name || memchr(p + 5, '\0', length) != NULL)
        return 0;
    for (size_t i = 0; i < length; i++) {
        char c = (char)p[5 + i];
        name[i] = c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
    }
    if (name[length - 1] == '.')
        length--;
    name[length] = '\0';
    return length;
}

static int compare(const void *text, const void *entry)
{
    return strcmp(text, ((const struct name *)entry)->text);
}

static struct cotls_ctx *find_exact(const struct cotls_names *list, const char *text)
{
    const struct name *found = bsearch(text, list->names, list->count, sizeof *list->names, compare);
    return found != NULL ? found->context : NULL;
}

/* The exact name, else the wildcard in the place of its first label, else NULL. */
static struct cotls_ctx *find(const struct cotls_names *list, const char *name)
{
    char wildcard[TLSEXT_MAXLEN_host_name + 2] = "*";
    const char *rest = strchr(name, '.');
    struct cotls_ctx *found = find_exact(list, name);
    if (found != NULL || rest == NULL || rest == name)
        return found;
    memcpy(wildcard + 1, rest, strlen(rest) + 1);
    return find_exact(list, wildcard);
}

/* ---- the switch ---- */

/* The context's verification parameters, all of them: what it does not set goes back to the default. */
static bool take_parameters(SSL *ssl, SSL_CTX *ctx)
{
    X509_VERIFY_PARAM *param = SSL_get0_param(ssl);
    uint32_t flags = X509_VERIFY_PARAM_get_inh_flags(param);
    X509_VERIFY_PARAM_set_inh_flags(param, X509_VP_FLAG_OVERWRITE | X509_VP_FLAG_RESET_FLAGS);
    bool ok = X509_VERIFY_PARAM_inherit(param, SSL_CTX_get0_param(ctx)) == 1;
    X509_VERIFY_PARAM_set_inh_flags(param, flags);
    return ok;
}

/* Before the handshake has a session, or with one that is made to be the new context's. */
bool cotls_names_switch(struct cotls_conn *c, struct cotls_ctx *x)
{
    SSL *ssl = c->ssl;
    SSL_CTX *ctx = x->ssl_ctx;
    SSL_SESSION *session = SSL_get0_session(ssl);
    if (SSL_set_SSL_CTX(ssl, ctx) == NULL || !take_parameters(ssl, ctx))
        return false;
    if (!cotls_config_switch(ssl, c->active, x))
        return false;
    c->active = x;
    if ((x->hooks_below & ~c->ctx->hooks_below) != 0) { /* one that a hook has set: sessions are the door's */
        c->ctx->hooks_below |= x->hooks_below;
        cotls_hooks_install(c->ctx);
    }
    if (x->takes)
        cotls_session_not_here(c->ctx);
    if (SSL_CTX_get_keylog_callback(c->ctx->ssl_ctx) != NULL) /* OpenSSL asks the context in force */
        SSL_CTX_set_keylog_callback(ctx, cotls_hook_keylog);
    if (c->asks != NULL) { /* the callback that is at it comes again, and finds what its hook has answered */
        SSL_CTX_set_client_hello_cb(ctx, cotls_hook_client_hello, NULL);
        SSL_set_cert_cb(ssl, cotls_hook_certificate, NULL);
    }
    SSL_set_verify(ssl, SSL_CTX_get_verify_mode(ctx), NULL);
    SSL_clear_options(ssl, SSL_get_options(ssl) & ~SSL_CTX_get_options(ctx));
    SSL_set_options(ssl, SSL_CTX_get_options(ctx));
    SSL_set_max_early_data(ssl, SSL_CTX_get_max_early_data(ctx));
    SSL_set_recv_max_early_data(ssl, SSL_CTX_get_recv_max_early_data(ctx));
    return SSL_set_min_proto_version(ssl, SSL_CTX_get_min_proto_version(ctx)) &&
           SSL_set_max_proto_version(ssl, SSL_CTX_get_max_proto_version(ctx)) &&
           SSL_set_session_id_context(ssl, x->scope, sizeof x->scope) &&
           SSL_set_num_tickets(ssl, SSL_CTX_get_num_tickets(ctx)) &&
           (session == NULL || SSL_SESSION_set1_id_context(session, x->scope, sizeof x->scope));
}

static bool refuse(struct cotls_conn *c, int *alert, int number, const char *reason)
{
    *alert = number;
    c->refusal = reason;
    return false;
}

/* Inside client_hello. It comes again after a HelloRetryRequest and in a renegotiation: with another
 * name then, a client would get what the first one was not asked for. OpenSSL asks the context in force
 * then, which the connection may also have been made with. */
bool cotls_names_choose(struct cotls_conn *c, int *alert)
{
    char name[TLSEXT_MAXLEN_host_name + 1] = "";
    const struct cotls_names *list = c->ctx->names;
    if (list == NULL)
        return true;
    size_t n = read_name(c->ssl, name);
    struct cotls_ctx *x = n > 0 ? find(list, name) : NULL;
    if (x == NULL && list->strict)
        return refuse(c, alert, SSL_AD_UNRECOGNIZED_NAME, "the client asks for no server name of names");
    if (x == NULL)
        x = c->ctx;
    if (c->chosen != NULL && x != c->chosen)
        return refuse(c, alert, SSL_AD_ILLEGAL_PARAMETER,
                      "the client has changed the server name it asks for");
    bool first = c->chosen == NULL;
    c->chosen = x;
    if (!first || x == c->active || cotls_names_switch(c, x))
        return true;
    return refuse(c, alert, SSL_AD_INTERNAL_ERROR, "the context of the server name can't be used");
}

/* ---- settings ---- */

bool cotls_same_verification(const struct cotls_ctx *x, const struct cotls_ctx *y)
{
    return memcmp(x->verification, y->verification, sizeof x->verification) == 0;
}

/* The connection is at 1. */
void cotls_names_push(lua_State *L, const struct cotls_ctx *x)
{
    int top = lua_gettop(L);
    luaL_checkstack(L, 8, NULL);
    lua_getiuservalue(L, 1, UV_CONTEXT);
    lua_getiuservalue(L, -1, UV_CTX_NAMES);
    lua_getiuservalue(L, -1, 1);
    lua_getfield(L, -1, "names");
    lua_Integer n = luaL_len(L, -1);
    lua_pushnil(L);
    for (lua_Integer i = 1; i <= n && lua_touserdata(L, -1) != x; i++) {
        lua_settop(L, top + 4);
        lua_rawgeti(L, -1, i);
        lua_getfield(L, -1, "context");
    }
    lua_replace(L, top + 1);
    lua_settop(L, top + 1);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(((const struct name *)a)->text, ((const struct name *)b)->text);
}

/* The value: { names = { { name =, context = }, … }, strict = boolean }; it keeps texts and contexts. */
static bool set_names(lua_State *L, struct cotls_ctx *x)
{
    int setting = lua_gettop(L);
    luaL_checkstack(L, 8, NULL);
    lua_getfield(L, setting, "strict");
    lua_getfield(L, setting, "names");
    size_t count = lua_rawlen(L, -1);
    if (!x->server)
        return cotls_refuse(L, "is for servers");
    struct cotls_names *list = lua_newuserdatauv(L, sizeof *list + count * sizeof *list->names, 1);
    list->strict = lua_toboolean(L, setting + 1);
    list->count = count;
    for (size_t i = 0; i < count; i++) {
        lua_rawgeti(L, setting + 2, (lua_Integer)i + 1);
        lua_getfield(L, -1, "name");
        lua_getfield(L, -2, "context");
        list->names[i] = (struct name){luaL_checkstring(L, -2), cotls_check_context(L, -1)};
        if (!list->names[i].context->server) {
            lua_pushfstring(L, "the context of '%s' is a client's", list->names[i].text);
            return false;
        }
        SSL_CTX_set_client_hello_cb(list->names[i].context->ssl_ctx, cotls_hook_client_hello, NULL);
        lua_pop(L, 3);
    }
    qsort(list->names, count, sizeof *list->names, by_text);
    lua_pushvalue(L, setting);
    lua_setiuservalue(L, -2, 1);
    lua_setiuservalue(L, 1, UV_CTX_NAMES);
    x->names = list;
    for (size_t i = 0; i < count; i++)
        x->hooks_below |= list->names[i].context->hooks_below;
    cotls_hooks_install(x);
    if (!cotls_tickets_for_names(x))
        return cotls_refuse(L, "no memory");
    SSL_CTX_set_client_hello_cb(x->ssl_ctx, cotls_hook_client_hello, NULL);
    return true;
}

const struct cotls_setting cotls_names_settings[] = {
    {"names", set_names},
    {NULL, NULL},
};
