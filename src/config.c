/* SPDX-License-Identifier: MIT
 * What a context may agree on with a peer: ciphers, groups, signature
 * algorithms, the security level, OpenSSL's options and commands. OpenSSL
 * ignores names that it doesn't know in some of its lists: here each name is
 * tried, and an unknown one refused. What weakens verification, or has an option
 * of its own, is refused too. No OpenSSL object is held while Lua is called. */
#include "cotls.h"

#include <ctype.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/objects.h>
#include <string.h>
#include <strings.h>

/* "this OpenSSL (3.0.0) has no <what> '<name>'" */
static bool refuse_unknown(lua_State *L, const char *what, const char *name)
{
    ERR_clear_error();
    lua_pushfstring(L, "this OpenSSL (%s) has no %s '%s'", OpenSSL_version(OPENSSL_VERSION_STRING), what,
                    name);
    return false;
}

/* ---- lists ---- */

/* Sets a list of one name or more; 1: it is good. */
typedef int set_function(SSL_CTX *ctx, const char *list);

/* SSL_CTX_ctrl takes what it only reads as a pointer to what may change. */
static int set_by_ctrl(SSL_CTX *ctx, int command, const char *list)
{
    return (int)SSL_CTX_ctrl(ctx, command, 0, (void *)(uintptr_t)list);
}

static int use_groups(SSL_CTX *ctx, const char *list)
{
    return set_by_ctrl(ctx, SSL_CTRL_SET_GROUPS_LIST, list);
}

static int use_signature_algorithms(SSL_CTX *ctx, const char *list)
{
    return set_by_ctrl(ctx, SSL_CTRL_SET_SIGALGS_LIST, list);
}

static int use_client_signature_algorithms(SSL_CTX *ctx, const char *list)
{
    return set_by_ctrl(ctx, SSL_CTRL_SET_CLIENT_SIGALGS_LIST, list);
}

/* One suite: the list is taken even where the name is unknown, so it is looked for. */
static int try_ciphersuite(SSL_CTX *ctx, const char *name)
{
    if (SSL_CTX_set_ciphersuites(ctx, name) != 1)
        return 0;
    const STACK_OF(SSL_CIPHER) *all = SSL_CTX_get_ciphers(ctx);
    for (int i = 0; i < sk_SSL_CIPHER_num(all); i++)
        if (strcmp(SSL_CIPHER_get_name(sk_SSL_CIPHER_value(all, i)), name) == 0)
            return 1;
    return 0;
}

/* One word of a cipher list, ciphers(1). The face has checked commands (@) and words that stand alone;
 * what is taken out may be unknown. */
static int try_cipher(SSL_CTX *ctx, const char *word)
{
    if (strchr("@!-", *word) != NULL || strcmp(word, "DEFAULT") == 0 || strncmp(word, "SUITEB", 6) == 0)
        return 1;
    return SSL_CTX_set_cipher_list(ctx, *word == '+' ? word + 1 : word);
}

static const struct list {
    const char *what;
    set_function *try_one, *set;
} ciphers = {"cipher", try_cipher, SSL_CTX_set_cipher_list},
  ciphersuites = {"TLS 1.3 suite", try_ciphersuite, SSL_CTX_set_ciphersuites},
  groups = {"group", use_groups, use_groups},
  signature_algorithms = {"signature algorithm", use_signature_algorithms, use_signature_algorithms},
  client_signature_algorithms = {"signature algorithm", use_client_signature_algorithms,
                                 use_client_signature_algorithms};

/* The value on top: { names…, text = all of them }. [-0, +any] false: the reason is on top. */
static bool set_list(lua_State *L, struct cotls_ctx *x, const struct list *list)
{
    int value = lua_gettop(L);
    lua_Integer n = luaL_len(L, value);
    luaL_checkstack(L, 8, NULL);
    for (lua_Integer i = 1; i <= n; i++) {
        lua_geti(L, value, i);
        const char *name = lua_tostring(L, -1);
        if (list->try_one(x->ssl_ctx, name) != 1)
            return refuse_unknown(L, list->what, name);
        lua_settop(L, value);
    }
    lua_getfield(L, value, "text");
    if (list->set(x->ssl_ctx, lua_tostring(L, -1)) != 1)
        return cotls_refuse(L, list == &ciphers ? "no cipher is left" : "a name stands twice");
    ERR_clear_error();
    lua_settop(L, value);
    return true;
}

