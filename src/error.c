/* SPDX-License-Identifier: MIT
 * Error objects: the one place where OpenSSL's error queue is drained and where
 * a failure gets its code. An error is a table with a metatable: `code`,
 * `operation`, `reason` and what else is known; tostring gives one line. */
#include "cotls.h"

#include <openssl/err.h>
#include <stdio.h>
#include <string.h>

#define ALERT "cotls.alert"

/* Alert names of RFC 8446 section 6 and, for TLS 1.2, RFC 5246 section 7.2. */
static const char *const alert_names[256] = {
    [0] = "close_notify",
    [10] = "unexpected_message",
    [20] = "bad_record_mac",
    [21] = "decryption_failed",
    [22] = "record_overflow",
    [30] = "decompression_failure",
    [40] = "handshake_failure",
    [41] = "no_certificate",
    [42] = "bad_certificate",
    [43] = "unsupported_certificate",
    [44] = "certificate_revoked",
    [45] = "certificate_expired",
    [46] = "certificate_unknown",
    [47] = "illegal_parameter",
    [48] = "unknown_ca",
    [49] = "access_denied",
    [50] = "decode_error",
    [51] = "decrypt_error",
    [60] = "export_restriction",
    [70] = "protocol_version",
    [71] = "insufficient_security",
    [80] = "internal_error",
    [86] = "inappropriate_fallback",
    [90] = "user_canceled",
    [100] = "no_renegotiation",
    [109] = "missing_extension",
    [110] = "unsupported_extension",
    [111] = "certificate_unobtainable",
    [112] = "unrecognized_name",
    [113] = "bad_certificate_status_response",
    [114] = "bad_certificate_hash_value",
    [115] = "unknown_psk_identity",
    [116] = "certificate_required",
    [120] = "no_application_protocol",
};

const char *cotls_alert_name(int number)
{
    return alert_names[number & 255];
}

int cotls_alert_number(const char *name)
{
    for (int i = 1; i < 256; i++)
        if (alert_names[i] != NULL && strcmp(alert_names[i], name) == 0)
            return i;
    return 0;
}

/* ERR_clear_error(3), which goes through the whole queue even if it is empty. */
void cotls_clear_errors(void)
{
    if (ERR_peek_error() != 0)
        ERR_clear_error();
}

/* As lua_call; OpenSSL's queue is empty afterwards, whether Lua raises (it may have no memory) or not. */
void cotls_call_clean(lua_State *L, int arguments, int results)
{
    int status = lua_pcall(L, arguments, results, 0);
    cotls_clear_errors();
    if (status != LUA_OK)
        lua_error(L);
}

/* [-0, +0] on the table at the top; nothing for NULL. */
void cotls_set_string(lua_State *L, const char *key, const char *value)
{
    if (value != NULL) {
        lua_pushstring(L, value);
        lua_setfield(L, -2, key);
    }
}

static void set_integer(lua_State *L, const char *key, lua_Integer value)
{
    lua_pushinteger(L, value);
    lua_setfield(L, -2, key);
}

/* [-0, +1] */
static void push_empty(lua_State *L)
{
    lua_createtable(L, 0, 8);
    luaL_setmetatable(L, COTLS_ERROR);
}

/* [-0, +1] */
static void push_new(lua_State *L, const char *code, const char *operation, const char *reason)
{
    push_empty(L);
    cotls_set_string(L, "code", code);
    cotls_set_string(L, "operation", operation);
    cotls_set_string(L, "reason", reason);
}

/* Another error object with the fields of the one on top. [-1, +1] */
void cotls_error_copy(lua_State *L)
{
    push_empty(L);
    lua_pushnil(L);
    while (lua_next(L, -3) != 0) {
        lua_pushvalue(L, -2);
        lua_insert(L, -2);
        lua_rawset(L, -4);
    }
    lua_remove(L, -2);
}

void cotls_error_plain(lua_State *L, const char *code, const char *operation, const char *reason)
{
    push_new(L, code, operation, reason);
}

void cotls_error_config(lua_State *L, const char *option)
{
    lua_pushfstring(L, "%s: %s", option, lua_tostring(L, -1));
    push_new(L, "config", NULL, lua_tostring(L, -1));
    lua_replace(L, -3);
    lua_pop(L, 1);
}

/* One entry of OpenSSL's queue; [-0, +1] */
static void push_entry(lua_State *L, unsigned long code, const char *data)
{
    char text[256];
    lua_createtable(L, 0, 4);
    cotls_set_string(L, "library", ERR_lib_error_string(code));
    cotls_set_string(L, "reason", ERR_reason_error_string(code));
    cotls_set_string(L, "data", data != NULL && *data != '\0' ? data : NULL);
    ERR_error_string_n(code, text, sizeof text);
    cotls_set_string(L, "text", text);
}

