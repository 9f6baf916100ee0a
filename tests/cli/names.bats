# Names, sizes and options that the command line alone shows to be wrong: status 2, one line, nothing changed.
load helpers

setup() {
  setup_store
  cowl create --empty 1M web >/dev/null
  before=$(cowl ls --json; cowl images --json)
}

teardown() {
  after=$(cowl ls --json; cowl images --json)
  drop_store
  [[ $before == "$after" ]] || { echo "the store changed: $after"; return 1; }
}

illegal_names=("" "." ".." "/" "a/b" "../a" "/etc/passwd" "-" "A" "Web" "a b" $'a\nb' $'a\tb' $'\x01' $'a\x7f' "a:b:c" "a:" ":" ":a"
               "a:-b" "a:.b" "ä" $'\xff\xfe' "a*" "a,b" "_a" ".a" "$(printf 'a%.0s' {1..129})" "$(printf 'a%.0s' {1..10000})"
               "a:$(printf 'b%.0s' {1..129})")

@test "illegal device names are wrong usage everywhere" {
  for name in "${illegal_names[@]}" a:b; do
    for verb in rm reset; do fails 2 "^cowl: $verb: .+" cowl "$verb" -- "$name"; done
    fails 2 '^cowl: clone: ' cowl clone -- "$name"
    fails 2 '^cowl: clone: ' cowl clone -- web "$name"
    fails 2 '^cowl: volume create: ' cowl volume create --size 1M -- "$name"
    fails 2 '^cowl: create: ' cowl create --empty 1M -- "$name"
  done
}

@test "illegal image names are wrong usage everywhere" {
  for name in "${illegal_names[@]}"; do
    for verb in history rmi create; do fails 2 "^cowl: $verb: .+" cowl "$verb" -- "$name"; done
    for verb in snapshot commit; do fails 2 "^cowl: $verb: .+" cowl "$verb" -- web "$name"; done
    for verb in tag flatten; do fails 2 "^cowl: $verb: .+" cowl "$verb" -- a "$name"; done
    fails 2 '^cowl: import: ' cowl import -- /etc/passwd "$name"
    fails 2 '^cowl: import: ' cowl import /etc/passwd x "--parent=$name"
  done
}

@test "illegal names are wrong usage where both are meant" {
  for name in "${illegal_names[@]}"; do
    for verb in inspect map diff attach detach; do fails 2 "^cowl: $verb: .+" cowl "$verb" -- "$name"; done
    fails 2 '^cowl: rename: ' cowl rename -- web "$name"
    fails 2 '^cowl: export: ' cowl export -- "$name" out
    fails 2 '^cowl: run: ' cowl run "$name" -- true
    fails 1 '^cowl: check: ' cowl check -- "$name"
    fails 2 '^cowl: serve: ' cowl serve "--default=$name"
  done
  [ ! -e out ]
}

