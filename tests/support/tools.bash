# tools.bash: what the bats suites share. `load` it first (bats: load ../support/tools).
# Gives: $REPOSITORY, $BUILD (the build folder under test: COWL_BUILD, else build/release), $COWL (the binary there).

REPOSITORY=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
BUILD=${COWL_BUILD:-$REPOSITORY/build/release}
COWL=${COWL:-$BUILD/bin/cowl}
PATH=$PATH:/usr/sbin:/sbin

# need WORD...: skips the test when something of it is missing; under CI=true that is a failure. Programs by name or path, and
# root, fuse, loop, nbd, filesystem:NAME for what the host has to offer.
need() {
  local word
  for word; do
    has "$word" && continue
    if [[ ${CI:-} == true ]]; then
      echo "needs $word, which this machine lacks" >&2
      return 1
    fi
    skip "needs $word"
  done
}

has() {
  case $1 in
    root) ((EUID == 0)) ;;
    fuse) [[ -c /dev/fuse ]] ;;
    loop) [[ -c /dev/loop-control ]] ;;
    nbd) [[ -d /sys/block/nbd0 ]] ;;
    filesystem:*) grep -qw "${1#*:}" /proc/filesystems || modprobe -q "${1#*:}" ;;
    /*) [[ -x $1 ]] ;;
    *) command -v -- "$1" >/dev/null ;;
  esac
}

# wait_until SECONDS COMMAND...: until COMMAND succeeds; fails when it does not in time. The emulated machine is given more.
wait_until() {
  local end=$((SECONDS + $1 * (${COWL_VM:-0} * 9 + 1)))
  shift
  until "$@"; do
    ((SECONDS < end)) || { echo "not within the time: $*" >&2; return 1; }
    sleep 0.05
  done
}
