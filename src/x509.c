/* SPDX-License-Identifier: MIT
 * Certificates as Lua sees them: a userdata with its own reference to an X509,
 * which never changes. What a method makes lies in Lua's memory from the start,
 * or is pushed under lua_pcall, so that nothing of OpenSSL's is lost when Lua raises. */
#include "cotls.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <string.h>

/* Pushes an empty one; the collector takes it as it is. [-0, +1] */
static X509 **push_empty(lua_State *L)
{
    X509 **slot = lua_newuserdatauv(L, sizeof *slot, 0);
    *slot = NULL;
    luaL_setmetatable(L, COTLS_X509);
    return slot;
}

void cotls_push_x509(lua_State *L, X509 *cert)
{
    if (cert == NULL) {
        lua_pushnil(L);
        return;
    }
    X509 **slot = push_empty(L);
    if (X509_up_ref(cert))
        *slot = cert;
}

X509 *cotls_test_x509(lua_State *L, int index)
{
    X509 **slot = luaL_testudata(L, index, COTLS_X509);
    return slot != NULL ? *slot : NULL;
}

X509 *cotls_check_x509(lua_State *L)
{
    X509 **slot = luaL_checkudata(L, 1, COTLS_X509);
    luaL_argcheck(L, *slot != NULL, 1, "the certificate is not usable");
    return *slot;
}

/* ---- reading ---- */

/* The first certificate of PEM text or DER; NULL: OpenSSL's queue tells why. One with trust settings
 * (openssl-x509(1), -trustout) would lose them, and with them what it is not trusted for. */
static X509 *parse(const char *data, size_t n)
{
    BIO *bio = n < INT32_MAX ? BIO_new_mem_buf(data, (int)n) : NULL;
    X509 *cert = NULL;
    if (bio != NULL && strstr(data, "-----BEGIN") != NULL)
        cert = PEM_read_bio_X509(bio, NULL, cotls_hook_password, NULL);
    else if (bio != NULL)
        cert = d2i_X509_bio(bio, NULL);
    BIO_free(bio);
    return cert;
}

/* Pushes why there is none in the file of that name. [-0, +1] */
static void push_fault(lua_State *L, const char *name, const char *data)
{
    unsigned long last = ERR_peek_last_error();
    bool none = ERR_GET_LIB(last) == ERR_LIB_PEM && ERR_GET_REASON(last) == PEM_R_NO_START_LINE;
    if (none || (data[0] != 0x30 && strstr(data, "-----BEGIN") == NULL)) {
        ERR_clear_error();
        lua_pushfstring(L, "%s: no certificate in it", name);
        return;
    }
    cotls_push_queue_reason(L);
    lua_pushfstring(L, "%s: %s", name, lua_tostring(L, -1));
    lua_remove(L, -2);
}

/* core.x509(name, data) → certificate, or nil, err */
int cotls_x509(lua_State *L)
{
    size_t n;
    const char *name = luaL_checkstring(L, 1), *data = luaL_checklstring(L, 2, &n);
    X509 **slot = push_empty(L);
    ERR_clear_error();
    *slot = parse(data, n);
    if (*slot != NULL) {
        ERR_clear_error();
        return 1;
    }
    push_fault(L, name, data);
    return cotls_fail_config(L, "x509");
}

/* ---- writing ---- */

/* DER, in memory of Lua's. [-0, +1] */
static unsigned char *push_der_memory(lua_State *L, const X509 *cert, size_t *size)
{
    int n = i2d_X509(cert, NULL);
    if (n <= 0) {
        ERR_clear_error();
        luaL_error(L, "OpenSSL can't encode the certificate");
    }
    unsigned char *der = lua_newuserdatauv(L, (size_t)n, 0), *end = der;
    i2d_X509(cert, &end);
    *size = (size_t)n;
    return der;
}

/* x:der() → bytes */
static int x509_der(lua_State *L)
{
    size_t n;
    const unsigned char *der = push_der_memory(L, cotls_check_x509(L), &n);
    lua_pushlstring(L, (const char *)der, n);
    return 1;
}

