/*
 * SPDX-License-Identifier: MIT
 *
 * The yardstick: a plain C TLS server, one thread, level-triggered epoll, SSL_set_fd. It does the work of
 * the other servers of this folder with nothing in between, so that their cost can be told as a ratio.
 * Its socket and SSL settings are those of cotls, one for one: a difference here would measure the setting.
 * The wire protocol is in README.md.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

enum { BLOCK = 16384, EVENTS = 256 };

enum phase { HANDSHAKE, COMMAND, ECHO, BULK };

/* What a connection still has to send waits in `rest`; only a peer that doesn't read ever makes one. */
struct conn {
    SSL *ssl;
    int fd;
    enum phase phase;
    unsigned int armed;
    size_t blocks;
    char *rest;
    size_t rest_size;
};

enum outcome { AGAIN_READ, AGAIN_WRITE, GO_ON, OVER };

static int epoll_fd;
static char input[BLOCK];
static char block[BLOCK];

static void die(const char *what)
{
    fprintf(stderr, "yardstick: %s: %s\n", what, strerror(errno));
    ERR_print_errors_fp(stderr);
    exit(1);
}

/* A stale error would be taken for this call's, so each SSL call is preceded by ERR_clear_error. */
static enum outcome outcome_of(const struct conn *c, int result)
{
    switch (SSL_get_error(c->ssl, result)) {
    case SSL_ERROR_WANT_READ:
        return AGAIN_READ;
    case SSL_ERROR_WANT_WRITE:
        return AGAIN_WRITE;
    default:
        return OVER;
    }
}

static enum outcome conn_send(struct conn *c, const char *data, size_t size, size_t *sent)
{
    enum outcome result = GO_ON;
    *sent = 0;
    while (*sent < size && result == GO_ON) {
        size_t n = 0;
        ERR_clear_error();
        int ok = SSL_write_ex(c->ssl, data + *sent, size - *sent, &n);
        *sent += n;
        if (ok != 1)
            result = outcome_of(c, ok);
    }
    return result;
}

static enum outcome conn_keep(struct conn *c, const char *data, size_t size, enum outcome result)
{
    c->rest = malloc(size);
    if (c->rest == NULL)
        return OVER;
    memcpy(c->rest, data, size);
    c->rest_size = size;
    return result;
}

static enum outcome conn_say(struct conn *c, const char *data, size_t size)
{
    size_t sent;
    enum outcome result = conn_send(c, data, size, &sent);
    if (result == AGAIN_READ || result == AGAIN_WRITE)
        return conn_keep(c, data + sent, size - sent, result);
    return result;
}

static enum outcome conn_flush(struct conn *c)
{
    size_t sent;
    enum outcome result = conn_send(c, c->rest, c->rest_size, &sent);
    if (result == AGAIN_READ || result == AGAIN_WRITE) {
        memmove(c->rest, c->rest + sent, c->rest_size - sent);
        c->rest_size -= sent;
        return result;
    }
    free(c->rest);
    c->rest = NULL;
    return result;
}

static enum outcome conn_bulk(struct conn *c)
{
    while (c->blocks > 0) {
        size_t sent;
        enum outcome result = conn_send(c, block, BLOCK, &sent);
        if (result != GO_ON)
            return result;
        c->blocks--;
    }
    c->phase = COMMAND;
    return GO_ON;
}

static enum outcome conn_command(struct conn *c, size_t size)
{
    switch (input[0]) {
    case 'G':
        return conn_say(c, "g", 1);
    case 'B':
        input[size < BLOCK ? size : BLOCK - 1] = '\0';
        c->blocks = strtoul(input + 1, NULL, 10);
        c->phase = BULK;
        return conn_bulk(c);
    default:
        c->phase = ECHO;
        return conn_say(c, input, size);
    }
}

static enum outcome conn_read(struct conn *c)
{
    size_t n = 0;
    ERR_clear_error();
    int ok = SSL_read_ex(c->ssl, input, BLOCK, &n);
    if (ok != 1)
        return outcome_of(c, ok);
    return c->phase == ECHO ? conn_say(c, input, n) : conn_command(c, n);
}

