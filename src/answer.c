/* SPDX-License-Identifier: MIT
 * The Lua side of hooks: which function is due, what it is given, and what its
 * results come to. The driver calls it on the caller's coroutine, where it may
 * yield; OpenSSL is suspended meanwhile and not on the stack. Whatever is not a
 * good answer is a refusal, and why goes into the connection's UV_CAUSE. */
#include "cotls.h"

#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>

/* ---- the function ---- */

/* The userdata of the context in force: the connection's own, or what a hook or the server name chose. [-0, +1] */
static void push_active(lua_State *L, const struct cotls_conn *c)
{
    lua_getiuservalue(L, 1, UV_CONTEXT);
    if (c->active == c->ctx)
        return;
    lua_getiuservalue(L, 1, UV_ACTIVE);
    if (lua_touserdata(L, -1) != c->active) {
        lua_pop(L, 1);
        cotls_names_push(L, c->active);
        lua_pushvalue(L, -1);
        lua_setiuservalue(L, 1, UV_ACTIVE);
    }
    lua_remove(L, -2);
}

/* [-0, +1] the function of that hook */
static void push_function(lua_State *L, const struct cotls_conn *c, enum cotls_hook hook)
{
    if (cotls_hook_context(c, hook) == c->ctx)
        lua_getiuservalue(L, 1, UV_CONTEXT);
    else
        push_active(L, c);
    lua_getiuservalue(L, -1, UV_CTX_HOOKS);
    lua_geti(L, -1, (lua_Integer)hook + 1);
    lua_replace(L, -3);
    lua_pop(L, 1);
}

/* ---- arguments: [-0, +n] returns n ---- */

static int push_nothing(lua_State *L, struct cotls_conn *c, const struct cotls_answer *w)
{
    (void)L;
    (void)c;
    (void)w;
    return 0;
}

static int push_question(lua_State *L, struct cotls_conn *c, const struct cotls_answer *w)
{
    (void)c;
    if (w->question_len > 0)
        lua_pushlstring(L, (const char *)w->question, w->question_len);
    else
        lua_pushnil(L);
    return 1;
}

static int push_hello(lua_State *L, struct cotls_conn *c, const struct cotls_answer *w)
{
    (void)w;
    cotls_push_hello(L, c);
    return 1;
}

/* The names of a list in wire format, RFC 7301 section 3.1. */
static int push_protocols(lua_State *L, struct cotls_conn *c, const struct cotls_answer *w)
{
    lua_Integer count = 0;
    (void)c;
    lua_newtable(L);
    for (size_t at = 0; at < w->question_len && at + 1U + w->question[at] <= w->question_len;
         at += 1U + w->question[at]) {
        lua_pushlstring(L, (const char *)w->question + at + 1, w->question[at]);
        lua_rawseti(L, -2, ++count);
    }
    return 1;
}

/* The id, and whether the store must forget what it gives: early data is accepted once. */
static int push_session_id(lua_State *L, struct cotls_conn *c, const struct cotls_answer *w)
{
    push_question(L, c, w);
    bool is_13 = !c->asks->is_12 && SSL_version(c->ssl) >= TLS1_3_VERSION;
    lua_pushboolean(L, is_13 && SSL_get_max_early_data(c->ssl) > 0);
    return 2;
}

/* OpenSSL's verdict and { chain, code, text, depth, name }. */
static int push_report(lua_State *L, struct cotls_conn *c, const struct cotls_answer *w)
{
    const struct cotls_asks *a = c->asks;
    (void)w;
    lua_pushboolean(L, a->verify_ok);
    lua_createtable(L, 0, 5);
    lua_createtable(L, sk_X509_num(a->chain), 0);
    for (int i = 0; i < sk_X509_num(a->chain); i++) {
        cotls_push_x509(L, sk_X509_value(a->chain, i));
        lua_rawseti(L, -2, i + 1);
    }
    lua_setfield(L, -2, "chain");
    lua_pushinteger(L, a->verify_code);
    lua_setfield(L, -2, "code");
    lua_pushstring(L,
                   a->verify_text != NULL ? a->verify_text : X509_verify_cert_error_string(a->verify_code));
    lua_setfield(L, -2, "text");
    lua_pushinteger(L, a->verify_depth);
    lua_setfield(L, -2, "depth");
    cotls_set_string(L, "name", c->names_len > 0 ? c->names : NULL);
    return 2;
}

/* { scheme, digest, message, hashed }: filed by remote_key.c as two texts with their lengths, then the message. */
static int push_signing(lua_State *L, struct cotls_conn *c, const struct cotls_answer *w)
{
    (void)c;
    cotls_push_signing(L, w->question, w->question_len);
    return 1;
}

/* ---- results: the first at index base + 1; false: refused, with what was expected ---- */