/* x:pem() → text, RFC 7468 */
static int x509_pem(lua_State *L)
{
    luaL_Buffer b;
    unsigned char line[65];
    size_t n;
    const unsigned char *der = push_der_memory(L, cotls_check_x509(L), &n);
    luaL_buffinit(L, &b);
    luaL_addstring(&b, "-----BEGIN CERTIFICATE-----\n");
    for (size_t at = 0; at < n; at += 48) {
        EVP_EncodeBlock(line, der + at, n - at < 48 ? (int)(n - at) : 48);
        luaL_addstring(&b, (const char *)line);
        luaL_addchar(&b, '\n');
    }
    luaL_addstring(&b, "-----END CERTIFICATE-----\n");
    luaL_pushresult(&b);
    return 1;
}

/* ---- who, when, by what ---- */

static int x509_subject(lua_State *L)
{
    cotls_push_name(L, X509_get_subject_name(cotls_check_x509(L)));
    return 2;
}

static int x509_issuer(lua_State *L)
{
    cotls_push_name(L, X509_get_issuer_name(cotls_check_x509(L)));
    return 2;
}

/* Lower-case hexadecimal. [-0, +1] */
static void push_hex(lua_State *L, const char *sign, const unsigned char *data, size_t n)
{
    static const char digits[] = "0123456789abcdef";
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    luaL_addstring(&b, sign);
    for (size_t i = 0; i < n; i++) {
        luaL_addchar(&b, digits[data[i] >> 4]);
        luaL_addchar(&b, digits[data[i] & 15]);
    }
    luaL_pushresult(&b);
}

/* x:serial() → hexadecimal; below 0, which RFC 5280 forbids, with a "-" */
static int x509_serial(lua_State *L)
{
    const ASN1_INTEGER *serial = X509_get0_serialNumber(cotls_check_x509(L));
    const char *sign = ASN1_STRING_type(serial) == V_ASN1_NEG_INTEGER ? "-" : "";
    push_hex(L, sign, ASN1_STRING_get0_data(serial), (size_t)ASN1_STRING_length(serial));
    return 1;
}

/* Days from 1970-01-01 to that day of the Gregorian calendar. March is the year's first month here, and years
 * are counted from -400, lest one is negative. */
static lua_Integer days_from_civil(lua_Integer year, int month, int day)
{
    lua_Integer y = year + (month < 3 ? 399 : 400), m = (month + 9) % 12;
    return 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 719469 - 146097;
}

/* Seconds since 1970; nil: it is no time. */
static int push_time(lua_State *L, const ASN1_TIME *time)
{
    struct tm t;
    if (ASN1_TIME_to_tm(time, &t) == 1) {
        lua_Integer days = days_from_civil(t.tm_year + 1900, t.tm_mon + 1, t.tm_mday);
        lua_pushinteger(L, ((days * 24 + t.tm_hour) * 60 + t.tm_min) * 60 + t.tm_sec);
    } else
        lua_pushnil(L);
    ERR_clear_error();
    return 1;
}

static int x509_not_before(lua_State *L)
{
    return push_time(L, X509_get0_notBefore(cotls_check_x509(L)));
}

static int x509_not_after(lua_State *L)
{
    return push_time(L, X509_get0_notAfter(cotls_check_x509(L)));
}

/* x:signature_algorithm() → OpenSSL's name, or the OID */
static int x509_signature_algorithm(lua_State *L)
{
    const X509_ALGOR *algorithm;
    const ASN1_OBJECT *type;
    X509_get0_signature(NULL, &algorithm, cotls_check_x509(L));
    X509_ALGOR_get0(&type, NULL, NULL, algorithm);
    if (OBJ_obj2nid(type) != NID_undef)
        lua_pushstring(L, OBJ_nid2ln(OBJ_obj2nid(type)));
    else
        cotls_push_object(L, type);
    return 1;
}

