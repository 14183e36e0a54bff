/* SPDX-License-Identifier: MIT
 * What a connection lies on: a descriptor, an object that has one, or a stream.
 * Which it is for an object cotls.transport (in Lua) has found out; here is what
 * wrap does with it, and what becomes of it when the connection closes. */
#include "cotls.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/tcp.h>
#include <string.h>
#include <unistd.h>

/* ---- wrap ---- */

/* TCP_NODELAY where it is TCP; what is not must be a stream socket at least, and non-blocking it becomes.
 * A reason, or NULL. */
static const char *prepare_fd(int fd)
{
    int type, on = 1;
    socklen_t size = sizeof type;
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0) {
        if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) != 0)
            return strerror(errno);
        if (type != SOCK_STREAM)
            return "not a stream socket";
    }
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || ((flags & O_NONBLOCK) == 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0))
        return strerror(errno);
    return NULL;
}

/* The number at index, 5.0 (LuaSocket's) as well as 5, as a descriptor, or -1. */
static int integer_fd(lua_State *L, int index)
{
    int is_integer = 0;
    lua_Integer n = lua_type(L, index) == LUA_TNUMBER ? lua_tointegerx(L, index, &is_integer) : -1;
    return is_integer && n >= 0 && n <= INT_MAX ? (int)n : -1;
}

/* The descriptor of an object with one of these methods; -1 when it has none. [-0, +0] */
static int method_fd(lua_State *L)
{
    static const char *const methods[] = {"getfd", "fileno", "pollfd"};
    int fd = -1;
    for (size_t i = 0; i < sizeof methods / sizeof *methods && fd < 0; i++) {
        lua_pushvalue(L, WRAP_TRANSPORT);
        cotls_call_method(L, methods[i]);
        fd = integer_fd(L, -1);
        lua_pop(L, 1);
    }
    return fd;
}

/* Why the descriptor of another library's object can't be taken as it is, or NULL: what
 * that one reads, has read, or has still to send would be lost to TLS. [-0, +0] */
static const char *refuse_object(lua_State *L)
{
    static const struct {
        const char *method, *reason;
    } checks[] = {
        {"is_active", "the handle is reading or listening: stop that first"},        /* luv */
        {"get_write_queue_size", "the handle has bytes to send: wait until it has"}, /* luv */
        {"dirty", "the socket has bytes in its buffer: read them first"},            /* LuaSocket */
        {"pending", "the socket has bytes in its buffer: read or flush them first"}, /* cqueues */
    };
    if (lua_type(L, WRAP_TRANSPORT) != LUA_TUSERDATA)
        return NULL;
    for (size_t i = 0; i < sizeof checks / sizeof *checks; i++) {
        lua_pushvalue(L, WRAP_TRANSPORT);
        cotls_call_method(L, checks[i].method);
        bool bad = lua_type(L, -1) == LUA_TNUMBER ? lua_tonumber(L, -1) > 0 : lua_toboolean(L, -1);
        lua_pop(L, 1);
        if (bad)
            return checks[i].reason;
    }
    return NULL;
}

/* A socket of ours, an integer, or an object with a descriptor. A refusal leaves a reason. */
static const char *find_fd(lua_State *L, struct cotls_conn *c, struct cotls_transport *t)
{
    t->socket = cotls_test_socket(L, WRAP_TRANSPORT);
    if (t->socket != NULL) {
        t->fd = t->socket->fd;
        return t->fd >= 0 ? NULL : "the socket is closed";
    }
    c->owns_fd = lua_isinteger(L, WRAP_TRANSPORT);
    t->fd = c->owns_fd ? integer_fd(L, WRAP_TRANSPORT) : method_fd(L);
    if (t->fd < 0 && c->owns_fd)
        return "a descriptor is an integer that is not negative";
    if (t->fd < 0)
        return "must be a descriptor (an integer), a connection, or an object with receiveany and send, recv "
               "and "
               "write, a descriptor by getfd, fileno or pollfd, or read and write";
    const char *refused = refuse_object(L);
    return refused != NULL ? refused : prepare_fd(t->fd);
}

