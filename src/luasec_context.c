/* SPDX-License-Identifier: MIT
 * What LuaSec's names ask of a context or of a connection before its handshake,
 * and what it tells that cotls' own getters don't. Here stands what is said to
 * OpenSSL as it is; the words of failures and the order are cotls/luasec's. */
#include "cotls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/decoder.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

/* true; or false and OpenSSL's first reason, the queue emptied */
static int answer(lua_State *L, bool ok)
{
    const char *reason = ERR_reason_error_string(ERR_peek_error());
    ERR_clear_error();
    lua_pushboolean(L, ok);
    if (!ok)
        lua_pushstring(L, reason != NULL ? reason : "(null)");
    return ok ? 1 : 2;
}

static SSL_CTX *check_ctx(lua_State *L)
{
    SSL_CTX *ctx = cotls_check_context(L, 1)->ssl_ctx;
    ERR_clear_error();
    return ctx;
}

/* The open SSL of a connection, or NULL. */
static SSL *test_ssl(lua_State *L)
{
    SSL *ssl = cotls_check_conn(L)->ssl;
    ERR_clear_error();
    return ssl;
}

/* ---- contexts ---- */

/* luasec.loosen(context, min, max): LuaSec's defaults in the place of cotls'; 0 is no limit */
static int loosen(lua_State *L)
{
    struct cotls_ctx *x = cotls_check_context(L, 1);
    int min = (int)luaL_checkinteger(L, 2), max = (int)luaL_checkinteger(L, 3);
    ERR_clear_error();
    SSL_CTX_clear_options(x->ssl_ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_session_cache_mode(x->ssl_ctx, SSL_SESS_CACHE_OFF);
    cotls_verify_nobody(x);
    return answer(L, SSL_CTX_set_min_proto_version(x->ssl_ctx, min) == 1 &&
                         SSL_CTX_set_max_proto_version(x->ssl_ctx, max) == 1);
}

/* luasec.load_key(context, path, password or nil) → true; or false, reason, was a password wanted? */
static int load_key(lua_State *L)
{
    SSL_CTX *ctx = check_ctx(L);
    const char *path = luaL_checkstring(L, 2);
    struct cotls_password password = {0};
    password.text = luaL_optlstring(L, 3, NULL, &password.size);
    BIO *bio = BIO_new_file(path, "r");
    EVP_PKEY *key = NULL;
    if (bio != NULL)
        key = PEM_read_bio_PrivateKey(bio, NULL, &cotls_hook_password, &password);
    bool ok = key != NULL && SSL_CTX_use_PrivateKey(ctx, key) == 1;
    EVP_PKEY_free(key);
    BIO_free(bio);
    int n = answer(L, ok);
    lua_pushboolean(L, password.asked);
    return n + 1;
}

/* What follows the certificate in its file. A file ends where there is no more PEM. */
static bool add_chain(SSL_CTX *ctx, BIO *bio)
{
    bool ok = SSL_CTX_clear_chain_certs(ctx) == 1;
    while (ok) {
        X509 *next = PEM_read_bio_X509(bio, NULL, &cotls_hook_password, NULL);
        if (next == NULL)
            break;
        ok = SSL_CTX_add0_chain_cert(ctx, next) == 1;
        if (!ok)
            X509_free(next);
    }
    if (ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE)
        ERR_clear_error();
    return ok && ERR_peek_error() == 0;
}

static int load_certificate(lua_State *L)
{
    SSL_CTX *ctx = check_ctx(L);
    const char *path = luaL_checkstring(L, 2);
    BIO *bio = BIO_new_file(path, "r");
    X509 *leaf = NULL;
    if (bio != NULL)
        leaf = PEM_read_bio_X509_AUX(bio, NULL, &cotls_hook_password, NULL);
    bool ok = leaf != NULL && SSL_CTX_use_certificate(ctx, leaf) == 1;
    X509_free(leaf);
    ok = ok && add_chain(ctx, bio);
    BIO_free(bio);
    return answer(L, ok);
}

static int check_key(lua_State *L)
{
    return answer(L, SSL_CTX_check_private_key(check_ctx(L)) == 1);
}

/* luasec.trust(context, file or nil, directory or nil) */
static int trust(lua_State *L)
{
    SSL_CTX *ctx = check_ctx(L);
    const char *file = luaL_optstring(L, 2, NULL), *directory = luaL_optstring(L, 3, NULL);
    return answer(L, SSL_CTX_load_verify_locations(ctx, file, directory) == 1);
}

static int set_ciphers(lua_State *L)
{
    SSL_CTX *ctx = check_ctx(L);
    return answer(L, SSL_CTX_set_cipher_list(ctx, luaL_checkstring(L, 2)) == 1);
}

static int set_suites(lua_State *L)
{
    SSL_CTX *ctx = check_ctx(L);
    return answer(L, SSL_CTX_set_ciphersuites(ctx, luaL_checkstring(L, 2)) == 1);
}

static int set_groups(lua_State *L)
{
    SSL_CTX *ctx = check_ctx(L);
    void *list =
        (void *)(uintptr_t)luaL_checkstring(L, 2); /* OpenSSL's macro wants text that it could write to */
    return answer(L, SSL_CTX_ctrl(ctx, SSL_CTRL_SET_GROUPS_LIST, 0, list) == 1);
}

/* luasec.set_verify(context, peer, once, required) */
static int set_verify(lua_State *L)
{
    int mode = lua_toboolean(L, 2) ? SSL_VERIFY_PEER : SSL_VERIFY_NONE;
    mode |= lua_toboolean(L, 3) ? SSL_VERIFY_CLIENT_ONCE : 0;
    mode |= lua_toboolean(L, 4) ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0;
    SSL_CTX_set_verify(check_ctx(L), mode, NULL);
    return 0;
}

/* luasec.set_verify_ext(context, continue, ignore_purpose, crl_check, crl_check_chain) */
static int set_verify_ext(lua_State *L)
{
    struct cotls_ctx *x = cotls_check_context(L, 1);
    unsigned long crl = (lua_toboolean(L, 4) ? X509_V_FLAG_CRL_CHECK : 0) |
                        (lua_toboolean(L, 5) ? X509_V_FLAG_CRL_CHECK_ALL : 0);
    x->verify_goes_on = lua_toboolean(L, 2);
    x->verify_no_purpose = lua_toboolean(L, 3);
    X509_STORE_set_flags(SSL_CTX_get_cert_store(x->ssl_ctx), crl);
    return 0;
}

static int set_depth(lua_State *L)
{
    SSL_CTX_set_verify_depth(check_ctx(L), (int)luaL_checkinteger(L, 2));
    return 0;
}

/* The parameters of DH from PEM text, X9.42's too; NULL: there are none. */
static EVP_PKEY *read_dh(const char *pem, size_t n)
{
    EVP_PKEY *parameters = NULL;
    const unsigned char *data = (const unsigned char *)pem;
    OSSL_DECODER_CTX *decoder = OSSL_DECODER_CTX_new_for_pkey(
        &parameters, "PEM", NULL, NULL, OSSL_KEYMGMT_SELECT_DOMAIN_PARAMETERS, NULL, NULL);
    if (decoder != NULL)
        OSSL_DECODER_from_data(decoder, &data, &n);
    OSSL_DECODER_CTX_free(decoder);
    return parameters;
}

/* luasec.set_dh(context, pem) */
static int set_dh(lua_State *L)
{
    SSL_CTX *ctx = check_ctx(L);
    size_t n;
    const char *pem = luaL_checklstring(L, 2, &n);
    EVP_PKEY *parameters = read_dh(pem, n);
    bool ok = parameters != NULL && SSL_CTX_set0_tmp_dh_pkey(ctx, parameters) == 1;
    if (!ok)
        EVP_PKEY_free(parameters);
    return answer(L, ok);
}

/* luasec.enable_dane(context, no_ee_namechecks) */
static int enable_dane(lua_State *L)
{
    SSL_CTX *ctx = check_ctx(L);
    bool ok = SSL_CTX_dane_enable(ctx) > 0;
    if (lua_toboolean(L, 2))
        SSL_CTX_dane_set_flags(ctx, DANE_FLAG_NO_DANE_EE_NAMECHECKS);
    return answer(L, ok);
}

static int set_psk_hint(lua_State *L)
{
    SSL_CTX *ctx = check_ctx(L);
    return answer(L, SSL_CTX_use_psk_identity_hint(ctx, luaL_checkstring(L, 2)) == 1);
}

/* luasec.curves() → { name = true }, the builtin ones and NIST's names */
static int list_curves(lua_State *L)
{
    size_t n = EC_get_builtin_curves(NULL, 0);
    EC_builtin_curve *curves = lua_newuserdatauv(L, (n + 1) * sizeof *curves, 0);
    EC_get_builtin_curves(curves, n);
    lua_newtable(L);
    for (size_t i = 0; i < n; i++) {
        lua_pushboolean(L, 1);
        lua_setfield(L, -2, OBJ_nid2sn(curves[i].nid));
    }
    return 1;
}

/* ---- connections ---- */

/* luasec.set_name(connection, name): what the client asks for */
static int set_name(lua_State *L)
{
    SSL *ssl = test_ssl(L);
    const char *name = luaL_checkstring(L, 2);
    char copy[TLSEXT_MAXLEN_host_name + 1];
    bool ok = ssl != NULL && strlen(name) < sizeof copy;
    if (ok)
        ok = SSL_set_tlsext_host_name(ssl, strcpy(copy, name)) == 1;
    return answer(L, ok);
}

/* luasec.set_dane(connection, name) */
static int set_dane(lua_State *L)
{
    SSL *ssl = test_ssl(L);
    return answer(L, ssl != NULL && SSL_dane_enable(ssl, luaL_checkstring(L, 2)) > 0);
}

/* luasec.set_tlsa(connection, usage, selector, matching type, data) */
static int set_tlsa(lua_State *L)
{
    SSL *ssl = test_ssl(L);
    uint8_t usage = (uint8_t)luaL_checkinteger(L, 2), selector = (uint8_t)luaL_checkinteger(L, 3),
            type = (uint8_t)luaL_checkinteger(L, 4);
    size_t n;
    const char *data = luaL_checklstring(L, 5, &n);
    return answer(L, ssl != NULL &&
                         SSL_dane_tlsa_add(ssl, usage, selector, type, (const unsigned char *)data, n) > 0);
}

/* luasec.set_alpn(connection, wire or nil): a server's list for this one; OpenSSL asks later */
static int set_alpn(lua_State *L)
{
    struct cotls_conn *c = cotls_check_conn(L);
    lua_settop(L, 2);
    c->alpn = (const unsigned char *)lua_tolstring(L, 2, &c->alpn_len);
    if (lua_getiuservalue(L, 1, UV_OPTIONS) != LUA_TTABLE) {
        lua_newtable(L);
        lua_pushvalue(L, -1);
        lua_setiuservalue(L, 1, UV_OPTIONS);
        lua_replace(L, 3);
    }
    lua_pushvalue(L, 2);
    lua_setfield(L, 3, "alpn"); /* which keeps it */
    return 0;
}

/* luasec.switch(connection, context): another one's certificate and settings, inside on_client_hello; whom the
 * first one verifies is verified still */
static int switch_context(lua_State *L)
{
    struct cotls_conn *c = cotls_check_conn(L);
    struct cotls_ctx *x = cotls_check_context(L, 2);
    lua_settop(L, 2);
    int mode = c->ssl != NULL ? SSL_get_verify_mode(c->ssl) : 0;
    bool ok = c->ssl != NULL && (x == c->active || cotls_names_switch(c, x));
    if (ok) {
        SSL_set_verify(c->ssl, mode | SSL_CTX_get_verify_mode(x->ssl_ctx), NULL);
        lua_setiuservalue(L, 1, UV_ACTIVE);
    }
    return answer(L, ok);
}

/* luasec.describe(connection) → description, bits, bits of the algorithm, version; nothing before there is a cipher */
static int describe(lua_State *L)
{
    char text[256] = "";
    int of_algorithm = 0;
    SSL *ssl = test_ssl(L);
    const SSL_CIPHER *cipher = ssl != NULL ? SSL_get_current_cipher(ssl) : NULL;
    if (cipher == NULL)
        return 0;
    int bits = SSL_CIPHER_get_bits(cipher, &of_algorithm);
    lua_pushstring(L, SSL_CIPHER_description(cipher, text, sizeof text));
    lua_pushinteger(L, bits);
    lua_pushinteger(L, of_algorithm);
    lua_pushstring(L, SSL_get_version(ssl));
    return 4;
}

/* The lists of what is wrong with each certificate, by depth counted from 1. [-0, +1] */
static void push_verify_errors(lua_State *L, const struct cotls_conn *c)
{
    lua_newtable(L);
    for (size_t i = 0; i < c->verify_error_count; i++) {
        lua_Integer depth = c->verify_errors[i].depth + 1;
        if (lua_rawgeti(L, -1, depth) == LUA_TNIL) {
            lua_pop(L, 1);
            lua_newtable(L);
            lua_pushvalue(L, -1);
            lua_rawseti(L, -3, depth);
        }
        lua_pushstring(L, X509_verify_cert_error_string(c->verify_errors[i].code));
        lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
        lua_pop(L, 1);
    }
}

/* luasec.verification(connection) → true; or false and a text, or lists of texts */
static int verification(lua_State *L)
{
    const struct cotls_conn *c = cotls_check_conn(L);
    SSL *ssl = test_ssl(L);
    long code = ssl != NULL ? SSL_get_verify_result(ssl) : X509_V_ERR_UNSPECIFIED;
    lua_pushboolean(L, code == X509_V_OK);
    if (code == X509_V_OK)
        return 1;
    if (c->verify_error_count > 0)
        push_verify_errors(L, c);
    else
        lua_pushstring(L, X509_verify_cert_error_string(code));
    return 2;
}

/* Has this certificate been shown, or would it be, if it were asked for? A client that was not asked has sent none. */
static X509 *local_certificate(SSL *ssl)
{
    return ssl != NULL ? SSL_get_certificate(ssl) : NULL;
}

/* luasec.local_certificate(connection) → x509, or nil */
static int push_local_certificate(lua_State *L)
{
    cotls_push_x509(L, local_certificate(test_ssl(L)));
    return 1;
}

/* luasec.local_chain(connection) → a list of x509: the certificate and what goes with it */
static int push_local_chain(lua_State *L)
{
    SSL *ssl = test_ssl(L);
    X509 *leaf = local_certificate(ssl);
    STACK_OF(X509) *chain = NULL;
    lua_Integer n = 0;
    lua_newtable(L);
    if (leaf != NULL) {
        cotls_push_x509(L, leaf);
        lua_rawseti(L, -2, ++n);
    }
    if (ssl == NULL || !SSL_get0_chain_certs(ssl, &chain))
        return 1;
    for (int i = 0; i < sk_X509_num(chain); i++) {
        cotls_push_x509(L, sk_X509_value(chain, i));
        lua_rawseti(L, -2, ++n);
    }
    return 1;
}

/* luasec.export(connection, label, length, context or nil) → bytes; or nothing */
static int export_keys(lua_State *L)
{
    SSL *ssl = test_ssl(L);
    size_t label_size, context_size = 0;
    const char *label = luaL_checklstring(L, 2, &label_size);
    lua_Integer length = luaL_checkinteger(L, 3);
    const char *context = luaL_optlstring(L, 4, NULL, &context_size);
    luaL_argcheck(L, length > 0 && length <= 8160, 3, "must be from 1 to 8160");
    unsigned char *out = lua_newuserdatauv(L, (size_t)length, 0);
    bool ok = ssl != NULL &&
              SSL_export_keying_material(ssl, out, (size_t)length, label, label_size,
                                         (const unsigned char *)context, context_size, context != NULL) == 1;
    if (ok)
        lua_pushlstring(L, (const char *)out, (size_t)length);
    OPENSSL_cleanse(out, (size_t)length);
    ERR_clear_error();
    return ok ? 1 : 0;
}

/* luasec.address(descriptor, peer) → IP address, port, "inet" or "inet6"; or nil, reason */
static int push_address(lua_State *L)
{
    struct sockaddr_in6 address = {0};
    socklen_t size = sizeof address;
    char host[INET6_ADDRSTRLEN];
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)&address;
    int fd = (int)luaL_checkinteger(L, 1);
    int bad = lua_toboolean(L, 2) ? getpeername(fd, (struct sockaddr *)&address, &size)
                                  : getsockname(fd, (struct sockaddr *)&address, &size);
    bool is_v4 = address.sin6_family == AF_INET;
    if (bad != 0 || (!is_v4 && address.sin6_family != AF_INET6)) {
        lua_pushnil(L);
        lua_pushstring(L, bad != 0 ? strerror(errno) : "not an Internet address");
        return 2;
    }
    const void *ip = is_v4 ? (const void *)&v4->sin_addr : (const void *)&address.sin6_addr;
    lua_pushstring(L, inet_ntop(address.sin6_family, ip, host, sizeof host));
    lua_pushinteger(L, ntohs(is_v4 ? v4->sin_port : address.sin6_port));
    lua_pushstring(L, is_v4 ? "inet" : "inet6");
    return 3;
}

const luaL_Reg cotls_luasec_context_functions[] = {
    {"address", push_address},
    {"check_key", check_key},
    {"curves", list_curves},
    {"describe", describe},
    {"enable_dane", enable_dane},
    {"export", export_keys},
    {"load_certificate", load_certificate},
    {"load_key", load_key},
    {"local_certificate", push_local_certificate},
    {"local_chain", push_local_chain},
    {"loosen", loosen},
    {"set_alpn", set_alpn},
    {"set_ciphers", set_ciphers},
    {"set_dane", set_dane},
    {"set_depth", set_depth},
    {"set_dh", set_dh},
    {"set_groups", set_groups},
    {"set_name", set_name},
    {"set_psk_hint", set_psk_hint},
    {"set_suites", set_suites},
    {"set_tlsa", set_tlsa},
    {"set_verify", set_verify},
    {"set_verify_ext", set_verify_ext},
    {"switch", switch_context},
    {"trust", trust},
    {"verification", verification},
    {NULL, NULL},
};
