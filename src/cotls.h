/* SPDX-License-Identifier: MIT
 * The one internal header: the objects; and, by parts.h, what each file gives the others.
 * A name that begins with cotls_ is shared between files; the rest is static. */
#ifndef COTLS_H
#define COTLS_H

#include "compat.h"

#include <netinet/in.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <time.h>

#define COTLS_VERSION "scm"

/* Metatable names: what the user reads in an error. */
#define COTLS_CONTEXT "cotls.context"
#define COTLS_CONNECTION "cotls.connection"
#define COTLS_SOCKET "cotls.socket"
#define COTLS_CREDENTIAL "cotls.credential"
#define COTLS_ERROR "cotls.error"
#define COTLS_HELLO "cotls.hello"
#define COTLS_SESSION "cotls.session"
#define COTLS_X509 "cotls.x509"

/* ---- buffer.c: bytes that wait ---- */

struct cotls_buf;

/* A buffer shared by all connections of a Lua state. Its contents belong to
 * `owner` until another connection needs the room; they move to the heap then. */
struct cotls_scratch {
    struct cotls_buf *owner;
    unsigned char *data;
    size_t size;
};

/* The bytes data[pos, len). They lie in `scratch`, or on the heap where it is NULL, or are lent. */
struct cotls_buf {
    unsigned char *data;
    struct cotls_scratch *scratch;
    size_t pos, len, cap;
    bool lent; /* they are somebody else's, who keeps them as long as there are any */
    bool lost; /* there was no memory to keep them */
};

unsigned char *cotls_buf_room(struct cotls_buf *b, struct cotls_scratch *s, size_t n);
bool cotls_buf_append(struct cotls_buf *b, const void *data, size_t n);
void cotls_buf_lend(struct cotls_buf *b, const void *data, size_t n);
void cotls_buf_consume(struct cotls_buf *b, size_t n);
void cotls_buf_free(struct cotls_buf *b);

static inline size_t cotls_buf_length(const struct cotls_buf *b)
{
    return b->len - b->pos;
}

static inline const unsigned char *cotls_buf_bytes(const struct cotls_buf *b)
{
    return b->data + b->pos;
}

/* ---- core.c: what one Lua state shares ---- */

#define COTLS_KEPT (64 * 1024) /* what an operation that does not read keeps for later reads */
#define COTLS_RECORD 16384     /* the longest plaintext of one record, RFC 8446 section 5.1 */
#define COTLS_WIRE (17 * 1024) /* one record as it is sent, section 5.2, and a little */
#define COTLS_GATHERED 4       /* so many records are gathered for one write of a stream */
/* More output than this from one call is a peer's doing: OpenSSL is told to wait. */
#define COTLS_OUTPUT_LIMIT (1024 * 1024)

struct cotls_state {
    struct cotls_scratch cipher;   /* received, not yet decrypted */
    struct cotls_scratch plain;    /* decrypted, not yet read */
    struct cotls_scratch outgoing; /* encrypted, not yet written to a stream */
    const void *carry; /* the function that holds a slot where methods are left, see leave.c; else NULL */
    unsigned char cipher_data[COTLS_WIRE];
    unsigned char plain_data[2 * COTLS_RECORD];
    unsigned char outgoing_data[COTLS_GATHERED * COTLS_WIRE];
    unsigned char gather[COTLS_RECORD]; /* short strings of one write, side by side */
};

struct cotls_state *cotls_state(lua_State *L);
void cotls_push_threads(lua_State *L); /* [-0, +1] slot -> coroutine, weak */
double cotls_now(void);
void cotls_new_class(lua_State *L, const char *name, const luaL_Reg *meta, const luaL_Reg *meth);

/* Holds what OpenSSL has allocated while Lua may raise: then the collector releases it. */
struct cotls_cell {
    void *data; /* NULL: empty */
    void (*release)(void *data);
};

struct cotls_cell *cotls_push_cell(lua_State *L, void (*release)(void *data)); /* [-0, +1] */
void cotls_empty_cell(struct cotls_cell *cell);

/* ---- objects ---- */

/* Bytes that somebody else keeps; data NULL: none. */
struct cotls_text {
    const char *data;
    size_t len;
};

