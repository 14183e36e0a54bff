/* SPDX-License-Identifier: MIT
 * Files as Lua has read them, { name =, data = }: PEM or DER, and the
 * certificates in them. A file that is refused is named in the reason. No
 * OpenSSL object is held while Lua is called, and OpenSSL's error queue is left
 * empty. */
#include "cotls.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <string.h>

bool cotls_keep_reason(lua_State *L, int setting)
{
    lua_copy(L, -1, setting + 1);
    lua_settop(L, setting + 1);
    return false;
}

bool cotls_refuse_file(lua_State *L, const char *name, const char *fault)
{
    if (fault == NULL) {
        cotls_push_queue_reason(L);
        fault = lua_pushfstring(L, ": %s", lua_tostring(L, -1));
    }
    ERR_clear_error();
    lua_pushfstring(L, "%s%s", name, fault);
    return false;
}

struct cotls_file cotls_to_file(lua_State *L)
{
    struct cotls_file f = {0};
    if (!lua_istable(L, -1) || lua_getfield(L, -1, "name") != LUA_TSTRING ||
        lua_getfield(L, -2, "data") != LUA_TSTRING)
        luaL_error(L, "a file is { name = string, data = string }");
    f.name = lua_tostring(L, -2);
    f.data = lua_tolstring(L, -1, &f.size);
    return f;
}

/* Text has no NUL byte, and what is behind one in DER is no PEM. */
bool cotls_is_pem(const struct cotls_file *f)
{
    return strstr(f->data, "-----BEGIN") != NULL;
}

/* A SEQUENCE, as every DER object here is. */
bool cotls_is_der(const struct cotls_file *f)
{
    return f->size > 0 && f->data[0] == 0x30;
}

BIO *cotls_file_bio(const struct cotls_file *f)
{
    return f->size < INT32_MAX ? BIO_new_mem_buf(f->data, (int)f->size) : NULL;
}

/* NULL and an empty queue, or for PEM "no start line": there is none left. */
static X509 *next_certificate(BIO *bio, bool pem)
{
    ERR_clear_error();
    if (pem)
        return PEM_read_bio_X509_AUX(bio, NULL, cotls_hook_password, NULL);
    return BIO_pending(bio) > 0 ? d2i_X509_bio(bio, NULL) : NULL;
}

/* Takes all certificates of the file and counts them; false: OpenSSL's queue tells why. */
static bool take_each(const struct cotls_file *f, cotls_take *take, void *arg, int *count)
{
    bool pem = cotls_is_pem(f), ok = true;
    BIO *bio = cotls_file_bio(f);
    X509 *certificate;
    if (bio == NULL)
        return false;
    while (ok && (certificate = next_certificate(bio, pem)) != NULL) {
        ok = take(arg, certificate, (*count)++);
        X509_free(certificate);
    }
    BIO_free(bio);
    unsigned long end = ERR_peek_last_error();
    return ok &&
           (end == 0 || (ERR_GET_LIB(end) == ERR_LIB_PEM && ERR_GET_REASON(end) == PEM_R_NO_START_LINE));
}

bool cotls_take_certificates(lua_State *L, cotls_take *take, void *arg)
{
    int list = lua_gettop(L), count = 0;
    lua_Integer n = luaL_len(L, list);
    for (lua_Integer i = 1; i <= n; i++) {
        int before = count;
        lua_geti(L, list, i);
        struct cotls_file f = cotls_to_file(L);
        if ((cotls_is_pem(&f) || cotls_is_der(&f)) && !take_each(&f, take, arg, &count))
            return cotls_refuse_file(L, f.name, NULL);
        if (count == before)
            return cotls_refuse_file(L, f.name, ": no certificate in it");
        ERR_clear_error();
        lua_settop(L, list);
    }
    return true;
}