/* Where the list names DHE, a server has parameters for it, as strong as its certificate's key. */
static bool set_ciphers(lua_State *L, struct cotls_ctx *x)
{
    if (!set_list(L, x, &ciphers))
        return false;
    lua_getfield(L, -1, "dhe");
    if (x->server && lua_toboolean(L, -1))
        SSL_CTX_set_dh_auto(x->ssl_ctx, 1);
    lua_pop(L, 1);
    return true;
}

static bool set_ciphersuites(lua_State *L, struct cotls_ctx *x)
{
    return set_list(L, x, &ciphersuites);
}

static bool set_groups(lua_State *L, struct cotls_ctx *x)
{
    if (!set_list(L, x, &groups))
        return false;
    lua_getfield(L, -1, "text");
    x->groups = lua_tostring(L, -1);
    lua_setiuservalue(L, 1, UV_CTX_GROUPS);
    return true;
}

static bool set_signature_algorithms(lua_State *L, struct cotls_ctx *x)
{
    return set_list(L, x, &signature_algorithms);
}

static bool set_client_signature_algorithms(lua_State *L, struct cotls_ctx *x)
{
    return set_list(L, x, &client_signature_algorithms);
}

/* ---- numbers ---- */

static bool set_security_level(lua_State *L, struct cotls_ctx *x)
{
    SSL_CTX_set_security_level(x->ssl_ctx, (int)lua_tointeger(L, -1));
    return true;
}

static bool set_max_send_fragment(lua_State *L, struct cotls_ctx *x)
{
    x->max_send_fragment = (long)lua_tointeger(L, -1);
    return SSL_CTX_set_max_send_fragment(x->ssl_ctx, x->max_send_fragment) == 1 ||
           cotls_refuse(L, "is refused by OpenSSL");
}

/* What OpenSSL 3.0 has where no groups are given. */
#define DEFAULT_GROUPS "X25519:P-256:X448:P-521:P-384:ffdhe2048:ffdhe3072:ffdhe4096:ffdhe6144:ffdhe8192"

/* What SSL_set_SSL_CTX leaves as the first context had it. */
bool cotls_config_switch(SSL *ssl, const struct cotls_ctx *from, const struct cotls_ctx *to)
{
    const char *list = to->groups != NULL ? to->groups : from->groups != NULL ? DEFAULT_GROUPS : NULL;
    long fragment = to->max_send_fragment != 0     ? to->max_send_fragment
                    : from->max_send_fragment != 0 ? COTLS_RECORD
                                                   : 0;
    if (list != NULL && SSL_ctrl(ssl, SSL_CTRL_SET_GROUPS_LIST, 0, (void *)(uintptr_t)list) != 1)
        return false;
    return fragment == 0 ||
           (SSL_set_max_send_fragment(ssl, fragment) == 1 && SSL_set_split_send_fragment(ssl, fragment) == 1);
}

/* ---- OpenSSL's options ---- */

#define RENEGOTIATION "use the option renegotiation"
#define DTLS "is for DTLS"

