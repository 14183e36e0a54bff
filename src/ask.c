/* SPDX-License-Identifier: MIT
 * Questions that OpenSSL asks and Lua answers. A callback (hook.c) files its
 * question and suspends OpenSSL, by OpenSSL's own retry or by pausing the job that
 * the call runs in; the driver runs the Lua function on the caller's coroutine;
 * the callback, asked again, finds the answer here, also when OpenSSL asks twice
 * after a HelloRetryRequest. No answer, or a wrong one, always means "refuse".
 * What only has to be told waits in a queue. Nothing here calls Lua. */
#include "cotls.h"

#include <openssl/async.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>

bool cotls_asks_make(struct cotls_conn *c)
{
    struct cotls_asks *a = calloc(1, sizeof *a);
    if (a == NULL)
        return false;
    a->last = &a->first;
    c->asks = a;
    return true;
}

/* ---- answers ---- */

/* Of one handshake: a hello may name thousands of sessions and tickets, and each question costs the hook's work. */
#define MAX_QUESTIONS 64

static void free_answer(struct cotls_answer *w)
{
    OPENSSL_cleanse(w->data, w->len); /* a key, maybe */
    free(w->data);
    free(w);
}

static void free_answers(struct cotls_asks *a)
{
    while (a->answers != NULL) {
        struct cotls_answer *w = a->answers;
        a->answers = w->next;
        free_answer(w);
    }
    a->pending = NULL;
}

static struct cotls_answer *find(const struct cotls_asks *a, enum cotls_hook hook, const void *question,
                                 size_t n)
{
    struct cotls_answer *w = a->answers;
    while (w != NULL &&
           !(w->hook == hook && w->question_len == n && (n == 0 || memcmp(w->question, question, n) == 0)))
        w = w->next;
    return w;
}

static struct cotls_answer *file_question(struct cotls_asks *a, enum cotls_hook hook, const void *question,
                                          size_t n)
{
    unsigned count = 0;
    for (const struct cotls_answer *other = a->answers; other != NULL; other = other->next)
        count++;
    struct cotls_answer *w = count < MAX_QUESTIONS ? malloc(sizeof *w + n) : NULL;
    if (w == NULL)
        return NULL;
    *w = (struct cotls_answer){.hook = hook, .question_len = n, .next = a->answers};
    if (n > 0)
        memcpy(w->question, question, n);
    a->answers = w;
    return w;
}

/* Whose hook it is: that of the context in force, or of the one at the door where it is about the whole
 * connection. */
struct cotls_ctx *cotls_hook_context(const struct cotls_conn *c, enum cotls_hook hook)
{
    return hook == HOOK_CLIENT_HELLO || hook > HOOK_SESSION_NEW ? c->ctx : c->active;
}

bool cotls_hooked(const struct cotls_conn *c, enum cotls_hook hook)
{
    return c->asks != NULL && (cotls_hook_context(c, hook)->hooks & (1U << hook)) != 0;
}

static bool without_jobs; /* as where OpenSSL has none */

/* core.set_async(boolean): false makes the process one without jobs, for specs. */
int cotls_set_async(lua_State *L)
{
    without_jobs = !lua_toboolean(L, 1);
    return 0;
}

/* Not where the system has no stacks to switch to: musl, OpenBSD, Android. */
bool cotls_can_pause(void)
{
    return !without_jobs && ASYNC_is_capable() == 1;
}

/* The connection closes, or a hook has refused: nobody else is asked. */
static bool is_over(const struct cotls_asks *a)
{
    return a->cancelled || a->refused;
}

/* Pauses the job until the question is answered; false: it never will be. */
static bool wait_in_job(struct cotls_asks *a, const struct cotls_answer *w)
{
    while (!w->given && !is_over(a)) {
        unsigned starts = a->starts;
        bool paused = ASYNC_get_current_job() != NULL && ASYNC_pause_job() == 1 && a->starts != starts;
        if (!paused)
            return false;
    }
    return w->given;
}

/* The answer, or NULL: with *later set it comes later and OpenSSL must be told to retry, else it is refused.
 * Where later is NULL the job is paused in here; inside client_hello, and without jobs, OpenSSL comes again too. */
