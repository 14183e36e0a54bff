/* SPDX-License-Identifier: MIT
 * Bytes that wait between two calls. A connection's bytes lie in a scratch that
 * all connections of the Lua state share, until another connection needs it:
 * then they are moved to the heap, and to nobody's loss nothing was copied in
 * the common case, where a record is taken whole. An idle connection holds no
 * buffer. Knows nothing of Lua and TLS. */
#include "cotls.h"

#include <stdlib.h>
#include <string.h>

static bool reserve(struct cotls_buf *b, size_t n)
{
    size_t length = cotls_buf_length(b), cap = b->cap > 0 ? b->cap : 256;
    if (b->pos > 0) {
        memmove(b->data, b->data + b->pos, length);
        b->pos = 0;
        b->len = length;
    }
    if (b->cap - length >= n)
        return true;
    while (cap - length < n) {
        if (cap > SIZE_MAX / 2)
            return false;
        cap *= 2;
    }
    unsigned char *data = realloc(b->data, cap);
    if (data == NULL)
        return false;
    b->data = data;
    b->cap = cap;
    return true;
}

/* n bytes that the caller keeps until they are consumed; b must hold none. */
void cotls_buf_lend(struct cotls_buf *b, const void *data, size_t n)
{
    cotls_buf_free(b);
    *b =
        (struct cotls_buf){.data = (unsigned char *)(uintptr_t)data, .len = n, .lent = true, .lost = b->lost};
}

/* Moves what b holds in its scratch to the heap, with room for n more bytes. */
static bool move_out(struct cotls_buf *b, size_t n)
{
    struct cotls_buf heap = {.lost = b->lost};
    size_t length = cotls_buf_length(b);
    bool kept =
        length == 0 || (reserve(&heap, length + n) && cotls_buf_append(&heap, cotls_buf_bytes(b), length));
    b->scratch->owner = NULL;
    *b = heap;
    b->lost = b->lost || !kept;
    return kept;
}

static void take(struct cotls_buf *b, struct cotls_scratch *s)
{
    if (s->owner != NULL && s->owner != b)
        move_out(s->owner, 0);
    s->owner = b;
    *b = (struct cotls_buf){.data = s->data, .scratch = s, .cap = s->size, .lost = b->lost};
}

/* Room for n bytes behind what b holds: in the scratch where they fit, else on
 * the heap. The caller adds to b->len what it filled in. NULL: no memory. */
unsigned char *cotls_buf_room(struct cotls_buf *b, struct cotls_scratch *s, size_t n)
{
    if (cotls_buf_length(b) == 0 && n <= s->size) {
        cotls_buf_free(b);
        take(b, s);
    }
    if (b->scratch != NULL && b->cap - cotls_buf_length(b) < n && !move_out(b, n))
        return NULL;
    if (b->cap - b->len < n && !reserve(b, n))
        return NULL;
    return b->data + b->len;
}

/* To the heap only: output has no scratch. */
bool cotls_buf_append(struct cotls_buf *b, const void *data, size_t n)
{
    if (b->cap - b->len < n && !reserve(b, n))
        return false;
    memcpy(b->data + b->len, data, n);
    b->len += n;
    return true;
}

void cotls_buf_consume(struct cotls_buf *b, size_t n)
{
    if (n < cotls_buf_length(b))
        b->pos += n;
    else /* or it was lost meanwhile */
        cotls_buf_free(b);
}

void cotls_buf_free(struct cotls_buf *b)
{
    bool lost = b->lost;
    if (b->scratch == NULL && !b->lent)
        free(b->data);
    else if (b->scratch != NULL && b->scratch->owner == b)
        b->scratch->owner = NULL;
    *b = (struct cotls_buf){.lost = lost};
}
