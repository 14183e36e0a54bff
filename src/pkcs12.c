/* SPDX-License-Identifier: MIT
 * PKCS#12 (RFC 7292): key, certificate and chain in one encrypted file. One
 * without a MAC is taken, too: nothing else here is protected against changes
 * either. No OpenSSL object is held while Lua is called, and OpenSSL's error
 * queue is left empty. */
#include "cotls.h"

#include <openssl/err.h>
#include <openssl/pkcs12.h>
#include <openssl/x509.h>
#include <string.h>

/* Without a password the file may have been made with none, in either of two ways. One without a MAC gets one:
 * with a password PKCS12_parse insists on it. */
static bool opens(PKCS12 *p12, const char *password)
{
    bool given = password != NULL && *password != '\0';
    if (!PKCS12_mac_present(p12))
        return !given || PKCS12_set_mac(p12, password, -1, NULL, 0, 1, NULL) == 1;
    if (given)
        return PKCS12_verify_mac(p12, password, -1) == 1;
    return PKCS12_verify_mac(p12, NULL, 0) == 1 || PKCS12_verify_mac(p12, "", 0) == 1;
}

/* Was it the decryption that failed? Nothing else uses ciphers. */
static bool is_locked(void)
{
    int library = ERR_GET_LIB(ERR_peek_error());
    return library == ERR_LIB_EVP || library == ERR_LIB_PROV;
}

/* NULL, or why not; where it is for want of the password, that was asked for. */
static const char *parse(PKCS12 *p12, struct cotls_credential *k, struct cotls_password *password)
{
    bool whole = password->text == NULL || strlen(password->text) == password->size;
    /* without a MAC junk may look decrypted, one time in 256 */
    bool guessed = password->size > 0 && !PKCS12_mac_present(p12); /* opens adds one */
    password->asked = !whole || !opens(p12, password->text);
    if (password->asked)
        return ": wrong password, or damaged";
    if (PKCS12_parse(p12, password->text, &k->key, &k->leaf, &k->chain) != 1) {
        password->asked = is_locked();
        return guessed ? ": wrong password, or damaged" : ": damaged";
    }
    if (k->key == NULL)
        return ": no private key in it";
    if (k->leaf == NULL && sk_X509_num(k->chain) > 0)
        return ": none of its certificates matches its key";
    return k->leaf == NULL ? ": no certificate in it" : NULL;
}

bool cotls_load_pkcs12(lua_State *L, struct cotls_credential *k, struct cotls_password *password)
{
    struct cotls_file f = cotls_to_file(L);
    const unsigned char *p = (const unsigned char *)f.data;
    if (cotls_is_pem(&f))
        return cotls_refuse_file(L, f.name, ": PEM text, not PKCS#12");
    PKCS12 *p12 = f.size < INT32_MAX ? d2i_PKCS12(NULL, &p, (long)f.size) : NULL;
    ERR_clear_error();
    const char *fault = p12 != NULL ? parse(p12, k, password) : ": damaged, or not PKCS#12";
    PKCS12_free(p12);
    if (fault != NULL && password->asked)
        return cotls_refuse_locked(L, f.name, password, fault);
    if (fault != NULL)
        return cotls_refuse_file(L, f.name, fault);
    ERR_clear_error();
    return cotls_sort_chain(k) || cotls_refuse_file(L, f.name, ": no memory");
}