/* The same, to be read as numbers. */
struct cotls_bytes {
    const unsigned char *data;
    size_t len;
};

#define COTLS_DIGEST 32 /* SHA-256 */
#define COTLS_TICKET_NAME 16

/* Lua functions of a context. Those from HOOK_SESSION_NEW on are only told. */
enum cotls_hook {
    HOOK_CLIENT_HELLO,
    HOOK_CERTIFICATE,
    HOOK_SERVER_NAME,
    HOOK_VERIFY,
    HOOK_ALPN,
    HOOK_SESSION_GET,
    HOOK_TICKET_KEY,
    HOOK_OCSP,
    HOOK_PSK,
    HOOK_SIGN,
    HOOK_SESSION_NEW,
    HOOK_SESSION_REMOVE,
    HOOK_KEYLOG,
    HOOK_TRACE,
    HOOK_COUNT
};
/* OpenSSL has no retry of its own for these (a client's verify apart): the call runs in a job. */
#define COTLS_JOB_HOOKS                                                                                      \
    (1U << HOOK_SERVER_NAME | 1U << HOOK_VERIFY | 1U << HOOK_ALPN | 1U << HOOK_SESSION_GET |                 \
     1U << HOOK_TICKET_KEY | 1U << HOOK_OCSP | 1U << HOOK_PSK | 1U << HOOK_SIGN)

struct cotls_names;
struct cotls_psk;
/* Who a context is. Its certificate is the very X509 that SSL_get_certificate gives where it is in use. */
struct cotls_credential {
    X509 *leaf; /* NULL until it is complete */
    EVP_PKEY *key;
    STACK_OF(X509) * chain; /* without the leaf; or NULL */
    unsigned char *ocsp;    /* the DER to staple, from malloc; NULL: none */
    size_t ocsp_len;
    bool remote; /* its signatures come from the hook `sign` */
};

#define COTLS_KEY_TYPES 9 /* as many as OpenSSL tells apart */
struct cotls_tickets;
struct cotls_cache;

struct cotls_ctx {
    SSL_CTX *ssl_ctx; /* NULL until it is complete */
    bool server;
    bool verifies;                     /* a client that checks chain and name */
    bool scheduled;                    /* UV_CTX_SCHEDULER is set */
    double timeout, handshake_timeout; /* seconds; negative: none */
    size_t read_limit;
    const unsigned char *alpn; /* wire format; kept by UV_CTX_ALPN */
    size_t alpn_len;
    unsigned char verification[COTLS_DIGEST]; /* of its settings of verification alone */
    unsigned char scope[COTLS_DIGEST];        /* a session resumes only where this is equal */
    const struct cotls_names *names;          /* server name → context, or NULL; kept by UV_CTX_NAMES */
    struct cotls_tickets *tickets;            /* a server's ticket keys, or NULL: OpenSSL's own */
    struct cotls_cache *cache;                /* a client's remembered sessions, or NULL */
    struct cotls_text session_key; /* in the place of the peer's address; kept by UV_CTX_SESSION_KEY */
    struct cotls_credential *credentials[COTLS_KEY_TYPES]; /* kept by UV_CTX_CREDENTIALS */
    size_t credential_count;
    bool trusts;            /* it has CAs of its own */
    struct cotls_psk *psk;  /* its own, or NULL */
    const char *groups;     /* the list that is given, or NULL; kept by UV_CTX_GROUPS */
    long max_send_fragment; /* 0: not given */
    const char *pins;       /* SHA-256 digests, one after the other; kept by UV_CTX_PINS */
    size_t pins_len;
    unsigned hooks;       /* its own: a bit for each cotls_hook; the functions are in UV_CTX_HOOKS */
    unsigned hooks_below; /* the same, and those of the contexts in names */
    bool keylogs;
    int keylog;                                    /* its file, if keylogs */
    struct cotls_removed *removed, **removed_last; /* ids of sessions, see removed.c */
    size_t removed_count;
    bool verify_may_accept;
    bool takes; /* on_session_get decides alone whether a session is there: early data is accepted once */
    bool post_handshake_auth; /* a client that offers it */
    bool ocsp_required;       /* a client that refuses a server without an OCSP staple */
    bool verify_goes_on;      /* LuaSec's lsec_continue: what is wrong with a chain is only noted */
    bool verify_no_purpose;   /* LuaSec's lsec_ignore_purpose: a client's certificate may be a server's */
};
enum {
    UV_CTX_SCHEDULER = 1,
    UV_CTX_ALPN,
    UV_CTX_NAMES,
    UV_CTX_CREDENTIALS,
    UV_CTX_SESSION_KEY,
    UV_CTX_GROUPS,
    UV_CTX_PINS,
    UV_CTX_HOOKS,
    UV_CTX_LAST,
    UV_CTX_COUNT = UV_CTX_LAST - 1
};

