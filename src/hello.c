/* SPDX-License-Identifier: MIT
 * A ClientHello (RFC 8446 section 4.1.2) as a Lua table, for on_client_hello and
 * for those who have its bytes only. All of it is the peer's: each length is
 * checked against what is there. A list that is malformed comes out empty, and
 * its bytes stay in `extensions`. OpenSSL's own functions would tell of known
 * extensions only, which is no fingerprint: a connection keeps the message. */
#include "cotls.h"

#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>

#define HEADER 4           /* of a handshake message: type, length in three bytes */
#define MAX_MESSAGE 131396 /* OpenSSL takes no longer ClientHello either, without the header */
#define RECORD_HEADER 5

static const char names_key; /* registry: an SSL that knows OpenSSL's names */

/* ---- reading ---- */

static bool take(struct cotls_bytes *from, size_t n, struct cotls_bytes *out)
{
    if (from->len < n)
        return false;
    *out = (struct cotls_bytes){from->data, n};
    *from = (struct cotls_bytes){from->data + n, from->len - n};
    return true;
}

static bool take_number(struct cotls_bytes *from, size_t width, size_t *number)
{
    struct cotls_bytes digits;
    if (!take(from, width, &digits))
        return false;
    *number = 0;
    for (size_t i = 0; i < width; i++)
        *number = *number << 8 | digits.data[i];
    return true;
}

/* What comes behind its own length, which is that wide. */
static bool take_vector(struct cotls_bytes *from, size_t width, struct cotls_bytes *out)
{
    size_t n;
    return take_number(from, width, &n) && take(from, n, out);
}

unsigned cotls_hello_item(struct cotls_bytes list, size_t i)
{
    return (unsigned)list.data[2 * i] << 8 | list.data[2 * i + 1];
}

/* RFC 8701: numbers that mean nothing and keep servers from choking on new ones. */
bool cotls_is_grease(unsigned number)
{
    return (number & 0x0f0f) == 0x0a0a && number >> 8 == (number & 255);
}

bool cotls_hello_next(struct cotls_bytes *extensions, unsigned *type, struct cotls_bytes *body)
{
    size_t number;
    if (!take_number(extensions, 2, &number) || !take_vector(extensions, 2, body))
        return false;
    *type = (unsigned)number;
    return true;
}

/* The first one of that type. */
bool cotls_hello_extension(const struct cotls_hello *h, unsigned type, struct cotls_bytes *body)
{
    struct cotls_bytes rest = h->extensions;
    unsigned t;
    while (cotls_hello_next(&rest, &t, body))
        if (t == type)
            return true;
    return false;
}

/* An extension that is one list and nothing else: width is that of the list's length, size an item's. */
bool cotls_hello_list(const struct cotls_hello *h, unsigned type, size_t width, size_t size,
                      struct cotls_bytes *list)
{
    struct cotls_bytes body;
    *list = (struct cotls_bytes){NULL, 0};
    if (!cotls_hello_extension(h, type, &body) || !take_vector(&body, width, list) || body.len > 0 ||
        list->len % size != 0)
        *list = (struct cotls_bytes){NULL, 0};
    return list->len > 0;
}

/* RFC 7301 section 3.1: names, none of them empty, to the very end. */
static bool protocols(const struct cotls_hello *h, struct cotls_bytes *list)
{
    struct cotls_bytes rest, name;
    if (!cotls_hello_list(h, TLSEXT_TYPE_application_layer_protocol_negotiation, 2, 1, list))
        return false;
    for (rest = *list; rest.len > 0;)
        if (!take_vector(&rest, 1, &name) || name.len == 0)
            return false;
    return true;
}

bool cotls_hello_protocol(const struct cotls_hello *h, struct cotls_bytes *first)
{
    struct cotls_bytes list;
    return protocols(h, &list) && take_vector(&list, 1, first);
}

/* RFC 6066 section 3, as OpenSSL takes it: one host name, without NUL. */
static bool server_name(const struct cotls_hello *h, struct cotls_bytes *name)
{
    struct cotls_bytes list;
    size_t kind;
    return cotls_hello_list(h, TLSEXT_TYPE_server_name, 2, 1, &list) && take_number(&list, 1, &kind) &&
           kind == TLSEXT_NAMETYPE_host_name && take_vector(&list, 2, name) && list.len == 0 &&
           name->len > 0 && name->len <= TLSEXT_MAXLEN_host_name && memchr(name->data, 0, name->len) == NULL;
}

static bool extensions_fit(struct cotls_bytes rest)
{
    struct cotls_bytes body;
    unsigned type;
    while (rest.len > 0)
        if (!cotls_hello_next(&rest, &type, &body))
            return false;
    return true;
}

