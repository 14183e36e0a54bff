/* SPDX-License-Identifier: MIT
 * TCP sockets: lookup, connect, listen, accept. Nothing here waits, but for the
 * resolver in lookup; who waits for readiness is the scheduler's affair. Knows
 * nothing of TLS. A userdata exists, with no descriptor, before its descriptor
 * does, so that no failure leaks one. */
#define _GNU_SOURCE /* accept4 */
#include "cotls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_ADDRESSES 32 /* of one host; more are of no use */
#define PORT_TEXT 8

/* ---- descriptors ---- */

#ifdef SOCK_NONBLOCK

static int open_descriptor(int family)
{
    return socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

static int accept_descriptor(int fd, struct sockaddr *peer, socklen_t *size)
{
    return accept4(fd, peer, size, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

#else

static int with_flags(int fd)
{
    if (fd >= 0) {
        fcntl(fd, F_SETFD, FD_CLOEXEC);
        fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    }
    return fd;
}

static int open_descriptor(int family)
{
    return with_flags(socket(family, SOCK_STREAM, 0));
}

static int accept_descriptor(int fd, struct sockaddr *peer, socklen_t *size)
{
    return with_flags(accept(fd, peer, size));
}

#endif

static int set_option(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof value);
}

/* ---- addresses ---- */

static socklen_t address_size(const struct sockaddr_in6 *a)
{
    return a->sin6_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
}

/* An IPv4 peer of a dual-stack socket becomes what it is. */
static void unmap(struct sockaddr_in6 *a)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = a->sin6_port};
    if (a->sin6_family != AF_INET6 || !IN6_IS_ADDR_V4MAPPED(&a->sin6_addr))
        return;
    memcpy(&v4.sin_addr, &a->sin6_addr.s6_addr[12], sizeof v4.sin_addr);
    memset(a, 0, sizeof *a);
    memcpy(a, &v4, sizeof v4);
}

/* Text of both parts; false: not an IP address. */
static bool to_text(const struct sockaddr_in6 *a, char host[NI_MAXHOST], char port[PORT_TEXT])
{
    if (a->sin6_family != AF_INET && a->sin6_family != AF_INET6)
        return false;
    return getnameinfo((const struct sockaddr *)a, address_size(a), host, NI_MAXHOST, port, PORT_TEXT,
                       NI_NUMERICHOST | NI_NUMERICSERV) == 0;
}

