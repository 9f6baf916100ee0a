#!/usr/bin/env bats
# fio with its own NBD engine: writes with a checksum in every block, several sizes, depths and connections, and verifies all.

load helpers

setup() {
  need fio
  fio --enghelp | grep -qw nbd || { [ "$CI" != true ] && skip "fio has no NBD engine"; }
  start_server
}
teardown() { stop_server; }

# verify NAME BLOCK_SIZE DEPTH JOBS RW: each job has a part of the disk to itself.
verify() {
  (cd "$dir" && fio --name="$1" --ioengine=nbd --uri="$(uri "$DISK")" --bs="$2" --iodepth="$3" --numjobs="$4" --rw="$5" \
    --size=8M --offset_increment=8M --verify=crc32c --verify_fatal=1 --verify_dump=0 --randrepeat=1 --thread \
    --output-format=terse) >"$dir/fio.out" 2>&1 || { cat "$dir/fio.out"; return 1; }
}

@test "fio --verify: one request at a time" { verify one 4k 1 1 randwrite; }
@test "fio --verify: 32 requests at a time" { verify deep 4k 32 1 randwrite; }
@test "fio --verify: sectors, 64 at a time, four connections" { verify sectors 512 64 4 randwrite; }
@test "fio --verify: 4 KiB blocks, 16 at a time, eight connections" { verify many 4k 16 8 randwrite; }
@test "fio --verify: 64 KiB blocks, 16 at a time, four connections" { verify large 64k 16 4 randwrite; }
@test "fio --verify: 1 MiB blocks in order, 8 at a time, two connections" { verify huge 1m 8 2 write; }
@test "fio --verify: mixed sizes from 512 bytes to 256 KiB" {
  (cd "$dir" && fio --name=mixed --ioengine=nbd --uri="$(uri "$DISK")" --bsrange=512-256k --bs_unaligned --iodepth=16 \
    --rw=randwrite --size=32M --verify=crc32c --verify_fatal=1 --thread --output-format=terse) >"$dir/fio.out" 2>&1 ||
    { cat "$dir/fio.out"; false; }
}
@test "fio --verify: reads and writes mixed, with flushes" {
  (cd "$dir" && fio --name=mixed --ioengine=nbd --uri="$(uri "$DISK")" --bs=4k --iodepth=16 --rw=randrw --fsync=8 \
    --size=16M --verify=crc32c --verify_fatal=1 --thread --output-format=terse) >"$dir/fio.out" 2>&1 ||
    { cat "$dir/fio.out"; false; }
}