/* Early data: not begun; a server reads it; it is over, or the handshake has gone on without it. */
enum cotls_early { EARLY_NONE, EARLY_READING, EARLY_OVER };

enum cotls_side { SIDE_NONE, SIDE_ACCEPT, SIDE_CONNECT };
/* An operation of the whole connection, a handshake, stands in the reader's place and keeps writers out. */
enum cotls_slot_id { SLOT_READ, SLOT_WRITE, SLOT_COUNT, SLOT_WHOLE = SLOT_COUNT };

/* What one call of an operation came to. */
enum cotls_step {
    STEP_DONE,
    STEP_WANT_READ,
    STEP_WANT_WRITE,
    STEP_BUSY, /* a function of another operation has OpenSSL suspended */
    STEP_ASK,  /* a question waits for its answer */
    STEP_TURN, /* much was done in one go: others first */
    STEP_END,  /* the peer's close_notify */
    STEP_SHUT, /* this side's close_notify is sent: no more writing */
    STEP_FAIL, /* c->ssl_error, c->sys_errno and OpenSSL's queue tell why */
    STEP_LIMIT,
    STEP_REFUSED /* c->refusal tells why; nothing has happened */
};

struct cotls_conn;
struct cotls_slot;
struct cotls_luasec;

#define COTLS_VERIFY_ERRORS 64 /* as many as are noted */

/* What is wrong with a certificate of a chain. */
struct cotls_verify_error {
    int depth, code;
};

/* An operation: one SSL_* call, and what turns its outcome into results. */
struct cotls_op {
    const char *name;
    enum cotls_slot_id slot;
    bool handshake;
    enum cotls_step (*step)(lua_State *L, struct cotls_conn *c, struct cotls_slot *s);
    int (*push)(lua_State *L, struct cotls_conn *c, struct cotls_slot *s);
    void (*annotate)(lua_State *L, struct cotls_conn *c,
                     struct cotls_slot *s); /* error on top; may be NULL */
};

/* An operation under way. */
struct cotls_slot {
    const struct cotls_op *op;   /* NULL: free */
    const struct cotls_op *next; /* what the handshake is done for, or NULL */
    lua_CFunction method;        /* what Lua called: the frame by which a coroutine holds the slot */
    double timeout;              /* seconds; negative: none */
    double deadline;             /* 0: not waited yet */
    enum cotls_step step;        /* what came of the last one, while hooks run */
    int top;                     /* the caller's arguments */
    int base;                    /* arguments and results so far; a resume's values come above */
    int arg;                     /* the argument in work: a string to write, a format to read */
    size_t offset;               /* write: within it. read: length of what is read so far */
    size_t scanned;              /* read: bytes known to hold no end of line */
    size_t written;
    unsigned records; /* since the last wait */
    bool turn;        /* it waits only to let others have theirs */
    bool waited;      /* settle: readers have been woken too */
    bool tried;       /* output that is in nobody's way could not be written to the stream at once */
    bool raise;       /* an iterator: errors are raised */
    bool leftover;    /* the connection had failed before this operation began */
};

/* What a stream's functions do; also the places of what is known of their failures. */
enum cotls_way { WAY_READ, WAY_WRITE, WAY_COUNT };
/* In the place of an errno: a function of the stream has failed; UV_BROKEN tells how. */
#define COTLS_BROKEN(way) (-1 - (int)(way))

/* What the getters tell when the SSL is gone. */
struct cotls_record;

