# Devices and images come and go; what is unknown, taken or in use is refused and nothing changes.
load helpers

setup() {
  setup_store
  make_disk disk.raw 65536
  cowl import disk.raw base >/dev/null
  cowl create base web >/dev/null
}

state() { { cowl ls --json; cowl images --json; cowl tree --json; } | jq -S 'del(.. | .disk_bytes?, .users?)'; }

# unchanged COMMAND...: the command leaves devices, images and layers as they are.
unchanged() {
  local before after
  before=$(state)
  "$@" || return 1
  after=$(state)
  diff <(echo "$before") <(echo "$after")
}

# Reads LENGTH bytes at OFFSET of NAME, as hex.
read_hex() {
  cowl export "$1" - | tail -c +$(($2 + 1)) | head -c "$3" | od -An -tx1 | tr -d ' \n'
}

@test "unknown names are refused" {
  for verb in "rm none" "reset none" "clone none" "clone none x" "snapshot none x" "commit none x" "resize none 1M" "create none" \
              "rename none x" "tag none x" "rmi none" "history none" "flatten none x" "inspect none" "diff none" "diff web none" \
              "map none" "export none out" "check none" "attach none" "detach none"; do
    # shellcheck disable=SC2086
    unchanged fails 1 "^cowl: ${verb%% *}: .*\"?none" cowl $verb
  done
  unchanged fails 125 '^cowl: run: .*none' cowl run none -- true
  unchanged fails 1 '^cowl: import: .*none' cowl import none x
  unchanged fails 1 '^cowl: import: .*none' cowl import disk.raw x --parent none
  [ ! -e out ]
}

@test "an image is no device, and a device no image" {
  for verb in "rm base" "reset base" "clone base x" "commit base x" "snapshot base x" "resize base 1M"; do
    # shellcheck disable=SC2086
    unchanged fails 1 "^cowl: ${verb%% *}: .*base" cowl $verb
  done
  for verb in "rmi web" "create web x" "tag web x" "history web" "flatten web x"; do
    # shellcheck disable=SC2086
    unchanged fails 1 "^cowl: ${verb%% *}: .*web" cowl $verb
  done
}

@test "taken names are refused" {
  cowl create base other >/dev/null
  for verb in "create base web" "create --empty 1M web" "clone web other" "volume create web --size 1M" "rename web other" \
              "create --empty 1M base" "clone web base" "rename web base" "volume create base --size 1M"; do
    # shellcheck disable=SC2086
    unchanged fails 1 "^cowl: .*(web|other|base)" cowl $verb
  done
  for verb in "snapshot web base" "commit web base" "tag base base" "import disk.raw base" "flatten base base" \
              "snapshot web web" "tag base web:v1" "import disk.raw other"; do
    # shellcheck disable=SC2086
    unchanged fails 1 "^cowl: ${verb%% *}: .*(base|web|other)" cowl $verb
  done
}

@test "--force moves a tag, and what others need of the old one stays" {
  write_device web 0 4096 0x11
  cowl snapshot web base --force >/dev/null
  [ "$(read_hex base 0 2)" = 1111 ]
  cowl create base second >/dev/null
  printf 'fresh' > fresh.raw
  truncate -s 4096 fresh.raw
  cowl import fresh.raw base --force >/dev/null
  [ "$(read_hex base 0 5)" = 6672657368 ]
  [ "$(read_hex second 0 2)" = 1111 ]
  [ "$(read_hex web 0 2)" = 1111 ]
  cowl tag base other
  cowl tag base other --force
  succeeds cowl check --data
}

@test "an identical tag and the bare name mean latest" {
  succeeds cowl history base
  succeeds cowl history base:latest
  cowl tag base:latest base:v1
  fails 1 . cowl history base:v2
  cowl rmi base:v1
  cowl inspect base --json | jq -e '.name == "base:latest"'
}

@test "devices are made, written, reset, cloned and removed" {
  write_device web 0 4096 0x22
  [ "$(read_hex web 0 2)" = 2222 ]
  [ "$(cowl ls --json | jq '.devices[0].stored_bytes')" = 4096 ]
  [ "$(cowl clone web copy)" = copy ]
  write_device copy 0 4096 0x33
  [ "$(read_hex web 0 2)" = 2222 ]
  [ "$(read_hex copy 0 2)" = 3333 ]
  succeeds cowl reset copy
  [ "$(read_hex copy 0 7)" = "$(printf 'block 0' | od -An -tx1 | tr -d ' \n')" ]
  succeeds cowl rm copy
  succeeds cowl rm web
  succeeds cowl ls -q
  [ "$output" = "" ]
  succeeds cowl check --data
}

