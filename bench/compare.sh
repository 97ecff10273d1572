#!/bin/sh
# LedgerMQ and others, alternating, one at a time. JSON lines on stdout; medians and ratios as a table on stderr at the end.
# env: ROUNDS=3 SECONDS_EACH=20 WARMUP=5 BENCH_RIVALS='commands that print JSON lines, separated by blanks' BENCH_DIR=where data lies
set -eu
here=$(cd "$(dirname "$0")" && pwd)
lines=$(mktemp)
trap 'rm -f "$lines"' EXIT
ledgermq() {
  (cd "$here/.." && npm run -s bench -- "$@" --json --warmup "${WARMUP:-5}" --seconds "${SECONDS_EACH:-20}" ${BENCH_DIR:+--dir "$BENCH_DIR"}) | tee -a "$lines"
}
for round in $(seq "${ROUNDS:-3}"); do
  echo "round $round" >&2
  ledgermq produce --mode async --concurrency 1024
  ledgermq produce --mode sync --concurrency 64
  ledgermq produce --mode sync --concurrency 16
  ledgermq produce --mode batch --concurrency 64
  for rival in ${BENCH_RIVALS:-}; do
    # A rival that fails is missing in the table; ours are not thrown away for it.
    "$rival" | tee -a "$lines" || echo "$rival failed" >&2
  done
done
"$here/../node_modules/.bin/node" "$here/medians.ts" "$lines" >&2
