/* SPDX-License-Identifier: MIT
 * What a ClientHello says of the program that sent it, by two published
 * definitions: JA3 (github.com/salesforce/ja3, README) and JA4
 * (github.com/FoxIO-LLC/ja4, technical_details/JA4.md). Both leave GREASE out. */
#include "cotls.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#define JA4_HASH 12 /* digits that are left of one */

static const char digits[] = "0123456789abcdef";

/* ---- text ---- */

static void add_decimal(luaL_Buffer *b, unsigned number)
{
    char text[10];
    size_t at = sizeof text;
    do
        text[--at] = digits[number % 10];
    while ((number /= 10) > 0);
    luaL_addlstring(b, text + at, sizeof text - at);
}

static void add_hex(luaL_Buffer *b, unsigned number)
{
    for (int shift = 12; shift >= 0; shift -= 4)
        luaL_addchar(b, digits[number >> shift & 15]);
}

static void add_all(luaL_Buffer *b, const uint16_t *list, size_t n, char between,
                    void (*add)(luaL_Buffer *b, unsigned number))
{
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            luaL_addchar(b, between);
        add(b, list[i]);
    }
}

/* The digest of the string on top, of which so many digits. [-1, +1] nil where OpenSSL has no such digest */
static void hash(lua_State *L, const EVP_MD *md, size_t length)
{
    unsigned char raw[EVP_MAX_MD_SIZE];
    char text[2 * EVP_MAX_MD_SIZE];
    unsigned size;
    size_t n;
    const char *data = lua_tolstring(L, -1, &n);
    ERR_set_mark();
    bool ok = EVP_Digest(data, n, raw, &size, md, NULL) == 1;
    ERR_pop_to_mark();
    for (size_t i = 0; ok && i < length; i++)
        text[i] = digits[i % 2 == 0 ? raw[i / 2] >> 4 : raw[i / 2] & 15];
    if (ok)
        lua_pushlstring(L, text, length);
    else
        lua_pushnil(L);
    lua_replace(L, -2);
}

/* ---- lists without GREASE ---- */

struct lists {
    uint16_t *ciphers, *extensions, *groups, *schemes;
    size_t cipher_count, extension_count, group_count, scheme_count;
    struct cotls_bytes formats;
    unsigned version; /* the highest in supported_versions, 0: nothing in there */
};

static size_t keep(uint16_t *to, size_t count, unsigned number)
{
    if (cotls_is_grease(number))
        return count;
    to[count] = (uint16_t)number;
    return count + 1;
}

static size_t keep_list(uint16_t *to, struct cotls_bytes list)
{
    size_t count = 0;
    for (size_t i = 0; i < list.len / 2; i++)
        count = keep(to, count, cotls_hello_item(list, i));
    return count;
}

static unsigned highest(const struct cotls_hello *h)
{
    struct cotls_bytes list;
    unsigned found = 0;
    if (!cotls_hello_extension(h, TLSEXT_TYPE_supported_versions, &list))
        return h->version;
    cotls_hello_list(h, TLSEXT_TYPE_supported_versions, 1, 2, &list);
    for (size_t i = 0; i < list.len / 2; i++) {
        unsigned version = cotls_hello_item(list, i);
        if (!cotls_is_grease(version) && version > found)
            found = version;
    }
    return found;
}

/* The lists lie in a userdata, one after the other: no one is longer than its bytes. [-0, +1] */
static void push_lists(lua_State *L, const struct cotls_hello *h, struct lists *l)
{
    struct cotls_bytes list, rest = h->extensions;
    unsigned type;
    uint16_t *room = lua_newuserdatauv(L, h->ciphers.len + h->extensions.len + 1, 0);
    *l = (struct lists){.ciphers = room, .version = highest(h)};
    l->cipher_count = keep_list(l->ciphers, h->ciphers);
    l->extensions = l->ciphers + l->cipher_count;
    while (cotls_hello_next(&rest, &type, &list))
        l->extension_count = keep(l->extensions, l->extension_count, type);
    l->groups = l->extensions + l->extension_count;
    cotls_hello_list(h, TLSEXT_TYPE_supported_groups, 2, 2, &list);
    l->group_count = keep_list(l->groups, list);
    l->schemes = l->groups + l->group_count;
    cotls_hello_list(h, TLSEXT_TYPE_signature_algorithms, 2, 2, &list);
    l->scheme_count = keep_list(l->schemes, list);
    cotls_hello_list(h, TLSEXT_TYPE_ec_point_formats, 1, 1, &l->formats);
}

/* ---- JA3 ---- */

