/* SPDX-License-Identifier: MIT
 * The getters. They ask the SSL while there is one; of a closed connection they
 * tell what was recorded when it closed. None of them waits. */
#include "cotls.h"

#include <stdlib.h>
#include <string.h>

/* What is known of the connection. Text of OpenSSL's own lives as long as the
 * library; the rest is copied behind the struct. */
struct cotls_record {
    const char *version, *cipher;
    X509 *peer;
    bool resumed;
    size_t alpn_len, name_len;
    char text[]; /* ALPN, then the server name */
};

/* A view of the SSL or of the record. */
struct facts {
    const char *version, *cipher, *alpn, *name;
    size_t alpn_len, name_len;
    bool resumed;
};

static struct facts facts_of_ssl(const struct cotls_conn *c)
{
    struct facts f = {0};
    const unsigned char *alpn;
    unsigned int n;
    f.name = SSL_get_servername(c->ssl, TLSEXT_NAMETYPE_host_name);
    f.name_len = f.name != NULL ? strlen(f.name) : 0;
    if (SSL_get_current_cipher(c->ssl) == NULL)
        return f;
    f.version = SSL_get_version(c->ssl);
    f.cipher = SSL_get_cipher_name(c->ssl);
    f.resumed = SSL_session_reused(c->ssl);
    SSL_get0_alpn_selected(c->ssl, &alpn, &n);
    f.alpn = n > 0 ? (const char *)alpn : NULL;
    f.alpn_len = n;
    return f;
}

static struct facts facts_of(const struct cotls_conn *c)
{
    const struct cotls_record *r = c->record;
    struct facts f = {0};
    if (c->ssl != NULL)
        return facts_of_ssl(c);
    if (r == NULL)
        return f;
    f = (struct facts){.version = r->version, .cipher = r->cipher, .resumed = r->resumed};
    f.alpn = r->alpn_len > 0 ? r->text : NULL;
    f.alpn_len = r->alpn_len;
    f.name = r->name_len > 0 ? r->text + r->alpn_len : NULL;
    f.name_len = r->name_len;
    return f;
}

/* Before the SSL goes; without memory the getters of a closed connection tell nothing. */
void cotls_record_keep(struct cotls_conn *c)
{
    struct facts f = facts_of_ssl(c);
    struct cotls_record *r = malloc(sizeof *r + f.alpn_len + f.name_len);
    c->record = r;
    if (r == NULL)
        return;
    *r = (struct cotls_record){.version = f.version, .cipher = f.cipher, .resumed = f.resumed};
    r->alpn_len = f.alpn_len;
    r->name_len = f.name_len;
    if (f.alpn_len > 0)
        memcpy(r->text, f.alpn, f.alpn_len);
    if (f.name_len > 0)
        memcpy(r->text + f.alpn_len, f.name, f.name_len);
    r->peer = SSL_get1_peer_certificate(c->ssl);
}

void cotls_record_free(struct cotls_conn *c)
{
    if (c->record != NULL)
        X509_free(c->record->peer);
    free(c->record);
    c->record = NULL;
}

static void push_text(lua_State *L, const char *text, size_t n)
{
    if (text != NULL)
        lua_pushlstring(L, text, n);
    else
        lua_pushnil(L);
}

static int conn_version(lua_State *L)
{
    lua_pushstring(L, facts_of(cotls_check_conn(L)).version);
    return 1;
}

static int conn_cipher(lua_State *L)
{
    lua_pushstring(L, facts_of(cotls_check_conn(L)).cipher);
    return 1;
}

static int conn_alpn(lua_State *L)
{
    struct facts f = facts_of(cotls_check_conn(L));
    push_text(L, f.alpn, f.alpn_len);
    return 1;
}

static int conn_server_name(lua_State *L)
{
    struct facts f = facts_of(cotls_check_conn(L));
    push_text(L, f.name, f.name_len);
    return 1;
}

static int conn_resumed(lua_State *L)
{
    lua_pushboolean(L, facts_of(cotls_check_conn(L)).resumed);
    return 1;
}

static int conn_peer_certificate(lua_State *L)
{
    const struct cotls_conn *c = cotls_check_conn(L);
    const struct cotls_record *r = c->record;
    if (c->ssl != NULL)
        cotls_push_x509(L, SSL_get0_peer_certificate(c->ssl));
    else
        cotls_push_x509(L, r != NULL ? r->peer : NULL);
    return 1;
}

static int conn_verify_result(lua_State *L)
{
    cotls_push_verify(L, cotls_check_conn(L));
    return 1;
}

static int conn_state(lua_State *L)
{
    const struct cotls_conn *c = cotls_check_conn(L);
    lua_pushstring(L, c->ssl != NULL ? SSL_state_string_long(c->ssl) : "closed");
    return 1;
}

static int conn_is_server(lua_State *L)
{
    lua_pushboolean(L, cotls_check_conn(L)->ctx->server);
    return 1;
}

static int conn_handshake_done(lua_State *L)
{
    lua_pushboolean(L, cotls_check_conn(L)->established);
    return 1;
}

static int conn_fileno(lua_State *L)
{
    const struct cotls_conn *c = cotls_check_conn(L);
    if (c->fd >= 0)
        lua_pushinteger(L, c->fd);
    else
        lua_pushnil(L);
    return 1;
}

static int conn_context(lua_State *L)
{
    cotls_check_conn(L);
    lua_getiuservalue(L, 1, UV_CONTEXT);
    return 1;
}

static int conn_transport(lua_State *L)
{
    cotls_check_conn(L);
    lua_getiuservalue(L, 1, UV_TRANSPORT);
    return 1;
}

/* Bytes that read can give without waiting: SSL_pending(3) and what is decrypted already. */
static int conn_pending(lua_State *L)
{
    const struct cotls_conn *c = cotls_check_conn(L);
    size_t n = c->ssl != NULL ? cotls_buf_length(&c->plain) + (size_t)SSL_pending(c->ssl) : 0;
    lua_pushinteger(L, (lua_Integer)n);
    return 1;
}

static int conn_stats(lua_State *L)
{
    const struct cotls_conn *c = cotls_check_conn(L);
    lua_createtable(L, 0, 3);
    lua_pushinteger(L, (lua_Integer)c->bytes_in);
    lua_setfield(L, -2, "bytes_in");
    lua_pushinteger(L, (lua_Integer)c->bytes_out);
    lua_setfield(L, -2, "bytes_out");
    if (c->established) {
        lua_pushnumber(L, c->handshake_seconds);
        lua_setfield(L, -2, "handshake_seconds");
    }
    return 1;
}

const luaL_Reg cotls_info_methods[] = {
    {"alpn", conn_alpn},
    {"cipher", conn_cipher},
    {"context", conn_context},
    {"fileno", conn_fileno},
    {"handshake_done", conn_handshake_done},
    {"is_server", conn_is_server},
    {"peer_certificate", conn_peer_certificate},
    {"pending", conn_pending},
    {"resumed", conn_resumed},
    {"server_name", conn_server_name},
    {"state", conn_state},
    {"stats", conn_stats},
    {"transport", conn_transport},
    {"verify_result", conn_verify_result},
    {"version", conn_version},
    {NULL, NULL},
};
