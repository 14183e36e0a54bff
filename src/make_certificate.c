/* SPDX-License-Identifier: MIT
 * make_certificate: keys and certificates made in the process, for development
 * and tests. First the wish is read from Lua and checked; then OpenSSL works
 * with no Lua in between, so that nothing is held when Lua raises; the result is
 * pushed under lua_pcall, because even a string can fail for lack of memory. */
#include "cotls.h"

#include <limits.h>
#include <math.h>
#include <openssl/bn.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define DAY 86400.0
#define BACKDATED 300.0 /* seconds before now that a certificate begins: clocks differ */
#define MAX_DAYS 1e7    /* what an int holds; OpenSSL's own limit, the year 9999, is lower */
#define MAX_CN 64       /* ub-common-name, RFC 5280 appendix A.1 */
#define MAX_VALUE 1024  /* of one attribute of a subject */

struct text {
    const char *data;
    size_t len;
};

struct key_type {
    const char *name;
    EVP_PKEY *(*generate)(void);
};

/* What is asked for; all text belongs to Lua values on the stack. */
struct wish {
    const char *subject; /* NULL: from the names */
    size_t subject_len;
    const struct text *names;
    size_t names_count;
    double days;
    const struct key_type *key_type;
    struct text ca_certificate, ca_key; /* data NULL: it signs itself */
    bool is_ca;
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

/* ---- the subject: RFC 2253 text ---- */

struct subject {
    const char *at, *end;
    const char *reason; /* of a failure; NULL: OpenSSL's */
    X509_NAME *name;
};

static int refuse_subject(struct subject *s, const char *reason)
{
    s->reason = reason;
    return -1;
}

static void skip_spaces(struct subject *s)
{
    while (s->at < s->end && *s->at == ' ')
        s->at++;
}

/* RFC 2253's keywords in any case, OpenSSL's names, or an OID; NULL: none of them. */
static ASN1_OBJECT *find_type(const char *text)
{
    static const struct {
        const char *name;
        int nid;
    } keywords[] = {
        {"CN", NID_commonName},
        {"L", NID_localityName},
        {"ST", NID_stateOrProvinceName},
        {"O", NID_organizationName},
        {"OU", NID_organizationalUnitName},
        {"C", NID_countryName},
        {"STREET", NID_streetAddress},
        {"DC", NID_domainComponent},
        {"UID", NID_userId},
    };
    for (size_t i = 0; i < sizeof keywords / sizeof *keywords; i++)
        if (strcasecmp(text, keywords[i].name) == 0)
            return OBJ_nid2obj(keywords[i].nid);
    return OBJ_txt2obj(strncasecmp(text, "OID.", 4) == 0 ? text + 4 : text, 0);
}

/* Takes the type and its "="; the caller frees it. NULL: refused. */
static ASN1_OBJECT *take_type(struct subject *s)
{
    char text[80];
    skip_spaces(s);
    const char *equals = memchr(s->at, '=', (size_t)(s->end - s->at));
    size_t n = equals != NULL ? (size_t)(equals - s->at) : 0;
    while (n > 0 && s->at[n - 1] == ' ')
        n--;
    ASN1_OBJECT *type = NULL;
    if (n > 0 && n < sizeof text) {
        memcpy(text, s->at, n);
        text[n] = '\0';
        type = find_type(text);
        s->at = equals + 1;
    }
    if (type == NULL)
        refuse_subject(s, n > 0 ? "not RFC 2253 text: unknown attribute type"
                                : "not RFC 2253 text: TYPE=value expected, as in \"CN=localhost,O=Example\"");
    return type;
}

/* Takes what follows a backslash: two hexadecimal digits or a special character; -1: neither. */
static int take_escaped(struct subject *s)
{
    if (s->at == s->end)
        return -1;
    int c = (unsigned char)*s->at++, high = OPENSSL_hexchar2int((unsigned char)c);
    int low = high >= 0 && s->at < s->end ? OPENSSL_hexchar2int((unsigned char)*s->at) : -1;
    if (low >= 0) {
        s->at++;
        return high << 4 | low;
    }
    return c != '\0' && strchr(",+\"\\<>;#= ", c) != NULL ? c : -1;
}

/* Takes a value up to its "," or "+", without the spaces around it; its length, or -1. */
static int take_value(struct subject *s, unsigned char *value)
{
    int n = 0, kept = 0;
    skip_spaces(s);
    if (s->at < s->end && *s->at == '#')
        return refuse_subject(s, "a value in hexadecimal (#) is not supported; for the character write \\#") -
               1;
    while (s->at < s->end && *s->at != ',' && *s->at != '+') {
        bool escaped = *s->at == '\\';
        int c = (unsigned char)*s->at++;
        if (escaped)
            c = take_escaped(s);
        if (c < 0 || (!escaped && c != '\0' && strchr("\"<>;", c) != NULL))
            return refuse_subject(s,
                                  "not RFC 2253 text: a bad escape, or one of \" < > ; without a backslash") -
                   1;
        if (n == MAX_VALUE)
            return refuse_subject(s, "a value is too long");
        value[n++] = (unsigned char)c;
        if (escaped || c != ' ')
            kept = n;
    }
    return kept;
}

/* The text names the most specific first, a certificate the other way round: each
 * RDN is put before the ones that came earlier. `set` 1 joins the RDN before it. */
static bool take_attribute(struct subject *s, int set)
{
    unsigned char value[MAX_VALUE];
    ASN1_OBJECT *type = take_type(s);
    int n = type != NULL ? take_value(s, value) : -1;
    bool ok = n >= 0 && X509_NAME_add_entry_by_OBJ(s->name, type, MBSTRING_UTF8, value, n, 0, set);
    ASN1_OBJECT_free(type);
    return ok;
}

static bool parse_subject(struct subject *s)
{
    bool more = s->at < s->end;
    int set = 0;
    while (more) {
        if (!take_attribute(s, set))
            return false;
        more = s->at < s->end;
        set = more && *s->at == '+';
        s->at += more;
    }
    return true;
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

static bool read_names(lua_State *L, struct wish *w)
{
    int list = lua_gettop(L);
    size_t count = lua_rawlen(L, list);
    struct text *names = lua_newuserdatauv(L, (count + 1) * sizeof *names, 0);
    luaL_checkstack(L, (int)(count < INT_MAX - 64 ? count + 64 : INT_MAX), "too many names");
    for (size_t i = 0; i < count; i++) {
        if (lua_rawgeti(L, list, (lua_Integer)i + 1) != LUA_TSTRING)
            luaL_argerror(L, 1, lua_pushfstring(L, "names[%d] must be a string", (int)i + 1));
        names[i].data = lua_tolstring(L, -1, &names[i].len);
        if (!is_name(names[i].data, names[i].len)) {
            lua_pushfstring(L, "'%s' is neither a DNS name nor an IP address", names[i].data);
            return false;
        }
        /* the string stays on the stack: what runs in between may change the list */
    }
    w->names = names;
    w->names_count = count;
    return true;
}

/* Not a number is refused, too: it compares false. */
static bool read_days(lua_State *L, struct wish *w)
{
    w->days = lua_tonumber(L, -1);
    return (w->days != 0 && fabs(w->days) <= MAX_DAYS) ||
           refuse(L, "must not be 0, nor reach beyond the year 9999");
}

static EVP_PKEY *generate_ec(void)
{
    return EVP_EC_gen("P-256");
}

static EVP_PKEY *generate_rsa(void)
{
    return EVP_RSA_gen(2048);
}

static EVP_PKEY *generate_ed25519(void)
{
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
    {"key_type", LUA_TSTRING, read_key_type},
    {"ca", LUA_TTABLE, read_ca},
    {"is_ca", LUA_TBOOLEAN, read_is_ca},
};
#define OPTIONS (sizeof options / sizeof *options)

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
    return NULL;
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
    k->key = w->key_type->generate();
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
    for (size_t i = 0; i < w->names_count; i++)
        if (w->names[i].len <= MAX_CN)
            return w->names[i];
    return (struct text){"localhost", 9};
}

static bool set_subject(const struct wish *w, struct work *k)
{
    struct subject s = {w->subject, w->subject + w->subject_len, NULL, X509_get_subject_name(k->certificate)};
    X509 *issuer = k->ca_certificate != NULL ? k->ca_certificate : k->certificate;
    struct text cn = default_cn(w);
    if (w->subject != NULL && !parse_subject(&s))
        return fail(k, "subject", s.reason);
    if (w->subject == NULL && !X509_NAME_add_entry_by_NID(s.name, NID_commonName, MBSTRING_UTF8,
                                                          (const unsigned char *)cn.data, (int)cn.len, -1, 0))
        return false;
    return X509_set_issuer_name(k->certificate, X509_get_subject_name(issuer));
}

/* Days and seconds apart, as OpenSSL wants them: a long has 32 bits on some systems. */
static bool set_time(ASN1_TIME *t, time_t now, double seconds)
{
    double days = floor(seconds / DAY);
    return X509_time_adj_ex(t, (int)days, (long)floor(seconds - days * DAY), &now) != NULL;
}

static bool set_validity(const struct wish *w, struct work *k)
{
    time_t now = time(NULL);
    double end = w->days * DAY, start = end < 0 ? end - DAY : -BACKDATED;
    return (set_time(X509_getm_notBefore(k->certificate), now, start) &&
            set_time(X509_getm_notAfter(k->certificate), now, end)) ||
           fail(k, "days", "reaches beyond what a certificate can say");
}

static bool add_extension(X509 *certificate, X509V3_CTX *ctx, int nid, const char *value)
{
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, ctx, nid, value);
    bool ok = extension != NULL && X509_add_ext(certificate, extension, -1);
    X509_EXTENSION_free(extension);
    return ok;
}

