# Global options, help, version, and where results go.
load helpers

@test "global options stand before or after the verb" {
  unset COWL_STORE
  cowl --store "$dir/store" create --empty 1M a >/dev/null
  succeeds cowl ls --store "$dir/store" -q
  [ "$output" = a ]
  succeeds cowl --json --store="$dir/store" ls
  [ "$(jq -r '.devices[0].name' <<<"$output")" = a ]
  succeeds cowl ls --json --store "$dir/store"
  [ "$(jq -r '.devices[0].name' <<<"$output")" = a ]
  succeeds cowl --quiet --store "$dir/store" ls
  [ "$output" = a ]
  [ "$(cowl --version)" = "$(cowl ls --version)" ]
  [ "$(cowl --help ls)" = "$(cowl ls --help)" ]
}

@test "--store goes before COWL_STORE, and that before the default" {
  cowl create --empty 1M here >/dev/null
  cowl --store "$dir/other" init
  succeeds cowl --store "$dir/other" ls -q
  [ "$output" = "" ]
  succeeds cowl ls -q
  [ "$output" = here ]
  fails 1 "$dir/none.*cowl init" env COWL_STORE="$dir/none" "${COWL:-cowl}" ls
}

@test "the default store of a user lies in the data folder" {
  ((EUID == 0)) || skip "needs root, to become somebody else"
  home=$(mktemp -d /tmp/cowl-home.XXXXXX)
  chown nobody "$home"
  as() { setpriv --reuid=nobody --regid=nogroup --clear-groups env -u COWL_STORE "$@" "$(command -v "${COWL:-cowl}")" ls; }
  run as -u XDG_DATA_HOME HOME="$home"
  echo "$output"
  [[ $output == *"$home/.local/share/cowl"* ]]
  run as XDG_DATA_HOME="$home/data"
  echo "$output"
  [[ $output == *"$home/data/cowl"* ]]
  rm -rf "$home"
}

@test "a store is found from any folder, by any path to it" {
  cowl create --empty 1M a >/dev/null
  mkdir -p sub
  ln -s ../store sub/link
  cd sub
  for path in ../store link "$dir/./sub/../store/"; do
    succeeds cowl --store "$path" ls -q
    [ "$output" = a ]
  done
}

@test "a missing store is an error that names cowl init" {
  for verb in ls images df tree gc check "create --empty 1M a" "serve" "serve --detach" "inspect a" "import /etc/passwd x"; do
    # shellcheck disable=SC2086
    fails 1 "$dir/none.*cowl init" cowl --store "$dir/none" $verb
  done
  [ ! -e "$dir/none" ]
}

@test "a folder that is no store is refused and left alone" {
  mkdir foreign
  echo mine > foreign/file
  for verb in ls gc "create --empty 1M a" check; do
    # shellcheck disable=SC2086
    fails 1 "^cowl: ${verb%% *}: .*foreign" cowl --store foreign $verb
  done
  fails 1 . cowl --store foreign init
  [ "$(ls -A foreign)" = file ]
  for mode in 644 755; do
    echo mine > file
    chmod $mode file
    fails 1 '^cowl: ls: store .*file: is no directory' cowl --store file ls
    fails 1 '^cowl: create: store .*file: is no directory' cowl --store file create --empty 1M a
    [ "$(cat file)" = mine ]
  done
  fails 1 . cowl --store /dev/null init
}

@test "init refuses a store that is there" {
  before=$(find store | sort)
  fails 1 "$dir/store" cowl init
  [ "$(find store | sort)" = "$before" ]
}

@test "results that cannot be written are an error" {
  cowl create --empty 1M a >/dev/null
  for verb in ls "ls --json" images "inspect a" help --help --version "help ls --man" "create --empty 1M" df; do
    run --separate-stderr -- sh -c '"$0" "$@" >/dev/full' "${COWL:-cowl}" $verb
    [ "$status" -eq 1 ] || { echo "$verb: $status"; return 1; }
    [[ $stderr == "cowl: "*"No space left on device"* ]]
    run --separate-stderr -- sh -c '"$0" "$@" >&-' "${COWL:-cowl}" $verb
    [ "$status" -eq 1 ] || { echo "$verb closed: $status"; return 1; }
    [[ $stderr == "cowl: "* ]]
  done
}

@test "verbs without a result do not need a standard output" {
  cowl create --empty 1M a >/dev/null
  run sh -c '"$0" rm a >&- <&-' "${COWL:-cowl}"
  [ "$status" -eq 0 ]
  succeeds cowl check
}

@test "all standard streams closed do no harm to the store" {
  run sh -c '"$0" create --empty 1M a >&- 2>&- <&-' "${COWL:-cowl}"
  [ "$status" -eq 1 ]
  succeeds cowl check
  succeeds cowl ls
}

@test "every verb has help with an example, a manual page and a completion" {
  verbs=$(cowl help | sed -n '/^verbs:/,/^$/p' | sed -nE 's/^  ([a-z]+( create)?)  .*/\1/p')
  (($(wc -l <<<"$verbs") > 30))
  while read -r verb; do
    # shellcheck disable=SC2086
    succeeds cowl help $verb
    [[ $output == *"usage: cowl $verb"* ]] || { echo "no usage: $verb"; return 1; }
    [[ $output == *"examples:"* ]] || { echo "no examples: $verb"; return 1; }
    # shellcheck disable=SC2086
    [ "$output" = "$(cowl $verb --help)" ]
    # shellcheck disable=SC2086
    succeeds cowl help $verb --man
    [[ $output == ".TH COWL"* ]]
  done <<<"$verbs"
  succeeds cowl help --man-pages man
  [ "$(find man -name 'cowl*.1' | wc -l)" -eq $(($(wc -l <<<"$verbs") + 1)) ]
  fails 2 . cowl help frobnicate
}

@test "manual pages are clean" {
  command -v man >/dev/null || skip "no man here"
  cowl help --man-pages man
  for page in man/*.1; do
    run man --warnings -E UTF-8 -l -Tutf8 -Z "$page"
    [ "$status" -eq 0 ]
    [[ $output != *warning* ]]
  done
}

@test "bash completes verbs, options and names" {
  cowl create --empty 1M some-device >/dev/null
  cowl help --completion bash > completion
  PATH=$(dirname "$(command -v "${COWL:-cowl}")"):$PATH
  complete_line() {
    bash -c '. ./completion; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _cowl; echo "${COMPREPLY[@]}"' - "$@"
  }
  [ "$(complete_line cowl snap)" = snapshot ]
  [ "$(complete_line cowl rm some)" = some-device ]
  [ "$(complete_line cowl --store "$dir/store" rm some)" = some-device ]
  [ "$(complete_line cowl create --em)" = --empty ]
  [ "$(complete_line cowl volume cr)" = create ]
  [ "$(complete_line cowl volume create x --si)" = --size ]
}

@test "help, version and doctor need no store" {
  for verb in help version doctor; do
    run cowl --store "$dir/none" $verb
    [ "$status" -eq 0 ]
  done
  [ ! -e "$dir/none" ]
}
