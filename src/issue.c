/* SPDX-License-Identifier: MIT
 * Makes a key and a certificate as make_certificate's wish says. Nothing here
 * touches Lua; a step that fails says in k->option and k->reason why. */
#include "cotls.h"

#include <math.h>
#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define DAY 86400.0
#define BACKDATED 300.0 /* seconds before now that a certificate begins: clocks differ */
#define DEFAULT_DAYS 30.0
#define MAX_CN 64 /* ub-common-name, RFC 5280 appendix A.1 */

static bool fail(struct cotls_issue *k, const char *option, const char *reason)
{
    k->option = option;
    k->reason = reason;
    return false;
}

static BIO *text_bio(const struct cotls_text *t)
{
    return t->len < INT32_MAX ? BIO_new_mem_buf(t->data, (int)t->len) : NULL;
}

static bool load_ca(const struct cotls_wish *w, struct cotls_issue *k)
{
    if (w->ca_certificate.data == NULL)
        return true;
    BIO *certificate = text_bio(&w->ca_certificate), *key = text_bio(&w->ca_key);
    if (certificate != NULL && key != NULL) {
        k->ca_certificate = PEM_read_bio_X509(certificate, NULL, cotls_hook_password, NULL);
        k->ca_key = PEM_read_bio_PrivateKey(key, NULL, cotls_hook_password, NULL);
    }
    BIO_free(certificate);
    BIO_free(key);
    if (k->ca_certificate == NULL)
        return fail(k, "ca", "its certificate is not in PEM");
    if (k->ca_key == NULL)
        return fail(k, "ca", "its key is not in PEM, or encrypted");
    return X509_check_private_key(k->ca_certificate, k->ca_key) == 1 ||
           fail(k, "ca", "its key does not match its certificate");
}

static bool make_key(const struct cotls_wish *w, struct cotls_issue *k)
{
    k->key = w->key_type->generate(w->bits);
    k->certificate = X509_new();
    return k->key != NULL && k->certificate != NULL && X509_set_version(k->certificate, X509_VERSION_3) &&
           X509_set_pubkey(k->certificate, k->key);
}

static bool set_serial(const struct cotls_wish *w, struct cotls_issue *k)
{
    BIGNUM *n = BN_new();
    (void)w;
    /* positive as an INTEGER, and at most 20 octets, RFC 5280 section 4.1.2.2 */
    bool ok = n != NULL && BN_rand(n, 127, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) &&
              BN_to_ASN1_INTEGER(n, X509_get_serialNumber(k->certificate)) != NULL;
    BN_free(n);
    return ok;
}

/* The first name that a CN can hold. */
static struct cotls_text default_cn(const struct cotls_wish *w)
{
    for (size_t i = 0; i < w->names.count; i++)
        if (w->names.items[i].len <= MAX_CN)
            return w->names.items[i];
    return (struct cotls_text){"localhost", 9};
}

static bool set_subject(const struct cotls_wish *w, struct cotls_issue *k)
{
    X509_NAME *name = X509_get_subject_name(k->certificate);
    X509 *issuer = k->ca_certificate != NULL ? k->ca_certificate : k->certificate;
    struct cotls_text cn = default_cn(w);
    const char *reason = NULL;
    if (w->subject != NULL && !cotls_name_parse(name, w->subject, w->subject_len, &reason))
        return fail(k, "subject", reason);
    if (w->subject == NULL && !X509_NAME_add_entry_by_NID(name, NID_commonName, MBSTRING_UTF8,
                                                          (const unsigned char *)cn.data, (int)cn.len, -1, 0))
        return false;
    return X509_set_issuer_name(k->certificate, X509_get_subject_name(issuer));
}

/* Days and seconds apart, as OpenSSL wants them: a long has 32 bits on some systems. */
static bool set_time(ASN1_TIME *t, double moment)
{
    time_t epoch = 0;
    double days = floor(moment / DAY);
    return X509_time_adj_ex(t, (int)days, (long)floor(moment - days * DAY), &epoch) != NULL;
}

