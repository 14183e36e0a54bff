/* SPDX-License-Identifier: MIT
 * Certificates, keys and trusted CAs of a context. Lua has read the files; here
 * their bytes, PEM or DER, become what OpenSSL holds. A file that is refused is
 * named in the reason. No OpenSSL object is held while Lua is called, and
 * OpenSSL's error queue is left empty. */
#include "cotls.h"

#include <ctype.h>
#include <dirent.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/pkcs12.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* The bytes belong to Lua strings on the stack. */
struct file {
    const char *name;
    const char *data;
    size_t size;
};

/* What becomes of the nth certificate (from 0) of a setting; 1, or 0 and OpenSSL's queue. */
typedef int use_function(SSL_CTX *ctx, X509 *certificate, int nth);

/* Leaves on the setting at index only the string at the top. */
static bool keep_reason(lua_State *L, int setting)
{
    lua_copy(L, -1, setting + 1);
    lua_settop(L, setting + 1);
    return false;
}

/* Pushes what is wrong with the file; `fault` NULL: OpenSSL's reason. */
static bool refuse(lua_State *L, const char *name, const char *fault)
{
    if (fault == NULL) {
        cotls_push_queue_reason(L);
        fault = lua_pushfstring(L, ": %s", lua_tostring(L, -1));
    }
    ERR_clear_error();
    lua_pushfstring(L, "%s%s", name, fault);
    return false;
}

/* The { name =, data = } on top. [-0, +2] */
static struct file to_file(lua_State *L)
{
    struct file f = {0};
    if (!lua_istable(L, -1) || lua_getfield(L, -1, "name") != LUA_TSTRING ||
        lua_getfield(L, -2, "data") != LUA_TSTRING)
        luaL_error(L, "a file is { name = string, data = string }");
    f.name = lua_tostring(L, -2);
    f.data = lua_tolstring(L, -1, &f.size);
    return f;
}

/* Text has no NUL byte, and what is behind one in DER is no PEM. */
static bool is_pem(const struct file *f)
{
    return strstr(f->data, "-----BEGIN") != NULL;
}

/* A SEQUENCE, as every DER object here is. */
static bool is_der(const struct file *f)
{
    return f->size > 0 && f->data[0] == 0x30;
}

static BIO *open_file(const struct file *f)
{
    return f->size < INT32_MAX ? BIO_new_mem_buf(f->data, (int)f->size) : NULL;
}

/* NULL and an empty queue, or for PEM "no start line": there is none left. */
static X509 *next_certificate(BIO *bio, bool pem)
{
    ERR_clear_error();
    if (pem)
        return PEM_read_bio_X509_AUX(bio, NULL, cotls_hook_password, NULL);
    return BIO_pending(bio) > 0 ? d2i_X509_bio(bio, NULL) : NULL;
}

/* Uses all certificates of the file and counts them; false: OpenSSL's queue tells why. */
static bool use_each(const struct file *f, SSL_CTX *ctx, use_function *use, int *count)
{
    bool pem = is_pem(f), ok = true;
    BIO *bio = open_file(f);
    X509 *certificate;
    if (bio == NULL)
        return false;
    while (ok && (certificate = next_certificate(bio, pem)) != NULL) {
        ok = use(ctx, certificate, (*count)++) == 1;
        X509_free(certificate);
    }
    BIO_free(bio);
    unsigned long end = ERR_peek_last_error();
    return ok &&
           (end == 0 || (ERR_GET_LIB(end) == ERR_LIB_PEM && ERR_GET_REASON(end) == PEM_R_NO_START_LINE));
}

/* The list of files on top. [-0, +any] false: the reason is on top. */
static bool use_files(lua_State *L, SSL_CTX *ctx, use_function *use)
{
    int list = lua_gettop(L), count = 0;
    lua_Integer n = luaL_len(L, list);
    for (lua_Integer i = 1; i <= n; i++) {
        int before = count;
        lua_geti(L, list, i);
        struct file f = to_file(L);
        if ((is_pem(&f) || is_der(&f)) && !use_each(&f, ctx, use, &count))
            return refuse(L, f.name, NULL);
        if (count == before)
            return refuse(L, f.name, ": no certificate in it");
        ERR_clear_error();
        lua_settop(L, list);
    }
    return true;
}

static int use_chain(SSL_CTX *ctx, X509 *certificate, int nth)
{
    if (nth == 0)
        return SSL_CTX_use_certificate(ctx, certificate);
    return (int)SSL_CTX_add1_chain_cert(ctx, certificate);
}

/* The value on top: a list of files. The first certificate is the leaf. */
static bool set_certificate(lua_State *L, struct cotls_ctx *x)
{
    SSL_CTX *ctx = x->ssl_ctx;
    int setting = lua_gettop(L);
    luaL_checkstack(L, 8, NULL);
    if (!use_files(L, ctx, use_chain))
        return keep_reason(L, setting);
    if (SSL_CTX_get0_certificate(ctx) == NULL) {
        lua_pushliteral(L, "no certificate");
        return false;
    }
    return true;
}

