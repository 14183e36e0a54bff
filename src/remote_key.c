/* SPDX-License-Identifier: MIT
 * Private keys that live elsewhere, as an OpenSSL provider: its keys are the
 * public ones of certificates, its signatures are what the hook `sign` answers.
 * It is alone in a library context of its own, which no connection is made in:
 * OpenSSL takes a key's operations from the key's own provider where no other
 * one can have the key, and export_key sees to it that none can. So the process's
 * providers stay as they are, and every context takes such a key. */
#include "cotls.h"

#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/provider.h>
#include <openssl/rsa.h>
#include <stdlib.h>
#include <string.h>

/* In OpenSSL's tables all functions have one type. */
typedef void any_function(void);

/* ---- keys ---- */

struct remote_key {
    EVP_PKEY *public_key; /* of OpenSSL's own; NULL until it is imported */
};

static void *new_key(void *provider)
{
    (void)provider;
    return calloc(1, sizeof(struct remote_key));
}

static void free_key(void *key)
{
    struct remote_key *k = key;
    if (k != NULL)
        EVP_PKEY_free(k->public_key);
    free(k);
}

/* The private part is somewhere. */
static int has_part(const void *key, int selection)
{
    (void)selection;
    return ((const struct remote_key *)key)->public_key != NULL;
}

static int match_keys(const void *key, const void *other, int selection)
{
    (void)selection;
    return EVP_PKEY_eq(((const struct remote_key *)key)->public_key,
                       ((const struct remote_key *)other)->public_key) == 1;
}

static const char *type_of(const OSSL_PARAM params[])
{
    if (OSSL_PARAM_locate_const(params, OSSL_PKEY_PARAM_RSA_N) != NULL)
        return "RSA";
    return OSSL_PARAM_locate_const(params, OSSL_PKEY_PARAM_GROUP_NAME) != NULL ? "EC" : "ED25519";
}

static int import_key(void *key, int selection, const OSSL_PARAM params[])
{
    struct remote_key *k = key;
    OSSL_PARAM *copy = OSSL_PARAM_dup(params);
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, type_of(params), NULL);
    bool ok = copy != NULL && ctx != NULL && (selection & OSSL_KEYMGMT_SELECT_PUBLIC_KEY) != 0 &&
              EVP_PKEY_fromdata_init(ctx) == 1 &&
              EVP_PKEY_fromdata(ctx, &k->public_key, EVP_PKEY_PUBLIC_KEY, copy) == 1;
    EVP_PKEY_CTX_free(ctx);
    OSSL_PARAM_free(copy);
    return ok;
}

/* Where another provider would sign, OpenSSL wants to hand it all parts of the key. */
static int export_key(void *key, int selection, OSSL_CALLBACK *take, void *arg)
{
    if ((selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) != 0)
        return 0;
    return EVP_PKEY_export(((struct remote_key *)key)->public_key, EVP_PKEY_PUBLIC_KEY, take, arg);
}

static const OSSL_PARAM *public_parts(int selection)
{
    static const OSSL_PARAM parts[] = {
        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, NULL, 0),
        OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PUB_KEY, NULL, 0),
        OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_N, NULL, 0),
        OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_E, NULL, 0),
        OSSL_PARAM_END,
    };
    (void)selection;
    return parts;
}

/* Bits, the longest signature, the curve: as the public key has them. */
static int get_facts(void *key, OSSL_PARAM params[])
{
    return EVP_PKEY_get_params(((struct remote_key *)key)->public_key, params);
}

static const OSSL_PARAM *facts(void *provider)
{
    static const OSSL_PARAM list[] = {
        OSSL_PARAM_int(OSSL_PKEY_PARAM_BITS, NULL),
        OSSL_PARAM_int(OSSL_PKEY_PARAM_SECURITY_BITS, NULL),
        OSSL_PARAM_int(OSSL_PKEY_PARAM_MAX_SIZE, NULL),
        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_DEFAULT_DIGEST, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_MANDATORY_DIGEST, NULL, 0),
        OSSL_PARAM_END,
    };
    (void)provider;
    return list;
}

