/* SPDX-License-Identifier: MIT
 * The BIO over a stream, which is moved by functions written in Lua. Neither
 * reads nor writes: what there is to read the driver has put into the
 * connection, lent by a Lua string; what is written is gathered there, and the
 * driver takes it away. So writing never fails and never wants, as in bio_fd.c.
 * Called by OpenSSL: touches no lua_State. */
#include "cotls.h"

#include <errno.h>
#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <string.h>

/* Behind somebody who writes there may be so much more, before it is waited for. */
#define BEHIND (256 * 1024)

/* How much may be left to whoever is at the stream's write? A reader is not held up by what others write: its peer
 * may be one that reads no more before it is read. */
static size_t behind(const struct cotls_conn *c)
{
    const struct cotls_slot *s = c->mover[WAY_WRITE];
    if (s == NULL || s->op == NULL)
        return 0;
    return s->op->slot == SLOT_WRITE || !c->parks ? BEHIND : 0;
}

/* What waits for the stream is whoever's at its write; with none, the next one's. */
int cotls_stream_flush(struct cotls_conn *c)
{
    if (c->out.lost && c->send_errno == 0) {
        c->send_errno = ENOMEM;
        c->cipher.lost = true;
    }
    if (c->send_errno != 0) {
        cotls_buf_free(&c->out);
        return -1;
    }
    return cotls_buf_length(&c->out) <= behind(c);
}

static int stream_write(BIO *bio, const char *data, size_t n, size_t *written)
{
    struct cotls_conn *c = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (c->dead)
        return 0;
    if (cotls_buf_length(&c->out) > COTLS_OUTPUT_LIMIT) {
        BIO_set_retry_write(bio);
        return 0;
    }
    if (c->send_errno == 0) {
        unsigned char *room = cotls_buf_room(&c->out, &c->st->outgoing, n);
        if (room != NULL) {
            memcpy(room, data, n);
            c->out.len += n;
        }
        c->out.lost = c->out.lost || room == NULL;
    }
    c->bytes_out += n;
    *written = n;
    return 1;
}

static int stream_read(BIO *bio, char *data, size_t n, size_t *got)
{
    struct cotls_conn *c = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    *got = 0;
    if (c->cipher.lost || c->dead) {
        c->sys_errno = c->send_errno != 0 ? c->send_errno : ENOMEM;
        return 0;
    }
    if (cotls_buf_length(&c->cipher) == 0) {
        c->sys_errno = c->broken ? COTLS_BROKEN(WAY_READ) : 0;
        if (!c->broken && !c->at_eof)
            BIO_set_retry_read(bio);
        return 0;
    }
    *got = cotls_bio_take(c, data, n);
    return 1;
}

static BIO_METHOD *method;

static void make_method(void)
{
    method = cotls_bio_method("cotls stream", stream_write, stream_read);
}

BIO *cotls_bio_stream(struct cotls_conn *c)
{
    static CRYPTO_ONCE once = CRYPTO_ONCE_STATIC_INIT;
    return CRYPTO_THREAD_run_once(&once, make_method) ? cotls_bio_new(c, method) : NULL;
}
