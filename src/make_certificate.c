/* SPDX-License-Identifier: MIT
 * make_certificate: keys and certificates made in the process, for development
 * and tests. First the wish is read from Lua and checked; then OpenSSL works
 * with no Lua in between, so that nothing is held when Lua raises; the result is
 * pushed under lua_pcall, because even a string can fail for lack of memory. */
#include "cotls.h"

#include <limits.h>
#include <math.h>
#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define DAY 86400.0
#define BACKDATED 300.0 /* seconds before now that a certificate begins: clocks differ */
#define DEFAULT_DAYS 30.0
#define MAX_DAYS 1e7 /* what an int holds; OpenSSL's own limit, the year 9999, is lower */
#define MAX_CN 64    /* ub-common-name, RFC 5280 appendix A.1 */
#define MAX_PATH 255 /* a path_length beyond any chain's */
#define MAX_PURPOSES 128
#define MIN_BITS 512  /* OpenSSL's own limit */
#define MAX_BITS 8192 /* more take minutes */

struct text {
    const char *data;
    size_t len;
};

struct list {
    const struct text *items;
    size_t count;
};

struct key_type {
    const char *name;
    EVP_PKEY *(*generate)(unsigned bits);
};

/* What is asked for; all text belongs to Lua values on the stack. */
struct wish {
    const char *subject; /* NULL: from the names */
    size_t subject_len;
    struct list names, ocsp_urls, ca_issuer_urls;
    double days;                  /* 0: not said */
    double not_before, not_after; /* seconds since 1970; NAN: not said */
    const struct key_type *key_type;
    unsigned bits;                      /* of an RSA key; 0: not said */
    const char *digest;                 /* NULL: SHA-256 */
    struct text ca_certificate, ca_key; /* data NULL: it signs itself */
    int path_length;                    /* -1: no limit */
    char purposes[MAX_PURPOSES];        /* as OpenSSL's configuration names them */
    bool has_purposes, is_ca, must_staple;
};

/* What OpenSSL makes of it, and the option and reason of a failure. */
struct work {
    EVP_PKEY *key, *ca_key;
    X509 *certificate, *ca_certificate;
    BIO *key_pem, *certificate_pem;
    const char *option;
    const char *reason; /* NULL: OpenSSL's */
};

static bool fail(struct work *k, const char *option, const char *reason)
{
    k->option = option;
    k->reason = reason;
    return false;
}

/* ---- reading the wish: [-0, +any] the value is on top; false: refused, the reason is pushed ---- */

static bool refuse(lua_State *L, const char *reason)
{
    lua_pushstring(L, reason);
    return false;
}

static bool read_subject(lua_State *L, struct wish *w)
{
    w->subject = lua_tolstring(L, -1, &w->subject_len);
    return true;
}

static bool is_address(const char *name)
{
    ASN1_OCTET_STRING *ip = a2i_IPADDRESS(name);
    ASN1_OCTET_STRING_free(ip);
    return ip != NULL;
}

/* A DNS name; "*" and "_" are let through, tests need certificates of every kind. */
static bool is_dns_name(const char *name, size_t n)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_*";
    const char *label = name;
    for (;;) {
        size_t span = strspn(label, letters);
        if (span == 0 || span > 63)
            return false;
        label += span;
        if (*label == '\0')
            return (size_t)(label - name) == n && n <= 253;
        if (*label++ != '.')
            return false;
    }
}

static bool is_name(const char *name, size_t n)
{
    bool numeric = strchr(name, ':') != NULL || strspn(name, "0123456789.") == n;
    return strlen(name) == n && (numeric ? is_address(name) : is_dns_name(name, n));
}

/* A list of strings that `check` lets through; `what` they are. They stay on the
 * stack: what runs in between may change the table. */
static bool read_list(lua_State *L, struct list *list, bool (*check)(const char *, size_t), const char *what)
{
    int table = lua_gettop(L);
    size_t count = lua_rawlen(L, table);
    struct text *items = lua_newuserdatauv(L, (count + 1) * sizeof *items, 0);
    luaL_checkstack(L, (int)(count < INT_MAX - 64 ? count + 64 : INT_MAX), "too many values");
    for (size_t i = 0; i < count; i++) {
        if (lua_rawgeti(L, table, (lua_Integer)i + 1) != LUA_TSTRING)
            luaL_argerror(L, 1, lua_pushfstring(L, "a list's value %d must be a string", (int)i + 1));
        items[i].data = lua_tolstring(L, -1, &items[i].len);
        if (!check(items[i].data, items[i].len)) {
            lua_pushfstring(L, "'%s' is %s", items[i].data, what);
            return false;
        }
    }
    *list = (struct list){items, count};
    return true;
}

