/* SPDX-License-Identifier: MIT
 * A client that gets a HelloRetryRequest sends its ClientHello again, as it was but
 * for key shares and what follows from them (RFC 8446 section 4.1.2). OpenSSL does
 * not compare the two, and hooks are asked about the first: one that they have not
 * judged would pass by their answers. */
#include "cotls.h"

#include <string.h>

/* What contexts and hooks decide by, and may not change. */
static const unsigned extensions[] = {
    TLSEXT_TYPE_server_name,
    TLSEXT_TYPE_supported_groups,
    TLSEXT_TYPE_signature_algorithms,
    TLSEXT_TYPE_application_layer_protocol_negotiation,
    TLSEXT_TYPE_supported_versions,
    TLSEXT_TYPE_post_handshake_auth,
    TLSEXT_TYPE_signature_algorithms_cert,
};
#define COUNT (sizeof extensions / sizeof *extensions)

/* An empty extension leaves its number, one that is not there leaves nothing. */
static bool digest_hello(SSL *ssl, unsigned char digest[COTLS_DIGEST])
{
    struct cotls_text texts[1 + 2 * COUNT];
    const unsigned char *p;
    size_t n = SSL_client_hello_get0_ciphers(ssl, &p), count = 0;
    texts[count++] = (struct cotls_text){(const char *)p, n};
    for (size_t i = 0; i < COUNT; i++)
        if (SSL_client_hello_get0_ext(ssl, extensions[i], &p, &n)) {
            texts[count++] = (struct cotls_text){(const char *)&extensions[i], sizeof *extensions};
            texts[count++] = (struct cotls_text){(const char *)p, n};
        }
    return cotls_digest(texts, count, digest);
}

/* Inside client_hello: notes the first ClientHello of a handshake; false: the second one is another. */
bool cotls_same_hello(struct cotls_conn *c, int *alert)
{
    unsigned char digest[COTLS_DIGEST] = {0};
    struct cotls_asks *a = c->asks;
    if (a == NULL)
        return true;
    bool ok = digest_hello(c->ssl, digest), same = memcmp(a->hello_digest, digest, sizeof digest) == 0;
    if (ok && (same || !c->hello_seen)) {
        memcpy(a->hello_digest, digest, sizeof digest);
        return true;
    }
    *alert = ok ? SSL_AD_ILLEGAL_PARAMETER : SSL_AD_INTERNAL_ERROR;
    c->refusal = ok ? "the client has changed its ClientHello after a HelloRetryRequest" : "no memory";
    return false;
}
