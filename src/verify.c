/* SPDX-License-Identifier: MIT
 * The verdict on a peer: OpenSSL's on the chain, then ours on the names, and the
 * settings that it depends on. cotls_verify_chain runs inside OpenSSL: it reads
 * and writes C fields of the connection and touches no lua_State. */
#include "cotls.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

#define MAX_DEPTH 100 /* OpenSSL's own limit, unless told otherwise */

/* Is any of the connection's names the certificate's? X509_V_OK, or why not. */
static int check_names(struct cotls_conn *c, X509_STORE_CTX *store)
{
    X509 *leaf = X509_STORE_CTX_get0_cert(store);
    int verdict = X509_V_OK;
    if (cotls_dane_binds_name(c))
        return X509_V_OK;
    if (c->names_len == 0) /* a client that verifies was made for a PSK: whose is the certificate to be? */
        return c->active->verifies ? X509_V_ERR_HOSTNAME_MISMATCH : X509_V_OK;
    for (const char *name = c->names; name < c->names + c->names_len; name += strlen(name) + 1) {
        ASN1_OCTET_STRING *ip = a2i_IPADDRESS(name);
        int match = ip != NULL
                        ? X509_check_ip(leaf, ASN1_STRING_get0_data(ip), (size_t)ASN1_STRING_length(ip), 0)
                        : X509_check_host(leaf, name, strlen(name), COTLS_NAME_FLAGS, NULL);
        if (verdict == X509_V_OK)
            verdict = ip != NULL ? X509_V_ERR_IP_ADDRESS_MISMATCH : X509_V_ERR_HOSTNAME_MISMATCH;
        ASN1_OCTET_STRING_free(ip);
        if (match == 1)
            return X509_V_OK;
    }
    return verdict;
}

/* The SHA-256 of a certificate's SubjectPublicKeyInfo. Without memory it is nobody's. */
static bool key_digest(const X509 *cert, unsigned char digest[SHA256_DIGEST_LENGTH])
{
    unsigned char *der = NULL;
    int n = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &der);
    bool ok = n > 0 && EVP_Digest(der, (size_t)n, digest, NULL, EVP_sha256(), NULL);
    OPENSSL_free(der);
    return ok;
}

static bool is_pinned(const struct cotls_ctx *x, const X509 *cert)
{
    unsigned char digest[SHA256_DIGEST_LENGTH];
    if (!key_digest(cert, digest))
        return false;
    for (size_t at = 0; at < x->pins_len; at += sizeof digest)
        if (memcmp(x->pins + at, digest, sizeof digest) == 0)
            return true;
    return false;
}

