/* SPDX-License-Identifier: MIT
 * luaopen_cotls_core, and what the objects of one Lua state share: the scratch
 * buffers and the weak table of waiting coroutines. */
#include "cotls.h"

#include <arpa/inet.h>
#include <openssl/crypto.h>
#include <time.h>

/* Registry keys: their addresses. */
static const char state_key, threads_key;

#define CELL "cotls.cell"

struct cotls_state *cotls_state(lua_State *L)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, &state_key);
    struct cotls_state *st = lua_touserdata(L, -1);
    lua_pop(L, 1);
    return st;
}

void cotls_push_threads(lua_State *L)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, &threads_key);
}

/* Seconds of the monotonic clock. */
double cotls_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* A metatable with metamethods and, unless NULL, methods. [-0, +0] */
void cotls_new_class(lua_State *L, const char *name, const luaL_Reg *meta, const luaL_Reg *meth)
{
    luaL_newmetatable(L, name);
    luaL_setfuncs(L, meta, 0);
    if (meth != NULL) {
        lua_newtable(L);
        luaL_setfuncs(L, meth, 0);
        lua_setfield(L, -2, "__index");
    }
    lua_pop(L, 1);
}

void cotls_empty_cell(struct cotls_cell *cell)
{
    void *data = cell->data;
    cell->data = NULL;
    if (data != NULL)
        cell->release(data);
}

static int cell_gc(lua_State *L)
{
    cotls_empty_cell(luaL_checkudata(L, 1, CELL));
    return 0;
}

struct cotls_cell *cotls_push_cell(lua_State *L, void (*release)(void *data))
{
    struct cotls_cell *cell = lua_newuserdatauv(L, sizeof *cell, 0);
    *cell = (struct cotls_cell){NULL, release};
    luaL_setmetatable(L, CELL);
    return cell;
}

static int core_now(lua_State *L)
{
    lua_pushnumber(L, cotls_now());
    return 1;
}

static int core_is_error(lua_State *L)
{
    luaL_checkany(L, 1);
    lua_pushboolean(L, cotls_is_error(L, 1));
    return 1;
}

/* core.is_x509(value): a certificate object? */
static int core_is_x509(lua_State *L)
{
    luaL_checkany(L, 1);
    lua_pushboolean(L, cotls_test_x509(L, 1) != NULL);
    return 1;
}

/* core.is_ip(text): an IPv4 or IPv6 address? */
static int core_is_ip(lua_State *L)
{
    struct in6_addr a;
    const char *text = luaL_checkstring(L, 1);
    lua_pushboolean(L, inet_pton(AF_INET, text, &a) == 1 || inet_pton(AF_INET6, text, &a) == 1);
    return 1;
}

/* core.methods(class): its table of methods, for those that are written in Lua. */
static int core_methods(lua_State *L)
{
    luaL_getmetatable(L, luaL_checkstring(L, 1));
    luaL_argcheck(L, lua_istable(L, -1), 1, "no such class");
    lua_getfield(L, -1, "__index");
    return 1;
}

/* Once: connections keep the state's address, and the module may be opened again. */
static void make_state(lua_State *L)
{
    if (cotls_state(L) != NULL)
        return;
    struct cotls_state *st = lua_newuserdatauv(L, sizeof *st, 0);
    st->carry = NULL;
    st->cipher = (struct cotls_scratch){NULL, st->cipher_data, sizeof st->cipher_data};
    st->plain = (struct cotls_scratch){NULL, st->plain_data, sizeof st->plain_data};
    st->outgoing = (struct cotls_scratch){NULL, st->outgoing_data, sizeof st->outgoing_data};
    lua_rawsetp(L, LUA_REGISTRYINDEX, &state_key);

    lua_newtable(L);
    lua_createtable(L, 0, 1);
    lua_pushliteral(L, "v");
    lua_setfield(L, -2, "__mode");
    lua_setmetatable(L, -2);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &threads_key);
}

static const luaL_Reg functions[] = {
    {"context", cotls_context},
    {"change_context", cotls_change_context},
    {"credential", cotls_credential},
    {"context_scheduler", cotls_context_scheduler},
    {"context_role", cotls_context_role},
    {"set_ocsp_response", cotls_set_ocsp_response},
    {"is_context", cotls_is_context},
    {"session", cotls_session},
    {"is_session", cotls_is_session},
    {"set_ticket_keys", cotls_set_ticket_keys},
    {"take_removed", cotls_take_removed},
    {"use_credential", cotls_use_credential},
    {"use_staple", cotls_use_staple},
    {"set_async", cotls_set_async},
    {"context_timeouts", cotls_context_timeouts},
    {"listed_ciphers", cotls_listed_ciphers},
    {"wrap", cotls_wrap},
    {"is_connection", cotls_is_connection},
    {"recv_until", cotls_recv_until},
    {"write_until", cotls_write_until},
    {"try_write", cotls_try_write},
    {"wait", cotls_wait},
    {"poll", cotls_poll},
    {"resume", cotls_resume},
    {"set_loop", cotls_set_loop},
    {"error", cotls_error_new},
    {"refused", cotls_error_refused},
    {"is_error", core_is_error},
    {"is_ip", core_is_ip},
    {"now", core_now},
    {"parse_client_hello", cotls_parse_client_hello},
    {"make_certificate", cotls_make_certificate},
    {"x509", cotls_x509},
    {"is_x509", core_is_x509},
    {"set_scheduler", cotls_set_scheduler},
    {"get_scheduler", cotls_get_scheduler},
    {"methods", core_methods},
    {NULL, NULL},
};

__attribute__((visibility("default"))) int luaopen_cotls_core(lua_State *L);

int luaopen_cotls_core(lua_State *L)
{
    static const luaL_Reg cell_meta[] = {{"__gc", cell_gc}, {NULL, NULL}};
    make_state(L);
    cotls_new_class(L, CELL, cell_meta, NULL);
    cotls_error_open(L);
    cotls_scheduler_open(L);
    cotls_stream_open(L);
    cotls_context_open(L);
    cotls_credential_open(L);
    cotls_connection_open(L);
    cotls_hello_open(L);
    cotls_session_open(L);
    cotls_socket_open(L);
    cotls_x509_open(L);
    luaL_newlib(L, functions);
    luaL_setfuncs(L, cotls_socket_functions, 0);
    luaL_setfuncs(L, cotls_poller_open(L), 0);
    lua_pushstring(L, OpenSSL_version(OPENSSL_VERSION_STRING));
    lua_setfield(L, -2, "openssl_version");
    lua_pushliteral(L, COTLS_VERSION);
    lua_setfield(L, -2, "version");
    cotls_luasec_open(L);
    cotls_loop_open(L);
    return 1;
}
