/* SPDX-License-Identifier: MIT
 * keylog: the file of secrets by which Wireshark reads what was recorded, in the
 * NSS key log format. A line goes out in one call, so that several contexts and
 * processes can share the file. cotls_keylog_write runs inside OpenSSL. */
#include "cotls.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A line that can't be written is lost: the handshake goes on. */
void cotls_keylog_write(const struct cotls_ctx *x, const char *line)
{
    char text[512];
    size_t n = strlen(line);
    if (!x->keylogs || n >= sizeof text)
        return;
    memcpy(text, line, n);
    text[n] = '\n';
    int kept = errno;
    ssize_t written;
    do
        written = write(x->keylog, text, n + 1);
    while (written < 0 && errno == EINTR);
    errno = kept;
    OPENSSL_cleanse(text, n);
}

void cotls_keylog_close(struct cotls_ctx *x)
{
    if (x->keylogs)
        close(x->keylog);
    x->keylogs = false;
}

/* O_NONBLOCK: a pipe that nobody reads is not waited for. */
static bool set_keylog(lua_State *L, struct cotls_ctx *x)
{
    size_t n;
    const char *path = lua_tolstring(L, -1, &n);
    if (strlen(path) != n)
        return cotls_refuse(L, "a path has no NUL byte");
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0600);
    struct stat is;
    if (fd < 0) {
        lua_pushfstring(L, "%s: %s", path, strerror(errno));
        return false;
    }
    if (fstat(fd, &is) != 0 || S_ISFIFO(is.st_mode)) { /* its reader's end would send SIGPIPE */
        close(fd);
        lua_pushfstring(L, "%s: a pipe, not a file", path);
        return false;
    }
    x->keylog = fd;
    x->keylogs = true;
    SSL_CTX_set_keylog_callback(x->ssl_ctx, cotls_hook_keylog);
    return true;
}

const struct cotls_setting cotls_keylog_settings[] = {
    {"keylog", set_keylog},
    {NULL, NULL},
};