/* [-0, +1] "1.2.3.4:80", "[::1]:80", or nil where there is none */
void cotls_push_address(lua_State *L, const struct sockaddr_in6 *address)
{
    char host[NI_MAXHOST], port[PORT_TEXT];
    if (!to_text(address, host, port))
        lua_pushnil(L);
    else
        lua_pushfstring(L, address->sin6_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
}

/* [-0, +2] address and port, or [-0, +1] nil */
static int push_parts(lua_State *L, const struct sockaddr_in6 *a)
{
    char host[NI_MAXHOST], port[PORT_TEXT];
    if (!to_text(a, host, port)) {
        lua_pushnil(L);
        return 1;
    }
    lua_pushstring(L, host);
    lua_pushinteger(L, strtol(port, NULL, 10));
    return 2;
}

static int check_port(lua_State *L, int arg)
{
    int is_integer = 0;
    lua_Integer port = lua_type(L, arg) == LUA_TNUMBER ? lua_tointegerx(L, arg, &is_integer) : -1;
    luaL_argcheck(L, is_integer && port >= 0 && port <= 65535, arg, "a port is an integer from 0 to 65535");
    return (int)port;
}

static const char *check_host(lua_State *L, int arg)
{
    size_t n;
    const char *host = luaL_checklstring(L, arg, &n);
    luaL_argcheck(L, strlen(host) == n, arg, "a host or address contains no NUL byte");
    return host;
}

/* getaddrinfo into at most MAX_ADDRESSES places; its result code. */
static int resolve(const char *host, int port, int flags, struct sockaddr_in6 *list, size_t *count)
{
    struct addrinfo hints = {.ai_flags = flags | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM}, *all, *a;
    char service[PORT_TEXT];
    *count = 0;
    snprintf(service, sizeof service, "%d", port);
    int r = getaddrinfo(host, service, &hints, &all);
    if (r != 0)
        return r;
    for (a = all; a != NULL && *count < MAX_ADDRESSES; a = a->ai_next)
        if (a->ai_family == AF_INET || a->ai_family == AF_INET6)
            memcpy(&list[(*count)++], a->ai_addr, a->ai_addrlen);
    freeaddrinfo(all);
    return *count > 0 ? 0 : EAI_NONAME;
}

/* ---- failures: nil and an error object ---- */

static int fail_closed(lua_State *L, const char *operation)
{
    return cotls_fail(L, "closed", operation, "the socket is closed");
}

/* ---- functions ---- */

/* lookup(host, port) → { { address =, port = }, … }, or nil, err */
static int socket_lookup(lua_State *L)
{
    struct sockaddr_in6 list[MAX_ADDRESSES];
    const char *host = check_host(L, 1);
    int port = check_port(L, 2);
    size_t count;
    /* first as an address: AI_ADDRCONFIG would hide one of a family that only the loopback has */
    int r = resolve(host, port, AI_NUMERICHOST, list, &count);
    if (r != 0)
        r = resolve(host, port, AI_ADDRCONFIG, list, &count);
    if (r == EAI_SYSTEM)
        return cotls_fail_system(L, "connect", errno);
    if (r != 0)
        return cotls_fail(L, "system", "connect", gai_strerror(r));
    lua_createtable(L, (int)count, 0);
    for (size_t i = 0; i < count; i++) {
        lua_createtable(L, 0, 2);
        push_parts(L, &list[i]);
        lua_setfield(L, -3, "port");
        lua_setfield(L, -2, "address");
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    return 1;
}

/* A closed socket. [-0, +1] */
static struct cotls_socket *new_socket(lua_State *L)
{
    struct cotls_socket *s = lua_newuserdatauv(L, sizeof *s, UV_SOCKET_COUNT);
    *s = (struct cotls_socket){.fd = -1};
    luaL_setmetatable(L, COTLS_SOCKET);
    return s;
}

/* Its descriptor is not left to the collector. */
static int fail_socket(lua_State *L, struct cotls_socket *s, const char *operation, int err)
{
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
    return cotls_fail_system(L, operation, err);
}

/* The numeric address and port at 1 and 2; false: not numeric. */
static bool to_address(lua_State *L, struct sockaddr_in6 *a)
{
    struct sockaddr_in6 list[MAX_ADDRESSES];
    size_t count;
    const char *host = check_host(L, 1);
    if (resolve(host, check_port(L, 2), AI_NUMERICHOST, list, &count) != 0)
        return false;
    *a = list[0];
    return true;
}

/* connect_socket(address, port) → socket on its way, or nil, err */
static int socket_connect(lua_State *L)
{
    struct sockaddr_in6 a;
    if (!to_address(L, &a))
        return cotls_fail(L, "system", "connect", "not a numeric address");
    struct cotls_socket *s = new_socket(L);
    s->fd = open_descriptor(a.sin6_family);
    s->peer = a;
    bool ok = s->fd >= 0 && set_option(s->fd, IPPROTO_TCP, TCP_NODELAY, 1) == 0 &&
              connect(s->fd, (const struct sockaddr *)&a, address_size(&a)) == 0;
    if (ok || (s->fd >= 0 && (errno == EINPROGRESS || errno == EINTR)))
        return 1;
    return fail_socket(L, s, "connect", errno);
}

/* 0, or -1 and errno */
static int start_listening(int fd, const struct sockaddr_in6 *a)
{
    /* accepted sockets inherit TCP_NODELAY: no system call each */
    if (set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1) != 0 || set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1) != 0)
        return -1;
    /* OpenBSD has no dual stack; the socket serves IPv6 then */
    if (a->sin6_family == AF_INET6)
        set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, !IN6_IS_ADDR_UNSPECIFIED(&a->sin6_addr));
    if (bind(fd, (const struct sockaddr *)a, address_size(a)) != 0)
        return -1;
    return listen(fd, SOMAXCONN);
}