/* Drains the queue into `queue` of the error at the top. [-0, +0] */
static void set_queue(lua_State *L)
{
    const char *data;
    unsigned long code;
    lua_Integer n = 0;
    lua_newtable(L);
    while ((code = ERR_get_error_all(NULL, NULL, NULL, &data, NULL)) != 0) {
        push_entry(L, code, data);
        lua_rawseti(L, -2, ++n);
    }
    lua_setfield(L, -2, "queue");
}

/* The text is copied first: Lua may have no memory for it, and the queue is empty then, too. */
void cotls_push_queue_reason(lua_State *L)
{
    char text[1024];
    const char *data = NULL;
    unsigned long code = ERR_peek_error_data(&data, NULL);
    const char *reason = ERR_reason_error_string(code);
    if (reason == NULL)
        reason = ERR_SYSTEM_ERROR(code) ? strerror(ERR_GET_REASON(code)) : "unknown reason";
    bool more = data != NULL && *data != '\0';
    snprintf(text, sizeof text, more ? "%s (%s)" : "%s", reason, data);
    ERR_clear_error();
    lua_pushstring(L, text);
}

/* [-0, +1] the `verify` shape */
void cotls_push_verify(lua_State *L, const struct cotls_conn *c)
{
    const char *text =
        c->verify_text != NULL ? c->verify_text : X509_verify_cert_error_string(c->verify_code);
    lua_createtable(L, 0, 4);
    set_integer(L, "code", c->verify_code);
    cotls_set_string(L, "text", text);
    if (c->verify_code != X509_V_OK)
        set_integer(L, "depth", c->verify_depth);
    cotls_set_string(L, "subject", c->verify_subject);
}

/* [-0, +1] the `alert` shape */
static void push_alert(lua_State *L, int number, bool sent)
{
    lua_createtable(L, 0, 3);
    luaL_setmetatable(L, ALERT);
    if (cotls_alert_name(number) != NULL)
        cotls_set_string(L, "name", cotls_alert_name(number));
    set_integer(L, "number", number);
    lua_pushboolean(L, sent);
    lua_setfield(L, -2, "sent");
}

static bool truncated(const struct cotls_conn *c)
{
    unsigned long code = ERR_peek_error();
    if (c->ssl_error == SSL_ERROR_SYSCALL)
        return c->sys_errno == 0;
    return ERR_GET_LIB(code) == ERR_LIB_SSL && ERR_GET_REASON(code) == SSL_R_UNEXPECTED_EOF_WHILE_READING;
}

/* The code of a failure, from what the step left. */
static const char *failure_code(const struct cotls_conn *c)
{
    unsigned long code = ERR_peek_error();
    bool of_ssl = ERR_GET_LIB(code) == ERR_LIB_SSL;
    if (c->asks != NULL && c->asks->refused)
        return "hook";
    if ((c->alert >= 0 && !c->alert_sent) || (of_ssl && ERR_GET_REASON(code) >= SSL_AD_REASON_OFFSET))
        return "alert";
    if (of_ssl && (ERR_GET_REASON(code) == SSL_R_CERTIFICATE_VERIFY_FAILED ||
                   ERR_GET_REASON(code) == SSL_R_INVALID_STATUS_RESPONSE))
        return "verify";
    if (truncated(c)) /* a handshake whose sending failed went on to look for an alert */
        return c->send_lost && !c->established ? "system" : "truncated";
    return c->ssl_error == SSL_ERROR_SYSCALL ? "system" : "tls";
}

/* Reason and cause, from the table on top to the error below it. [-1, +0] */
static void copy_told(lua_State *L)
{
    lua_getfield(L, -1, "reason");
    lua_setfield(L, -3, "reason");
    lua_getfield(L, -1, "cause");
    lua_setfield(L, -3, "cause");
    lua_pop(L, 1);
}

