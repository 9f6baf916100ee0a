#!/usr/bin/env bats
# The attach calls by themselves, over nbdkit: whatever way this kernel takes (nbd in the emulated machine, FUSE and loop elsewhere).

load ../support/tools

setup() {
  need root nbdkit mkfs.ext4 "$BUILD/tests/mount/attach_tool"
  has nbd || need fuse loop
  folder=$(mktemp -d "${BATS_TEST_TMPDIR}/attach.XXXXXX")
  store=$folder/store socket=$folder/nbd.sock disk=$folder/disk mount=$folder/mnt
  mkdir "$store" "$mount"
  name=web$BASHPID  # told apart from what others have attached meanwhile
  truncate -s 256M "$disk"
  serve
}

teardown() {
  [[ -n ${folder:-} ]] || return 0
  umount "$mount" 2>/dev/null || true
  tool force-detach "$store" $name 2>/dev/null || true
  stop_server
}

tool() { "$BUILD/tests/mount/attach_tool" "$@" 3>&-; }
attach() { tool attach "$store" $name "$socket" $name "$@"; }
detach() { tool detach "$store" $name; }

serve() {
  rm -f "$socket"
  nbdkit -P "$folder/pid" -U "$socket" "$@" file "$disk" 3>&-
}

stop_server() {
  local pid
  pid=$(cat "$folder/pid" 2>/dev/null) || return 0
  kill -9 "$pid" 2>/dev/null || true
  wait_until 5 not_running "$pid"
}
not_running() { ! grep -q '^State:[[:space:]]*[^ZX]' "/proc/$1/status" 2>/dev/null; }

disk_kib() { du -k "$disk" | cut -f1; }

attached_devices() {
  grep -lF "cowl:$store:" /sys/block/nbd*/backend 2>/dev/null
  losetup -l -n -O BACK-FILE | grep -F "/run/cowl/$name." || true
}

@test "a device is there, takes a file system, and leaves nothing when detached" {
  device=$(attach)
  [[ -b $device ]]
  [[ $(blockdev --getsize64 "$device") == $((256 << 20)) ]]
  mkfs.ext4 -q "$device"
  run tool list "$store"
  [[ $output == "$name $device - - 268435456" ]]
  detach
  [[ $(tool list "$store") == "" ]]
  [[ $(attached_devices) == "" ]]
  e2fsck -fn "$disk"
}

@test "what is written comes back after detaching and attaching, through a mount" {
  device=$(attach) && mkfs.ext4 -q "$device" && detach
  attach mount="$mount"
  grep -q " $mount ext4 rw,.*discard" /proc/mounts
  head -c 20M /dev/urandom >"$mount/file"
  sum=$(sha256sum <"$mount/file")
  detach
  [[ ! -e $mount/file ]]
  attach mount="$mount"
  [[ $(sha256sum <"$mount/file") == "$sum" ]]
  detach
  e2fsck -fn "$disk"
}

@test "attaching twice is refused and names the path" {
  device=$(attach)
  run attach
  [[ $status == 1 && $output == *"attached already as $device"* ]]
}

@test "a name that was never attached is not detached, and leaves no file" {
  run tool detach "$store" other
  [[ $status == 1 && $output == *"other is not attached"* ]]
  [[ ! -e $store/attach ]]
}

@test "a mount directory that is not empty, not there, or taken is refused, and nothing stays attached" {
  touch "$mount/file"
  run attach mount="$mount"
  [[ $status == 1 && $output == *"is not empty"* ]]
  run attach mount="$mount/none"
  [[ $status == 1 && $output == *"does not exist"* ]]
  run attach mount=/proc
  [[ $status == 1 && $output == *"mounted there already"* ]]
  [[ $(attached_devices) == "" ]]
}

@test "a device without a file system is not mounted, and nothing stays attached" {
  run attach mount="$mount"
  [[ $status == 1 && $output == *"holds no file system"* ]]
  [[ $(attached_devices) == "" && $(tool list "$store") == "" ]]
}

