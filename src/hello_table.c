/* SPDX-License-Identifier: MIT
 * A ClientHello as a Lua table. Most hooks look at one field or none, and all of
 * them cost as much as half a percent of a handshake: the table keeps the message,
 * and a field is made when it is asked for. The bytes were judged before (hello.c),
 * and are read again for each: what a script has done to them makes no field. */
#include "cotls.h"

#include <string.h>

static const char names_key;   /* registry: an SSL that knows OpenSSL's names */
static const char message_key; /* in the table: the message's bytes, until all fields are there */

/* ---- names of numbers ---- */

static void push_hex(lua_State *L, unsigned number)
{
    static const char digits[] = "0123456789abcdef";
    char text[] = "0x0000";
    for (int i = 5; i >= 2; i--, number >>= 4)
        text[i] = digits[number & 15];
    lua_pushlstring(L, text, sizeof text - 1);
}

/* As SSL_get_version(3) has it. */
static const char *name_version(SSL *ssl, unsigned number)
{
    (void)ssl;
    switch (number) {
    case SSL3_VERSION:
        return "SSLv3";
    case TLS1_VERSION:
        return "TLSv1";
    default:
        return cotls_version_name((int)number);
    }
}

/* The standard name; all of those that this OpenSSL knows. */
static const char *name_cipher(SSL *ssl, unsigned number)
{
    const unsigned char bytes[] = {(unsigned char)(number >> 8), (unsigned char)number};
    const SSL_CIPHER *cipher = SSL_CIPHER_find(ssl, bytes);
    const char *name = cipher != NULL ? SSL_CIPHER_standard_name(cipher) : NULL;
    return name != NULL && strncmp(name, "TLS_", 4) == 0 ? name : NULL;
}

static const char *name_group(SSL *ssl, unsigned number)
{
    return SSL_group_to_name(ssl, (int)(TLSEXT_nid_unknown | number));
}

/* The TLS registry's, as in facts.c; the combinations of TLS 1.2 by the same pattern. */
static const char *name_scheme(SSL *ssl, unsigned number)
{
    static const struct {
        unsigned number;
        const char *name;
    } schemes[] = {
        {0x0403, "ecdsa_secp256r1_sha256"},
        {0x0503, "ecdsa_secp384r1_sha384"},
        {0x0603, "ecdsa_secp521r1_sha512"},
        {0x0807, "ed25519"},
        {0x0808, "ed448"},
        {0x0809, "rsa_pss_pss_sha256"},
        {0x080a, "rsa_pss_pss_sha384"},
        {0x080b, "rsa_pss_pss_sha512"},
        {0x0804, "rsa_pss_rsae_sha256"},
        {0x0805, "rsa_pss_rsae_sha384"},
        {0x0806, "rsa_pss_rsae_sha512"},
        {0x0401, "rsa_pkcs1_sha256"},
        {0x0501, "rsa_pkcs1_sha384"},
        {0x0601, "rsa_pkcs1_sha512"},
        {0x0303, "ecdsa_sha224"},
        {0x0301, "rsa_pkcs1_sha224"},
        {0x0203, "ecdsa_sha1"},
        {0x0201, "rsa_pkcs1_sha1"},
        {0x0202, "dsa_sha1"},
        {0x0302, "dsa_sha224"},
        {0x0402, "dsa_sha256"},
        {0x0502, "dsa_sha384"},
        {0x0602, "dsa_sha512"},
        {0x081a, "ecdsa_brainpoolP256r1tls13_sha256"},
        {0x081b, "ecdsa_brainpoolP384r1tls13_sha384"},
        {0x081c, "ecdsa_brainpoolP512r1tls13_sha512"},
    };
    (void)ssl;
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++)
        if (schemes[i].number == number)
            return schemes[i].name;
    return NULL;
}

static void free_ssl(void *ssl)
{
    SSL_free(ssl);
}