static bool read_names(lua_State *L, struct wish *w)
{
    return read_list(L, &w->names, is_name, "neither a DNS name nor an IP address");
}

/* Printable ASCII without spaces: an IA5String takes no other, RFC 5280 section 4.2.1.6. */
static bool is_url(const char *url, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (url[i] <= ' ' || url[i] > '~')
            return false;
    return n > 0;
}

static bool read_ocsp_urls(lua_State *L, struct wish *w)
{
    return read_list(L, &w->ocsp_urls, is_url, "no URL");
}

static bool read_ca_issuer_urls(lua_State *L, struct wish *w)
{
    return read_list(L, &w->ca_issuer_urls, is_url, "no URL");
}

static const struct {
    const char *name, *value;
} purposes[] = {
    {"server", "serverAuth"},       {"client", "clientAuth"}, {"code", "codeSigning"},
    {"email", "emailProtection"},   {"time", "timeStamping"}, {"ocsp", "OCSPSigning"},
    {"any", "anyExtendedKeyUsage"},
};

static const char *purpose_value(const char *name, size_t n)
{
    for (size_t i = 0; i < sizeof purposes / sizeof *purposes; i++)
        if (strlen(purposes[i].name) == n && memcmp(purposes[i].name, name, n) == 0)
            return purposes[i].value;
    return NULL;
}

static bool is_purpose(const char *name, size_t n)
{
    return purpose_value(name, n) != NULL;
}

static bool read_purposes(lua_State *L, struct wish *w)
{
    struct list list;
    if (!read_list(L, &list, is_purpose, "none of server, client, code, email, time, ocsp, any"))
        return false;
    size_t n = 0;
    for (size_t i = 0; i < list.count && n < sizeof w->purposes; i++)
        n += (size_t)snprintf(w->purposes + n, sizeof w->purposes - n, "%s%s", i > 0 ? "," : "",
                              purpose_value(list.items[i].data, list.items[i].len));
    w->has_purposes = true;
    return n < sizeof w->purposes || refuse(L, "are too many");
}

/* Not a number is refused, too: it compares false. */
static bool read_days(lua_State *L, struct wish *w)
{
    w->days = lua_tonumber(L, -1);
    return (w->days != 0 && fabs(w->days) <= MAX_DAYS) ||
           refuse(L, "must not be 0, nor reach beyond the year 9999");
}

/* Seconds since 1970. */
static bool read_moment(lua_State *L, double *moment)
{
    *moment = floor(lua_tonumber(L, -1));
    return fabs(*moment) <= MAX_DAYS * DAY || refuse(L, "must not reach beyond the year 9999");
}

static bool read_not_before(lua_State *L, struct wish *w)
{
    return read_moment(L, &w->not_before);
}

static bool read_not_after(lua_State *L, struct wish *w)
{
    return read_moment(L, &w->not_after);
}

static EVP_PKEY *generate_ec(unsigned bits)
{
    (void)bits;
    return EVP_EC_gen("P-256");
}

static EVP_PKEY *generate_rsa(unsigned bits)
{
    return EVP_RSA_gen(bits > 0 ? bits : 2048);
}

static EVP_PKEY *generate_ed25519(unsigned bits)
{
    (void)bits;
    return EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
}

static const struct key_type key_types[] = {
    {"ec", generate_ec},
    {"rsa", generate_rsa},
    {"ed25519", generate_ed25519},
};

static bool read_key_type(lua_State *L, struct wish *w)
{
    const char *name = lua_tostring(L, -1);
    for (size_t i = 0; i < sizeof key_types / sizeof *key_types; i++)
        if (strcmp(name, key_types[i].name) == 0) {
            w->key_type = &key_types[i];
            return true;
        }
    return refuse(L, "must be \"ec\", \"rsa\" or \"ed25519\"");
}

static bool read_bits(lua_State *L, struct wish *w)
{
    lua_Number bits = lua_tonumber(L, -1);
    if (!(bits >= MIN_BITS && bits <= MAX_BITS))
        return refuse(L, "must be 512 to 8192");
    w->bits = (unsigned)bits;
    return true;
}

