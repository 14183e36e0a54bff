/* SPDX-License-Identifier: MIT
 * Connections: an SSL over a transport, from wrap to close, and the handshake.
 * The userdata is empty, then has its metatable, then its resources, each in a
 * state that the collector can free. Closing goes the other way: the userdata is
 * closed first, the resources after. The collector sends nothing. */
#include "cotls.h"

#include <math.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>

static const char class_key; /* its address: the registry's key of the metatable */

/* luaL_checkudata, but that finding the metatable by an address is cheaper than by name. */
struct cotls_conn *cotls_check_conn(lua_State *L)
{
    struct cotls_conn *c = lua_touserdata(L, 1);
    if (c != NULL && lua_getmetatable(L, 1)) {
        lua_rawgetp(L, LUA_REGISTRYINDEX, &class_key);
        bool same = lua_rawequal(L, -1, -2);
        lua_pop(L, 2);
        if (same)
            return c;
    }
    return luaL_checkudata(L, 1, COTLS_CONNECTION);
}

/* ---- wrap ---- */

static int wrap_error(lua_State *L, const char *option, const char *reason)
{
    lua_pushstring(L, reason);
    return cotls_fail_config(L, option);
}

/* A number of the options over the context's; negative: none. */
static double number_option(lua_State *L, const char *name, double value)
{
    if (lua_getfield(L, WRAP_OPTIONS, name) == LUA_TNUMBER)
        value = lua_tonumber(L, -1);
    lua_pop(L, 1);
    return value;
}

/* A string that the options table keeps. */
static const char *string_option(lua_State *L, const char *name, size_t *n)
{
    *n = 0;
    lua_getfield(L, WRAP_OPTIONS, name);
    const char *text = lua_tolstring(L, -1, n);
    lua_pop(L, 1);
    return text;
}

/* Sets SNI; OpenSSL's macro wants text that it could write to. */
static bool set_server_name(SSL *ssl, const char *name, size_t n)
{
    char copy[TLSEXT_MAXLEN_host_name + 1];
    return n < sizeof copy && SSL_set_tlsext_host_name(ssl, memcpy(copy, name, n + 1));
}

/* What is asked of OpenSSL; false: no memory. */
static bool set_hello(struct cotls_conn *c, const char *server_name, size_t n)
{
    if (server_name != NULL && !set_server_name(c->ssl, server_name, n))
        return false;
    return c->alpn == NULL || c->ctx->server ||
           SSL_set_alpn_protos(c->ssl, c->alpn, (unsigned)c->alpn_len) == 0;
}

/* The per-connection options; the connection is on top. */
static void set_options(lua_State *L, struct cotls_conn *c)
{
    size_t n;
    const char *server_name = string_option(L, "server_name", &n);
    c->timeout = number_option(L, "timeout", c->timeout);
    c->handshake_timeout = number_option(L, "handshake_timeout", c->handshake_timeout);
    c->read_limit = (size_t)number_option(L, "read_limit", (double)c->read_limit);
    c->names = string_option(L, "verify_names", &c->names_len);
    c->alpn = (const unsigned char *)string_option(L, "alpn", &c->alpn_len);
    c->dane = (const unsigned char *)string_option(L, "dane", &c->dane_len);
    if (!set_hello(c, server_name, n)) {
        cotls_push_queue_reason(L);
        luaL_error(L, "OpenSSL takes no options: %s", lua_tostring(L, -1));
    }
    c->early_data.data = string_option(L, "early_data", &c->early_data.len);
    if (lua_getfield(L, WRAP_OPTIONS, "session_key") == LUA_TSTRING)
        c->session_key.data = lua_tolstring(L, -1, &c->session_key.len);
    lua_pop(L, 1);
    lua_getfield(L, WRAP_OPTIONS, "session");
    cotls_session_option(L, -1, c);
    lua_pop(L, 1);
    c->scheduled = lua_getfield(L, WRAP_OPTIONS, "scheduler") == LUA_TTABLE;
    lua_pop(L, 1);
    lua_pushvalue(L, WRAP_OPTIONS);
    lua_setiuservalue(L, -2, UV_OPTIONS);
    lua_getfield(L, WRAP_OPTIONS, "owns");
    c->owns = lua_isnil(L, -1) || lua_toboolean(L, -1);
    lua_pop(L, 1);
}

