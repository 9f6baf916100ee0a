# run: its exit statuses, what COMMAND sees, and that nothing is left.
load helpers

setup() {
  setup_store
  cowl create --empty 1M web >/dev/null
}

is_alone_again() {
  if is_served; then return; fi
  [ ! -e store/control.sock ] && [ ! -e store/nbd.sock ]
}

@test "COMMAND gets the URI" {
  # shellcheck disable=SC2016
  succeeds cowl run web -- sh -c 'nbdinfo --size "$uri"'
  [ "$output" = 1048576 ]
  is_alone_again
}

@test "its exit status is COMMAND's" {
  for want in 0 1 2 3 42 125 255; do
    run cowl run web -- sh -c "exit $want"
    [ "$status" -eq $want ]
  done
  is_alone_again
}

@test "127: no such command, 126: it cannot be run, 128+N: a signal" {
  run cowl run web -- ./none
  [ "$status" -eq 127 ]
  run cowl run web -- no-such-command-anywhere
  [ "$status" -eq 127 ]
  run cowl run web -- /
  [ "$status" -eq 126 ]
  echo text > file
  run cowl run web -- ./file
  [ "$status" -eq 126 ]
  # shellcheck disable=SC2016
  run cowl run web -- sh -c 'kill -9 $$'
  [ "$status" -eq 137 ]
  # shellcheck disable=SC2016
  run cowl run web -- sh -c 'kill -TERM $$'
  [ "$status" -eq 143 ]
  is_alone_again
}

@test "125: cowl failed" {
  fails 125 '^cowl: run: .*none' cowl run none -- true
  fails 125 '^cowl: run: .*cowl init' cowl --store "$dir/none" run web -- true
}

@test "options behind -- are COMMAND's" {
  succeeds cowl run web -- echo --json --store x -- --help
  [ "$output" = "--json --store x -- --help" ]
}

@test "other commands work while it runs" {
  # shellcheck disable=SC2016
  succeeds cowl run web -- sh -c '"$0" create --empty 1M inner && "$0" run inner -- true && "$0" ls -q' "$(command -v "${COWL:-cowl}")"
  [ "$output" = $'inner\ninner\nweb' ]
  is_alone_again
}

@test "two at once share the server, and the last one ends it" {
  "${COWL:-cowl}" run web -- sleep 1 3>&- &
  first=$!
  "${COWL:-cowl}" run web -- sleep 2 3>&- &
  second=$!
  wait $first
  wait $second
  is_alone_again
  succeeds cowl check
}

@test "many come and go at once: each finds a server, or starts one" {
  pids=()
  for round in 0 1 2 3 4 5 6 7; do
    for one in 1 2 3; do
      "${COWL:-cowl}" run web -- sleep "0.0$(((round * one) % 7))" 3>&- &
      pids+=($!)
    done
    sleep 0.1
  done
  for pid in "${pids[@]}"; do wait "$pid"; done
  is_alone_again
  succeeds cowl check
}

@test "SIGTERM is passed on, and nothing is left" {
  "${COWL:-cowl}" run web -- sleep 30 3>&- &
  pid=$!
  sleep 1
  kill -TERM $pid
  code=0
  wait $pid || code=$?
  [ "$code" -eq 143 ]
  is_alone_again
}

@test "after kill -9 the server it started ends by itself" {
  "${COWL:-cowl}" run web -- sleep 3 3>&- &
  pid=$!
  sleep 1
  kill -9 $pid
  wait $pid || true
  for ((i = 0; i < 50; i++)); do is_alone_again && break; sleep 0.1; done
  is_alone_again
}

@test "an image runs read-only, by its bare name too" {
  cowl snapshot web img >/dev/null
  # shellcheck disable=SC2016
  succeeds cowl run img -- sh -c 'nbdinfo --is read-only "$uri"'
  # shellcheck disable=SC2016
  run cowl run img -- sh -c 'qemu-io -f raw -c "write 0 512" "$uri"'
  [ "$status" -ne 0 ]
}
