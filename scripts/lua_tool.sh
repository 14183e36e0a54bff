#!/bin/sh
# Runs a program written in Lua under the given interpreter: its own first line
# may name one that isn't there. LuaRocks' wrappers are shell scripts, run as such.
# usage: lua_tool.sh INTERPRETER PROGRAM [ARGUMENT...]
lua=$1
tool=$(command -v "$2") || { echo "cotls: no $2" >&2; exit 127; }
shift 2
case $(head -n 1 "$tool") in
  *lua*) exec "$lua" "$tool" "$@" ;;
  *) exec "$tool" "$@" ;;
esac
