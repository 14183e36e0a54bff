#!/bin/sh
# Proves that `luarocks make` builds and installs the rock without network: into
# a temporary tree, from a copy of the checkout, and loads it from there alone.
set -eu
lua=${LUA:-lua5.4}
here=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

version=$("$lua" -e 'io.write(_VERSION:match("%d%.%d"))')
mkdir "$work/source" "$work/home"
cd "$here"
cp -R Makefile LICENSE ./*.rockspec lua scripts src "$work/source"
cd "$work/source"

# Where the headers are is a matter of the system; LuaRocks often doesn't guess it.
pc=$(sh scripts/lua_pc.sh "$lua")
include=$(pkg-config --variable=includedir "$pc")
for dir in $(pkg-config --cflags-only-I "$pc"); do include=${dir#-I}; done

# No server is asked, and no configuration of the user plays a part.
rocks="env HOME=$work/home luarocks --lua-version $version --only-server=$work/none --tree $work/tree"
$rocks make cotls-scm-1.rockspec LUA_INCDIR="$include"
$rocks show cotls >/dev/null

cd "$work/home"
env -u "LUA_PATH_$(echo "$version" | tr . _)" -u "LUA_CPATH_$(echo "$version" | tr . _)" \
  LUA_PATH="$work/tree/share/lua/$version/?.lua;$work/tree/share/lua/$version/?/init.lua" \
  LUA_CPATH="$work/tree/lib/lua/$version/?.so" \
  "$lua" -e 'local tls = require "cotls"
    print("cotls " .. tostring(tls.version) .. " from a rock, " .. tostring(tls.openssl_version))'

$rocks remove cotls >/dev/null
left=$(find "$work/tree" -path '*cotls*' -type f)
test -z "$left" || { echo "cotls: left behind: $left" >&2; exit 1; }
