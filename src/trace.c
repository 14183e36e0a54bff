/* SPDX-License-Identifier: MIT
 * What is told of a handshake afterwards. */
#include "cotls.h"

void cotls_trace_message(struct cotls_conn *c, bool sent, int version, int type, const void *data, size_t n)
{
    (void)c, (void)sent, (void)version, (void)type, (void)data, (void)n;
}
void cotls_keylog_write(const struct cotls_ctx *x, const char *line)
{
    (void)x, (void)line;
}
void cotls_removed_note(struct cotls_ctx *x, const SSL_SESSION *session)
{
    (void)x, (void)session;
}
void cotls_push_trace(lua_State *L, const struct cotls_conn *c, const struct cotls_event *e)
{
    (void)c, (void)e;
    lua_newtable(L);
}