static bool keep(struct cotls_answer *w, const void *data, size_t n)
{
    w->data = malloc(n > 0 ? n : 1);
    if (w->data == NULL)
        return false;
    memcpy(w->data, data, n);
    w->len = n;
    return true;
}

static const char *take_true(lua_State *L, struct cotls_answer *w, int first)
{
    (void)w;
    return lua_isboolean(L, first) && lua_toboolean(L, first) ? NULL : "true";
}

/* A refusal may say by which alert. */
static const char *take_hello(lua_State *L, struct cotls_answer *w, int first)
{
    if (!lua_toboolean(L, first) && lua_type(L, first + 1) == LUA_TSTRING)
        w->alert = cotls_alert_number(lua_tostring(L, first + 1));
    return take_true(L, w, first);
}

/* nil: unknown */
static const char *take_bytes(lua_State *L, struct cotls_answer *w, int first, size_t least, size_t most,
                              const char *expected)
{
    size_t n;
    if (lua_isnil(L, first))
        return NULL;
    const char *text = lua_type(L, first) == LUA_TSTRING ? lua_tolstring(L, first, &n) : NULL;
    return text != NULL && n >= least && n <= most && keep(w, text, n) ? NULL : expected;
}

static const char *take_protocol(lua_State *L, struct cotls_answer *w, int first)
{
    static const char expected[] = "one of the offered names";
    size_t n;
    const char *text = lua_type(L, first) == LUA_TSTRING ? lua_tolstring(L, first, &n) : NULL;
    for (size_t at = 0; text != NULL && at < w->question_len; at += 1U + w->question[at])
        if (w->question[at] == n && memcmp(w->question + at + 1, text, n) == 0)
            return keep(w, text, n) ? NULL : expected;
    return expected;
}

static const char *take_session(lua_State *L, struct cotls_answer *w, int first)
{
    if (cotls_session_text(L, first)) /* an object becomes what it exports */
        lua_replace(L, first);
    return take_bytes(L, w, first, 1, SIZE_MAX, "a session, what it exports, or nil");
}

static const char *take_key(lua_State *L, struct cotls_answer *w, int first)
{
    return take_bytes(L, w, first, 80, 80, "a string of 80 bytes, or nil");
}

static const char *take_staple(lua_State *L, struct cotls_answer *w, int first)
{
    static const char expected[] = "an OCSP response in DER, or nil";
    struct cotls_file file = {NULL, lua_tostring(L, first), lua_rawlen(L, first)};
    if (lua_type(L, first) == LUA_TSTRING && !cotls_is_der(&file))
        return expected;
    return take_bytes(L, w, first, 1, 65535, expected);
}

/* Is it a string of so many bytes? */
static bool is_long(lua_State *L, int index, size_t most)
{
    return lua_type(L, index) == LUA_TSTRING && lua_rawlen(L, index) >= 1 && lua_rawlen(L, index) <= most;
}

/* A client's identity and key, which are kept one behind the other; nil: none. */
static const char *take_identity(lua_State *L, const struct cotls_conn *c, struct cotls_answer *w, int first)
{
    if (lua_isnil(L, first))
        return NULL;
    if (!is_long(L, first, PSK_MAX_IDENTITY_LEN - 1))
        return "an identity of 1 to 255 bytes, or nil,";
    if (!is_long(L, first + 1, PSK_MAX_PSK_LEN))
        return "a key of 1 to 512 bytes behind the identity";
    w->identity_len = lua_rawlen(L, first);
    if (SSL_get_min_proto_version(c->ssl) < TLS1_3_VERSION &&
        memchr(lua_tostring(L, first), '\0', w->identity_len) != NULL)
        return "an identity without a NUL (min_version = \"1.3\" takes it)";
    lua_concat(L, 2);
    return keep(w, lua_tostring(L, first), lua_rawlen(L, first)) ? NULL : "memory";
}

static const char *take_psk(lua_State *L, struct cotls_answer *w, int first)
{
    const struct cotls_conn *c = lua_touserdata(L, 1);
    if (!c->ctx->server)
        return take_identity(L, c, w, first);
    return take_bytes(L, w, first, 1, PSK_MAX_PSK_LEN, "a key of 1 to 512 bytes, or nil");
}

static const char *take_signature(lua_State *L, struct cotls_answer *w, int first)
{
    return lua_isnil(L, first) ? "a signature" : take_bytes(L, w, first, 1, 65535, "a signature");
}

