#!/bin/bash
# What PERFORMANCE asks beside the rates: queues, waiting consumers, backlog, start, restart with a large log, memory.
# One JSON line each on stdout. Alone on the machine; about 8 minutes and 40 GB of disk. env: DIR=where data lies, LOG_GB=10
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
dir=$(mktemp -d "${DIR:-${TMPDIR:-/tmp}}/ledgermq-milestones-XXXXXX")
log="$dir/dev.out"
PATH="$here/node_modules/.bin:$PATH"
cluster=
waiting=
cli() { node "$here/src/cli/main.ts" "$@"; }
now() { date +%s%3N; }
say() { printf '{"what":"%s",%s}\n' "$1" "$2"; }
stop_cluster() {
  [ -z "$cluster" ] || { kill -TERM "$cluster" 2>/dev/null || true; wait "$cluster" 2>/dev/null || true; }
  cluster=
}
trap 'stop_cluster; [ -z "$waiting" ] || kill $waiting 2>/dev/null || true; rm -rf "$dir"' EXIT
start_cluster() { # → milliseconds until every group has a leader and one message was acknowledged
  : > "$log"
  local from; from=$(now)
  node "$here/src/cli/main.ts" dev --json --base-port 0 --dir "$dir/data" > "$log" 2> "$dir/dev.err" &
  cluster=$!
  until grep -q '"ready"' "$log"; do sleep 0.02; kill -0 "$cluster"; done
  endpoints=$(sed -n '/"ready"/s/.*"endpoints":\[\([^]]*\)\].*/\1/p' "$log" | tr -d '"')
  pids=$(sed -n '/"ready"/s/.*"pids":\[\([^]]*\)\].*/\1/p' "$log" | tr ',' ' ')
  readyMs=$(($(now) - from))
}
memory_mb() { local sum=0; for pid in $pids; do sum=$((sum + $(awk '/VmRSS/{print $2}' "/proc/$pid/status"))); done; echo $((sum / 1024)); }
produce() { cli bench produce --json --warmup 2 "$@" 2> /dev/null; }
field() { sed "s/.*\"$1\":\([0-9.]*\).*/\1/"; }

start_cluster
say "start to ready, empty, ms" "\"value\":$readyMs"
say "memory of three, idle, MB" "\"value\":$(memory_mb)"
for queues in 1 10 100 1000; do
  say "1,024 in flight, $queues queues, no key" "\"msgs_per_s\":$(produce --endpoint "$endpoints" --topic "q$queues" --queues $queues --seconds 5 | field msgs_per_s)"
done
say "100-byte bodies, 1,024 in flight" "\"msgs_per_s\":$(produce --endpoint "$endpoints" --topic small --size 100 --seconds 5 | field msgs_per_s)"
say "drain with acknowledgement" "\"msgs_per_s\":$(cli bench consume --json --endpoint "$endpoints" --topic q10 --group drain 2> /dev/null | field msgs_per_s)"
say "memory of three, loaded, MB" "\"value\":$(memory_mb)"
rate=$(cli bench e2e --json --endpoint "$endpoints" --topic e2e-peak --group e2e-peak --rate 0 --concurrency 1024 --warmup 2 --seconds 5 2> /dev/null | field msgs_per_s)
half=$(awk "BEGIN{printf \"%d\", $rate / 2}")
cli bench e2e --json --endpoint "$endpoints" --topic e2e --group e2e --rate "$half" --warmup 2 --seconds 8 2> /dev/null | sed "s/^{/{\"what\":\"end to end at half of peak ($half of $rate)\",/"
for consumers in 1 10 1000; do
  node "$here/bench/waiting.ts" "$endpoints" "$consumers" > "$dir/waiting.out" &
  waiting=$!
  until grep -q waiting "$dir/waiting.out"; do sleep 0.1; kill -0 "$waiting"; done
  say "1,024 in flight, $consumers consumers waiting" "\"msgs_per_s\":$(produce --endpoint "$endpoints" --topic idle-beside --seconds 5 | field msgs_per_s)"
  kill "$waiting"; wait "$waiting" 2>/dev/null || true
  waiting=
done
produce --endpoint "$endpoints" --topic bulk --mode batch --concurrency 64 --seconds 10 > "$dir/bulk"
while [ "$(du -s --block-size=1G "$dir/data" | cut -f1)" -lt $((3 * ${LOG_GB:-10})) ]; do
  produce --endpoint "$endpoints" --topic bulk --mode batch --concurrency 64 --seconds 10 > "$dir/bulk"
done
say "batches, 64 in flight, backlog of ${LOG_GB:-10} GB" "\"msgs_per_s\":$(field msgs_per_s < "$dir/bulk")"
say "1,024 in flight, backlog of ${LOG_GB:-10} GB" "\"msgs_per_s\":$(produce --endpoint "$endpoints" --topic q10 --seconds 5 | field msgs_per_s)"
for pid in $pids; do kill -9 "$pid"; done
kill -9 "$cluster"; wait "$cluster" 2>/dev/null || true
cluster=
start_cluster
say "start to ready after kill -9 of all, ${LOG_GB:-10} GB, ms" "\"value\":$readyMs"
