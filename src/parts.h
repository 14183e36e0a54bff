/* SPDX-License-Identifier: MIT
 * What each file gives the others, file by file. cotls.h includes it, behind the
 * objects that it is about. */
#ifndef COTLS_PARTS_H
#define COTLS_PARTS_H

/* ---- error.c ---- */

/* Each pushes one error object. */
void cotls_error_copy(lua_State *L);
void cotls_error_plain(lua_State *L, const char *code, const char *operation, const char *reason);
void cotls_error_config(lua_State *L, const char *option); /* [-1, +1] the text on top */
void cotls_error_conn(lua_State *L, struct cotls_conn *c, const char *operation, enum cotls_step step);
void cotls_push_queue_reason(lua_State *L); /* [-0, +1] text of the queue's first error; clears it */
void cotls_push_verify(lua_State *L, const struct cotls_conn *c);
int cotls_nil_error(lua_State *L);
int cotls_explain(lua_State *L); /* xpcall's handler: the `cause` shape */

/* Each pushes nil and an error object: return cotls_fail(…). */
int cotls_fail(lua_State *L, const char *code, const char *operation, const char *reason);
int cotls_fail_system(lua_State *L, const char *operation, int err);
int cotls_fail_config(lua_State *L, const char *option); /* [-1, +2] the text on top */

bool cotls_is_error(lua_State *L, int index);
void cotls_clear_errors(void);
void cotls_call_clean(lua_State *L, int arguments, int results);
int cotls_error_new(lua_State *L);
int cotls_error_refused(lua_State *L);
const char *cotls_alert_name(int number);                                /* NULL: it has none */
int cotls_alert_number(const char *name);                                /* 0: unknown */
void cotls_set_string(lua_State *L, const char *key, const char *value); /* of the table on top */
void cotls_error_open(lua_State *L);

/* ---- drive.c ---- */

int cotls_run(lua_State *L, struct cotls_conn *c, const struct cotls_op *op, lua_CFunction method);
int cotls_run_lines(lua_State *L, struct cotls_conn *c, const struct cotls_op *op, lua_CFunction method);
enum cotls_step cotls_outcome(struct cotls_conn *c, int ret);
enum cotls_step cotls_flush_step(struct cotls_conn *c);
enum cotls_step cotls_room_step(struct cotls_conn *c);
int cotls_wait(lua_State *L);
int cotls_poll(lua_State *L);
int cotls_wait_ended(lua_State *L, int base);
extern const struct cotls_op cotls_op_do_handshake, cotls_op_accept, cotls_op_connect;

/* ---- leave.c: where C functions can't be resumed ---- */

#define COTLS_NO_SLOT (-1)

int cotls_leave(lua_State *L, int n, lua_KContext id, lua_KFunction k);
int cotls_leave_yielding(lua_State *L, int n, lua_KContext id, lua_KFunction k);
int cotls_leave_protected(lua_State *L, int n, lua_KContext id, lua_KFunction k);
int cotls_resume(lua_State *L);
int cotls_set_loop(lua_State *L);
void cotls_loop_open(lua_State *L); /* core is on top [-0, +0] */

/* ---- ending.c: how an operation ends ---- */

void cotls_push_failure(lua_State *L, const char *operation);
int cotls_end(lua_State *L, struct cotls_conn *c, struct cotls_slot *s);
int cotls_end_with(lua_State *L, struct cotls_conn *c, struct cotls_slot *s, const char *code,
                   const char *reason);
double cotls_deadline(struct cotls_conn *c, struct cotls_slot *s);
bool cotls_time_is_up(struct cotls_conn *c, struct cotls_slot *s, double now);
void cotls_keep_error(lua_State *L, struct cotls_conn *c, struct cotls_slot *s);
int cotls_end_want(lua_State *L, struct cotls_conn *c, struct cotls_slot *s, bool write);
int cotls_end_closed(lua_State *L, struct cotls_conn *c, struct cotls_slot *s);
int cotls_end_step(lua_State *L, struct cotls_conn *c, struct cotls_slot *s, enum cotls_step step);
int cotls_end_timeout(lua_State *L, struct cotls_conn *c, struct cotls_slot *s);
int cotls_end_cancelled(lua_State *L, struct cotls_conn *c, struct cotls_slot *s, bool given);

/* ---- scheduler.c: the one in force ---- */

