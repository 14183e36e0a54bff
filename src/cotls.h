/* SPDX-License-Identifier: MIT
 * The one internal header: the objects, and what each file gives the others.
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

/* The bytes data[pos, len). They lie in `scratch`, or on the heap where it is NULL. */
struct cotls_buf {
    unsigned char *data;
    struct cotls_scratch *scratch;
    size_t pos, len, cap;
    bool lost; /* there was no memory to keep them */
};

unsigned char *cotls_buf_room(struct cotls_buf *b, struct cotls_scratch *s, size_t n);
bool cotls_buf_append(struct cotls_buf *b, const void *data, size_t n);
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

struct cotls_state {
    struct cotls_scratch cipher; /* received, not yet decrypted */
    struct cotls_scratch plain;  /* decrypted, not yet read */
    unsigned char cipher_data[17 * 1024];
    unsigned char plain_data[2 * COTLS_RECORD];
    unsigned char gather[COTLS_RECORD]; /* short strings of one write, side by side */
};

struct cotls_state *cotls_state(lua_State *L);
void cotls_push_threads(lua_State *L);   /* [-0, +1] slot -> coroutine, weak */
void cotls_push_scheduler(lua_State *L); /* [-0, +1] tls.scheduler, a table or nil */
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

#define COTLS_DIGEST 32 /* SHA-256 */

struct cotls_names;
struct cotls_psk;
/* Who a context is. Its certificate is the very X509 that SSL_get_certificate gives where it is in use. */
struct cotls_credential {
    X509 *leaf; /* NULL until it is complete */
    EVP_PKEY *key;
    STACK_OF(X509) * chain; /* without the leaf; or NULL */
    unsigned char *ocsp;    /* the DER to staple, from malloc; NULL: none */
    size_t ocsp_len;
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
    unsigned char scope[COTLS_DIGEST]; /* a session resumes only where this is equal */
    const struct cotls_names *names;   /* server name → context, or NULL; kept by UV_CTX_NAMES */
    struct cotls_tickets *tickets;     /* a server's ticket keys, or NULL: OpenSSL's own */
    struct cotls_cache *cache;         /* a client's remembered sessions, or NULL */
    struct cotls_text session_key;     /* in the place of the peer's address; kept by UV_CTX_SESSION_KEY */
    struct cotls_credential *credentials[COTLS_KEY_TYPES]; /* kept by UV_CTX_CREDENTIALS */
    size_t credential_count;
    bool trusts;            /* it has CAs of its own */
    struct cotls_psk *psk;  /* its own, or NULL */
    const char *groups;     /* the list that is given, or NULL; kept by UV_CTX_GROUPS */
    long max_send_fragment; /* 0: not given */
    const char *pins;       /* SHA-256 digests, one after the other; kept by UV_CTX_PINS */
    size_t pins_len;
    bool ocsp_required; /* a client that refuses a server without an OCSP staple */
};
enum {
    UV_CTX_SCHEDULER = 1,
    UV_CTX_ALPN,
    UV_CTX_NAMES,
    UV_CTX_CREDENTIALS,
    UV_CTX_SESSION_KEY,
    UV_CTX_GROUPS,
    UV_CTX_PINS,
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
    STEP_TURN, /* much was done in one go: others first */
    STEP_END,  /* the peer's close_notify */
    STEP_SHUT, /* this side's close_notify is sent: no more writing */
    STEP_FAIL, /* c->ssl_error, c->sys_errno and OpenSSL's queue tell why */
    STEP_LIMIT,
    STEP_REFUSED /* c->refusal tells why; nothing has happened */
};

struct cotls_conn;
struct cotls_slot;

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
    int top;                     /* the caller's arguments */
    int base;                    /* arguments and results so far; a resume's values come above */
    int arg;                     /* the argument in work: a string to write, a format to read */
    size_t offset;               /* write: within it. read: length of what is read so far */
    size_t scanned;              /* read: bytes known to hold no end of line */
    size_t written;
    unsigned records; /* since the last wait */
    bool turn;        /* it waits only to let others have theirs */
    bool waited;      /* settle: readers have been woken too */
    bool raise;       /* an iterator: errors are raised */
    bool leftover;    /* the connection had failed before this operation began */
};