const struct cotls_answer *cotls_ask(struct cotls_conn *c, enum cotls_hook hook, const void *question,
                                     size_t n, bool *later)
{
    struct cotls_asks *a = c->asks;
    struct cotls_answer *w = find(a, hook, question, n);
    if (later != NULL)
        *later = false;
    if (w != NULL && w->given && !a->cancelled)
        return w->ok ? w : NULL;
    if (is_over(a) || (a->in_hello && cotls_is_asked(c))) /* one after the other */
        return NULL;
    if (w == NULL && (w = file_question(a, hook, question, n)) == NULL) {
        cotls_ask_refuse(c, "a hook can't be asked: no memory, or too many questions");
        return NULL;
    }
    a->pending = w;
    if (later != NULL)
        *later = true;
    if (later != NULL || a->in_hello)
        return NULL;
    if (wait_in_job(a, w) && !a->cancelled)
        return w->ok ? w : NULL;
    a->pending = NULL;
    if (!is_over(a))
        cotls_ask_refuse(c, "a hook is wanted where it can't be waited for");
    return NULL;
}

/* What a hook answered is of no use after all. */
void cotls_ask_refuse(struct cotls_conn *c, const char *reason)
{
    c->refusal = reason;
    c->asks->refused = true;
}

/* The answer that was given, if it is a good one. */
const struct cotls_answer *cotls_answered(const struct cotls_conn *c, enum cotls_hook hook,
                                          const void *question, size_t n)
{
    const struct cotls_answer *w = find(c->asks, hook, question, n);
    return w != NULL && w->given && w->ok ? w : NULL;
}

/* The alert that a hook which refused has named, else the other one. */
int cotls_refused_alert(const struct cotls_conn *c, enum cotls_hook hook, int otherwise)
{
    const struct cotls_answer *w = find(c->asks, hook, NULL, 0);
    return w != NULL && w->alert != 0 ? w->alert : otherwise;
}

/* ---- jobs ---- */

struct call {
    cotls_ssl_function *function;
    SSL *ssl;
    void *data;
    size_t size, *done;
};

static int run_call(void *arg)
{
    const struct call *k = arg;
    return k->function(k->ssl, k->data, k->size, k->done);
}

/* Which of these hooks of one side can't be asked without a job: a client's verify is retried. */
unsigned cotls_job_hooks(unsigned hooks, bool server)
{
    return hooks & (server ? COTLS_JOB_HOOKS : COTLS_JOB_HOOKS & ~(1U << HOOK_VERIFY));
}

/* After the first handshake only a connection that may see another one. */
static bool needs_job(const struct cotls_conn *c)
{
    const struct cotls_asks *a = c->asks;
    if (a == NULL || a->job != NULL)
        return a != NULL;
    return cotls_can_pause() &&
           cotls_job_hooks(c->active->hooks | c->ctx->hooks_below, c->ctx->server) != 0 &&
           (!c->established || cotls_may_shake_again(c));
}

/* Whose job runs on this thread: what asks a key for a signature doesn't say for which connection. */
static _Thread_local struct cotls_conn *current;

struct cotls_conn *cotls_current(void)
{
    return current;
}

/* Starts or goes on with the job; what the function returned, or -1 while it is paused. */
static int run_job(struct cotls_conn *c, struct call call)
{
    struct cotls_asks *a = c->asks;
    struct cotls_conn *outer = current;
    int ret = -1;
    a->starts++;
    current = c;
    int status = ASYNC_start_job(&a->job, a->wait, &ret, run_call, &call, sizeof call);
    current = outer;
    if (status == ASYNC_PAUSE)
        return -1;
    a->job = NULL;
    if (status == ASYNC_FINISH)
        return ret;
    ERR_raise_data(ERR_LIB_SSL, ERR_R_MALLOC_FAILURE, "no job for a hook");
    c->refusal = "OpenSSL has no job for a hook";
    return -1;
}

/* One call that carries a handshake, in a job where a hook may have to pause it. */
int cotls_call(struct cotls_conn *c, cotls_ssl_function *function, void *data, size_t size, size_t *done)
{
    struct cotls_asks *a = c->asks;
    if (!cotls_prefetch_psk(c))
        return -1;
    if (!needs_job(c) || (a->wait == NULL && (a->wait = ASYNC_WAIT_CTX_new()) == NULL))
        return function(c->ssl, data, size, done);
    if (a->job != NULL) /* the function itself is past it */
        cotls_clear_errors();
    if (a->job != NULL && a->function != function) {
        ERR_raise(ERR_LIB_SSL, ERR_R_SHOULD_NOT_HAVE_BEEN_CALLED);
        c->refusal = "another operation has left a hook unanswered";
        return -1;
    }
    a->function = function;
    return run_job(c, (struct call){function, c->ssl, data, size, &a->done});
}