/* A question of OpenSSL's and, once it is given, Lua's answer. */
struct cotls_answer {
    struct cotls_answer *next;
    enum cotls_hook hook;
    bool given, ok;      /* not ok: refuse */
    int alert;           /* of a refusal, where the hook can choose one; 0: the default */
    unsigned char *data; /* from malloc; NULL: none, "unknown" */
    size_t len;
    size_t identity_len; /* of a client's on_psk: the key comes behind it */
    size_t question_len;
    unsigned char question[];
};

/* What is to be told to Lua. */
struct cotls_event {
    struct cotls_event *next;
    enum cotls_hook hook;
    SSL_SESSION *session;
    double moment;
    int direction, type, version, number; /* of a trace: 1 is sent, -1 received, 0 a state */
    size_t size;                          /* of its message */
    size_t len;
    unsigned char text[];
};

/* The hooks of a connection at work. */
struct cotls_asks {
    struct cotls_answer *answers, *pending;
    struct cotls_event *first, **last;
    struct async_job_st *job; /* paused, or NULL */
    struct async_wait_ctx_st *wait;
    int (*function)(SSL *ssl, void *data, size_t size, size_t *done); /* what the job runs */
    unsigned starts;   /* of the job: a pause that did not happen is known by it */
    unsigned traced;   /* since the queue was empty */
    const char *state; /* the last that was traced */
    bool cancelled;
    struct cotls_slot *at; /* whose coroutine runs a function, or NULL */
    bool telling;          /* that function is told an event */
    unsigned char *buffer; /* what a call in a job reads into */
    size_t done;
    bool refused;         /* by a hook: UV_CAUSE tells more */
    bool in_hello;        /* there are no jobs, and OpenSSL can be told to come again with the ClientHello */
    bool is_12;           /* a session is asked for in there, and is one of TLS 1.2 */
    unsigned char *hello; /* the ClientHello, from malloc, until on_client_hello is asked; or NULL */
    size_t hello_len;
    unsigned char *first_hello;  /* what a second ClientHello must have again, from malloc; or NULL */
    struct stack_st_X509 *chain; /* on_verify's report */
    long verify_code, store_error;
    int verify_depth;
    const char *verify_text;
    bool verify_ok;
};

struct cotls_conn {
    /* what every operation touches */
    SSL *ssl; /* NULL: closed */
    struct cotls_state *st;
    struct cotls_ctx *ctx;    /* kept by UV_CONTEXT */
    struct cotls_ctx *active; /* the one in force: ctx, or what the server name chose */
    const void *waited;       /* the address of what UV_WAITED holds */
    int fd;                   /* -1: closed, or a stream */
    int ssl_error;            /* SSL_get_error of the failure in work */
    int sys_errno;            /* errno of the last failed recv */
    int send_errno;           /* errno of the failed send: nothing can be sent any more */
    bool established;         /* the handshake is done */
    bool failed;              /* for good; UV_ERROR says why */
    bool ended;               /* the peer's close_notify has come */
    bool at_eof;              /* recv said 0 */
    bool drained;             /* the last recv was short: the next answers "empty" unasked */
    bool hold;                /* output is gathered; the driver sends it */
    bool scheduled;           /* its options name a scheduler */
    bool stream;              /* the functions in UV_STREAM move its bytes */
    bool dead;                /* it closes: the BIO moves nothing any more */
    bool tired;               /* one call of OpenSSL's has received enough */
    unsigned receives;        /* of that call */
    uint64_t bytes_in, bytes_out;
    double timeout; /* seconds; negative: none */
    struct cotls_buf cipher, plain, out;
    struct cotls_slot slot[SLOT_COUNT];

    /* a stream */
    struct cotls_slot *mover[WAY_COUNT]; /* whose coroutine is in the function, or NULL */
    size_t moving;                       /* so much of out is in the stream's write */
    bool broken;                         /* reading has failed: UV_BROKEN tells how */
    unsigned parked; /* a bit for each way: who waits until another one is out of the function */
    bool parks;      /* a writer can */
    double until;    /* the deadline of the next operation alone; 0: it has none of its own */

