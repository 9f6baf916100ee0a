# serve and stop: listeners, background, limits, signals, and other commands beside it.
load helpers

setup() {
  COWL_TEST_SERVER=0 setup_store
  cowl create --empty 1M web >/dev/null
  cowl create --empty 1M db >/dev/null
}

teardown() {
  [[ -z ${server:-} ]] || kill -9 "$server" 2>/dev/null || true
  drop_store
}

# Starts a server in the foreground of a background job; waits for its first line.
serve() {
  "${COWL:-cowl}" serve "$@" >uris 2>log 3>&- &
  server=$!
  for ((i = 0; i < 100; i++)); do
    if [ -s uris ]; then return 0; fi
    sleep 0.05
  done
  cat log
  return 1
}

@test "it prints one URI a listener, and each can be connected to" {
  serve --listen "unix:a b.sock" --listen tcp:127.0.0.1:0 --listen unix:c.sock
  [ "$(wc -l < uris)" = 3 ]
  while read -r uri; do
    case $uri in
      nbd+unix:///?socket=*) nbdinfo --size "nbd+unix:///web?${uri#*\?}" ;;
      nbd://127.0.0.1:*) uri=${uri%/}; nbdinfo --size "$uri/web" ;;
      *) echo "$uri"; return 1 ;;
    esac
  done < uris
  kill -TERM $server
  wait $server
  [ ! -e c.sock ]
  [ ! -e store/control.sock ]
  [ "$(wc -l < uris)" = 3 ]
}

@test "without --listen it is nbd.sock in the store, mode 0600" {
  serve
  [ "$(cat uris)" = "nbd+unix:///?socket=$dir/store/nbd.sock" ]
  [ "$(stat -c %a store/nbd.sock)" = 600 ]
  [ "$(stat -c %a store/control.sock)" = 600 ]
}

@test "SIGTERM and SIGINT end it with status 0" {
  for signal in TERM INT; do
    serve
    if [[ $signal == INT ]]; then
      # A job of a shell without job control has SIGINT ignored; cowl leaves it so.
      kill -TERM $server
    else
      kill -$signal $server
    fi
    wait $server
    rm uris
  done
}

@test "--detach returns once it can be connected to, and leaves the terminal's files" {
  run --separate-stderr timeout 10 "${COWL:-cowl}" serve --detach
  [ "$status" -eq 0 ]
  [ "$output" = "nbd+unix:///?socket=$dir/store/nbd.sock" ]
  nbdinfo --size "nbd+unix:///web?socket=$dir/store/nbd.sock"
  pid=$(fuser store/lock 2>/dev/null | tr -d ' ' || true)
  succeeds cowl stop
  [ ! -e store/nbd.sock ]
  fails 1 '^cowl: stop: .*no server' cowl stop
}

@test "--detach reports what goes wrong" {
  fails 1 '^cowl: serve: ' cowl serve --detach --listen unix:/nowhere/at/all.sock
  fails 1 '^cowl: serve: ' cowl serve --detach --default none
  succeeds cowl ls
}

@test "a second server is refused, naming the first" {
  serve
  fails 1 "^cowl: serve: .*$server" cowl serve
  fails 1 "^cowl: serve: .*$server" cowl serve --detach
  fails 1 "^cowl: serve: .*$server" cowl serve --stdio web
}