/* The SSL with its BIO. false: no memory. */
static bool make_ssl(struct cotls_conn *c, bool stream)
{
    cotls_clear_errors();
    BIO *bio = stream ? cotls_bio_stream(c) : cotls_bio_fd(c);
    if (bio == NULL)
        return false;
    c->ssl = SSL_new(c->ctx->ssl_ctx);
    if (c->ssl == NULL) {
        BIO_free(bio);
        return false;
    }
    SSL_set_bio(c->ssl, bio, bio);
    if (SSL_set_app_data(c->ssl, c) && (c->ctx->hooks_below == 0 || cotls_asks_make(c)))
        return true;
    SSL_free(c->ssl);
    c->ssl = NULL;
    return false;
}

/* [-0, +1] an empty connection with its metatable */
static struct cotls_conn *push_empty(lua_State *L, struct cotls_ctx *x)
{
    struct cotls_conn *c = lua_newuserdatauv(L, sizeof *c, UV_COUNT);
    *c =
        (struct cotls_conn){.fd = -1, .alert = -1, .ctx = x, .active = x, .st = cotls_state(L), .owns = true};
    c->timeout = x->timeout;
    c->handshake_timeout = x->handshake_timeout;
    c->read_limit = x->read_limit;
    c->session_key = x->session_key;
    luaL_setmetatable(L, COTLS_CONNECTION);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, UV_CONTEXT);
    return c;
}

/* core.wrap(context, transport, checked options or nil) → connection, or nil, err */
int cotls_wrap(lua_State *L)
{
    struct cotls_ctx *x = cotls_check_context(L, 1);
    struct cotls_transport t;
    lua_settop(L, WRAP_OPTIONS);
    struct cotls_conn *c = push_empty(L, x);
    const char *refused = cotls_transport_find(L, c, &t);
    if (refused != NULL)
        return wrap_error(L, "transport", refused);
    if (!make_ssl(c, t.stream)) {
        cotls_push_queue_reason(L);
        return luaL_error(L, "OpenSSL makes no connection: %s", lua_tostring(L, -1));
    }
    if (lua_istable(L, WRAP_OPTIONS))
        set_options(L, c);
    if (x->verifies && c->names_len == 0 && !cotls_has_psk(x))
        return wrap_error(L, "server_name",
                          "a client that verifies needs the name to check: give server_name or verify_name");
    if (!cotls_dane_start(L, c))
        return cotls_fail_config(L, "dane");
    cotls_transport_adopt(L, c, &t);
    return 1;
}

/* core.is_connection(value) */
int cotls_is_connection(lua_State *L)
{
    luaL_checkany(L, 1);
    lua_pushboolean(L, luaL_testudata(L, 1, COTLS_CONNECTION) != NULL);
    return 1;
}

/* The address of the peer, if it is known or the descriptor still tells it. */
struct cotls_text cotls_peer(struct cotls_conn *c)
{
    socklen_t size = sizeof c->peer;
    if (c->peer.sin6_family == 0 && c->fd >= 0)
        getpeername(c->fd, (struct sockaddr *)&c->peer, &size);
    if (c->peer.sin6_family == AF_INET)
        return (struct cotls_text){(const char *)&c->peer, sizeof(struct sockaddr_in)};
    if (c->peer.sin6_family == AF_INET6)
        return (struct cotls_text){(const char *)&c->peer, sizeof(struct sockaddr_in6)};
    c->peer.sin6_family = 0;
    return (struct cotls_text){0};
}

