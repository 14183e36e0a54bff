/* SPDX-License-Identifier: MIT
 * The sessions that a client context remembers: so many at most, the ones that
 * were used longest ago go first. A session of TLS 1.3 is given out once, as
 * RFC 8446 appendix C.4 asks; one of TLS 1.2 as often as it is asked for.
 * Used inside OpenSSL's callbacks: touches no lua_State. */
#include "cotls.h"

#include <stdlib.h>
#include <string.h>

#define CAPACITY 1000 /* sessions */
#define PER_KEY 4     /* a server sends two tickets, or more */
#define BUCKETS 256   /* by the key's first byte: it is a digest */

struct entry {
    unsigned char key[COTLS_DIGEST];
    SSL_SESSION *session;
    struct entry *next;          /* in its bucket, the newest first */
    struct entry *older, *newer; /* of all */
};

struct cotls_cache {
    size_t count;
    struct entry *oldest, *newest;
    struct entry *buckets[BUCKETS];
};

struct cotls_cache *cotls_cache_new(void)
{
    return calloc(1, sizeof(struct cotls_cache));
}

/* The link in the bucket that points at the entry. */
static struct entry **link_of(struct cotls_cache *s, const struct entry *e)
{
    struct entry **link = &s->buckets[e->key[0]];
    while (*link != e)
        link = &(*link)->next;
    return link;
}

/* Takes the entry out and frees it; the session is the caller's. */
static SSL_SESSION *take_out(struct cotls_cache *s, struct entry *e)
{
    SSL_SESSION *session = e->session;
    *link_of(s, e) = e->next;
    *(e->older != NULL ? &e->older->newer : &s->oldest) = e->newer;
    *(e->newer != NULL ? &e->newer->older : &s->newest) = e->older;
    s->count--;
    free(e);
    return session;
}

static struct entry *find(struct entry *e, const unsigned char key[COTLS_DIGEST])
{
    while (e != NULL && memcmp(e->key, key, COTLS_DIGEST) != 0)
        e = e->next;
    return e;
}

static bool is_single_use(const SSL_SESSION *session)
{
    return SSL_SESSION_get_protocol_version(session) >= TLS1_3_VERSION;
}

/* Leaves room for one more under the key: of sessions that are used again and again the new one is enough. */
static void make_room(struct cotls_cache *s, const unsigned char key[COTLS_DIGEST], bool single_use)
{
    int keep = single_use ? PER_KEY - 1 : 0;
    struct entry *e = find(s->buckets[key[0]], key), *next;
    for (; e != NULL; e = next) {
        next = find(e->next, key);
        if (keep-- <= 0 || !is_single_use(e->session))
            SSL_SESSION_free(take_out(s, e));
    }
    if (s->count == CAPACITY)
        SSL_SESSION_free(take_out(s, s->oldest));
}

/* true: the reference is the cache's now; false: no memory */
bool cotls_cache_put(struct cotls_cache *s, const unsigned char key[COTLS_DIGEST], SSL_SESSION *session)
{
    struct entry *e = malloc(sizeof *e);
    if (e == NULL)
        return false;
    make_room(s, key, is_single_use(session));
    *e = (struct entry){.session = session, .next = s->buckets[key[0]], .older = s->newest};
    memcpy(e->key, key, COTLS_DIGEST);
    s->buckets[key[0]] = e;
    *(s->newest != NULL ? &s->newest->newer : &s->oldest) = e;
    s->newest = e;
    s->count++;
    return true;
}

/* The newest session under the key, the caller's to free, or NULL. What can't be resumed is thrown away. */
SSL_SESSION *cotls_cache_take(struct cotls_cache *s, const unsigned char key[COTLS_DIGEST])
{
    struct entry *e;
    while ((e = find(s->buckets[key[0]], key)) != NULL) {
        SSL_SESSION *session = e->session;
        bool usable = SSL_SESSION_is_resumable(session);
        if (usable && !is_single_use(session))
            return SSL_SESSION_up_ref(session) ? session : NULL;
        take_out(s, e);
        if (usable)
            return session;
        SSL_SESSION_free(session);
    }
    return NULL;
}

void cotls_cache_drop(struct cotls_cache *s, const unsigned char key[COTLS_DIGEST])
{
    struct entry *e;
    while ((e = find(s->buckets[key[0]], key)) != NULL)
        SSL_SESSION_free(take_out(s, e));
}

size_t cotls_cache_count(const struct cotls_cache *s)
{
    return s->count;
}

void cotls_cache_clear(struct cotls_cache *s)
{
    while (s->oldest != NULL)
        SSL_SESSION_free(take_out(s, s->oldest));
}

void cotls_cache_free(struct cotls_cache *s)
{
    if (s != NULL)
        cotls_cache_clear(s);
    free(s);
}
