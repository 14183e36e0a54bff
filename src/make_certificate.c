/* SPDX-License-Identifier: MIT
 * make_certificate: keys and certificates made in the process, for development
 * and tests. First the wish is read from Lua and checked; then issue.c works
 * with no Lua in between, so that nothing is held when Lua raises; the result is
 * pushed under lua_pcall, because even a string can fail for lack of memory. */
#include "cotls.h"

#include <limits.h>
#include <math.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

#define MAX_DAYS 1e7 /* what an int holds; OpenSSL's own limit, the year 9999, is lower */
#define MAX_SECONDS (MAX_DAYS * 86400.0)
#define MAX_PATH 255  /* a path_length beyond any chain's */
#define MIN_BITS 512  /* OpenSSL's own limit */
#define MAX_BITS 8192 /* more take minutes */

/* ---- reading the wish: [-0, +any] the value is on top; false: refused, the reason is pushed ---- */

static bool refuse(lua_State *L, const char *reason)
{
    lua_pushstring(L, reason);
    return false;
}

static bool read_subject(lua_State *L, struct cotls_wish *w)
{
    w->subject = lua_tolstring(L, -1, &w->subject_len);
    return true;
}

static bool is_address(const char *name)
{
    ASN1_OCTET_STRING *ip = a2i_IPADDRESS(name);
    ASN1_OCTET_STRING_free(ip);
    return ip != NULL;
}

/* A DNS name; "*" and "_" are let through, tests need certificates of every kind. */
static bool is_dns_name(const char *name, size_t n)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_*";
    const char *label = name;
    for (;;) {
        size_t span = strspn(label, letters);
        if (span == 0 || span > 63)
            return false;
        label += span;
        if (*label == '\0')
            return (size_t)(label - name) == n && n <= 253;
        if (*label++ != '.')
            return false;
    }
}

static bool is_name(const char *name, size_t n)
{
    bool numeric = strchr(name, ':') != NULL || strspn(name, "0123456789.") == n;
    return strlen(name) == n && (numeric ? is_address(name) : is_dns_name(name, n));
}

/* A list of strings that `check` lets through; `what` they are. They stay on the
 * stack: what runs in between may change the table. */
static bool read_list(lua_State *L, struct cotls_list *list, bool (*check)(const char *, size_t),
                      const char *what)
{
    int table = lua_gettop(L);
    size_t count = lua_rawlen(L, table);
    struct cotls_text *items = lua_newuserdatauv(L, (count + 1) * sizeof *items, 0);
    luaL_checkstack(L, (int)(count < INT_MAX - 64 ? count + 64 : INT_MAX), "too many values");
    for (size_t i = 0; i < count; i++) {
        if (lua_rawgeti(L, table, (lua_Integer)i + 1) != LUA_TSTRING)
            luaL_argerror(L, 1, lua_pushfstring(L, "a list's value %d must be a string", (int)i + 1));
        items[i].data = lua_tolstring(L, -1, &items[i].len);
        if (!check(items[i].data, items[i].len)) {
            lua_pushfstring(L, "'%s' is %s", items[i].data, what);
            return false;
        }
    }
    *list = (struct cotls_list){items, count};
    return true;
}

static bool read_names(lua_State *L, struct cotls_wish *w)
{
    return read_list(L, &w->names, is_name, "neither a DNS name nor an IP address");
}

/* Printable ASCII without spaces: an IA5String takes no other, RFC 5280 section 4.2.1.6. */
static bool is_url(const char *url, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (url[i] <= ' ' || url[i] > '~')
            return false;
    return n > 0;
}

static bool read_ocsp_urls(lua_State *L, struct cotls_wish *w)
{
    return read_list(L, &w->ocsp_urls, is_url, "no URL");
}

static bool read_ca_issuer_urls(lua_State *L, struct cotls_wish *w)
{
    return read_list(L, &w->ca_issuer_urls, is_url, "no URL");
}

static const struct {
    const char *name, *value;
} purposes[] = {
    {"server", "serverAuth"},       {"client", "clientAuth"}, {"code", "codeSigning"},
    {"email", "emailProtection"},   {"time", "timeStamping"}, {"ocsp", "OCSPSigning"},
    {"any", "anyExtendedKeyUsage"},
};

static const char *purpose_value(const char *name, size_t n)
{
    for (size_t i = 0; i < sizeof purposes / sizeof *purposes; i++)
        if (strlen(purposes[i].name) == n && memcmp(purposes[i].name, name, n) == 0)
            return purposes[i].value;
    return NULL;
}

