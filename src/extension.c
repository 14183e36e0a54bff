/* SPDX-License-Identifier: MIT
 * What a certificate's extensions say. What is malformed, or there twice, says
 * nothing, as it does to OpenSSL's own checks. OpenSSL's decoded values lie in
 * cells while Lua may raise. */
#include "cotls.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <string.h>

static void release_names(void *names)
{
    GENERAL_NAMES_free(names);
}

static void release_access(void *access)
{
    AUTHORITY_INFO_ACCESS_free(access);
}

static void release_purposes(void *purposes)
{
    EXTENDED_KEY_USAGE_free(purposes);
}

static void release_bio(void *bio)
{
    BIO_free(bio);
}

/* The decoded extension in a cell; NULL data: there is none. [-0, +1] */
static void *push_decoded(lua_State *L, const X509 *cert, int nid, void (*release)(void *))
{
    struct cotls_cell *cell = cotls_push_cell(L, release);
    cell->data = X509_get_ext_d2i(cert, nid, NULL, NULL);
    ERR_clear_error();
    return cell->data;
}

/* The one in the cell at index is used up: don't wait for the collector. */
static void done(lua_State *L, int index)
{
    cotls_empty_cell(lua_touserdata(L, index));
}

/* Appends the bytes to the list at index. [-0, +0] */
static void append(lua_State *L, int list, const char *data, int size)
{
    lua_pushlstring(L, data, size > 0 ? (size_t)size : 0);
    lua_rawseti(L, list, (lua_Integer)lua_rawlen(L, list) + 1);
}

static void append_string(lua_State *L, int list, const ASN1_STRING *string)
{
    append(L, list, (const char *)ASN1_STRING_get0_data(string), ASN1_STRING_length(string));
}

/* 4 or 16 bytes; others are no address. */
static void append_address(lua_State *L, int list, const ASN1_STRING *ip)
{
    char text[INET6_ADDRSTRLEN];
    int n = ASN1_STRING_length(ip), family = n == 4 ? AF_INET : n == 16 ? AF_INET6 : -1;
    if (family >= 0 && inet_ntop(family, ASN1_STRING_get0_data(ip), text, sizeof text) != NULL)
        append(L, list, text, (int)strlen(text));
}

/* x:names() → { dns =, ip =, email =, uri = } */
static int x509_names(lua_State *L)
{
    static const struct {
        int type;
        const char *name;
        void (*append)(lua_State *L, int list, const ASN1_STRING *string);
    } kinds[] = {
        {GEN_DNS, "dns", append_string},
        {GEN_IPADD, "ip", append_address},
        {GEN_EMAIL, "email", append_string},
        {GEN_URI, "uri", append_string},
    };
    enum { CELL = 2, RESULT, LIST };
    X509 *cert = cotls_check_x509(L);
    lua_settop(L, 1);
    const GENERAL_NAMES *names = push_decoded(L, cert, NID_subject_alt_name, release_names);
    lua_createtable(L, 0, 4);
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        lua_newtable(L);
        for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
            int type;
            const void *value = GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names, i), &type);
            if (type == kinds[k].type)
                kinds[k].append(L, LIST, value);
        }
        lua_setfield(L, RESULT, kinds[k].name);
    }
    done(L, CELL);
    return 1;
}

static const char *purpose_name(const ASN1_OBJECT *purpose)
{
    static const struct {
        int nid;
        const char *name;
    } purposes[] = {
        {NID_server_auth, "server"},      {NID_client_auth, "client"}, {NID_code_sign, "code"},
        {NID_email_protect, "email"},     {NID_time_stamp, "time"},    {NID_OCSP_sign, "ocsp"},
        {NID_anyExtendedKeyUsage, "any"},
    };
    int nid = OBJ_obj2nid(purpose);
    for (size_t i = 0; i < sizeof purposes / sizeof *purposes; i++)
        if (purposes[i].nid == nid)
            return purposes[i].name;
    return NULL;
}

