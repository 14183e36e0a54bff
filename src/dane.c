/* SPDX-License-Identifier: MIT
 * DANE (RFC 6698, RFC 7671): TLSA records in the place of, or beside, trusted
 * CAs. The face gives the records as one string, each as usage, selector,
 * matching type, four bytes of length, data; the connection's options keep it.
 * OpenSSL matches them; names are ours (verify.c), as without DANE. */
#include "cotls.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <string.h>

#define RECORD_HEAD 7

struct record {
    const unsigned char *at; /* in c->dane */
    uint8_t usage, selector, matching_type;
    const unsigned char *data;
    size_t size;
};

/* The record at that place. */
static struct record read_record(const unsigned char *at)
{
    struct record r = {at, at[0], at[1], at[2], at + RECORD_HEAD, 0};
    r.size = (size_t)at[3] << 24 | (size_t)at[4] << 16 | (size_t)at[5] << 8 | at[6];
    return r;
}

/* What follows that record, the first one after NULL; false: none. */
static bool next_record(const struct cotls_conn *c, struct record *r)
{
    const unsigned char *at = r->at == NULL ? c->dane : r->data + r->size;
    if (c->dane == NULL || at >= c->dane + c->dane_len)
        return false;
    *r = read_record(at);
    return true;
}

/* SSL_dane_enable sets a name to ask for and a name to check: what is asked for is the user's to say, and
 * checked are c->names, by us. false: no memory. */
static bool enable(struct cotls_conn *c, bool asks)
{
    if (SSL_CTX_dane_enable(c->ctx->ssl_ctx) <= 0 || SSL_dane_enable(c->ssl, c->names) <= 0)
        return false;
    if (!asks)
        SSL_set_tlsext_host_name(c->ssl, NULL);
    return X509_VERIFY_PARAM_set1_host(SSL_get0_param(c->ssl), NULL, 0) == 1;
}

/* Those that OpenSSL does not know, or that are malformed, are skipped (RFC 7671 section 4.1): how many are left? */
static int add_records(struct cotls_conn *c)
{
    int usable = 0;
    for (struct record r = {0}; next_record(c, &r);)
        usable += SSL_dane_tlsa_add(c->ssl, r.usage, r.selector, r.matching_type, r.data, r.size) > 0;
    return usable;
}

/* Do the options of the connection on top ask for a name (SNI)? [-0, +0] */
static bool asks_name(lua_State *L)
{
    lua_getiuservalue(L, -1, UV_OPTIONS);
    bool asks = lua_getfield(L, -1, "server_name") != LUA_TNIL;
    lua_pop(L, 2);
    return asks;
}

/* The records of the connection on top take effect. false: the reason is pushed. Without a usable record OpenSSL would verify
 * as if there were no DANE. */
bool cotls_dane_start(lua_State *L, struct cotls_conn *c)
{
    if (c->dane == NULL)
        return true;
    if (!c->ctx->verifies)
        return cotls_refuse(L, "nothing is verified: the context is insecure");
    if (c->names_len == 0)
        return cotls_refuse(L, "needs server_name or verify_name: whose records they are");
    bool asks = asks_name(L);
    cotls_clear_errors();
    if (!enable(c, asks))
        return cotls_refuse(L, "OpenSSL can't use it");
    if (add_records(c) == 0) {
        cotls_push_queue_reason(L);
        lua_pushfstring(L, "none of the records can be used: %s", lua_tostring(L, -1));
        return false;
    }
    cotls_clear_errors();
    return true;
}

/* OpenSSL has found the chain good: which record did it? Runs inside OpenSSL. */
void cotls_dane_matched(struct cotls_conn *c)
{
    uint8_t usage, selector, matching_type;
    const unsigned char *data;
    size_t size;
    if (c->dane == NULL)
        return;
    c->dane_depth = SSL_get0_dane_tlsa(c->ssl, &usage, &selector, &matching_type, &data, &size);
    if (c->dane_depth < 0)
        return;
    for (struct record r = {0}; next_record(c, &r);)
        if (r.usage == usage && r.selector == selector && r.matching_type == matching_type &&
            r.size == size && memcmp(r.data, data, size) == 0)
            c->dane_match = r.at;
}

/* DANE-EE(3) binds the key to the name by DNS: names and dates of the certificate don't count, RFC 7671 section 5.1. */
bool cotls_dane_binds_name(const struct cotls_conn *c)
{
    return c->dane_match != NULL && read_record(c->dane_match).usage == 3;
}

static void set_number(lua_State *L, const char *key, lua_Integer value)
{
    lua_pushinteger(L, value);
    lua_setfield(L, -2, key);
}

static int conn_dane_result(lua_State *L)
{
    const struct cotls_conn *c = cotls_check_conn(L);
    lua_pushnil(L);
    if (c->dane_match == NULL)
        return 1;
    struct record r = read_record(c->dane_match);
    lua_createtable(L, 0, 5);
    set_number(L, "usage", r.usage);
    set_number(L, "selector", r.selector);
    set_number(L, "matching_type", r.matching_type);
    set_number(L, "depth", c->dane_depth);
    lua_pushlstring(L, (const char *)r.data, r.size);
    lua_setfield(L, -2, "data");
    return 1;
}

const luaL_Reg cotls_dane_methods[] = {
    {"dane_result", conn_dane_result},
    {NULL, NULL},
};