    /* the handshake and the end */
    enum cotls_side side;
    bool begun;         /* a handshake byte may have been made */
    bool renegotiating; /* this side has begun it; handshake_deadline holds again */
    bool send_lost;     /* sending had failed before the handshake's last step */
    bool owns;          /* close the transport with the connection */
    bool owns_fd;       /* the transport is the descriptor itself */
    bool alert_sent;
    int alert; /* the last fatal alert, or -1 */
    double handshake_timeout, handshake_start, handshake_deadline, handshake_seconds;
    size_t read_limit;
    const unsigned char *alpn; /* a server's own list; kept by UV_OPTIONS */
    size_t alpn_len;
    const char *names; /* to verify, each ended by NUL; kept by UV_OPTIONS */
    size_t names_len;
    struct cotls_record *record;
    char *verify_subject;
    char *psk_identity; /* of the key in use, or NULL */
    size_t psk_identity_len;
    bool psk_found; /* a server has the key of the identity it was asked about last */
    bool psk_lost;  /* there was no memory for its identity */
    bool psk_used;  /* by a key: what OpenSSL takes for a resumption is none */
    long verify_code;
    int verify_depth;
    struct sockaddr_in6 peer; /* or a sockaddr_in; family 0: unknown */
    const char *verify_text;  /* of a check of ours, in the place of OpenSSL's; lives for ever, or NULL */

    /* sessions and early data */
    bool offered;   /* a session is offered to the server */
    bool remembers; /* new sessions go to the context's cache, under cache_key */
    unsigned char cache_key[COTLS_DIGEST];
    SSL_SESSION *session;          /* of a closed connection, or NULL */
    struct cotls_text session_key; /* kept by UV_OPTIONS, or the context */
    time_t ocsp_until;             /* when the stapled OCSP response ends; 0: there is none */
    enum cotls_early early;
    int early_status; /* of a closed connection */
    size_t early_written;
    struct cotls_text early_data; /* to be sent with the hello; kept by UV_OPTIONS */
    struct cotls_buf early_kept;  /* read by accept, for read_early */
    const char *refusal;          /* why a callback or a step of ours refused, or NULL */

    const unsigned char *dane; /* TLSA records, see dane.c; NULL: none; kept by UV_OPTIONS */
    size_t dane_len;
    const unsigned char *dane_match; /* the one in `dane` that made the chain good, or NULL */
    int dane_depth;                  /* of the certificate that it matched */

    bool requested;                /* a server has asked for a certificate after the handshake */
    bool hello_seen;               /* a ServerHello has gone by: there is something to tell */
    bool hello_retry;              /* the first one of the latest handshake was a HelloRetryRequest */
    struct cotls_asks *asks;       /* of a context with hooks, or NULL */
    struct cotls_ctx *chosen;      /* by the server name; NULL: none yet */
    struct cotls_text staple;      /* given by a hook; kept by UV_STAPLE or UV_CREDENTIAL */
    struct stack_st_X509 *refused; /* the chain that verification has refused, or NULL */

    lua_KFunction
        resume[SLOT_COUNT];      /* what goes on where a slot's method was left, else NULL; see leave.c */
    struct cotls_luasec *luasec; /* whose connection it is, or NULL: luasec.c */
    struct cotls_verify_error
        *verify_errors; /* from malloc, where verify_goes_on or verify_no_purpose; or NULL */
    size_t verify_error_count;
};
enum {
    UV_CONTEXT = 1,
    UV_WAITED, /* the scheduler to tell when the fd closes; the same index for sockets */
    UV_TRANSPORT,
    UV_OPTIONS,
    UV_ERROR,
    UV_CAUSE,      /* what a hook that refused gives the error: a table of its fields */
    UV_ACTIVE,     /* the context that is in force, where it is not UV_CONTEXT */
    UV_CREDENTIAL, /* given by a hook */
    UV_STAPLE,
    UV_STREAM, /* read, write and try_write, and their names; see cotls.transport */
    UV_LENT,   /* the string that `cipher` lies in */
    UV_BROKEN, /* by cotls_way: the fields of an error */
    UV_COUNT = UV_BROKEN,
    UV_FRAMES /* of a slot whose method was left: that, and by how much its id; see leave.c */
};

/* A TCP socket that is not yet, or never becomes, a connection's. */
struct cotls_socket {
    int fd; /* -1: closed */
    struct sockaddr_in6 peer;
};
enum { UV_SOCKET_COUNT = UV_WAITED };

#include "parts.h"

#endif