/* The message with its header. TLS 1.2 has it without extensions, too. */
static bool parse(struct cotls_bytes message, struct cotls_hello *h)
{
    struct cotls_bytes body, methods;
    size_t type, version;
    *h = (struct cotls_hello){0};
    if (!take_number(&message, 1, &type) || type != SSL3_MT_CLIENT_HELLO ||
        !take_vector(&message, 3, &body) || message.len > 0 || !take_number(&body, 2, &version) ||
        !take(&body, SSL3_RANDOM_SIZE, &h->random) || !take_vector(&body, 1, &h->session_id) ||
        h->session_id.len > SSL_MAX_SSL_SESSION_ID_LENGTH || !take_vector(&body, 2, &h->ciphers) ||
        !take_vector(&body, 1, &methods))
        return false;
    h->version = (unsigned)version;
    if (h->ciphers.len % 2 != 0)
        h->ciphers.len = 0;
    if (body.len == 0)
        return true;
    return take_vector(&body, 2, &h->extensions) && body.len == 0 && extensions_fit(h->extensions);
}

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

/* ---- the table, which is on top: [-0, +0] ---- */

static void set_bytes(lua_State *L, const char *name, struct cotls_bytes b)
{
    lua_pushlstring(L, b.len > 0 ? (const char *)b.data : "", b.len);
    lua_setfield(L, -2, name);
}

static void set_names(lua_State *L, const char *field, struct cotls_bytes list, SSL *ssl,
                      const char *(*name)(SSL *ssl, unsigned number))
{
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
    lua_setfield(L, -2, field);
}

/* From supported_versions, and where that is not sent the one that is the highest. */
static void set_versions(lua_State *L, const struct cotls_hello *h, SSL *ssl)
{
    struct cotls_bytes list, body;
    const unsigned char legacy[] = {(unsigned char)(h->version >> 8), (unsigned char)h->version};
    cotls_hello_list(h, TLSEXT_TYPE_supported_versions, 1, 2, &list);
    if (!cotls_hello_extension(h, TLSEXT_TYPE_supported_versions, &body))
        list = (struct cotls_bytes){legacy, sizeof legacy};
    set_names(L, "versions", list, ssl, name_version);
}

static void set_protocols(lua_State *L, const struct cotls_hello *h)
{
    struct cotls_bytes rest, name;
    lua_Integer count = 0;
    lua_newtable(L);
    if (protocols(h, &rest))
        while (take_vector(&rest, 1, &name)) {
            lua_pushlstring(L, (const char *)name.data, name.len);
            lua_rawseti(L, -2, ++count);
        }
    lua_setfield(L, -2, "alpn");
}

/* The types in their order, and by type the bytes: those of the first one, as with cotls_hello_extension. */
static void set_extensions(lua_State *L, const struct cotls_hello *h)
{
    struct cotls_bytes rest = h->extensions, body;
    lua_Integer count = 0;
    unsigned type;
    lua_newtable(L);
    lua_newtable(L);
    while (cotls_hello_next(&rest, &type, &body)) {
        lua_pushinteger(L, type);
        lua_rawseti(L, -2, ++count);
        bool first = lua_rawgeti(L, -2, type) == LUA_TNIL;
        lua_pop(L, 1);
        if (!first)
            continue;
        lua_pushlstring(L, (const char *)body.data, body.len);
        lua_rawseti(L, -3, type);
    }
    lua_setfield(L, -3, "extension_types");
    lua_setfield(L, -2, "extensions");
}

/* [-0, +1] */
static void push_table(lua_State *L, const struct cotls_hello *h, SSL *ssl)
{
    struct cotls_bytes name, list;
    luaL_checkstack(L, 12, NULL);
    lua_createtable(L, 0, 15);
    lua_pushinteger(L, h->version);
    lua_setfield(L, -2, "legacy_version");
    set_bytes(L, "random", h->random);
    set_bytes(L, "session_id", h->session_id);
    if (server_name(h, &name))
        set_bytes(L, "server_name", name);
    set_protocols(L, h);
    set_versions(L, h, ssl);
    set_names(L, "ciphers", h->ciphers, ssl, name_cipher);
    cotls_hello_list(h, TLSEXT_TYPE_supported_groups, 2, 2, &list);
    set_names(L, "groups", list, ssl, name_group);
    cotls_hello_list(h, TLSEXT_TYPE_signature_algorithms, 2, 2, &list);
    set_names(L, "signature_algorithms", list, ssl, name_scheme);
    set_extensions(L, h);
    cotls_set_fingerprints(L, h);
}

/* ---- from a connection ---- */

/* The message, whole: before OpenSSL reads it. Without memory for it the hook can't be asked. */
void cotls_hello_keep(struct cotls_conn *c, const void *message, size_t n)
{
    struct cotls_asks *a = c->asks;
    free(a->hello);
    a->hello = malloc(n);
    a->hello_len = n;
    if (a->hello != NULL)
        memcpy(a->hello, message, n);
}

/* A ClientHello in the form of SSL 2.0, which OpenSSL still takes (RFC 5246 appendix E.2): ciphers of three bytes,
 * those of TLS begin with a zero. [-0, +1] */