int cotls_set_scheduler(lua_State *L);
int cotls_get_scheduler(lua_State *L);
void cotls_push_scheduler(lua_State *L, const struct cotls_conn *c); /* [-0, +1] a table or nil */
void cotls_note_waited(lua_State *L, struct cotls_conn *c);
void cotls_scheduler_open(lua_State *L);
void cotls_release(lua_State *L, int index);
void cotls_wake(lua_State *L, struct cotls_conn *c);
bool cotls_can_park(lua_State *L, const struct cotls_conn *c);
void cotls_call_method(lua_State *L, const char *name);

/* ---- slot.c ---- */

bool cotls_slot_held(lua_State *L, struct cotls_conn *c, struct cotls_slot *s);
bool cotls_slot_busy(lua_State *L, struct cotls_conn *c, const struct cotls_op *op);
void cotls_slot_hold(lua_State *L, struct cotls_slot *s);
struct cotls_slot *cotls_slot_claim(struct cotls_conn *c, const struct cotls_op *op,
                                    const struct cotls_slot *init);
struct cotls_slot *cotls_slot_next(lua_State *L, struct cotls_conn *c, struct cotls_slot *s);
bool cotls_asks_elsewhere(lua_State *L, struct cotls_conn *c, struct cotls_slot *s);

/* ---- hook.c: what OpenSSL calls ---- */

int cotls_hook_verify(X509_STORE_CTX *store, void *arg);
int cotls_hook_verify_error(int ok, X509_STORE_CTX *store);
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

int cotls_hook_certificate(SSL *ssl, void *arg);
SSL_SESSION *cotls_hook_session_get(SSL *ssl, const unsigned char *id, int n, int *copy);
void cotls_hook_session_remove(SSL_CTX *ctx, SSL_SESSION *session);
void cotls_hook_keylog(const SSL *ssl, const char *line);
void cotls_hook_message(int write, int version, int type, const void *data, size_t n, SSL *ssl, void *arg);

/* ---- ask.c: questions and answers, without Lua ---- */

typedef int cotls_ssl_function(SSL *ssl, void *data, size_t size, size_t *done);

bool cotls_asks_make(struct cotls_conn *c);
void cotls_asks_cancel(struct cotls_conn *c);
void cotls_asks_forget(struct cotls_conn *c);
void cotls_asks_settle(struct cotls_conn *c);
int cotls_set_async(lua_State *L);
unsigned cotls_job_hooks(unsigned hooks, bool server);
void cotls_asks_free(struct cotls_conn *c);
struct cotls_ctx *cotls_hook_context(const struct cotls_conn *c, enum cotls_hook hook);
bool cotls_can_pause(void);
bool cotls_hooked(const struct cotls_conn *c, enum cotls_hook hook);
const struct cotls_answer *cotls_ask(struct cotls_conn *c, enum cotls_hook hook, const void *question,
                                     size_t n, bool *later);
void cotls_ask_refuse(struct cotls_conn *c, const char *reason);
struct cotls_conn *cotls_current(void);
const struct cotls_answer *cotls_answered(const struct cotls_conn *c, enum cotls_hook hook,
                                          const void *question, size_t n);
int cotls_refused_alert(const struct cotls_conn *c, enum cotls_hook hook, int otherwise);
bool cotls_is_asked(const struct cotls_conn *c);
int cotls_call(struct cotls_conn *c, cotls_ssl_function *function, void *data, size_t size, size_t *done);
int cotls_call_read(struct cotls_conn *c, cotls_ssl_function *function, void *data, size_t *done);
struct cotls_event *cotls_tell(struct cotls_conn *c, enum cotls_hook hook, const void *text, size_t n);
void cotls_event_done(struct cotls_asks *a);
void cotls_asks_abandon(struct cotls_asks *a);
void cotls_asks_fail(struct cotls_conn *c, struct cotls_slot *s);

/* ---- answer.c: the Lua functions ---- */

int cotls_hook_push(lua_State *L, struct cotls_conn *c,
                    struct cotls_slot *s); /* handler, function, arguments: their number, or -1 */
void cotls_hook_take(lua_State *L, struct cotls_conn *c, int base, bool failed);
void cotls_hooks_install(struct cotls_ctx *x);

/* ---- prefetch.c: hooks without jobs ---- */

bool cotls_prefetch(struct cotls_conn *c, int *alert);
bool cotls_prefetch_psk(struct cotls_conn *c);
unsigned cotls_prefetched(const struct cotls_ctx *x);

/* ---- second_hello.c ---- */

bool cotls_same_hello(struct cotls_conn *c, int *alert);