static const struct {
    const char *name;
    int (*push)(lua_State *L, struct cotls_conn *c, const struct cotls_answer *w);
    const char *(*take)(lua_State *L, struct cotls_answer *w, int first);
} hooks[HOOK_COUNT] = {
    [HOOK_CLIENT_HELLO] = {"on_client_hello", push_hello, take_hello},
    [HOOK_CERTIFICATE] = {"on_certificate", push_nothing, take_true},
    [HOOK_SERVER_NAME] = {"on_server_name", push_question, take_true},
    [HOOK_VERIFY] = {"on_verify", push_report, take_true},
    [HOOK_ALPN] = {"on_alpn", push_protocols, take_protocol},
    [HOOK_SESSION_GET] = {"on_session_get", push_session_id, take_session},
    [HOOK_TICKET_KEY] = {"on_ticket_key", push_question, take_key},
    [HOOK_OCSP] = {"on_ocsp", push_nothing, take_staple},
    [HOOK_PSK] = {"on_psk", push_question, take_psk},
    [HOOK_SIGN] = {"sign", push_signing, take_signature},
    [HOOK_SESSION_NEW] = {"on_session_new", NULL, NULL},
    [HOOK_SESSION_REMOVE] = {"on_session_remove", NULL, NULL},
    [HOOK_KEYLOG] = {"on_keylog", NULL, NULL},
    [HOOK_TRACE] = {"on_trace", NULL, NULL},
};

/* ---- what is told ---- */

/* The arguments behind the connection; a removed session is its context's affair. [-0, +n] returns n */
static int push_event(lua_State *L, struct cotls_conn *c, const struct cotls_event *e)
{
    switch (e->hook) {
    case HOOK_SESSION_NEW:
        cotls_session_push(L, e->session);
        return 1;
    case HOOK_SESSION_REMOVE:
        lua_getiuservalue(L, 1, UV_CONTEXT);
        lua_replace(L, -2);
        lua_pushlstring(L, (const char *)e->text, e->len);
        return 1;
    case HOOK_TRACE:
        cotls_push_trace(L, c, e);
        return 1;
    default:
        lua_pushlstring(L, (const char *)e->text, e->len);
        return 1;
    }
}

/* ---- what the driver calls ---- */

/* Pushes handler, function and arguments of what is due; the number of arguments, or -1: nothing is due. */
int cotls_hook_push(lua_State *L, struct cotls_conn *c, struct cotls_slot *s)
{
    struct cotls_asks *a = c->asks;
    cotls_removed_tell(c);
    a->telling = a->first != NULL;
    if (!a->telling && !cotls_is_asked(c)) /* nobody is, once a hook has refused */
        return -1;
    a->at = s;
    luaL_checkstack(L, 16, "hooks");
    enum cotls_hook hook = a->telling ? a->first->hook : a->pending->hook;
    lua_pushcfunction(L, cotls_explain);
    push_function(L, c, hook);
    lua_pushvalue(L, 1);
    return 1 + (a->telling ? push_event(L, c, a->first) : hooks[hook].push(L, c, a->pending));
}

/* What a failed function says, as text. [-0, +1] */
static void push_failure(lua_State *L, const char *name, int explanation)
{
    if (lua_istable(L, explanation))
        lua_getfield(L, explanation, "error");
    else
        lua_pushvalue(L, explanation); /* no memory for a handler */
    if (cotls_is_error(L, -1)) {
        lua_getfield(L, -1, "reason");
        lua_replace(L, -2);
    }
    lua_pushfstring(L, "%s failed: %s", name,
                    lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : luaL_typename(L, -1));
    lua_replace(L, -2);
}

/* The fields of the error to come. `expected` NULL: the function failed, else it gave something else. [-0, +0] */
static void refuse(lua_State *L, struct cotls_conn *c, const char *name, const char *expected, int first)
{
    if (c->asks->refused) /* the first one counts */
        return;
    lua_createtable(L, 0, 2);
    int fields = lua_gettop(L);
    if (expected == NULL) {
        push_failure(L, name, first);
        lua_pushvalue(L, first);
        lua_setfield(L, fields, "cause");
    } else if (!lua_toboolean(L, first)) {
        lua_pushfstring(L, "%s refuses", name);
    } else {
        lua_pushfstring(L, "%s gave a %s, where %s is expected", name, luaL_typename(L, first), expected);
    }
    lua_setfield(L, fields, "reason");
    lua_setiuservalue(L, 1, UV_CAUSE);
    c->asks->refused = true;
}

/* The function has returned, or failed: its results, or the explanation, are above base and the handler.
 * They are popped. */
void cotls_hook_take(lua_State *L, struct cotls_conn *c, int base, bool failed)
{
    struct cotls_asks *a = c->asks;
    int first = base + 2;
    if (c->ssl == NULL) { /* closed by the function itself, or meanwhile */
        lua_settop(L, base);
        return;
    }
    struct cotls_answer *w = a->telling ? NULL : a->pending;
    enum cotls_hook hook = w != NULL ? w->hook : a->first->hook;
    a->at = NULL;
    lua_settop(L, first + 1); /* what comes more may fill the stack */
    const char *expected = failed || w == NULL ? NULL : hooks[hook].take(L, w, first);
    if (failed || expected != NULL)
        refuse(L, c, hooks[hook].name, expected, first);
    if (w != NULL) {
        w->ok = !failed && expected == NULL && !a->refused;
        w->given = true;
        a->pending = NULL;
    } else {
        cotls_event_done(a);
    }
    lua_settop(L, base);
}