/* The second identifier is a copy of the issuer's first, so it comes after it. */
static bool set_extensions(const struct wish *w, struct work *k)
{
    bool rsa = EVP_PKEY_is_a(k->key, "RSA"), self = k->ca_certificate == NULL;
    const char *usage = rsa ? "critical,digitalSignature,keyEncipherment" : "critical,digitalSignature";
    const struct {
        int nid;
        const char *leaf, *ca;
    } extensions[] = {
        {NID_basic_constraints, "CA:FALSE", "critical,CA:TRUE"},
        {NID_key_usage, usage, "critical,digitalSignature,keyCertSign,cRLSign"},
        {NID_ext_key_usage, "serverAuth,clientAuth", NULL},
        {NID_subject_key_identifier, "hash", "hash"},
        {NID_authority_key_identifier, self ? "keyid:always" : "keyid", self ? "keyid:always" : "keyid"},
    };
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, self ? k->certificate : k->ca_certificate, k->certificate, NULL, NULL, 0);
    for (size_t i = 0; i < sizeof extensions / sizeof *extensions; i++) {
        const char *value = w->is_ca ? extensions[i].ca : extensions[i].leaf;
        if (value != NULL && !add_extension(k->certificate, &ctx, extensions[i].nid, value))
            return false;
    }
    return true;
}