/* ---- the key ---- */

/* EncryptedPrivateKeyInfo of RFC 5958 begins with a SEQUENCE in the SEQUENCE, the others with an INTEGER. */
static bool is_encrypted(const struct file *f)
{
    if (is_pem(f))
        return strstr(f->data, "-----BEGIN ENCRYPTED PRIVATE KEY-----") != NULL ||
               strstr(f->data, "Proc-Type: 4,ENCRYPTED") != NULL;
    const unsigned char *p = (const unsigned char *)f->data;
    X509_SIG *encrypted = d2i_X509_SIG(NULL, &p, (long)f->size);
    X509_SIG_free(encrypted);
    return encrypted != NULL;
}

/* The callback takes the password as a pointer to what may change; it doesn't change it. */
static EVP_PKEY *read_key(const struct file *f, const char *password)
{
    void *arg = (void *)(uintptr_t)password;
    BIO *bio = open_file(f);
    EVP_PKEY *key = NULL;
    const unsigned char *p = (const unsigned char *)f->data;
    ERR_clear_error();
    if (bio != NULL && is_pem(f))
        key = PEM_read_bio_PrivateKey(bio, NULL, cotls_hook_password, arg);
    else if (bio != NULL && is_encrypted(f))
        key = d2i_PKCS8PrivateKey_bio(bio, NULL, cotls_hook_password, arg);
    else if (bio != NULL)
        key = d2i_AutoPrivateKey(NULL, &p, (long)f->size);
    BIO_free(bio);
    return key;
}

/* What can be told before OpenSSL is asked; NULL: nothing. */
static const char *foresee(const struct file *f, const char *password)
{
    bool there = is_pem(f) ? strstr(f->data, "PRIVATE KEY-----") != NULL : is_der(f);
    if (!there)
        return ": no private key in it";
    return password == NULL && is_encrypted(f) ? ": encrypted, and no password is given" : NULL;
}

/* Why the key could not be read; NULL: OpenSSL's queue tells it. */
static const char *explain(const struct file *f)
{
    unsigned long first = ERR_peek_error();
    bool unsupported = ERR_GET_LIB(first) == ERR_LIB_EVP && ERR_GET_REASON(first) != EVP_R_BAD_DECRYPT;
    if (is_encrypted(f) && !unsupported)
        return ": wrong password";
    /* "no supported data to decode" tells the user nothing; what follows it does */
    while (ERR_GET_LIB(ERR_peek_error()) == ERR_LIB_OSSL_DECODER)
        ERR_get_error();
    return ERR_peek_error() == 0 ? ": damaged, or not a private key" : NULL;
}

/* false: *fault says why; NULL: OpenSSL's queue does */
static bool install_key(SSL_CTX *ctx, const struct file *f, const char *password, const char **fault)
{
    X509 *leaf = SSL_CTX_get0_certificate(ctx);
    EVP_PKEY *key = read_key(f, password);
    bool ok = false;
    *fault = NULL;
    if (key == NULL)
        *fault = explain(f);
    else if (leaf == NULL)
        *fault = ": there is no certificate for it";
    else if (X509_check_private_key(leaf, key) != 1)
        *fault = " does not match the certificate";
    else
        ok = SSL_CTX_use_PrivateKey(ctx, key) == 1 && SSL_CTX_check_private_key(ctx) == 1;
    EVP_PKEY_free(key);
    return ok;
}

/* The value on top: { name =, data =, password = string|nil }; after the certificate. */
static bool set_key(lua_State *L, struct cotls_ctx *x)
{
    int setting = lua_gettop(L);
    luaL_checkstack(L, 8, NULL);
    struct file f = to_file(L);
    lua_getfield(L, setting, "password");
    const char *password = lua_tostring(L, -1);
    const char *fault = foresee(&f, password);
    if (password != NULL && strlen(password) != lua_rawlen(L, -1))
        fault = ": its password contains a NUL byte";
    if (fault != NULL || !install_key(x->ssl_ctx, &f, password, &fault)) {
        refuse(L, f.name, fault);
        return keep_reason(L, setting);
    }
    ERR_clear_error();
    lua_settop(L, setting);
    return true;
}

/* ---- trusted CAs ---- */

static int trust(SSL_CTX *ctx, X509 *certificate, int nth)
{
    (void)nth;
    return X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), certificate);
}

/* A server also names it to clients when it asks for their certificate, once. */
static int trust_and_name(SSL_CTX *ctx, X509 *certificate, int nth)
{
    const STACK_OF(X509_NAME) *names = SSL_CTX_get_client_CA_list(ctx);
    for (int i = 0; i < sk_X509_NAME_num(names); i++)
        if (X509_NAME_cmp(sk_X509_NAME_value(names, i), X509_get_subject_name(certificate)) == 0)
            return trust(ctx, certificate, nth);
    return SSL_CTX_add_client_CA(ctx, certificate) && trust(ctx, certificate, nth);
}

