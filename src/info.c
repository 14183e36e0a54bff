/* SPDX-License-Identifier: MIT
 * The getters of one value each, and info, which gives what all getters tell.
 * None of them waits; after closing they tell what was recorded (facts.c). */
#include "cotls.h"

void cotls_push_text(lua_State *L, const struct cotls_text *b)
{
    if (b->len > 0)
        lua_pushlstring(L, b->data, b->len);
    else
        lua_pushnil(L);
}

/* One of the texts. [-0, +1] */
static int push_fact(lua_State *L, enum cotls_fact which)
{
    struct cotls_facts f;
    cotls_facts(cotls_check_conn(L), &f);
    cotls_push_text(L, &f.text[which]);
    return 1;
}

static int conn_alpn(lua_State *L)
{
    return push_fact(L, FACT_ALPN);
}

static int conn_server_name(lua_State *L)
{
    return push_fact(L, FACT_SERVER_NAME);
}

static int conn_group(lua_State *L)
{
    return push_fact(L, FACT_GROUP);
}

static int conn_version(lua_State *L)
{
    struct cotls_facts f;
    cotls_facts(cotls_check_conn(L), &f);
    lua_pushstring(L, f.version);
    return 1;
}

/* name, standard name, bits, version */
static int conn_cipher(lua_State *L)
{
    struct cotls_facts f;
    cotls_facts(cotls_check_conn(L), &f);
    if (f.cipher == NULL) {
        lua_pushnil(L);
        return 1;
    }
    lua_pushstring(L, SSL_CIPHER_get_name(f.cipher));
    lua_pushstring(L, SSL_CIPHER_standard_name(f.cipher));
    lua_pushinteger(L, SSL_CIPHER_get_bits(f.cipher, NULL));
    lua_pushstring(L, SSL_CIPHER_get_version(f.cipher));
    return 4;
}

static int conn_signature_algorithm(lua_State *L)
{
    struct cotls_facts f;
    cotls_facts(cotls_check_conn(L), &f);
    lua_pushstring(L, f.signature);
    return 1;
}

static int conn_peer_signature_algorithm(lua_State *L)
{
    struct cotls_facts f;
    cotls_facts(cotls_check_conn(L), &f);
    lua_pushstring(L, f.peer_signature);
    return 1;
}

static int conn_resumed(lua_State *L)
{
    struct cotls_facts f;
    cotls_facts(cotls_check_conn(L), &f);
    lua_pushboolean(L, f.resumed);
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

/* ---- all of it ---- */

/* The getters without arguments, whichever file they are in. */
static const char *const getters[] = {
    "alpn",
    "certificate",
    "client_random",
    "context",
    "dane_result",
    "early_data_status",
    "fileno",
    "finished",
    "group",
    "handshake_done",
    "is_server",
    "ocsp_response",
    "peer_certificate",
    "peer_chain",
    "peer_finished",
    "peer_signature_algorithm",
    "pending",
    "psk_identity",
    "resumed",
    "scts",
    "server_name",
    "server_random",
    "session",
    "signature_algorithm",
    "state",
    "stats",
    "transport",
    "verified_chain",
    "verify_result",
    "version",
};

/* cipher's four results under four names, in the table at index. [-0, +0] */
static void set_cipher(lua_State *L, int index)
{
    static const char *const names[] = {"cipher", "cipher_standard_name", "cipher_bits", "cipher_version"};
    int top = lua_gettop(L);
    lua_pushcfunction(L, conn_cipher);
    lua_pushvalue(L, 1);
    lua_call(L, 1, 4);
    for (int i = 3; i >= 0; i--)
        lua_setfield(L, index, names[i]);
    lua_settop(L, top);
}

/* conn:info() → one table of what all getters tell, each under its name, and hello_retry */
static int conn_info(lua_State *L)
{
    struct cotls_facts f;
    const struct cotls_conn *c = cotls_check_conn(L);
    cotls_facts(c, &f);
    lua_settop(L, 1);
    lua_createtable(L, 0, (int)(sizeof getters / sizeof *getters) + 5);
    for (size_t i = 0; i < sizeof getters / sizeof *getters; i++) {
        lua_getfield(L, 1, getters[i]);
        lua_pushvalue(L, 1);
        lua_call(L, 1, 1);
        lua_setfield(L, 2, getters[i]);
    }
    set_cipher(L, 2);
    if (f.version != NULL) {
        lua_pushboolean(L, c->hello_retry);
        lua_setfield(L, 2, "hello_retry");
    }
    return 1;
}

const luaL_Reg cotls_info_methods[] = {
    {"alpn", conn_alpn},
    {"cipher", conn_cipher},
    {"context", conn_context},
    {"fileno", conn_fileno},
    {"group", conn_group},
    {"handshake_done", conn_handshake_done},
    {"info", conn_info},
    {"is_server", conn_is_server},
    {"peer_signature_algorithm", conn_peer_signature_algorithm},
    {"pending", conn_pending},
    {"resumed", conn_resumed},
    {"server_name", conn_server_name},
    {"signature_algorithm", conn_signature_algorithm},
    {"state", conn_state},
    {"stats", conn_stats},
    {"transport", conn_transport},
    {"verify_result", conn_verify_result},
    {"version", conn_version},
    {NULL, NULL},
};
