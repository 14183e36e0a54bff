#!/bin/sh
# Proves that `make install` puts down a module that loads from there alone, and
# that `make uninstall` leaves nothing of it.
set -eu
lua=${LUA:-lua5.4}
cd "$(dirname "$0")/.."
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
unset LUA_PATH_5_4 LUA_CPATH_5_4 LUA_PATH_5_3 LUA_CPATH_5_3

version=$("$lua" -e 'io.write(_VERSION:match("%d%.%d"))')
modules=$stage/usr/share/lua/$version
mkdir -p "$modules"
echo 'return {}' >"$modules/neighbour.lua"

make --no-print-directory install DESTDIR="$stage" PREFIX=/usr LUA="$lua"
(cd / && LUA_PATH="$modules/?.lua;$modules/?/init.lua" LUA_CPATH="$stage/usr/lib/lua/$version/?.so" \
  "$lua" -e 'print(require("cotls").version)')

make --no-print-directory uninstall DESTDIR="$stage" PREFIX=/usr LUA="$lua"
left=$(cd "$stage" && find . -type f -o -name '*cotls*')
test "$left" = "./usr/share/lua/$version/neighbour.lua" || {
  echo "cotls: after uninstall: $left" >&2
  exit 1
}
