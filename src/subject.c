/* SPDX-License-Identifier: MIT
 * Distinguished names: from RFC 2253 text, and to text and a table. A value that
 * is no text, or not validly encoded, is shown as RFC 2253 section 2.4 has it:
 * "#" and the DER in hexadecimal. */
#include "cotls.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define MAX_VALUE 1024 /* of one attribute */

/* ---- from text ---- */

struct text {
    const char *at, *end;
    const char *reason; /* of a failure; NULL: OpenSSL's */
    X509_NAME *name;
};

static int refuse(struct text *s, const char *reason)
{
    s->reason = reason;
    return -1;
}

static void skip_spaces(struct text *s)
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
static ASN1_OBJECT *take_type(struct text *s)
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
        refuse(s, n > 0 ? "not RFC 2253 text: unknown attribute type"
                        : "not RFC 2253 text: TYPE=value expected, as in \"CN=localhost,O=Example\"");
    return type;
}

/* Takes what follows a backslash: two hexadecimal digits or a special character; -1: neither. */
static int take_escaped(struct text *s)
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
static int take_value(struct text *s, unsigned char *value)
{
    int n = 0, kept = 0;
    skip_spaces(s);
    if (s->at < s->end && *s->at == '#')
        return refuse(s, "a value in hexadecimal (#) is not supported; for the character write \\#");
    while (s->at < s->end && *s->at != ',' && *s->at != '+') {
        bool escaped = *s->at == '\\';
        int c = (unsigned char)*s->at++;
        if (escaped)
            c = take_escaped(s);
        if (c < 0 || (!escaped && c != '\0' && strchr("\"<>;", c) != NULL))
            return refuse(s, "not RFC 2253 text: a bad escape, or one of \" < > ; without a backslash");
        if (n == MAX_VALUE)
            return refuse(s, "a value is too long");
        value[n++] = (unsigned char)c;
        if (escaped || c != ' ')
            kept = n;
    }
    return kept;
}

/* The text names the most specific first, a certificate the other way round: each
 * RDN is put before the ones that came earlier. `set` 1 joins the RDN before it. */
static bool take_attribute(struct text *s, int set)
{
    unsigned char value[MAX_VALUE];
    ASN1_OBJECT *type = take_type(s);
    int n = type != NULL ? take_value(s, value) : -1;
    bool ok = n >= 0 && X509_NAME_add_entry_by_OBJ(s->name, type, MBSTRING_UTF8, value, n, 0, set);
    ASN1_OBJECT_free(type);
    return ok;
}

/* Adds the attributes that the text names. false: *reason says why, or for NULL OpenSSL's queue. */
bool cotls_name_parse(X509_NAME *name, const char *text, size_t n, const char **reason)
{
    struct text s = {text, text + n, NULL, name};
    bool more = n > 0;
    int set = 0;
    while (more) {
        if (!take_attribute(&s, set)) {
            *reason = s.reason;
            return false;
        }
        more = s.at < s.end;
        set = more && *s.at == '+';
        s.at += more;
    }
    return true;
}

/* ---- to text ---- */

void cotls_push_object(lua_State *L, const ASN1_OBJECT *type)
{
    char text[80];
    int n = OBJ_obj2txt(text, sizeof text, type, 1);
    if (n < (int)sizeof text) {
        lua_pushstring(L, n > 0 ? text : "?");
        return;
    }
    char *longer = lua_newuserdatauv(L, (size_t)n + 1, 0);
    OBJ_obj2txt(longer, n + 1, type, 1);
    lua_pushstring(L, longer);
    lua_remove(L, -2);
}

static void release_text(void *text)
{
    OPENSSL_free(text);
}

/* UTF-8 of any kind of string. [-0, +1], or [-0, +0] and false: it isn't text, or not validly encoded. */
static bool push_utf8(lua_State *L, const ASN1_STRING *string)
{
    struct cotls_cell *cell = cotls_push_cell(L, release_text);
    unsigned char *text = NULL;
    int n = ASN1_STRING_to_UTF8(&text, string);
    cell->data = text;
    if (n >= 0) {
        lua_pushlstring(L, (const char *)text, (size_t)n);
        cotls_empty_cell(cell);
        lua_remove(L, -2);
        return true;
    }
    bool memory = ERR_GET_REASON(ERR_peek_last_error()) == ERR_R_MALLOC_FAILURE;
    ERR_clear_error();
    lua_pop(L, 1);
    if (memory)
        luaL_error(L, "not enough memory");
    return false;
}

/* The value's DER. [-0, +1] */
static void push_value_der(lua_State *L, ASN1_STRING *string)
{
    ASN1_TYPE value = {.type = string->type, .value.asn1_string = string};
    int n = i2d_ASN1_TYPE(&value, NULL);
    unsigned char *der = lua_newuserdatauv(L, n > 0 ? (size_t)n : 1, 0), *end = der;
    n = i2d_ASN1_TYPE(&value, &end);
    lua_pushlstring(L, (const char *)der, n > 0 ? (size_t)n : 0);
    lua_remove(L, -2);
}

