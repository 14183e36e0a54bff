#!/bin/sh
# Prints a script that runs an interpreter with libraries preloaded.
# usage: wrap_lua.sh INTERPRETER LIBRARY...
lua=$(command -v "$1") || exit 1
shift
cat <<EOF
#!/bin/sh
LD_PRELOAD="$*" exec "$lua" "\$@"
EOF