static void push_old(lua_State *L, SSL *ssl)
{
    struct cotls_hello h = {.version = SSL_client_hello_get0_legacy_version(ssl)};
    const unsigned char *p;
    h.random.len = SSL_client_hello_get0_random(ssl, &h.random.data);
    h.session_id.len = SSL_client_hello_get0_session_id(ssl, &h.session_id.data);
    size_t n = SSL_client_hello_get0_ciphers(ssl, &p);
    unsigned char *ciphers = lua_newuserdatauv(L, n + 1, 0);
    h.ciphers.data = ciphers;
    for (size_t i = 0; i + 3 <= n; i += 3)
        if (p[i] == 0) {
            memcpy(ciphers + h.ciphers.len, p + i + 1, 2);
            h.ciphers.len += 2;
        }
    push_table(L, &h, ssl);
    lua_remove(L, -2);
}

/* While OpenSSL is suspended in client_hello. What was kept is given up. [-0, +1] */
void cotls_push_hello(lua_State *L, struct cotls_conn *c)
{
    struct cotls_asks *a = c->asks;
    struct cotls_hello h;
    if (SSL_client_hello_isv2(c->ssl))
        push_old(L, c->ssl);
    else if (a->hello != NULL && parse((struct cotls_bytes){a->hello, a->hello_len}, &h))
        push_table(L, &h, c->ssl);
    else
        luaL_error(L, "no memory for the ClientHello");
    free(a->hello);
    a->hello = NULL;
}

/* ---- from bytes ---- */

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

/* Where a message stands: it is all there, more has to come, or it is no ClientHello. */
enum state { WHOLE, SHORT, OTHER };

/* The message that begins here; what follows it is left out. */
static enum state measure(struct cotls_bytes *message)
{
    struct cotls_bytes rest = *message;
    size_t type, n;
    if (!take_number(&rest, 1, &type))
        return SHORT;
    if (type != SSL3_MT_CLIENT_HELLO)
        return OTHER;
    if (!take_number(&rest, 3, &n))
        return SHORT;
    if (n > MAX_MESSAGE)
        return OTHER;
    if (rest.len < n)
        return SHORT;
    message->len = HEADER + n;
    return WHOLE;
}

/* The message in records (RFC 8446 section 5.1): their contents are put together in `room`, as long as `from`. */
static enum state unwrap(struct cotls_bytes from, unsigned char *room, struct cotls_bytes *message)
{
    *message = (struct cotls_bytes){room, 0};
    for (;;) {
        struct cotls_bytes gathered = *message, content;
        size_t type, version, n;
        enum state state = measure(&gathered);
        if (state != SHORT) {
            *message = gathered;
            return state;
        }
        if (!take_number(&from, 1, &type))
            return SHORT;
        if (type != SSL3_RT_HANDSHAKE)
            return OTHER;
        if (!take_number(&from, 1, &version))
            return SHORT;
        if (version != SSL3_VERSION_MAJOR)
            return OTHER;
        if (from.len < RECORD_HEADER - 2)
            return SHORT;
        take_number(&from, 1, &version);
        take_number(&from, 2, &n);
        if (n == 0 || n > COTLS_RECORD)
            return OTHER;
        bool all = take(&from, n, &content);
        if (!all)
            take(&from, from.len, &content);
        memcpy(room + message->len, content.data, content.len);
        message->len += content.len;
        if (!all && measure(&(struct cotls_bytes){room, message->len}) == SHORT)
            return SHORT;
    }
}

/* No extension may come twice (RFC 8446 section 4.2): who reads the first and who reads the last would differ.
 * The table is on top. */
static bool repeats(lua_State *L)
{
    lua_Integer different = 0;
    lua_getfield(L, -1, "extension_types");
    lua_Integer count = luaL_len(L, -1);
    lua_getfield(L, -2, "extensions");
    for (lua_pushnil(L); lua_next(L, -2) != 0; lua_pop(L, 1))
        different++;
    lua_pop(L, 2);
    return different != count;
}

/* core.parse_client_hello(bytes) → table, or nil, err */
int cotls_parse_client_hello(lua_State *L)
{
    struct cotls_hello h;
    struct cotls_bytes bytes;
    enum state state;
    bytes.data = (const unsigned char *)luaL_checklstring(L, 1, &bytes.len);
    lua_settop(L, 1);
    if (bytes.len > 0 && bytes.data[0] == SSL3_RT_HANDSHAKE)
        state = unwrap(bytes, lua_newuserdatauv(L, bytes.len, 0), &bytes);
    else
        state = measure(&bytes);
    if (state == SHORT)
        return cotls_fail(L, "want_read", "parse_client_hello", "the ClientHello goes on");
    if (state == OTHER)
        return cotls_fail(L, "tls", "parse_client_hello", "not a ClientHello");
    if (!parse(bytes, &h))
        return cotls_fail(L, "tls", "parse_client_hello", "the ClientHello is malformed");
    push_table(L, &h, names_ssl(L));
    if (repeats(L))
        return cotls_fail(L, "tls", "parse_client_hello", "the ClientHello has an extension twice");
    return 1;
}