/* The bytes at index in hexadecimal, with a "#" in front. [-0, +1] */
static void push_hex(lua_State *L, int index)
{
    static const char digits[] = "0123456789ABCDEF";
    size_t n;
    const unsigned char *data = (const unsigned char *)lua_tolstring(L, index, &n);
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    luaL_addchar(&b, '#');
    for (size_t i = 0; i < n; i++) {
        luaL_addchar(&b, digits[data[i] >> 4]);
        luaL_addchar(&b, digits[data[i] & 15]);
    }
    luaL_pushresult(&b);
}

/* The UTF-8 at index, escaped as OpenSSL does. [-0, +1] */
static void push_escaped(lua_State *L, int index)
{
    size_t n;
    const char *text = lua_tolstring(L, index, &n);
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        char hex[4];
        bool edge = (i == 0 && (c == '#' || c == ' ')) || (i == n - 1 && c == ' ');
        if (c < 0x20 || c == 0x7F) {
            snprintf(hex, sizeof hex, "\\%02X", c);
            luaL_addstring(&b, hex);
            continue;
        }
        if (edge || strchr(",+\"\\<>;", c) != NULL)
            luaL_addchar(&b, '\\');
        luaL_addchar(&b, (char)c);
    }
    luaL_pushresult(&b);
}

/* { type =, oid =, rdn =, value = } of an attribute, or der instead of the value; and its text "TYPE=value". [-0, +2] */
static void push_attribute(lua_State *L, const X509_NAME_ENTRY *entry)
{
    const ASN1_OBJECT *type = X509_NAME_ENTRY_get_object(entry);
    ASN1_STRING *string = X509_NAME_ENTRY_get_data(entry);
    int nid = OBJ_obj2nid(type), table = lua_gettop(L) + 1;
    lua_createtable(L, 0, 4);
    lua_pushinteger(L, X509_NAME_ENTRY_set(entry) + 1);
    lua_setfield(L, table, "rdn");
    cotls_push_object(L, type);
    if (nid != NID_undef)
        lua_pushstring(L, OBJ_nid2sn(nid));
    else
        lua_pushvalue(L, -1);
    lua_pushvalue(L, -1);
    lua_setfield(L, table, "type");
    lua_insert(L, -2);
    lua_setfield(L, table, "oid");
    lua_pushliteral(L, "=");
    bool is_text = push_utf8(L, string);
    if (!is_text)
        push_value_der(L, string);
    lua_pushvalue(L, -1);
    lua_setfield(L, table, is_text ? "value" : "der");
    if (is_text && nid != NID_undef)
        push_escaped(L, -1);
    else {
        push_value_der(L, string);
        push_hex(L, -1);
        lua_remove(L, -2);
    }
    lua_remove(L, -2);
    lua_concat(L, 3);
}

/* The attribute on top also goes into the table by its type: its value, or a list of values. [-0, +0] */
static void add_by_type(lua_State *L, int table)
{
    int attribute = lua_gettop(L);
    lua_getfield(L, attribute, "type");
    if (lua_getfield(L, attribute, "value") != LUA_TNIL) {
        lua_pushvalue(L, -2);
        int before = lua_rawget(L, table);
        if (before == LUA_TSTRING) {
            lua_createtable(L, 2, 0);
            lua_insert(L, -2);
            lua_rawseti(L, -2, 1);
            lua_pushvalue(L, attribute + 1);
            lua_pushvalue(L, -2);
            lua_rawset(L, table);
        }
        if (before != LUA_TNIL) {
            lua_pushvalue(L, attribute + 2);
            lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
        } else {
            lua_pushvalue(L, attribute + 1);
            lua_pushvalue(L, attribute + 2);
            lua_rawset(L, table);
        }
    }
    lua_settop(L, attribute);
}

/* The texts in the list on top, the last first, as RFC 2253 has it. [-1, +1] */
static void join(lua_State *L, const X509_NAME *name)
{
    int list = lua_gettop(L);
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    for (int i = X509_NAME_entry_count(name) - 1, set = -1; i >= 0; i--) {
        int own = X509_NAME_ENTRY_set(X509_NAME_get_entry(name, i));
        if (set >= 0)
            luaL_addchar(&b, own == set ? '+' : ',');
        set = own;
        lua_rawgeti(L, list, i + 1);
        luaL_addvalue(&b);
    }
    luaL_pushresult(&b);
    lua_remove(L, list);
}

void cotls_push_name(lua_State *L, const X509_NAME *name)
{
    int n = X509_NAME_entry_count(name), table = lua_gettop(L) + 1;
    luaL_checkstack(L, 20, NULL);
    lua_createtable(L, n, n);
    lua_createtable(L, n, 0);
    for (int i = 0; i < n; i++) {
        push_attribute(L, X509_NAME_get_entry(name, i));
        lua_rawseti(L, table + 1, i + 1);
        add_by_type(L, table);
        lua_rawseti(L, table, i + 1);
    }
    join(L, name);
    lua_insert(L, table);
}