/* The protocols in force, in wire format: the connection's own, or those of its context. */
struct cotls_bytes cotls_alpn(const struct cotls_conn *c)
{
    if (c->alpn != NULL)
        return (struct cotls_bytes){c->alpn, c->alpn_len};
    return (struct cotls_bytes){c->active->alpn, c->active->alpn_len};
}

/* ---- close ---- */

/* close_notify, if it can go out at once and the connection is in order. */
static void notify_peer(lua_State *L, int index, struct cotls_conn *c)
{
    cotls_clear_errors();
    if (c->established && !c->failed && !cotls_is_asked(c) && c->mover[WAY_WRITE] == NULL &&
        cotls_flush(c) == 1 && !SSL_in_init(c->ssl)) {
        SSL_shutdown(c->ssl);
        if (c->stream)
            cotls_stream_give(L, index);
    }
    cotls_clear_errors();
}

/* What is told after closing. LuaSec's connections tell nothing then. */
static void keep(struct cotls_conn *c)
{
    if (c->established && c->luasec != NULL)
        return;
    ERR_set_mark(); /* the collector may come while a queue is read */
    cotls_record_keep(c);
    if (c->established)
        cotls_session_keep(c);
    else
        cotls_session_forget(c);
    ERR_pop_to_mark();
}

/* Closes the connection at index; with notify, close_notify goes first if it can
 * go at once. Never waits, never raises. [-0, +0] */
