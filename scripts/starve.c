/* SPDX-License-Identifier: MIT
 * A Lua module for spec/memory_spec.lua: lets one allocation fail, of Lua's, of
 * OpenSSL's or of a core linked with -Wl,--wrap=malloc (calloc, realloc). It must be
 * loaded before anything of OpenSSL's is called; such a core is linked with it too.
 *   starve.arm("lua", "openssl" or "malloc", n)  the n-th allocation from now on fails
 *   starve.disarm()                              → has it come to that?
 *   starve.queue()      → the first error in OpenSSL's queue, or nil; empties it
 *   starve.sign(key, scheme, digest or nil, message) → a signature by the PEM key; nothing fails meanwhile */
#include "../src/compat.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <stdlib.h>
#include <string.h>

enum { NOBODY, OF_LUA, OF_OPENSSL, OF_MALLOC };
static const char *const askers[] = {"", "lua", "openssl", "malloc", NULL};

static int whose = NOBODY;
static lua_Integer left, times; /* before the first that fails; how many fail */
static lua_Alloc allocate;

static bool fails(int asker)
{
    return whose == asker && --left <= 0 && left > -times;
}

static void *for_lua(void *ud, void *block, size_t old, size_t size)
{
    bool grows = size > 0 && (block == NULL || size > old);
    return grows && fails(OF_LUA) ? NULL : allocate(ud, block, old, size);
}

static void *for_openssl(size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    return fails(OF_OPENSSL) ? NULL : malloc(size);
}

static void *more_for_openssl(void *block, size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    return fails(OF_OPENSSL) ? NULL : realloc(block, size);
}

static void from_openssl(void *block, const char *file, int line)
{
    (void)file;
    (void)line;
    free(block);
}

/* The linker puts these in the place of the core's calls. */
__attribute__((visibility("default"))) void *__wrap_malloc(size_t size);
__attribute__((visibility("default"))) void *__wrap_calloc(size_t count, size_t size);
__attribute__((visibility("default"))) void *__wrap_realloc(void *block, size_t size);

void *__wrap_malloc(size_t size)
{
    return fails(OF_MALLOC) ? NULL : malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return fails(OF_MALLOC) ? NULL : calloc(count, size);
}

void *__wrap_realloc(void *block, size_t size)
{
    return fails(OF_MALLOC) ? NULL : realloc(block, size);
}

static int starve_arm(lua_State *L)
{
    int asker = luaL_checkoption(L, 1, NULL, askers);
    left = luaL_checkinteger(L, 2);
    times = asker == OF_LUA && COTLS_RESUMABLE ? 2 : 1; /* since 5.2 Lua collects garbage and tries again */
    whose = asker;
    return 0;
}

static int starve_disarm(lua_State *L)
{
    lua_pushboolean(L, left <= 0);
    whose = NOBODY;
    return 1;
}

static int starve_queue(lua_State *L)
{
    char text[256];
    unsigned long code = ERR_peek_error();
    ERR_error_string_n(code, text, sizeof text);
    ERR_clear_error();
    lua_pushstring(L, code != 0 ? text : NULL);
    return 1;
}

static bool sign(const char *scheme, const char *digest, EVP_PKEY *key, const void *message, size_t n,
                 unsigned char *out, size_t *size)
{
    EVP_PKEY_CTX *padding;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = key != NULL && EVP_DigestSignInit_ex(ctx, &padding, digest, NULL, NULL, key, NULL) == 1 &&
              (strcmp(scheme, "rsa_pss") != 0 ||
               (EVP_PKEY_CTX_set_rsa_padding(padding, RSA_PKCS1_PSS_PADDING) == 1 &&
                EVP_PKEY_CTX_set_rsa_pss_saltlen(padding, RSA_PSS_SALTLEN_DIGEST) == 1)) &&
              EVP_DigestSign(ctx, out, size, message, n) == 1;
    EVP_MD_CTX_free(ctx);
    return ok;
}

static int starve_sign(lua_State *L)
{
    unsigned char out[1024];
    size_t n, pem_size, size = sizeof out;
    const char *pem = luaL_checklstring(L, 1, &pem_size), *message = luaL_checklstring(L, 4, &n);
    const char *scheme = luaL_checkstring(L, 2), *digest = luaL_optstring(L, 3, NULL);
    int armed = whose;
    whose = NOBODY;
    BIO *bio = BIO_new_mem_buf(pem, (int)pem_size);
    EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
    bool ok = sign(scheme, digest, key, message, n, out, &size);
    EVP_PKEY_free(key);
    BIO_free(bio);
    whose = armed;
    if (!ok)
        return luaL_error(L, "no signature");
    lua_pushlstring(L, (const char *)out, size);
    return 1;
}

__attribute__((visibility("default"))) int luaopen_starve(lua_State *L);

int luaopen_starve(lua_State *L)
{
    static const luaL_Reg functions[] = {{"arm", starve_arm},
                                         {"disarm", starve_disarm},
                                         {"queue", starve_queue},
                                         {"sign", starve_sign},
                                         {NULL, NULL}};
    void *ud;
    if (!CRYPTO_set_mem_functions(for_openssl, more_for_openssl, from_openssl))
        return luaL_error(L, "OpenSSL has allocated already");
    luaL_newlib(L, functions);
    allocate = lua_getallocf(L, &ud);
    lua_setallocf(L, for_lua, ud);
    return 1;
}