/* Version, ciphers, extensions, groups, point formats: in their order, decimal. [-0, +1] */
void cotls_push_ja3_text(lua_State *L, const struct cotls_hello *h)
{
    struct lists lists, *l = &lists;
    luaL_Buffer b;
    push_lists(L, h, l);
    luaL_buffinit(L, &b);
    add_decimal(&b, h->version);
    luaL_addchar(&b, ',');
    add_all(&b, l->ciphers, l->cipher_count, '-', add_decimal);
    luaL_addchar(&b, ',');
    add_all(&b, l->extensions, l->extension_count, '-', add_decimal);
    luaL_addchar(&b, ',');
    add_all(&b, l->groups, l->group_count, '-', add_decimal);
    luaL_addchar(&b, ',');
    for (size_t i = 0; i < l->formats.len; i++) {
        if (i > 0)
            luaL_addchar(&b, '-');
        add_decimal(&b, l->formats.data[i]);
    }
    luaL_pushresult(&b);
    lua_remove(L, -2);
}

/* nil where OpenSSL has no MD5. [-0, +1] */
void cotls_push_ja3(lua_State *L, const struct cotls_hello *h)
{
    cotls_push_ja3_text(L, h);
    hash(L, EVP_md5(), 2 * 16);
}

/* ---- JA4 ---- */

static const char *ja4_version(unsigned version)
{
    switch (version) {
    case TLS1_3_VERSION:
        return "13";
    case TLS1_2_VERSION:
        return "12";
    case TLS1_1_VERSION:
        return "11";
    case TLS1_VERSION:
        return "10";
    case SSL3_VERSION:
        return "s3";
    case SSL2_VERSION:
        return "s2";
    default:
        return "00";
    }
}

static bool is_alphanumeric(unsigned char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

/* First and last character of the first protocol's name, or of its hexadecimal form. */
static void add_protocol(luaL_Buffer *b, const struct cotls_hello *h)
{
    struct cotls_bytes list, name;
    if (!cotls_hello_protocols(h, &list) || !cotls_hello_next_protocol(&list, &name)) {
        luaL_addstring(b, "00");
        return;
    }
    unsigned char first = name.data[0], last = name.data[name.len - 1];
    bool plain = is_alphanumeric(first) && is_alphanumeric(last);
    luaL_addchar(b, plain ? (char)first : digits[first >> 4]);
    luaL_addchar(b, plain ? (char)last : digits[last & 15]);
}

static void add_count(luaL_Buffer *b, size_t count)
{
    size_t shown = count > 99 ? 99 : count;
    luaL_addchar(b, digits[shown / 10]);
    luaL_addchar(b, digits[shown % 10]);
}

/* [-0, +1] */
static void push_ja4_a(lua_State *L, const struct cotls_hello *h, const struct lists *l)
{
    struct cotls_bytes body;
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    luaL_addchar(&b, 't');
    luaL_addstring(&b, ja4_version(l->version));
    luaL_addchar(&b, cotls_hello_extension(h, TLSEXT_TYPE_server_name, &body) ? 'd' : 'i');
    add_count(&b, l->cipher_count);
    add_count(&b, l->extension_count);
    add_protocol(&b, h);
    luaL_pushresult(&b);
}

static int by_number(const void *a, const void *b)
{
    return *(const uint16_t *)a - *(const uint16_t *)b;
}

/* A digest of the list, sorted, and of what follows it in its own order; zeros where the list is empty. [-0, +1] */
static void push_ja4_hash(lua_State *L, uint16_t *list, size_t n, const uint16_t *more, size_t count)
{
    luaL_Buffer b;
    if (n == 0) {
        lua_pushliteral(L, "000000000000");
        return;
    }
    qsort(list, n, sizeof *list, by_number);
    luaL_buffinit(L, &b);
    add_all(&b, list, n, ',', add_hex);
    if (count > 0)
        luaL_addchar(&b, '_');
    add_all(&b, more, count, ',', add_hex);
    luaL_pushresult(&b);
    hash(L, EVP_sha256(), JA4_HASH);
}

/* Without those that the first part tells of already. */
static size_t without_names(uint16_t *list, size_t n)
{
    size_t kept = 0;
    for (size_t i = 0; i < n; i++)
        if (list[i] != TLSEXT_TYPE_server_name &&
            list[i] != TLSEXT_TYPE_application_layer_protocol_negotiation)
            list[kept++] = list[i];
    return kept;
}

/* [-0, +1] */
void cotls_push_ja4(lua_State *L, const struct cotls_hello *h)
{
    struct lists lists, *l = &lists;
    push_lists(L, h, l); /* they are sorted then */
    push_ja4_a(L, h, l);
    lua_pushliteral(L, "_");
    push_ja4_hash(L, l->ciphers, l->cipher_count, NULL, 0);
    lua_pushliteral(L, "_");
    push_ja4_hash(L, l->extensions, without_names(l->extensions, l->extension_count), l->schemes,
                  l->scheme_count);
    lua_concat(L, 5);
    lua_remove(L, -2);
}
