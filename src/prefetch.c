/* SPDX-License-Identifier: MIT
 * Hooks where OpenSSL has no jobs (ASYNC_is_capable(3)): what they will be asked can
 * be read from the ClientHello, and OpenSSL can be told to come again with that. So
 * each question is filed in there, and the callbacks find their answers. Some are
 * asked in vain: for a session of the own cache, for a ticket that is not made. A
 * question that nobody has foreseen refuses, as everywhere. */
#include "cotls.h"

#include <openssl/ssl.h>

#define SHORTEST_TICKET 32 /* OpenSSL looks at no name before a shorter one */

static bool extension(SSL *ssl, unsigned type, struct cotls_bytes *body)
{
    return SSL_client_hello_get0_ext(ssl, type, &body->data, &body->len) == 1;
}

/* false: refused, or it has to wait. */
static bool ask(struct cotls_conn *c, enum cotls_hook hook, struct cotls_bytes question)
{
    return cotls_ask(c, hook, question.data, question.len, NULL) != NULL;
}

/* As SSL_get_servername(3) will have it: what is malformed is refused afterwards. */
static bool ask_server_name(struct cotls_conn *c)
{
    struct cotls_bytes body, name;
    if (!extension(c->ssl, TLSEXT_TYPE_server_name, &body) || !cotls_server_name_in(body, &name))
        name = (struct cotls_bytes){NULL, 0};
    return ask(c, HOOK_SERVER_NAME, name);
}

static bool ask_alpn(struct cotls_conn *c)
{
    struct cotls_bytes body, list;
    bool offered = extension(c->ssl, TLSEXT_TYPE_application_layer_protocol_negotiation, &body) &&
                   cotls_protocols_in(body, &list);
    return !offered || ask(c, HOOK_ALPN, list);
}

static bool ask_ocsp(struct cotls_conn *c)
{
    struct cotls_bytes body;
    return !extension(c->ssl, TLSEXT_TYPE_status_request, &body) ||
           ask(c, HOOK_OCSP, (struct cotls_bytes){NULL, 0});
}

/* The next one of a pre_shared_key extension, from behind the list's length: identity, age. */
static bool next_identity(struct cotls_bytes *list, struct cotls_bytes *identity)
{
    size_t n = list->len >= 6 ? cotls_hello_item(*list, 0) : 0;
    if (list->len < 6 || n > list->len - 6)
        return false;
    *identity = (struct cotls_bytes){list->data + 2, n};
    *list = (struct cotls_bytes){list->data + 6 + n, list->len - 6 - n};
    return true;
}

/* The identities of TLS 1.3; none where another version will be agreed on. */
static struct cotls_bytes identities(struct cotls_conn *c)
{
    struct cotls_bytes body;
    if (!cotls_will_be_tls13(c->ssl) || !extension(c->ssl, TLSEXT_TYPE_psk, &body) || body.len < 2 ||
        cotls_hello_item(body, 0) > body.len - 2)
        return (struct cotls_bytes){NULL, 0};
    return (struct cotls_bytes){body.data + 2, cotls_hello_item(body, 0)};
}

/* An id of TLS 1.2, or the stateful tickets of TLS 1.3. */
static bool ask_session(struct cotls_conn *c)
{
    struct cotls_bytes list = identities(c), id;
    c->asks->is_12 = !cotls_will_be_tls13(c->ssl);
    id.len = SSL_client_hello_get0_session_id(c->ssl, &id.data);
    if (c->asks->is_12)
        return id.len == 0 || ask(c, HOOK_SESSION_GET, id);
    while (next_identity(&list, &id))
        if (id.len == SSL_MAX_SSL_SESSION_ID_LENGTH && !ask(c, HOOK_SESSION_GET, id))
            return false;
    return true;
}

static bool ask_ticket(struct cotls_conn *c, struct cotls_bytes ticket)
{
    return ticket.len < SHORTEST_TICKET ||
           ask(c, HOOK_TICKET_KEY, (struct cotls_bytes){ticket.data, COTLS_TICKET_NAME});
}

/* The keys of the client's tickets, and the one of a new ticket. */
static bool ask_ticket_keys(struct cotls_conn *c)
{
    struct cotls_bytes list = identities(c), ticket;
    bool is_13 = cotls_will_be_tls13(c->ssl);
    unsigned wants = is_13 ? TLSEXT_TYPE_psk_kex_modes : TLSEXT_TYPE_session_ticket;
    struct cotls_bytes body;
    if ((SSL_get_options(c->ssl) & SSL_OP_NO_TICKET) != 0 || !extension(c->ssl, wants, &body))
        return true;
    if (!is_13 && !ask_ticket(c, body))
        return false;
    while (next_identity(&list, &ticket))
        if (!ask_ticket(c, ticket))
            return false;
    return ask(c, HOOK_TICKET_KEY, (struct cotls_bytes){NULL, 0});
}

static const struct {
    enum cotls_hook hook;
    bool (*ask)(struct cotls_conn *c);
    int alert;
} questions[] = {
    {HOOK_SERVER_NAME, ask_server_name, SSL_AD_UNRECOGNIZED_NAME},
    {HOOK_ALPN, ask_alpn, SSL_AD_NO_APPLICATION_PROTOCOL},
    {HOOK_SESSION_GET, ask_session, SSL_AD_INTERNAL_ERROR},
    {HOOK_TICKET_KEY, ask_ticket_keys, SSL_AD_INTERNAL_ERROR},
    {HOOK_OCSP, ask_ocsp, SSL_AD_INTERNAL_ERROR},
};

/* Inside client_hello, in the context in force: asks what will be asked; false: OpenSSL must come again, or a hook
 * refuses, by *alert. on_psk's identities of TLS 1.3 are asked about in there anyway (psk.c). */
bool cotls_prefetch(struct cotls_conn *c, int *alert)
{
    if (c->asks == NULL || !c->asks->in_hello)
        return true;
    for (size_t i = 0; i < sizeof questions / sizeof *questions; i++)
        if (cotls_hooked(c, questions[i].hook) && !questions[i].ask(c)) {
            *alert = questions[i].alert;
            return false;
        }
    return true;
}

/* A client's hello of TLS 1.3 has its key, and early data may go with it: on_psk is asked before OpenSSL is called,
 * jobs or not. false: the answer comes later. */
bool cotls_prefetch_psk(struct cotls_conn *c)
{
    bool later = false;
    if (!c->ctx->server && !c->established && cotls_hooked(c, HOOK_PSK) && cotls_may_be_tls13(c->ssl))
        cotls_ask(c, HOOK_PSK, NULL, 0, &later);
    return !later;
}

/* Which hooks of a context can be asked without a job. */
unsigned cotls_prefetched(const struct cotls_ctx *x)
{
    unsigned hooks = 0;
    for (size_t i = 0; x->server && i < sizeof questions / sizeof *questions; i++)
        hooks |= 1U << questions[i].hook;
    if (SSL_CTX_get_min_proto_version(x->ssl_ctx) >= TLS1_3_VERSION)
        hooks |= 1U << HOOK_PSK; /* on TLS 1.2 identity and hint come later */
    return hooks;
}
