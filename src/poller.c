/* SPDX-License-Identifier: MIT
 * A set of watched descriptors: epoll(7), which the loop watches as one
 * descriptor of its own. Watching a connection so costs one system call, and
 * libuv's handles, which cost six and report a reset on standard error in luv,
 * are not needed. Where there is no epoll, core.poller does not exist and
 * cotls.watch uses those handles. Never waits. */
#include "cotls.h"

#ifdef __linux__

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define POLLER "cotls.poller"
#define BATCH 256

struct poller {
    int fd; /* -1: closed */
};

/* core.poller() → poller, or nil, err */
static int new_poller(lua_State *L)
{
    struct poller *p = lua_newuserdatauv(L, sizeof *p, 0);
    p->fd = -1;
    luaL_setmetatable(L, POLLER);
    p->fd = epoll_create1(EPOLL_CLOEXEC);
    if (p->fd >= 0)
        return 1;
    return cotls_fail_system(L, "poller", errno);
}

static struct poller *check_poller(lua_State *L)
{
    return luaL_checkudata(L, 1, POLLER);
}

static int poller_fileno(lua_State *L)
{
    lua_pushinteger(L, check_poller(L)->fd);
    return 1;
}

/* p:watch(fd, mask, watched): mask is "r", "w", "rw", or nil for nothing; watched
 * says whether fd is in the set now → true; or nil, reason */
static int poller_watch(lua_State *L)
{
    const struct poller *p = check_poller(L);
    int fd = (int)luaL_checkinteger(L, 2);
    const char *mask = luaL_optstring(L, 3, "");
    struct epoll_event event = {.data.fd = fd};
    if (strchr(mask, 'r') != NULL)
        event.events |= EPOLLIN;
    if (strchr(mask, 'w') != NULL)
        event.events |= EPOLLOUT;
    int verb = event.events == 0 ? EPOLL_CTL_DEL : lua_toboolean(L, 4) ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    if (epoll_ctl(p->fd, verb, fd, &event) == 0) {
        lua_pushboolean(L, 1);
        return 1;
    }
    lua_pushnil(L);
    lua_pushstring(L, strerror(errno));
    return 2;
}

/* p:deliver(on_event): calls on_event(fd, "r", "w" or "rw") for what is ready now. */
static int poller_deliver(lua_State *L)
{
    const struct poller *p = check_poller(L);
    struct epoll_event events[BATCH];
    int n = epoll_wait(p->fd, events, BATCH, 0);
    for (int i = 0; i < n; i++) {
        uint32_t e = events[i].events, gone = e & (EPOLLERR | EPOLLHUP);
        lua_pushvalue(L, 2);
        lua_pushinteger(L, events[i].data.fd);
        if (gone || (e & (EPOLLIN | EPOLLOUT)) == (EPOLLIN | EPOLLOUT))
            lua_pushliteral(L, "rw");
        else
            lua_pushstring(L, e & EPOLLIN ? "r" : "w");
        lua_call(L, 2, 0);
    }
    return 0;
}

static int poller_close(lua_State *L)
{
    struct poller *p = check_poller(L);
    int fd = p->fd;
    p->fd = -1;
    if (fd >= 0)
        close(fd);
    return 0;
}

static const luaL_Reg functions[] = {{"poller", new_poller}, {NULL, NULL}};

const luaL_Reg *cotls_poller_open(lua_State *L)
{
    static const luaL_Reg meta[] = {{"__gc", poller_close}, {NULL, NULL}};
    static const luaL_Reg meth[] = {
        {"fileno", poller_fileno},
        {"watch", poller_watch},
        {"deliver", poller_deliver},
        {"close", poller_close},
        {NULL, NULL},
    };
    cotls_new_class(L, POLLER, meta, meth);
    return functions;
}

#else

const luaL_Reg *cotls_poller_open(lua_State *L)
{
    static const luaL_Reg none[] = {{NULL, NULL}};
    (void)L;
    return none;
}

#endif
