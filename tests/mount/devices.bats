#!/usr/bin/env bats
# Real file systems on cowl's devices, attached as the user would: over the kernel's nbd in the emulated machine, over FUSE and a
# loop device elsewhere. Each goes through a full life: made, filled with a real tree, unmounted, the server ended, checked by its
# own checker, mounted again, compared byte for byte.

load ../support/tools

setup() {
  need root "$COWL" jq
  has nbd || need fuse loop
  make_room
  folder=$(mktemp -d "$room/cowl-mount.XXXXXX")
  export COWL_STORE=$folder/store
  mount=$folder/mnt
  mkdir "$mount"
  "$COWL" init
}

teardown() {
  [[ -n ${folder:-} ]] || return 0
  local name
  for name in disk other disk:now; do cowl detach "$name" --force 2>/dev/null || true; done
  cowl stop 2>/dev/null || true
  rm -rf --one-file-system "$folder"
}

# The emulated machine keeps its files in memory, but has an empty disk.
make_room() {
  room=/var/tmp tree=/usr/share/doc files=12000
  if [[ -n ${COWL_VM:-} ]]; then
    room=/mnt tree=/usr/include files=2000
    mountpoint -q /mnt || { mkfs.ext4 -q /dev/vda && mount /dev/vda /mnt; }
  fi
  # An installation without documents has programs.
  (($(find "$tree" -type f 2>/dev/null | head -n 1000 | wc -l) >= 1000)) || tree=/usr/lib
}

cowl() { "$COWL" "$@" 3>&-; }

# Copies a real tree: files and links, the large ones left out.
fill() { (cd "$tree" && find . -xdev \( -type f -o -type l \) -size -20M | LC_ALL=C sort | head -n "$files" | tar -c --no-recursion -T - -f -) | tar -x -C "$1"; }
# One hash over every file's name and content.
digest() { (cd "$1" && find . -path ./lost+found -prune -o -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum); }

disk_bytes() { cowl ls --json | jq '.devices[] | select(.name == "disk") | .disk_bytes'; }
disk_below() { (($(disk_bytes) < $1)); }

restart_server() {
  cowl stop 2>/dev/null || true
  cowl serve --detach >/dev/null
}

# full_life MKFS CHECKER...: the checker gets the device as its last word.
full_life() {
  local make=$1 device before
  shift
  need "mkfs.$make" "filesystem:$make"
  cowl create --empty 1G disk >/dev/null
  device=$(cowl attach disk)
  "mkfs.$make" -q "$device"
  cowl detach disk
  cowl attach disk --mount "$mount" >/dev/null
  fill "$mount"
  before=$(digest "$mount")
  [[ $(find "$mount" -type f | wc -l) -gt 300 ]]
  cowl detach disk
  restart_server
  device=$(cowl attach disk --read-only)
  "$@" "$device"
  cowl detach disk
  cowl attach disk --mount "$mount" >/dev/null
  [[ $(digest "$mount") == "$before" ]]
  cowl detach disk
  cowl stop 2>/dev/null || true
  cowl check --data
}

# bats test_tags=short
@test "ext4: made, filled, served anew, checked, and every byte is there" { full_life ext4 e2fsck -fn; }

@test "xfs: made, filled, served anew, checked, and every byte is there" { full_life xfs xfs_repair -n; }

@test "btrfs: made, filled, served anew, checked, and every byte is there" { full_life btrfs btrfs check --readonly; }

@test "space that a file system frees comes back to the disk below" {
  need mkfs.ext4
  cowl create --empty 2G disk >/dev/null
  device=$(cowl attach disk)
  # Not lazily: else the kernel writes zeros of its own meanwhile, which are space in use where nbd can only write them out.
  mkfs.ext4 -q -E lazy_itable_init=0,lazy_journal_init=0 "$device"
  cowl detach disk
  cowl attach disk --mount "$mount" >/dev/null
  empty=$(disk_bytes)
  head -c 300M /dev/urandom >"$mount/file"
  sync -f "$mount"
  (($(disk_bytes) > empty + (250 << 20)))
  rm "$mount/file"
  sync -f "$mount"
  fstrim "$mount"
  wait_until 10 disk_below $((empty + (16 << 20))) || { cowl ls; cowl df; return 1; }
  cowl detach disk
}

# bats test_tags=short
@test "a snapshot of a mounted device holds what was synced, and the device goes on" {
  need mkfs.ext4
  cowl create --empty 512M disk >/dev/null
  device=$(cowl attach disk)
  mkfs.ext4 -q "$device"
  cowl detach disk
  cowl attach disk --mount "$mount" >/dev/null
  echo before >"$mount/file"
  sync -f "$mount"
  cowl snapshot disk disk:now >/dev/null 2>&1 || cowl snapshot disk now >/dev/null
  image=$(cowl images --json | jq -r '.images[0] | .name + ":" + .tag')
  echo after >"$mount/file"
  sync -f "$mount"
  cowl detach disk
  cowl attach "$image" --mount "$mount" >/dev/null
  [[ $(cat "$mount/file") == before ]]
  run touch "$mount/new"
  [[ $status != 0 ]]
  cowl detach "$image"
  cowl attach disk --mount "$mount" >/dev/null
  [[ $(cat "$mount/file") == after ]]
  cowl detach disk
  run e2fsck -fn "$(cowl attach disk)"
  [[ $status == 0 ]]
  cowl detach disk
}

@test "two clones of one xfs are mounted side by side" {
  need mkfs.xfs filesystem:xfs
  cowl create --empty 512M disk >/dev/null
  device=$(cowl attach disk)
  mkfs.xfs -q "$device"
  cowl detach disk
  cowl clone disk other >/dev/null
  mkdir "$folder/second"
  cowl attach disk --mount "$mount" >/dev/null
  cowl attach other --mount "$folder/second" >/dev/null
  echo one >"$mount/file"
  [[ ! -e $folder/second/file ]]
  cowl detach disk
  cowl detach other
}

@test "a server killed under a writer and started again loses nothing, and the writer sees no error" {
  need mkfs.ext4
  cowl create --empty 512M disk >/dev/null
  cowl serve --detach >/dev/null
  device=$(cowl attach disk)
  mkfs.ext4 -q "$device"
  cowl detach disk
  cowl attach disk --mount "$mount" >/dev/null
  (for i in $(seq 40); do
    head -c 200K /dev/urandom >"$folder/copy$i" && cp "$folder/copy$i" "$mount/file$i" && sync "$mount/file$i" || exit 1
    sleep 0.02
  done) 3>&- &
  writer=$!
  sleep 1
  kill -9 "$(cowl doctor --json | jq -r '.checks[] | select(.name == "server") | .message' | grep -oE '[0-9]+' | head -1)"
  sleep 0.5
  cowl serve --detach >/dev/null
  wait "$writer"
  cowl detach disk
  cowl attach disk --mount "$mount" >/dev/null
  for i in $(seq 40); do cmp "$folder/copy$i" "$mount/file$i"; done
  cowl detach disk
  device=$(cowl attach disk --read-only)
  e2fsck -fn "$device"
  cowl detach disk
}
