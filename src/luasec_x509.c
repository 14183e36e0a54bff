/* SPDX-License-Identifier: MIT
 * What LuaSec tells of a certificate where cotls' own getters give another form:
 * lists of a name's parts, alternative names by kind, dates as text. The first
 * argument is a cotls.x509. */
#include "cotls.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <string.h>

/* An object's name, or its OID. [-0, +1] */
static void push_object(lua_State *L, const ASN1_OBJECT *object, bool numeric)
{
    char text[256];
    int n = OBJ_obj2txt(text, sizeof text, object, numeric);
    lua_pushlstring(L, text, n < 0 ? 0 : n < (int)sizeof text ? (size_t)n : sizeof text - 1);
}

static void free_text(void *text)
{
    OPENSSL_free(text);
}

/* As it is, or in UTF-8; nil where that can't be. [-0, +1] */
static void push_string(lua_State *L, const ASN1_STRING *string, bool utf8)
{
    unsigned char *data = NULL;
    if (string == NULL) {
        lua_pushnil(L);
        return;
    }
    if (!utf8) {
        lua_pushlstring(L, (const char *)ASN1_STRING_get0_data(string), (size_t)ASN1_STRING_length(string));
        return;
    }
    struct cotls_cell *cell = cotls_push_cell(L, free_text);
    int n = ASN1_STRING_to_UTF8(&data, string);
    cell->data = data;
    ERR_clear_error();
    if (n >= 0)
        lua_pushlstring(L, (const char *)data, (size_t)n);
    else
        lua_pushnil(L);
    cotls_empty_cell(cell);
    lua_remove(L, -2);
}