/* no_set, no_clear: why it is refused to do so, or NULL. */
static const struct flag {
    const char *name;
    uint64_t bit; /* 0: this OpenSSL has none */
    const char *no_set, *no_clear;
} flags[] = {
    {"ALL", SSL_OP_ALL, NULL, NULL},
    {"ALLOW_CLIENT_RENEGOTIATION", SSL_OP_ALLOW_CLIENT_RENEGOTIATION, RENEGOTIATION, NULL},
    {"ALLOW_NO_DHE_KEX", SSL_OP_ALLOW_NO_DHE_KEX, NULL, NULL},
    {"ALLOW_UNSAFE_LEGACY_RENEGOTIATION", SSL_OP_ALLOW_UNSAFE_LEGACY_RENEGOTIATION, NULL, NULL},
    {"CIPHER_SERVER_PREFERENCE", SSL_OP_CIPHER_SERVER_PREFERENCE, NULL, NULL},
    {"CISCO_ANYCONNECT", SSL_OP_CISCO_ANYCONNECT, DTLS, DTLS},
    {"CLEANSE_PLAINTEXT", SSL_OP_CLEANSE_PLAINTEXT, NULL, NULL},
    {"COOKIE_EXCHANGE", SSL_OP_COOKIE_EXCHANGE, DTLS, DTLS},
    {"CRYPTOPRO_TLSEXT_BUG", SSL_OP_CRYPTOPRO_TLSEXT_BUG, NULL, NULL},
    {"DISABLE_TLSEXT_CA_NAMES", SSL_OP_DISABLE_TLSEXT_CA_NAMES, NULL, NULL},
    {"DONT_INSERT_EMPTY_FRAGMENTS", SSL_OP_DONT_INSERT_EMPTY_FRAGMENTS, NULL, NULL},
    {"ENABLE_KTLS", SSL_OP_ENABLE_KTLS, "cotls does the reading and writing, not the kernel", NULL},
    {"ENABLE_MIDDLEBOX_COMPAT", SSL_OP_ENABLE_MIDDLEBOX_COMPAT, NULL, NULL},
    {"IGNORE_UNEXPECTED_EOF", SSL_OP_IGNORE_UNEXPECTED_EOF, NULL, NULL},
    {"LEGACY_EC_POINT_FORMATS", SSL_OP_LEGACY_EC_POINT_FORMATS, NULL, NULL},
    {"LEGACY_SERVER_CONNECT", SSL_OP_LEGACY_SERVER_CONNECT, NULL, NULL},
    {"NO_ANTI_REPLAY", SSL_OP_NO_ANTI_REPLAY, "use the option anti_replay", NULL},
    {"NO_COMPRESSION", SSL_OP_NO_COMPRESSION, NULL, NULL},
    {"NO_ENCRYPT_THEN_MAC", SSL_OP_NO_ENCRYPT_THEN_MAC, NULL, NULL},
    {"NO_EXTENDED_MASTER_SECRET", SSL_OP_NO_EXTENDED_MASTER_SECRET, NULL, NULL},
    {"NO_QUERY_MTU", SSL_OP_NO_QUERY_MTU, DTLS, DTLS},
    {"NO_RENEGOTIATION", SSL_OP_NO_RENEGOTIATION, NULL, RENEGOTIATION},
    {"NO_RX_CERTIFICATE_COMPRESSION", SSL_OP_NO_RX_CERTIFICATE_COMPRESSION, NULL, NULL},
    {"NO_SESSION_RESUMPTION_ON_RENEGOTIATION", SSL_OP_NO_SESSION_RESUMPTION_ON_RENEGOTIATION, NULL, NULL},
    {"NO_SSLv3", SSL_OP_NO_SSLv3, NULL, NULL},
    {"NO_TICKET", SSL_OP_NO_TICKET, NULL, NULL},
    {"NO_TLSv1", SSL_OP_NO_TLSv1, NULL, NULL},
    {"NO_TLSv1_1", SSL_OP_NO_TLSv1_1, NULL, NULL},
    {"NO_TLSv1_2", SSL_OP_NO_TLSv1_2, NULL, NULL},
    {"NO_TLSv1_3", SSL_OP_NO_TLSv1_3, NULL, NULL},
    {"NO_TX_CERTIFICATE_COMPRESSION", SSL_OP_NO_TX_CERTIFICATE_COMPRESSION, NULL, NULL},
    {"PREFER_NO_DHE_KEX", SSL_OP_PREFER_NO_DHE_KEX, NULL, NULL},
    {"PRIORITIZE_CHACHA", SSL_OP_PRIORITIZE_CHACHA, NULL, NULL},
    {"SAFARI_ECDHE_ECDSA_BUG", SSL_OP_SAFARI_ECDHE_ECDSA_BUG, NULL, NULL},
    {"TLSEXT_PADDING", SSL_OP_TLSEXT_PADDING, NULL, NULL},
    {"TLS_ROLLBACK_BUG", SSL_OP_TLS_ROLLBACK_BUG, NULL, NULL},
};
#define FLAGS (sizeof flags / sizeof *flags)