static bool read_digest(lua_State *L, struct wish *w)
{
    w->digest = lua_tostring(L, -1);
    return EVP_get_digestbyname(w->digest) != NULL || refuse(L, "unknown digest");
}

static bool read_path_length(lua_State *L, struct wish *w)
{
    lua_Number length = lua_tonumber(L, -1);
    if (!(length >= 0 && length <= MAX_PATH))
        return refuse(L, "must be 0 to 255");
    w->path_length = (int)length;
    return true;
}

static bool read_must_staple(lua_State *L, struct wish *w)
{
    w->must_staple = lua_toboolean(L, -1);
    return true;
}

static struct text ca_field(lua_State *L, int ca, const char *name)
{
    struct text t;
    if (lua_getfield(L, ca, name) != LUA_TSTRING)
        luaL_argerror(L, 1,
                      lua_pushfstring(L, "ca must be what make_certificate returned: it has no %s", name));
    t.data = lua_tolstring(L, -1, &t.len);
    return t;
}

static bool read_ca(lua_State *L, struct wish *w)
{
    int ca = lua_gettop(L);
    w->ca_certificate = ca_field(L, ca, "certificate");
    w->ca_key = ca_field(L, ca, "key");
    return true;
}

static bool read_is_ca(lua_State *L, struct wish *w)
{
    w->is_ca = lua_toboolean(L, -1);
    return true;
}

static const struct option {
    const char *name;
    int type;
    bool (*read)(lua_State *L, struct wish *w);
} options[] = {
    {"subject", LUA_TSTRING, read_subject},
    {"names", LUA_TTABLE, read_names},
    {"days", LUA_TNUMBER, read_days},
    {"not_before", LUA_TNUMBER, read_not_before},
    {"not_after", LUA_TNUMBER, read_not_after},
    {"key_type", LUA_TSTRING, read_key_type},
    {"bits", LUA_TNUMBER, read_bits},
    {"digest", LUA_TSTRING, read_digest},
    {"ca", LUA_TTABLE, read_ca},
    {"is_ca", LUA_TBOOLEAN, read_is_ca},
    {"path_length", LUA_TNUMBER, read_path_length},
    {"purposes", LUA_TTABLE, read_purposes},
    {"must_staple", LUA_TBOOLEAN, read_must_staple},
    {"ocsp_urls", LUA_TTABLE, read_ocsp_urls},
    {"ca_issuer_urls", LUA_TTABLE, read_ca_issuer_urls},
};
#define OPTIONS (sizeof options / sizeof *options)

/* What does not go together: NULL, or the name of the option that is refused, with the reason pushed. */
static const char *contradiction(lua_State *L, const struct wish *w)
{
    bool moments = !isnan(w->not_before) || !isnan(w->not_after);
    const struct {
        bool wrong;
        const char *option, *reason;
    } rules[] = {
        {moments && w->days != 0, "days", "is for a certificate without not_before and not_after"},
        {w->not_after < w->not_before, "not_after", "lies before not_before"},
        {w->bits > 0 && strcmp(w->key_type->name, "rsa") != 0, "bits", "is for RSA keys"},
        {w->path_length >= 0 && !w->is_ca, "path_length", "is for CAs"},
    };
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if (rules[i].wrong) {
            lua_pushstring(L, rules[i].reason);
            return rules[i].option;
        }
    return NULL;
}

/* The values stay on the stack, for the wish points into them. NULL, or the name
 * of the option that is refused, with the reason pushed. */
static const char *read_wish(lua_State *L, struct wish *w)
{
    for (size_t i = 0; i < OPTIONS; i++) {
        int type = lua_getfield(L, 1, options[i].name);
        if (type == LUA_TNIL)
            continue;
        if (type != options[i].type)
            luaL_argerror(L, 1,
                          lua_pushfstring(L, "%s must be a %s, not a %s", options[i].name,
                                          lua_typename(L, options[i].type), luaL_typename(L, -1)));
        if (!options[i].read(L, w))
            return options[i].name;
    }
    return contradiction(L, w);
}

/* ---- granting it: each step touches no Lua; false: k->option and k->reason say why ---- */

static BIO *text_bio(const struct text *t)
{
    return t->len < INT32_MAX ? BIO_new_mem_buf(t->data, (int)t->len) : NULL;
}

static bool load_ca(const struct wish *w, struct work *k)
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

static bool make_key(const struct wish *w, struct work *k)
{
    k->key = w->key_type->generate(w->bits);
    k->certificate = X509_new();
    return k->key != NULL && k->certificate != NULL && X509_set_version(k->certificate, X509_VERSION_3) &&
           X509_set_pubkey(k->certificate, k->key);
}

