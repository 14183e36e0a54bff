/* SPDX-License-Identifier: MIT
 * OCSP stapling (RFC 6066 section 8, RFC 6960): the responses that a server gives with its certificates, and a
 * client's verdict on the one that it is given. cotls_ocsp_give and cotls_ocsp_check run inside OpenSSL: they
 * touch no lua_State and leave the error queue as it was. A response is signed by the certificate's issuer or
 * by whom that has named for it; nobody else's word counts, so the trust store is not asked who may sign. */
#include "cotls.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ocsp.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <time.h>

#define DAY 86400
#define SKEW 300         /* seconds by which clocks may differ */
#define STATUS_REQUEST 5 /* in the extension of RFC 7633 */

/* ---- what a response says ---- */

/* The words for a responder that doesn't answer, RFC 6960 section 4.2.1. */
static const char *unanswered(int status)
{
    static const char *const words[] = {
        [OCSP_RESPONSE_STATUS_MALFORMEDREQUEST] = "OCSP response: malformed request",
        [OCSP_RESPONSE_STATUS_INTERNALERROR] = "OCSP response: internal error",
        [OCSP_RESPONSE_STATUS_TRYLATER] = "OCSP response: try later",
        [OCSP_RESPONSE_STATUS_SIGREQUIRED] = "OCSP response: signature required",
        [OCSP_RESPONSE_STATUS_UNAUTHORIZED] = "OCSP response: unauthorized",
    };
    bool known = status > 0 && (size_t)status < sizeof words / sizeof *words && words[status] != NULL;
    return known ? words[status] : "OCSP response: unknown status";
}

static const char UNPARSED[] = "OCSP response can't be parsed";

/* NULL: *fault says why */
static OCSP_BASICRESP *parse(const unsigned char *der, size_t n, const char **fault)
{
    const unsigned char *p = der;
    OCSP_RESPONSE *response = d2i_OCSP_RESPONSE(NULL, &p, (long)n);
    OCSP_BASICRESP *basic = NULL;
    *fault = NULL;
    if (response == NULL || p != der + n)
        *fault = UNPARSED;
    else if (OCSP_response_status(response) != OCSP_RESPONSE_STATUS_SUCCESSFUL)
        *fault = unanswered(OCSP_response_status(response));
    else if ((basic = OCSP_response_get1_basic(response)) == NULL)
        *fault = "OCSP response is of an unknown type";
    OCSP_RESPONSE_free(response);
    return basic;
}

static bool equals(const ASN1_OCTET_STRING *hash, const unsigned char *digest, unsigned int n)
{
    return ASN1_STRING_length(hash) == (int)n && memcmp(ASN1_STRING_get0_data(hash), digest, n) == 0;
}

/* Is it about that certificate? The issuer's name is in it; the issuer's key is compared where it is known. */
static bool is_about(const OCSP_SINGLERESP *single, const X509 *cert, const X509 *issuer)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int n;
    ASN1_OCTET_STRING *name, *key;
    ASN1_OBJECT *algorithm;
    ASN1_INTEGER *serial;
    const EVP_MD *md = NULL;
    OCSP_CERTID *id = OCSP_CERTID_dup(OCSP_SINGLERESP_get0_id(single));
    if (id != NULL && OCSP_id_get0_info(&name, &algorithm, &key, &serial, id))
        md = EVP_get_digestbyobj(algorithm);
    bool same = md != NULL && ASN1_INTEGER_cmp(serial, X509_get0_serialNumber(cert)) == 0 &&
                X509_NAME_digest(X509_get_issuer_name(cert), md, digest, &n) && equals(name, digest, n) &&
                (issuer == NULL || (X509_pubkey_digest(issuer, md, digest, &n) && equals(key, digest, n)));
    OCSP_CERTID_free(id);
    return same;
}

static OCSP_SINGLERESP *find(OCSP_BASICRESP *basic, const X509 *cert, const X509 *issuer)
{
    int n = OCSP_resp_count(basic);
    for (int i = 0; i < n; i++)
        if (is_about(OCSP_resp_get0(basic, i), cert, issuer))
            return OCSP_resp_get0(basic, i);
    return NULL;
}