static bool is_purpose(const char *name, size_t n)
{
    return purpose_value(name, n) != NULL;
}

static bool read_purposes(lua_State *L, struct cotls_wish *w)
{
    struct cotls_list list;
    if (!read_list(L, &list, is_purpose, "none of server, client, code, email, time, ocsp, any"))
        return false;
    size_t n = 0;
    for (size_t i = 0; i < list.count && n < sizeof w->purposes; i++)
        n += (size_t)snprintf(w->purposes + n, sizeof w->purposes - n, "%s%s", i > 0 ? "," : "",
                              purpose_value(list.items[i].data, list.items[i].len));
    w->has_purposes = true;
    return n < sizeof w->purposes || refuse(L, "are too many");
}

/* Not a number is refused, too: it compares false. */
static bool read_days(lua_State *L, struct cotls_wish *w)
{
    w->days = lua_tonumber(L, -1);
    return (w->days != 0 && fabs(w->days) <= MAX_DAYS) ||
           refuse(L, "must not be 0, nor reach beyond the year 9999");
}

/* Seconds since 1970. */
static bool read_moment(lua_State *L, double *moment)
{
    *moment = floor(lua_tonumber(L, -1));
    return fabs(*moment) <= MAX_SECONDS || refuse(L, "must not reach beyond the year 9999");
}

static bool read_not_before(lua_State *L, struct cotls_wish *w)
{
    return read_moment(L, &w->not_before);
}

static bool read_not_after(lua_State *L, struct cotls_wish *w)
{
    return read_moment(L, &w->not_after);
}

static EVP_PKEY *generate_ec(unsigned bits)
{
    (void)bits;
    return EVP_EC_gen("P-256");
}

static EVP_PKEY *generate_rsa(unsigned bits)
{
    return EVP_RSA_gen(bits > 0 ? bits : 2048);
}

static EVP_PKEY *generate_ed25519(unsigned bits)
{
    (void)bits;
    return EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
}

static const struct cotls_key_type key_types[] = {
    {"ec", generate_ec},
    {"rsa", generate_rsa},
    {"ed25519", generate_ed25519},
};

static bool read_key_type(lua_State *L, struct cotls_wish *w)
{
    const char *name = lua_tostring(L, -1);
    for (size_t i = 0; i < sizeof key_types / sizeof *key_types; i++)
        if (strcmp(name, key_types[i].name) == 0) {
            w->key_type = &key_types[i];
            return true;
        }
    return refuse(L, "must be \"ec\", \"rsa\" or \"ed25519\"");
}

static bool read_bits(lua_State *L, struct cotls_wish *w)
{
    lua_Number bits = lua_tonumber(L, -1);
    if (!(bits >= MIN_BITS && bits <= MAX_BITS))
        return refuse(L, "must be 512 to 8192");
    w->bits = (unsigned)bits;
    return true;
}

static bool read_digest(lua_State *L, struct cotls_wish *w)
{
    w->digest = lua_tostring(L, -1);
    return EVP_get_digestbyname(w->digest) != NULL || refuse(L, "unknown digest");
}

static bool read_path_length(lua_State *L, struct cotls_wish *w)
{
    lua_Number length = lua_tonumber(L, -1);
    if (!(length >= 0 && length <= MAX_PATH))
        return refuse(L, "must be 0 to 255");
    w->path_length = (int)length;
    return true;
}

static bool read_must_staple(lua_State *L, struct cotls_wish *w)
{
    w->must_staple = lua_toboolean(L, -1);
    return true;
}

static struct cotls_text ca_field(lua_State *L, int ca, const char *name)
{
    struct cotls_text t;
    if (lua_getfield(L, ca, name) != LUA_TSTRING)
        luaL_argerror(L, 1,
                      lua_pushfstring(L, "ca must be what make_certificate returned: it has no %s", name));
    t.data = lua_tolstring(L, -1, &t.len);
    return t;
}

static bool read_ca(lua_State *L, struct cotls_wish *w)
{
    int ca = lua_gettop(L);
    w->ca_certificate = ca_field(L, ca, "certificate");
    w->ca_key = ca_field(L, ca, "key");
    return true;
}

static bool read_is_ca(lua_State *L, struct cotls_wish *w)
{
    w->is_ca = lua_toboolean(L, -1);
    return true;
}

