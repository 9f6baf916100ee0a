# What every file here loads. The same tests run twice: COWL_TEST_SERVER=0 lets each command open the store itself, =1 starts a
# server first, which then runs them. The user must see no difference.
# Needs: COWL, the program (default: cowl from PATH); jq.

bats_require_minimum_version 1.5.0

cowl() { "${COWL:-cowl}" "$@"; }

# A fresh store, in a folder of its own.
setup_store() {
  dir=$(mktemp -d "${TMPDIR:-/tmp}/cowl-cli.XXXXXX")
  cd "$dir" || return 1
  export COWL_STORE=$dir/store
  cowl init
  start_server
}

start_server() {
  [[ ${COWL_TEST_SERVER:-0} == 0 ]] && return
  cowl serve --detach >/dev/null
}

is_served() { [[ ${COWL_TEST_SERVER:-0} != 0 ]]; }

drop_store() {
  [[ -n ${dir:-} ]] || return 0
  if [[ -S $dir/store/control.sock ]]; then cowl --store "$dir/store" stop 2>/dev/null || true; fi
  cd /
  rm -rf "$dir"
}

setup() { setup_store; }
teardown() { drop_store; }

# fails STATUS PATTERN COMMAND...: ends with STATUS, prints nothing on stdout and one line on stderr that begins with "cowl: "
# and matches PATTERN (an extended regular expression).
fails() {
  local want=$1 pattern=$2
  shift 2
  run --separate-stderr -- "$@"
  if ((status != want)); then echo "status $status, not $want: $* ($stderr)"; return 1; fi
  if [[ -n $output ]]; then echo "printed on stdout: $output"; return 1; fi
  if ((${#stderr_lines[@]} != 1)); then echo "not one line on stderr: $stderr"; return 1; fi
  if [[ ${stderr_lines[0]} != "cowl: "* ]]; then echo "the error does not begin with cowl: $stderr"; return 1; fi
  if ! grep -Eq -- "$pattern" <<<"$stderr"; then echo "\"$stderr\" does not match $pattern"; return 1; fi
}

# succeeds COMMAND...: status 0 and nothing on stderr; stdout in $output.
succeeds() {
  run --separate-stderr -- "$@"
  if ((status != 0)); then echo "status $status: $* ($stderr)"; return 1; fi
  if [[ -n $stderr ]]; then echo "printed on stderr: $stderr"; return 1; fi
}

# need TOOL...: skips the test where a tool is missing, visibly; under CI=true that is a failure.
need() {
  local tool
  for tool in "$@"; do
    command -v "$tool" >/dev/null && continue
    if [[ ${CI:-} == true ]]; then echo "$tool is missing"; return 1; fi
    skip "$tool is missing"
  done
}

# A document with what differs from run to run made equal: ids by order of appearance, times, paths.
normalised() {
  sed -E -e "s#$dir#DIR#g" -e 's/[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}(\.[0-9]+)?Z/TIME/g' \
    -e 's/("pause_us": )[0-9]+/\10/' |
    awk '{
      while (match($0, /[0-9a-f]+-[0-9a-f]+-[0-9a-f]+-[0-9a-f]+-[0-9a-f]+/)) {
        id = substr($0, RSTART, RLENGTH)
        if (!(id in seen)) seen[id] = "ID" ++count
        $0 = substr($0, 1, RSTART - 1) seen[id] substr($0, RSTART + RLENGTH)
      }
      print
    }'
}

# is_document EXPECTED COMMAND...: the command succeeds and its normalised document equals EXPECTED as JSON.
is_document() {
  local expected=$1
  shift
  succeeds "$@"
  local got
  got=$(normalised <<<"$output" | jq -S .)
  diff <(jq -S . <<<"$expected") <(echo "$got")
}

# A raw disk of SIZE bytes whose block N begins with "block N": blocks 0, 3, 6, ... of it; the rest reads as zero.
make_disk() {
  local file=$1 blocks=$(($2 / 4096)) i
  truncate -s "$2" "$file"
  for ((i = 0; i < blocks; i += 3)); do
    printf 'block %d' "$i" | dd of="$file" bs=4096 seek="$i" conv=notrunc status=none
  done
}

# write_device NAME OFFSET LENGTH PATTERN: through NBD, whether or not a server runs.
write_device() {
  cowl run "$1" -- sh -c 'qemu-io -f raw -c "write -P '"$4 $2 $3"'" -c flush "$uri" >/dev/null'
}
