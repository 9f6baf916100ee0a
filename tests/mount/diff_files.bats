#!/usr/bin/env bats
# cowl diff --files, against a comparison of both mounted trees, file by file.

load ../cli/helpers

setup() {
  ((EUID == 0)) || skip "needs root"
  setup_store
  cowl doctor --json | jq -e '.checks[] | select(.name == "attach") | .ok' >/dev/null || skip "this host cannot attach"
  mkdir before now
  "$BATS_TEST_DIRNAME/trees" make tree "$COWL_SEED"
  cowl import tree base --size 512M >/dev/null
  cowl create base dev >/dev/null
  cowl attach base --mount before >/dev/null
  cowl attach dev --mount now >/dev/null
}

teardown() {
  cowl detach dev >/dev/null 2>&1 || true
  cowl detach base >/dev/null 2>&1 || true
  if mountpoint -q mnt; then umount mnt; fi
  drop_store
}

@test "mounted or not, the files are those that a comparison of both trees finds" {
  for round in 1 2 3; do
    "$BATS_TEST_DIRNAME/trees" change now "$COWL_SEED-$round"
    cowl diff dev --files --json > mounted.json
    "$BATS_TEST_DIRNAME/trees" compare before now mounted.json
  done
  cowl detach dev
  cowl diff dev --files --json > detached.json
  cowl attach dev --mount now >/dev/null
  "$BATS_TEST_DIRNAME/trees" compare before now detached.json
}

@test "one line appended: its blocks on the one side, the whole file on the other" {
  head -c 20M /dev/urandom > now/large
  sync -f now
  cowl snapshot dev second >/dev/null
  echo line >> now/large
  sync -f now
  succeeds cowl diff dev second --files --json
  file=$(jq -c '.files[] | select(.path == "/large")' <<<"$output")
  [ "$(jq -r .change <<<"$file")" = modified ]
  [ "$(jq .file_bytes <<<"$file")" = $((20 << 20)) ]
  (($(jq .block_bytes <<<"$file") <= 8192))
  succeeds cowl diff dev second --files
  [[ $output == *modified*"20.0 MiB"*/large* && $output == *"the file system's own"* ]]
}

@test "what is no ext4 is said in one line" {
  cowl create --empty 64M zeros >/dev/null
  succeeds cowl diff zeros --files --json
  [ "$(jq -c .files <<<"$output")" = "[]" ]
  head -c 8M /dev/urandom > noise
  cowl import noise noise --format raw >/dev/null
  fails 1 '^cowl: diff: noise:latest: there is no ext4|^cowl: diff: noise: there is no ext4' cowl diff noise --files
  cowl create --empty 512M x >/dev/null
  device=$(cowl attach x)
  mkfs.xfs -q "$device"
  cowl detach x
  fails 1 '^cowl: diff: x: there is no ext4' cowl diff x --files
}

@test "names that are no text come back whole" {
  touch now/$'bell\a' now/$'latin\xe9' 'now/back\slash' now/grün
  sync -f now
  succeeds cowl diff dev --files --json
  names=$(jq -r '.files[].path' <<<"$output")
  for name in '/bell\x07' '/latin\xe9' '/back\x5cslash' /grün; do
    grep -qxF -- "$name" <<<"$names"
  done
}

# A disk as a crash leaves it: its latest changes are in its journal only.
dirty_disk() {  # FILE BLOCK_BYTES
  truncate -s 64M disk
  mkfs.ext4 -q -b "$2" -d tree disk
  mkdir -p mnt
  mount -o loop,commit=300 disk mnt
  for i in 1 2 3; do
    "$BATS_TEST_DIRNAME/trees" change mnt "$COWL_SEED-$i" >/dev/null
  done
  cp disk "$1"
  umount mnt
}

@test "what the journal holds is what e2fsck makes of it" {
  for block_bytes in 1024 4096; do
    dirty_disk dirty $block_bytes
    dumpe2fs -h dirty 2>/dev/null | grep -q needs_recovery
    cp dirty clean
    e2fsck -fy clean >/dev/null || (($? == 1))
    cowl import dirty dirty:$block_bytes --format raw >/dev/null
    cowl import clean clean:$block_bytes --format raw --parent dirty:$block_bytes >/dev/null
    cowl diff clean:$block_bytes dirty:$block_bytes --files --json > diff.json
    jq -e '.extents != [] and all(.files[]; .change == "modified")' diff.json
    mount -o loop,ro clean mnt
    (cd mnt && find . -mindepth 1 -printf '/%P\n' | sort) > wanted
    umount mnt
    cowl create --empty 64M nothing$block_bytes >/dev/null
    cowl diff dirty:$block_bytes nothing$block_bytes --files --json | jq -r '.files[].path' | grep -vx / | sort > found
    diff wanted found
  done
}

@test "damage anywhere is an error or goes unseen, and never a crash or an endless loop" {
  dirty_disk dirty 1024
  cowl create --empty 64M nothing >/dev/null
  for round in $(seq 40); do
    "$BATS_TEST_DIRNAME/trees" damage dirty damaged "$COWL_SEED-$round"
    cowl import damaged damaged --format raw --force >/dev/null
    run timeout 20 "$COWL" diff damaged nothing --files
    echo "seed $COWL_SEED-$round: $status: $output" | tail -c 300
    ((status <= 1))
    if ((status == 1)); then
      ((${#lines[@]} == 1))
      [[ $output == "cowl: diff: damaged"* ]]
    fi
  done
}
