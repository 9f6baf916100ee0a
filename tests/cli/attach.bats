# attach, detach, create --attach and run --mount, on whatever this kernel has: nbd, or FUSE and loop devices.
load helpers

setup() {
  ((EUID == 0)) || skip "needs root"
  setup_store
  cowl doctor --json | jq -e '.checks[] | select(.name == "attach") | .ok' >/dev/null || skip "this host cannot attach"
  mkdir tree mnt
  echo hello > tree/file
  cowl import tree base >/dev/null
  cowl create base web >/dev/null
}

teardown() {
  ((EUID == 0)) || return 0
  cowl detach web 2>/dev/null || true
  cowl detach base 2>/dev/null || true
  cowl detach new 2>/dev/null || true
  drop_store
}

server_is_gone() {
  if is_served; then return; fi
  [ ! -e store/control.sock ]
}

kill_server() {
  kill -9 "$(cowl doctor --json | jq -r '.checks[] | select(.name == "server") | .message' | grep -oE '[0-9]+')"
}

@test "attach prints the device, detach takes it away, and the server started for it ends" {
  succeeds cowl attach web
  device=$output
  [ -b "$device" ]
  [ "$(blockdev --getsize64 "$device")" = "$(cowl inspect web --json | jq .size_bytes)" ]
  [ "$(cowl ls --json | jq -r '.devices[0].attached')" = "$device" ]
  [ "$(cowl inspect web --json | jq -r '[.attached, .mount] | @csv')" = "\"$device\"," ]
  [ -S store/control.sock ]
  succeeds cowl detach web
  server_is_gone
  [ "$(cowl ls --json | jq -r '.devices[0].attached')" = null ]
  fails 1 '^cowl: detach: .*web' cowl detach web
}

@test "mounted, written, detached, attached again" {
  succeeds cowl attach web --mount mnt --json
  [ "$(jq -r .mount <<<"$output")" = "$dir/mnt" ]
  [ "$(cat mnt/file)" = hello ]
  echo more >> mnt/file
  succeeds cowl detach web
  [ -z "$(ls -A mnt)" ]
  cowl attach web --mount mnt >/dev/null
  [ "$(cat mnt/file)" = $'hello\nmore' ]
  cowl detach web
}

@test "the first mount of an imported tree writes its superblock and no copy of it" {
  cowl import tree large --size 4G >/dev/null
  cowl create large first >/dev/null
  cowl attach first --mount mnt >/dev/null
  sync -f mnt
  stored=$(cowl ls --json | jq '.devices[] | select(.name == "first").stored_bytes')
  cowl detach first
  echo "stored: $stored"
  [ "$stored" -le 8192 ]
}

@test "attached already: refused, naming the path" {
  device=$(cowl attach web)
  fails 1 "^cowl: attach: .*$device" cowl attach web
  fails 125 "^cowl: run: .*$device" cowl run web --mount mnt -- true
  cowl detach web
  device=$(cowl attach web --mount mnt)
  fails 1 "^cowl: attach: .*already.*$device.*mnt" cowl attach web --mount mnt
  fails 125 "^cowl: run: .*already.*$device.*mnt" cowl run web --mount mnt -- true
  [ "$(cat mnt/file)" = hello ]
}

@test "what is attached is not removed, reset or committed; --force detaches it first" {
  device=$(cowl attach web)
  for verb in "rm web" "reset web" "commit web x" "rename web x"; do
    # shellcheck disable=SC2086
    fails 1 "^cowl: ${verb%% *}: .*$device" cowl $verb
  done
  succeeds cowl rm web --force
  server_is_gone
  fails 1 . cowl inspect web
}

@test "a mount that is busy is not detached, and its users are named" {
  cowl attach web --mount mnt >/dev/null
  sleep 100 < mnt/file 3>&- &
  user=$!
  fails 1 "^cowl: detach: .*$user" cowl detach web
  kill $user
  wait $user || true
  succeeds cowl detach web
}

@test "mount points that cannot be are refused" {
  fails 1 '^cowl: attach: .*nowhere' cowl attach web --mount nowhere
  echo x > mnt/x
  fails 1 '^cowl: attach: .*mnt' cowl attach web --mount mnt
  fails 1 '^cowl: attach: .*mnt/x' cowl attach web --mount mnt/x
  server_is_gone
}

@test "images attach read-only" {
  device=$(cowl attach base)
  [ "$(blockdev --getro "$device")" = 1 ]
  [ "$(cowl inspect base --json | jq -r .attached)" = "$device" ]
  succeeds cowl detach base
}

@test "create --attach" {
  succeeds cowl create base new --attach
  [ "${lines[0]}" = new ]
  [ -b "${lines[1]}" ]
  cowl detach new
}