/* ---- change.c: what hooks change ---- */

int cotls_use_credential(lua_State *L);
int cotls_use_staple(lua_State *L);
extern const luaL_Reg cotls_hook_methods[];

/* ---- bio_fd.c ---- */

BIO *cotls_bio_fd(struct cotls_conn *c);
BIO *cotls_bio_new(struct cotls_conn *c, const BIO_METHOD *method);
BIO_METHOD *cotls_bio_method(const char *name, int (*write)(BIO *, const char *, size_t, size_t *),
                             int (*read)(BIO *, char *, size_t, size_t *));
size_t cotls_bio_take(struct cotls_conn *c, char *data, size_t n);
int cotls_flush(struct cotls_conn *c); /* 1: all is sent; 0: not now; -1: c->send_errno */

/* ---- bio_stream.c ---- */

BIO *cotls_bio_stream(struct cotls_conn *c);
int cotls_stream_flush(struct cotls_conn *c); /* cotls_flush of a stream */

/* ---- stream.c: what a stream's functions are given, and what comes of their results ---- */

/* MOVED also when the function failed: the next step meets that. */
enum cotls_moved { MOVED, MOVED_TIMEOUT, MOVED_CANCELLED };

int cotls_stream_call(lua_State *L, struct cotls_conn *c, struct cotls_slot *s, enum cotls_way way,
                      double deadline);
void cotls_stream_open(lua_State *L);
enum cotls_moved cotls_stream_take(lua_State *L, struct cotls_conn *c, struct cotls_slot *s, bool failed);
bool cotls_stream_taken(lua_State *L, struct cotls_conn *c, enum cotls_way way);
bool cotls_stream_has_output(lua_State *L, struct cotls_conn *c, const struct cotls_slot *s);
void cotls_stream_check(lua_State *L, struct cotls_conn *c);
void cotls_stream_give(lua_State *L, int index);

/* ---- connection.c ---- */

struct cotls_conn *cotls_check_conn(lua_State *L);
void cotls_choose_side(lua_State *L, struct cotls_conn *c, enum cotls_side side, const char *verb);
void cotls_handshake_begin(struct cotls_conn *c);
struct cotls_text cotls_peer(struct cotls_conn *c); /* its address */
struct cotls_bytes cotls_alpn(const struct cotls_conn *c);
void cotls_conn_close(lua_State *L, int index, bool notify);
int cotls_push_self(lua_State *L, struct cotls_conn *c, struct cotls_slot *s);
int cotls_is_connection(lua_State *L);
int cotls_wrap(lua_State *L);
void cotls_connection_open(lua_State *L);

/* ---- transport.c ---- */

/* wrap's frame: context, transport, options or nil, then the connection. */
#define WRAP_TRANSPORT 2
#define WRAP_OPTIONS 3

struct cotls_transport {
    int fd;                      /* -1: none */
    struct cotls_socket *socket; /* one of ours, or NULL */
    bool stream;
};

const char *cotls_transport_find(lua_State *L, struct cotls_conn *c,
                                 struct cotls_transport *t); /* NULL, or why not */
void cotls_transport_adopt(lua_State *L, struct cotls_conn *c, const struct cotls_transport *t);
void cotls_transport_drain(const struct cotls_conn *c);
extern const luaL_Reg cotls_transport_methods[];
void cotls_transport_close(lua_State *L, int index, bool notify);

/* ---- transfer.c: read, write and shutdown ---- */

extern const luaL_Reg cotls_transfer_methods[];
int cotls_recv_until(lua_State *L);
int cotls_write_until(lua_State *L);
int cotls_try_write(lua_State *L);
extern const struct cotls_op cotls_op_write;
enum cotls_step cotls_fill(struct cotls_conn *c); /* one SSL_read into c->plain */
void cotls_annotate_written(lua_State *L, struct cotls_conn *c, struct cotls_slot *s);

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
int cotls_change_context(lua_State *L);
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

#define COTLS_NO_RANK (-1)
typedef int cotls_rank(const SSL_CIPHER *cipher); /* from 0; COTLS_NO_RANK leaves it out */
char *cotls_join_ciphers(const STACK_OF(SSL_CIPHER) * all, cotls_rank *rank, int ranks);

extern const luaL_Reg cotls_config_context_methods[];

/* ---- answer.c: the options ---- */

extern const struct cotls_setting cotls_hook_settings[];

/* ---- hello.c ---- */