/* [-0, +0] what is known of the failure, on the error at the top; UV_CAUSE is at 2, UV_BROKEN at 3 */
static void set_details(lua_State *L, struct cotls_conn *c, const char *code)
{
    int err = c->sys_errno != 0 ? c->sys_errno : c->send_errno;
    if (strcmp(code, "system") == 0 && err < 0) { /* COTLS_BROKEN */
        lua_rawgeti(L, 3, -err);
        copy_told(L);
    } else if (strcmp(code, "system") == 0) {
        cotls_set_string(L, "reason", strerror(err));
        set_integer(L, "errno", err);
    } else if (strcmp(code, "truncated") == 0) {
        cotls_set_string(L, "reason", "the peer ended the stream without close_notify");
    } else if (strcmp(code, "alert") == 0 && c->alert < 0) {
        c->alert = ERR_GET_REASON(ERR_peek_error()) - SSL_AD_REASON_OFFSET;
    } else if (strcmp(code, "verify") == 0) {
        cotls_push_verify(L, c);
        lua_setfield(L, -2, "verify");
    }
    if (strcmp(code, "hook") == 0 && lua_istable(L, 2)) {
        lua_pushvalue(L, 2);
        copy_told(L);
    }
    if (c->alert >= 0) {
        push_alert(L, c->alert, c->alert_sent);
        lua_setfield(L, -2, "alert");
    }
}

static const char *unknown_want(int ssl_error)
{
    static const char *const text[] = {
        [SSL_ERROR_WANT_X509_LOOKUP] = "OpenSSL waits for a certificate that nobody gives (WANT_X509_LOOKUP)",
        [SSL_ERROR_WANT_CONNECT] = "OpenSSL waits for a connection that nobody makes (WANT_CONNECT)",
        [SSL_ERROR_WANT_ACCEPT] = "OpenSSL waits for a connection that nobody makes (WANT_ACCEPT)",
        [SSL_ERROR_WANT_ASYNC] = "OpenSSL waits for an engine (WANT_ASYNC)",
        [SSL_ERROR_WANT_ASYNC_JOB] = "OpenSSL has no free job (WANT_ASYNC_JOB)",
        [SSL_ERROR_WANT_CLIENT_HELLO_CB] =
            "OpenSSL waits for an answer that nobody gives (WANT_CLIENT_HELLO_CB)",
    };
    bool known = ssl_error >= 0 && (size_t)ssl_error < sizeof text / sizeof *text;
    return known && text[ssl_error] != NULL ? text[ssl_error] : "a want of OpenSSL that cotls does not know";
}

struct failure {
    struct cotls_conn *c;
    const char *operation;
    enum cotls_step step;
};

/* [-0, +1] the error of a step that OpenSSL has refused or failed */
static void push_failure(lua_State *L, struct cotls_conn *c, const char *operation)
{
    const char *code = failure_code(c), *reason = ERR_reason_error_string(ERR_peek_error());
    if (c->refusal != NULL)
        reason = c->refusal;
    push_new(L, code, operation, reason != NULL ? reason : unknown_want(c->ssl_error));
    cotls_set_string(L, "library", ERR_lib_error_string(ERR_peek_error()));
    set_details(L, c, code);
}

/* light userdata, UV_CAUSE, UV_BROKEN → error */
static int make_error(lua_State *L)
{
    const struct failure *f = lua_touserdata(L, 1);
    struct cotls_conn *c = f->c;
    if (f->step == STEP_END) {
        push_new(L, "closed", f->operation, "the peer closed the connection");
    } else if (f->step == STEP_SHUT) {
        push_new(L, "closed", f->operation, "close_notify has been sent: nothing can be written any more");
    } else if (f->step == STEP_LIMIT) {
        push_new(L, "limit", f->operation, "too much data");
    } else if (f->step == STEP_REFUSED) {
        push_new(L, "tls", f->operation, c->refusal);
        c->refusal = NULL;
        cotls_clear_errors();
    } else {
        push_failure(L, c, f->operation);
    }
    set_queue(L);
    cotls_peer(c);
    cotls_push_address(L, &c->peer);
    lua_setfield(L, -2, "peer");
    return 1;
}

/* The error of a step that failed, ended or hit a limit; drains the queue. [-0, +1] */
void cotls_error_conn(lua_State *L, struct cotls_conn *c, const char *operation, enum cotls_step step)
{
    struct failure f = {c, operation, step};
    lua_pushcfunction(L, make_error);
    lua_pushlightuserdata(L, &f);
    lua_getiuservalue(L, 1, UV_CAUSE);
    lua_getiuservalue(L, 1, UV_BROKEN);
    cotls_call_clean(L, 3, 1);
}

/* [-1, +2] nil under the error on top; returns their number */
int cotls_nil_error(lua_State *L)
{
    lua_pushnil(L);
    lua_insert(L, -2);
    return 2;
}

/* xpcall's handler: { error = the value, traceback = text }. The second argument may be the coroutine that has failed. */
int cotls_explain(lua_State *L)
{
    lua_State *co = lua_tothread(L, 2);
    lua_settop(L, 2);
    lua_createtable(L, 0, 2);
    lua_pushvalue(L, 1);
    lua_setfield(L, -2, "error");
    luaL_traceback(L, co != NULL ? co : L, NULL, co == NULL);
    lua_setfield(L, -2, "traceback");
    return 1;
}

