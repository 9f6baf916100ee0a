#!/usr/bin/env bats
# nbdinfo, nbdcopy and nbdsh against the server.

load helpers

setup() { need nbdinfo nbdcopy; start_server; }
teardown() { stop_server; }

shell() { need_nbdsh && nbdsh -u "$1" -c "$2"; }
field() { nbdinfo --json "$(uri "$1")" | python3 -c "import json, sys; print(json.load(sys.stdin)['exports'][0]['$2'])"; }

@test "nbdinfo shows every flag of a writable export" {
  run nbdinfo "$(uri "$DISK")"
  [ "$status" -eq 0 ]
  [[ "$output" == *"protocol: newstyle-fixed without TLS, using structured packets"* ]]
  for flag in can_cache can_df can_fast_zero can_flush can_fua can_multi_conn can_trim can_zero; do
    [[ "$output" == *"$flag: true"* ]] || { echo "$flag"; false; }
  done
  [[ "$output" == *"is_rotational: false"* ]]
  [[ "$output" == *"is_read_only: false"* ]]
}

@test "nbdinfo shows a read-only export as one" {
  run nbdinfo "$(uri "$IMAGE")"
  [ "$status" -eq 0 ]
  [[ "$output" == *"is_read_only: true"* ]]
  for flag in can_trim can_zero can_fast_zero; do
    [[ "$output" == *"$flag: false"* ]] || { echo "$flag"; false; }
  done
  [[ "$output" == *"can_multi_conn: true"* ]]
  nbdinfo --is read-only "$(uri "$IMAGE")"
  ! nbdinfo --can write "$(uri "$IMAGE")"
}

@test "nbdinfo shows the block sizes and both contexts" {
  run nbdinfo "$(uri "$DISK")"
  [[ "$output" == *"block_size_minimum: 1"* ]]
  [[ "$output" == *"block_size_preferred: 4096"* ]]
  [[ "$output" == *"block_size_maximum: 33554432"* ]]
  [[ "$output" == *"base:allocation"* ]]
  [[ "$output" == *"cowl:depth"* ]]
}

@test "nbdinfo lists every export" {
  run nbdinfo --list "nbd+unix:///?socket=$socket"
  [ "$status" -eq 0 ]
  for name in "$DISK" "$DISK2" "$IMAGE" "$ODD"; do
    [[ "$output" == *"export=\"$name\""* ]] || { echo "$name"; false; }
  done
}

@test "nbdinfo --json is a document" {
  nbdinfo --list --json "nbd+unix:///?socket=$socket" | python3 -m json.tool >/dev/null
  [ "$(field "$DISK" is_read_only)" = False ]
  [ "$(field "$DISK" block_size_preferred)" -eq 4096 ]
}

@test "nbdinfo of an export that is not there fails with the server's message" {
  run nbdinfo "$(uri no-such-export)"
  [ "$status" -ne 0 ]
  [[ "$output" == *"no-such-export"* || "$output" == *"no such"* ]]
}

@test "nbdinfo --map covers the export without a gap, for both contexts" {
  for export in "$DISK" "$IMAGE" "$ODD"; do
    for context in base:allocation cowl:depth; do
      nbdinfo --map="$context" "$(uri "$export")" |
        awk -v size="$(nbdinfo --size "$(uri "$export")")" \
          '$1 != at { exit bad = 1 } { at = $1 + $2 } END { exit bad || at != size }'
    done
  done
}

@test "nbdinfo --map sees what was written and what was not" {
  shell "$(uri "$DISK")" "h.pwrite(b'x' * 65536, 1048576)"
  run nbdinfo --map "$(uri "$DISK")"
  [ "$status" -eq 0 ]
  [[ "$(echo "$output" | tr -s ' ')" == *" 0 1048576 3 hole,zero"* ]]
  [[ "$(echo "$output" | tr -s ' ')" == *" 1048576 65536 0 data"* ]]
}

@test "nbdinfo --map --totals adds up" {
  run nbdinfo --map --totals "$(uri "$IMAGE")"
  [ "$status" -eq 0 ]
  [[ "$output" == *"data"* ]]
}