/* OpenSSL looks for a key's signatures under the key's own name, else under this one. It remembers what it has
 * found, not what it hasn't: each handshake would search all providers for a signature called EC. */
static const char *ec_operation(int operation)
{
    return operation == OSSL_OP_SIGNATURE ? "ECDSA" : "EC";
}

/* clang-format off */
#define KEY_FUNCTIONS                                                    \
    {OSSL_FUNC_KEYMGMT_NEW, (any_function *)new_key},                    \
    {OSSL_FUNC_KEYMGMT_FREE, (any_function *)free_key},                  \
    {OSSL_FUNC_KEYMGMT_HAS, (any_function *)has_part},                   \
    {OSSL_FUNC_KEYMGMT_MATCH, (any_function *)match_keys},               \
    {OSSL_FUNC_KEYMGMT_IMPORT, (any_function *)import_key},              \
    {OSSL_FUNC_KEYMGMT_IMPORT_TYPES, (any_function *)public_parts},      \
    {OSSL_FUNC_KEYMGMT_EXPORT, (any_function *)export_key},              \
    {OSSL_FUNC_KEYMGMT_EXPORT_TYPES, (any_function *)public_parts},      \
    {OSSL_FUNC_KEYMGMT_GET_PARAMS, (any_function *)get_facts},           \
    {OSSL_FUNC_KEYMGMT_GETTABLE_PARAMS, (any_function *)facts}

static const OSSL_DISPATCH key_functions[] = {KEY_FUNCTIONS, {0, NULL}};

static const OSSL_DISPATCH ec_functions[] = {
    KEY_FUNCTIONS,
    {OSSL_FUNC_KEYMGMT_QUERY_OPERATION_NAME, (any_function *)ec_operation},
    {0, NULL},
};
/* clang-format on */

/* ---- signatures ---- */

struct signing {
    EVP_PKEY *public_key; /* the key keeps it, and OpenSSL the key */
    const char *digest;   /* its short name; NULL: none */
    bool pss;
};

static void *new_signing(void *provider, const char *properties)
{
    (void)provider;
    (void)properties;
    return calloc(1, sizeof(struct signing));
}

static void free_signing(void *signing)
{
    free(signing);
}

/* An RSA key's padding, which OpenSSL names or numbers. TLS's salt is always as long as the digest. */
static int set_padding(void *signing, const OSSL_PARAM params[])
{
    struct signing *s = signing;
    const OSSL_PARAM *p =
        params != NULL ? OSSL_PARAM_locate_const(params, OSSL_SIGNATURE_PARAM_PAD_MODE) : NULL;
    const char *name;
    int number;
    if (p == NULL)
        return 1;
    if (OSSL_PARAM_get_utf8_string_ptr(p, &name)) {
        s->pss = strcmp(name, OSSL_PKEY_RSA_PAD_MODE_PSS) == 0;
        return s->pss || strcmp(name, OSSL_PKEY_RSA_PAD_MODE_PKCSV15) == 0;
    }
    if (!OSSL_PARAM_get_int(p, &number))
        return 0;
    s->pss = number == RSA_PKCS1_PSS_PADDING;
    return s->pss || number == RSA_PKCS1_PADDING;
}

static const OSSL_PARAM *paddings(void *signing, void *provider)
{
    static const OSSL_PARAM list[] = {
        OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PAD_MODE, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PSS_SALTLEN, NULL, 0),
        OSSL_PARAM_END,
    };
    (void)signing;
    (void)provider;
    return list;
}

static int begin(void *signing, const char *digest, void *key, const OSSL_PARAM params[])
{
    struct signing *s = signing;
    EVP_MD *md = digest != NULL ? EVP_MD_fetch(NULL, digest, NULL) : NULL;
    *s = (struct signing){.public_key = ((struct remote_key *)key)->public_key};
    if (md != NULL)
        s->digest = OBJ_nid2sn(EVP_MD_get_type(md));
    EVP_MD_free(md);
    return (digest == NULL || s->digest != NULL) && set_padding(s, params);
}

