#!/usr/bin/env bats
# What the server process does: sockets, limits, stdio, systemd's activation. For memory_server alone, whose options these are.

load helpers

setup() {
  [ -z "$COWL_NBD_SERVER" ] || skip "these tests are memory_server's"
  need nbdinfo
}
teardown() { stop_server; }

@test "the socket is for its owner alone and goes with the server" {
  start_server
  [ "$(stat -c %a "$socket")" = 600 ]
  kill -TERM "$server_pid"
  wait "$server_pid"
  server_pid=
  [ ! -e "$socket" ]
}

@test "a killed server's socket is replaced" {
  start_server
  kill -KILL "$server_pid"
  wait "$server_pid" || true
  [ -S "$socket" ]
  $(memory_server) --listen "unix:$socket" >"$dir/uris" 3>&- &
  server_pid=$!
  for i in $(seq 100); do nbdinfo --size "$(uri "$DISK")" && break; sleep 0.05; done
}

@test "a live server's socket is refused" {
  start_server
  run "$(memory_server)" --listen "unix:$socket"
  [ "$status" -eq 1 ]
  [[ "$output" == *"another server listens there"* ]]
  nbdinfo --size "$(uri "$DISK")"
}

@test "TCP on loopback works, beyond it is refused" {
  start_server --listen tcp:127.0.0.1:0
  tcp=$(grep '^nbd://127.0.0.1:' "$dir/uris")
  nbdinfo --size "$tcp/$DISK"
  run "$(memory_server)" --listen tcp:0.0.0.0:0
  [ "$status" -eq 1 ]
  [[ "$output" == *"no TLS"* ]]
}

@test "both kinds of loop serve" {
  COWL_NBD_IO=sync start_server
  nbdinfo --list "nbd+unix:///?socket=$socket" | grep -q 'export="disk"'
}

@test "one connection too many is closed, and there is room again later" {
  need_nbdsh
  start_server --max-connections 2
  nbdsh -c "
import time
a, b, c = nbd.NBD(), nbd.NBD(), nbd.NBD()
a.connect_uri('$(uri "$DISK")'); b.connect_uri('$(uri "$DISK")')
try: c.connect_uri('$(uri "$DISK")'); assert False
except nbd.Error: pass
a.shutdown()
for i in range(100):
    try: nbd.NBD().connect_uri('$(uri "$DISK")'); break
    except nbd.Error: time.sleep(0.05)
else: assert False"
}

@test "a client that says nothing is closed" {
  need socat
  start_server --handshake-timeout 1
  run timeout 10 socat -u "UNIX-CONNECT:$socket" STDOUT
  [ "$status" -eq 0 ]
  [[ "$output" == NBDMAGICIHAVEOPT* ]]
}

@test "noise instead of NBD does no harm" {
  need socat
  start_server
  for i in 1 2 3 4 5; do head -c 100000 /dev/urandom | timeout 10 socat -u STDIN "UNIX-CONNECT:$socket" || true; done
  nbdinfo --size "$(uri "$DISK")"
}

@test "one client on stdin and stdout, named on the command line" {
  need_nbdsh
  nbdsh -c "
h.connect_command(['$(memory_server)', '--stdio', 'odd'])
assert h.get_size() == 1048576 + 512
h.pwrite(b'by pipe', 1); assert h.pread(7, 1) == b'by pipe'
h.shutdown()"
}

@test "a client that starts the server itself, the way systemd would" {
  run nbdinfo --size [ "$(memory_server)" ]
  [ "$status" -eq 0 ]
  [ "${lines[-1]}" -eq $((64 * 1048576)) ]
}

@test "systemd passes the socket" {
  need systemd-socket-activate
  dir=$(mktemp -d "${TMPDIR:-/tmp}/cowl-nbd-XXXXXX")
  socket=$dir/s
  systemd-socket-activate -l "$socket" "$(memory_server)" >"$dir/uris" 2>"$dir/log" 3>&- &
  server_pid=$!
  for i in $(seq 100); do [ -S "$socket" ] && break; sleep 0.05; done
  nbdinfo --size "$(uri "$DISK")"
  grep -q "nbd+unix:///?socket=$socket" "$dir/uris"
}

@test "200 idle connections cost little" {
  need_nbdsh
  if grep -q '^COWL_SANITIZE:.*=.' "${COWL_BUILD:-$BATS_TEST_DIRNAME/../../build/release}/CMakeCache.txt"; then
    skip "a sanitizer's memory would count, too"
  fi
  start_server
  rss() { awk '/VmRSS/ { print $2 }' "/proc/$server_pid/status"; }
  before=$(rss)
  python3 - "$(uri "$DISK")" "$server_pid" "$before" <<'PYTHON'
import sys, nbd
uri, pid, before = sys.argv[1], sys.argv[2], int(sys.argv[3])
clients = [nbd.NBD() for _ in range(200)]
for c in clients:
    c.connect_uri(uri)
    c.pread(4096, 0)
rss = next(int(l.split()[1]) for l in open(f'/proc/{pid}/status') if l.startswith('VmRSS'))
print('KiB a connection:', (rss - before) / 200)
assert (rss - before) / 200 < 64, (before, rss)
PYTHON
}
