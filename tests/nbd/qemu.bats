#!/usr/bin/env bats
# qemu-img and qemu-io against the server.

load helpers

setup() { need qemu-img qemu-io; start_server; }
teardown() { stop_server; }

io() { local export=$1; shift; qemu-io -f raw "${@}" "$(uri "$export")"; }

# Every pattern that qemu-io reads must be there; it says so on stdout and ends with status 0 all the same in some versions.
io_ok() {
  run io "$@"
  echo "$output"
  [ "$status" -eq 0 ]
  [[ "$output" != *"failed"* && "$output" != *"rror"* ]]
}

@test "qemu-img info names the size" {
  run qemu-img info --output=json "$(uri "$ODD")"
  [ "$status" -eq 0 ]
  [[ "$output" == *'"format": "raw"'* ]]
}

@test "qemu-img convert in and out, then compare" {
  noise 24 >"$dir/in"
  truncate -s 64M "$dir/in"
  qemu-img convert -n -f raw -O raw "$dir/in" "$(uri "$DISK")"
  qemu-img compare -f raw -F raw "$dir/in" "$(uri "$DISK")"
  qemu-img convert -f raw -O raw "$(uri "$DISK")" "$dir/out"
  cmp -n $((64 * 1048576)) "$dir/in" "$dir/out"
  qemu-img convert -f raw -O qcow2 "$(uri "$DISK")" "$dir/out.qcow2"
  qemu-img compare -f qcow2 -F raw "$dir/out.qcow2" "$(uri "$DISK")"
}

@test "qemu-img convert out of order, many coroutines" {
  noise 32 >"$dir/in"
  truncate -s 64M "$dir/in"
  qemu-img convert -n -W -m 16 -f raw -O raw "$dir/in" "$(uri "$DISK")"
  qemu-img compare -f raw -F raw "$dir/in" "$(uri "$DISK")"
}

@test "qemu-img compare sees one changed byte" {
  noise 4 >"$dir/in"
  truncate -s 64M "$dir/in"
  qemu-img convert -n -f raw -O raw "$dir/in" "$(uri "$DISK")"
  io_ok "$DISK" -c "write -P 0x5a 3000000 1"
  run qemu-img compare -f raw -F raw "$dir/in" "$(uri "$DISK")"
  [ "$status" -eq 1 ]
}

@test "qemu-img map shows data and zeros" {
  io_ok "$DISK" -c "write -P 1 1M 128k"
  run qemu-img map --output=json -f raw "$(uri "$DISK")"
  echo "$output"
  [ "$status" -eq 0 ]
  echo "$output" | python3 -c "
import json, sys
extents = json.load(sys.stdin)
data = [e for e in extents if e['data']]
assert [(e['start'], e['length']) for e in data] == [(1048576, 131072)], extents
assert all(e['zero'] for e in extents if not e['data']), extents"
}

@test "qemu-io: writes and reads at odd offsets" {
  io_ok "$DISK" -c "write -P 0x11 0 64k" -c "write -P 0x22 1000 3000" -c "read -P 0x11 0 1000" -c "read -P 0x22 1000 3000" \
    -c "read -P 0x11 4000 61536"
}

@test "qemu-io: write zeroes, with and without unmap" {
  io_ok "$DISK" -c "write -P 0x33 0 1M" -c "write -z 4096 8192" -c "write -z -u 65536 65536" -c "read -P 0 4096 8192" \
    -c "read -P 0 65536 65536" -c "read -P 0x33 0 4096" -c "read -P 0x33 12288 53248"
}

@test "qemu-io: discard, flush, FUA" {
  io_ok "$DISK" -c "write -f -P 0x44 0 1M" -c "discard 256k 256k" -c "flush" -c "read -P 0 256k 256k" -c "read -P 0x44 0 256k"
}

@test "qemu-io: many requests at a time" {
  local commands=()
  for i in $(seq 0 63); do commands+=(-c "aio_write -P $((i + 1)) $((i * 65536)) 65536"); done
  commands+=(-c aio_flush)
  for i in $(seq 0 63); do commands+=(-c "read -P $((i + 1)) $((i * 65536)) 65536"); done
  io_ok "$DISK" "${commands[@]}"
}

@test "qemu-io: the end of an export of odd size" {
  size=$(qemu-img info --output=json "$(uri "$ODD")" | python3 -c "import json, sys; print(json.load(sys.stdin)['virtual-size'])")
  io_ok "$ODD" -c "write -P 0x55 $((size - 700)) 700" -c "read -P 0x55 $((size - 700)) 700"
}

@test "qemu-io: a read-only export takes no write" {
  run qemu-io -f raw -c "write 0 512" "$(uri "$IMAGE")"
  [[ "$output" == *"read-only"* || "$output" == *"Read-only"* || "$status" -ne 0 ]]
}
