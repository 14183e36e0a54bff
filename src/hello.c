/* SPDX-License-Identifier: MIT
 * Reads a ClientHello (RFC 8446 section 4.1.2), for on_client_hello and for those
 * who have its bytes only. All of it is the peer's: each length is checked against
 * what is there. A list that is malformed comes out empty. OpenSSL's own functions
 * would tell of known extensions only, which is no fingerprint: a connection keeps
 * the message. hello_table.c makes the Lua table. */
#include "cotls.h"

#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>

#define HEADER 4           /* of a handshake message: type, length in three bytes */
#define MAX_MESSAGE 131396 /* OpenSSL takes no longer ClientHello either, without the header */
#define RECORD_HEADER 5

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

/* Its bytes; none where it is not there. */
static struct cotls_bytes body_of(const struct cotls_hello *h, unsigned type)
{
    struct cotls_bytes body;
    return cotls_hello_extension(h, type, &body) ? body : (struct cotls_bytes){NULL, 0};
}

/* An extension that is one list and nothing else: width is that of the list's length, size an item's. */
static bool list_in(struct cotls_bytes body, size_t width, size_t size, struct cotls_bytes *list)
{
    *list = (struct cotls_bytes){NULL, 0};
    if (!take_vector(&body, width, list) || body.len > 0 || list->len % size != 0)
        *list = (struct cotls_bytes){NULL, 0};
    return list->len > 0;
}

bool cotls_hello_list(const struct cotls_hello *h, unsigned type, size_t width, size_t size,
                      struct cotls_bytes *list)
{
    return list_in(body_of(h, type), width, size, list);
}

/* RFC 7301 section 3.1: names, none of them empty, to the very end. */
bool cotls_protocols_in(struct cotls_bytes body, struct cotls_bytes *list)
{
    struct cotls_bytes rest, name;
    if (!list_in(body, 2, 1, list))
        return false;
    for (rest = *list; rest.len > 0;)
        if (!take_vector(&rest, 1, &name) || name.len == 0)
            return false;
    return true;
}

bool cotls_hello_protocols(const struct cotls_hello *h, struct cotls_bytes *list)
{
    return cotls_protocols_in(body_of(h, TLSEXT_TYPE_application_layer_protocol_negotiation), list);
}

bool cotls_hello_next_protocol(struct cotls_bytes *list, struct cotls_bytes *name)
{
    return take_vector(list, 1, name);
}

/* RFC 6066 section 3, as OpenSSL takes it: one host name, without NUL. */
bool cotls_server_name_in(struct cotls_bytes body, struct cotls_bytes *name)
{
    struct cotls_bytes list;
    size_t kind;
    return list_in(body, 2, 1, &list) && take_number(&list, 1, &kind) && kind == TLSEXT_NAMETYPE_host_name &&
           take_vector(&list, 2, name) && list.len == 0 && name->len > 0 &&
           name->len <= TLSEXT_MAXLEN_host_name && memchr(name->data, 0, name->len) == NULL;
}

bool cotls_hello_server_name(const struct cotls_hello *h, struct cotls_bytes *name)
{
    return cotls_server_name_in(body_of(h, TLSEXT_TYPE_server_name), name);
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
bool cotls_hello_parse(struct cotls_bytes message, struct cotls_hello *h)
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
    cotls_push_hello_fields(L, &h);
    lua_remove(L, -2);
}

/* While OpenSSL is suspended in client_hello. What was kept is given up. [-0, +1] */
void cotls_push_hello(lua_State *L, struct cotls_conn *c)
{
    struct cotls_asks *a = c->asks;
    struct cotls_hello h;
    if (SSL_client_hello_isv2(c->ssl))
        push_old(L, c->ssl);
    else if (a->hello != NULL && cotls_hello_parse((struct cotls_bytes){a->hello, a->hello_len}, &h)) {
        lua_pushlstring(L, (const char *)a->hello, a->hello_len);
        cotls_push_hello_table(L);
    } else
        luaL_error(L, "no memory for the ClientHello");
    free(a->hello);
    a->hello = NULL;
}

/* ---- from bytes ---- */

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

/* No extension may come twice (RFC 8446 section 4.2): who reads the first and who reads the last would differ. */
static bool repeats(const struct cotls_hello *h)
{
    unsigned char seen[65536 / 8] = {0};
    struct cotls_bytes rest = h->extensions, body;
    unsigned type;
    while (cotls_hello_next(&rest, &type, &body)) {
        if (seen[type / 8] & 1U << type % 8)
            return true;
        seen[type / 8] |= (unsigned char)(1U << type % 8);
    }
    return false;
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
    if (!cotls_hello_parse(bytes, &h))
        return cotls_fail(L, "tls", "parse_client_hello", "the ClientHello is malformed");
    if (repeats(&h))
        return cotls_fail(L, "tls", "parse_client_hello", "the ClientHello has an extension twice");
    cotls_push_hello_fields(L, &h);
    return 1;
}