/* The same for a call that reads: while it is paused `data` may become another connection's, so that it reads
 * into a place of its own. Always asked for a record's worth. */
int cotls_call_read(struct cotls_conn *c, cotls_ssl_function *function, void *data, size_t *done)
{
    struct cotls_asks *a = c->asks;
    *done = 0;
    if (!needs_job(c))
        return function(c->ssl, data, COTLS_RECORD, done);
    if (a->buffer == NULL && (a->buffer = malloc(COTLS_RECORD)) == NULL) {
        cotls_clear_errors();
        ERR_raise(ERR_LIB_SSL, ERR_R_MALLOC_FAILURE);
        return -1;
    }
    if (a->job == NULL)
        a->done = 0;
    int ret = cotls_call(c, function, a->buffer, COTLS_RECORD, &a->done);
    if (a->job == NULL && a->done > 0) {
        memcpy(data, a->buffer, a->done);
        *done = a->done;
    }
    return ret;
}

/* Is OpenSSL suspended by a question? */
bool cotls_is_asked(const struct cotls_conn *c)
{
    const struct cotls_asks *a = c->asks;
    return a != NULL && a->pending != NULL && !a->pending->given && !is_over(a);
}

/* The connection closes: a paused job is run to its end, every callback in it refuses, and nothing is sent. There
 * is no other way to free it. */
void cotls_asks_cancel(struct cotls_conn *c)
{
    struct cotls_asks *a = c->asks;
    if (a == NULL)
        return;
    a->cancelled = true;
    c->dead = true;
    ERR_set_mark();
    while (a->job != NULL)
        run_job(c, (struct call){0});
    ERR_pop_to_mark();
}

/* ---- what has to be told ---- */

static void free_event(struct cotls_event *e)
{
    SSL_SESSION_free(e->session);
    free(e);
}

/* Without memory it is not told. */
struct cotls_event *cotls_tell(struct cotls_conn *c, enum cotls_hook hook, const void *text, size_t n)
{
    struct cotls_event *e = malloc(sizeof *e + n);
    if (e == NULL)
        return NULL;
    *e = (struct cotls_event){.hook = hook, .len = n, .moment = cotls_now()};
    if (n > 0)
        memcpy(e->text, text, n);
    *c->asks->last = e;
    c->asks->last = &e->next;
    return e;
}

void cotls_event_done(struct cotls_asks *a)
{
    struct cotls_event *e = a->first;
    a->first = e->next;
    if (a->first == NULL)
        a->last = &a->first;
    free_event(e);
}

/* The coroutine that ran a function is gone: what was being told is over, a question is asked again. */
void cotls_asks_abandon(struct cotls_asks *a)
{
    if (a->at != NULL && a->telling)
        cotls_event_done(a);
    a->at = NULL;
}

/* What a told function broke fails the operation; a question that is refused has failed the handshake. */
void cotls_asks_fail(struct cotls_conn *c, struct cotls_slot *s)
{
    if (c->asks->refused && s->step != STEP_ASK && s->step != STEP_FAIL) {
        c->ssl_error = SSL_ERROR_SSL;
        s->step = STEP_FAIL;
    }
}

/* ---- the end ---- */

/* A handshake is done, or begins: it asks anew. */
void cotls_asks_forget(struct cotls_conn *c)
{
    struct cotls_asks *a = c->asks;
    if (a == NULL)
        return;
    free_answers(a);
    free(a->hello);
    free(a->first_hello);
    a->hello = a->first_hello = NULL;
}

/* The same after each call, for what a handshake after the first one has left. */
void cotls_asks_settle(struct cotls_conn *c)
{
    if (c->asks->answers != NULL && c->established && c->asks->job == NULL && !SSL_in_init(c->ssl))
        free_answers(c->asks);
}

void cotls_asks_free(struct cotls_conn *c)
{
    struct cotls_asks *a = c->asks;
    c->asks = NULL;
    if (a == NULL)
        return;
    free_answers(a);
    while (a->first != NULL)
        cotls_event_done(a);
    sk_X509_pop_free(a->chain, X509_free);
    ASYNC_WAIT_CTX_free(a->wait);
    free(a->buffer);
    free(a->hello);
    free(a->first_hello);
    free(a);
}
