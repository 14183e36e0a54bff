/*
 * SPDX-License-Identifier: MIT
 *
 * The load: a fleet of TLS 1.3 clients of one server, driven by one epoll loop. A client is a step function
 * that runs when its socket is readable; the fleet counts operations and stops at their total or at a
 * deadline. What clients send is so small that it always fits the socket, so nothing waits for writability.
 *
 * Clients end with a reset once the server has closed: no TIME_WAIT, so ports never run out.
 */
#define _GNU_SOURCE
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

enum { EVENTS = 256, RAMP = 32, REQUEST = 64, SCRATCH = 65536 };

struct client {
    struct fleet *fleet;
    SSL *ssl;
    int fd;
    bool (*step)(struct client *);
    size_t got;
};

struct fleet {
    int port;
    int epoll_fd;
    double limit, deadline;
    size_t capacity, held;
    size_t started, finished, total;
    bool (*ready)(struct client *);
    bool (*after)(struct client *);
    bool resumed;
    SSL_SESSION *ticket;
    struct client clients[];
};

static SSL_CTX *context;
static char message[MESSAGE];
static char scratch[SCRATCH];

/* One client */

/* The first ticket of a fleet is enough: the servers' tickets are stateless and may be used again. */
static int keep_ticket(SSL *ssl, SSL_SESSION *session)
{
    struct client *c = SSL_get_app_data(ssl);
    if (c->fleet->ticket != NULL)
        return 0;
    c->fleet->ticket = session;
    return 1;
}

static bool fail_tls(const struct client *c, const char *what, int result)
{
    int error = SSL_get_error(c->ssl, result);
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    if (error == SSL_ERROR_ZERO_RETURN)
        reason = "the server closed the connection";
    else if (error == SSL_ERROR_SYSCALL)
        reason = errno != 0 ? strerror(errno) : "the connection ended";
    return fail("%s: %s", what, reason != NULL ? reason : "error");
}

static bool wants_more(const struct client *c, int result)
{
    int error = SSL_get_error(c->ssl, result);
    return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE;
}

static int client_read(struct client *c, size_t size)
{
    ERR_clear_error();
    return SSL_read(c->ssl, scratch, (int)(size < SCRATCH ? size : SCRATCH));
}

static bool client_say(struct client *c, const void *data, size_t size)
{
    ERR_clear_error();
    int result = SSL_write(c->ssl, data, (int)size);
    return result == (int)size || fail_tls(c, "send", result);
}

static void client_end(struct client *c)
{
    struct linger reset = {.l_onoff = 1, .l_linger = 0};
    if (c->fd < 0)
        return;
    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(c->fd);
    SSL_free(c->ssl);
    c->fd = -1;
    c->ssl = NULL;
}

/* A held connection has nothing to say but late tickets. */
static bool step_quiet(struct client *c)
{
    int n = client_read(c, SCRATCH);
    return (n < 0 && wants_more(c, n)) || fail_tls(c, "a held connection", n);
}

static bool step_handshake(struct client *c)
{
    ERR_clear_error();
    int result = SSL_connect(c->ssl);
    if (result == 1)
        return c->fleet->ready(c);
    return wants_more(c, result) || fail_tls(c, "handshake", result);
}

/* Source addresses are spread over 127.0.0.x, so that one server port can hold more than the local ports. */
static int dial(int port, size_t slot)
{
    struct sockaddr_in from = {.sin_family = AF_INET,
                               .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK + 1 + slot % SPREAD)}};
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port),
                             .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    struct timeval patience = {.tv_sec = 5, .tv_usec = 0};
    int one = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (bind(fd, (struct sockaddr *)&from, sizeof from) != 0 ||
        connect(fd, (struct sockaddr *)&to, sizeof to) != 0 || fcntl(fd, F_SETFL, O_NONBLOCK) != 0) {
        int saved = errno;
        close(fd);
        errno = saved;
        return -1;
    }
    return fd;
}

/* OpenSSL marks a TLS 1.3 session as used up after one handshake; a copy of it is not. */
static bool offer_ticket(struct client *c)
{
    SSL_SESSION *copy = SSL_SESSION_dup(c->fleet->ticket);
    bool ok = copy != NULL && SSL_set_session(c->ssl, copy) == 1;
    SSL_SESSION_free(copy);
    return ok || fail("can't offer the ticket");
}

