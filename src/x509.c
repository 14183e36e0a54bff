/* SPDX-License-Identifier: MIT
 * Certificates as Lua sees them: a userdata with its own reference to an X509,
 * which never changes. What a method makes lies in Lua's memory from the start,
 * or is pushed under lua_pcall, so that nothing of OpenSSL's is lost when Lua raises. */
#include "cotls.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
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

static X509 *check_x509(lua_State *L, int index)
{
    X509 **slot = luaL_checkudata(L, index, COTLS_X509);
    luaL_argcheck(L, *slot != NULL, index, "the certificate is not usable");
    return *slot;
}

/* ---- reading ---- */

/* The first certificate of PEM text or DER; NULL: OpenSSL's queue tells why. */
static X509 *parse(const char *data, size_t n)
{
    BIO *bio = n < INT32_MAX ? BIO_new_mem_buf(data, (int)n) : NULL;
    X509 *cert = NULL;
    if (bio != NULL && strstr(data, "-----BEGIN") != NULL)
        cert = PEM_read_bio_X509_AUX(bio, NULL, cotls_hook_password, NULL);
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
    cotls_error_config(L, "x509");
    return cotls_nil_error(L);
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
    const unsigned char *der = push_der_memory(L, check_x509(L, 1), &n);
    lua_pushlstring(L, (const char *)der, n);
    return 1;
}

/* x:pem() → text, RFC 7468 */
static int x509_pem(lua_State *L)
{
    luaL_Buffer b;
    unsigned char line[65];
    size_t n;
    const unsigned char *der = push_der_memory(L, check_x509(L, 1), &n);
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
    luaL_checkudata(L, 1, COTLS_X509);
    lua_pushfstring(L, "%s: %p", COTLS_X509, lua_topointer(L, 1));
    return 1;
}

static const luaL_Reg meta[] = {
    {"__eq", x509_eq},
    {"__gc", x509_gc},
    {"__tostring", x509_tostring},
    {NULL, NULL},
};

static const luaL_Reg meth[] = {
    {"der", x509_der},
    {"pem", x509_pem},
    {NULL, NULL},
};

void cotls_x509_open(lua_State *L)
{
    cotls_new_class(L, COTLS_X509, meta, meth);
}