/* The transport at its index; the options say if it is a stream, whose functions cotls.transport has found. */
const char *cotls_transport_find(lua_State *L, struct cotls_conn *c, struct cotls_transport *t)
{
    *t = (struct cotls_transport){.fd = -1};
    if (lua_istable(L, WRAP_OPTIONS)) {
        t->stream = lua_getfield(L, WRAP_OPTIONS, "stream") == LUA_TTABLE;
        lua_pop(L, 1);
    }
    return t->stream ? NULL : find_fd(L, c, t);
}

/* Takes it over; the connection is on top. A socket of ours gives its descriptor up, unless it is to live on. */
void cotls_transport_adopt(lua_State *L, struct cotls_conn *c, const struct cotls_transport *t)
{
    if (t->socket != NULL)
        c->peer = t->socket->peer;
    if (t->socket != NULL && c->owns) {
        cotls_release(L, WRAP_TRANSPORT);
        t->socket->fd = -1;
        c->owns_fd = true;
        lua_pushinteger(L, t->fd);
    } else {
        lua_pushvalue(L, WRAP_TRANSPORT);
    }
    lua_setiuservalue(L, -2, UV_TRANSPORT);
    if (t->stream) {
        lua_getfield(L, WRAP_OPTIONS, "stream");
        lua_setiuservalue(L, -2, UV_STREAM);
    }
    c->stream = t->stream;
    c->fd = t->fd;
}

/* ---- closing ---- */

/* What was received but not read makes the kernel answer close with a reset,
 * which destroys what is still to be sent: an alert, or data. Read it, within reason. */
void cotls_transport_drain(const struct cotls_conn *c)
{
    unsigned char waste[4096];
    if (c->stream)
        return;
    for (int i = 0; i < 16; i++)
        if (recv(c->fd, waste, sizeof waste, MSG_DONTWAIT) <= 0)
            return;
}

/* Closes the transport that the connection at index owns. That of another connection says what this one says: with
 * notify a close_notify. [-0, +0] */
void cotls_transport_close(lua_State *L, int index, bool notify)
{
    struct cotls_conn *c = lua_touserdata(L, index);
    int fd = c->fd;
    c->fd = -1;
    if (!c->owns || (fd < 0 && !c->stream))
        return;
    if (c->owns_fd) {
        close(fd);
        return;
    }
    lua_getiuservalue(L, index, UV_TRANSPORT);
    if (luaL_testudata(L, -1, COTLS_CONNECTION) != NULL && lua_checkstack(L, 10)) {
        cotls_conn_close(L, -1, notify);
        lua_pop(L, 1);
        return;
    }
    cotls_call_method(L, "close");
    lua_pop(L, 1);
}

/* ---- detach ---- */

/* Why the transport can't be had back, or NULL. */
static const char *refuse_detach(lua_State *L, struct cotls_conn *c)
{
    bool untouched = !c->established && c->bytes_out == 0 && c->bytes_in == cotls_buf_length(&c->cipher);
    if (!c->ended && !untouched)
        return "comes after the peer's close_notify, or before anything is read or sent";
    if (cotls_buf_length(&c->plain) > 0)
        return "there are bytes to be read first";
    if (cotls_slot_held(L, c, &c->slot[SLOT_READ]) || cotls_slot_held(L, c, &c->slot[SLOT_WRITE]))
        return "an operation is under way";
    return c->failed || cotls_flush(c) != 1 ? "what is to be sent has not been sent" : NULL;
}

/* conn:detach() → transport, the bytes that were received and are not TLS's; or nil, err */
static int conn_detach(lua_State *L)
{
    struct cotls_conn *c = cotls_check_conn(L);
    lua_settop(L, 1);
    const char *refused = c->ssl != NULL ? refuse_detach(L, c) : NULL;
    if (c->ssl == NULL)
        return cotls_fail(L, "closed", "detach", "the connection is closed");
    if (refused != NULL)
        return cotls_fail(L, "tls", "detach", refused);
    lua_getiuservalue(L, 1, UV_TRANSPORT);
    size_t n = cotls_buf_length(&c->cipher);
    lua_pushlstring(L, n > 0 ? (const char *)cotls_buf_bytes(&c->cipher) : "", n);
    c->owns = false;
    cotls_conn_close(L, 1, false);
    return 2;
}

const luaL_Reg cotls_transport_methods[] = {{"detach", conn_detach}, {NULL, NULL}};