/* What is not said: it begins now or, if it ends before that, a day before its end. */
static bool set_validity(const struct cotls_wish *w, struct cotls_issue *k)
{
    double now = (double)time(NULL), days = w->days != 0 ? w->days : DEFAULT_DAYS;
    double start = w->not_before, end = w->not_after;
    if (isnan(end))
        end = (isnan(start) ? now : start) + days * DAY;
    if (isnan(start))
        start = end < now ? end - DAY : now - BACKDATED;
    return (set_time(X509_getm_notBefore(k->certificate), start) &&
            set_time(X509_getm_notAfter(k->certificate), end)) ||
           fail(k, isnan(w->not_before) && isnan(w->not_after) ? "days" : "not_after",
                "reaches beyond what a certificate can say");
}

static bool add_extension(X509 *certificate, X509V3_CTX *ctx, int nid, const char *value)
{
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, ctx, nid, value);
    bool ok = extension != NULL && X509_add_ext(certificate, extension, -1);
    X509_EXTENSION_free(extension);
    return ok;
}

static const char *purposes_of(const struct cotls_wish *w)
{
    if (w->has_purposes)
        return w->purposes[0] != '\0' ? w->purposes : NULL;
    return w->is_ca ? NULL : "serverAuth,clientAuth";
}

/* The second identifier is a copy of the issuer's first, so it comes after it. */
static bool set_extensions(const struct cotls_wish *w, struct cotls_issue *k)
{
    bool rsa = EVP_PKEY_is_a(k->key, "RSA"), self = k->ca_certificate == NULL;
    const char *usage = rsa ? "critical,digitalSignature,keyEncipherment" : "critical,digitalSignature";
    char limited[40];
    snprintf(limited, sizeof limited, "critical,CA:TRUE,pathlen:%d", w->path_length);
    const struct {
        int nid;
        const char *value;
    } extensions[] = {
        {NID_basic_constraints, !w->is_ca            ? "CA:FALSE"
                                : w->path_length < 0 ? "critical,CA:TRUE"
                                                     : limited},
        {NID_key_usage, w->is_ca ? "critical,digitalSignature,keyCertSign,cRLSign" : usage},
        {NID_ext_key_usage, purposes_of(w)},
        {NID_subject_key_identifier, "hash"},
        {NID_authority_key_identifier, self ? "keyid:always" : "keyid"},
        {NID_tlsfeature, w->must_staple ? "status_request" : NULL}, /* RFC 7633 */
    };
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, self ? k->certificate : k->ca_certificate, k->certificate, NULL, NULL, 0);
    for (size_t i = 0; i < sizeof extensions / sizeof *extensions; i++)
        if (extensions[i].value != NULL &&
            !add_extension(k->certificate, &ctx, extensions[i].nid, extensions[i].value))
            return false;
    return true;
}

/* An address, a URL, or else a DNS name. */
static GENERAL_NAME *general_name(const struct cotls_text *t, bool url)
{
    GENERAL_NAME *name = GENERAL_NAME_new();
    ASN1_STRING *value = url ? NULL : a2i_IPADDRESS(t->data);
    int type = url ? GEN_URI : value != NULL ? GEN_IPADD : GEN_DNS;
    bool ok = name != NULL;
    if (value == NULL) {
        value = ASN1_IA5STRING_new();
        ok = ok && value != NULL && ASN1_STRING_set(value, t->data, (int)t->len);
    }
    if (!ok) {
        ASN1_STRING_free(value);
        GENERAL_NAME_free(name);
        return NULL;
    }
    GENERAL_NAME_set0_value(name, type, value);
    return name;
}