/* Parts of a message that is kept elsewhere. */
struct cotls_hello {
    unsigned version; /* legacy_version */
    struct cotls_bytes random, session_id, ciphers, extensions;
};

void cotls_hello_keep(struct cotls_conn *c, const void *message, size_t n);
void cotls_push_hello(lua_State *L, struct cotls_conn *c); /* [-0, +1] */
bool cotls_hello_next(struct cotls_bytes *extensions, unsigned *type, struct cotls_bytes *body);
bool cotls_hello_extension(const struct cotls_hello *h, unsigned type, struct cotls_bytes *body);
bool cotls_hello_list(const struct cotls_hello *h, unsigned type, size_t width, size_t size,
                      struct cotls_bytes *list);
bool cotls_hello_parse(struct cotls_bytes message, struct cotls_hello *h);
bool cotls_protocols_in(struct cotls_bytes body, struct cotls_bytes *list); /* the extension's */
bool cotls_server_name_in(struct cotls_bytes body, struct cotls_bytes *name);
bool cotls_hello_server_name(const struct cotls_hello *h, struct cotls_bytes *name);
bool cotls_hello_protocols(const struct cotls_hello *h, struct cotls_bytes *list);
bool cotls_hello_next_protocol(struct cotls_bytes *list, struct cotls_bytes *name);
unsigned cotls_hello_item(struct cotls_bytes list, size_t i); /* of two bytes each */
bool cotls_is_grease(unsigned number);
int cotls_parse_client_hello(lua_State *L);

/* ---- hello_table.c ---- */

void cotls_push_hello_table(lua_State *L);                               /* [-1, +1] of the message on top */
void cotls_push_hello_fields(lua_State *L, const struct cotls_hello *h); /* [-0, +1] */
void cotls_hello_open(lua_State *L);

/* ---- fingerprint.c ---- */

void cotls_push_ja3_text(lua_State *L, const struct cotls_hello *h); /* [-0, +1] each */
void cotls_push_ja3(lua_State *L, const struct cotls_hello *h);
void cotls_push_ja4(lua_State *L, const struct cotls_hello *h);

/* ---- trace.c ---- */

void cotls_trace_message(struct cotls_conn *c, bool sent, int version, int type, const void *data, size_t n);
void cotls_trace_state(struct cotls_conn *c, const SSL *ssl);
void cotls_push_trace(lua_State *L, const struct cotls_conn *c, const struct cotls_event *e); /* [-0, +1] */

/* ---- keylog.c ---- */

extern const struct cotls_setting cotls_keylog_settings[];
void cotls_keylog_write(const struct cotls_ctx *x, const char *line);
void cotls_keylog_close(struct cotls_ctx *x);

/* ---- removed.c: sessions that have gone ---- */

void cotls_removed_note(struct cotls_ctx *x, const SSL_SESSION *session);
void cotls_removed_tell(struct cotls_conn *c);
void cotls_removed_free(struct cotls_ctx *x);
int cotls_take_removed(lua_State *L);

/* ---- remote_key.c, signing.c: keys that live elsewhere ---- */

EVP_PKEY *cotls_remote_key(EVP_PKEY *public_key);
void cotls_push_signing(lua_State *L, const unsigned char *question, size_t n); /* [-0, +1] */
const char *cotls_signing_suites(SSL_CTX *ctx, SSL *ssl);

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
void cotls_verify_note(struct cotls_conn *c, int depth, int code);
void cotls_verify_judged(struct cotls_conn *c, long code);
void cotls_verify_nobody(struct cotls_ctx *x);
void cotls_verify_fail(struct cotls_conn *c, int code, const char *text, const X509 *cert);

/* ---- ocsp.c ---- */

extern const struct cotls_setting cotls_ocsp_settings[];
int cotls_set_ocsp_response(lua_State *L);
bool cotls_ocsp_check(struct cotls_conn *c);
int cotls_ocsp_give(struct cotls_conn *c);
int cotls_ocsp_staple(struct cotls_conn *c, const void *der, size_t n);
const char *cotls_ocsp_fault(const struct cotls_credential *k, const void *der, size_t size);

/* ---- renewal.c: after the handshake ---- */

extern const luaL_Reg cotls_renewal_methods[];
extern const struct cotls_setting cotls_renewal_settings[];
enum cotls_step cotls_settle(struct cotls_conn *c, struct cotls_slot *s);
bool cotls_may_shake_again(const struct cotls_conn *c);

/* ---- psk.c: pre-shared keys ---- */

