/* SPDX-License-Identifier: MIT
 * The getters that tell of certificates: both sides' own, chains, the stapled
 * OCSP response, and the SCTs. SCTs are packed, each as its source, its length
 * in two bytes and RFC 6962's bytes, so that the record can hold them. */
#include "cotls.h"

#include <openssl/ct.h>
#include <openssl/err.h>

/* ---- chains ---- */

/* Keeps the chain of a peer that is refused: OpenSSL forgets it. Runs inside OpenSSL. */
void cotls_keep_refused(struct cotls_conn *c, X509_STORE_CTX *store)
{
    STACK_OF(X509) *chain = X509_STORE_CTX_get0_untrusted(store);
    if (SSL_get_verify_mode(c->ssl) == SSL_VERIFY_NONE || chain == NULL || sk_X509_num(chain) < 1)
        return;
    sk_X509_pop_free(c->refused, X509_free);
    c->refused = X509_chain_up_ref(chain);
}

static int conn_peer_certificate(lua_State *L)
{
    struct cotls_facts f;
    cotls_facts(cotls_check_conn(L), &f);
    cotls_push_x509(L, f.peer);
    return 1;
}

static int conn_certificate(lua_State *L)
{
    struct cotls_facts f;
    cotls_facts(cotls_check_conn(L), &f);
    cotls_push_x509(L, f.shown ? f.own : NULL);
    return 1;
}

/* Adds the chain from its place `from` on to the list at the top. [-0, +0] */
static void add_chain(lua_State *L, const STACK_OF(X509) * chain, int from)
{
    for (int i = from; i < sk_X509_num(chain); i++) {
        cotls_push_x509(L, sk_X509_value(chain, i));
        lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
    }
}

/* OpenSSL's list begins with the peer's own on clients; on servers, and without a list, that comes first. */
static int conn_peer_chain(lua_State *L)
{
    struct cotls_facts f;
    cotls_facts(cotls_check_conn(L), &f);
    if (f.peer == NULL) {
        lua_pushnil(L);
        return 1;
    }
    lua_newtable(L);
    cotls_push_x509(L, f.peer);
    lua_rawseti(L, -2, 1);
    add_chain(L, f.peer_chain, sk_X509_value(f.peer_chain, 0) == f.peer ? 1 : 0);
    return 1;
}

static int conn_verified_chain(lua_State *L)
{
    struct cotls_facts f;
    cotls_facts(cotls_check_conn(L), &f);
    if (f.verified == NULL) {
        lua_pushnil(L);
        return 1;
    }
    lua_newtable(L);
    add_chain(L, f.verified, 0);
    return 1;
}

static int conn_ocsp_response(lua_State *L)
{
    struct cotls_facts f;
    cotls_facts(cotls_check_conn(L), &f);
    cotls_push_text(L, &f.text[FACT_STAPLE]);
    return 1;
}

/* ---- signed certificate timestamps ---- */

#define SCT_HEADER 3           /* source and length */
#define SCT_FIXED (1 + 32 + 8) /* version, log, timestamp: RFC 6962 section 3.2 */
#define SCT_SIGNATURE (2 + 2)  /* algorithms, length of the signature */
#define SCT_LENGTH_LIMIT 0xffff

/* All SCTs of the peer; without out only the room that they need. */
size_t cotls_pack_scts(SSL *ssl, unsigned char *out)
{
    size_t room = 0;
    ERR_set_mark();
    const STACK_OF(SCT) *list = SSL_get0_peer_scts(ssl);
    for (int i = sk_SCT_num(list) - 1; i >= 0; i--) { /* OpenSSL has turned each list round */
        const SCT *sct = sk_SCT_value(list, i);
        int n = i2o_SCT(sct, NULL);
        if (n <= 0 || n > SCT_LENGTH_LIMIT)
            continue;
        if (out != NULL) {
            unsigned char *at = out + room + SCT_HEADER;
            out[room] = (unsigned char)SCT_get_source(sct);
            out[room + 1] = (unsigned char)(n >> 8);
            out[room + 2] = (unsigned char)n;
            i2o_SCT(sct, &at);
        }
        room += SCT_HEADER + (size_t)n;
    }
    ERR_pop_to_mark();
    return room;
}