void cotls_conn_close(lua_State *L, int index, bool notify)
{
    struct cotls_conn *c = lua_touserdata(L, index);
    int top = lua_gettop(L);
    index = lua_absindex(L, index);
    if (c->ssl == NULL)
        return;
    if (notify)
        notify_peer(L, index, c);
    if (c->ssl == NULL) /* the stream's try_write has closed it */
        return;
    keep(c);
    c->early_status = SSL_get_early_data_status(c->ssl);
    if (c->owns && !c->ended && (notify || (c->begun && !c->established)))
        cotls_transport_drain(c);
    if (c->established && !c->failed) /* else SSL_free makes the session unfit for resumption */
        SSL_set_shutdown(c->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    cotls_asks_cancel(c);
    SSL *ssl = c->ssl;
    c->ssl = NULL;
    cotls_release(L, index);
    ERR_set_mark();
    SSL_free(ssl);
    ERR_pop_to_mark();
    cotls_buf_free(&c->cipher);
    cotls_buf_free(&c->plain);
    cotls_buf_free(&c->out);
    cotls_buf_free(&c->early_kept);
    cotls_transport_close(L, index, notify);
    lua_settop(L, top);
}

static int conn_close(lua_State *L)
{
    cotls_check_conn(L);
    cotls_conn_close(L, 1, true);
    lua_pushboolean(L, 1);
    return 1;
}

/* __close(conn, err): with an error the peer must see a truncation. */
static int conn_scope_end(lua_State *L)
{
    cotls_check_conn(L);
    cotls_conn_close(L, 1, lua_isnoneornil(L, 2));
    return 0;
}

static int conn_gc(lua_State *L)
{
    struct cotls_conn *c = cotls_check_conn(L);
    cotls_conn_close(L, 1, false);
    cotls_record_free(c);
    cotls_asks_free(c);
    free(c->verify_errors);
    c->verify_errors = NULL;
    c->verify_error_count = 0;
    free(c->verify_subject);
    c->verify_subject = NULL;
    OPENSSL_free(c->psk_identity);
    c->psk_identity = NULL;
    SSL_SESSION_free(c->session);
    c->session = NULL;
    cotls_push_threads(L);
    for (int i = 0; i < SLOT_COUNT; i++) {
        lua_pushnil(L);
        lua_rawsetp(L, -2, &c->slot[i]);
    }
    return 0;
}

static int conn_tostring(lua_State *L)
{
    struct cotls_conn *c = cotls_check_conn(L);
    const char *state = c->ssl == NULL ? "closed" : c->established ? "open" : "before the handshake";
    lua_pushfstring(L, "%s (%s): %p", COTLS_CONNECTION, state, lua_topointer(L, 1));
    return 1;
}

/* ---- the handshake ---- */

/* What the first call begins: the clock; a client looks what session it can offer. */
void cotls_handshake_begin(struct cotls_conn *c)
{
    if (c->begun)
        return;
    c->begun = true;
    c->handshake_start = cotls_now();
    c->handshake_deadline = c->handshake_timeout < 0 ? HUGE_VAL : c->handshake_start + c->handshake_timeout;
    cotls_session_begin(c);
}

/* TLS 1.3 session tickets for a client that has gone are no failure of the handshake. */
static bool only_tickets_lost(const struct cotls_conn *c)
{
    return c->side == SIDE_ACCEPT && SSL_version(c->ssl) == TLS1_3_VERSION;
}

/* The last flight can't be sent, as where a server has refused early data and gone: its alert says why. */
static enum cotls_step lost_step(struct cotls_conn *c)
{
    char byte;
    size_t n;
    c->alert = -1;
    cotls_clear_errors();
    enum cotls_step step = cotls_outcome(c, SSL_peek_ex(c->ssl, &byte, 1, &n));
    if (step == STEP_FAIL && c->alert >= 0 && !c->alert_sent)
        return step;
    c->alert = -1; /* one of ours, that the stream has ended, says nothing */
    return cotls_flush_step(c);
}

/* What goes with early data before the handshake goes on. */
static enum cotls_step early_step(struct cotls_conn *c)
{
    if (c->early == EARLY_READING)
        return cotls_early_drain(c);
    return c->early_data.data != NULL ? cotls_early_option(c) : STEP_DONE;
}

static int do_handshake(SSL *ssl, void *data, size_t size, size_t *done)
{
    (void)data;
    (void)size;
    (void)done;
    cotls_clear_errors();
    return SSL_do_handshake(ssl);
}

static enum cotls_step handshake_step(lua_State *L, struct cotls_conn *c, struct cotls_slot *s)
{
    (void)L;
    (void)s;
    cotls_handshake_begin(c);
    enum cotls_step early = early_step(c);
    if (early != STEP_DONE)
        return early;
    c->early = EARLY_OVER;
    c->send_lost = c->send_errno != 0;
    c->hold = true;
    enum cotls_step step = cotls_outcome(c, cotls_call(c, do_handshake, NULL, 0, NULL));
    c->hold = false;
    if (cotls_early_downgraded(c) || cotls_psk_lost(c))
        return STEP_FAIL;
    int sent = cotls_flush(c);
    if (step == STEP_DONE && sent < 0 && !only_tickets_lost(c))
        return lost_step(c);
    if (sent == 0 && (step == STEP_DONE || step == STEP_WANT_READ))
        return STEP_WANT_WRITE;
    if (step == STEP_DONE && !c->established) {
        c->established = true;
        cotls_session_established(c);
        cotls_asks_forget(c);
        c->handshake_seconds = cotls_now() - c->handshake_start;
    }
    return step;
}

/* What an operation gives that has nothing else to tell. */
int cotls_push_self(lua_State *L, struct cotls_conn *c, struct cotls_slot *s)
{
    (void)c;
    (void)s;
    lua_pushvalue(L, 1);
    return 1;
}

const struct cotls_op cotls_op_do_handshake = {"do_handshake", SLOT_WHOLE,      true,
                                               handshake_step, cotls_push_self, NULL};
const struct cotls_op cotls_op_accept = {"accept", SLOT_WHOLE, true, handshake_step, cotls_push_self, NULL};
const struct cotls_op cotls_op_connect = {"connect", SLOT_WHOLE, true, handshake_step, cotls_push_self, NULL};

/* Chooses the side as SSL_set_accept_state(3) does; contrary to the context's role it raises. */
void cotls_choose_side(lua_State *L, struct cotls_conn *c, enum cotls_side side, const char *verb)
{
    bool accept = side == SIDE_ACCEPT;
    if (accept != c->ctx->server)
        luaL_error(L, "%s: the context's role is \"%s\"", verb, c->ctx->server ? "server" : "client");
    if (c->ssl == NULL || c->side == side)
        return;
    c->side = side;
    if (accept)
        SSL_set_accept_state(c->ssl);
    else
        SSL_set_connect_state(c->ssl);
}

static int set_state(lua_State *L, enum cotls_side side, const char *verb)
{
    struct cotls_conn *c = cotls_check_conn(L);
    if (c->ssl == NULL)
        return cotls_fail(L, "closed", verb, "the connection is closed");
    cotls_choose_side(L, c, side, verb);
    lua_settop(L, 1);
    return 1;
}

static int conn_set_accept_state(lua_State *L)
{
    return set_state(L, SIDE_ACCEPT, "set_accept_state");
}

static int conn_set_connect_state(lua_State *L)
{
    return set_state(L, SIDE_CONNECT, "set_connect_state");
}

static int conn_do_handshake(lua_State *L)
{
    struct cotls_conn *c = cotls_check_conn(L);
    lua_settop(L, 1);
    return cotls_run(L, c, &cotls_op_do_handshake, conn_do_handshake);
}

static int conn_accept(lua_State *L)
{
    struct cotls_conn *c = cotls_check_conn(L);
    cotls_choose_side(L, c, SIDE_ACCEPT, "accept");
    lua_settop(L, 1);
    return cotls_run(L, c, &cotls_op_accept, conn_accept);
}

static int conn_connect(lua_State *L)
{
    struct cotls_conn *c = cotls_check_conn(L);
    cotls_choose_side(L, c, SIDE_CONNECT, "connect");
    lua_settop(L, 1);
    return cotls_run(L, c, &cotls_op_connect, conn_connect);
}

static int conn_settimeout(lua_State *L)
{
    struct cotls_conn *c = cotls_check_conn(L);
    double seconds = lua_isnoneornil(L, 2) ? -1 : luaL_checknumber(L, 2);
    luaL_argcheck(L, lua_isnoneornil(L, 2) || seconds >= 0, 2, "must not be negative");
    c->timeout = seconds;
    lua_settop(L, 1);
    return 1;
}

static const luaL_Reg methods[] = {
    {"set_accept_state", conn_set_accept_state},
    {"set_connect_state", conn_set_connect_state},
    {"do_handshake", conn_do_handshake},
    {"accept", conn_accept},
    {"connect", conn_connect},
    {"settimeout", conn_settimeout},
    {"close", conn_close},
    {NULL, NULL},
};

void cotls_connection_open(lua_State *L)
{
    static const luaL_Reg meta[] = {
        {"__gc", conn_gc},
        {"__close", conn_scope_end},
        {"__tostring", conn_tostring},
        {NULL, NULL},
    };
    cotls_new_class(L, COTLS_CONNECTION, meta, methods);
    luaL_getmetatable(L, COTLS_CONNECTION);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &class_key);
    lua_getfield(L, -1, "__index");
    luaL_setfuncs(L, cotls_transfer_methods, 0);
    luaL_setfuncs(L, cotls_transport_methods, 0);
    luaL_setfuncs(L, cotls_renewal_methods, 0);
    luaL_setfuncs(L, cotls_psk_methods, 0);
    luaL_setfuncs(L, cotls_info_methods, 0);
    luaL_setfuncs(L, cotls_hook_methods, 0);
    luaL_setfuncs(L, cotls_session_methods, 0);
    luaL_setfuncs(L, cotls_early_methods, 0);
    luaL_setfuncs(L, cotls_dane_methods, 0);
    luaL_setfuncs(L, cotls_certificates_methods, 0);
    luaL_setfuncs(L, cotls_keying_methods, 0);
    lua_pop(L, 2);
}