static bool client_start(struct client *c)
{
    struct fleet *f = c->fleet;
    struct epoll_event event = {.events = EPOLLIN, .data = {.ptr = c}};
    c->fd = dial(f->port, (size_t)(c - f->clients));
    if (c->fd < 0)
        return fail("connect: %s", strerror(errno));
    c->ssl = SSL_new(context);
    if (c->ssl == NULL || SSL_set_fd(c->ssl, c->fd) != 1 || SSL_set_app_data(c->ssl, c) != 1)
        return fail("SSL_new failed");
    if (f->resumed && !offer_ticket(c))
        return false;
    if (epoll_ctl(f->epoll_fd, EPOLL_CTL_ADD, c->fd, &event) != 0)
        return fail("epoll_ctl: %s", strerror(errno));
    c->got = 0;
    c->step = step_handshake;
    return step_handshake(c);
}

/* The loop */

static bool fleet_run(struct fleet *f)
{
    struct epoll_event events[EVENTS];
    while (f->finished < f->total) {
        double left = f->deadline - seconds_now();
        if (left <= 0)
            return fail("timed out after %zu of %zu", f->finished, f->total);
        int n = epoll_wait(f->epoll_fd, events, EVENTS, (int)(left * 1000) + 1);
        if (n < 0 && errno != EINTR)
            return fail("epoll_wait: %s", strerror(errno));
        for (int i = 0; i < n; i++) {
            struct client *c = events[i].data.ptr;
            if (!c->step(c))
                return false;
        }
    }
    return true;
}

static void fleet_goal(struct fleet *f, size_t total)
{
    f->started = f->finished = 0;
    f->total = total;
    f->deadline = seconds_now() + f->limit;
}

/* Starting clients: the next idle slot each time one is done, `at_once` in the beginning. */

static bool start_next(struct fleet *f)
{
    if (f->started == f->total)
        return true;
    return client_start(&f->clients[f->held + f->started++]);
}

static bool fleet_start(struct fleet *f, size_t at_once)
{
    for (size_t i = 0; i < at_once; i++)
        if (!start_next(f))
            return false;
    return true;
}

/* Handshakes: connect, handshake, close_notify, wait for the server's end; again in the same slot. */

static bool again_handshake(struct client *c)
{
    struct fleet *f = c->fleet;
    client_end(c);
    f->finished++;
    if (f->started == f->total)
        return true;
    f->started++;
    return client_start(c);
}

static bool step_end(struct client *c)
{
    ssize_t n = recv(c->fd, scratch, SCRATCH, 0);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return true;
    return c->fleet->after(c);
}

static bool step_farewell(struct client *c)
{
    int n = client_read(c, SCRATCH);
    if (n > 0)
        return fail("data after a handshake");
    if (wants_more(c, n))
        return true;
    c->step = step_end;
    return step_end(c);
}

static bool client_farewell(struct client *c)
{
    ERR_clear_error();
    int result = SSL_shutdown(c->ssl);
    c->step = step_farewell;
    return result >= 0 || fail_tls(c, "close_notify", result);
}

static bool ready_handshake(struct client *c)
{
    if (c->fleet->resumed && !SSL_session_reused(c->ssl))
        return fail("the server did not resume the session");
    return client_farewell(c);
}

bool fleet_handshakes(struct fleet *f, size_t at_once, size_t total, bool resumed)
{
    if (resumed && f->ticket == NULL)
        return fail("the server sent no ticket");
    f->resumed = resumed;
    f->ready = ready_handshake;
    f->after = again_handshake;
    fleet_goal(f, total);
    while (f->started < at_once && f->started < total)
        if (!client_start(&f->clients[f->started++]))
            return false;
    return fleet_run(f);
}

/* Echo */

static bool step_echo(struct client *c)
{
    int n = client_read(c, MESSAGE - c->got);
    if (n <= 0)
        return wants_more(c, n) || fail_tls(c, "echo", n);
    if (memcmp(scratch, message + c->got, (size_t)n) != 0)
        return fail("the echo differs from what was sent");
    c->got += (size_t)n;
    if (c->got < MESSAGE)
        return step_echo(c);
    c->fleet->finished++;
    c->step = step_quiet;
    return c->fleet->after(c);
}

static bool client_echo(struct client *c)
{
    c->got = 0;
    c->step = step_echo;
    return client_say(c, message, MESSAGE);
}

static bool again_echo(struct client *c)
{
    struct fleet *f = c->fleet;
    if (f->started == f->total)
        return true;
    f->started++;
    return client_echo(c);
}

static bool after_hold(struct client *c)
{
    return start_next(c->fleet);
}