/* ---- who has signed it ---- */

static bool has_made(X509 *issuer, X509 *cert)
{
    return X509_check_issued(issuer, cert) == X509_V_OK && X509_verify(cert, X509_get0_pubkey(issuer)) == 1;
}

/* The issuer of the peer's certificate, from the chain that was verified: that may be the certificate alone
 * (DANE, a partial chain), which may be its own issuer; then from what the peer has sent. NULL: not known. */
static X509 *find_issuer(const SSL *ssl, X509 *leaf)
{
    const STACK_OF(X509) *verified = SSL_get0_verified_chain(ssl), *sent = SSL_get_peer_cert_chain(ssl);
    if (sk_X509_num(verified) > 1)
        return sk_X509_value(verified, 1);
    if (X509_self_signed(leaf, 1) == 1)
        return leaf;
    for (int i = 1; i < sk_X509_num(sent); i++)
        if (has_made(sk_X509_value(sent, i), leaf))
            return sk_X509_value(sent, i);
    return NULL;
}

static const char NOBODY[] = "OCSP response is signed by neither the issuer nor a delegate of it";

static const char *delegate_fault(int error)
{
    static const struct {
        int error;
        const char *words;
    } known[] = {
        {X509_V_ERR_CERT_HAS_EXPIRED, "OCSP response is signed by a delegate whose certificate has expired"},
        {X509_V_ERR_CERT_NOT_YET_VALID,
         "OCSP response is signed by a delegate whose certificate is not yet valid"},
        {X509_V_ERR_CERT_REVOKED, "OCSP response is signed by a delegate whose certificate is revoked"},
        {X509_V_ERR_UNABLE_TO_GET_CRL,
         "OCSP response is signed by a delegate for whose certificate there is no CRL"},
        {X509_V_ERR_EE_KEY_TOO_SMALL, "OCSP response is signed by a delegate whose key is too weak"},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].error == error)
            return known[i].words;
    return NOBODY;
}