static const char *scheme_of(const struct signing *s)
{
    if (EVP_PKEY_is_a(s->public_key, "RSA"))
        return s->pss ? "rsa_pss" : "rsa_pkcs1";
    return EVP_PKEY_is_a(s->public_key, "EC") ? "ecdsa" : "ed25519";
}

static bool is_der(const unsigned char *p, size_t n)
{
    const unsigned char *end = p;
    ECDSA_SIG *pair = d2i_ECDSA_SIG(NULL, &end, (long)n);
    ECDSA_SIG_free(pair);
    return pair != NULL && end == p + n;
}

static bool verifies(const struct signing *s, const struct cotls_answer *w, const unsigned char *message,
                     size_t n)
{
    EVP_PKEY_CTX *padding; /* the other one's */
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = ctx != NULL &&
              EVP_DigestVerifyInit_ex(ctx, &padding, s->digest, NULL, NULL, s->public_key, NULL) == 1 &&
              (!s->pss || EVP_PKEY_CTX_set_rsa_padding(padding, RSA_PKCS1_PSS_PADDING) == 1) &&
              EVP_DigestVerify(ctx, w->data, w->len, message, n) == 1;
    EVP_MD_CTX_free(ctx);
    return ok;
}

/* An RSA signature with a fault in it tells the private key to who sees it (the attack of Boneh, DeMillo and
 * Lipton), and is cheap to verify. The others would cost an eighth of the handshake, and harm nobody: the peer
 * refuses them. */
static bool is_good(const struct signing *s, const struct cotls_answer *w, const unsigned char *message,
                    size_t n)
{
    bool ok;
    ERR_set_mark();
    if (EVP_PKEY_is_a(s->public_key, "RSA"))
        ok = verifies(s, w, message, n);
    else if (EVP_PKEY_is_a(s->public_key, "EC"))
        ok = is_der(w->data, w->len);
    else
        ok = w->len == (size_t)EVP_PKEY_get_size(s->public_key);
    ERR_pop_to_mark();
    return ok;
}

/* Scheme and digest, each ended by NUL, and the message. */
static const struct cotls_answer *ask(struct cotls_conn *c, const struct signing *s,
                                      const unsigned char *message, size_t n)
{
    const char *scheme = scheme_of(s), *digest = s->digest != NULL ? s->digest : "";
    size_t head = strlen(scheme) + 1, names = head + strlen(digest) + 1;
    unsigned char *question = malloc(names + n);
    if (question == NULL)
        return NULL;
    memcpy(question, scheme, head);
    memcpy(question + head, digest, names - head);
    memcpy(question + names, message, n);
    const struct cotls_answer *w = cotls_ask(c, HOOK_SIGN, question, names + n, NULL);
    free(question);
    return w;
}

/* Without `out` only the length is wanted. */
static int sign_message(void *signing, unsigned char *out, size_t *n, size_t room,
                        const unsigned char *message, size_t size)
{
    const struct signing *s = signing;
    struct cotls_conn *c = cotls_current();
    *n = (size_t)EVP_PKEY_get_size(s->public_key);
    if (out == NULL)
        return 1;
    if (c == NULL || !cotls_hooked(c, HOOK_SIGN))
        return 0;
    const struct cotls_answer *w = ask(c, s, message, size);
    if (w == NULL)
        return 0;
    if (w->len > *n || w->len > room || !is_good(s, w, message, size)) {
        cotls_ask_refuse(c, "sign gave no signature by the certificate's key");
        return 0;
    }
    memcpy(out, w->data, w->len);
    *n = w->len;
    return 1;
}

static const OSSL_DISPATCH signature_functions[] = {
    {OSSL_FUNC_SIGNATURE_NEWCTX, (any_function *)new_signing},
    {OSSL_FUNC_SIGNATURE_FREECTX, (any_function *)free_signing},
    {OSSL_FUNC_SIGNATURE_DIGEST_SIGN_INIT, (any_function *)begin},
    {OSSL_FUNC_SIGNATURE_DIGEST_SIGN, (any_function *)sign_message},
    {OSSL_FUNC_SIGNATURE_SET_CTX_PARAMS, (any_function *)set_padding},
    {OSSL_FUNC_SIGNATURE_SETTABLE_CTX_PARAMS, (any_function *)paddings},
    {0, NULL},
};