@test "no server, no export: refused in one line" {
  stop_server
  run attach
  echo "$output"
  [[ $status == 1 && ${#lines[@]} == 1 && $output == *"Connection refused"* ]]
  rm -f "$socket"
  run attach
  [[ $status == 1 && ${#lines[@]} == 1 && $output == *"No such file"* ]]
}

@test "a mount that is in use is not detached, and the user is named" {
  device=$(attach) && mkfs.ext4 -q "$device" && detach
  attach mount="$mount"
  sleep 60 3>&- >/dev/null <"$mount" &
  user=$!
  run detach
  kill "$user"
  wait "$user" || true
  [[ $status == 1 && $output == *"$mount is in use by sleep (pid $user"* ]]
  detach
}

@test "a device that is open or mounted elsewhere is not detached" {
  device=$(attach) && mkfs.ext4 -q "$device"
  exec 5<"$device"
  run tool detach "$store" $name 5<&-
  exec 5<&-
  [[ $status == 1 && $output == *"has it open"* ]]
  mount "$device" "$mount"
  run detach
  [[ $status == 1 && $output == *"a mount at $mount"* ]]
  umount "$mount"
  detach
}

@test "force cuts a used device off, keeps what was written, and lets it be attached again" {
  device=$(attach) && mkfs.ext4 -q "$device" && detach
  attach mount="$mount"
  head -c 1M /dev/urandom >"$mount/file"
  sum=$(sha256sum <"$mount/file")
  exec 5<"$mount/file"
  tool force-detach "$store" $name 5<&-
  [[ ! -e $mount/file ]]
  exec 5<&-
  attach mount="$mount"
  [[ $(sha256sum <"$mount/file") == "$sum" ]]
  detach
}

@test "a read-only export is attached and mounted read-only" {
  device=$(attach) && mkfs.ext4 -q "$device" && detach
  stop_server
  serve -r
  device=$(attach mount="$mount")
  [[ $(blockdev --getro "$device") == 1 ]]
  run touch "$mount/file"
  [[ $status != 0 ]]
  detach
}

@test "discarded space is given back to the server's disk" {
  device=$(attach) && mkfs.ext4 -q -E nodiscard "$device" && detach
  attach mount="$mount"
  head -c 100M /dev/urandom >"$mount/file"
  sync -f "$mount"
  (($(disk_kib) > 100000))
  rm "$mount/file"
  sync -f "$mount"
  fstrim "$mount"
  (($(disk_kib) < 40000))
  detach
}

@test "a server that is killed and started again is picked up, and the writer sees no error" {
  device=$(attach) && mkfs.ext4 -q "$device" && detach
  attach mount="$mount"
  (for i in $(seq 30); do
    head -c 100K /dev/urandom >"$mount/file$i" && sync "$mount/file$i" || exit 1
    sleep 0.02
  done) 3>&- &
  writer=$!
  sleep 0.5
  stop_server
  sleep 1
  serve
  tool reattach "$store"
  wait "$writer"
  [[ $(ls "$mount" | grep -c file) == 30 ]]
  detach
  e2fsck -fn "$disk"
}

@test "when the server stays away requests fail after the time-out, and force detaches" {
  device=$(attach timeout=2)
  stop_server
  run timeout 60 dd if="$device" of=/dev/null bs=4k count=1 iflag=direct
  [[ $status != 0 && $status != 124 ]]
  tool force-detach "$store" $name
  [[ $(attached_devices) == "" ]]
}

@test "force detaches a mount whose server is gone, at once" {
  device=$(attach) && mkfs.ext4 -q "$device" && detach
  attach mount="$mount"
  stop_server
  head -c 1M /dev/urandom 2>/dev/null 3>&- >"$mount/file" &
  writer=$!
  sleep 0.5
  begin=$SECONDS
  tool force-detach "$store" $name
  ((SECONDS - begin < 20))
  wait "$writer" || true
  [[ $(attached_devices) == "" ]]
  run grep " $mount " /proc/mounts
  [[ $output == "" ]]
}

@test "the kernel takes over a new size" {
  device=$(attach)
  truncate -s 300M "$disk"
  stop_server
  serve
  tool resize "$store" $name $((300 << 20))
  [[ $(blockdev --getsize64 "$device") == $((300 << 20)) ]]
  dd if=/dev/zero of="$device" bs=1M seek=299 count=1 oflag=direct status=none
  run tool resize "$store" $name $((400 << 20))
  [[ $status == 1 ]]
  detach
}

@test "what a crash left half made is found and undone" {
  device=$(attach)
  sed -i -e 's/"complete": true/"complete": false/' -e "s|\"$device\"|\"\"|" "$store/attach/$name.json"
  [[ $(tool list "$store") == "" ]]
  [[ $(tool stale "$store") == *"never finished"* ]]
  [[ $(attached_devices) != "" ]]
  tool clean "$store"
  [[ $(attached_devices) == "" && $(tool stale "$store") == "" ]]
}

@test "a record whose device is another's is dropped, and that device left alone" {
  device=$(attach)
  cp "$store/attach/$name.json" "$folder/real.json"
  sed -i -e 's/\(cowl:.*:\|'"$name"'\.\)[0-9a-f]\{16\}"/\10123456789abcdef"/' "$store/attach/$name.json"
  run detach
  [[ $status == 1 && $output == *"not attached"* ]]
  [[ -n $(attached_devices) ]]
  dd if="$device" of=/dev/null bs=4k count=1 iflag=direct status=none
  cp "$folder/real.json" "$store/attach/$name.json"
  detach
}

@test "a record of before the last reboot is only a file" {
  device=$(attach)
  cp "$store/attach/$name.json" "$folder/real.json"
  sed -i 's/"boot_id": "[^"]*"/"boot_id": "another"/' "$store/attach/$name.json"
  [[ $(tool clean "$store") == *"before the last reboot"* ]]
  [[ -n $(attached_devices) && ! -e $store/attach/$name.json ]]
  cp "$folder/real.json" "$store/attach/$name.json"
  detach
}

@test "a damaged record is reported with its path" {
  mkdir "$store/attach"
  echo '{"schema": 1' >"$store/attach/$name.json"
  run attach
  [[ $status == 1 && $output == *"$store/attach/$name.json is damaged"* ]]
  rm "$store/attach/$name.json"
}
