/* SPDX-License-Identifier: MIT
 * Credentials: a certificate, its key, the chain behind it and what is stapled
 * to it, made of files, PKCS#12 or a URI; a context has one for each type of
 * key. Lua has read the files. No OpenSSL object is held but by the credential
 * while Lua is called, and OpenSSL's error queue is left empty. */
#include "cotls.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

/* ---- the chain ---- */

/* The issuer of that certificate, taken out of the stack; NULL: it isn't there. */
static X509 *take_issuer(STACK_OF(X509) * from, X509 *certificate)
{
    for (int i = 0; i < sk_X509_num(from); i++)
        if (X509_check_issued(sk_X509_value(from, i), certificate) == X509_V_OK)
            return sk_X509_delete(from, i);
    return NULL;
}

/* RFC 5246 section 7.4.2: each certificate is followed by its issuer's. What belongs nowhere comes last. */
bool cotls_sort_chain(struct cotls_credential *k)
{
    STACK_OF(X509) *sorted = sk_X509_new_reserve(NULL, sk_X509_num(k->chain));
    X509 *next = k->leaf;
    if (sorted == NULL)
        return false;
    while ((next = take_issuer(k->chain, next)) != NULL)
        sk_X509_push(sorted, next);
    while ((next = sk_X509_shift(k->chain)) != NULL)
        sk_X509_push(sorted, next);
    sk_X509_free(k->chain);
    k->chain = sorted;
    return true;
}

/* The first certificate is the leaf. */
static bool take_certificate(void *credential, X509 *certificate, int nth)
{
    struct cotls_credential *k = credential;
    if (k->chain == NULL && (k->chain = sk_X509_new_null()) == NULL)
        return false;
    if (nth > 0 && sk_X509_push(k->chain, certificate) <= 0)
        return false;
    if (nth == 0)
        k->leaf = certificate;
    return X509_up_ref(certificate) == 1;
}

/* ---- the parts ---- */

/* The place of the certificate that is the key's, counted from 1; 0: none is. */
static int place_of_leaf(const struct cotls_credential *k)
{
    int place = X509_check_private_key(k->leaf, k->key) == 1 ? 1 : 0;
    for (int i = 0; place == 0 && i < sk_X509_num(k->chain); i++)
        if (X509_check_private_key(sk_X509_value(k->chain, i), k->key) == 1)
            place = i + 2;
    ERR_clear_error();
    return place;
}

static bool check_match(lua_State *L, const struct cotls_credential *k, const char *name)
{
    int place = place_of_leaf(k);
    if (place == 1)
        return true;
    if (place == 0)
        return cotls_refuse_file(L, name, " does not match the certificate");
    lua_pushfstring(L, " does not match the first certificate but number %d: the key's own must come first",
                    place);
    return cotls_refuse_file(L, name, lua_tostring(L, -1));
}

/* Each has its value on top: [-0, +any] false: the reason is on top. */

static bool load_certificate(lua_State *L, struct cotls_credential *k, struct cotls_password *password)
{
    (void)password;
    return cotls_take_certificates(L, take_certificate, k);
}

static bool load_key(lua_State *L, struct cotls_credential *k, struct cotls_password *password)
{
    lua_getfield(L, -1, "name");
    lua_pushvalue(L, -2);
    return cotls_read_key(L, &k->key, password) && check_match(L, k, lua_tostring(L, 5));
}

/* In the place of a key: it lives elsewhere. */
static bool load_remote(lua_State *L, struct cotls_credential *k, struct cotls_password *password)
{
    EVP_PKEY *public_key = X509_get0_pubkey(k->leaf);
    const char *type = public_key != NULL ? EVP_PKEY_get0_type_name(public_key) : NULL;
    (void)password;
    cotls_clear_errors();
    if (public_key != NULL)
        k->key = cotls_remote_key(public_key);
    cotls_clear_errors();
    k->remote = k->key != NULL;
    if (!k->remote)
        lua_pushfstring(L,
                        "OpenSSL takes no signatures from elsewhere for a certificate with a key of type %s",
                        type != NULL ? type : "unknown");
    return k->remote;
}

static bool load_uri(lua_State *L, struct cotls_credential *k, struct cotls_password *password)
{
    const char *uri = lua_tostring(L, -1);
    return cotls_load_uri(L, k, password) && check_match(L, k, uri);
}

bool cotls_credential_staple(struct cotls_credential *k, const void *der, size_t size)
{
    unsigned char *copy = malloc(size > 0 ? size : 1);
    if (copy == NULL)
        return false;
    memcpy(copy, der, size);
    free(k->ocsp);
    k->ocsp = copy;
    k->ocsp_len = size;
    return true;
}

static bool load_staple(lua_State *L, struct cotls_credential *k, struct cotls_password *password)
{
    struct cotls_file f = cotls_to_file(L);
    (void)password;
    const char *fault = cotls_ocsp_fault(k, f.data, f.size);
    if (fault != NULL)
        return cotls_refuse_file(L, f.name, lua_pushfstring(L, ": %s", fault));
    return cotls_credential_staple(k, f.data, f.size) || cotls_refuse_file(L, f.name, ": no memory");
}

/* In this order: a key belongs to the certificate before it. */
static const struct {
    const char *name;
    bool (*load)(lua_State *L, struct cotls_credential *k, struct cotls_password *password);
} parts[] = {
    {"certificate", load_certificate},
    {"key", load_key},
    {"sign", load_remote},
    {"key_uri", load_uri},
    {"pkcs12", cotls_load_pkcs12},
    {"ocsp_response", load_staple},
};