/* luasec.name(x509, issuer, utf8) → a list of { oid =, name =, value = } */
static int push_parts(lua_State *L)
{
    X509 *cert = cotls_check_x509(L);
    const X509_NAME *name = lua_toboolean(L, 2) ? X509_get_issuer_name(cert) : X509_get_subject_name(cert);
    bool utf8 = lua_toboolean(L, 3);
    int n = X509_NAME_entry_count(name);
    lua_createtable(L, n, 0);
    for (int i = 0; i < n; i++) {
        const X509_NAME_ENTRY *entry = X509_NAME_get_entry(name, i);
        lua_createtable(L, 0, 3);
        push_object(L, X509_NAME_ENTRY_get_object(entry), true);
        lua_setfield(L, -2, "oid");
        push_object(L, X509_NAME_ENTRY_get_object(entry), false);
        lua_setfield(L, -2, "name");
        push_string(L, X509_NAME_ENTRY_get_data(entry), utf8);
        lua_setfield(L, -2, "value");
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

/* ---- alternative names ---- */

/* The list at `key` (on top) of the table below it; name where it is given. [-1, +1] */
static void push_list(lua_State *L, const ASN1_OBJECT *object)
{
    lua_pushvalue(L, -1);
    lua_gettable(L, -3);
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        lua_newtable(L);
        if (object != NULL) {
            push_object(L, object, false);
            lua_setfield(L, -2, "name");
        }
        lua_pushvalue(L, -2);
        lua_pushvalue(L, -2);
        lua_settable(L, -5);
    }
    lua_remove(L, -2);
}

static void push_address(lua_State *L, const ASN1_OCTET_STRING *ip)
{
    char text[INET6_ADDRSTRLEN];
    int n = ASN1_STRING_length(ip);
    const char *good = n == 4 || n == 16 ? inet_ntop(n == 4 ? AF_INET : AF_INET6, ASN1_STRING_get0_data(ip),
                                                     text, sizeof text)
                                         : NULL;
    lua_pushstring(L, good);
}

/* The value on top goes to the end of the list below it; nil is no value. [-2, +0] */
static void append(lua_State *L)
{
    if (lua_isnil(L, -1))
        lua_pop(L, 1);
    else
        lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
    lua_pop(L, 1);
}

static bool is_string(const ASN1_TYPE *value)
{
    switch (value->type) {
    case V_ASN1_UTF8STRING:
    case V_ASN1_PRINTABLESTRING:
    case V_ASN1_IA5STRING:
    case V_ASN1_T61STRING:
    case V_ASN1_BMPSTRING:
    case V_ASN1_UNIVERSALSTRING:
    case V_ASN1_OCTET_STRING:
        return true;
    default:
        return false;
    }
}

/* Into the table on top. Of what LuaSec doesn't show nothing is shown. [-0, +0] */
static void add_general_name(lua_State *L, const GENERAL_NAME *g, bool utf8)
{
    static const char *const kinds[] = {
        [GEN_EMAIL] = "rfc822Name", [GEN_DNS] = "dNSName", [GEN_URI] = "uniformResourceIdentifier"};
    if (g->type == GEN_OTHERNAME) {
        push_object(L, g->d.otherName->type_id, true);
        push_list(L, g->d.otherName->type_id);
        if (is_string(g->d.otherName->value))
            push_string(L, g->d.otherName->value->value.asn1_string, utf8);
        else
            lua_pushnil(L);
        append(L);
    } else if (g->type == GEN_IPADD) {
        lua_pushliteral(L, "iPAddress");
        push_list(L, NULL);
        push_address(L, g->d.iPAddress);
        append(L);
    } else if (g->type == GEN_EMAIL || g->type == GEN_DNS || g->type == GEN_URI) {
        lua_pushstring(L, kinds[g->type]);
        push_list(L, NULL);
        push_string(L, g->d.ia5, utf8);
        append(L);
    }
}

static void free_names(void *names)
{
    GENERAL_NAMES_free(names);
}

/* luasec.extensions(x509, utf8) → { [oid] = { name =, [kind] = { names } } } */
static int push_extensions(lua_State *L)
{
    X509 *cert = cotls_check_x509(L);
    bool utf8 = lua_toboolean(L, 2);
    struct cotls_cell *cell = cotls_push_cell(L, free_names);
    lua_newtable(L);
    for (int i = -1; (i = X509_get_ext_by_NID(cert, NID_subject_alt_name, i)) >= 0;) {
        X509_EXTENSION *extension = X509_get_ext(cert, i);
        GENERAL_NAMES *names = X509V3_EXT_d2i(extension);
        cell->data = names;
        ERR_clear_error();
        if (names == NULL)
            break;
        push_object(L, X509_EXTENSION_get_object(extension), true);
        push_list(L, X509_EXTENSION_get_object(extension));
        for (int j = 0; j < sk_GENERAL_NAME_num(names); j++)
            add_general_name(L, sk_GENERAL_NAME_value(names, j), utf8);
        cotls_empty_cell(cell);
        lua_pop(L, 1);
    }
    return 1;
}

/* ---- the rest ---- */

static void free_bio(void *bio)
{
    BIO_free(bio);
}

/* luasec.date(x509, after) → text */
static int push_date(lua_State *L)
{
    X509 *cert = cotls_check_x509(L);
    const ASN1_TIME *time = lua_toboolean(L, 2) ? X509_get0_notAfter(cert) : X509_get0_notBefore(cert);
    struct cotls_cell *cell = cotls_push_cell(L, free_bio);
    BIO *bio = BIO_new(BIO_s_mem());
    char *data = NULL;
    cell->data = bio;
    if (bio != NULL)
        ASN1_TIME_print(bio, time);
    long n = bio != NULL ? BIO_get_mem_data(bio, &data) : 0;
    ERR_clear_error();
    lua_pushlstring(L, data != NULL ? data : "", n > 0 ? (size_t)n : 0);
    cotls_empty_cell(cell);
    return 1;
}

/* luasec.public_key(x509) → PEM, type, bits; or nil */
static int push_public_key(lua_State *L)
{
    X509 *cert = cotls_check_x509(L);
    static const char *const types[] = {"RSA", "DSA", "DH", "EC"};
    struct cotls_cell *cell = cotls_push_cell(L, free_bio);
    BIO *bio = BIO_new(BIO_s_mem());
    EVP_PKEY *key = X509_get0_pubkey(cert);
    const char *type = "Unknown";
    char *data = NULL;
    cell->data = bio;
    if (bio == NULL || key == NULL || !PEM_write_bio_PUBKEY(bio, key)) {
        ERR_clear_error();
        lua_pushnil(L);
        return 1;
    }
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (EVP_PKEY_is_a(key, types[i]))
            type = types[i];
    long n = BIO_get_mem_data(bio, &data);
    lua_pushlstring(L, data, n > 0 ? (size_t)n : 0);
    cotls_empty_cell(cell);
    lua_pushstring(L, type);
    lua_pushinteger(L, EVP_PKEY_get_bits(key));
    return 3;
}

/* luasec.valid_at(x509, time) */
static int push_valid_at(lua_State *L)
{
    X509 *cert = cotls_check_x509(L);
    time_t time = (time_t)luaL_checknumber(L, 2);
    lua_pushboolean(L, X509_cmp_time(X509_get0_notAfter(cert), &time) >= 0 &&
                           X509_cmp_time(X509_get0_notBefore(cert), &time) <= 0);
    ERR_clear_error();
    return 1;
}

struct judgement {
    X509_STORE *store;
    X509_STORE_CTX *ctx;
    STACK_OF(X509) * others;
};

static void free_judgement(struct judgement *j)
{
    X509_STORE_CTX_free(j->ctx);
    X509_STORE_free(j->store);
    sk_X509_free(j->others);
}

/* X509_V_OK, or why not. The arguments are known to be certificates. */
static int judge(lua_State *L, struct judgement *j)
{
    j->store = X509_STORE_new();
    j->ctx = X509_STORE_CTX_new();
    j->others = sk_X509_new_null();
    bool ok = j->store != NULL && j->ctx != NULL && j->others != NULL &&
              X509_STORE_add_cert(j->store, cotls_test_x509(L, 1));
    for (int i = 3; ok && i <= lua_gettop(L); i++)
        ok = sk_X509_push(j->others, cotls_test_x509(L, i)) > 0;
    if (!ok || !X509_STORE_CTX_init(j->ctx, j->store, cotls_test_x509(L, 2), j->others))
        return X509_V_ERR_OUT_OF_MEM;
    if (X509_verify_cert(j->ctx) > 0)
        return X509_V_OK;
    int code = X509_STORE_CTX_get_error(j->ctx);
    return code != X509_V_OK ? code : X509_V_ERR_UNSPECIFIED;
}

/* luasec.issued(issuer, subject, others...) → true; or nil, reason */
static int push_issued(lua_State *L)
{
    struct judgement j = {0};
    for (int i = 1; i <= lua_gettop(L) || i <= 2; i++)
        luaL_argcheck(L, cotls_test_x509(L, i) != NULL, i, "SSL:Certificate expected");
    ERR_clear_error();
    int code = judge(L, &j);
    free_judgement(&j);
    ERR_clear_error();
    if (code == X509_V_OK) {
        lua_pushboolean(L, 1);
        return 1;
    }
    lua_pushnil(L);
    lua_pushstring(L, X509_verify_cert_error_string(code));
    return 2;
}

static void free_hex(void *hex)
{
    OPENSSL_free(hex);
}

/* luasec.serial(x509) → hexadecimal digits */
static int push_serial(lua_State *L)
{
    X509 *cert = cotls_check_x509(L);
    struct cotls_cell *cell = cotls_push_cell(L, free_hex);
    BIGNUM *number = ASN1_INTEGER_to_BN(X509_get0_serialNumber(cert), NULL);
    char *hex = number != NULL ? BN_bn2hex(number) : NULL;
    BN_free(number);
    cell->data = hex;
    ERR_clear_error();
    lua_pushstring(L, hex);
    cotls_empty_cell(cell);
    return 1;
}

/* luasec.signature_name(x509) → OpenSSL's long name, or nil */
static int push_signature_name(lua_State *L)
{
    int nid = X509_get_signature_nid(cotls_check_x509(L));
    lua_pushstring(L, nid != NID_undef ? OBJ_nid2ln(nid) : NULL);
    return 1;
}

static void free_x509(void *cert)
{
    X509_free(cert);
}

/* luasec.read_certificate(pem) → x509, or nil */
static int read_certificate(lua_State *L)
{
    size_t n;
    const char *pem = luaL_checklstring(L, 1, &n);
    struct cotls_cell *cell = cotls_push_cell(L, free_x509);
    BIO *bio = BIO_new_mem_buf(pem, (int)n);
    cell->data = bio != NULL ? PEM_read_bio_X509(bio, NULL, &cotls_hook_password, NULL) : NULL;
    BIO_free(bio);
    ERR_clear_error();
    cotls_push_x509(L, cell->data);
    cotls_empty_cell(cell);
    return 1;
}

const luaL_Reg cotls_luasec_x509_functions[] = {
    {"date", push_date},
    {"extensions", push_extensions},
    {"issued", push_issued},
    {"name", push_parts},
    {"public_key", push_public_key},
    {"read_certificate", read_certificate},
    {"serial", push_serial},
    {"signature_name", push_signature_name},
    {"valid_at", push_valid_at},
    {NULL, NULL},
};
