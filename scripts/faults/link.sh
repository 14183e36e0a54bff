#!/bin/sh
# Links the module's objects once more, with its calls led through inject.c.
# usage: link.sh FOLDER_OF_OBJECTS OUTPUT      (CC, CFLAGS and LUA as for make)
set -e
wraps=
for call in malloc calloc realloc free recv send write poll epoll_wait epoll_create1 epoll_ctl connect close \
  getaddrinfo accept4 socket bind listen setsockopt getsockopt getsockname getpeername fcntl open fstat stat opendir; do
  wraps="$wraps -Wl,--wrap=$call"
done
counted= # objects that gcov counts
if ls "$1"/*.gcno >/dev/null 2>&1; then counted=-lgcov; fi
mkdir -p "$(dirname "$2")"
# shellcheck disable=SC2046,SC2086
${CC:-cc} -std=gnu11 ${CFLAGS:--O1 -g} -fPIC -shared -fvisibility=hidden -Wl,-z,nodelete $wraps -o "$2" "$1"/*.o \
  "$(dirname "$0")/inject.c" "$(dirname "$0")/places.c" $(pkg-config --cflags "$(sh "$(dirname "$0")/../lua_pc.sh" "${LUA:-lua5.4}")") \
  $(pkg-config --cflags --libs openssl) $counted
