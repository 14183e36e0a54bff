/* SPDX-License-Identifier: MIT
 * What the fuzzer's targets need and Lua does not have. */
#ifndef FUZZ_TOOLS_H
#define FUZZ_TOOLS_H

#include <lauxlib.h>
#include <lua.h>

int fuzz_tools_open(lua_State *L);

#endif