static GENERAL_NAME *general_name(const struct text *t)
{
    GENERAL_NAME *name = GENERAL_NAME_new();
    ASN1_OCTET_STRING *ip = a2i_IPADDRESS(t->data);
    ASN1_IA5STRING *dns = ip == NULL ? ASN1_IA5STRING_new() : NULL;
    bool ok = name != NULL && (ip != NULL || (dns != NULL && ASN1_STRING_set(dns, t->data, (int)t->len)));
    if (!ok) {
        ASN1_OCTET_STRING_free(ip);
        ASN1_IA5STRING_free(dns);
        GENERAL_NAME_free(name);
        return NULL;
    }
    GENERAL_NAME_set0_value(name, ip != NULL ? GEN_IPADD : GEN_DNS, ip != NULL ? ip : dns);
    return name;
}

static bool set_names(const struct wish *w, struct work *k)
{
    /* RFC 5280 section 4.2.1.6: critical where there is no subject */
    int critical = X509_NAME_entry_count(X509_get_subject_name(k->certificate)) == 0;
    GENERAL_NAMES *names = GENERAL_NAMES_new();
    bool ok = names != NULL;
    for (size_t i = 0; ok && i < w->names_count; i++) {
        GENERAL_NAME *name = general_name(&w->names[i]);
        ok = name != NULL && sk_GENERAL_NAME_push(names, name) > 0;
        if (!ok)
            GENERAL_NAME_free(name);
    }
    if (ok && w->names_count > 0)
        ok =
            X509_add1_ext_i2d(k->certificate, NID_subject_alt_name, names, critical, X509V3_ADD_DEFAULT) == 1;
    GENERAL_NAMES_free(names);
    return ok;
}

/* Ed25519 and Ed448 take no digest. */
static bool sign(const struct wish *w, struct work *k)
{
    EVP_PKEY *signer = k->ca_key != NULL ? k->ca_key : k->key;
    bool pure = EVP_PKEY_is_a(signer, "ED25519") || EVP_PKEY_is_a(signer, "ED448");
    (void)w;
    return X509_sign(k->certificate, signer, pure ? NULL : EVP_sha256()) > 0;
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
        load_ca, make_key, set_serial, set_subject, set_validity, set_extensions, set_names, sign, write_pem,
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
    struct wish w = {.days = 30, .key_type = key_types};
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