@test "an error line shows control characters and is never long" {
  fails 2 'a\\x0ab' cowl rm $'a\nb'
  fails 2 . cowl rm "$(printf 'a%.0s' {1..10000})"
  ((${#stderr} < 400))
}

bad_sizes=("" 0 -1 1.5G 1KB 1kb 1B 1KiB "1 G" " 1M" 0x200 1e6 abc K G 511 513 1000 65T 64T1 1P 18446744073709551616
           99999999999999999999999 1GG ١M +1M)

@test "sizes that are no sizes are wrong usage" {
  for size in "${bad_sizes[@]}"; do
    fails 2 '^cowl: create: ' cowl create --empty "$size" new
    fails 2 '^cowl: create: ' cowl create web:v1 new "--size=$size"
    fails 2 '^cowl: create: ' cowl create --empty 1M new "--cap=$size"
    fails 2 '^cowl: volume create: ' cowl volume create new "--size=$size"
    fails 2 '^cowl: resize: ' cowl resize web -- "$size"
    fails 2 '^cowl: import: ' cowl import /etc/passwd new "--size=$size"
    fails 2 '^cowl: serve: ' cowl serve "--max-inflight-bytes=$size"
  done
  fails 2 '^cowl: create: ' cowl create --empty
}

@test "unknown verbs and options are wrong usage" {
  fails 2 '^cowl: no verb' cowl
  fails 2 '^cowl: ' cowl frobnicate
  fails 2 '^cowl: ' cowl ""
  fails 2 '^cowl: ' cowl --frobnicate
  fails 2 '^cowl: ' cowl volume
  fails 2 '^cowl: ' cowl volume frobnicate
  for verb in init images ls df tree gc serve stop doctor version "create a" "rm web" "diff web" "run web"; do
    # shellcheck disable=SC2086
    fails 2 "^cowl: ${verb%% *}: " cowl $verb --frobnicate
    # shellcheck disable=SC2086
    fails 2 "^cowl: ${verb%% *}: " cowl $verb -z
  done
  fails 1 '^cowl: check: ' cowl check --frobnicate
}

@test "missing and surplus words are wrong usage" {
  for verb in import export history tag rmi create clone "volume create" inspect snapshot commit reset resize rename rm diff map \
              flatten attach detach dump run; do
    # shellcheck disable=SC2086
    fails 2 "^cowl: $verb: " cowl $verb
  done
  for verb in "import a" "export a" "tag a" "snapshot web" "commit web" "resize web" "rename web" "flatten a" "volume create v"; do
    # shellcheck disable=SC2086
    fails 2 '^cowl: ' cowl $verb
  done
  for verb in "init x" "images x" "ls x" "rm web x" "inspect web x" "create a b c" "create --empty 1M a b" "diff a b c" "stop x"; do
    # shellcheck disable=SC2086
    fails 2 '^cowl: ' cowl $verb
  done
  fails 2 '^cowl: run: ' cowl run web
  fails 2 '^cowl: run: ' cowl run web --
  fails 2 '^cowl: run: ' cowl run web true
}

@test "--force is refused where it means nothing" {
  for verb in images ls "inspect web" "create --empty 1M new" "clone web" "diff web" df gc check stop "serve" init; do
    want=2
    [[ $verb == check ]] && want=1
    # shellcheck disable=SC2086
    fails $want '--force' cowl --force $verb
    # shellcheck disable=SC2086
    fails $want '--force' cowl $verb --force
  done
}

@test "what does not go together is wrong usage" {
  fails 2 . cowl create a --empty 1M --size 2M
  fails 2 . cowl create a b --empty 1M
  fails 2 . cowl volume create v
  fails 2 . cowl export web - --format qcow2
  fails 2 . cowl export web - --json
  fails 2 . cowl serve --stdio web --listen unix:x
  fails 2 . cowl serve --stdio web --detach
  fails 2 . cowl create a --empty 1M --empty 2M
}

@test "values out of their set are wrong usage" {
  fails 2 . cowl import x new --format vmdk
  fails 2 . cowl export web x --format vmdk
  fails 2 . cowl serve --io fast
  fails 2 . cowl serve --threads 0
  fails 2 . cowl serve --threads -1
  fails 2 . cowl serve --threads x
  fails 2 . cowl serve --max-connections 99999999999
  fails 2 . cowl serve --listen ""
  fails 2 . cowl serve --listen web
  fails 2 . cowl serve --listen unix:
  fails 2 . cowl serve --listen tcp:localhost
  fails 2 . cowl serve --listen tcp:localhost:99999
  fails 2 . cowl serve --listen tcp:0.0.0.0:10809
  fails 2 . cowl serve --listen tcp:192.0.2.1:10809
  fails 2 . cowl serve --listen 'tcp:[::]:10809'
  fails 2 . cowl --store "" ls
}

@test "what this version does not have is refused as such" {
  for verb in stats top "serve --tls d" "import a b --format oci" "export web o --format oci"; do
    # shellcheck disable=SC2086
    fails 2 'not supported by this version' cowl $verb
  done
  [ ! -e o ]
}

@test "usage is told in plain words, with the option's name" {
  fails 2 '^cowl: ls: --store needs a value: ' cowl ls --store
  fails 2 '^cowl: create: --cap needs a value: ' cowl create --empty 1M a --cap
  fails 2 '^cowl: create: --cap is given more than once: ' cowl create --empty 1M a --cap 4K --cap 8K
  fails 1 '^cowl: check: --data takes no value: ' cowl check --data=3
  fails 2 '^cowl: ls: --json takes no value: ' cowl ls --json=3
}

@test "a device's name that cannot be is called a device's" {
  fails 2 '^cowl: create: device name "Bad"' cowl create --empty 1M Bad
  fails 2 '^cowl: inspect: device name "Bad"' cowl inspect Bad
}
