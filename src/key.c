/* SPDX-License-Identifier: MIT
 * Private keys, PEM and DER, encrypted or not. Nobody is asked for a password
 * while OpenSSL reads: it is at hand, or the failure says that it is wanted. No
 * OpenSSL object is held while Lua is called, and OpenSSL's error queue is left
 * empty. */
#include "cotls.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/pkcs12.h>
#include <openssl/x509.h>
#include <string.h>

/* The algorithm that OpenSSL looked for and does not have, from what it left in the queue; drains it. */
static bool missing_algorithm(char *name, size_t size)
{
    static const char before[] = "Algorithm (";
    const char *data;
    unsigned long code;
    bool found = false;
    while ((code = ERR_get_error_all(NULL, NULL, NULL, &data, NULL)) != 0) {
        const char *at = ERR_GET_LIB(code) == ERR_LIB_EVP ? strstr(data, before) : NULL;
        size_t n = at != NULL ? strcspn(at + sizeof before - 1, " :)") : size;
        if (found || n >= size)
            continue;
        memcpy(name, at + sizeof before - 1, n);
        name[n] = '\0';
        found = true;
    }
    return found;
}

/* Why what the password was asked for could not be opened. [-0, +1] */
static const char *push_password_fault(lua_State *L, const struct cotls_password *p)
{
    char name[40];
    unsigned long first = ERR_peek_error();
    if (p->text == NULL)
        return lua_pushliteral(L, ": encrypted, and no password is given");
    if (strlen(p->text) != p->size)
        return lua_pushliteral(L, ": its password contains a NUL byte");
    if (missing_algorithm(name, sizeof name))
        return lua_pushfstring(
            L, ": encrypted with %s, which OpenSSL 3 doesn't load (its legacy provider may have it)", name);
    if (ERR_GET_LIB(first) == ERR_LIB_EVP && ERR_GET_REASON(first) != EVP_R_BAD_DECRYPT)
        return lua_pushfstring(L, ": %s", ERR_reason_error_string(first));
    return lua_pushliteral(L, ": wrong password, or damaged");
}

bool cotls_refuse_locked(lua_State *L, const char *name, const struct cotls_password *p, const char *fault)
{
    luaL_checkstack(L, 4, NULL);
    /* "no supported data to decode" tells the user nothing; what follows it may */
    while (ERR_GET_LIB(ERR_peek_error()) == ERR_LIB_OSSL_DECODER ||
           ERR_GET_LIB(ERR_peek_error()) == ERR_LIB_OSSL_STORE)
        ERR_get_error();
    if (p->asked)
        return cotls_refuse_file(L, name, push_password_fault(L, p));
    return cotls_refuse_file(L, name, ERR_peek_error() == 0 ? fault : NULL);
}

/* EncryptedPrivateKeyInfo of RFC 5958 begins with a SEQUENCE in the SEQUENCE, the others with an INTEGER. */
static bool is_encrypted_der(const struct cotls_file *f)
{
    const unsigned char *p = (const unsigned char *)f->data;
    X509_SIG *encrypted = d2i_X509_SIG(NULL, &p, (long)f->size);
    X509_SIG_free(encrypted);
    return encrypted != NULL;
}

static EVP_PKEY *read_key(const struct cotls_file *f, struct cotls_password *password)
{
    BIO *bio = cotls_file_bio(f);
    EVP_PKEY *key = NULL;
    const unsigned char *p = (const unsigned char *)f->data;
    if (bio != NULL && cotls_is_pem(f))
        key = PEM_read_bio_PrivateKey(bio, NULL, cotls_hook_password, password);
    else if (bio != NULL && is_encrypted_der(f))
        key = d2i_PKCS8PrivateKey_bio(bio, NULL, cotls_hook_password, password);
    else if (bio != NULL)
        key = d2i_AutoPrivateKey(NULL, &p, (long)f->size);
    BIO_free(bio);
    return key;
}

/* What else the DER may be; NULL: nothing known. */
static const char *other_der(const struct cotls_file *f)
{
    const unsigned char *p = (const unsigned char *)f->data;
    EVP_PKEY *public_key = d2i_PUBKEY(NULL, &p, (long)f->size);
    EVP_PKEY_free(public_key);
    p = (const unsigned char *)f->data;
    X509 *certificate = public_key == NULL ? d2i_X509(NULL, &p, (long)f->size) : NULL;
    X509_free(certificate);
    ERR_clear_error();
    if (public_key != NULL)
        return ": a public key, not a private one";
    return certificate != NULL ? ": a certificate, not a private key" : NULL;
}

/* What can be told before OpenSSL is asked; NULL: nothing. */
static const char *foresee(const struct cotls_file *f)
{
    static const struct {
        const char *text, *fault;
    } others[] = {
        {"PRIVATE KEY-----", NULL},
        {"PUBLIC KEY-----", ": a public key, not a private one"},
        {"PARAMETERS-----", ": parameters only, no private key in it"},
    };
    for (size_t i = 0; cotls_is_pem(f) && i < sizeof others / sizeof *others; i++)
        if (strstr(f->data, others[i].text) != NULL)
            return others[i].fault;
    return cotls_is_pem(f) || !cotls_is_der(f) ? ": no private key in it" : NULL;
}

bool cotls_read_key(lua_State *L, EVP_PKEY **key, struct cotls_password *password)
{
    struct cotls_file f = cotls_to_file(L);
    const char *fault = foresee(&f);
    if (fault != NULL)
        return cotls_refuse_file(L, f.name, fault);
    ERR_clear_error();
    *key = read_key(&f, password);
    if (*key == NULL && !cotls_is_pem(&f) && !password->asked && (fault = other_der(&f)) != NULL)
        return cotls_refuse_file(L, f.name, fault);
    if (*key == NULL)
        return cotls_refuse_locked(L, f.name, password, ": damaged, or not a private key");
    ERR_clear_error();
    return true;
}
