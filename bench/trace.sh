#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Runs a server under strace -c; `load --wrapper` puts this before its command line. With -D the server stays
# the process that was started, so the load program's signals and clocks reach it and not strace.
# The counts go to $TRACE_DIR/trace-NAME.txt when the server ends.
name=$1
shift
exec strace -D -f -c -U name,calls,errors -S calls -o "${TRACE_DIR:-out}/trace-$name.txt" "$@"
