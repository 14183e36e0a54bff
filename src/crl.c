/* SPDX-License-Identifier: MIT
 * Revocation lists of a context: they lie beside the trusted CAs in its store,
 * and X509_verify_cert asks for them where crl_check says so (verify.c). Lua has
 * read the files. */
#include "cotls.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

/* NULL and an empty queue, or for PEM "no start line": there is none left. */
static X509_CRL *next_crl(BIO *bio, bool pem)
{
    ERR_clear_error();
    if (pem)
        return PEM_read_bio_X509_CRL(bio, NULL, cotls_hook_password, NULL);
    return BIO_pending(bio) > 0 ? d2i_X509_CRL_bio(bio, NULL) : NULL;
}

/* Adds all lists of the file and counts them; false: OpenSSL's queue tells why. */
static bool add_each(X509_STORE *store, const struct cotls_file *f, int *count)
{
    bool pem = cotls_is_pem(f), ok = true;
    BIO *bio = cotls_file_bio(f);
    X509_CRL *crl;
    if (bio == NULL)
        return false;
    while (ok && (crl = next_crl(bio, pem)) != NULL) {
        ok = X509_STORE_add_crl(store, crl) == 1;
        X509_CRL_free(crl);
        *count += ok;
    }
    BIO_free(bio);
    unsigned long end = ERR_peek_last_error();
    return ok &&
           (end == 0 || (ERR_GET_LIB(end) == ERR_LIB_PEM && ERR_GET_REASON(end) == PEM_R_NO_START_LINE));
}

/* The value on top: a list of files. */
static bool set_crl(lua_State *L, struct cotls_ctx *x)
{
    int list = lua_gettop(L);
    lua_Integer n = luaL_len(L, list);
    luaL_checkstack(L, 8, NULL);
    for (lua_Integer i = 1; i <= n; i++) {
        int count = 0;
        lua_geti(L, list, i);
        struct cotls_file f = cotls_to_file(L);
        bool readable = cotls_is_pem(&f) || cotls_is_der(&f);
        if (readable && !add_each(SSL_CTX_get_cert_store(x->ssl_ctx), &f, &count)) {
            cotls_refuse_file(L, f.name, NULL);
            return cotls_keep_reason(L, list);
        }
        if (count == 0) {
            cotls_refuse_file(L, f.name, ": no CRL in it");
            return cotls_keep_reason(L, list);
        }
        ERR_clear_error();
        lua_settop(L, list);
    }
    return true;
}

const struct cotls_setting cotls_crl_settings[] = {
    {"crl", set_crl},
    {NULL, NULL},
};