/* ---- the key and the prints ---- */

/* The NIST name, as groups have it, or OpenSSL's; for keys on a curve that has a name. */
static void set_curve(lua_State *L, const EVP_PKEY *key)
{
    char name[80];
    size_t n;
    if (!EVP_PKEY_is_a(key, "EC") || !EVP_PKEY_get_group_name(key, name, sizeof name, &n))
        return;
    const char *nist = EC_curve_nid2nist(OBJ_txt2nid(name));
    cotls_set_string(L, "curve", nist != NULL ? nist : name);
}

/* x:key() → { type =, bits =, curve = }; nil: OpenSSL knows no such key, or it is damaged */
static int x509_key(lua_State *L)
{
    char name[40];
    const EVP_PKEY *key = X509_get0_pubkey(cotls_check_x509(L));
    const char *type = key != NULL ? EVP_PKEY_get0_type_name(key) : NULL;
    size_t n = 0;
    if (type == NULL) {
        ERR_clear_error();
        lua_pushnil(L);
        return 1;
    }
    for (; type[n] != '\0' && n < sizeof name - 1; n++)
        name[n] = (char)tolower((unsigned char)type[n]);
    lua_createtable(L, 0, 3);
    lua_pushlstring(L, name, n);
    lua_setfield(L, -2, "type");
    lua_pushinteger(L, EVP_PKEY_get_bits(key));
    lua_setfield(L, -2, "bits");
    set_curve(L, key);
    ERR_clear_error();
    return 1;
}

/* x:fingerprint([digest]) → hexadecimal, or nil, err */
static int x509_fingerprint(lua_State *L)
{
    X509 *cert = cotls_check_x509(L);
    const char *name = luaL_optstring(L, 2, "sha256");
    const EVP_MD *digest =
        strlen(name) == lua_rawlen(L, 2) || lua_isnoneornil(L, 2) ? EVP_get_digestbyname(name) : NULL;
    unsigned char print[EVP_MAX_MD_SIZE];
    unsigned int n;
    if (digest == NULL || !X509_digest(cert, digest, print, &n)) {
        ERR_clear_error();
        lua_pushfstring(L, "unknown digest '%s'", name);
        return cotls_fail_config(L, "fingerprint");
    }
    push_hex(L, "", print, n);
    return 1;
}

/* x:spki_pin() → "sha256/" and base64: RFC 7469 section 2.4, as curl's --pinnedpubkey */
static int x509_spki_pin(lua_State *L)
{
    X509_PUBKEY *spki = X509_get_X509_PUBKEY(cotls_check_x509(L));
    unsigned char print[EVP_MAX_MD_SIZE], base64[2 * EVP_MAX_MD_SIZE];
    unsigned int size;
    int n = i2d_X509_PUBKEY(spki, NULL);
    unsigned char *der = lua_newuserdatauv(L, n > 0 ? (size_t)n : 1, 0), *end = der;
    n = i2d_X509_PUBKEY(spki, &end);
    if (n <= 0 || !EVP_Digest(der, (size_t)n, print, &size, EVP_sha256(), NULL)) {
        ERR_clear_error();
        return luaL_error(L, "OpenSSL can't encode the key");
    }
    EVP_EncodeBlock(base64, print, (int)size);
    lua_pushfstring(L, "sha256/%s", base64);
    return 1;
}

/* ---- whose it is ---- */

/* As the connection's server_name: a DNS name, and no address. */
static bool is_host(const char *name, size_t n)
{
    size_t label = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)name[i];
        label = c == '.' ? 0 : label + 1;
        if (c <= ' ' || c >= 0x7F || label > 63 || (c == '.' && (i == 0 || name[i - 1] == '.')))
            return false;
    }
    bool address = memchr(name, ':', n) != NULL || strspn(name, "0123456789.") >= n;
    return n > 0 && n <= 253 && !address;
}