@test "nbdcopy writes a file and reads it back, by four connections" {
  noise 48 >"$dir/in"
  nbdcopy --connections=4 --requests=64 "$dir/in" "$(uri "$DISK")"
  nbdcopy --connections=4 --requests=64 "$(uri "$DISK")" "$dir/out"
  cmp -n $((48 * 1048576)) "$dir/in" "$dir/out"
}

@test "nbdcopy keeps holes" {
  truncate -s 64M "$dir/in"
  noise 1 | dd of="$dir/in" bs=1M seek=7 conv=notrunc status=none
  nbdcopy --destination-is-zero "$dir/in" "$(uri "$DISK")"
  nbdcopy "$(uri "$DISK")" "$dir/out"
  cmp "$dir/in" "$dir/out"
  [ "$(stat -c %b "$dir/out")" -le $((3 * 1048576 / 512)) ]
}

@test "nbdcopy from export to export" {
  noise 16 >"$dir/in"
  nbdcopy "$dir/in" "$(uri "$DISK")"
  nbdcopy "$(uri "$DISK")" "$(uri "$DISK2")"
  nbdcopy "$(uri "$DISK2")" "$dir/out"
  cmp -n $((16 * 1048576)) "$dir/in" "$dir/out"
}

@test "nbdcopy to an export of odd size and back" {
  size=$(nbdinfo --size "$(uri "$ODD")")
  noise 2 | head -c "$size" >"$dir/in"
  nbdcopy "$dir/in" "$(uri "$ODD")"
  nbdcopy "$(uri "$ODD")" "$dir/out"
  cmp "$dir/in" "$dir/out"
}

@test "nbdcopy to a read-only export is refused" {
  noise 1 >"$dir/in"
  run nbdcopy "$dir/in" "$(uri "$IMAGE")"
  [ "$status" -ne 0 ]
}

@test "nbdsh: every command with FUA and at odd offsets" {
  shell "$(uri "$DISK")" "
h.pwrite(b'abcdefghij', 4095, nbd.CMD_FLAG_FUA)
assert h.pread(12, 4094) == b'\0abcdefghij\0'
h.zero(3, 4097, nbd.CMD_FLAG_FUA | nbd.CMD_FLAG_NO_HOLE)
assert h.pread(10, 4095) == b'ab\0\0\0fghij'
h.trim(65536, 0, nbd.CMD_FLAG_FUA)
h.cache(1 << 20, 1)
h.flush()
"
}

@test "nbdsh: without structured replies everything works too" {
  need_nbdsh
  nbdsh -c "
h.set_request_structured_replies(False)
h.connect_uri('$(uri "$DISK")')
assert not h.get_structured_replies_negotiated() and not h.can_df()
h.pwrite(b'simple', 1)
assert h.pread(8, 0) == b'\0simple\0'
h.zero(2, 1)
assert h.pread(6, 1) == b'\0\0mple'
"
}

@test "nbdsh: structured reads come with holes, and whole when asked" {
  shell "$(uri "$DISK")" "
h.pwrite(b'x' * 65536, 65536)
kinds = []
def chunk(data, offset, kind, error): kinds.append((offset, len(data), kind))
h.pread_structured(262144, 0, chunk)
assert (0, 65536, nbd.READ_HOLE) in kinds or any(k == nbd.READ_HOLE for _, _, k in kinds), kinds
kinds.clear()
h.pread_structured(262144, 0, chunk, nbd.CMD_FLAG_DF)
assert kinds == [(0, 262144, nbd.READ_DATA)], kinds
"
}

@test "nbdsh: block status of one extent and of both contexts" {
  need_nbdsh
  nbdsh -c "
h.add_meta_context('base:allocation'); h.add_meta_context('cowl:depth')
h.connect_uri('$(uri "$DISK")')
h.pwrite(b'x' * 4096, 8192)
seen = {}
def extent(context, offset, entries, error): seen[context] = entries
h.block_status(65536, 0, extent)
assert set(seen) == {'base:allocation', 'cowl:depth'}, seen
assert seen['base:allocation'][:4] == [8192, 3, 4096, 0], seen
assert seen['cowl:depth'][:4] == [8192, 0, 4096, 1], seen
h.block_status(65536, 8192, extent, nbd.CMD_FLAG_REQ_ONE)
assert seen['base:allocation'] == [4096, 0], seen
"
}

