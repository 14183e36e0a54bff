/* SPDX-License-Identifier: MIT
 * The verdict on a peer: OpenSSL's on the chain, then ours on the names, and the
 * settings that it depends on. cotls_verify_chain runs inside OpenSSL: it reads
 * and writes C fields of the connection and touches no lua_State. */
#include "cotls.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

/* DNS names as in RFC 6125: no fall-back to the subject's CN, a wildcard is a whole label. */
#define NAME_FLAGS (X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS)

/* Is any of the connection's names the certificate's? X509_V_OK, or why not. */
static int check_names(struct cotls_conn *c, X509_STORE_CTX *store)
{
    X509 *leaf = X509_STORE_CTX_get0_cert(store);
    int verdict = X509_V_OK;
    if (c->names_len == 0 &&
        c->active->verifies) /* it was not asked for a name: whose is the certificate to be? */
        return X509_V_ERR_HOSTNAME_MISMATCH;
    for (const char *name = c->names; name < c->names + c->names_len; name += strlen(name) + 1) {
        ASN1_OCTET_STRING *ip = a2i_IPADDRESS(name);
        int match = ip != NULL
                        ? X509_check_ip(leaf, ASN1_STRING_get0_data(ip), (size_t)ASN1_STRING_length(ip), 0)
                        : X509_check_host(leaf, name, strlen(name), NAME_FLAGS, NULL);
        if (verdict == X509_V_OK)
            verdict = ip != NULL ? X509_V_ERR_IP_ADDRESS_MISMATCH : X509_V_ERR_HOSTNAME_MISMATCH;
        ASN1_OCTET_STRING_free(ip);
        if (match == 1)
            return X509_V_OK;
    }
    return verdict;
}

/* The subject as RFC 2253 text, from malloc, or NULL. */
static char *subject_text(const X509 *cert)
{
    char *text = NULL;
    BIO *bio = BIO_new(BIO_s_mem());
    if (cert != NULL && bio != NULL &&
        X509_NAME_print_ex(bio, X509_get_subject_name(cert), 0, XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB) >=
            0) {
        char *data;
        long n = BIO_get_mem_data(bio, &data);
        text = n >= 0 ? malloc((size_t)n + 1) : NULL;
        if (text != NULL) {
            memcpy(text, data, (size_t)n);
            text[n] = '\0';
        }
    }
    BIO_free(bio);
    return text;
}

/* What OpenSSL's verdict on the chain is followed by: X509_V_OK, or what is wrong with the peer's certificate,
 * and c->verify_text where OpenSSL's words don't say it. */
static int (*const checks[])(struct cotls_conn *c, X509_STORE_CTX *store) = {
    check_names,
};

/* false: the store says what is wrong */
static bool check_ours(struct cotls_conn *c, X509_STORE_CTX *store)
{
    for (size_t i = 0; i < sizeof checks / sizeof *checks; i++) {
        int verdict = checks[i](c, store);
        if (verdict == X509_V_OK)
            continue;
        X509_STORE_CTX_set_error(store, verdict);
        X509_STORE_CTX_set_error_depth(store, 0);
        X509_STORE_CTX_set_current_cert(store, X509_STORE_CTX_get0_cert(store));
        return false;
    }
    return true;
}

/* The chain by OpenSSL, then what is ours. */
bool cotls_verify_chain(struct cotls_conn *c, X509_STORE_CTX *store)
{
    c->verify_text = NULL;
    bool ok = X509_verify_cert(store) > 0;
    if (!ok && X509_STORE_CTX_get_error(store) == X509_V_OK)
        X509_STORE_CTX_set_error(store, X509_V_ERR_UNSPECIFIED);
    ok = ok && check_ours(c, store);
    c->verify_code = X509_STORE_CTX_get_error(store);
    c->verify_depth = X509_STORE_CTX_get_error_depth(store);
    free(c->verify_subject);
    c->verify_subject = ok ? NULL : subject_text(X509_STORE_CTX_get_current_cert(store));
    return ok;
}

/* ---- settings ---- */

void cotls_verify_nobody(struct cotls_ctx *x)
{
    x->verifies = false;
    SSL_CTX_set_verify(x->ssl_ctx, SSL_VERIFY_NONE, NULL);
}

static bool set_insecure(lua_State *L, struct cotls_ctx *x)
{
    bool insecure = lua_toboolean(L, -1);
    if (insecure && x->server)
        return cotls_refuse(L, "is for clients; a server has verify_client");
    if (insecure)
        cotls_verify_nobody(x);
    return true;
}

static bool set_verify_client(lua_State *L, struct cotls_ctx *x)
{
    static const struct {
        const char *name;
        int mode;
    } modes[] = {
        {"none", SSL_VERIFY_NONE},
        {"optional", SSL_VERIFY_PEER},
        {"require", SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT},
    };
    const char *name = lua_tostring(L, -1);
    if (!x->server)
        return cotls_refuse(L, "is for servers");
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++)
        if (strcmp(name, modes[i].name) == 0) {
            SSL_CTX_set_verify(x->ssl_ctx, modes[i].mode, NULL);
            return true;
        }
    return cotls_refuse(L, "must be \"none\", \"optional\" or \"require\"");
}

const struct cotls_setting cotls_verify_settings[] = {
    {"insecure", set_insecure},
    {"verify_client", set_verify_client},
    {NULL, NULL},
};