/* ---- the provider ---- */

#define PROPERTIES "provider=cotls"

static const OSSL_ALGORITHM *query(void *provider, int operation, int *no_cache)
{
    static const OSSL_ALGORITHM keys[] = {
        {"RSA:rsaEncryption", PROPERTIES, key_functions, NULL},
        {"EC:id-ecPublicKey", PROPERTIES, ec_functions, NULL},
        {"ED25519", PROPERTIES, key_functions, NULL},
        {NULL, NULL, NULL, NULL},
    };
    static const OSSL_ALGORITHM signatures[] = {
        {"RSA:rsaEncryption", PROPERTIES, signature_functions, NULL},
        {"ECDSA", PROPERTIES, signature_functions, NULL},
        {"ED25519", PROPERTIES, signature_functions, NULL},
        {NULL, NULL, NULL, NULL},
    };
    (void)provider;
    *no_cache = 0;
    if (operation == OSSL_OP_KEYMGMT)
        return keys;
    return operation == OSSL_OP_SIGNATURE ? signatures : NULL;
}

static int start_provider(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *in, const OSSL_DISPATCH **out,
                          void **provider)
{
    static const OSSL_DISPATCH functions[] = {
        {OSSL_FUNC_PROVIDER_QUERY_OPERATION, (any_function *)query},
        {0, NULL},
    };
    static char nothing;
    (void)handle;
    (void)in;
    *out = functions;
    *provider = &nothing;
    return 1;
}

/* As long as the process lives: keys refer to it. NULL: there is no memory. */
static OSSL_LIB_CTX *library;

static void make_library(void)
{
    OSSL_LIB_CTX *made = OSSL_LIB_CTX_new();
    if (made != NULL && OSSL_PROVIDER_add_builtin(made, "cotls", start_provider) == 1 &&
        OSSL_PROVIDER_load(made, "cotls") != NULL)
        library = made;
    else
        OSSL_LIB_CTX_free(made);
}

static bool is_known(const EVP_PKEY *key)
{
    return EVP_PKEY_is_a(key, "RSA") || EVP_PKEY_is_a(key, "EC") || EVP_PKEY_is_a(key, "ED25519");
}

/* OpenSSL 3.0.0 looks for no operations at the key's own provider. */
static bool is_usable(EVP_PKEY *key)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    const char *digest = EVP_PKEY_is_a(key, "ED25519") ? NULL : "SHA256";
    bool ok = ctx != NULL && EVP_DigestSignInit_ex(ctx, NULL, digest, NULL, NULL, key, NULL) == 1;
    EVP_MD_CTX_free(ctx);
    return ok;
}

/* The key to that public one, whose signatures come from elsewhere; NULL: it can't be used so. */
EVP_PKEY *cotls_remote_key(EVP_PKEY *public_key)
{
    static CRYPTO_ONCE once = CRYPTO_ONCE_STATIC_INIT;
    OSSL_PARAM *params = NULL;
    EVP_PKEY *key = NULL;
    if (!is_known(public_key) || !CRYPTO_THREAD_run_once(&once, make_library) || library == NULL)
        return NULL;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(library, EVP_PKEY_get0_type_name(public_key), NULL);
    bool ok = ctx != NULL && EVP_PKEY_todata(public_key, EVP_PKEY_PUBLIC_KEY, &params) == 1 &&
              EVP_PKEY_fromdata_init(ctx) == 1 &&
              EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_PUBLIC_KEY, params) == 1 && is_usable(key);
    OSSL_PARAM_free(params);
    EVP_PKEY_CTX_free(ctx);
    if (ok)
        return key;
    EVP_PKEY_free(key);
    return NULL;
}
