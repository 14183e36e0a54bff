/* SPDX-License-Identifier: MIT
 * The BIO over a socket's descriptor. Reading: one recv a record, into the
 * scratch that the Lua state's connections share. Writing never fails and never
 * wants: what the socket does not take at once is kept, in order, and the driver
 * flushes it, so OpenSSL never holds a half-sent record that a later call could
 * be mistaken for. A failed send is remembered; reading goes on, for the peer's
 * alert may still be there. Called by OpenSSL: touches no lua_State. */
#include "cotls.h"

#include <errno.h>
#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <string.h>

/* So often may one call of OpenSSL's receive: it goes on as long as a peer sends what is no data (key updates,
 * session tickets), and has one record, or one flight, to find. */
#define RECEIVES 4

/* ---- what both BIOs have ---- */

/* Gives OpenSSL of what was received. */
size_t cotls_bio_take(struct cotls_conn *c, char *data, size_t n)
{
    size_t length = cotls_buf_length(&c->cipher);
    if (n > length)
        n = length;
    memcpy(data, cotls_buf_bytes(&c->cipher), n);
    cotls_buf_consume(&c->cipher, n);
    return n;
}

static long ctrl(BIO *bio, int cmd, long num, void *ptr)
{
    const struct cotls_conn *c = BIO_get_data(bio);
    (void)num;
    switch (cmd) {
    case BIO_CTRL_FLUSH: /* the driver's */
        return 1;
    case BIO_CTRL_EOF:
        return c->at_eof;
    case BIO_CTRL_PENDING:
        return (long)cotls_buf_length(&c->cipher);
    case BIO_CTRL_WPENDING:
        return (long)cotls_buf_length(&c->out);
    case BIO_C_GET_FD:
        if (ptr != NULL)
            *(int *)ptr = c->fd;
        return c->fd;
    default:
        return 0;
    }
}

/* A method is the process's, for all Lua states and threads. NULL: no memory. */
BIO_METHOD *cotls_bio_method(const char *name,
                             int (*write)(BIO *bio, const char *data, size_t n, size_t *written),
                             int (*read)(BIO *bio, char *data, size_t n, size_t *got))
{
    BIO_METHOD *m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, name);
    if (m == NULL)
        return NULL;
    BIO_meth_set_write_ex(m, write);
    BIO_meth_set_read_ex(m, read);
    BIO_meth_set_ctrl(m, ctrl);
    return m;
}

/* The BIO does not own the connection; it must not outlive it. NULL: no memory. */
BIO *cotls_bio_new(struct cotls_conn *c, const BIO_METHOD *method)
{
    BIO *bio = method != NULL ? BIO_new(method) : NULL;
    if (bio != NULL) {
        BIO_set_data(bio, c);
        BIO_set_init(bio, 1);
    }
    return bio;
}

/* ---- the socket ---- */

/* Nothing can be sent any more. Where it is not the peer that is gone it may wait for ever for what
 * is missing, and so would this side for its answer: then nothing is read either. */
static void fail_sending(struct cotls_conn *c, int err)
{
    static const int gone[] = {EPIPE, ECONNRESET, ECONNABORTED, ENOTCONN, ETIMEDOUT};
    c->send_errno = err;
    for (size_t i = 0; i < sizeof gone / sizeof *gone; i++)
        if (gone[i] == err)
            return;
    c->cipher.lost = true;
}

/* Sends what the socket takes now; returns the count. */
static size_t send_now(struct cotls_conn *c, const unsigned char *data, size_t n)
{
    size_t sent = 0;
    while (sent < n && c->send_errno == 0) {
        ssize_t r = send(c->fd, data + sent, n - sent, MSG_NOSIGNAL);
        if (r >= 0)
            sent += (size_t)r;
        else if (errno == EAGAIN || errno == EWOULDBLOCK)
            break;
        else if (errno != EINTR)
            fail_sending(c, errno);
    }
    return sent;
}

int cotls_flush(struct cotls_conn *c)
{
    size_t length = cotls_buf_length(&c->out);
    if (c->stream)
        return cotls_stream_flush(c);
    if (length > 0 && c->send_errno == 0)
        cotls_buf_consume(&c->out, send_now(c, cotls_buf_bytes(&c->out), length));
    if (c->send_errno != 0) {
        cotls_buf_free(&c->out);
        return -1;
    }
    return cotls_buf_length(&c->out) == 0;
}

static int fd_write(BIO *bio, const char *data, size_t n, size_t *written)
{
    struct cotls_conn *c = BIO_get_data(bio);
    size_t sent = 0, waiting = cotls_buf_length(&c->out);
    BIO_clear_retry_flags(bio);
    if (c->dead)
        return 0;
    if (waiting > COTLS_OUTPUT_LIMIT) {
        BIO_set_retry_write(bio);
        return 0;
    }
    if (!c->hold && waiting == 0)
        sent = send_now(c, (const unsigned char *)data, n);
    if (c->send_errno == 0 && sent < n && !cotls_buf_append(&c->out, data + sent, n - sent))
        fail_sending(c, ENOMEM);
    c->bytes_out += n;
    *written = n;
    return 1;
}

/* Fills the empty c->cipher by one recv; 1, 0 (end) or -1. */
static int receive(struct cotls_conn *c)
{
    unsigned char *room = cotls_buf_room(&c->cipher, &c->st->cipher, COTLS_WIRE);
    ssize_t r;
    do
        r = recv(c->fd, room, COTLS_WIRE, 0);
    while (r < 0 && errno == EINTR);
    if (r > 0) {
        c->cipher.len += (size_t)r;
        c->bytes_in += (uint64_t)r;
        c->drained = r < COTLS_WIRE;
        return 1;
    }
    c->sys_errno = r < 0 ? errno : 0;
    c->at_eof = r == 0;
    return r < 0 ? -1 : 0;
}

static int fd_read(BIO *bio, char *data, size_t n, size_t *got)
{
    struct cotls_conn *c = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    *got = 0;
    if (c->cipher.lost || c->dead) {
        c->sys_errno = c->send_errno != 0 ? c->send_errno : ENOMEM;
        return 0;
    }
    if (cotls_buf_length(&c->cipher) == 0) {
        int r = 0;
        if (!c->drained && c->receives++ >= RECEIVES) {
            c->tired = true;
            BIO_set_retry_read(bio);
            return 0;
        }
        if (c->drained || (r = receive(c)) <= 0) {
            if (c->drained || (r < 0 && (c->sys_errno == EAGAIN || c->sys_errno == EWOULDBLOCK)))
                BIO_set_retry_read(bio);
            return 0;
        }
    }
    *got = cotls_bio_take(c, data, n);
    return 1;
}

static BIO_METHOD *method;

static void make_method(void)
{
    method = cotls_bio_method("cotls fd", fd_write, fd_read);
}

BIO *cotls_bio_fd(struct cotls_conn *c)
{
    static CRYPTO_ONCE once = CRYPTO_ONCE_STATIC_INIT;
    return CRYPTO_THREAD_run_once(&once, make_method) ? cotls_bio_new(c, method) : NULL;
}