static bool is_directory(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static const char *use_directory(SSL_CTX *ctx, const char *path)
{
    if (!is_directory(path))
        return ": not a directory";
    if (strchr(path, ':') != NULL) /* OpenSSL would take it for a list */
        return ": a directory with a colon in its path can't be used";
    return SSL_CTX_load_verify_dir(ctx, path) == 1 ? NULL : ": OpenSSL can't use it";
}

/* The list of paths on top. [-0, +any] false: the reason is on top. */
static bool use_directories(lua_State *L, SSL_CTX *ctx)
{
    int list = lua_gettop(L);
    lua_Integer n = luaL_len(L, list);
    for (lua_Integer i = 1; i <= n; i++) {
        lua_geti(L, list, i);
        const char *path = lua_tostring(L, -1);
        const char *fault = use_directory(ctx, path != NULL ? path : "");
        if (fault != NULL)
            return refuse(L, path != NULL ? path : "?", fault);
        lua_settop(L, list);
    }
    return true;
}

/* As c_rehash names them: eight hexadecimal digits, a dot, a number. */
static bool is_hashed(const char *name)
{
    return strspn(name, "0123456789abcdef") == 8 && name[8] == '.' && isdigit((unsigned char)name[9]);
}

static bool holds_certificates(const char *path)
{
    DIR *dir = opendir(path);
    struct dirent *entry;
    bool found = false;
    while (dir != NULL && !found && (entry = readdir(dir)) != NULL)
        found = is_hashed(entry->d_name);
    if (dir != NULL)
        closedir(dir);
    return found;
}

/* Does OpenSSL find something where it looks, or has the user told it where? */
static bool defaults_hold(void)
{
    struct stat st;
    return getenv(X509_get_default_cert_file_env()) != NULL ||
           getenv(X509_get_default_cert_dir_env()) != NULL ||
           (stat(X509_get_default_cert_file(), &st) == 0 && st.st_size > 0) ||
           holds_certificates(X509_get_default_cert_dir());
}

/* The first file that loads, else the first directory that holds certificates. */
static void probe(SSL_CTX *ctx)
{
    static const char *const files[] = {
        "/etc/ssl/certs/ca-certificates.crt",                /* Debian, Ubuntu, Arch, Gentoo */
        "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", /* Fedora, Red Hat */
        "/etc/pki/tls/certs/ca-bundle.crt",                  /* older ones */
        "/etc/ssl/ca-bundle.pem",                            /* openSUSE */
        "/etc/ssl/cert.pem",                                 /* Alpine, OpenBSD, FreeBSD, macOS */
        "/usr/local/etc/ssl/cert.pem",                       /* FreeBSD */
        "/usr/local/share/certs/ca-root-nss.crt",            /* FreeBSD, DragonFly */
        "/etc/openssl/certs/ca-certificates.crt",            /* NetBSD */
        "/opt/homebrew/etc/openssl@3/cert.pem",              /* Homebrew */
        "/usr/local/etc/openssl@3/cert.pem",                 /* Homebrew on Intel */
        "/opt/local/etc/openssl/cert.pem",                   /* MacPorts */
    };
    static const char *const directories[] = {
        "/etc/ssl/certs",
        "/etc/pki/tls/certs",
        "/etc/openssl/certs",
        "/usr/local/share/certs",
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        if (SSL_CTX_load_verify_file(ctx, files[i]) == 1)
            return;
    for (size_t i = 0; i < sizeof directories / sizeof *directories; i++)
        if (holds_certificates(directories[i]) && SSL_CTX_load_verify_dir(ctx, directories[i]) == 1)
            return;
}

/* A system without any CA is no failure here: each verification will be one. */
static void use_system(SSL_CTX *ctx)
{
    SSL_CTX_set_default_verify_paths(ctx);
    if (!defaults_hold())
        probe(ctx);
    ERR_clear_error();
}

/* The value on top: { files =, directories =, system =, client_ca = }, each may be nil. */
static bool set_ca(lua_State *L, struct cotls_ctx *x)
{
    SSL_CTX *ctx = x->ssl_ctx;
    int setting = lua_gettop(L);
    luaL_checkstack(L, 12, NULL);
    lua_getfield(L, setting, "client_ca");
    lua_getfield(L, setting, "system");
    bool client_ca = lua_toboolean(L, -2), system = lua_toboolean(L, -1);
    if (lua_getfield(L, setting, "files") != LUA_TNIL &&
        !use_files(L, ctx, client_ca ? trust_and_name : trust))
        return keep_reason(L, setting);
    if (lua_getfield(L, setting, "directories") != LUA_TNIL && !use_directories(L, ctx))
        return keep_reason(L, setting);
    if (system)
        use_system(ctx);
    lua_settop(L, setting);
    return true;
}

const struct cotls_setting cotls_credential_settings[] = {
    {"ca", set_ca},
    {"certificate", set_certificate},
    {"key", set_key},
    {NULL, NULL},
};