static bool set_serial(const struct wish *w, struct work *k)
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
static struct text default_cn(const struct wish *w)
{
    for (size_t i = 0; i < w->names.count; i++)
        if (w->names.items[i].len <= MAX_CN)
            return w->names.items[i];
    return (struct text){"localhost", 9};
}

static bool set_subject(const struct wish *w, struct work *k)
{
    X509_NAME *name = X509_get_subject_name(k->certificate);
    X509 *issuer = k->ca_certificate != NULL ? k->ca_certificate : k->certificate;
    struct text cn = default_cn(w);
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
static bool set_validity(const struct wish *w, struct work *k)
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

static const char *purposes_of(const struct wish *w)
{
    if (w->has_purposes)
        return w->purposes[0] != '\0' ? w->purposes : NULL;
    return w->is_ca ? NULL : "serverAuth,clientAuth";
}

/* The second identifier is a copy of the issuer's first, so it comes after it. */
static bool set_extensions(const struct wish *w, struct work *k)
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
static GENERAL_NAME *general_name(const struct text *t, bool url)
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

static bool set_names(const struct wish *w, struct work *k)
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

static bool add_access(AUTHORITY_INFO_ACCESS *all, int method, const struct list *urls)
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

static bool set_urls(const struct wish *w, struct work *k)
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
static bool sign(const struct wish *w, struct work *k)
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

static bool write_pem(const struct wish *w, struct work *k)
{
    (void)w;
    k->certificate_pem = BIO_new(BIO_s_mem());
    k->key_pem = BIO_new(BIO_s_secmem());
    return k->certificate_pem != NULL && k->key_pem != NULL &&
           PEM_write_bio_X509(k->certificate_pem, k->certificate) &&
           PEM_write_bio_PrivateKey(k->key_pem, k->key, NULL, NULL, 0, NULL, NULL);
}

static bool grant(const struct wish *w, struct work *k)
{
    static bool (*const steps[])(const struct wish *, struct work *) = {
        load_ca,        make_key,  set_serial, set_subject, set_validity,
        set_extensions, set_names, set_urls,   sign,        write_pem,
    };
    k->option = "make_certificate";
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
        if (!steps[i](w, k))
            return false;
    return true;
}

static void free_work(struct work *k)
{
    EVP_PKEY_free(k->key);
    EVP_PKEY_free(k->ca_key);
    X509_free(k->certificate);
    X509_free(k->ca_certificate);
    BIO_free(k->key_pem);
    BIO_free(k->certificate_pem);
}

/* The BIO's contents as a field of the table on top. [-0, +0] */
static void set_pem(lua_State *L, const char *key, BIO *bio)
{
    char *data;
    long n = BIO_get_mem_data(bio, &data);
    lua_pushlstring(L, data, (size_t)n);
    lua_setfield(L, -2, key);
}

static int push_result(lua_State *L)
{
    const struct work *k = lua_touserdata(L, 1);
    lua_createtable(L, 0, 2);
    set_pem(L, "certificate", k->certificate_pem);
    set_pem(L, "key", k->key_pem);
    return 1;
}

/* The reason is on top. */
static int refused(lua_State *L, const char *option)
{
    cotls_error_config(L, option);
    return cotls_nil_error(L);
}

/* make_certificate{ … } → { certificate = pem, key = pem }, or nil, err */
int cotls_make_certificate(lua_State *L)
{
    struct wish w = {.key_type = key_types, .not_before = NAN, .not_after = NAN, .path_length = -1};
    struct work k = {0};
    lua_settop(L, 1);
    luaL_checktype(L, 1, LUA_TTABLE);
    const char *option = read_wish(L, &w);
    if (option != NULL)
        return refused(L, option);
    luaL_checkstack(L, 4, NULL);
    ERR_clear_error();
    bool ok = grant(&w, &k);
    int status = LUA_OK;
    if (ok) {
        lua_pushcfunction(L, push_result);
        lua_pushlightuserdata(L, &k);
        status = lua_pcall(L, 1, 1, 0);
    }
    free_work(&k);
    if (status != LUA_OK)
        return lua_error(L);
    if (!ok && k.reason != NULL)
        lua_pushstring(L, k.reason);
    else if (!ok)
        cotls_push_queue_reason(L);
    ERR_clear_error();
    return ok ? 1 : refused(L, k.option);
}
