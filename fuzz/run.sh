#!/bin/sh
# One target for some time: run.sh FOLDER NAME SECONDS. FOLDER has the fuzzer and
# takes the corpus, the log and what is found.
set -u
cd "$(dirname "$0")/.." || exit 1
folder=$1 name=$2 seconds=$3

rm -rf "$folder/$name"
mkdir -p "$folder/$name"
"${LUA:-lua5.4}" fuzz/corpus.lua unpack "$folder/$name" "$name" || exit 1
COTLS_FUZZ=$name "$folder/fuzz" -max_total_time="$seconds" -detect_leaks=0 -max_len=4096 -timeout=30 \
  -rss_limit_mb=4096 -print_final_stats=1 -artifact_prefix="$folder/$name-" "$folder/$name" \
  >"$folder/$name.log" 2>&1
status=$?
if [ $status -ne 0 ]; then
  echo "$name: found something:"
  grep -aE 'fuzz: |ERROR|runtime error|Test unit' -A 8 "$folder/$name.log" | head -n 60
  exit 1
fi
printf '%-12s %9s inputs, coverage %s\n' "$name" \
  "$(sed -n 's/^stat::number_of_executed_units: *//p' "$folder/$name.log")" \
  "$(sed -n 's/.*DONE *cov: \([0-9]*\).*/\1/p' "$folder/$name.log")"