@test "nbdsh: the server's wildcards list, and do not choose" {
  need_nbdsh
  nbdsh -c "
h.set_opt_mode(True)
h.connect_uri('nbd+unix:///?socket=$socket')
h.set_export_name('$DISK')
names = []
h.add_meta_context('base:'); h.opt_list_meta_context(names.append)
assert names == ['base:allocation'], names
names.clear(); h.clear_meta_contexts()
h.add_meta_context('cowl:'); h.opt_list_meta_context(names.append)
assert names == ['cowl:depth'], names
names.clear(); h.clear_meta_contexts(); h.opt_list_meta_context(names.append)
assert names == ['base:allocation', 'cowl:depth'], names
h.opt_go()
assert not h.can_meta_context('cowl:depth')
"
}

@test "nbdsh: what is out of bounds is refused by the server, which goes on" {
  need_nbdsh
  nbdsh -c "
import errno
h.set_strict_mode(0)
h.connect_uri('$(uri "$DISK")')
size = h.get_size()
def fails(number, call, *args):
    try: call(*args)
    except nbd.Error as e: assert e.errnum == number, (e.errnum, number, args)
    else: assert False, args
fails(errno.ENOSPC, h.pwrite, b'x' * 512, size - 511)
fails(errno.EINVAL, h.pread, 512, size - 511)
fails(errno.EINVAL, h.trim, 512, size)
fails(errno.ENOSPC, h.zero, 512, size)
fails(errno.EINVAL, h.cache, 512, size)
fails(errno.EINVAL, h.pread, 512, 0, 1 << 6)
fails(errno.EINVAL, h.block_status, 512, 0, lambda *a: 0)
h.pwrite(b'still here', 0); assert h.pread(10, 0) == b'still here'
"
}

@test "nbdsh: a read-only export refuses every write" {
  need_nbdsh
  nbdsh -c "
import errno
h.set_strict_mode(0)
h.connect_uri('$(uri "$IMAGE")')
for call, args in ((h.pwrite, (b'x' * 512, 0)), (h.trim, (512, 0)), (h.zero, (512, 0))):
    try: call(*args)
    except nbd.Error as e: assert e.errnum == errno.EPERM, e.errnum
    else: assert False, call
h.flush(); h.pread(512, 0)
"
}

@test "nbdsh: two connections see each other's writes, and one flush serves both" {
  need_nbdsh
  nbdsh -c "
a, b = nbd.NBD(), nbd.NBD()
for c in (a, b): c.connect_uri('$(uri "$DISK")'); assert c.can_multi_conn()
for i in range(100):
    data = b'%08d' % i
    (a if i % 2 else b).pwrite(data, 1000)
    assert (b if i % 2 else a).pread(8, 1000) == data
b.flush()
"
}

@test "nbdsh: a thousand requests under way at once" {
  shell "$(uri "$DISK")" "
cookies = [h.aio_pwrite(nbd.Buffer.from_bytearray(bytearray([i % 251]) * 777), i * 777) for i in range(1000)]
while h.aio_in_flight() > 0: h.poll(-1)
for i in range(1000): assert h.pread(777, i * 777) == bytes([i % 251]) * 777, i
"
}

@test "SIGTERM ends the server with status 0 while a client is connected" {
  need_nbdsh
  nbdsh -u "$(uri "$DISK")" -c "
import time
h.pwrite(b'x', 0)
open('$dir/ready', 'w').close()
time.sleep(5)" 3>&- &
  client=$!
  for i in $(seq 100); do [ -e "$dir/ready" ] && break; sleep 0.05; done
  kill -TERM "$server_pid"
  status=0; wait "$server_pid" || status=$?
  server_pid=
  kill $client
  wait $client || true
  [ "$status" -eq 0 ]
}