static const struct flag *find_flag(const char *name)
{
    for (size_t i = 0; i < FLAGS; i++)
        if (strcasecmp(flags[i].name, name) == 0 && flags[i].bit != 0)
            return &flags[i];
    return NULL;
}

/* "NAME" sets, "-NAME" clears. */
static bool set_flag(lua_State *L, SSL_CTX *ctx, const char *text)
{
    bool clear = *text == '-';
    const struct flag *flag = find_flag(text + clear);
    if (flag == NULL)
        return refuse_unknown(L, "option", text + clear);
    const char *refused = clear ? flag->no_clear : flag->no_set;
    if (refused != NULL) {
        lua_pushfstring(L, "%s: %s", text, refused);
        return false;
    }
    if (clear)
        SSL_CTX_clear_options(ctx, flag->bit);
    else
        SSL_CTX_set_options(ctx, flag->bit);
    return true;
}

/* The value on top: a list of names. */
static bool set_options(lua_State *L, struct cotls_ctx *x)
{
    int value = lua_gettop(L);
    lua_Integer n = luaL_len(L, value);
    for (lua_Integer i = 1; i <= n; i++) {
        lua_geti(L, value, i);
        if (!set_flag(L, x->ssl_ctx, lua_tostring(L, -1)))
            return false;
        lua_settop(L, value);
    }
    return true;
}

/* ---- OpenSSL's commands ---- */

#define CONF_FLAGS (SSL_CONF_FLAG_FILE | SSL_CONF_FLAG_CERTIFICATE)

/* What a command must leave as it is. */
struct guard {
    int verify_mode;
    uint64_t options;
};

/* What has changed that must not; NULL: nothing. */
static const char *compare(SSL_CTX *ctx, const struct guard *before)
{
    struct guard now = {SSL_CTX_get_verify_mode(ctx), SSL_CTX_get_options(ctx)};
    int min = (int)SSL_CTX_get_min_proto_version(ctx), max = (int)SSL_CTX_get_max_proto_version(ctx);
    if (now.verify_mode != before->verify_mode)
        return "changes who is verified: use the options insecure and verify_client";
    if (max != 0 && min > max)
        return "leaves no version";
    for (size_t i = 0; i < FLAGS; i++) {
        const struct flag *f = &flags[i];
        bool was = f->bit != 0 && (before->options & f->bit) == f->bit, is = (now.options & f->bit) == f->bit;
        if (!was && is && f->bit != 0 && f->no_set != NULL)
            return f->no_set;
        if (was && !is && f->no_clear != NULL)
            return f->no_clear;
    }
    return NULL;
}

/* Neither certificates, keys and CAs, which may ask for passwords or change who is
 * trusted, nor what later versions may add to verification. */
static bool is_allowed(const char *name)
{
    static const char *const names[] = {
        "CipherString",  "Ciphersuites",   "ClientSignatureAlgorithms",
        "Curves",        "DHParameters",   "ECDHParameters",
        "Groups",        "MaxProtocol",    "MinProtocol",
        "NumTickets",    "Options",        "Protocol",
        "RecordPadding", "ServerInfoFile", "SignatureAlgorithms",
        "VerifyMode",
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcasecmp(names[i], name) == 0)
            return true;
    return false;
}

/* Why there is no such command. */
static const char *explain(SSL_CONF_CTX *cctx, const char *name, bool server)
{
    SSL_CONF_CTX_set_flags(cctx, SSL_CONF_FLAG_CLIENT | SSL_CONF_FLAG_SERVER);
    if (SSL_CONF_cmd_value_type(cctx, name) == SSL_CONF_TYPE_UNKNOWN)
        return "this OpenSSL has no such command";
    return server ? "is for clients" : "is for servers";
}

