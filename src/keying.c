/* SPDX-License-Identifier: MIT
 * What the keys of a connection are good for besides records: exported keying
 * material, channel bindings, and what they are made of, Finished messages and
 * randoms. Exporting needs the SSL; the rest is told after closing too. */
#include "cotls.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <string.h>

#define EXPORT_MAX 8160 /* 255 blocks of SHA-256: the most of HKDF, RFC 5869 section 2.3 */
#define BINDING_LABEL "EXPORTER-Channel-Binding"
#define BINDING_LENGTH 32
#define NOT_BOUND "the keys are not bound to this handshake: no extended master secret (RFC 7627 section 5.4)"

/* nil for none, and before there is one: all zero. */
static int push_random(lua_State *L, const unsigned char *random)
{
    static const unsigned char none[SSL3_RANDOM_SIZE];
    if (memcmp(random, none, sizeof none) == 0)
        lua_pushnil(L);
    else
        lua_pushlstring(L, (const char *)random, sizeof none);
    return 1;
}

static int conn_client_random(lua_State *L)
{
    struct cotls_facts f;
    cotls_facts(cotls_check_conn(L), &f);
    return push_random(L, f.client_random);
}

static int conn_server_random(lua_State *L)
{
    struct cotls_facts f;
    cotls_facts(cotls_check_conn(L), &f);
    return push_random(L, f.server_random);
}

static int push_finished(lua_State *L, const unsigned char *bytes, size_t n)
{
    cotls_push_text(L, &(struct cotls_text){(const char *)bytes, n});
    return 1;
}

static int conn_finished(lua_State *L)
{
    struct cotls_facts f;
    cotls_facts(cotls_check_conn(L), &f);
    return push_finished(L, f.finished, f.finished_len);
}

static int conn_peer_finished(lua_State *L)
{
    struct cotls_facts f;
    cotls_facts(cotls_check_conn(L), &f);
    return push_finished(L, f.peer_finished, f.peer_finished_len);
}

/* ---- exported keying material ---- */

struct export
{
    const char *label, *context; /* context NULL: none, which TLS 1.2 tells from an empty one */
    size_t label_len, context_len, len;
};

/* NULL, or why there is nothing to tell now. TLS 1.3's later messages change nothing here. */
static const char *not_yet(const struct cotls_conn *c, const struct cotls_facts *f)
{
    if (!c->established)
        return "the handshake is not done";
    if (c->ssl != NULL && !f->is_13 && SSL_in_init(c->ssl))
        return "a new handshake is under way";
    return NULL;
}

static bool is_bound(const struct cotls_facts *f)
{
    return f->is_13 || f->extms;
}

/* SSL_export_keying_material(3), RFC 5705 and RFC 8446 section 7.5. [-0, +1 or 2] */
static int export(lua_State *L, const struct cotls_conn *c, const char *operation, const struct export *e)
{
    unsigned char *out = lua_newuserdatauv(L, e->len, 0);
    cotls_clear_errors();
    if (SSL_export_keying_material(c->ssl, out, e->len, e->label, e->label_len,
                                   (const unsigned char *)e->context, e->context_len,
                                   e->context != NULL) == 1) {
        lua_pushlstring(L, (const char *)out, e->len);
        OPENSSL_cleanse(out, e->len);
        return 1;
    }
    cotls_push_queue_reason(L);
    return cotls_fail(L, "tls", operation, lua_tostring(L, -1));
}

/* conn:export_keying_material(label, length, context or nil) → bytes, or nil, err */
static int conn_export_keying_material(lua_State *L)
{
    static const char operation[] = "export_keying_material";
    const struct cotls_conn *c = cotls_check_conn(L);
    struct cotls_facts f;
    struct export e = {0};
    e.label = luaL_checklstring(L, 2, &e.label_len);
    lua_Integer length = luaL_checkinteger(L, 3);
    luaL_argcheck(L, length > 0 && length <= EXPORT_MAX, 3, "must be from 1 to 8160");
    e.len = (size_t)length;
    e.context = luaL_optlstring(L, 4, NULL, &e.context_len);
    luaL_argcheck(L, e.context_len <= 0xffff, 4, "has at most 65535 bytes");
    if (c->ssl == NULL)
        return cotls_fail(L, "closed", operation, "the connection is closed");
    cotls_facts(c, &f);
    const char *reason = not_yet(c, &f);
    if (reason == NULL && !is_bound(&f))
        reason = NOT_BOUND;
    return reason != NULL ? cotls_fail(L, "tls", operation, reason) : export(L, c, operation, &e);
}