@test "names are made where none is given, and differ" {
  first=$(cowl create base)
  second=$(cowl create base)
  third=$(cowl clone "$first")
  empty=$(cowl create --empty 1M)
  [ "$(printf '%s\n' "$first" "$second" "$third" "$empty" | sort -u | wc -l)" = 4 ]
  [[ $first == base* ]]
}

@test "a size below the image's is refused" {
  unchanged fails 1 '^cowl: create: ' cowl create base small --size 4K
  cowl create base same --size 64K >/dev/null
}

@test "shrinking needs --force" {
  succeeds cowl resize web 128K
  [ "$(cowl inspect web --json | jq .size_bytes)" = 131072 ]
  unchanged fails 1 '^cowl: resize: .*--force' cowl resize web 64K
  succeeds cowl resize web 64K --force
  [ "$(cowl inspect web --json | jq .size_bytes)" = 65536 ]
}

@test "snapshots and commits" {
  write_device web 0 4096 0x44
  [ "$(cowl snapshot web base:s1)" = base:s1 ]
  write_device web 0 4096 0x55
  [ "$(read_hex base:s1 0 2)" = 4444 ]
  [ "$(read_hex web 0 2)" = 5555 ]
  [ "$(cowl commit web base:c1)" = base:c1 ]
  fails 1 . cowl inspect web
  [ "$(read_hex base:c1 0 2)" = 5555 ]
  succeeds cowl rmi base:s1
  [ "$(read_hex base:c1 0 2)" = 5555 ]
  [ "$(cowl flatten base:c1 flat)" = flat:latest ]
  [ "$(cowl images --json | jq '.images[] | select(.name == "flat") | .layer_count')" = 1 ]
  [ "$(read_hex flat 0 2)" = 5555 ]
  succeeds cowl check --data
}

@test "renaming" {
  succeeds cowl rename web shop
  fails 1 . cowl inspect web
  succeeds cowl inspect shop
  succeeds cowl rename base:latest core:v1
  succeeds cowl history core:v1
  fails 1 . cowl history base
}

@test "a device in use is not removed, reset or committed, and the user is named" {
  cowl run web -- sh -c '
    qemu-io -f raw "$uri" -c "read 0 512" -c "sleep 4000" >/dev/null &
    client=$!
    sleep 1
    for verb in "rm web" "reset web" "commit web base:x"; do
      if "$0" $verb 2>error; then echo "$verb went through"; exit 1; fi
      grep -q "pid $client" error || { cat error; exit 1; }
    done
    "$0" snapshot web base:x >/dev/null || exit 1
    "$0" rm web --force || exit 1
    kill $client 2>/dev/null; wait $client; true
  ' "$(command -v "${COWL:-cowl}")"
  fails 1 . cowl inspect web
  succeeds cowl history base:x
}

@test "volumes refuse what needs layers, with the reason" {
  cowl volume create vol --size 1M >/dev/null
  write_device vol 0 4096 0x66
  [ "$(read_hex vol 0 2)" = 6666 ]
  for verb in "snapshot vol x" "commit vol x" "reset vol" "diff vol"; do
    # shellcheck disable=SC2086
    unchanged fails 1 "^cowl: ${verb%% *}: .*volume" cowl $verb
  done
  [ "$(cowl map vol --json | jq -c '[.extents[] | .offset_bytes, .length_bytes, .type, .depth, .layer]')" = '[0,1048576,"data",1,null]' ]
  succeeds cowl rm vol
}

@test "a volume that does not fit is refused before it fills the disk" {
  cowl volume create vol --size 1M >/dev/null
  fails 1 '^cowl: volume create: .*reserve 64.0 TiB .*free' cowl volume create large --size 64T
  fails 1 '^cowl: resize: .*reserve 64.0 TiB .*free' cowl resize vol 64T
  [ "$(stat -c %s store/volumes/vol-*)" = 1048576 ]
  [ "$(ls store/volumes | wc -l)" = 1 ]
}

