/* SPDX-License-Identifier: MIT
 * Linked into the module with --wrap (link.sh): lets one allocation or one system call of its fail.
 *   inject.arm(what, n, result)  the n-th from now on fails. what: "lua", "openssl", "malloc", whose allocations;
 *                                or a call's name, with a result of `results`, "short" or "zero"
 *   inject.disarm()              → has it come to that?, how many there were; nothing fails any more
 *   inject.ready(fd, write)      → would a wait for it end? inject.leaks() → has LeakSanitizer found some?
 *   inject.live()                → blocks that OpenSSL, that the module holds
 *   inject.queue()               → the first error in OpenSSL's queue, or nil; empties it
 *   inject.sign(key, scheme, digest or nil, message)  → a signature by the PEM key; nothing fails meanwhile
 *   inject.places, known, spare  see places.h. It must be loaded before anything of OpenSSL's is called. */
#define _GNU_SOURCE
#include "../../src/compat.h"
#include "places.h"

#include <dirent.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <netdb.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define WRAP(type, name, ...)                                                                                \
    type __real_##name(__VA_ARGS__);                                                                         \
    type __wrap_##name(__VA_ARGS__);                                                                         \
    type __wrap_##name(__VA_ARGS__)

enum { SHORT = -1, ZERO = -2 };

static const struct {
    const char *name;
    int number;
    bool lasts; /* on the same descriptor */
} results[] = {
    {"EINTR", EINTR, false},
    {"EAGAIN", EAGAIN, false},
    {"ECONNRESET", ECONNRESET, true},
    {"EPIPE", EPIPE, true},
    {"ENOBUFS", ENOBUFS, false},
    {"EMFILE", EMFILE, false},
    {"ENFILE", ENFILE, false},
    {"ENOMEM", ENOMEM, false},
    {"ECONNABORTED", ECONNABORTED, false},
    {"ECONNREFUSED", ECONNREFUSED, true},
    {"ETIMEDOUT", ETIMEDOUT, true},
    {"ENETUNREACH", ENETUNREACH, true},
    {"EACCES", EACCES, false},
    {"EIO", EIO, false},
    {"ENOSPC", ENOSPC, false},
    {"EADDRINUSE", EADDRINUSE, false},
    {"EINVAL", EINVAL, false},
    {"EAI_AGAIN", EAI_AGAIN, false},
    {"EAI_MEMORY", EAI_MEMORY, false},
    {"EAI_SYSTEM", EAI_SYSTEM, false},
    {"short", SHORT, false},
    {"zero", ZERO, false},
};

static const char *armed;       /* what fails, or NULL */
static lua_Integer first, left; /* before the first that fails */
static lua_Integer times;       /* how many fail */
static int result, lasting;
static bool lasts;
static lua_Integer live_openssl, live_module;
static lua_Alloc allocate;

static bool is_armed(const char *what)
{
    return armed != NULL && strcmp(armed, what) == 0;
}

/* With FAULTS_WHERE in the environment: who has asked for what fails. */
static void tell_where(void)
{
    void *frames[40];
    if (getenv("FAULTS_WHERE") != NULL)
        backtrace_symbols_fd(frames, backtrace(frames, 40), 2);
}

static bool fails(const char *what)
{
    if (!is_armed(what))
        return false;
    bool now = --left <= 0 && left > -times && !places_spared();
    places_note(first - left, now);
    if (now)
        tell_where();
    return now;
}

/* ---- allocations ---- */

static void *for_lua(void *ud, void *block, size_t old, size_t size)
{
    bool grows = size > 0 && (block == NULL || size > old);
    return grows && fails("lua") ? NULL : allocate(ud, block, old, size);
}

static void *count(void *block, lua_Integer *live)
{
    *live += block != NULL;
    return block;
}

WRAP(void *, malloc, size_t size)
{
    return fails("malloc") ? NULL : count(__real_malloc(size), &live_module);
}

WRAP(void *, calloc, size_t n, size_t size)
{
    return fails("malloc") ? NULL : count(__real_calloc(n, size), &live_module);
}

WRAP(void *, realloc, void *block, size_t size)
{
    if (fails("malloc"))
        return NULL;
    void *more = __real_realloc(block, size);
    live_module += block == NULL && more != NULL;
    return more;
}

WRAP(void, free, void *block)
{
    live_module -= block != NULL;
    __real_free(block);
}

static void *for_openssl(size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    return fails("openssl") ? NULL : count(__real_malloc(size), &live_openssl);
}

static void *more_for_openssl(void *block, size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    if (fails("openssl"))
        return NULL;
    void *more = __real_realloc(block, size);
    live_openssl += block == NULL && more != NULL;
    return more;
}

