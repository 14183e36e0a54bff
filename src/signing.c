/* SPDX-License-Identifier: MIT
 * What contexts and Lua see of private keys that live elsewhere (remote_key.c):
 * the request that the hook `sign` is given, and the cipher suites that need more
 * of a key than signatures. */
#include "cotls.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/objects.h>
#include <string.h>

/* { scheme, digest, message, hashed } of what remote_key.c asks; Ed25519 has no digest. [-0, +1] */
void cotls_push_signing(lua_State *L, const unsigned char *question, size_t n)
{
    const char *scheme = (const char *)question, *digest = scheme + strlen(scheme) + 1;
    const char *message = digest + strlen(digest) + 1;
    size_t size = n - (size_t)(message - scheme), hashed = 0;
    unsigned char hash[EVP_MAX_MD_SIZE];
    lua_createtable(L, 0, 4);
    cotls_set_string(L, "scheme", scheme);
    lua_pushlstring(L, message, size);
    lua_setfield(L, -2, "message");
    if (*digest == '\0')
        return;
    cotls_set_string(L, "digest", digest);
    if (EVP_Q_digest(NULL, digest, NULL, message, size, hash, &hashed) != 1)
        ERR_clear_error();
    lua_pushlstring(L, (const char *)hash, hashed);
    lua_setfield(L, -2, "hashed");
}

/* Does the server decrypt with its RSA key there? */
static bool decrypts(const SSL_CIPHER *cipher)
{
    int exchange = SSL_CIPHER_get_kx_nid(cipher);
    return exchange == NID_kx_rsa || exchange == NID_kx_rsa_psk;
}

static int rank(const SSL_CIPHER *cipher)
{
    if (decrypts(cipher))
        return COTLS_NO_RANK;
    return SSL_CIPHER_get_kx_nid(cipher) != NID_kx_any ? 0
                                                       : COTLS_NO_RANK; /* TLS 1.3 has a list of its own */
}

/* The suites of a server without those that its RSA key must decrypt for; NULL, or what is wrong with that. One of
 * context and connection is NULL. */
const char *cotls_signing_suites(SSL_CTX *ctx, SSL *ssl)
{
    const STACK_OF(SSL_CIPHER) *all = ssl != NULL ? SSL_get_ciphers(ssl) : SSL_CTX_get_ciphers(ctx);
    bool any = false;
    for (int i = 0; i < sk_SSL_CIPHER_num(all); i++)
        any = any || decrypts(sk_SSL_CIPHER_value(all, i));
    if (!any)
        return NULL;
    char *list = cotls_join_ciphers(all, rank, 1);
    if (list == NULL)
        return "no memory";
    bool ok = ssl != NULL ? SSL_set_cipher_list(ssl, list) : SSL_CTX_set_cipher_list(ctx, list);
    OPENSSL_free(list);
    cotls_clear_errors();
    return ok ? NULL : "every cipher suite wants the key to decrypt (RSA key exchange), which sign can't";
}
