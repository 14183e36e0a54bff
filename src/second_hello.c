/* SPDX-License-Identifier: MIT
 * A client that gets a HelloRetryRequest sends its ClientHello again, as it was but
 * for key shares and what follows from them (RFC 8446 section 4.1.2). OpenSSL does
 * not compare the two, and hooks are asked about the first: one that they have not
 * judged would pass by their answers. So what counts of the first is kept. */
#include "cotls.h"

#include <stdlib.h>
#include <string.h>

/* What contexts and hooks decide by, and may not change; and the cipher suites. */
static const unsigned extensions[] = {
    TLSEXT_TYPE_server_name,
    TLSEXT_TYPE_supported_groups,
    TLSEXT_TYPE_signature_algorithms,
    TLSEXT_TYPE_application_layer_protocol_negotiation,
    TLSEXT_TYPE_supported_versions,
    TLSEXT_TYPE_post_handshake_auth,
    TLSEXT_TYPE_signature_algorithms_cert,
};
#define PART_COUNT (1 + sizeof extensions / sizeof *extensions)

/* An extension that is not there differs from one that is empty. */
struct part {
    size_t length; /* SIZE_MAX: it is not there */
    const unsigned char *data;
};

static size_t size_of(const struct part *p)
{
    return p->length == SIZE_MAX ? 0 : p->length;
}

static void collect(SSL *ssl, struct part parts[PART_COUNT])
{
    parts[0].length = SSL_client_hello_get0_ciphers(ssl, &parts[0].data);
    for (size_t i = 1; i < PART_COUNT; i++)
        if (!SSL_client_hello_get0_ext(ssl, extensions[i - 1], &parts[i].data, &parts[i].length))
            parts[i].length = SIZE_MAX;
}

/* The lengths, and behind them the bytes of all. */
static bool keep(struct cotls_asks *a, const struct part parts[PART_COUNT])
{
    size_t lengths[PART_COUNT], total = sizeof lengths;
    for (size_t i = 0; i < PART_COUNT; i++)
        total += size_of(&parts[i]);
    unsigned char *to = a->first_hello = malloc(total);
    if (to == NULL)
        return false;
    for (size_t i = 0; i < PART_COUNT; i++)
        lengths[i] = parts[i].length;
    memcpy(to, lengths, sizeof lengths);
    to += sizeof lengths;
    for (size_t i = 0; i < PART_COUNT; to += size_of(&parts[i]), i++)
        if (size_of(&parts[i]) > 0)
            memcpy(to, parts[i].data, parts[i].length);
    return true;
}

static bool is_same(const struct cotls_asks *a, const struct part parts[PART_COUNT])
{
    size_t lengths[PART_COUNT];
    const unsigned char *from = a->first_hello + sizeof lengths;
    memcpy(lengths, a->first_hello, sizeof lengths);
    for (size_t i = 0; i < PART_COUNT; from += size_of(&parts[i]), i++)
        if (lengths[i] != parts[i].length ||
            (size_of(&parts[i]) > 0 && memcmp(from, parts[i].data, parts[i].length) != 0))
            return false;
    return true;
}

/* Inside client_hello: keeps the first ClientHello of a handshake; false: the second one is another. */
bool cotls_same_hello(struct cotls_conn *c, int *alert)
{
    struct part parts[PART_COUNT];
    struct cotls_asks *a = c->asks;
    if (a == NULL || (a->first_hello != NULL && !c->hello_seen)) /* the first one, asked again */
        return true;
    collect(c->ssl, parts);
    if (c->hello_seen ? a->first_hello != NULL && is_same(a, parts) : keep(a, parts))
        return true;
    *alert = c->hello_seen ? SSL_AD_ILLEGAL_PARAMETER : SSL_AD_INTERNAL_ERROR;
    c->refusal =
        c->hello_seen ? "the client has changed its ClientHello after a HelloRetryRequest" : "no memory";
    return false;
}