int cotls_fail(lua_State *L, const char *code, const char *operation, const char *reason)
{
    push_new(L, code, operation, reason);
    return cotls_nil_error(L);
}

int cotls_fail_system(lua_State *L, const char *operation, int err)
{
    push_new(L, "system", operation, strerror(err));
    set_integer(L, "errno", err);
    return cotls_nil_error(L);
}

int cotls_fail_config(lua_State *L, const char *option)
{
    cotls_error_config(L, option);
    return cotls_nil_error(L);
}

bool cotls_is_error(lua_State *L, int index)
{
    if (!lua_istable(L, index) || !lua_getmetatable(L, index))
        return false;
    luaL_getmetatable(L, COTLS_ERROR);
    bool same = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    return same;
}

/* core.error(fields): the table becomes an error object. */
int cotls_error_new(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    luaL_setmetatable(L, COTLS_ERROR);
    return 1;
}

/* core.refused(option, reason) → nil, err */
int cotls_error_refused(lua_State *L)
{
    const char *option = luaL_checkstring(L, 1);
    luaL_checkstring(L, 2);
    lua_settop(L, 2);
    return cotls_fail_config(L, option);
}

/* The string field of the table at index, added to the buffer between before and after. */
static bool add_field(lua_State *L, luaL_Buffer *b, int index, const char *key, const char *before,
                      const char *after)
{
    bool there = lua_getfield(L, index, key) == LUA_TSTRING || lua_isnumber(L, -1);
    if (there) {
        const char *text = lua_tostring(L, -1);
        lua_pushfstring(L, "%s%s%s", before, text, after);
        lua_remove(L, -2);
        luaL_addvalue(b);
    } else {
        lua_pop(L, 1);
    }
    return there;
}

/* The string on top with its control characters escaped. [-1, +1] */
static void escape(lua_State *L)
{
    luaL_Buffer b;
    size_t n;
    const char *text = lua_tolstring(L, -1, &n);
    luaL_buffinit(L, &b);
    for (size_t i = 0; i < n; i++) {
        unsigned char byte = (unsigned char)text[i];
        char code[8];
        if (byte >= 32 && byte != 127) {
            luaL_addchar(&b, text[i]);
        } else {
            snprintf(code, sizeof code, "\\%d", byte);
            luaL_addstring(&b, byte == '\n' ? "\\n" : code);
        }
    }
    luaL_pushresult(&b);
    lua_remove(L, -2);
}

/* The text of one line: operation, reason, and what explains it. */
static int error_tostring(lua_State *L)
{
    luaL_Buffer b;
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    lua_getfield(L, 1, "verify");
    lua_getfield(L, 1, "alert");
    luaL_buffinit(L, &b);
    add_field(L, &b, 1, "operation", "", ": ");
    if (!add_field(L, &b, 1, "reason", "", ""))
        add_field(L, &b, 1, "code", "", "");
    if (lua_istable(L, 2)) {
        add_field(L, &b, 2, "text", ": ", "");
        add_field(L, &b, 2, "depth", " (depth ", ")");
        add_field(L, &b, 2, "subject", " (", ")");
    }
    if (lua_istable(L, 3)) {
        lua_getfield(L, 3, "sent");
        const char *way = lua_toboolean(L, -1) ? " (alert sent: " : " (alert received: ";
        lua_pop(L, 1);
        if (!add_field(L, &b, 3, "name", way, ")"))
            add_field(L, &b, 3, "number", way, ")");
    }
    add_field(L, &b, 1, "peer", " [peer ", "]");
    luaL_pushresult(&b);
    escape(L);
    return 1;
}

static int alert_tostring(lua_State *L)
{
    if (lua_getfield(L, 1, "name") != LUA_TSTRING)
        lua_getfield(L, 1, "number");
    luaL_tolstring(L, -1, NULL);
    return 1;
}

void cotls_error_open(lua_State *L)
{
    static const luaL_Reg error_meta[] = {{"__tostring", error_tostring}, {NULL, NULL}};
    static const luaL_Reg alert_meta[] = {{"__tostring", alert_tostring}, {NULL, NULL}};
    lua_pushcfunction(L, make_error); /* where there is no memory for it later */
    lua_pop(L, 1);
    cotls_new_class(L, COTLS_ERROR, error_meta, NULL);
    cotls_new_class(L, ALERT, alert_meta, NULL);
}