/* What the getters tell when the SSL is gone. */
struct cotls_record;

struct cotls_conn {
    /* what every operation touches */
    SSL *ssl; /* NULL: closed */
    struct cotls_state *st;
    struct cotls_ctx *ctx;    /* kept by UV_CONTEXT */
    struct cotls_ctx *active; /* the one in force: ctx, or what the server name chose */
    const void *waited;       /* the address of what UV_WAITED holds */
    int fd;                   /* -1: closed */
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
    bool tired;               /* one call of OpenSSL's has received enough */
    unsigned receives;        /* of that call */
    uint64_t bytes_in, bytes_out;
    double timeout; /* seconds; negative: none */
    struct cotls_buf cipher, plain, out;
    struct cotls_slot slot[SLOT_COUNT];

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
    bool psk_used;  /* by a key: what OpenSSL takes for a resumption is none */
    long verify_code;
    int verify_depth;
    struct sockaddr_in6 peer; /* or a sockaddr_in; family 0: unknown */
    const char *verify_text;  /* of a check of ours, in the place of OpenSSL's; lives for ever, or NULL */
    bool named;               /* the server name has chosen the context */

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

    bool hello_seen;               /* a ServerHello has gone by: there is something to tell */
    bool hello_retry;              /* the first one of the latest handshake was a HelloRetryRequest */
    struct stack_st_X509 *refused; /* the chain that verification has refused, or NULL */
};
enum {
    UV_CONTEXT = 1,
    UV_WAITED, /* the scheduler to tell when the fd closes; the same index for sockets */
    UV_TRANSPORT,
    UV_OPTIONS,
    UV_ERROR,
    UV_COUNT = UV_ERROR
};

/* A TCP socket that is not yet, or never becomes, a connection's. */
struct cotls_socket {
    int fd; /* -1: closed */
    struct sockaddr_in6 peer;
};
enum { UV_SOCKET_COUNT = UV_WAITED };

/* ---- error.c ---- */

/* Each pushes one error object. */
void cotls_error_plain(lua_State *L, const char *code, const char *operation, const char *reason);
void cotls_error_system(lua_State *L, const char *operation, int err);
void cotls_error_config(lua_State *L, const char *option); /* [-1, +1] the text on top */
void cotls_error_conn(lua_State *L, struct cotls_conn *c, const char *operation, enum cotls_step step);
void cotls_push_queue_reason(lua_State *L); /* [-0, +1] text of the queue's first error; clears it */
void cotls_push_verify(lua_State *L, const struct cotls_conn *c);
int cotls_nil_error(lua_State *L);
bool cotls_is_error(lua_State *L, int index);
void cotls_clear_errors(void);
void cotls_call_clean(lua_State *L, int arguments, int results);
int cotls_error_new(lua_State *L);
int cotls_error_refused(lua_State *L);
void cotls_error_open(lua_State *L);

/* ---- drive.c ---- */

int cotls_run(lua_State *L, struct cotls_conn *c, const struct cotls_op *op, lua_CFunction method);
int cotls_run_lines(lua_State *L, struct cotls_conn *c, const struct cotls_op *op, lua_CFunction method);
enum cotls_step cotls_outcome(struct cotls_conn *c, int ret);
enum cotls_step cotls_flush_step(struct cotls_conn *c);
int cotls_wait(lua_State *L);
void cotls_release(lua_State *L, int index);
void cotls_call_method(lua_State *L, const char *name);
extern const struct cotls_op cotls_op_do_handshake, cotls_op_accept, cotls_op_connect;

/* ---- hook.c: what OpenSSL calls ---- */