static enum outcome conn_handshake(struct conn *c)
{
    ERR_clear_error();
    int result = SSL_accept(c->ssl);
    if (result != 1)
        return outcome_of(c, result);
    c->phase = COMMAND;
    return GO_ON;
}

static enum outcome conn_step(struct conn *c)
{
    if (c->phase == HANDSHAKE)
        return conn_handshake(c);
    if (c->rest != NULL)
        return conn_flush(c);
    if (c->phase == BULK)
        return conn_bulk(c);
    return conn_read(c);
}

/* close_notify only after a handshake: before one OpenSSL has nothing to say goodbye with. */
static void conn_free(struct conn *c)
{
    ERR_clear_error();
    if (SSL_is_init_finished(c->ssl))
        SSL_shutdown(c->ssl);
    SSL_free(c->ssl);
    close(c->fd);
    free(c->rest);
    free(c);
}

/* epoll_ctl only where the wish changed: in a steady echo that is never. */
static int conn_arm(struct conn *c, unsigned int events)
{
    struct epoll_event event = {.events = events, .data = {.ptr = c}};
    if (c->armed == events)
        return 0;
    int verb = c->armed == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
    c->armed = events;
    return epoll_ctl(epoll_fd, verb, c->fd, &event);
}

static void conn_run(struct conn *c)
{
    enum outcome result;
    do
        result = conn_step(c);
    while (result == GO_ON);
    if (result == OVER || conn_arm(c, result == AGAIN_WRITE ? EPOLLOUT : EPOLLIN) != 0)
        conn_free(c);
}

static struct conn *conn_new(SSL_CTX *ctx, int fd)
{
    struct conn *c = calloc(1, sizeof *c);
    if (c == NULL)
        return NULL;
    c->fd = fd;
    c->ssl = SSL_new(ctx);
    if (c->ssl == NULL || SSL_set_fd(c->ssl, fd) != 1) {
        SSL_free(c->ssl);
        free(c);
        return NULL;
    }
    SSL_set_accept_state(c->ssl);
    return c;
}

static void accept_all(SSL_CTX *ctx, int listener)
{
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && errno == EINTR)
            continue;
        if (fd < 0)
            return;
        struct conn *c = conn_new(ctx, fd);
        if (c == NULL)
            close(fd);
        else
            conn_run(c);
    }
}

static SSL_CTX *make_context(const char *certificate, const char *key)
{
    static const unsigned char id[] = "yardstick";
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    if (ctx == NULL)
        die("context");
    SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
    SSL_CTX_set_mode(ctx, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_options(ctx,
                        SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_SERVER);
    SSL_CTX_set_num_tickets(ctx, 2);
    if (SSL_CTX_set_session_id_context(ctx, id, sizeof id - 1) != 1)
        die("session id context");
    if (SSL_CTX_use_certificate_chain_file(ctx, certificate) != 1)
        die(certificate);
    if (SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1)
        die(key);
    return ctx;
}

/* TCP_NODELAY on the listening socket is inherited by what it accepts: one call instead of one each. */
static int make_listener(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof address;
    int one = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) != 0)
        die("socket");
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, SOMAXCONN) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &size) != 0)
        die("listen");
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

static void serve(SSL_CTX *ctx, int listener)
{
    struct epoll_event events[EVENTS];
    struct epoll_event event = {.events = EPOLLIN, .data = {.ptr = NULL}};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &event) != 0)
        die("epoll_ctl");
    for (;;) {
        int n = epoll_wait(epoll_fd, events, EVENTS, -1);
        if (n < 0 && errno != EINTR)
            die("epoll_wait");
        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr == NULL)
                accept_all(ctx, listener);
            else
                conn_run(events[i].data.ptr);
        }
    }
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: yardstick certificate.pem key.pem\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_fd < 0)
        die("epoll");
    memset(block, 'b', BLOCK);
    serve(make_context(argv[1], argv[2]), make_listener());
    return 0;
}
