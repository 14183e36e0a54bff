#!/bin/sh
# Prints the pkg-config module of the headers for a Lua interpreter. Systems
# differ in its name, and a plain "lua" may be of another version: the
# interpreter is asked which one it is.
lua=${1:-lua5.4}
pkg_config=${PKG_CONFIG:-pkg-config}

fail() {
  echo "cotls: $1" >&2
  exit 1
}

command -v "$pkg_config" >/dev/null || fail "needs pkg-config (Debian: pkg-config)"
version=$("$lua" -e 'io.write(jit and "jit" or _VERSION:match("%d%.%d"))' 2>/dev/null) ||
  fail "can't run the interpreter '$lua' (Debian: lua5.4; or say LUA=name)"

short=$(echo "$version" | tr -d .)
for name in "lua$version" "lua-$version" "lua$short" lua; do
  if [ "$version" = jit ]; then
    "$pkg_config" --exists luajit && echo luajit && exit 0
  elif "$pkg_config" --exists "$name"; then
    case $("$pkg_config" --modversion "$name") in
      "$version" | "$version".*) echo "$name" && exit 0 ;;
    esac
  fi
done
case $version in
  jit) fail "finds no headers of LuaJIT by pkg-config (Debian: libluajit-5.1-dev)" ;;
  5.1) package=liblua5.1-0-dev ;;
  *) package=liblua$version-dev ;;
esac
fail "finds no headers of Lua $version by pkg-config (Debian: $package)"