/* As the connection verifies: its level, and its CRLs unless the delegate is exempt (RFC 6960 section 4.2.2.2.1). */
static void set_delegate_rules(const struct cotls_conn *c, X509_STORE_CTX *store, const X509 *delegate)
{
    X509_VERIFY_PARAM *rules = X509_STORE_CTX_get0_param(store), *theirs = SSL_get0_param(c->ssl);
    unsigned long crl = X509_VERIFY_PARAM_get_flags(theirs) & X509_V_FLAG_CRL_CHECK;
    if (X509_get_ext_by_NID(delegate, NID_id_pkix_OCSP_noCheck, -1) >= 0)
        crl = 0;
    X509_VERIFY_PARAM_clear_flags(rules, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
    X509_VERIFY_PARAM_set_flags(rules, X509_V_FLAG_PARTIAL_CHAIN | crl);
    X509_VERIFY_PARAM_set_auth_level(rules, SSL_get_security_level(c->ssl));
}

/* RFC 6960 section 4.2.2.2 */
static bool is_for_ocsp(X509 *cert)
{
    return (X509_get_extension_flags(cert) & EXFLAG_XKUSAGE) != 0 &&
           (X509_get_extended_key_usage(cert) & XKU_OCSP_SIGN) != 0 &&
           (X509_get_key_usage(cert) & KU_DIGITAL_SIGNATURE) != 0;
}

/* Has the issuer made that certificate, and for this? Only the issuer is trusted here; NULL: yes. */
static const char *check_delegate(const struct cotls_conn *c, X509 *delegate, STACK_OF(X509) * issuer)
{
    X509_STORE *crls = SSL_CTX_get_cert_store(SSL_get_SSL_CTX(c->ssl));
    X509_STORE_CTX *store = X509_STORE_CTX_new();
    const char *fault = NOBODY;
    if (store != NULL && X509_STORE_CTX_init(store, crls, delegate, NULL)) {
        X509_STORE_CTX_set0_trusted_stack(store, issuer);
        set_delegate_rules(c, store, delegate);
        fault = X509_verify_cert(store) == 1 ? NULL : delegate_fault(X509_STORE_CTX_get_error(store));
    }
    X509_STORE_CTX_free(store);
    if (fault == NULL && !is_for_ocsp(delegate))
        fault = "OCSP response is signed by a certificate that is not for that";
    return fault;
}

/* The security level's bits, as OpenSSL asks them of signatures on certificates. A signature scheme with a digest of
 * its own passes. */
static bool is_strong(const struct cotls_conn *c, const OCSP_BASICRESP *basic)
{
    static const int wanted[] = {0, 80, 112, 128, 192, 256};
    const ASN1_OBJECT *scheme;
    int level = SSL_get_security_level(c->ssl), md;
    X509_ALGOR_get0(&scheme, NULL, NULL, OCSP_resp_get0_tbs_sigalg(basic));
    if (!OBJ_find_sigid_algs(OBJ_obj2nid(scheme), &md, NULL) || md == NID_undef)
        return true;
    const EVP_MD *digest = EVP_get_digestbynid(md);
    int bits = md == NID_sha1 ? 63 : digest != NULL ? EVP_MD_get_size(digest) * 4 : 0; /* SHA-1 is broken */
    int most = (int)(sizeof wanted / sizeof *wanted) - 1;
    return level <= 0 || bits >= wanted[level < most ? level : most];
}

/* RFC 6960 section 4.2.2.2; NULL: it is signed as it must be. */
static const char *check_signature(const struct cotls_conn *c, OCSP_BASICRESP *basic, X509 *issuer)
{
    STACK_OF(X509) *signers = sk_X509_new_null();
    X509 *signer = NULL;
    const char *fault = NULL;
    if (signers == NULL || sk_X509_push(signers, issuer) <= 0 ||
        OCSP_resp_get0_signer(basic, &signer, signers) != 1)
        fault = NOBODY;
    else if (signer != issuer)
        fault = check_delegate(c, signer, signers);
    if (fault == NULL && !is_strong(c, basic))
        fault = "OCSP response is signed with too weak a digest";
    if (fault == NULL) {
        sk_X509_set(signers, 0, signer);
        if (OCSP_basic_verify(basic, signers, NULL, OCSP_NOVERIFY | OCSP_NOINTERN) != 1)
            fault = "OCSP response has a bad signature";
    }
    sk_X509_free(signers);
    return fault;
}

/* ---- the verdict ---- */

/* The moment as seconds since 1970. */
static bool to_moment(const ASN1_GENERALIZEDTIME *t, time_t now, time_t *moment)
{
    int days, seconds;
    if (!ASN1_GENERALIZEDTIME_check(t) || !ASN1_TIME_diff(&days, &seconds, NULL, t))
        return false;
    *moment = now + (time_t)days * DAY + seconds;
    return true;
}

/* NULL: it holds, until *until */
static const char *check_times(const ASN1_GENERALIZEDTIME *from, const ASN1_GENERALIZEDTIME *to,
                               time_t *until)
{
    time_t now = time(NULL), begin;
    if (!to_moment(from, now, &begin) || (to != NULL && !to_moment(to, now, until)))
        return "OCSP response has a time that can't be read";
    if (to == NULL)
        *until = begin + DAY;
    if (*until < begin)
        return "OCSP response ends before it begins";
    if (begin > now + SKEW)
        return "OCSP response is not yet valid";
    return *until < now - SKEW ? "OCSP response is stale" : NULL;
}

static bool refuse(struct cotls_conn *c, int code, const char *words)
{
    cotls_verify_fail(c, code, words, SSL_get0_peer_certificate(c->ssl));
    return false;
}

/* The response is the responder's own: what does it say? */
static bool check_status(struct cotls_conn *c, OCSP_SINGLERESP *single)
{
    ASN1_GENERALIZEDTIME *from = NULL, *to = NULL;
    time_t until = 0;
    int status = OCSP_single_get0_status(single, NULL, NULL, &from, &to);
    const char *fault = check_times(from, to, &until);
    if (fault != NULL)
        return refuse(c, X509_V_ERR_OCSP_VERIFY_FAILED, fault);
    if (status == V_OCSP_CERTSTATUS_REVOKED)
        return refuse(c, X509_V_ERR_CERT_REVOKED, "OCSP response: the certificate is revoked");
    if (status != V_OCSP_CERTSTATUS_GOOD)
        return refuse(c, X509_V_ERR_OCSP_CERT_UNKNOWN, "OCSP response: the certificate is unknown");
    c->ocsp_until = until;
    return true;
}

static bool check_basic(struct cotls_conn *c, OCSP_BASICRESP *basic, X509 *leaf)
{
    X509 *issuer = find_issuer(c->ssl, leaf);
    OCSP_SINGLERESP *single = find(basic, leaf, issuer);
    if (single == NULL)
        return refuse(c, X509_V_ERR_OCSP_CERT_UNKNOWN, "OCSP response is about another certificate");
    if (issuer == NULL)
        return refuse(c, X509_V_ERR_OCSP_VERIFY_FAILED,
                      "OCSP response can't be checked: the peer hasn't sent its certificate's issuer");
    const char *fault = check_signature(c, basic, issuer);
    return fault == NULL ? check_status(c, single) : refuse(c, X509_V_ERR_OCSP_VERIFY_FAILED, fault);
}

static bool check_response(struct cotls_conn *c, const unsigned char *der, size_t n, X509 *leaf)
{
    const char *fault;
    OCSP_BASICRESP *basic = parse(der, n, &fault);
    bool ok = basic != NULL ? check_basic(c, basic, leaf) : refuse(c, X509_V_ERR_OCSP_VERIFY_FAILED, fault);
    OCSP_BASICRESP_free(basic);
    return ok;
}

/* Does the certificate demand a staple (RFC 7633)? One whose extension can't be read does. */
static bool must_staple(const X509 *leaf)
{
    int critical;
    TLS_FEATURE *features = X509_get_ext_d2i(leaf, NID_tlsfeature, &critical, NULL);
    bool must = features == NULL && critical != -1;
    for (int i = 0; i < sk_ASN1_INTEGER_num(features); i++)
        must = must || ASN1_INTEGER_get(sk_ASN1_INTEGER_value(features, i)) == STATUS_REQUEST;
    TLS_FEATURE_free(features);
    return must;
}

/* Without a certificate there is nothing to staple: the peer has proven itself by a PSK, or not at all. TLS 1.2
 * doesn't call the cipher current yet. */
static bool has_psk(const SSL *ssl)
{
    const SSL_CIPHER *cipher = SSL_get_pending_cipher(ssl);
    return cipher != NULL && SSL_CIPHER_get_auth_nid(cipher) == NID_auth_psk;
}

static bool check_absent(struct cotls_conn *c, const X509 *leaf)
{
    if (leaf == NULL && has_psk(c->ssl))
        return true;
    if (c->active->ocsp_required || leaf == NULL)
        return refuse(c, X509_V_ERR_OCSP_VERIFY_NEEDED, "no OCSP response was given");
    if (must_staple(leaf))
        return refuse(c, X509_V_ERR_OCSP_VERIFY_NEEDED,
                      "no OCSP response was given, and the certificate demands one (RFC 7633)");
    return true;
}

/* A client's verdict. A resumed session has no staple: its first verdict holds. */
bool cotls_ocsp_check(struct cotls_conn *c)
{
    const unsigned char *der = NULL;
    long n = SSL_get_tlsext_status_ocsp_resp(c->ssl, &der);
    X509 *leaf = SSL_get0_peer_certificate(c->ssl);
    if (SSL_session_reused(c->ssl))
        return true;
    c->ocsp_until = 0;
    ERR_set_mark();
    bool ok = der == NULL || n <= 0 || leaf == NULL ? check_absent(c, leaf)
                                                    : check_response(c, der, (size_t)n, leaf);
    ERR_pop_to_mark();
    return ok;
}

/* ---- a server's staples ---- */

static const X509 *issuer_of(const struct cotls_credential *k)
{
    if (X509_self_signed(k->leaf, 0) == 1)
        return k->leaf;
    for (int i = 0; i < sk_X509_num(k->chain); i++)
        if (X509_check_issued(sk_X509_value(k->chain, i), k->leaf) == X509_V_OK)
            return sk_X509_value(k->chain, i);
    return NULL;
}

/* Why the bytes can't be stapled to that certificate, or NULL. What they say of it is the clients' matter. */
const char *cotls_ocsp_fault(const struct cotls_credential *k, const void *der, size_t size)
{
    const char *fault;
    OCSP_BASICRESP *basic = parse(der, size, &fault);
    if (basic != NULL && find(basic, k->leaf, issuer_of(k)) == NULL)
        fault = "OCSP response is about another certificate";
    OCSP_BASICRESP_free(basic);
    ERR_clear_error();
    return fault == UNPARSED ? "no OCSP response in DER" : fault;
}

/* The staple of the certificate that is in use, as a client has asked for one. */
int cotls_ocsp_staple(struct cotls_conn *c, const void *der, size_t n)
{
    unsigned char *copy = OPENSSL_memdup(der, n);
    if (copy == NULL)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    SSL_set_tlsext_status_ocsp_resp(c->ssl, copy, (long)n);
    return SSL_TLSEXT_ERR_OK;
}

int cotls_ocsp_give(struct cotls_conn *c)
{
    const struct cotls_ctx *x = c->active;
    const X509 *leaf = SSL_get_certificate(c->ssl);
    if (c->staple.data != NULL)
        return cotls_ocsp_staple(c, c->staple.data, c->staple.len);
    for (size_t i = 0; i < x->credential_count; i++) {
        const struct cotls_credential *k = x->credentials[i];
        if (k->leaf != leaf || k->ocsp == NULL)
            continue;
        return cotls_ocsp_staple(c, k->ocsp, k->ocsp_len);
    }
    return SSL_TLSEXT_ERR_NOACK;
}

/* Staples to each certificate that the response is about; NULL, or why to none. */
static const char *staple(struct cotls_ctx *x, const char *der, size_t size)
{
    const char *fault = "there is no certificate to it";
    bool stapled = false;
    for (size_t i = 0; i < x->credential_count; i++) {
        const char *refused = cotls_ocsp_fault(x->credentials[i], der, size);
        if (refused == NULL && !cotls_credential_staple(x->credentials[i], der, size))
            refused = "no memory";
        stapled = stapled || refused == NULL;
        fault = refused;
    }
    return stapled ? NULL : fault;
}

/* core.set_ocsp_response(context, { name =, data = }) → context, or nil, err */
int cotls_set_ocsp_response(lua_State *L)
{
    struct cotls_ctx *x = cotls_check_context(L, 1);
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_settop(L, 2);
    struct cotls_file f = cotls_to_file(L);
    const char *fault = x->server ? staple(x, f.data, f.size) : "is for servers";
    if (fault == NULL) {
        lua_settop(L, 1);
        return 1;
    }
    lua_pushfstring(L, "%s: %s", f.name, fault);
    return cotls_fail_config(L, "ocsp_response");
}

/* ---- settings ---- */

/* Asks for the staple, and for SCTs (RFC 6962 section 3.3), which are told and nothing else: the hook is content
 * with all of them. */
static bool ask(SSL_CTX *ctx)
{
    return SSL_CTX_set_tlsext_status_type(ctx, TLSEXT_STATUSTYPE_ocsp) == 1 &&
           SSL_CTX_set_ct_validation_callback(ctx, cotls_hook_scts, NULL) == 1;
}

static bool set_ocsp(lua_State *L, struct cotls_ctx *x)
{
    const char *value = lua_tostring(L, -1);
    if (x->server)
        return cotls_refuse(L, "is for clients; a server has ocsp_response");
    if (!x->verifies)
        return cotls_refuse(L, "needs a client that verifies, and this one is insecure");
    if (strcmp(value, "request") != 0 && strcmp(value, "require") != 0)
        return cotls_refuse(L, "must be \"request\" or \"require\"");
    x->ocsp_required = strcmp(value, "require") == 0;
    return ask(x->ssl_ctx) || cotls_refuse(L, "is refused by OpenSSL");
}

const struct cotls_setting cotls_ocsp_settings[] = {
    {"ocsp", set_ocsp},
    {NULL, NULL},
};