/* ---- channel bindings ---- */

static const char binding_operation[] = "channel_binding";

/* RFC 9266: not where the keys may change hands in a renegotiation (section 3). */
static int bind_exporter(lua_State *L, const struct cotls_conn *c, const struct cotls_facts *f)
{
    static const struct export e = {BINDING_LABEL, "", sizeof BINDING_LABEL - 1, 0, BINDING_LENGTH};
    if (c->ssl == NULL)
        return cotls_fail(L, "closed", binding_operation, "the connection is closed");
    if (!is_bound(f))
        return cotls_fail(L, "tls", binding_operation, NOT_BOUND);
    if (!f->is_13 && (SSL_get_options(c->ssl) & SSL_OP_NO_RENEGOTIATION) == 0)
        return cotls_fail(L, "tls", binding_operation,
                          "tls-exporter is not defined where renegotiation is allowed");
    return export(L, c, binding_operation, &e);
}

/* RFC 5929 section 3.1: the first Finished of the latest handshake, which a resumed one has from the server
 * and which, resumed, is worth nothing without RFC 7627. */
static int bind_unique(lua_State *L, const struct cotls_conn *c, const struct cotls_facts *f)
{
    if (f->is_13)
        return cotls_fail(L, "tls", binding_operation, "tls-unique is not defined for TLS 1.3");
    if (f->resumed && !is_bound(f))
        return cotls_fail(L, "tls", binding_operation, NOT_BOUND);
    if (c->ctx->server == f->resumed)
        return push_finished(L, f->finished, f->finished_len);
    return push_finished(L, f->peer_finished, f->peer_finished_len);
}

/* The hash of the certificate's own signature, but SHA-256 for MD5 and SHA-1; NULL: it has none, as Ed25519. */
static const EVP_MD *end_point_digest(X509 *cert)
{
    int digest;
    if (!X509_get_signature_info(cert, &digest, NULL, NULL, NULL))
        return NULL;
    if (digest == NID_md5 || digest == NID_sha1)
        digest = NID_sha256;
    return EVP_get_digestbynid(digest);
}

/* RFC 5929 section 4.1 */
static int bind_end_point(lua_State *L, const struct cotls_conn *c, const struct cotls_facts *f)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int n;
    X509 *cert = c->ctx->server ? f->own : f->peer;
    if (cert == NULL)
        return cotls_fail(L, "tls", binding_operation,
                          c->ctx->server && f->resumed
                              ? "a resumed session does not tell which certificate it was made with"
                              : "the server has shown no certificate");
    cotls_clear_errors();
    const EVP_MD *md = end_point_digest(cert);
    bool ok = md != NULL && X509_digest(cert, md, digest, &n);
    ERR_clear_error();
    if (!ok)
        return cotls_fail(
            L, "tls", binding_operation,
            "tls-server-end-point is not defined for a certificate whose signature has no hash");
    lua_pushlstring(L, (const char *)digest, n);
    return 1;
}

/* conn:channel_binding(kind) → bytes, or nil, err */
static int conn_channel_binding(lua_State *L)
{
    static const char *const kinds[] = {"tls-exporter", "tls-unique", "tls-server-end-point", NULL};
    static int (*const binders[])(lua_State *, const struct cotls_conn *,
                                  const struct cotls_facts *) = {bind_exporter, bind_unique, bind_end_point};
    const struct cotls_conn *c = cotls_check_conn(L);
    int kind = luaL_checkoption(L, 2, NULL, kinds);
    struct cotls_facts f;
    cotls_facts(c, &f);
    const char *reason = not_yet(c, &f);
    return reason != NULL ? cotls_fail(L, "tls", binding_operation, reason) : binders[kind](L, c, &f);
}

const luaL_Reg cotls_keying_methods[] = {
    {"channel_binding", conn_channel_binding},
    {"client_random", conn_client_random},
    {"export_keying_material", conn_export_keying_material},
    {"finished", conn_finished},
    {"peer_finished", conn_peer_finished},
    {"server_random", conn_server_random},
    {NULL, NULL},
};