int cotls_hook_verify(X509_STORE_CTX *store, void *arg);
void cotls_hook_info(const SSL *ssl, int where, int ret);
int cotls_hook_alpn(SSL *ssl, const unsigned char **out, unsigned char *outlen, const unsigned char *in,
                    unsigned int inlen, void *arg);
int cotls_hook_certificate(SSL *ssl, void *arg);
int cotls_hook_client_hello(SSL *ssl, int *alert, void *arg);
int cotls_hook_new_session(SSL *ssl, SSL_SESSION *session);
int cotls_hook_ticket_key(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
                          EVP_MAC_CTX *mac, int encrypt);
int cotls_hook_server_name(SSL *ssl, int *alert, void *arg);

/* What a password callback is given; nobody is asked for it then. */
struct cotls_password {
    const char *text; /* NULL: none */
    size_t size;
    bool asked; /* it was wanted */
};
int cotls_hook_status(SSL *ssl, void *arg);
int cotls_hook_scts(const CT_POLICY_EVAL_CTX *ctx, const STACK_OF(SCT) * scts, void *arg);
int cotls_hook_psk_use(SSL *ssl, const EVP_MD *md, const unsigned char **identity, size_t *n,
                       SSL_SESSION **session);
int cotls_hook_psk_find(SSL *ssl, const unsigned char *identity, size_t n, SSL_SESSION **session);
SSL_TICKET_RETURN cotls_hook_ticket(SSL *ssl, SSL_SESSION *session, const unsigned char *name, size_t n,
                                    SSL_TICKET_STATUS status, void *arg);
unsigned cotls_hook_psk_client(SSL *ssl, const char *hint, char *identity, unsigned max_identity,
                               unsigned char *key, unsigned max_key);
unsigned cotls_hook_psk_server(SSL *ssl, const char *identity, unsigned char *key, unsigned max_key);
int cotls_hook_password(char *buf, int size, int rwflag, void *password);

/* ---- bio_fd.c ---- */

BIO *cotls_bio_fd(struct cotls_conn *c);
int cotls_flush(struct cotls_conn *c); /* 1: all is sent; 0: not now; -1: c->send_errno */

/* ---- connection.c ---- */

struct cotls_conn *cotls_check_conn(lua_State *L);
void cotls_choose_side(lua_State *L, struct cotls_conn *c, enum cotls_side side, const char *verb);
void cotls_handshake_begin(struct cotls_conn *c);
struct cotls_text cotls_peer(struct cotls_conn *c); /* its address */
void cotls_conn_close(lua_State *L, int index, bool notify);
int cotls_wrap(lua_State *L);
void cotls_connection_open(lua_State *L);

/* ---- transfer.c: read, write and shutdown ---- */

extern const luaL_Reg cotls_transfer_methods[];
enum cotls_step cotls_fill(struct cotls_conn *c); /* one SSL_read into c->plain */

/* ---- facts.c: what is known of a connection, open or closed ---- */

enum cotls_fact { FACT_ALPN, FACT_SERVER_NAME, FACT_GROUP, FACT_STAPLE, FACT_SCTS, FACT_COUNT };

struct cotls_facts {
    const char *version;                    /* NULL: nothing is agreed on yet */
    const char *signature, *peer_signature; /* schemes of this handshake, or NULL */
    const SSL_CIPHER *cipher;
    SSL_SESSION *session;
    X509 *peer;
    struct stack_st_X509 *peer_chain; /* as OpenSSL has it: on servers without the peer's own */
    struct stack_st_X509 *verified;
    X509 *own;  /* this side's; on a server that has resumed a session the only one it has */
    bool shown; /* own was shown in this handshake */
    bool is_13, resumed, extms;
    struct cotls_text text[FACT_COUNT]; /* FACT_SCTS: packed, once recorded */
    unsigned char client_random[SSL3_RANDOM_SIZE], server_random[SSL3_RANDOM_SIZE];
    unsigned char finished[EVP_MAX_MD_SIZE], peer_finished[EVP_MAX_MD_SIZE];
    size_t finished_len, peer_finished_len;
};