/* Raises the number of held connections to `count`; each has echoed once, so its server side waits in a read. */
bool fleet_hold(struct fleet *f, size_t count)
{
    f->ready = client_echo;
    f->after = after_hold;
    fleet_goal(f, count - f->held);
    if (!fleet_start(f, RAMP) || !fleet_run(f))
        return false;
    f->held = count;
    return true;
}

/* One message in flight on each of `spread_over` connections, chosen evenly among those held. */
bool fleet_echo(struct fleet *f, size_t spread_over, size_t total)
{
    size_t stride = f->held / spread_over;
    f->after = again_echo;
    fleet_goal(f, total);
    for (size_t i = 0; i < spread_over && f->started < total; i++) {
        f->started++;
        if (!client_echo(&f->clients[i * stride]))
            return false;
    }
    return fleet_run(f);
}

/* Bulk */

static bool ready_open(struct client *c)
{
    c->fleet->finished++;
    c->step = step_quiet;
    return start_next(c->fleet);
}

/* Connections that have not chosen yet what they are for. */
bool fleet_open(struct fleet *f, size_t count)
{
    f->ready = ready_open;
    fleet_goal(f, count - f->held);
    if (!fleet_start(f, RAMP) || !fleet_run(f))
        return false;
    f->held = count;
    return true;
}

static bool bulk_request(struct client *c);

static bool step_bulk(struct client *c)
{
    struct fleet *f = c->fleet;
    while (c->got < (size_t)REQUEST * BLOCK) {
        int n = client_read(c, (size_t)REQUEST * BLOCK - c->got);
        if (n <= 0)
            return wants_more(c, n) || fail_tls(c, "bulk", n);
        c->got += (size_t)n;
    }
    f->finished += REQUEST;
    c->step = step_quiet;
    return f->started >= f->total || bulk_request(c);
}

static bool bulk_request(struct client *c)
{
    char request[16];
    int size = snprintf(request, sizeof request, "B%d\n", REQUEST);
    c->fleet->started += REQUEST;
    c->got = 0;
    c->step = step_bulk;
    return client_say(c, request, (size_t)size);
}

/* Blocks come in requests of REQUEST; a total that isn't a multiple is rounded up by the last request. */
bool fleet_bulk(struct fleet *f, size_t blocks)
{
    fleet_goal(f, (blocks + REQUEST - 1) / REQUEST * REQUEST);
    for (size_t i = 0; i < f->held && f->started < f->total; i++)
        if (!bulk_request(&f->clients[i]))
            return false;
    return fleet_run(f);
}

/* A full garbage collection, asked for on a connection of its own that is gone when this returns. */

static bool after_collect(struct client *c)
{
    client_end(c);
    c->fleet->finished++;
    return true;
}

static bool step_collected(struct client *c)
{
    int n = client_read(c, 1);
    if (n <= 0)
        return wants_more(c, n) || fail_tls(c, "collect", n);
    return client_farewell(c);
}

static bool ready_collect(struct client *c)
{
    c->step = step_collected;
    return client_say(c, "G\n", 2);
}

bool fleet_collect(struct fleet *f)
{
    f->ready = ready_collect;
    f->after = after_collect;
    fleet_goal(f, 1);
    return client_start(&f->clients[f->capacity]) && fleet_run(f);
}

/* Life */

/* One suite and one group are offered, so that every server does the same arithmetic. */
bool client_setup(void)
{
    memset(message, 'e', sizeof message);
    message[0] = 'E';
    context = SSL_CTX_new(TLS_client_method());
    if (context == NULL || SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_ciphersuites(context, "TLS_AES_256_GCM_SHA384") != 1 ||
        SSL_CTX_set1_groups_list(context, "X25519") != 1)
        return fail("can't make the client's context");
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_read_ahead(context, 1);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(context, keep_ticket);
    return true;
}

void client_teardown(void)
{
    SSL_CTX_free(context);
}

/* A slot more than the capacity: the one for collecting. */
struct fleet *fleet_new(int port, size_t capacity, double limit)
{
    struct fleet *f = calloc(1, sizeof *f + (capacity + 1) * sizeof f->clients[0]);
    if (f == NULL)
        return NULL;
    f->port = port;
    f->capacity = capacity;
    f->limit = limit;
    f->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    for (size_t i = 0; i <= capacity; i++) {
        f->clients[i].fleet = f;
        f->clients[i].fd = -1;
    }
    return f;
}

void fleet_free(struct fleet *f)
{
    if (f == NULL)
        return;
    for (size_t i = 0; i <= f->capacity; i++)
        client_end(&f->clients[i]);
    SSL_SESSION_free(f->ticket);
    close(f->epoll_fd);
    free(f);
}