/* ---- settings ---- */

/* OpenSSL tells of new sessions, and asks for old ones, only where it keeps some kind of cache. */
static void open_cache(struct cotls_ctx *x)
{
    long mode = SSL_CTX_get_session_cache_mode(x->ssl_ctx);
    if ((mode & (SSL_SESS_CACHE_SERVER | SSL_SESS_CACHE_CLIENT)) != 0 && x->server)
        return;
    mode = x->server ? SSL_SESS_CACHE_SERVER : SSL_SESS_CACHE_CLIENT;
    SSL_CTX_set_session_cache_mode(x->ssl_ctx, mode | SSL_SESS_CACHE_NO_INTERNAL);
}

/* What OpenSSL must call for the hooks of the context, and of those that it may switch to. */
void cotls_hooks_install(struct cotls_ctx *x)
{
    SSL_CTX *ctx = x->ssl_ctx;
    unsigned hooks_in = x->hooks_below;
    if (x->server && hooks_in != 0)
        SSL_CTX_set_client_hello_cb(ctx, cotls_hook_client_hello, NULL);
    if (hooks_in & (1U << HOOK_CERTIFICATE | 1U << HOOK_SESSION_GET))
        SSL_CTX_set_cert_cb(ctx, cotls_hook_certificate, NULL);
    if (hooks_in & (1U << HOOK_SESSION_GET))
        SSL_CTX_sess_set_get_cb(ctx, cotls_hook_session_get);
    if (hooks_in & (1U << HOOK_SESSION_GET | 1U << HOOK_SESSION_NEW))
        open_cache(x);
    if (hooks_in & (1U << HOOK_SESSION_REMOVE))
        SSL_CTX_sess_set_remove_cb(ctx, cotls_hook_session_remove);
    if (hooks_in & (1U << HOOK_TICKET_KEY))
        SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, cotls_hook_ticket_key);
    if (hooks_in & (1U << HOOK_OCSP))
        SSL_CTX_set_tlsext_status_cb(ctx, cotls_hook_status);
    if (hooks_in & (1U << HOOK_KEYLOG))
        SSL_CTX_set_keylog_callback(ctx, cotls_hook_keylog);
    if (hooks_in & (1U << HOOK_TRACE | 1U << HOOK_CLIENT_HELLO))
        SSL_CTX_set_msg_callback(ctx, cotls_hook_message);
}

/* A hook that could not be waited for would refuse every handshake. [-0, +any] */
static bool check_pause(lua_State *L, const struct cotls_ctx *x)
{
    unsigned in_job = cotls_job_hooks(x->hooks, x->server) & ~cotls_prefetched(x);
    for (int i = 0; !cotls_can_pause() && i < HOOK_COUNT; i++)
        if (in_job & (1U << i)) {
            lua_pushfstring(
                L,
                "OpenSSL can't suspend a handshake on this system (ASYNC_is_capable(3)), as it must "
                "for this function%s",
                i == HOOK_PSK ? " on TLS 1.2 (min_version = \"1.3\" does without)" : "");
            cotls_error_config(L, hooks[i].name);
            return false;
        }
    return true;
}

/* The value: functions by name. */
static bool set_hooks(lua_State *L, struct cotls_ctx *x)
{
    int setting = lua_gettop(L);
    lua_createtable(L, HOOK_COUNT, 0);
    for (int i = 0; i < HOOK_COUNT; i++)
        if (lua_getfield(L, setting, hooks[i].name) == LUA_TFUNCTION) {
            x->hooks |= 1U << i;
            lua_rawseti(L, -2, i + 1);
        } else {
            lua_pop(L, 1);
        }
    lua_setiuservalue(L, 1, UV_CTX_HOOKS);
    if (!check_pause(L, x))
        return false;
    x->hooks_below |= x->hooks;
    if (x->hooks & (1U << HOOK_SESSION_GET)) {
        SSL_CTX_set_options(x->ssl_ctx, SSL_OP_NO_TICKET);
        x->takes = SSL_CTX_get_max_early_data(x->ssl_ctx) > 0;
    }
    cotls_hooks_install(x);
    if (x->takes)
        cotls_session_not_here(x);
    return true;
}

static bool set_may_accept(lua_State *L, struct cotls_ctx *x)
{
    x->verify_may_accept = lua_toboolean(L, -1);
    return true;
}

const struct cotls_setting cotls_hook_settings[] = {
    {"hooks", set_hooks},
    {"on_verify_may_accept", set_may_accept},
    {NULL, NULL},
};