void cotls_facts(const struct cotls_conn *c, struct cotls_facts *f);
void cotls_record_keep(struct cotls_conn *c);
void cotls_record_free(struct cotls_conn *c);

/* ---- info.c: the getters ---- */

extern const luaL_Reg cotls_info_methods[];
void cotls_push_text(lua_State *L, const struct cotls_text *b); /* [-0, +1] a string, nil for none */

/* ---- certificates.c, keying.c: more getters ---- */

extern const luaL_Reg cotls_certificates_methods[], cotls_keying_methods[];
void cotls_keep_refused(struct cotls_conn *c, X509_STORE_CTX *store);
size_t cotls_pack_scts(SSL *ssl, unsigned char *out); /* the room that they take */

/* ---- context.c ---- */

/* An option's value is on top; false: it is refused, and the reason is pushed, or the error itself where another
 * option is to be named. A list ends with a NULL name. */
struct cotls_setting {
    const char *name;
    bool (*apply)(lua_State *L, struct cotls_ctx *x);
};

bool cotls_refuse(lua_State *L, const char *reason); /* [-0, +1] false, always */

struct cotls_ctx *cotls_check_context(lua_State *L, int index);
int cotls_context(lua_State *L);
int cotls_context_scheduler(lua_State *L);
int cotls_context_role(lua_State *L);
int cotls_is_context(lua_State *L);
const char *cotls_version_name(int version);
int cotls_context_timeouts(lua_State *L);
void cotls_context_open(lua_State *L);

/* ---- file.c ---- */

/* The bytes belong to Lua strings on the stack. */
struct cotls_file {
    const char *name;
    const char *data;
    size_t size;
};

/* What becomes of the nth certificate, counted from 0; false: OpenSSL's queue tells why. */
typedef bool cotls_take(void *arg, X509 *certificate, int nth);

struct cotls_file cotls_to_file(lua_State *L); /* [-0, +2] the { name =, data = } on top */
bool cotls_is_pem(const struct cotls_file *f);
bool cotls_is_der(const struct cotls_file *f);
BIO *cotls_file_bio(const struct cotls_file *f);

/* Pushes what is wrong with the file, false always; `fault` NULL: OpenSSL's reason. [-0, +any] */
bool cotls_refuse_file(lua_State *L, const char *name, const char *fault);

/* Leaves on the setting at index only the string at the top; false always. */
bool cotls_keep_reason(lua_State *L, int setting);

/* The list of files on top. [-0, +any] false: the reason is on top. */
bool cotls_take_certificates(lua_State *L, cotls_take *take, void *arg);

/* ---- config.c ---- */

extern const struct cotls_setting cotls_config_settings[];
bool cotls_config_switch(SSL *ssl, const struct cotls_ctx *from, const struct cotls_ctx *to);
int cotls_listed_ciphers(lua_State *L);
extern const luaL_Reg cotls_config_context_methods[];

/* ---- credential.c ---- */

extern const struct cotls_setting cotls_credential_settings[];
int cotls_credential(lua_State *L);
bool cotls_credential_staple(struct cotls_credential *k, const void *der, size_t size); /* keeps a copy */
void cotls_choose_credential(SSL *ssl, const struct cotls_ctx *x);
bool cotls_sort_chain(struct cotls_credential *k);
void cotls_credential_open(lua_State *L);

/* ---- key.c, pkcs12.c, store.c: the value is on top; [-0, +any] false: the reason is on top ---- */

bool cotls_read_key(lua_State *L, EVP_PKEY **key, struct cotls_password *password);
bool cotls_load_pkcs12(lua_State *L, struct cotls_credential *k, struct cotls_password *password);
bool cotls_load_uri(lua_State *L, struct cotls_credential *k, struct cotls_password *password);

