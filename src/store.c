/* SPDX-License-Identifier: MIT
 * Keys and certificates by URI, from whatever OSSL_STORE reaches: files, tokens
 * (ossl_store(7)). It never asks at a terminal. No OpenSSL object is held while
 * Lua is called, and OpenSSL's error queue is left empty. */
#include "cotls.h"

#include <openssl/err.h>
#include <openssl/store.h>
#include <openssl/ui.h>
#include <openssl/x509.h>
#include <string.h>

#define OBJECTS 10000 /* more than that is no credential */

/* The first key, or the first that belongs to the leaf if there is one already. */
static void take_key(struct cotls_credential *k, EVP_PKEY *key)
{
    bool better = k->key == NULL || (k->leaf != NULL && X509_check_private_key(k->leaf, k->key) != 1 &&
                                     X509_check_private_key(k->leaf, key) == 1);
    if (!better) {
        EVP_PKEY_free(key);
        return;
    }
    EVP_PKEY_free(k->key);
    k->key = key;
}

/* Takes what one object holds into the key and the certificates. */
static bool take_object(struct cotls_credential *k, STACK_OF(X509) * found, const OSSL_STORE_INFO *info)
{
    X509 *certificate;
    switch (OSSL_STORE_INFO_get_type(info)) {
    case OSSL_STORE_INFO_PKEY:
        take_key(k, OSSL_STORE_INFO_get1_PKEY(info));
        return true;
    case OSSL_STORE_INFO_CERT:
        certificate = OSSL_STORE_INFO_get1_CERT(info);
        if (certificate != NULL && sk_X509_push(found, certificate) > 0)
            return true;
        X509_free(certificate);
        return false;
    default:
        return true;
    }
}

/* All objects behind the URI. false: OpenSSL's queue tells why. */
static bool read_objects(OSSL_STORE_CTX *store, struct cotls_credential *k, STACK_OF(X509) * found)
{
    for (int i = 0; i < OBJECTS && !OSSL_STORE_eof(store); i++) {
        ERR_clear_error();
        OSSL_STORE_INFO *info = OSSL_STORE_load(store);
        bool ok = info != NULL ? take_object(k, found, info) : OSSL_STORE_eof(store) && ERR_peek_error() == 0;
        OSSL_STORE_INFO_free(info);
        if (!ok)
            return false;
    }
    return true;
}

static bool read_uri(const char *uri, struct cotls_credential *k, STACK_OF(X509) * found,
                     struct cotls_password *password)
{
    UI_METHOD *ui = UI_UTIL_wrap_read_pem_callback(cotls_hook_password, 0);
    OSSL_STORE_CTX *store = ui != NULL ? OSSL_STORE_open(uri, ui, password, NULL, NULL) : NULL;
    bool ok = store != NULL && read_objects(store, k, found);
    OSSL_STORE_close(store);
    UI_destroy_method(ui);
    return ok;
}

/* The one that belongs to the key becomes the leaf, the others its chain. */
static void choose_leaf(struct cotls_credential *k, STACK_OF(X509) * found)
{
    for (int i = 0; i < sk_X509_num(found) && k->leaf == NULL; i++)
        if (X509_check_private_key(sk_X509_value(found, i), k->key) == 1)
            k->leaf = sk_X509_delete(found, i);
}

/* After reading: NULL, or what is missing. */
static const char *complete(struct cotls_credential *k, STACK_OF(X509) * *found)
{
    if (k->key == NULL)
        return ": no private key there";
    if (k->leaf != NULL) /* given by itself, with its chain */
        return NULL;
    choose_leaf(k, *found);
    if (k->leaf == NULL)
        return sk_X509_num(*found) > 0 ? ": none of the certificates there matches the key"
                                       : ": no certificate there, and none is given";
    k->chain = *found;
    *found = NULL;
    return cotls_sort_chain(k) ? NULL : ": no memory";
}

/* Does anything serve the scheme that the URI begins with? */
static bool knows_scheme(const char *uri)
{
    char scheme[32];
    size_t n = strcspn(uri, ":");
    if (uri[n] == '\0' || n >= sizeof scheme)
        return true;
    memcpy(scheme, uri, n);
    scheme[n] = '\0';
    OSSL_STORE_LOADER *loader = OSSL_STORE_LOADER_fetch(NULL, scheme, NULL);
    OSSL_STORE_LOADER_free(loader);
    return loader != NULL;
}

bool cotls_load_uri(lua_State *L, struct cotls_credential *k, struct cotls_password *password)
{
    const char *uri = lua_tostring(L, -1);
    STACK_OF(X509) *found = sk_X509_new_null();
    const char *fault = NULL;
    ERR_clear_error();
    bool ok = found != NULL && read_uri(uri, k, found, password);
    if (ok)
        fault = complete(k, &found);
    sk_X509_pop_free(found, X509_free);
    if (ok && fault == NULL) {
        ERR_clear_error();
        return true;
    }
    if (!ok && !knows_scheme(uri))
        return cotls_refuse_file(L, uri, ": OpenSSL knows no such scheme");
    if (!ok)
        return cotls_refuse_locked(L, uri, password, ": nothing there that OpenSSL can read");
    return cotls_refuse_file(L, uri, fault);
}