/* x:purposes() → set of names, or of OIDs where there is no name */
static int x509_purposes(lua_State *L)
{
    enum { CELL = 2, RESULT };
    X509 *cert = cotls_check_x509(L);
    lua_settop(L, 1);
    const EXTENDED_KEY_USAGE *usage = push_decoded(L, cert, NID_ext_key_usage, release_purposes);
    lua_newtable(L);
    for (int i = 0; i < sk_ASN1_OBJECT_num(usage); i++) {
        const ASN1_OBJECT *purpose = sk_ASN1_OBJECT_value(usage, i);
        const char *name = purpose_name(purpose);
        if (name != NULL)
            lua_pushstring(L, name);
        else
            cotls_push_object(L, purpose);
        lua_pushboolean(L, true);
        lua_rawset(L, RESULT);
    }
    if (X509_get_ext_by_NID(cert, NID_ext_key_usage, -1) < 0) {
        lua_pushboolean(L, true);
        lua_setfield(L, RESULT, "any");
    }
    done(L, CELL);
    return 1;
}

/* x:is_ca() → boolean. 1: basic constraints say so, and key usage does not object; the others are guesses. */
static int x509_is_ca(lua_State *L)
{
    lua_pushboolean(L, X509_check_ca(cotls_check_x509(L)) == 1);
    ERR_clear_error();
    return 1;
}

/* The URLs of one access method. [-0, +…] */
static int push_urls(lua_State *L, int method)
{
    enum { CELL = 2, RESULT };
    X509 *cert = cotls_check_x509(L);
    lua_settop(L, 1);
    const AUTHORITY_INFO_ACCESS *access = push_decoded(L, cert, NID_info_access, release_access);
    lua_newtable(L);
    for (int i = 0; i < sk_ACCESS_DESCRIPTION_num(access); i++) {
        const ACCESS_DESCRIPTION *one = sk_ACCESS_DESCRIPTION_value(access, i);
        if (OBJ_obj2nid(one->method) == method && one->location->type == GEN_URI)
            append_string(L, RESULT, one->location->d.uniformResourceIdentifier);
    }
    done(L, CELL);
    return 1;
}

static int x509_ocsp_urls(lua_State *L)
{
    return push_urls(L, NID_ad_OCSP);
}

static int x509_ca_issuer_urls(lua_State *L)
{
    return push_urls(L, NID_ad_ca_issuers);
}

/* OpenSSL's text of it as a field of the table below the cell at the top. [-0, +0] */
static void set_text(lua_State *L, X509_EXTENSION *extension)
{
    struct cotls_cell *cell = lua_touserdata(L, -1);
    char *text;
    BIO *bio = cell->data = BIO_new(BIO_s_mem());
    if (bio == NULL) {
        ERR_clear_error();
        luaL_error(L, "not enough memory");
    }
    if (X509V3_EXT_print(bio, extension, X509V3_EXT_DEFAULT, 0)) {
        long n = BIO_get_mem_data(bio, &text);
        lua_pushlstring(L, text, n > 0 ? (size_t)n : 0);
        lua_setfield(L, -3, "text");
    }
    cotls_empty_cell(cell);
    ERR_clear_error();
}

/* x:extensions() → list of { oid =, name =, critical =, data =, text = } */
static int x509_extensions(lua_State *L)
{
    X509 *cert = cotls_check_x509(L);
    int n = X509_get_ext_count(cert);
    lua_createtable(L, n > 0 ? n : 0, 0);
    for (int i = 0; i < n; i++) {
        X509_EXTENSION *extension = X509_get_ext(cert, i);
        const ASN1_OBJECT *type = X509_EXTENSION_get_object(extension);
        const ASN1_STRING *data = X509_EXTENSION_get_data(extension);
        lua_createtable(L, 0, 5);
        cotls_push_object(L, type);
        lua_setfield(L, -2, "oid");
        if (OBJ_obj2nid(type) != NID_undef) {
            cotls_set_string(L, "name", OBJ_nid2sn(OBJ_obj2nid(type)));
        }
        lua_pushboolean(L, X509_EXTENSION_get_critical(extension));
        lua_setfield(L, -2, "critical");
        lua_pushlstring(L, (const char *)ASN1_STRING_get0_data(data), (size_t)ASN1_STRING_length(data));
        lua_setfield(L, -2, "data");
        cotls_push_cell(L, release_bio);
        set_text(L, extension);
        lua_pop(L, 1);
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

const luaL_Reg cotls_extension_methods[] = {
    {"ca_issuer_urls", x509_ca_issuer_urls},
    {"extensions", x509_extensions},
    {"is_ca", x509_is_ca},
    {"names", x509_names},
    {"ocsp_urls", x509_ocsp_urls},
    {"purposes", x509_purposes},
    {NULL, NULL},
};
