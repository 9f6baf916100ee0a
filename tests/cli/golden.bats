# Stores that earlier versions wrote open for ever: tests/data/store-VERSION.tar.xz, made by tests/data/make_store of that version.
load helpers

data=$BATS_TEST_DIRNAME/../data

setup() {
  dir=$(mktemp -d "${TMPDIR:-/tmp}/cowl-cli.XXXXXX")
  cd "$dir" || return 1
  export COWL_STORE=$dir/store
}

# unpack ARCHIVE: its store becomes the test's, after whatever store was there.
unpack() {
  if [[ -S store/control.sock ]]; then cowl stop; fi
  rm -rf store
  tar -xJf "$1"
  start_server
}

# reads_as SUMS: every image and device reads as the sums say, and none is there besides.
reads_as() {
  local name
  for name in $(cowl images -q) $(cowl ls -q); do
    cowl export "$name" - | sha256sum | sed "s/-\$/$name/"
  done >sums
  diff "$1" sums
}

@test "a store of every version reads as it did, and is clean" {
  for archive in "$data"/store-*.tar.xz; do
    unpack "$archive"
    succeeds cowl check --data
    reads_as "${archive%.tar.xz}.sha256"
  done
}

@test "a store of every version can be written, sealed and cut" {
  for archive in "$data"/store-*.tar.xz; do
    unpack "$archive"
    write_device killed 4096 4096 9
    succeeds cowl snapshot killed base:new
    succeeds cowl reset killed
    succeeds cowl rmi base:v2
    cowl export base:new - | sha256sum >new
    cowl rm killed
    succeeds cowl flatten base:new flat
    [ "$(cowl export flat - | sha256sum)" = "$(<new)" ]
    succeeds cowl check --data
  done
}
