/* SPDX-License-Identifier: MIT
 * A ClientHello as a Lua table. */
#include "cotls.h"

void cotls_push_hello(lua_State *L, struct cotls_conn *c)
{
    (void)c;
    lua_newtable(L);
}