/* One command; NULL, or why not. */
static const char *run_command(struct cotls_ctx *x, const char *name, const char *value)
{
    SSL_CTX *ctx = x->ssl_ctx;
    const char *fault = NULL;
    struct guard before = {SSL_CTX_get_verify_mode(ctx), SSL_CTX_get_options(ctx)};
    SSL_CONF_CTX *cctx = SSL_CONF_CTX_new();
    if (cctx == NULL)
        return "no memory";
    SSL_CONF_CTX_set_flags(cctx, CONF_FLAGS | (x->server ? SSL_CONF_FLAG_SERVER : SSL_CONF_FLAG_CLIENT));
    SSL_CONF_CTX_set_ssl_ctx(cctx, ctx);
    if (SSL_CONF_cmd_value_type(cctx, name) == SSL_CONF_TYPE_UNKNOWN)
        fault = explain(cctx, name, x->server);
    else if (!is_allowed(name))
        fault = "use the options certificate, key, ca and those of verification";
    else if (SSL_CONF_cmd(cctx, name, value) <= 0 || SSL_CONF_CTX_finish(cctx) != 1)
        fault = "OpenSSL refuses the value";
    else
        fault = compare(ctx, &before);
    SSL_CONF_CTX_free(cctx);
    if (fault == NULL && strcasecmp(name, "DHParameters") == 0)
        SSL_CTX_set_dh_auto(ctx, 0);
    ERR_clear_error();
    return fault;
}

/* Lists that are taken as the option's. */
static const struct cotls_setting list_commands[] = {
    {"CipherString", set_ciphers},
    {"Ciphersuites", set_ciphersuites},
    {"Groups", set_groups},
    {"Curves", set_groups},
    {"SignatureAlgorithms", set_signature_algorithms},
    {"ClientSignatureAlgorithms", set_client_signature_algorithms},
    {NULL, NULL},
};

static bool run_list(lua_State *L, struct cotls_ctx *x, const char *name)
{
    const struct cotls_setting *s = list_commands;
    while (strcasecmp(s->name, name) != 0)
        s++;
    if (s->apply(L, x))
        return true;
    lua_pushfstring(L, "%s: %s", name, lua_tostring(L, -1));
    return false;
}

/* The { name, value, list = } on top; the face gives a list for list_commands. [-0, +any] */
static bool run_pair(lua_State *L, struct cotls_ctx *x)
{
    int pair = lua_gettop(L);
    lua_geti(L, pair, 1);
    lua_geti(L, pair, 2);
    const char *name = lua_tostring(L, -2), *value = lua_tostring(L, -1);
    if (lua_getfield(L, pair, "list") == LUA_TTABLE)
        return run_list(L, x, name);
    const char *fault = run_command(x, name, value);
    if (fault != NULL)
        lua_pushfstring(L, "%s = %s: %s", name, value, fault);
    return fault == NULL;
}

/* The value on top: a list of pairs. */
static bool set_conf(lua_State *L, struct cotls_ctx *x)
{
    int value = lua_gettop(L);
    lua_Integer n = luaL_len(L, value);
    luaL_checkstack(L, 12, NULL);
    for (lua_Integer i = 1; i <= n; i++) {
        lua_geti(L, value, i);
        if (!run_pair(L, x))
            return false;
        lua_settop(L, value);
    }
    return true;
}

/* A cipher list may set the level; what is said outright counts. Certificates are
 * judged by the level, and verification is settled after all commands. */
const struct cotls_setting cotls_config_settings[] = {
    {"ciphers", set_ciphers},
    {"ciphersuites", set_ciphersuites},
    {"groups", set_groups},
    {"signature_algorithms", set_signature_algorithms},
    {"client_signature_algorithms", set_client_signature_algorithms},
    {"security_level", set_security_level},
    {"max_send_fragment", set_max_send_fragment},
    {"options", set_options},
    {"conf", set_conf},
    {NULL, NULL},
};

/* ---- what is configured ---- */

/* Their names with colons between, the first rank first: the caller's, by OPENSSL_free. NULL: no memory. */
char *cotls_join_ciphers(const STACK_OF(SSL_CIPHER) * all, cotls_rank *rank, int ranks)
{
    size_t size = 1;
    for (int i = 0; i < sk_SSL_CIPHER_num(all); i++)
        size += strlen(SSL_CIPHER_get_name(sk_SSL_CIPHER_value(all, i))) + 1;
    char *names = OPENSSL_zalloc(size), *end = names;
    for (int r = 0; names != NULL && r < ranks; r++)
        for (int i = 0; i < sk_SSL_CIPHER_num(all); i++) {
            const SSL_CIPHER *cipher = sk_SSL_CIPHER_value(all, i);
            if (rank(cipher) == r)
                end += sprintf(end, end > names ? ":%s" : "%s", SSL_CIPHER_get_name(cipher));
        }
    return names;
}

