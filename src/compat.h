/* SPDX-License-Identifier: MIT
 * The only file with version conditions: what differs between the versions of
 * Lua and OpenSSL that cotls builds with is given one name here. */
#ifndef COTLS_COMPAT_H
#define COTLS_COMPAT_H

#include <lauxlib.h>
#include <lua.h>
#include <openssl/opensslv.h>
#include <openssl/ssl.h>
#include <stdbool.h>

#if LUA_VERSION_NUM < 501 || LUA_VERSION_NUM == 502
#error "cotls needs Lua 5.4, 5.3, 5.1 or LuaJIT 2.1"
#endif

/* Can a C function go on after a yield? Where not, cotls/loop.lua waits for it. */
#if LUA_VERSION_NUM > 501
#define COTLS_RESUMABLE true
#else
#define COTLS_RESUMABLE false
#include "compat51.h"
#endif

#if LUA_VERSION_NUM < 504
#include "compat53.h"
#endif

#if OPENSSL_VERSION_NUMBER < 0x30000000L
#error "cotls needs OpenSSL 3.0 or later"
#endif

/* Options of later versions: 0 is none. */
#ifndef SSL_OP_LEGACY_EC_POINT_FORMATS
#define SSL_OP_LEGACY_EC_POINT_FORMATS 0
#endif
#ifndef SSL_OP_NO_RX_CERTIFICATE_COMPRESSION
#define SSL_OP_NO_RX_CERTIFICATE_COMPRESSION 0
#endif
#ifndef SSL_OP_NO_TX_CERTIFICATE_COMPRESSION
#define SSL_OP_NO_TX_CERTIFICATE_COMPRESSION 0
#endif
#ifndef SSL_OP_PREFER_NO_DHE_KEX
#define SSL_OP_PREFER_NO_DHE_KEX 0
#endif

#endif