/* listen_socket(address, port) → listening socket, or nil, err */
static int socket_listen(lua_State *L)
{
    struct sockaddr_in6 a;
    if (!to_address(L, &a))
        return cotls_fail(L, "system", "listen", "not a numeric address");
    struct cotls_socket *s = new_socket(L);
    s->fd = open_descriptor(a.sin6_family);
    if (s->fd < 0 || start_listening(s->fd, &a) != 0)
        return fail_socket(L, s, "listen", errno);
    return 1;
}

/* ---- methods ---- */

struct cotls_socket *cotls_test_socket(lua_State *L, int index)
{
    return luaL_testudata(L, index, COTLS_SOCKET);
}

/* The socket at 1, of which only the type is sure. */
static struct cotls_socket *check_socket(lua_State *L)
{
    return luaL_checkudata(L, 1, COTLS_SOCKET);
}

static int socket_fileno(lua_State *L)
{
    const struct cotls_socket *s = check_socket(L);
    if (s->fd >= 0)
        lua_pushinteger(L, s->fd);
    else
        lua_pushnil(L);
    return 1;
}

/* s:finish() → s when it is connected; nil, err: why not, or "want_write" when it is not decided yet */
static int socket_finish(lua_State *L)
{
    const struct cotls_socket *s = check_socket(L);
    struct sockaddr_in6 peer;
    socklen_t size = sizeof peer, err_size = sizeof(int);
    int err = 0;
    if (s->fd < 0)
        return fail_closed(L, "connect");
    if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &err, &err_size) != 0)
        err = errno;
    /* no error is not yet success */
    if (err == 0 && getpeername(s->fd, (struct sockaddr *)&peer, &size) != 0)
        err = errno;
    if (err == ENOTCONN)
        return cotls_fail(L, "want_write", "connect", "not connected yet");
    if (err != 0)
        return cotls_fail_system(L, "connect", err);
    lua_settop(L, 1);
    return 1;
}

enum accepted { ACCEPT_NONE, ACCEPT_FULL, ACCEPT_SKIP, ACCEPT_FAIL };

/* What an errno of accept(2) means to a server. Errors of the network, which
 * Linux passes on, are those of one connection that is gone already. */
static enum accepted accept_failure(int err)
{
    static const int none[] = {EAGAIN, EWOULDBLOCK};
    static const int full[] = {EMFILE, ENFILE, ENOBUFS, ENOMEM};
    static const int skip[] = {EINTR,     ECONNABORTED, EPROTO,     EPERM,       ENETDOWN, ENOPROTOOPT,
                               EHOSTDOWN, EHOSTUNREACH, EOPNOTSUPP, ENETUNREACH, ETIMEDOUT};
    static const struct {
        const int *list;
        size_t count;
        enum accepted meaning;
    } kinds[] = {
        {none, sizeof none / sizeof *none, ACCEPT_NONE},
        {full, sizeof full / sizeof *full, ACCEPT_FULL},
        {skip, sizeof skip / sizeof *skip, ACCEPT_SKIP},
    };
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
        for (size_t i = 0; i < kinds[k].count; i++)
            if (kinds[k].list[i] == err)
                return kinds[k].meaning;
    return ACCEPT_FAIL;
}

/* The closed socket at 2, to be used again, or a new one. [-0, +1] */
static struct cotls_socket *spare_socket(lua_State *L)
{
    struct cotls_socket *spare = cotls_test_socket(L, 2);
    if (spare == NULL || spare->fd >= 0)
        return new_socket(L);
    lua_pushvalue(L, 2);
    return spare;
}

/* s:accept(spare or nil) → socket; nil, err: "want_read" when nobody is there, "limit" without a free descriptor */
static int socket_accept(lua_State *L)
{
    const struct cotls_socket *s = check_socket(L);
    enum accepted failure = ACCEPT_SKIP;
    if (s->fd < 0)
        return fail_closed(L, "accept");
    struct cotls_socket *new = spare_socket(L);
    while (new->fd < 0 && failure == ACCEPT_SKIP) {
        socklen_t size = sizeof new->peer;
        new->fd = accept_descriptor(s->fd, (struct sockaddr *)&new->peer, &size);
        failure = new->fd < 0 ? accept_failure(errno) : ACCEPT_NONE;
    }
    if (new->fd < 0 && failure == ACCEPT_NONE)
        return cotls_fail(L, "want_read", "accept", "no connection is waiting");
    if (new->fd < 0 && failure == ACCEPT_FULL)
        return cotls_fail(L, "limit", "accept", strerror(errno));
    if (new->fd < 0)
        return cotls_fail_system(L, "accept", errno);
    unmap(&new->peer);
    return 1;
}

