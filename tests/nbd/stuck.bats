#!/usr/bin/env bats
# A disk that does not answer: strace holds up the system call of its flush.

load helpers

setup() {
  [ -n "$COWL_NBD_SERVER" ] || skip "for a server with a store"
  need strace nbdsh
  COWL_NBD_IO=sync start_server
}
teardown() {
  [ -z "$strace_pid" ] || kill "$strace_pid" 2>/dev/null || true
  stop_server
}

@test "SIGTERM ends the server in time, with status 0, while a disk does not answer" {
  # One connection all the time: the first write after opening a disk needs a sync of its own.
  timeout 60 nbdsh -u "$(uri "$DISK")" -c "
import os, time
h.pwrite(b'kept' * 1024, 0)
h.flush()
open('$dir/ready', 'w')
while not os.path.exists('$dir/go'): time.sleep(0.02)
h.pwrite(b'answered', 8192)
open('$dir/flushing', 'w')
h.flush()
" 2>/dev/null 3>&- &
  for i in $(seq 100); do [ -e "$dir/ready" ] && break; sleep 0.05; done
  strace -f -p "$server_pid" -e trace=fdatasync -e inject=fdatasync:delay_enter=120000000 -o "$dir/strace" 2>"$dir/strace-log" 3>&- &
  strace_pid=$!
  for i in $(seq 100); do grep -q '^TracerPid:[[:space:]]*[1-9]' "/proc/$server_pid/status" && break; sleep 0.05; done
  grep -q '^TracerPid:[[:space:]]*[1-9]' "/proc/$server_pid/status" || skip "strace may not attach: $(cat "$dir/strace-log")"
  touch "$dir/go"
  for i in $(seq 100); do [ -e "$dir/flushing" ] && break; sleep 0.05; done
  [ -e "$dir/flushing" ]
  sleep 0.5
  begin=$SECONDS
  kill -TERM "$server_pid"
  for i in $(seq 130); do grep -q 'a disk does not answer' "$dir/log" && break; sleep 0.1; done
  kill -KILL "$strace_pid"  # else the dead thread waits for its end
  status=0; wait "$server_pid" || status=$?
  server_pid=
  echo "status $status after $((SECONDS - begin)) s"
  [ "$status" -eq 0 ]
  [ $((SECONDS - begin)) -le 13 ]
  grep 'a disk does not answer' "$dir/log"
  cowl=${COWL:-$BATS_TEST_DIRNAME/../../build/release/bin/cowl}
  "$cowl" --store "$dir/store" check --data
  "$cowl" --store "$dir/store" export disk "$dir/disk.raw"
  [ "$(tail -c +8193 "$dir/disk.raw" | head -c 8 | tr -d '\0')" = answered ]
}