static void from_openssl(void *block, const char *file, int line)
{
    (void)file;
    (void)line;
    live_openssl -= block != NULL;
    __real_free(block);
}

/* ---- system calls ---- */

/* What is this call to come to? 0: what it does; SHORT, ZERO; else -1, and errno is set. */
static int outcome(const char *call, int fd)
{
    if (!is_armed(call) || (--left != 0 && !(left < 0 && lasts && fd == lasting)))
        return 0;
    tell_where();
    lasting = fd;
    if (lasts && fd >= 0)
        shutdown(fd, SHUT_RDWR); /* so the peer has it */
    if (result > 0)
        errno = result;
    return result;
}

WRAP(ssize_t, recv, int fd, void *data, size_t n, int flags)
{
    int o = outcome("recv", fd);
    if (o == 0 || o == SHORT)
        return __real_recv(fd, data, o == SHORT ? 1 : n, flags);
    return o == ZERO ? 0 : -1;
}

WRAP(ssize_t, send, int fd, const void *data, size_t n, int flags)
{
    int o = outcome("send", fd);
    if (o == 0 || o == SHORT)
        return __real_send(fd, data, o == SHORT ? 1 : n, flags);
    return o == ZERO ? 0 : -1;
}

WRAP(ssize_t, write, int fd, const void *data, size_t n)
{
    int o = outcome("write", fd);
    if (o == 0 || o == SHORT)
        return __real_write(fd, data, o == SHORT ? 1 : n);
    return o == ZERO ? 0 : -1;
}

/* "short": it claims what is not so. */
WRAP(int, poll, struct pollfd *set, nfds_t n, int timeout)
{
    int o = outcome("poll", -1);
    if (o == 0)
        return __real_poll(set, n, timeout);
    for (nfds_t i = 0; i < n; i++)
        set[i].revents = o == SHORT ? set[i].events : 0;
    return o == SHORT ? (int)n : o == ZERO ? 0 : -1;
}

WRAP(int, epoll_wait, int fd, struct epoll_event *events, int n, int timeout)
{
    int o = outcome("epoll_wait", fd);
    if (o == 0 || o == SHORT)
        return __real_epoll_wait(fd, events, o == SHORT ? 1 : n, timeout);
    return o == ZERO ? 0 : -1;
}

/* An interrupted connect goes on. */
WRAP(int, connect, int fd, const struct sockaddr *address, socklen_t size)
{
    int o = outcome("connect", fd);
    if (o != 0 && o != EINTR)
        return -1;
    int r = __real_connect(fd, address, size);
    if (o == EINTR)
        errno = EINTR;
    return o == EINTR ? -1 : r;
}

/* An interrupted close has closed. */
WRAP(int, close, int fd)
{
    int o = outcome("close", fd), r = __real_close(fd);
    if (o > 0)
        errno = o;
    return o != 0 ? -1 : r;
}

WRAP(int, getaddrinfo, const char *host, const char *service, const struct addrinfo *hints,
     struct addrinfo **found)
{
    int o = outcome("getaddrinfo", -1);
    if (o == 0)
        return __real_getaddrinfo(host, service, hints, found);
    errno = EMFILE; /* EAI_SYSTEM's */
    return o;
}