static size_t number(const unsigned char *p)
{
    return (size_t)p[0] << 8 | p[1];
}

static void set_bytes(lua_State *L, const char *name, const unsigned char *p, size_t n)
{
    lua_pushlstring(L, (const char *)p, n);
    lua_setfield(L, -2, name);
}

/* The fields of version 1 into the table at the top. [-0, +0] */
static void set_v1(lua_State *L, const unsigned char *p, size_t n)
{
    uint64_t milliseconds = 0;
    if (n < SCT_FIXED + 2 || n < SCT_FIXED + 2 + number(p + SCT_FIXED) + SCT_SIGNATURE)
        return;
    for (int i = 0; i < 8; i++)
        milliseconds = milliseconds << 8 | p[33 + i];
    set_bytes(L, "log_id", p + 1, 32);
    lua_pushnumber(L, (lua_Number)milliseconds / 1000);
    lua_setfield(L, -2, "timestamp");
    size_t signature = SCT_FIXED + 2 + number(p + SCT_FIXED) + SCT_SIGNATURE;
    set_bytes(L, "signature", p + signature, n - signature);
}

static void push_sct(lua_State *L, int source, const unsigned char *p, size_t n)
{
    static const char *const sources[] = {
        [SCT_SOURCE_TLS_EXTENSION] = "extension",
        [SCT_SOURCE_X509V3_EXTENSION] = "certificate",
        [SCT_SOURCE_OCSP_STAPLED_RESPONSE] = "ocsp",
    };
    lua_createtable(L, 0, 5);
    lua_pushinteger(L, p[0] + 1);
    lua_setfield(L, -2, "version");
    if (source > 0 && source < (int)(sizeof sources / sizeof *sources)) {
        cotls_set_string(L, "source", sources[source]);
    }
    if (p[0] == SCT_VERSION_V1)
        set_v1(L, p, n);
}

static void push_scts(lua_State *L, const unsigned char *p, size_t n)
{
    lua_newtable(L);
    for (lua_Integer i = 1; n > SCT_HEADER; i++) {
        size_t length = number(p + 1);
        push_sct(L, p[0], p + SCT_HEADER, length);
        lua_rawseti(L, -2, i);
        p += SCT_HEADER + length;
        n -= SCT_HEADER + length;
    }
}

/* The SCTs of an SSL. [-0, +1] */
static void push_live_scts(lua_State *L, SSL *ssl)
{
    size_t n = cotls_pack_scts(ssl, NULL);
    unsigned char *packed = lua_newuserdatauv(L, n + 1, 0);
    cotls_pack_scts(ssl, packed);
    push_scts(L, packed, n);
}

/* OpenSSL collects them once, so not before all is there. */
static int conn_scts(lua_State *L)
{
    const struct cotls_conn *c = cotls_check_conn(L);
    struct cotls_facts f;
    cotls_facts(c, &f);
    if (f.peer == NULL || (c->ssl != NULL && !c->established))
        lua_pushnil(L);
    else if (c->ssl != NULL)
        push_live_scts(L, c->ssl);
    else
        push_scts(L, (const unsigned char *)f.text[FACT_SCTS].data, f.text[FACT_SCTS].len);
    return 1;
}

const luaL_Reg cotls_certificates_methods[] = {
    {"certificate", conn_certificate},
    {"ocsp_response", conn_ocsp_response},
    {"peer_certificate", conn_peer_certificate},
    {"peer_chain", conn_peer_chain},
    {"scts", conn_scts},
    {"verified_chain", conn_verified_chain},
    {NULL, NULL},
};