/* x:check_host(name) → boolean; of what is no name, false */
static int x509_check_host(lua_State *L)
{
    size_t n;
    X509 *cert = cotls_check_x509(L);
    const char *name = luaL_checklstring(L, 2, &n);
    if (n > 1 && name[n - 1] == '.') /* fully qualified */
        n--;
    lua_pushboolean(L, is_host(name, n) && X509_check_host(cert, name, n, COTLS_NAME_FLAGS, NULL) == 1);
    ERR_clear_error();
    return 1;
}

/* x:check_ip(address) → boolean; of what is no address, false */
static int x509_check_ip(lua_State *L)
{
    size_t n;
    X509 *cert = cotls_check_x509(L);
    const char *text = luaL_checklstring(L, 2, &n);
    unsigned char address[sizeof(struct in6_addr)];
    size_t size = inet_pton(AF_INET, text, address) == 1    ? 4
                  : inet_pton(AF_INET6, text, address) == 1 ? 16
                                                            : 0;
    lua_pushboolean(L, size > 0 && strlen(text) == n && X509_check_ip(cert, address, size, 0) == 1);
    ERR_clear_error();
    return 1;
}

/* x:check_email(address) → boolean; of what is no address, false */
static int x509_check_email(lua_State *L)
{
    size_t n;
    X509 *cert = cotls_check_x509(L);
    const char *address = luaL_checklstring(L, 2, &n);
    bool good = n > 0 && strlen(address) == n;
    lua_pushboolean(L, good && X509_check_email(cert, address, n, COTLS_NAME_FLAGS) == 1);
    ERR_clear_error();
    return 1;
}

/* ---- the object ---- */

/* Equal: the same DER, byte for byte. */
static int x509_eq(lua_State *L)
{
    const X509 *a = cotls_test_x509(L, 1), *b = cotls_test_x509(L, 2);
    size_t an, bn;
    bool equal = a != NULL && a == b;
    if (a != NULL && b != NULL && !equal) {
        const unsigned char *first = push_der_memory(L, a, &an), *second = push_der_memory(L, b, &bn);
        equal = an == bn && memcmp(first, second, an) == 0;
    }
    lua_pushboolean(L, equal);
    return 1;
}

static int x509_gc(lua_State *L)
{
    X509 **slot = luaL_checkudata(L, 1, COTLS_X509);
    X509 *cert = *slot;
    *slot = NULL;
    X509_free(cert);
    return 0;
}

static int x509_tostring(lua_State *L)
{
    X509 **slot = luaL_checkudata(L, 1, COTLS_X509);
    if (*slot == NULL) {
        lua_pushliteral(L, COTLS_X509 " (none)");
        return 1;
    }
    cotls_push_name(L, X509_get_subject_name(*slot));
    lua_pushfstring(L, "%s (%s)", COTLS_X509, lua_tostring(L, -2));
    return 1;
}

static const luaL_Reg meta[] = {
    {"__eq", x509_eq},
    {"__gc", x509_gc},
    {"__tostring", x509_tostring},
    {NULL, NULL},
};

static const luaL_Reg meth[] = {
    {"check_email", x509_check_email},
    {"check_host", x509_check_host},
    {"check_ip", x509_check_ip},
    {"der", x509_der},
    {"fingerprint", x509_fingerprint},
    {"issuer", x509_issuer},
    {"key", x509_key},
    {"not_after", x509_not_after},
    {"not_before", x509_not_before},
    {"pem", x509_pem},
    {"serial", x509_serial},
    {"signature_algorithm", x509_signature_algorithm},
    {"spki_pin", x509_spki_pin},
    {"subject", x509_subject},
    {NULL, NULL},
};

void cotls_x509_open(lua_State *L)
{
    cotls_new_class(L, COTLS_X509, meta, meth);
    luaL_getmetatable(L, COTLS_X509);
    lua_getfield(L, -1, "__index");
    luaL_setfuncs(L, cotls_extension_methods, 0);
    lua_pop(L, 2);
}