/* As cotls_refuse_file; but if the password was asked for, that is the reason. */
bool cotls_refuse_locked(lua_State *L, const char *name, const struct cotls_password *p, const char *fault);

/* ---- trust.c ---- */

extern const struct cotls_setting cotls_trust_settings[];

/* ---- verify.c ---- */

extern const struct cotls_setting cotls_verify_settings[];
bool cotls_verify_chain(struct cotls_conn *c, X509_STORE_CTX *store);
void cotls_verify_nobody(struct cotls_ctx *x);
void cotls_verify_fail(struct cotls_conn *c, int code, const char *text, const X509 *cert);

/* ---- ocsp.c ---- */

extern const struct cotls_setting cotls_ocsp_settings[];
int cotls_set_ocsp_response(lua_State *L);
bool cotls_ocsp_check(struct cotls_conn *c);
int cotls_ocsp_give(struct cotls_conn *c);
const char *cotls_ocsp_fault(const struct cotls_credential *k, const void *der, size_t size);

/* ---- renewal.c: after the handshake ---- */

extern const luaL_Reg cotls_renewal_methods[];
extern const struct cotls_setting cotls_renewal_settings[];
enum cotls_step cotls_settle(struct cotls_conn *c, struct cotls_slot *s);

/* ---- psk.c: pre-shared keys ---- */

extern const luaL_Reg cotls_psk_methods[];
extern const struct cotls_setting cotls_psk_settings[];
void cotls_psk_free(struct cotls_psk *psk);
bool cotls_psk_offer(struct cotls_conn *c, const EVP_MD *md, const unsigned char **identity, size_t *n,
                     SSL_SESSION **session);
bool cotls_psk_find(struct cotls_conn *c, const unsigned char *identity, size_t n, SSL_SESSION **session);
unsigned cotls_psk_client(struct cotls_conn *c, char *identity, size_t max_identity, unsigned char *key,
                          size_t max_key);
unsigned cotls_psk_server(struct cotls_conn *c, const char *identity, unsigned char *key, size_t max_key);
int cotls_psk_judge_ticket(const struct cotls_conn *c, const SSL_SESSION *session, int status);
void cotls_psk_hello(struct cotls_conn *c);
void cotls_psk_done(struct cotls_conn *c);

/* ---- names.c ---- */

extern const struct cotls_setting cotls_names_settings[];
bool cotls_names_choose(struct cotls_conn *c, int *alert);

/* ---- session.c ---- */

extern const luaL_Reg cotls_session_methods[];
int cotls_session(lua_State *L);
int cotls_is_session(lua_State *L);
void cotls_session_option(lua_State *L, int index, struct cotls_conn *c);
void cotls_session_begin(struct cotls_conn *c);
void cotls_session_forget(struct cotls_conn *c);
bool cotls_session_new(struct cotls_conn *c, SSL_SESSION *session);
void cotls_session_established(struct cotls_conn *c);
void cotls_session_keep(struct cotls_conn *c);
void cotls_session_open(lua_State *L);

/* ---- session_cache.c ---- */

struct cotls_cache *cotls_cache_new(void);
bool cotls_cache_put(struct cotls_cache *s, const unsigned char key[COTLS_DIGEST], SSL_SESSION *session);
SSL_SESSION *cotls_cache_take(struct cotls_cache *s, const unsigned char key[COTLS_DIGEST]);
void cotls_cache_drop(struct cotls_cache *s, const unsigned char key[COTLS_DIGEST]);
size_t cotls_cache_count(const struct cotls_cache *s);
void cotls_cache_clear(struct cotls_cache *s);
void cotls_cache_free(struct cotls_cache *s);

/* ---- ticket.c ---- */

extern const struct cotls_setting cotls_ticket_settings[];
extern const luaL_Reg cotls_ticket_context_methods[];
int cotls_set_ticket_keys(lua_State *L);
int cotls_ticket_key(const struct cotls_conn *c, unsigned char *name, unsigned char *iv,
                     EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, bool encrypt);