/* RFC 7469 section 2.6: what was sent beside the chain that was verified doesn't count. */
static int check_pins(struct cotls_conn *c, X509_STORE_CTX *store)
{
    const STACK_OF(X509) *chain = X509_STORE_CTX_get0_chain(store);
    if (c->active->pins == NULL)
        return X509_V_OK;
    for (int i = 0; i < sk_X509_num(chain); i++)
        if (is_pinned(c->active, sk_X509_value(chain, i)))
            return X509_V_OK;
    c->verify_text = "no key of the verified chain is among the pins";
    return X509_V_ERR_APPLICATION_VERIFICATION;
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
    check_pins,
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

/* LuaSec's verifyext: what is wrong is noted, as far as there is room. */
void cotls_verify_note(struct cotls_conn *c, int depth, int code)
{
    if (c->verify_errors == NULL)
        c->verify_errors = calloc(COTLS_VERIFY_ERRORS, sizeof *c->verify_errors);
    if (c->verify_errors != NULL && c->verify_error_count < COTLS_VERIFY_ERRORS)
        c->verify_errors[c->verify_error_count++] = (struct cotls_verify_error){depth, code};
}

static void extend(const struct cotls_conn *c, X509_STORE_CTX *store)
{
    X509_VERIFY_PARAM *param = X509_STORE_CTX_get0_param(store);
    if (c->active->verify_no_purpose && param != NULL) {
        X509_VERIFY_PARAM_set_purpose(param, X509_PURPOSE_SSL_SERVER);
        X509_VERIFY_PARAM_set_trust(param, X509_TRUST_SSL_SERVER);
    }
    if (c->active->verify_no_purpose || c->active->verify_goes_on)
        X509_STORE_CTX_set_verify_cb(store, &cotls_hook_verify_error);
}

/* The chain by OpenSSL, then what is ours. What either leaves in OpenSSL's error queue (a signature that is wrong,
 * a file that is not there) would stand before the failure of the handshake and be taken for it. */
bool cotls_verify_chain(struct cotls_conn *c, X509_STORE_CTX *store)
{
    c->verify_text = NULL;
    c->dane_match = NULL;
    c->verify_error_count = 0;
    extend(c, store);
    ERR_set_mark();
    bool ok = X509_verify_cert(store) > 0;
    if (!ok && X509_STORE_CTX_get_error(store) == X509_V_OK)
        X509_STORE_CTX_set_error(store, X509_V_ERR_UNSPECIFIED);
    if (ok)
        cotls_dane_matched(c);
    ok = ok && check_ours(c, store);
    ERR_pop_to_mark();
    if (!ok)
        c->dane_match = NULL;
    c->verify_code = X509_STORE_CTX_get_error(store);
    c->verify_depth = X509_STORE_CTX_get_error_depth(store);
    free(c->verify_subject);
    c->verify_subject = ok ? NULL : subject_text(X509_STORE_CTX_get_current_cert(store));
    if (!ok)
        cotls_keep_refused(c, store);
    return ok;
}

/* The peer's certificate is refused after all; the text lives for ever. */
void cotls_verify_fail(struct cotls_conn *c, int code, const char *text, const X509 *cert)
{
    free(c->verify_subject);
    c->verify_subject = subject_text(cert);
    c->verify_code = code;
    c->verify_depth = 0;
    c->verify_text = text;
    c->dane_match = NULL;
}

/* on_verify has the last word. */
void cotls_verify_judged(struct cotls_conn *c, long code)
{
    c->verify_code = code;
    c->verify_depth = 0;
    c->verify_text = code == X509_V_OK ? NULL : "on_verify refuses the certificate";
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

static X509_VERIFY_PARAM *param_of(const struct cotls_ctx *x)
{
    return SSL_CTX_get0_param(x->ssl_ctx);
}

static bool set_crl_check(lua_State *L, struct cotls_ctx *x)
{
    const char *which = lua_tostring(L, -1);
    bool chain = strcmp(which, "chain") == 0;
    if (!chain && strcmp(which, "leaf") != 0)
        return cotls_refuse(L, "must be \"leaf\" or \"chain\"");
    X509_VERIFY_PARAM_set_flags(param_of(x), X509_V_FLAG_CRL_CHECK | (chain ? X509_V_FLAG_CRL_CHECK_ALL : 0));
    return true;
}

static bool set_verify_depth(lua_State *L, struct cotls_ctx *x)
{
    lua_Integer depth = lua_tointeger(L, -1);
    if (depth > MAX_DEPTH)
        return cotls_refuse(L, "must not be more than 100");
    X509_VERIFY_PARAM_set_depth(param_of(x), (int)depth);
    return true;
}

static bool refuse_purpose(lua_State *L)
{
    lua_pushfstring(L, "unknown purpose '%s': must be", lua_tostring(L, -1));
    for (int i = 0; i < X509_PURPOSE_get_count(); i++) {
        const char *name = X509_PURPOSE_get0_sname(X509_PURPOSE_get0(i));
        lua_pushfstring(L, "%s%s \"%s\"", lua_tostring(L, -1), i > 0 ? "," : "", name);
    }
    return false;
}

/* The short names of openssl-verification-options(1). Default: the peer's side of TLS. */
static bool set_purpose(lua_State *L, struct cotls_ctx *x)
{
    int index = X509_PURPOSE_get_by_sname(lua_tostring(L, -1));
    if (index < 0)
        return refuse_purpose(L);
    return X509_VERIFY_PARAM_set_purpose(param_of(x), X509_PURPOSE_get_id(X509_PURPOSE_get0(index))) ||
           cotls_refuse(L, "is refused by OpenSSL");
}

static bool set_partial_chain(lua_State *L, struct cotls_ctx *x)
{
    if (lua_toboolean(L, -1))
        X509_VERIFY_PARAM_set_flags(param_of(x), X509_V_FLAG_PARTIAL_CHAIN);
    return true;
}

/* The face has made digests of them. */
static bool set_pins(lua_State *L, struct cotls_ctx *x)
{
    x->pins = lua_tolstring(L, -1, &x->pins_len);
    lua_pushvalue(L, -1);
    lua_setiuservalue(L, 1, UV_CTX_PINS);
    return true;
}

const struct cotls_setting cotls_verify_settings[] = {
    {"insecure", set_insecure},   {"verify_client", set_verify_client},
    {"crl_check", set_crl_check}, {"verify_depth", set_verify_depth},
    {"purpose", set_purpose},     {"partial_chain", set_partial_chain},
    {"pins", set_pins},           {NULL, NULL},
};
