# lib.sh: what the bars share. Each bar is one script: it measures, prints what it measured, and fails when the figure misses the bar.
# COWL names the binary (default: the release build's); BARS_DIR where stores are put (default: /var/tmp).
set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
COWL=${COWL:-$top/build/release/bin/cowl}
[[ -x $COWL ]] || { echo "no cowl at $COWL: build it (tests/run), or set COWL"; exit 1; }
work=$(mktemp -d "${BARS_DIR:-/var/tmp}/cowl-bars.XXXXXX")
export COWL_STORE=$work/store
failed=0

finish() {
  local status=$?
  for name in $("$COWL" ls --json 2>/dev/null | jq -r '.devices[] | select(.attached != null) | .name'); do
    "$COWL" detach "$name" || true
  done
  "$COWL" stop >/dev/null 2>&1 || true
  rm -rf "$work"
  exit "$status"
}
trap finish EXIT

# bar WHAT VALUE LIMIT UNIT: VALUE must not be above LIMIT.
bar() {
  local verdict=ok
  awk -v value="$2" -v limit="$3" 'BEGIN { exit !(value <= limit) }' || { verdict=MISSED; failed=1; }
  printf '%-62s %12s %s (bar %s) %s\n' "$1" "$2" "$4" "$3" "$verdict"
}

now_ms() { date +%s%3N; }
disk_kib() { du -sk "$1" | cut -f1; }