bool cotls_tickets_for_names(struct cotls_ctx *x);
void cotls_tickets_free(struct cotls_tickets *t);

/* ---- early.c ---- */

extern const luaL_Reg cotls_early_methods[];
enum cotls_step cotls_early_option(struct cotls_conn *c);
bool cotls_early_downgraded(struct cotls_conn *c);
enum cotls_step cotls_early_drain(struct cotls_conn *c);

/* ---- crl.c ---- */

extern const struct cotls_setting cotls_crl_settings[];

/* ---- dane.c ---- */

extern const luaL_Reg cotls_dane_methods[];
bool cotls_dane_start(lua_State *L, struct cotls_conn *c); /* [-0, +1] false, a reason on top */
void cotls_dane_matched(struct cotls_conn *c);
bool cotls_dane_binds_name(const struct cotls_conn *c);

/* ---- socket.c ---- */

extern const luaL_Reg cotls_socket_functions[];
struct cotls_socket *cotls_test_socket(lua_State *L, int index);
void cotls_push_address(lua_State *L, const struct sockaddr_in6 *address);
void cotls_socket_open(lua_State *L);

/* ---- poller.c ---- */

const luaL_Reg *cotls_poller_open(lua_State *L); /* its functions */

/* ---- x509.c ---- */

/* DNS names as in RFC 6125: no fall-back to the subject's CN, a wildcard is a whole label. */
#define COTLS_NAME_FLAGS (X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS)

void cotls_push_x509(lua_State *L, X509 *cert); /* [-0, +1] with its own reference; nil for NULL */
X509 *cotls_test_x509(lua_State *L, int index); /* NULL: something else */
X509 *cotls_check_x509(lua_State *L);           /* the first argument */
int cotls_x509(lua_State *L);
void cotls_x509_open(lua_State *L);

/* ---- extension.c: certificate extensions ---- */

extern const luaL_Reg cotls_extension_methods[];

/* ---- subject.c: distinguished names ---- */

void cotls_push_name(lua_State *L, const X509_NAME *name);     /* [-0, +2] text, table */
void cotls_push_object(lua_State *L, const ASN1_OBJECT *type); /* [-0, +1] OID as text */
bool cotls_name_parse(X509_NAME *name, const char *text, size_t n, const char **reason);

/* ---- make_certificate.c: reads what is asked for ---- */

#define COTLS_MAX_PURPOSES 128

struct cotls_list {
    const struct cotls_text *items;
    size_t count;
};

struct cotls_key_type {
    const char *name;
    EVP_PKEY *(*generate)(unsigned bits);
};

/* What is asked for; all text belongs to Lua values on the stack. */
struct cotls_wish {
    const char *subject; /* NULL: from the names */
    size_t subject_len;
    struct cotls_list names, ocsp_urls, ca_issuer_urls;
    double days;                  /* 0: not said */
    double not_before, not_after; /* seconds since 1970; NAN: not said */
    const struct cotls_key_type *key_type;
    unsigned bits;                            /* of an RSA key; 0: not said */
    const char *digest;                       /* NULL: SHA-256 */
    struct cotls_text ca_certificate, ca_key; /* data NULL: it signs itself */
    int path_length;                          /* -1: no limit */
    char purposes[COTLS_MAX_PURPOSES];        /* as OpenSSL's configuration names them */
    bool has_purposes, is_ca, must_staple;
};

/* What OpenSSL makes of it, and the option and reason of a failure. */
struct cotls_issue {
    EVP_PKEY *key, *ca_key;
    X509 *certificate, *ca_certificate;
    BIO *key_pem, *certificate_pem;
    const char *option;
    const char *reason; /* NULL: OpenSSL's */
};

int cotls_make_certificate(lua_State *L);

/* ---- issue.c: makes it, without Lua ---- */

bool cotls_issue(const struct cotls_wish *w, struct cotls_issue *k);
void cotls_issue_free(struct cotls_issue *k);

#endif
