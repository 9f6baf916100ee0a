# helpers.bash: starts a server and knows the names of its exports. The same tests run against any NBD server that offers them:
#
#   COWL_NBD_SERVER   shell command that serves on the unix socket $socket and prints its URI; default: memory_server.
#                     tests/nbd/serve_store is `cowl serve` with a store that has them
#   COWL_NBD_DISK     a writable export of at least 64 MiB, empty        (disk)
#   COWL_NBD_DISK2    another                                            (disk2)
#   COWL_NBD_IMAGE    a read-only export with data and holes             (image:latest)
#   COWL_NBD_ODD      a writable export whose size is no multiple of 4 KiB (odd)
#
# An outside tool that is missing is a skip, and a failure when CI=true.

# The distribution's own tools first: nbdsh runs whatever python3 it finds.
PATH=/usr/sbin:/usr/bin:/sbin:/bin:$PATH

DISK=${COWL_NBD_DISK:-disk}
DISK2=${COWL_NBD_DISK2:-disk2}
IMAGE=${COWL_NBD_IMAGE:-image:latest}
ODD=${COWL_NBD_ODD:-odd}

need() {
  local tool
  for tool in "$@"; do
    command -v "$tool" >/dev/null && continue
    [ "$CI" = true ] && { echo "CI=true, and $tool is not installed"; return 1; }
    skip "$tool is not installed"
  done
}

need_nbdsh() {
  need nbdsh || return
  python3 -c 'import nbd' 2>/dev/null && return
  [ "$CI" = true ] && { echo "CI=true, and python3-libnbd is not installed"; return 1; }
  skip "python3-libnbd is not installed"
}

memory_server() {
  local found=${MEMORY_SERVER:-${COWL_BUILD:-$BATS_TEST_DIRNAME/../../build/release}/tests/nbd/memory_server}
  [ -x "$found" ] || { echo "no memory_server at $found: build it, or set MEMORY_SERVER" >&2; return 1; }
  echo "$found"
}

# Starts the server on $socket; more words are options for memory_server alone.
start_server() {
  dir=$(mktemp -d "${TMPDIR:-/tmp}/cowl-nbd-XXXXXX")
  socket=$dir/s
  export socket
  local server
  if [ -n "$COWL_NBD_SERVER" ]; then
    server="exec $COWL_NBD_SERVER"
  else
    server="exec $(memory_server) --io ${COWL_NBD_IO:-uring} --listen unix:\$socket $*"
  fi
  bash -c "$server" >"$dir/uris" 2>"$dir/log" 3>&- &
  server_pid=$!
  local i
  for i in $(seq 200); do
    [ -S "$socket" ] && [ -s "$dir/uris" ] && return
    kill -0 $server_pid 2>/dev/null || break
    sleep 0.05
  done
  echo "the server did not start:"; cat "$dir/log"
  return 1
}

# Ends the server, where it has not ended by itself, and removes what start_server made.
stop_server() {
  local status=0
  if [ -n "$server_pid" ]; then
    kill -TERM $server_pid 2>/dev/null
    wait $server_pid || status=$?
    server_pid=
  fi
  [ -n "$dir" ] || return $status
  cat "$dir/log"
  rm -rf "$dir"
  dir=
  return $status
}

# The URI of an export.
uri() { echo "nbd+unix:///${1//:/%3A}?socket=$socket"; }

# A file of $1 MiB of noise that is the same every time.
noise() {
  openssl enc -aes-128-ctr -nosalt -pass pass:cowl -pbkdf2 -in /dev/zero 2>/dev/null | head -c $(($1 * 1048576))
}