static const struct option {
    const char *name;
    int type;
    bool (*read)(lua_State *L, struct cotls_wish *w);
} options[] = {
    {"subject", LUA_TSTRING, read_subject},
    {"names", LUA_TTABLE, read_names},
    {"days", LUA_TNUMBER, read_days},
    {"not_before", LUA_TNUMBER, read_not_before},
    {"not_after", LUA_TNUMBER, read_not_after},
    {"key_type", LUA_TSTRING, read_key_type},
    {"bits", LUA_TNUMBER, read_bits},
    {"digest", LUA_TSTRING, read_digest},
    {"ca", LUA_TTABLE, read_ca},
    {"is_ca", LUA_TBOOLEAN, read_is_ca},
    {"path_length", LUA_TNUMBER, read_path_length},
    {"purposes", LUA_TTABLE, read_purposes},
    {"must_staple", LUA_TBOOLEAN, read_must_staple},
    {"ocsp_urls", LUA_TTABLE, read_ocsp_urls},
    {"ca_issuer_urls", LUA_TTABLE, read_ca_issuer_urls},
};
#define OPTIONS (sizeof options / sizeof *options)

/* What does not go together: NULL, or the name of the option that is refused, with the reason pushed. */
static const char *contradiction(lua_State *L, const struct cotls_wish *w)
{
    bool moments = !isnan(w->not_before) || !isnan(w->not_after);
    const struct {
        bool wrong;
        const char *option, *reason;
    } rules[] = {
        {moments && w->days != 0, "days", "is for a certificate without not_before and not_after"},
        {w->not_after < w->not_before, "not_after", "lies before not_before"},
        {w->bits > 0 && strcmp(w->key_type->name, "rsa") != 0, "bits", "is for RSA keys"},
        {w->path_length >= 0 && !w->is_ca, "path_length", "is for CAs"},
    };
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if (rules[i].wrong) {
            lua_pushstring(L, rules[i].reason);
            return rules[i].option;
        }
    return NULL;
}

/* The values stay on the stack, for the wish points into them. NULL, or the name
 * of the option that is refused, with the reason pushed. */
static const char *read_wish(lua_State *L, struct cotls_wish *w)
{
    for (size_t i = 0; i < OPTIONS; i++) {
        int type = lua_getfield(L, 1, options[i].name);
        if (type == LUA_TNIL)
            continue;
        if (type != options[i].type)
            luaL_argerror(L, 1,
                          lua_pushfstring(L, "%s must be a %s, not a %s", options[i].name,
                                          lua_typename(L, options[i].type), luaL_typename(L, -1)));
        if (!options[i].read(L, w))
            return options[i].name;
    }
    return contradiction(L, w);
}

/* ---- the result ---- */

/* The BIO's contents as a field of the table on top. [-0, +0] */
static void set_pem(lua_State *L, const char *key, BIO *bio)
{
    char *data;
    long n = BIO_get_mem_data(bio, &data);
    lua_pushlstring(L, data, (size_t)n);
    lua_setfield(L, -2, key);
}

static int push_result(lua_State *L)
{
    const struct cotls_issue *k = lua_touserdata(L, 1);
    lua_createtable(L, 0, 2);
    set_pem(L, "certificate", k->certificate_pem);
    set_pem(L, "key", k->key_pem);
    return 1;
}

/* make_certificate{ … } → { certificate = pem, key = pem }, or nil, err */
int cotls_make_certificate(lua_State *L)
{
    struct cotls_wish w = {.key_type = key_types, .not_before = NAN, .not_after = NAN, .path_length = -1};
    struct cotls_issue k = {0};
    lua_settop(L, 1);
    luaL_checktype(L, 1, LUA_TTABLE);
    const char *option = read_wish(L, &w);
    ERR_clear_error(); /* of names that could not be read */
    if (option != NULL)
        return cotls_fail_config(L, option);
    luaL_checkstack(L, 4, NULL);
    bool ok = cotls_issue(&w, &k);
    int status = LUA_OK;
    if (ok) {
        lua_pushcfunction(L, push_result);
        lua_pushlightuserdata(L, &k);
        status = lua_pcall(L, 1, 1, 0);
    }
    cotls_issue_free(&k);
    if (status != LUA_OK)
        return lua_error(L);
    if (!ok && k.reason != NULL)
        lua_pushstring(L, k.reason);
    else if (!ok)
        cotls_push_queue_reason(L);
    ERR_clear_error();
    return ok ? 1 : cotls_fail_config(L, k.option);
}