extern const luaL_Reg cotls_psk_methods[];
extern const struct cotls_setting cotls_psk_settings[];
void cotls_psk_free(struct cotls_psk *psk);
bool cotls_psk_offer(struct cotls_conn *c, const EVP_MD *md, const unsigned char **identity, size_t *n,
                     SSL_SESSION **session);
bool cotls_psk_find(struct cotls_conn *c, const unsigned char *identity, size_t n, SSL_SESSION **session);
unsigned cotls_psk_client(struct cotls_conn *c, const char *hint, char *identity, size_t max_identity,
                          unsigned char *key, size_t max_key);
unsigned cotls_psk_server(struct cotls_conn *c, const char *identity, unsigned char *key, size_t max_key);
int cotls_psk_judge_ticket(const struct cotls_conn *c, const SSL_SESSION *session, int status);
bool cotls_may_be_tls13(SSL *ssl);
bool cotls_will_be_tls13(SSL *ssl); /* inside client_hello */
bool cotls_psk_hello(struct cotls_conn *c);
bool cotls_has_psk(const struct cotls_ctx *x);
void cotls_psk_done(struct cotls_conn *c);
bool cotls_psk_lost(struct cotls_conn *c);

/* ---- names.c ---- */

extern const struct cotls_setting cotls_names_settings[];
bool cotls_names_choose(struct cotls_conn *c, int *alert);
bool cotls_names_switch(struct cotls_conn *c, struct cotls_ctx *x);
void cotls_names_push(lua_State *L,
                      const struct cotls_ctx *x); /* [-0, +1] the userdata of one of names, or nil */
bool cotls_same_verification(const struct cotls_ctx *x, const struct cotls_ctx *y);

/* ---- session.c ---- */

extern const luaL_Reg cotls_session_methods[];
int cotls_session(lua_State *L);
int cotls_is_session(lua_State *L);
void cotls_session_option(lua_State *L, int index, struct cotls_conn *c);
void cotls_session_begin(struct cotls_conn *c);
void cotls_session_forget(struct cotls_conn *c);
bool cotls_session_new(struct cotls_conn *c, SSL_SESSION *session);
bool cotls_session_mark(const struct cotls_conn *c, SSL_SESSION *session);
bool cotls_session_identity(SSL_SESSION *session, struct cotls_bytes *identity);
void cotls_session_not_here(struct cotls_ctx *x);
SSL_SESSION *cotls_session_decode(const unsigned char *data, size_t size, const unsigned char *id, size_t n);
void cotls_session_established(struct cotls_conn *c);
void cotls_session_keep(struct cotls_conn *c);
void cotls_session_push(lua_State *L, SSL_SESSION *session); /* [-0, +1] */
bool cotls_session_text(lua_State *L, int index);            /* a session there: [-0, +1] what it exports */
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
int cotls_ticket_answer(const struct cotls_conn *c, const unsigned char *key, unsigned char *name,
                        unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, bool encrypt);
bool cotls_tickets_for_names(struct cotls_ctx *x);
bool cotls_ticket_is_ours(const struct cotls_conn *c, const unsigned char *name);
void cotls_tickets_free(struct cotls_tickets *t);
void cotls_session_cached(struct cotls_conn *c, SSL_SESSION *session, bool looked_up);

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

/* ---- luasec.c and its parts: what cotls.luasec is made of ---- */

enum cotls_luasec_stage { LUASEC_NEW, LUASEC_CONNECTED, LUASEC_FAILED, LUASEC_CLOSED };

struct cotls_luasec {
    struct cotls_conn *c; /* kept by UV_LUASEC_CONN; NULL: none yet */
    enum cotls_luasec_stage stage;
    int fd;              /* -1: none */
    double block, total; /* timeouts in seconds, of a wait and of an operation; -1: none */
    double received, sent, birthday;
    size_t base;   /* bytes of the string before those that are sent */
    bool starved;  /* the last receive has used up all that had arrived */
    bool withheld; /* the last byte is on its way, but was told unsent: it comes again */
    char last;
};
enum { UV_LUASEC_STATE = 1, UV_LUASEC_CONN, UV_LUASEC_COUNT = UV_LUASEC_CONN };

struct cotls_luasec *cotls_luasec_check(lua_State *L); /* the first argument, of the function's class */
void cotls_luasec_open(lua_State *L);
extern const luaL_Reg cotls_luasec_operations[], cotls_luasec_context_functions[],
    cotls_luasec_option_functions[], cotls_luasec_x509_functions[];

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