/* The short name of an object without the prefix that OpenSSL gives it; "any" and "none" as ciphers(1). */
static void set_algorithm(lua_State *L, const char *key, int nid, const char *prefix)
{
    const char *name = OBJ_nid2sn(nid);
    if (nid == NID_undef || name == NULL)
        return;
    if (strncmp(name, prefix, strlen(prefix)) == 0)
        name += strlen(prefix);
    if (strcmp(name, "ANY") == 0)
        name = "any";
    else if (strcmp(name, "NULL") == 0)
        name = "none";
    luaL_gsub(L, name, "_", "-");
    lua_setfield(L, -2, key);
}

/* "AES-256-GCM", as EVP_CIPHER_fetch(3) takes it. */
static void set_encryption(lua_State *L, int nid)
{
    char text[64];
    const char *name = nid != NID_undef ? OBJ_nid2ln(nid) : "none";
    size_t n = 0;
    for (; name[n] != '\0' && n < sizeof text; n++)
        text[n] = (char)(nid != NID_undef ? toupper((unsigned char)name[n]) : name[n]);
    lua_pushlstring(L, text, n);
    lua_setfield(L, -2, "encryption");
}

/* [-0, +1] */
static void push_cipher(lua_State *L, const SSL_CIPHER *cipher)
{
    lua_createtable(L, 0, 9);
    cotls_set_string(L, "name", SSL_CIPHER_get_name(cipher));
    cotls_set_string(L, "standard_name", SSL_CIPHER_standard_name(cipher));
    cotls_set_string(L, "version", SSL_CIPHER_get_version(cipher));
    lua_pushinteger(L, SSL_CIPHER_get_bits(cipher, NULL));
    lua_setfield(L, -2, "bits");
    set_algorithm(L, "key_exchange", SSL_CIPHER_get_kx_nid(cipher), "Kx");
    set_algorithm(L, "authentication", SSL_CIPHER_get_auth_nid(cipher), "Auth");
    set_encryption(L, SSL_CIPHER_get_cipher_nid(cipher));
    set_algorithm(L, "mac", SSL_CIPHER_get_digest_nid(cipher), "");
    lua_pushboolean(L, SSL_CIPHER_is_aead(cipher));
    lua_setfield(L, -2, "aead");
}

/* Copies at most max of the ciphers that the context lists, or of those that its connections can use. */
static int copy_ciphers(SSL_CTX *ctx, bool usable, const SSL_CIPHER **to, int max)
{
    SSL *ssl = usable ? SSL_new(ctx) : NULL;
    STACK_OF(SSL_CIPHER) *own = ssl != NULL ? SSL_get1_supported_ciphers(ssl) : NULL;
    const STACK_OF(SSL_CIPHER) *list = usable ? own : SSL_CTX_get_ciphers(ctx);
    int n = 0;
    for (; n < max && n < sk_SSL_CIPHER_num(list); n++)
        to[n] = sk_SSL_CIPHER_value(list, n);
    sk_SSL_CIPHER_free(own);
    SSL_free(ssl);
    ERR_clear_error();
    return n;
}

static int push_ciphers(lua_State *L, bool usable)
{
    const struct cotls_ctx *x = cotls_check_context(L, 1);
    int max = sk_SSL_CIPHER_num(SSL_CTX_get_ciphers(x->ssl_ctx));
    const SSL_CIPHER **all = lua_newuserdatauv(L, (size_t)(max > 0 ? max : 1) * sizeof *all, 0);
    int n = copy_ciphers(x->ssl_ctx, usable, all, max);
    lua_createtable(L, n, 0);
    for (int i = 0; i < n; i++) {
        push_cipher(L, all[i]);
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

/* core.listed_ciphers(context) → all that its lists name */
int cotls_listed_ciphers(lua_State *L)
{
    return push_ciphers(L, false);
}

/* context:ciphers() → those that its versions and its security level let connections use */
static int ctx_ciphers(lua_State *L)
{
    return push_ciphers(L, true);
}

const luaL_Reg cotls_config_context_methods[] = {{"ciphers", ctx_ciphers}, {NULL, NULL}};
