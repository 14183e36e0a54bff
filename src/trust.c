/* SPDX-License-Identifier: MIT
 * Trusted CAs of a context: files, directories by hash, the system's. Lua has
 * read the files; a directory stays OpenSSL's to look into at each
 * verification. */
#include "cotls.h"

#include <ctype.h>
#include <dirent.h>
#include <openssl/err.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static bool trust(void *ctx, X509 *certificate, int nth)
{
    (void)nth;
    return X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), certificate) == 1;
}

/* A server also names it to clients when it asks for their certificate, once. */
static bool trust_and_name(void *ctx, X509 *certificate, int nth)
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
            return cotls_refuse_file(L, path != NULL ? path : "?", fault);
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
        !cotls_take_certificates(L, client_ca ? trust_and_name : trust, ctx))
        return cotls_keep_reason(L, setting);
    if (lua_getfield(L, setting, "directories") != LUA_TNIL && !use_directories(L, ctx))
        return cotls_keep_reason(L, setting);
    if (system)
        use_system(ctx);
    lua_settop(L, setting);
    return true;
}

const struct cotls_setting cotls_trust_settings[] = {
    {"ca", set_ca},
    {NULL, NULL},
};