@test "the empty export name is refused, or what --default says" {
  serve
  run nbdinfo --size "nbd+unix:///?socket=$dir/store/nbd.sock"
  [ "$status" -ne 0 ]
  kill $server; wait $server; rm uris
  serve --default db
  [ "$(nbdinfo --size "nbd+unix:///?socket=$dir/store/nbd.sock")" = 1048576 ]
}

@test "devices made later are served at once" {
  serve
  cowl create --empty 2M later >/dev/null
  [ "$(nbdinfo --size "nbd+unix:///later?socket=$dir/store/nbd.sock")" = 2097152 ]
  cowl rm later
  run nbdinfo --size "nbd+unix:///later?socket=$dir/store/nbd.sock"
  [ "$status" -ne 0 ]
}

@test "--stdio serves one client and ends with it" {
  size=$(PATH=/usr/bin:$PATH nbdsh -c "h.connect_command(['${COWL:-cowl}', 'serve', '--stdio', 'web'])" -c 'print(h.get_size())')
  [ "$size" = 1048576 ]
  [ ! -e store/control.sock ]
  fails 1 '^cowl: serve: .*none' cowl serve --stdio none
  succeeds cowl ls
}

@test "it runs the other commands, and the user sees no difference" {
  serve
  [ "$(cowl ls --json | jq -c '[.devices[].served] | unique')" = '[true]' ]
  [ "$(cowl inspect web --json | jq -r '.served[0]')" = "nbd+unix:///web?socket=$dir/store/nbd.sock" ]
  [ "$(cowl snapshot web img)" = img:latest ]
  kill -TERM $server; wait $server
  [ "$(cowl ls --json | jq -c '[.devices[].served] | unique')" = '[false]' ]
  [ "$(cowl images -q)" = img:latest ]
}

@test "after kill -9 the store opens again, sockets or not" {
  serve
  kill -9 $server
  wait $server || true
  [ -S store/control.sock ]
  succeeds cowl ls -q
  cowl create --empty 1M x >/dev/null
  rm uris
  serve
  nbdinfo --size "nbd+unix:///x?socket=$dir/store/nbd.sock"
}

@test "a stopped server is an error, not a hang" {
  serve
  kill -STOP $server
  run --separate-stderr timeout 30 "${COWL:-cowl}" ls
  kill -CONT $server
  [ "$status" -eq 1 ]
  [[ $stderr == "cowl: ls: "*"$server"* ]]
}

@test "garbage on the control socket does no harm" {
  need socat
  serve
  head -c 1M /dev/urandom | timeout 5 socat -u - UNIX-CONNECT:store/control.sock 2>/dev/null || true
  printf 'COWL\xff\xff\xff\xff' | timeout 5 socat -u - UNIX-CONNECT:store/control.sock 2>/dev/null || true
  printf 'COWL\x02\x00\x00\x00{}' | timeout 5 socat - UNIX-CONNECT:store/control.sock >/dev/null 2>&1 || true
  succeeds cowl ls -q
  kill -0 $server
}

@test "a long import does not hold up other commands, and the server does not wait for it" {
  serve
  head -c 512M /dev/urandom > noise
  "${COWL:-cowl}" import noise big >/dev/null 3>&- &
  import=$!
  for ((round = 0; round < 10; round++)); do
    begin=$(date +%s%N)
    succeeds cowl ls -q
    (($(date +%s%N) - begin < 2000000000))
  done
  wait $import
  cowl history big
}

@test "commands side by side without a server wait for each other" {
  for ((i = 0; i < 8; i++)); do
    "${COWL:-cowl}" create --empty 1M "p$i" >/dev/null 2>"error$i" 3>&- &
    pids[i]=$!
  done
  failed=0
  for ((i = 0; i < 8; i++)); do wait "${pids[i]}" || { cat "error$i"; failed=1; }; done
  [ $failed -eq 0 ]
  [ "$(cowl ls -q | grep -c '^p')" = 8 ]
}

# As systemd starts a service for a socket: the socket is descriptor 3, and the environment says so.
activated() {
  python3 - "$@" <<'PYTHON'
import os, socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)
os.environ["LISTEN_FDS"] = "1"
os.environ["LISTEN_PID"] = str(os.getpid())
os.execvp(sys.argv[2], sys.argv[2:])
PYTHON
}

@test "socket activation" {
  need python3
  activated "$dir/act.sock" "${COWL:-cowl}" serve >uris 2>log 3>&- &
  server=$!
  for ((i = 0; i < 100; i++)); do [ -s uris ] && break; sleep 0.05; done
  [ "$(cat uris)" = "nbd+unix:///?socket=$dir/act.sock" ]
  [ "$(nbdinfo --size "nbd+unix:///web?socket=$dir/act.sock")" = 1048576 ]
  [ ! -e store/nbd.sock ]
  cowl stop
}

@test "readiness is told to systemd" {
  need socat
  socat -u UNIX-RECV:notify.sock OPEN:told,creat,append 3>&- &
  listener=$!
  for ((i = 0; i < 100; i++)); do [ -S notify.sock ] && break; sleep 0.05; done
  NOTIFY_SOCKET=$dir/notify.sock serve
  for ((i = 0; i < 100; i++)); do grep -q READY=1 told 2>/dev/null && break; sleep 0.05; done
  grep -q READY=1 told
  kill $server; wait $server
  sleep 0.2
  grep -q STOPPING=1 told
  kill $listener
}

@test "stdout that cannot be written ends it with an error" {
  run --separate-stderr timeout 10 sh -c '"$0" serve >/dev/full' "${COWL:-cowl}"
  [ "$status" -eq 1 ]
  succeeds cowl ls
}

@test "limits are kept" {
  serve --max-connections 1
  qemu-io -f raw -c 'sleep 3000' "nbd+unix:///web?socket=$dir/store/nbd.sock" 3>&- &
  client=$!
  sleep 1
  run timeout 5 nbdinfo --size "nbd+unix:///db?socket=$dir/store/nbd.sock"
  [ "$status" -ne 0 ]
  wait $client
  nbdinfo --size "nbd+unix:///db?socket=$dir/store/nbd.sock"
}

@test "--io sync and --threads serve as well" {
  serve --io sync --threads 2
  nbdinfo --size "nbd+unix:///web?socket=$dir/store/nbd.sock"
}

@test "it raises its limit of open files" {
  (ulimit -Sn 256; "${COWL:-cowl}" serve --detach >/dev/null)
  pid=$(cowl doctor --json | jq -r '.checks[] | select(.name == "server") | .message' | grep -oE '[0-9]+')
  soft=$(awk '/Max open files/ {print $4}' "/proc/$pid/limits")
  hard=$(awk '/Max open files/ {print $5}' "/proc/$pid/limits")
  [ "$soft" = "$hard" ]
  cowl stop
}

@test "an export that a server began goes on when that is stopped or killed, and ends well" {
  make_disk disk.raw 1048576
  mkfifo pipe
  for signal in TERM KILL; do
    cowl import disk.raw base --force >/dev/null
    serve
    "${COWL:-cowl}" export base - >pipe 2>errors 3>&- &
    export=$!
    exec 8<pipe
    head -c 4096 <&8 >copy.raw  # it has begun, and waits for its reader
    kill -$signal $server
    wait $server || true
    cowl rmi base
    cat <&8 >>copy.raw
    wait $export || { cat errors; return 1; }
    exec 8<&-
    cmp disk.raw copy.raw
    [ -z "$(ls store/layers)" ]
  done
}
