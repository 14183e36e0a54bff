/* SPDX-License-Identifier: MIT
 * Every SSL, X509 and PEM callback. OpenSSL calls them in the middle of a
 * step: they read and write C fields of the connection and touch no lua_State. */
#include "cotls.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

/* DNS names as in RFC 6125: no fall-back to the subject's CN, a wildcard is a whole label. */
#define NAME_FLAGS (X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS)

/* Is any of the connection's names the certificate's? X509_V_OK, or why not. */
static int check_names(const struct cotls_conn *c, X509 *leaf)
{
    int verdict = X509_V_OK;
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

/* SSL_CTX_set_cert_verify_callback(3): the chain by OpenSSL, then the name. */
int cotls_hook_verify(X509_STORE_CTX *store, void *arg)
{
    SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct cotls_conn *c = SSL_get_app_data(ssl);
    bool ok = X509_verify_cert(store) > 0;
    (void)arg;
    if (!ok && X509_STORE_CTX_get_error(store) == X509_V_OK)
        X509_STORE_CTX_set_error(store, X509_V_ERR_UNSPECIFIED);
    if (ok && c->names_len > 0) {
        X509 *leaf = X509_STORE_CTX_get0_cert(store);
        int verdict = check_names(c, leaf);
        if (verdict != X509_V_OK) {
            ok = false;
            X509_STORE_CTX_set_error(store, verdict);
            X509_STORE_CTX_set_error_depth(store, 0);
            X509_STORE_CTX_set_current_cert(store, leaf);
        }
    }
    c->verify_code = X509_STORE_CTX_get_error(store);
    c->verify_depth = X509_STORE_CTX_get_error_depth(store);
    free(c->verify_subject);
    c->verify_subject = ok ? NULL : subject_text(X509_STORE_CTX_get_current_cert(store));
    return ok;
}

/* SSL_CTX_set_info_callback(3): the alerts that went by. */
void cotls_hook_info(const SSL *ssl, int where, int ret)
{
    struct cotls_conn *c = SSL_get_app_data(ssl);
    if ((where & SSL_CB_ALERT) == 0 || c == NULL || (ret >> 8) != SSL3_AL_FATAL)
        return;
    c->alert = ret & 255;
    c->alert_sent = (where & SSL_CB_WRITE) != 0;
}

/* SSL_CTX_set_alpn_select_cb(3): the server's order decides; no overlap is fatal (RFC 7301 section 3.2). */
int cotls_hook_alpn(SSL *ssl, const unsigned char **out, unsigned char *outlen, const unsigned char *in,
                    unsigned int inlen, void *arg)
{
    const struct cotls_conn *c = SSL_get_app_data(ssl);
    const unsigned char *mine = c->alpn != NULL ? c->alpn : c->ctx->alpn;
    size_t n = c->alpn != NULL ? c->alpn_len : c->ctx->alpn_len;
    unsigned char *chosen;
    (void)arg;
    if (mine == NULL)
        return SSL_TLSEXT_ERR_NOACK;
    if (SSL_select_next_proto(&chosen, outlen, mine, (unsigned)n, in, inlen) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

/* pem_password_cb(3): never asks at the terminal; without a password it fails. */
int cotls_hook_password(char *buf, int size, int rwflag, void *password)
{
    (void)rwflag;
    size_t n = password != NULL ? strlen(password) : 0;
    if (password == NULL || n > (size_t)size)
        return -1;
    memcpy(buf, password, n);
    return (int)n;
}