@test "an attached device takes over a new size" {
  device=$(cowl attach web)
  size=$(cowl inspect web --json | jq .size_bytes)
  succeeds cowl resize web $((size + 1048576))
  [ "$(blockdev --getsize64 "$device")" = $((size + 1048576)) ]
  cowl detach web
}

@test "run --mount" {
  # shellcheck disable=SC2016
  succeeds cowl run web --mount mnt -- sh -c 'cat "$mount/file"; test -b "$device"; echo changed > "$mount/file"'
  [ "$output" = hello ]
  [ -z "$(ls -A mnt)" ]
  server_is_gone
  # shellcheck disable=SC2016
  succeeds cowl run web --mount mnt -- sh -c 'cat "$mount/file"'
  [ "$output" = changed ]
}

@test "a snapshot of a mounted device is a mountable image" {
  cowl attach web --mount mnt >/dev/null
  echo two > mnt/file
  sync -f mnt
  cowl snapshot web base:two >/dev/null
  cowl detach web
  # shellcheck disable=SC2016
  succeeds cowl run base:two --mount mnt -- sh -c 'cat "$mount/file"'
  [ "$output" = two ]
}

@test "the server's death is survived: a new one takes over what is attached" {
  cowl attach web --mount mnt >/dev/null
  kill_server
  cowl serve --detach >/dev/null
  echo again > mnt/new
  sync -f mnt
  [ "$(cat mnt/new)" = again ]
  cowl detach web
  cowl stop 2>/dev/null || true
}

@test "the server's death does not keep detach waiting: one is started, and nothing is lost" {
  for listen in "" "--listen unix:$dir/other.sock"; do
    cowl stop 2>/dev/null || true
    # shellcheck disable=SC2086
    if [ -n "$listen" ]; then cowl serve --detach $listen >/dev/null; fi
    cowl attach web --mount mnt >/dev/null
    echo "unwritten$listen" > mnt/new
    kill_server
    # shellcheck disable=SC2016
    [ "$(cowl doctor --json | jq -c '[.checks[] | select(.name == "attached") | .ok, (.message | test("web.*/dev/"))]')" = '[false,true]' ]
    succeeds timeout 60 "${COWL:-cowl}" detach web
    [ ! -e store/control.sock ]
    # shellcheck disable=SC2016
    [ "$(cowl run web --mount mnt -- sh -c 'cat "$mount/new"')" = "unwritten$listen" ]
  done
}

@test "where no server can be started detach is refused at once" {
  cowl attach web --mount mnt >/dev/null
  kill_server
  mv store/catalog.db store/away
  fails 1 '^cowl: detach: .*catalog.db.*server.*--force' timeout 60 "${COWL:-cowl}" detach web
  mv store/away store/catalog.db
  cowl detach web
}

@test "stop says what stays attached and waits" {
  cowl stop 2>/dev/null || true
  cowl serve --detach >/dev/null
  cowl attach web --mount mnt >/dev/null
  cowl stop 2>err
  grep -q '^cowl: .*web is still attached at /dev/.*mounted on .*mnt: .* wait .*cowl serve' err
  cowl detach web
}

@test "a device whose requests nobody brings to the server any more is let go with --force" {
  cowl attach web --mount mnt >/dev/null
  pid=$(pgrep -f "__fuse-serve .* $dir/store/nbd.sock web ") || skip "the kernel's nbd needs no such process"
  kill -9 "$pid"
  for _ in $(seq 100); do kill -0 "$pid" 2>/dev/null || break; sleep 0.05; done
  # shellcheck disable=SC2016
  [ "$(cowl doctor --json | jq -c '[.checks[] | select(.name == "attached") | .ok, (.message | test("web.*gone.*--force web"))]')" = '[false,true]' ]
  fails 1 '^cowl: detach: .*gone.*--force' timeout 60 "${COWL:-cowl}" detach web
  cowl detach web --force
  [ -z "$(ls mnt)" ]
  cowl attach web --mount mnt >/dev/null
  [ "$(cat mnt/file)" = hello ]
  cowl detach web
}

@test "attaching needs root" {
  chmod 755 "$dir"
  chmod -R a+rwX store
  run setpriv --reuid=nobody --regid=nogroup --clear-groups "$(command -v "${COWL:-cowl}")" --store "$dir/store" attach web
  [ "$status" -eq 1 ]
  [[ $output == "cowl: attach: "*root* ]]
  run setpriv --reuid=nobody --regid=nogroup --clear-groups "$(command -v "${COWL:-cowl}")" --store "$dir/store" create base new --attach
  [ "$status" -eq 1 ]
  [[ $output == "cowl: create: "*root* ]]
  [ "$(cowl ls -q | grep -c new)" = 0 ]
}