static bool set_names(const struct cotls_wish *w, struct cotls_issue *k)
{
    /* RFC 5280 section 4.2.1.6: critical where there is no subject */
    int critical = X509_NAME_entry_count(X509_get_subject_name(k->certificate)) == 0;
    GENERAL_NAMES *names = GENERAL_NAMES_new();
    bool ok = names != NULL;
    for (size_t i = 0; ok && i < w->names.count; i++) {
        GENERAL_NAME *name = general_name(&w->names.items[i], false);
        ok = name != NULL && sk_GENERAL_NAME_push(names, name) > 0;
        if (!ok)
            GENERAL_NAME_free(name);
    }
    if (ok && w->names.count > 0)
        ok =
            X509_add1_ext_i2d(k->certificate, NID_subject_alt_name, names, critical, X509V3_ADD_DEFAULT) == 1;
    GENERAL_NAMES_free(names);
    return ok;
}

static bool add_access(AUTHORITY_INFO_ACCESS *all, int method, const struct cotls_list *urls)
{
    bool ok = true;
    for (size_t i = 0; ok && i < urls->count; i++) {
        ACCESS_DESCRIPTION *one = ACCESS_DESCRIPTION_new();
        GENERAL_NAME *url = general_name(&urls->items[i], true);
        ok = one != NULL && url != NULL;
        if (ok) {
            GENERAL_NAME_free(one->location);
            one->location = url;
            one->method = OBJ_nid2obj(method);
            ok = sk_ACCESS_DESCRIPTION_push(all, one) > 0;
        } else
            GENERAL_NAME_free(url);
        if (!ok)
            ACCESS_DESCRIPTION_free(one);
    }
    return ok;
}

static bool set_urls(const struct cotls_wish *w, struct cotls_issue *k)
{
    if (w->ocsp_urls.count + w->ca_issuer_urls.count == 0)
        return true;
    AUTHORITY_INFO_ACCESS *all = AUTHORITY_INFO_ACCESS_new();
    bool ok = all != NULL && add_access(all, NID_ad_OCSP, &w->ocsp_urls) &&
              add_access(all, NID_ad_ca_issuers, &w->ca_issuer_urls) &&
              X509_add1_ext_i2d(k->certificate, NID_info_access, all, 0, X509V3_ADD_DEFAULT) == 1;
    AUTHORITY_INFO_ACCESS_free(all);
    return ok;
}

/* Ed25519 and Ed448 take no digest. */
static bool sign(const struct cotls_wish *w, struct cotls_issue *k)
{
    EVP_PKEY *signer = k->ca_key != NULL ? k->ca_key : k->key;
    bool pure = EVP_PKEY_is_a(signer, "ED25519") || EVP_PKEY_is_a(signer, "ED448");
    const EVP_MD *digest = w->digest != NULL ? EVP_get_digestbyname(w->digest) : EVP_sha256();
    if (pure && w->digest != NULL)
        return fail(k, "digest", "the key that signs takes none");
    if (X509_sign(k->certificate, signer, pure ? NULL : digest) > 0)
        return true;
    return w->digest != NULL ? fail(k, "digest", "the key that signs can't use it") : false;
}

static bool write_pem(const struct cotls_wish *w, struct cotls_issue *k)
{
    (void)w;
    k->certificate_pem = BIO_new(BIO_s_mem());
    k->key_pem = BIO_new(BIO_s_secmem());
    return k->certificate_pem != NULL && k->key_pem != NULL &&
           PEM_write_bio_X509(k->certificate_pem, k->certificate) &&
           PEM_write_bio_PrivateKey(k->key_pem, k->key, NULL, NULL, 0, NULL, NULL);
}

bool cotls_issue(const struct cotls_wish *w, struct cotls_issue *k)
{
    static bool (*const steps[])(const struct cotls_wish *, struct cotls_issue *) = {
        load_ca,        make_key,  set_serial, set_subject, set_validity,
        set_extensions, set_names, set_urls,   sign,        write_pem,
    };
    k->option = "make_certificate";
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
        if (!steps[i](w, k))
            return false;
    return true;
}

void cotls_issue_free(struct cotls_issue *k)
{
    EVP_PKEY_free(k->key);
    EVP_PKEY_free(k->ca_key);
    X509_free(k->certificate);
    X509_free(k->ca_certificate);
    BIO_free(k->key_pem);
    BIO_free(k->certificate_pem);
}
