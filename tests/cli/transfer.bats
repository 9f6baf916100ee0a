# import and export: sources and files of all kinds, and those that are refused.
load helpers

@test "a raw disk comes back as it was" {
  make_disk disk.raw 200704
  [ "$(cowl import disk.raw a)" = a:latest ]
  succeeds cowl export a out.raw
  cmp disk.raw out.raw
  cowl export a - | cmp disk.raw -
}

@test "an existing file is refused, or replaced with --force" {
  make_disk disk.raw 65536
  cowl import disk.raw a >/dev/null
  echo mine > out
  fails 1 '^cowl: export: .*out.*--force' cowl export a out
  [ "$(cat out)" = mine ]
  succeeds cowl export a out --force
  cmp disk.raw out
}

@test "qcow2 goes out and comes in" {
  need qemu-img
  make_disk disk.raw 200704
  cowl import disk.raw a >/dev/null
  succeeds cowl export a out.qcow2 --format qcow2
  qemu-img compare -f raw -F qcow2 disk.raw out.qcow2
  cowl import --format qcow2 out.qcow2 b >/dev/null
  cowl export b - | cmp disk.raw -
}

@test "a raw disk is never taken for another format" {
  need qemu-img
  qemu-img create -q -f qcow2 disk.qcow2 1M
  truncate -s %4096 disk.qcow2
  cowl import disk.qcow2 a >/dev/null
  cowl export a - | cmp disk.qcow2 -
}

@test "a directory becomes ext4, twice the same" {
  need e2fsck
  mkdir -p tree/sub
  echo hello > tree/sub/file
  ln -s sub/file tree/link
  cowl import tree a >/dev/null
  cowl import tree b >/dev/null
  cowl export a a.raw
  cowl export b b.raw
  cmp a.raw b.raw
  e2fsck -fn a.raw
  [ "$(debugfs -R 'cat /sub/file' a.raw 2>/dev/null)" = hello ]
}

@test "--size makes the disk larger, never too small" {
  make_disk disk.raw 65536
  cowl import disk.raw a --size 128K >/dev/null
  [ "$(cowl inspect a --json | jq .size_bytes)" = 131072 ]
  fails 1 '^cowl: import: ' cowl import disk.raw b --size 4K
  fails 1 . cowl inspect b
}

@test "sources that cannot be taken are refused" {
  fails 1 '^cowl: import: .*none' cowl import none a
  : > empty
  fails 1 '^cowl: import: .*empty' cowl import empty a
  mkfifo pipe
  fails 1 '^cowl: import: .*pipe' cowl import pipe a
  fails 1 '^cowl: import: .*/dev/null' cowl import /dev/null a
  head -c 65536 /dev/urandom > noise
  fails 1 '^cowl: import: .*noise' cowl import --format qcow2 noise a
  fails 1 '^cowl: import: .*noise' cowl import --format dir noise a
  mkdir folder
  fails 1 '^cowl: import: .*folder' cowl import --format raw folder a
  fails 1 . cowl inspect a
  [ -z "$(ls -A store/staging)" ]
}

@test "an archive is refused as not supported" {
  mkdir tree
  echo '{"imageLayoutVersion":"1.0.0"}' > tree/oci-layout
  tar -cf archive.tar -C tree .
  fails 1 '^cowl: import: .*archive' cowl import archive.tar a
}

@test "a taken image is refused before the work starts" {
  make_disk disk.raw 65536
  cowl import disk.raw a >/dev/null
  mkfifo pipe
  fails 1 '^cowl: import: .*a:latest' timeout 20 "${COWL:-cowl}" import pipe a
}

@test "relative paths are those of the caller" {
  make_disk disk.raw 65536
  mkdir sub
  cd sub
  succeeds cowl import ../disk.raw a
  succeeds cowl export a ../out.raw
  cmp ../disk.raw ../out.raw
}

@test "a full disk fails an export and leaves no file" {
  ((EUID == 0)) || skip "needs root, to mount"
  make_disk disk.raw 65536
  head -c 4194304 /dev/urandom > noise
  cowl import noise a >/dev/null
  mkdir small
  mount -t tmpfs -o size=1M none small
  run --separate-stderr cowl export a small/out
  left=$(ls -A small)
  umount small
  [ "$status" -eq 1 ]
  [[ $stderr == "cowl: export: "* ]]
  [ -z "$left" ]
  run --separate-stderr bash -c '"$0" export a - > /dev/full' "${COWL:-cowl}"
  [ "$status" -eq 1 ]
}

@test "an interrupted import leaves nothing" {
  truncate -s 64G big
  # Data at both ends, so that it takes a while.
  head -c 1M /dev/urandom | dd of=big bs=1M seek=65535 conv=notrunc status=none
  head -c 512M /dev/urandom > noise
  "${COWL:-cowl}" import noise a &
  pid=$!
  sleep 0.3
  kill -INT $pid || true
  code=0
  wait $pid || code=$?
  # 130 when it was caught, 0 when it was quicker.
  [ "$code" -eq 130 ] || [ "$code" -eq 0 ]
  [ -z "$(ls -A store/staging)" ]
  succeeds cowl check
}

@test "progress shows only on a terminal, and not with --quiet" {
  need script
  head -c 256M /dev/urandom > noise
  script -qec "'${COWL:-cowl}' import noise a" log >/dev/null
  grep -q 'import.*\[.*%.*/s.*left' log
  script -qec "'${COWL:-cowl}' import --quiet noise b" log >/dev/null
  ! grep -q '%' log
  succeeds cowl import noise c
}

@test "a volume is exported while nobody has it open, and refused while somebody has" {
  cowl volume create vol --size 1000448 >/dev/null
  write_device vol 4096 4096 0x5a
  succeeds cowl export vol "$BATS_TEST_TMPDIR/vol.raw"
  [ "$(stat -c %s "$BATS_TEST_TMPDIR/vol.raw")" = 1000448 ]
  [ "$(od -An -tx1 -j4096 -N2 "$BATS_TEST_TMPDIR/vol.raw" | tr -d ' ')" = 5a5a ]
  cowl run vol -- sh -c '
    qemu-io -f raw "$uri" -c "read 0 512" -c "sleep 3000" >/dev/null &
    sleep 1
    if "$0" export vol '"$BATS_TEST_TMPDIR"'/again.raw 2>error; then echo "it went through"; exit 1; fi
    grep -q "^cowl: export: .*in use" error || { cat error; exit 1; }
    wait
  ' "$(command -v "${COWL:-cowl}")"
  [ ! -e "$BATS_TEST_TMPDIR/again.raw" ]
}

@test "a killed export leaves nothing" {
  mkdir out
  if findmnt -nt vfat,overlay,nfs,nfs4 -T out; then skip "a file system where files must have a name"; fi
  head -c 64M /dev/urandom > disk.raw
  cowl import disk.raw a >/dev/null
  "${COWL:-cowl}" export a out/a.raw 3>&- &
  export=$!
  until [ -n "$(find /proc/$export/fd -lname "$dir/out/*")" ]; do kill -0 $export; done
  kill -9 $export
  wait $export || true
  [ -z "$(ls -A out)" ]
}