#define SIMPLE(name, fd, arguments, ...)                                                                     \
    WRAP(int, name, __VA_ARGS__)                                                                             \
    {                                                                                                        \
        return outcome(#name, fd) != 0 ? -1 : __real_##name arguments;                                       \
    }

SIMPLE(accept4, fd, (fd, a, size, flags), int fd, struct sockaddr *a, socklen_t *size, int flags)
SIMPLE(socket, -1, (family, type, protocol), int family, int type, int protocol)
SIMPLE(bind, fd, (fd, a, size), int fd, const struct sockaddr *a, socklen_t size)
SIMPLE(listen, fd, (fd, n), int fd, int n)
SIMPLE(setsockopt, fd, (fd, l, o, v, n), int fd, int l, int o, const void *v, socklen_t n)
SIMPLE(getsockopt, fd, (fd, l, o, v, n), int fd, int l, int o, void *v, socklen_t *n)
SIMPLE(getsockname, fd, (fd, a, size), int fd, struct sockaddr *a, socklen_t *size)
SIMPLE(getpeername, fd, (fd, a, size), int fd, struct sockaddr *a, socklen_t *size)
SIMPLE(epoll_create1, -1, (flags), int flags)
SIMPLE(epoll_ctl, fd, (fd, verb, of, e), int fd, int verb, int of, struct epoll_event *e)
SIMPLE(fcntl, fd, (fd, verb, value), int fd, int verb, long value)
SIMPLE(open, -1, (path, flags, mode), const char *path, int flags, int mode)
SIMPLE(fstat, fd, (fd, s), int fd, struct stat *s)
SIMPLE(stat, -1, (path, s), const char *path, struct stat *s)

WRAP(DIR *, opendir, const char *path)
{
    return outcome("opendir", -1) != 0 ? NULL : __real_opendir(path);
}

/* ---- the Lua module ---- */

static int number_of(lua_State *L, const char *name)
{
    for (size_t i = 0; i < sizeof results / sizeof *results; i++)
        if (strcmp(results[i].name, name) == 0) {
            lasts = results[i].lasts;
            return results[i].number;
        }
    return luaL_error(L, "no result is called %s", name);
}

static int inject_arm(lua_State *L)
{
    static char what[32];
    strncpy(what, luaL_checkstring(L, 1), sizeof what - 1);
    first = left = luaL_checkinteger(L, 2);
    times = COTLS_RESUMABLE && strcmp(what, "lua") == 0 ? 2 : 1; /* since 5.2 Lua tries again */
    lasts = false;
    result = lua_isnoneornil(L, 3) ? 0 : number_of(L, luaL_checkstring(L, 3));
    armed = what;
    return 0;
}

static int inject_disarm(lua_State *L)
{
    armed = NULL;
    lua_pushboolean(L, left <= 0);
    lua_pushinteger(L, first - left);
    return 2;
}

static int inject_ready(lua_State *L)
{
    struct pollfd p = {.fd = (int)luaL_checkinteger(L, 1), .events = lua_toboolean(L, 2) ? POLLOUT : POLLIN};
    lua_pushboolean(L, __real_poll(&p, 1, 0) != 0);
    return 1;
}

static int inject_live(lua_State *L)
{
    lua_pushinteger(L, live_openssl);
    lua_pushinteger(L, live_module);
    return 2;
}

static int inject_queue(lua_State *L)
{
    char text[256];
    unsigned long code = ERR_peek_error();
    ERR_error_string_n(code, text, sizeof text);
    ERR_clear_error();
    lua_pushstring(L, code != 0 ? text : NULL);
    return 1;
}

__attribute__((weak)) int __lsan_do_recoverable_leak_check(void);

static int inject_leaks(lua_State *L)
{
    lua_pushboolean(L, __lsan_do_recoverable_leak_check != NULL && __lsan_do_recoverable_leak_check() != 0);
    return 1;
}

static bool sign(const char *scheme, const char *digest, EVP_PKEY *key, const void *message, size_t n,
                 unsigned char *out, size_t *size)
{
    EVP_PKEY_CTX *padding;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = key != NULL && EVP_DigestSignInit_ex(ctx, &padding, digest, NULL, NULL, key, NULL) == 1 &&
              (strcmp(scheme, "rsa_pss") != 0 ||
               (EVP_PKEY_CTX_set_rsa_padding(padding, RSA_PKCS1_PSS_PADDING) == 1 &&
                EVP_PKEY_CTX_set_rsa_pss_saltlen(padding, RSA_PSS_SALTLEN_DIGEST) == 1)) &&
              EVP_DigestSign(ctx, out, size, message, n) == 1;
    EVP_MD_CTX_free(ctx);
    return ok;
}

static int inject_sign(lua_State *L)
{
    unsigned char out[1024];
    size_t n, pem_size, size = sizeof out;
    const char *pem = luaL_checklstring(L, 1, &pem_size), *message = luaL_checklstring(L, 4, &n);
    const char *scheme = luaL_checkstring(L, 2), *digest = luaL_optstring(L, 3, NULL);
    const char *what = armed;
    armed = NULL;
    BIO *bio = BIO_new_mem_buf(pem, (int)pem_size);
    EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
    bool ok = sign(scheme, digest, key, message, n, out, &size);
    EVP_PKEY_free(key);
    BIO_free(bio);
    armed = what;
    if (!ok)
        return luaL_error(L, "no signature");
    lua_pushlstring(L, (const char *)out, size);
    return 1;
}

__attribute__((visibility("default"))) int luaopen_inject(lua_State *L);

int luaopen_inject(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"arm", inject_arm},     {"disarm", inject_disarm}, {"live", inject_live}, {"ready", inject_ready},
        {"queue", inject_queue}, {"leaks", inject_leaks},   {"sign", inject_sign}, {"places", places_round},
        {"known", places_known}, {"spare", places_spare},   {NULL, NULL}};
    void *ud;
    if (!CRYPTO_set_mem_functions(for_openssl, more_for_openssl, from_openssl))
        return luaL_error(L, "OpenSSL has allocated already");
    luaL_newlib(L, functions);
    allocate = lua_getallocf(L, &ud);
    lua_setallocf(L, for_lua, ud);
    return 1;
}
