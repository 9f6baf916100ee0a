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
  drop_store
}

@test "mounted or not, the files are those that a comparison of both trees finds" {
  for round in 1 2 3; do
    "$BATS_TEST_DIRNAME/trees" change now "$COWL_SEED-$round"
    sync -f now
    cowl diff dev --files --json > mounted.json
    "$BATS_TEST_DIRNAME/trees" compare before now mounted.json
  done
  cowl detach dev
  cowl diff dev --files --json > detached.json
  diff <(jq -S .files mounted.json) <(jq -S .files detached.json) || true  # unmounting writes the superblock only
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