@test "check sees a volume that was cut short, or is no file" {
  cowl volume create vol --size 1M >/dev/null
  succeeds cowl check
  file=$(echo store/volumes/vol-*)
  truncate -s 300K "$file"
  run -2 --separate-stderr cowl check --json
  [ "$(jq -c '.errors[0] | [.offset_bytes, (.message | test("ends here: volume vol"))]' <<<"$output")" = '[307200,true]' ]
  rm "$file"
  mkdir "$file"
  run -2 --separate-stderr cowl check --json
  [[ $(jq -r '.errors[0].message' <<<"$output") == *"no regular file"* ]]
}

@test "a layer that cannot be merged away keeps no other space" {
  cowl create base one >/dev/null
  write_device one 0 4096 0x11
  cowl snapshot one base:middle >/dev/null
  write_device one 4096 4096 0x12
  cowl commit one base:top >/dev/null
  top=store/layers/$(cowl inspect base:top --json | jq -r '.layers[0].id').cowl
  head -c 1M /dev/urandom >other.raw
  cowl import other.raw other >/dev/null
  other=store/layers/$(cowl inspect other --json | jq -r '.layers[0].id').cowl
  is_served && cowl stop
  # Both superblocks of the layer that the middle is to be merged into.
  printf 'damaged!' | dd of="$top" bs=1 seek=100 conv=notrunc status=none
  printf 'damaged!' | dd of="$top" bs=1 seek=4196 conv=notrunc status=none
  start_server
  cowl rmi base:middle 2>/dev/null || true
  cowl rmi other 2>/dev/null || true
  for _ in $(seq 40); do [[ -e $other ]] || break; sleep 0.1; done
  [ ! -e "$other" ]
}

@test "verbs that only read write nothing" {
  is_served && skip "a server may write"
  write_device web 0 4096 0x44
  files() { find store -type f -printf '%p %s %T@ %i\n' | sort; }
  before=$(files)
  for verb in images ls "history base" "inspect web" tree df "map web" "diff web" check "check --data"; do
    # shellcheck disable=SC2086
    run cowl $verb
    [ "$status" -eq 0 ]
    diff <(echo "$before") <(files) || { echo "$verb wrote"; return 1; }
  done
}

@test "verbs that only read work on a store that cannot be written" {
  is_served && skip "the server may write"
  ((EUID == 0)) || skip "needs root, to become somebody else"
  cowl stop 2>/dev/null || true
  chmod 755 "$dir"
  chmod -R a+rX store
  run setpriv --reuid=nobody --regid=nogroup --clear-groups "$(command -v "${COWL:-cowl}")" --store "$dir/store" ls -q
  echo "$output"
  [ "$status" -eq 0 ]
  [ "$output" = web ]
  run setpriv --reuid=nobody --regid=nogroup --clear-groups "$(command -v "${COWL:-cowl}")" --store "$dir/store" rm web
  [ "$status" -eq 1 ]
}

@test "gc frees nothing after clean work" {
  write_device web 0 16384 0x44
  cowl snapshot web base:s1 >/dev/null
  cowl rmi base:s1
  cowl rm web
  [ "$(cowl gc --json | jq .freed_bytes)" = 0 ]
}

@test "check tells what is broken by its exit status" {
  succeeds cowl check
  layer=$(cowl inspect base --json | jq -r '.layers[0].path')
  stop_server_for_damage
  printf '\xff' | dd of="$layer" bs=1 seek=$(($(stat -c %s "$layer") / 2)) conv=notrunc status=none
  run --separate-stderr cowl check --data
  status_of_data=$status
  truncate -s 100 "$layer"
  run --separate-stderr cowl check --json
  [ "$status" -eq 2 ]
  [ "$(jq '.errors | length > 0' <<<"$output")" = true ]
  [[ $(jq -r '.errors[0].path' <<<"$output") == *"$(basename "$layer")"* ]]
  [ "$status_of_data" -eq 2 ] || [ "$status_of_data" -eq 0 ]
}