/* Names are asked of an SSL: one for all that have none. */
static SSL *names_ssl(lua_State *L)
{
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &names_key) == LUA_TNIL) {
        struct cotls_cell *cell = cotls_push_cell(L, free_ssl);
        SSL_CTX *ctx = SSL_CTX_new(TLS_method());
        cell->data = ctx != NULL ? SSL_new(ctx) : NULL;
        SSL_CTX_free(ctx);
        cotls_clear_errors();
        if (cell->data == NULL)
            luaL_error(L, "no memory for an SSL");
        lua_pushvalue(L, -1);
        lua_rawsetp(L, LUA_REGISTRYINDEX, &names_key);
        lua_remove(L, -2);
    }
    const struct cotls_cell *cell = lua_touserdata(L, -1);
    lua_pop(L, 1);
    return cell->data;
}

/* ---- fields: [-0, +1] each ---- */

static void push_bytes(lua_State *L, struct cotls_bytes b)
{
    lua_pushlstring(L, b.len > 0 ? (const char *)b.data : "", b.len);
}

static void push_names(lua_State *L, struct cotls_bytes list, const char *(*name)(SSL *ssl, unsigned number))
{
    SSL *ssl = names_ssl(L);
    int count = (int)(list.len / 2);
    lua_createtable(L, count, 0);
    for (int i = 0; i < count; i++) {
        unsigned number = cotls_hello_item(list, (size_t)i);
        const char *text = name(ssl, number);
        if (text != NULL)
            lua_pushstring(L, text);
        else
            push_hex(L, number);
        lua_rawseti(L, -2, i + 1);
    }
}

static void push_legacy_version(lua_State *L, const struct cotls_hello *h)
{
    lua_pushinteger(L, h->version);
}

static void push_random(lua_State *L, const struct cotls_hello *h)
{
    push_bytes(L, h->random);
}

static void push_session_id(lua_State *L, const struct cotls_hello *h)
{
    push_bytes(L, h->session_id);
}

static void push_server_name(lua_State *L, const struct cotls_hello *h)
{
    struct cotls_bytes name;
    if (cotls_hello_server_name(h, &name))
        push_bytes(L, name);
    else
        lua_pushnil(L);
}

static void push_alpn(lua_State *L, const struct cotls_hello *h)
{
    struct cotls_bytes rest, name;
    lua_Integer count = 0;
    lua_newtable(L);
    if (cotls_hello_protocols(h, &rest))
        while (cotls_hello_next_protocol(&rest, &name)) {
            push_bytes(L, name);
            lua_rawseti(L, -2, ++count);
        }
}

/* From supported_versions, and where that is not sent the one that is the highest. */
static void push_versions(lua_State *L, const struct cotls_hello *h)
{
    struct cotls_bytes list, body;
    const unsigned char legacy[] = {(unsigned char)(h->version >> 8), (unsigned char)h->version};
    cotls_hello_list(h, TLSEXT_TYPE_supported_versions, 1, 2, &list);
    if (!cotls_hello_extension(h, TLSEXT_TYPE_supported_versions, &body))
        list = (struct cotls_bytes){legacy, sizeof legacy};
    push_names(L, list, name_version);
}

static void push_ciphers(lua_State *L, const struct cotls_hello *h)
{
    push_names(L, h->ciphers, name_cipher);
}

static void push_groups(lua_State *L, const struct cotls_hello *h)
{
    struct cotls_bytes list;
    cotls_hello_list(h, TLSEXT_TYPE_supported_groups, 2, 2, &list);
    push_names(L, list, name_group);
}

static void push_schemes(lua_State *L, const struct cotls_hello *h)
{
    struct cotls_bytes list;
    cotls_hello_list(h, TLSEXT_TYPE_signature_algorithms, 2, 2, &list);
    push_names(L, list, name_scheme);
}

/* In their order. */
static void push_extension_types(lua_State *L, const struct cotls_hello *h)
{
    struct cotls_bytes rest = h->extensions, body;
    lua_Integer count = 0;
    unsigned type;
    lua_newtable(L);
    while (cotls_hello_next(&rest, &type, &body)) {
        lua_pushinteger(L, type);
        lua_rawseti(L, -2, ++count);
    }
}