/* s:recv(max) → the bytes that are there, at most max; false: none yet; nil: the end; or nil, err */
static int socket_recv(lua_State *L)
{
    const struct cotls_socket *s = check_socket(L);
    char data[4 * COTLS_WIRE];
    lua_Integer max = luaL_checkinteger(L, 2);
    luaL_argcheck(L, max > 0, 2, "must be at least 1");
    ssize_t n;
    do
        n = recv(s->fd, data, (size_t)max < sizeof data ? (size_t)max : sizeof data, 0);
    while (n < 0 && errno == EINTR);
    if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK)
        return cotls_fail_system(L, "recv", errno);
    if (n < 0)
        lua_pushboolean(L, false);
    else if (n == 0)
        lua_pushnil(L);
    else
        lua_pushlstring(L, data, (size_t)n);
    return 1;
}

/* s:send(bytes, from or nil) → how many of those from that position on were taken, 0: none now; or nil, err */
static int socket_send(lua_State *L)
{
    const struct cotls_socket *s = check_socket(L);
    size_t n;
    const char *data = luaL_checklstring(L, 2, &n);
    lua_Integer from = luaL_optinteger(L, 3, 1);
    luaL_argcheck(L, from >= 1 && (size_t)from <= n + 1, 3, "no position in the string");
    ssize_t sent;
    do
        sent = send(s->fd, data + from - 1, n - (size_t)(from - 1), MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent < 0 && errno != EAGAIN && errno != EWOULDBLOCK)
        return cotls_fail_system(L, "send", errno);
    lua_pushinteger(L, sent < 0 ? 0 : sent);
    return 1;
}

/* s:address() → own address, port */
static int socket_address(lua_State *L)
{
    const struct cotls_socket *s = check_socket(L);
    struct sockaddr_in6 a = {0};
    socklen_t size = sizeof a;
    if (s->fd < 0)
        return fail_closed(L, "address");
    if (getsockname(s->fd, (struct sockaddr *)&a, &size) != 0)
        return cotls_fail_system(L, "address", errno);
    unmap(&a);
    return push_parts(L, &a);
}

/* s:peer() → the peer's address, port, also when closed; nil for a listening socket */
static int socket_peer(lua_State *L)
{
    return push_parts(L, &check_socket(L)->peer);
}

/* The scheduler is told while the descriptor is still this socket's. */
static int socket_close(lua_State *L)
{
    struct cotls_socket *s = check_socket(L);
    if (s->fd >= 0)
        cotls_release(L, 1);
    int fd = s->fd;
    s->fd = -1;
    if (fd >= 0)
        close(fd);
    lua_pushboolean(L, true);
    return 1;
}

static int socket_tostring(lua_State *L)
{
    const struct cotls_socket *s = check_socket(L);
    if (s->fd >= 0)
        lua_pushfstring(L, "%s (fd %d)", COTLS_SOCKET, s->fd);
    else
        lua_pushliteral(L, COTLS_SOCKET " (closed)");
    return 1;
}

const luaL_Reg cotls_socket_functions[] = {
    {"lookup", socket_lookup},
    {"connect_socket", socket_connect},
    {"listen_socket", socket_listen},
    {NULL, NULL},
};

static const luaL_Reg meta[] = {
    {"__gc", socket_close},
    {"__close", socket_close},
    {"__tostring", socket_tostring},
    {NULL, NULL},
};

static const luaL_Reg meth[] = {
    {"fileno", socket_fileno},   {"finish", socket_finish}, {"accept", socket_accept},
    {"address", socket_address}, {"peer", socket_peer},     {"recv", socket_recv},
    {"send", socket_send},       {"close", socket_close},   {NULL, NULL},
};

void cotls_socket_open(lua_State *L)
{
    cotls_new_class(L, COTLS_SOCKET, meta, meth);
}
