/* SPDX-License-Identifier: MIT
 * on_trace: what went by on the wire, and the states between, as events. What
 * OpenSSL calls (hook.c) comes first and touches no lua_State; cotls_push_trace
 * makes the tables when the driver tells them. */
#include "cotls.h"

#include <openssl/ssl3.h>
#include <string.h>

/* How many wait to be told, at most: one step of an operation may see a flood of short messages. */
#define MOST 512

/* ---- names ---- */

/* RFC 8446 section 4, RFC 5246 section 7.4, and the registry of TLS HandshakeTypes. */
static const char *const message_names[256] = {
    [SSL3_MT_HELLO_REQUEST] = "hello_request",
    [SSL3_MT_CLIENT_HELLO] = "client_hello",
    [SSL3_MT_SERVER_HELLO] = "server_hello",
    [SSL3_MT_NEWSESSION_TICKET] = "new_session_ticket",
    [SSL3_MT_END_OF_EARLY_DATA] = "end_of_early_data",
    [SSL3_MT_ENCRYPTED_EXTENSIONS] = "encrypted_extensions",
    [SSL3_MT_CERTIFICATE] = "certificate",
    [SSL3_MT_SERVER_KEY_EXCHANGE] = "server_key_exchange",
    [SSL3_MT_CERTIFICATE_REQUEST] = "certificate_request",
    [SSL3_MT_SERVER_DONE] = "server_hello_done",
    [SSL3_MT_CERTIFICATE_VERIFY] = "certificate_verify",
    [SSL3_MT_CLIENT_KEY_EXCHANGE] = "client_key_exchange",
    [SSL3_MT_FINISHED] = "finished",
    [SSL3_MT_CERTIFICATE_STATUS] = "certificate_status",
    [SSL3_MT_KEY_UPDATE] = "key_update",
};

/* The random of a ServerHello that is a HelloRetryRequest, RFC 8446 section 4.1.3. */
static const unsigned char retry_random[32] = {
    0xCF, 0x21, 0xAD, 0x74, 0xE5, 0x9A, 0x61, 0x11, 0xBE, 0x1D, 0x8C, 0x02, 0x1E, 0x65, 0xB8, 0x91,
    0xC2, 0xA2, 0x11, 0x16, 0x7A, 0xBB, 0x8C, 0x5E, 0x07, 0x9E, 0x09, 0xE2, 0xC8, 0xA8, 0x33, 0x9C,
};

/* Behind the type, the length and the version. */
static bool is_retry(const unsigned char *message, size_t n)
{
    return message[0] == SSL3_MT_SERVER_HELLO && n >= 6 + sizeof retry_random &&
           memcmp(message + 6, retry_random, sizeof retry_random) == 0;
}

static const char *message_name(const unsigned char *message, size_t n)
{
    return is_retry(message, n) ? "hello_retry_request" : message_names[message[0]];
}

/* ---- what OpenSSL calls ---- */

static void file(struct cotls_conn *c, const struct cotls_event *what, const char *name)
{
    struct cotls_asks *a = c->asks;
    if (a->first == NULL)
        a->traced = 0;
    if (a->traced >= MOST)
        return;
    struct cotls_event *e = cotls_tell(c, HOOK_TRACE, name, name != NULL ? strlen(name) : 0);
    if (e == NULL)
        return;
    a->traced++;
    e->direction = what->direction;
    e->type = what->type;
    e->version = what->version;
    e->number = what->number;
    e->size = what->size;
}

/* A record's header and its inner type (256, 257) are not told. */
void cotls_trace_message(struct cotls_conn *c, bool sent, int version, int type, const void *data, size_t n)
{
    const unsigned char *bytes = data;
    struct cotls_event e = {.direction = sent ? 1 : -1, .type = type, .version = version, .size = n};
    const char *name = "change_cipher_spec";
    if (n == 0 || (type == SSL3_RT_ALERT && n < 2))
        return;
    if (type == SSL3_RT_HANDSHAKE) {
        e.number = bytes[0];
        name = message_name(bytes, n);
    } else if (type == SSL3_RT_ALERT) {
        e.number = bytes[1];
        name = cotls_alert_name(e.number);
    } else if (type != SSL3_RT_CHANGE_CIPHER_SPEC) {
        return;
    }
    file(c, &e, name);
}

/* OpenSSL comes to the same state several times. A ChangeCipherSpec that is received (TLS 1.2) is told by the state
 * alone. */
void cotls_trace_state(struct cotls_conn *c, const SSL *ssl)
{
    const struct cotls_event e = {.version = SSL_version(ssl)};
    OSSL_HANDSHAKE_STATE state = SSL_get_state(ssl);
    const char *text = SSL_state_string_long(ssl); /* lives for ever */
    if (text == c->asks->state)
        return;
    c->asks->state = text;
    if (state == TLS_ST_CR_CHANGE || state == TLS_ST_SR_CHANGE)
        cotls_trace_message(c, false, e.version, SSL3_RT_CHANGE_CIPHER_SPEC, "\1", 1);
    file(c, &e, text);
}

/* ---- Lua ---- */

static const char *type_name(int type)
{
    switch (type) {
    case SSL3_RT_HANDSHAKE:
        return "handshake";
    case SSL3_RT_ALERT:
        return "alert";
    case SSL3_RT_CHANGE_CIPHER_SPEC:
        return "change_cipher_spec";
    default:
        return "state";
    }
}

/* What has no name gets its number. */
void cotls_push_trace(lua_State *L, const struct cotls_conn *c, const struct cotls_event *e)
{
    lua_createtable(L, 0, 6);
    cotls_set_string(L, "type", type_name(e->type));
    if (e->len > 0)
        lua_pushlstring(L, (const char *)e->text, e->len);
    else
        lua_pushfstring(L, "%d", e->number);
    lua_setfield(L, -2, "name");
    cotls_set_string(L, "version", cotls_version_name(e->version));
    lua_pushnumber(L, e->moment - c->handshake_start);
    lua_setfield(L, -2, "seconds");
    if (e->direction == 0)
        return;
    cotls_set_string(L, "direction", e->direction > 0 ? "sent" : "received");
    lua_pushinteger(L, (lua_Integer)e->size);
    lua_setfield(L, -2, "length");
}