@test "what a killed import left is a leak until gc, what a running one makes is none" {
  head -c 64K /dev/urandom >store/staging/one.cowl
  : >store/staging/one.cowl.lock
  # Locked, as by an import that runs.
  run -0 flock store/staging/one.cowl.lock "${COWL:-cowl}" check
  run -3 --separate-stderr cowl check --json
  [ "$(jq -c '[(.errors | length), .leaks[].path]' <<<"$output")" = "[0,\"$dir/store/staging/one.cowl\"]" ]
  [ "$(cowl df --json | jq .reclaimable_bytes)" = 65536 ]
  [ "$(cowl gc --json | jq .freed_bytes)" = 65536 ]
  succeeds cowl check
}

@test "blocks of a layer's file that nothing names are a leak until they are given back" {
  layer=$(cowl inspect base --json | jq -r '.layers[0].path')
  stop_server_for_damage
  size=$(stat -c %s "$layer")
  head -c 64K /dev/urandom >>"$layer"
  start_server
  run -3 --separate-stderr cowl check --json --data
  [ "$(jq -c '[(.errors | length), (.leaks[] | .path, .offset_bytes)]' <<<"$output")" = "[0,\"$layer\",$size]" ]
  run cowl check --repair
  succeeds cowl check --data
}

stop_server_for_damage() { if is_served; then cowl stop; fi; }

@test "a damaged catalog is told on one line" {
  stop_server_for_damage
  printf '\x05\x00\x00\x01' | dd of=store/catalog.db bs=1 seek=8192 conv=notrunc status=none
  run --separate-stderr cowl check
  echo "$output"
  [ "$status" -eq 2 ]
  [ "${#lines[@]}" = 2 ]
  [[ ${lines[0]} == error:*catalog.db*backup ]]
  fails 1 '^cowl: ls: .*catalog.db: damaged.*backup$' cowl ls
}

@test "no device is made on an image whose layer is missing" {
  mv "$(cowl inspect base --json | jq -r '.layers[0].path')" away
  fails 1 '^cowl: create: image base:latest: .*/layers/.* is missing' cowl create base new
  fails 1 . cowl inspect new
}

@test "a FIFO in the place of a store's file hangs nothing" {
  stop_server_for_damage
  for file in lock catalog.db server.log attach/web.json; do
    mv "store/$file" away 2>/dev/null || true
    mkfifo "store/$file"
    for verb in ls "create --empty 1M x" "serve --detach" "detach web"; do
      # shellcheck disable=SC2086
      run timeout 10 "${COWL:-cowl}" $verb
      echo "$file, $verb: $status $output"
      [ "$status" -ne 124 ]
      [[ $file != lock && $file != catalog.db || $output == "cowl: "*"$file"*"not a regular file"* || $verb == "detach web" ]]
      cowl rm x 2>/dev/null || true
      cowl stop 2>/dev/null || true
    done
    rm "store/$file"
    mv away "store/$file" 2>/dev/null || true
  done
}

@test "a copy without lock and empty folders opens, for reading too" {
  stop_server_for_damage
  cowl rm web
  cowl rmi base
  cowl create --empty 1M web >/dev/null
  rm store/lock
  rmdir store/layers store/volumes store/staging store/attach
  before=$(find store | sort)
  for verb in ls images df tree check "check --data" "inspect web" "map web"; do
    # shellcheck disable=SC2086
    succeeds cowl $verb
  done
  [ "$(find store | sort)" = "$before" ]
  # Whoever makes the lock waits for a reader that found none.
  flock -s store sleep 0.3 3>&- &
  succeeds cowl import disk.raw base
  wait
  write_device web 0 4096 0x44
  cowl volume create v --size 1M >/dev/null
  succeeds cowl check --data
}

@test "export from a store that cannot be written" {
  ((EUID == 0)) || skip "needs root, to become somebody else"
  stop_server_for_damage
  cowl create --empty 64K none >/dev/null
  cowl create base grown --size 128K >/dev/null
  cowl create base written >/dev/null
  write_device written 0 4096 0x44
  chmod 755 "$dir"
  chmod -R a+rX store
  other() { setpriv --reuid=nobody --regid=nogroup --clear-groups "$(command -v "${COWL:-cowl}")" --store "$dir/store" "$@"; }
  for _ in "with its lock" "without"; do
    other export base - | cmp - disk.raw
    other export web - | cmp - disk.raw
    other export none - | cmp - <(head -c 64K /dev/zero)
    other export grown - | cmp - <(cat disk.raw; head -c 64K /dev/zero)
    fails 1 '^cowl: export: device written: ' other export written -
    rm -f store/lock
  done
}