static int read_credential(lua_State *L)
{
    struct cotls_password password = {0};
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    struct cotls_credential *k = lua_newuserdatauv(L, sizeof *k, 0);
    *k = (struct cotls_credential){0};
    luaL_setmetatable(L, COTLS_CREDENTIAL);
    lua_getfield(L, 1, "password");
    password.text = lua_tolstring(L, 3, &password.size);
    luaL_checkstack(L, 12, NULL);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (lua_getfield(L, 1, parts[i].name) != LUA_TNIL && !parts[i].load(L, k, &password)) {
            lua_pushnil(L);
            lua_pushstring(L, parts[i].name);
            lua_pushvalue(L, -3);
            lua_pushboolean(L, password.asked && password.text == NULL);
            return 4;
        }
        lua_settop(L, 3);
    }
    luaL_argcheck(L, k->leaf != NULL && k->key != NULL, 1, "no certificate, or no key");
    lua_settop(L, 2);
    lua_pushstring(L, EVP_PKEY_get0_type_name(k->key));
    return 2;
}

/* core.credential{ certificate =, key =, sign =, key_uri =, pkcs12 =, ocsp_response =, password = } → credential, its
 * key's type; or nil, the part that is refused, the reason, and whether a password is wanted */
int cotls_credential(lua_State *L)
{
    lua_pushcfunction(L, read_credential);
    lua_insert(L, 1);
    cotls_call_clean(L, lua_gettop(L) - 1, LUA_MULTRET);
    return lua_gettop(L);
}

static int credential_gc(lua_State *L)
{
    struct cotls_credential *k = luaL_checkudata(L, 1, COTLS_CREDENTIAL);
    X509_free(k->leaf);
    EVP_PKEY_free(k->key);
    sk_X509_pop_free(k->chain, X509_free);
    free(k->ocsp);
    *k = (struct cotls_credential){0};
    return 0;
}

void cotls_credential_open(lua_State *L)
{
    static const luaL_Reg meta[] = {{"__gc", credential_gc}, {NULL, NULL}};
    cotls_new_class(L, COTLS_CREDENTIAL, meta, NULL);
}

/* ---- a client's choice ---- */

/* Can the peer verify what a key of that type signs? RSA-PSS is what RSA keys sign with, too. */
static bool is_wanted(SSL *ssl, const EVP_PKEY *key)
{
    int signs, type = EVP_PKEY_get_base_id(key);
    int n = SSL_get_shared_sigalgs(ssl, 0, NULL, NULL, NULL, NULL, NULL);
    for (int i = 0; i < n; i++) {
        SSL_get_shared_sigalgs(ssl, i, &signs, NULL, NULL, NULL, NULL);
        if (signs == type || (signs == EVP_PKEY_RSA_PSS && type == EVP_PKEY_RSA))
            return true;
    }
    return false;
}

/* For TLS 1.3, and on servers, OpenSSL chooses; of a TLS 1.2 client it takes the current one, good or not. */
void cotls_choose_credential(SSL *ssl, const struct cotls_ctx *x)
{
    for (size_t i = 0; i < x->credential_count; i++)
        if (is_wanted(ssl, x->credentials[i]->key)) {
            SSL_select_current_cert(ssl, x->credentials[i]->leaf);
            return;
        }
}

/* ---- the setting ---- */

/* Of the entry on top; the reason names its own option. [-0, +1] false */
static bool refuse_entry(lua_State *L)
{
    const char *option = lua_getfield(L, -1, "option") == LUA_TSTRING ? lua_tostring(L, -1) : "credentials";
    const char *name = lua_getfield(L, -2, "name") == LUA_TSTRING ? lua_tostring(L, -1) : "?";
    cotls_refuse_file(L, name, NULL);
    cotls_error_config(L, option);
    return false;
}

/* Without the key there is no RSA key exchange. [-0, +any] */
static bool set_suites(lua_State *L, struct cotls_ctx *x, const struct cotls_credential *k)
{
    const char *fault =
        x->server && EVP_PKEY_is_a(k->key, "RSA") ? cotls_signing_suites(x->ssl_ctx, NULL) : NULL;
    if (fault == NULL)
        return true;
    lua_pushstring(L, fault);
    cotls_error_config(L, "sign");
    return false;
}

/* The value on top: a list of { credential =, option = what to blame, name = the file's }. */
static bool set_credentials(lua_State *L, struct cotls_ctx *x)
{
    int list = lua_gettop(L);
    lua_Integer n = luaL_len(L, list);
    lua_pushvalue(L, list);
    lua_setiuservalue(L, 1, UV_CTX_CREDENTIALS);
    if (n > COTLS_KEY_TYPES)
        return cotls_refuse(L, "there are not so many types of keys");
    for (lua_Integer i = 1; i <= n; i++) {
        lua_geti(L, list, i);
        lua_getfield(L, -1, "credential");
        struct cotls_credential *k = luaL_checkudata(L, -1, COTLS_CREDENTIAL);
        lua_pop(L, 1);
        ERR_clear_error();
        if (SSL_CTX_use_cert_and_key(x->ssl_ctx, k->leaf, k->key, k->chain, 1) != 1)
            return refuse_entry(L);
        if (k->remote && !set_suites(L, x, k))
            return false;
        x->credentials[x->credential_count++] = k;
        lua_settop(L, list);
    }
    if (n > 1 && !x->server)
        SSL_CTX_set_cert_cb(x->ssl_ctx, cotls_hook_certificate, NULL);
    return true;
}

const struct cotls_setting cotls_credential_settings[] = {
    {"credentials", set_credentials},
    {NULL, NULL},
};