/* By type the bytes: those of the first one, as with cotls_hello_extension. */
static void push_extensions(lua_State *L, const struct cotls_hello *h)
{
    struct cotls_bytes rest = h->extensions, body;
    unsigned type;
    lua_newtable(L);
    while (cotls_hello_next(&rest, &type, &body)) {
        bool first = lua_rawgeti(L, -1, type) == LUA_TNIL;
        lua_pop(L, 1);
        if (!first)
            continue;
        push_bytes(L, body);
        lua_rawseti(L, -2, type);
    }
}

static const struct {
    const char *name;
    void (*push)(lua_State *L, const struct cotls_hello *h);
} fields[] = {
    {"server_name", push_server_name},
    {"alpn", push_alpn},
    {"versions", push_versions},
    {"ciphers", push_ciphers},
    {"groups", push_groups},
    {"signature_algorithms", push_schemes},
    {"extensions", push_extensions},
    {"extension_types", push_extension_types},
    {"session_id", push_session_id},
    {"random", push_random},
    {"legacy_version", push_legacy_version},
    {"ja3", cotls_push_ja3},
    {"ja3_text", cotls_push_ja3_text},
    {"ja4", cotls_push_ja4},
};
#define FIELD_COUNT (sizeof fields / sizeof *fields)

/* ---- the table ---- */

/* Sets a field of the table at 1, unless the value on top is nil. [-1, +0] */
static void set_field(lua_State *L, const char *name)
{
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        return;
    }
    lua_pushstring(L, name);
    lua_insert(L, -2);
    lua_rawset(L, 1);
}

/* hello.name */
static int hello_index(lua_State *L)
{
    const char *name = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "";
    struct cotls_bytes message;
    struct cotls_hello h;
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 2);
    for (size_t i = 0; i < FIELD_COUNT; i++) {
        if (strcmp(fields[i].name, name) != 0)
            continue;
        lua_rawgetp(L, 1, &message_key);
        message.data = (const unsigned char *)lua_tolstring(L, -1, &message.len);
        if (message.data == NULL || !cotls_hello_parse(message, &h))
            return 0;
        fields[i].push(L, &h);
        lua_pushvalue(L, -1);
        set_field(L, name);
        return 1;
    }
    return 0;
}

/* hello() → itself, with all of its fields */
static int hello_call(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    for (size_t i = 0; i < FIELD_COUNT; i++) {
        lua_getfield(L, 1, fields[i].name);
        lua_pop(L, 1);
    }
    lua_pushnil(L);
    lua_rawsetp(L, 1, &message_key);
    return 1;
}

static int hello_next(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 2);
    if (lua_next(L, 1) != 0)
        return 2;
    lua_pushnil(L);
    return 1;
}

/* pairs(hello), where Lua asks for it: not in 5.1 */
static int hello_pairs(lua_State *L)
{
    hello_call(L);
    lua_pushcfunction(L, hello_next);
    lua_insert(L, 1);
    return 2;
}

/* A table that makes its fields from the message on top, whose parts have been judged. [-1, +1] */
void cotls_push_hello_table(lua_State *L)
{
    lua_createtable(L, 0, 1);
    lua_insert(L, -2);
    lua_rawsetp(L, -2, &message_key);
    luaL_setmetatable(L, COTLS_HELLO);
}

/* A table with all fields. [-0, +1] */
void cotls_push_hello_fields(lua_State *L, const struct cotls_hello *h)
{
    luaL_checkstack(L, 16, NULL);
    lua_createtable(L, 0, FIELD_COUNT);
    for (size_t i = 0; i < FIELD_COUNT; i++) {
        fields[i].push(L, h);
        if (lua_isnil(L, -1))
            lua_pop(L, 1);
        else
            lua_setfield(L, -2, fields[i].name);
    }
    luaL_setmetatable(L, COTLS_HELLO);
}

void cotls_hello_open(lua_State *L)
{
    static const luaL_Reg meta[] = {
        {"__index", hello_index}, {"__call", hello_call}, {"__pairs", hello_pairs}, {NULL, NULL}};
    luaL_newmetatable(L, COTLS_HELLO);
    luaL_setfuncs(L, meta, 0);
    lua_pop(L, 1);
}
