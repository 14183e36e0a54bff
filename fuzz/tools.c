/* SPDX-License-Identifier: MIT
 * The module fuzz.tools: sockets to put bytes before a connection, and the
 * records of a TLS 1.3 peer that keeps to no protocol: any content under the
 * right keys (RFC 8446 sections 5.2 and 7.3, TLS_AES_128_GCM_SHA256).
 *   tools.socketpair()                  two non-blocking descriptors
 *   tools.send(fd, bytes)               how many it took
 *   tools.receive(fd)                   what is there; nil: nothing, or the end
 *   tools.close(fd)
 *   tools.seal(secret, n, type, bytes)  the n-th record (from 0) under a traffic secret */
#include "tools.h"

#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define KEY 16
#define NONCE 12
#define TAG 16
#define HEADER 5
#define PLAINTEXT (16384 + 1)

static int make_socketpair(lua_State *L)
{
    int fd[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd) != 0)
        return luaL_error(L, "no socketpair");
    lua_pushinteger(L, fd[0]);
    lua_pushinteger(L, fd[1]);
    return 2;
}

static int socket_send(lua_State *L)
{
    size_t n;
    const char *data = luaL_checklstring(L, 2, &n);
    lua_pushinteger(L, send((int)luaL_checkinteger(L, 1), data, n, MSG_NOSIGNAL));
    return 1;
}

static int socket_receive(lua_State *L)
{
    static char room[65536];
    ssize_t n = recv((int)luaL_checkinteger(L, 1), room, sizeof room, 0);
    if (n <= 0)
        return 0;
    lua_pushlstring(L, room, (size_t)n);
    return 1;
}

static int socket_close(lua_State *L)
{
    close((int)luaL_checkinteger(L, 1));
    return 0;
}

/* HKDF-Expand-Label(secret, label, "", n) */
static bool expand(const char *secret, size_t size, const char *label, unsigned char *out, size_t n)
{
    unsigned char info[32];
    size_t length = strlen(label), at = 0;
    int mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY;
    char digest[] = "SHA256";
    info[at++] = 0;
    info[at++] = (unsigned char)n;
    info[at++] = (unsigned char)(6 + length);
    memcpy(info + at, "tls13 ", 6);
    memcpy(info + at + 6, label, length);
    at += 6 + length;
    info[at++] = 0;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_int("mode", &mode),
        OSSL_PARAM_construct_utf8_string("digest", digest, 0),
        OSSL_PARAM_construct_octet_string("key", (void *)(uintptr_t)secret, size),
        OSSL_PARAM_construct_octet_string("info", info, at),
        OSSL_PARAM_construct_end(),
    };
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
    EVP_KDF_CTX *ctx = EVP_KDF_CTX_new(kdf);
    bool done = EVP_KDF_derive(ctx, out, n, params) == 1;
    EVP_KDF_CTX_free(ctx);
    EVP_KDF_free(kdf);
    return done;
}

static int seal(lua_State *L)
{
    static unsigned char record[HEADER + PLAINTEXT + TAG];
    unsigned char key[KEY], nonce[NONCE], inner = (unsigned char)luaL_checkinteger(L, 3);
    size_t size, n;
    int done = 0;
    const char *secret = luaL_checklstring(L, 1, &size), *data = luaL_checklstring(L, 4, &n);
    uint64_t sequence = (uint64_t)luaL_checkinteger(L, 2);
    luaL_argcheck(L, n < PLAINTEXT, 4, "too long for a record");
    if (!expand(secret, size, "key", key, KEY) || !expand(secret, size, "iv", nonce, NONCE))
        return luaL_error(L, "no keys");
    for (int i = 0; i < 8; i++)
        nonce[NONCE - 1 - i] ^= (unsigned char)(sequence >> (8 * i));
    size_t length = n + 1 + TAG;
    memcpy(record, (unsigned char[]){23, 3, 3, (unsigned char)(length >> 8), (unsigned char)length}, HEADER);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    EVP_EncryptInit_ex(ctx, EVP_aes_128_gcm(), NULL, key, nonce);
    EVP_EncryptUpdate(ctx, NULL, &done, record, HEADER);
    EVP_EncryptUpdate(ctx, record + HEADER, &done, (const unsigned char *)data, (int)n);
    EVP_EncryptUpdate(ctx, record + HEADER + n, &done, &inner, 1);
    EVP_EncryptFinal_ex(ctx, record + HEADER + n + 1, &done);
    EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, TAG, record + HEADER + n + 1);
    EVP_CIPHER_CTX_free(ctx);
    lua_pushlstring(L, (const char *)record, HEADER + length);
    return 1;
}

int fuzz_tools_open(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"socketpair", make_socketpair}, {"send", socket_send}, {"receive", socket_receive},
        {"close", socket_close},         {"seal", seal},        {NULL, NULL},
    };
    luaL_newlib(L, functions);
    return 1;
}
