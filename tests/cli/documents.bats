# The documents of --json, field for field.
load helpers

setup() {
  setup_store
  make_disk disk.raw 65536
  cowl import disk.raw base:v1 >/dev/null
}

@test "lists of an empty store" {
  cowl --store "$dir/empty" init
  export COWL_STORE=$dir/empty
  is_document '{"schema": 1, "images": []}' cowl images --json
  is_document '{"schema": 1, "devices": []}' cowl ls --json
  is_document '{"schema": 1, "nodes": []}' cowl tree --json
  is_document '{"schema": 1, "errors": [], "leaks": [], "checked_bytes": 0}' cowl check --json --data
  is_document '{"schema": 1, "freed_bytes": 0}' cowl gc --json
}

@test "init, and verbs without a result" {
  succeeds cowl --store "$dir/new" init --json
  [ "$(jq .schema <<<"$output")" = 1 ]
  cowl create --empty 1M a >/dev/null
  for verb in "reset a" "resize a 2M" "rename a b" "tag base:v1 base:v2" "rmi base:v2" "rm b"; do
    # shellcheck disable=SC2086
    is_document '{"schema": 1}' cowl --json $verb
  done
}

@test "import" {
  is_document '{"schema": 1, "image": "new:latest", "layer_count": 1, "size_bytes": 65536, "stored_bytes": 24576}' \
    cowl import --json disk.raw new
  printf 'changed' | dd of=disk.raw bs=4096 seek=1 conv=notrunc status=none
  is_document '{"schema": 1, "image": "new:2", "layer_count": 2, "size_bytes": 65536, "stored_bytes": 4096}' \
    cowl import --json disk.raw new:2 --parent new
  is_document '{"schema": 1, "image": "new:3", "layer_count": 3, "size_bytes": 65536, "stored_bytes": 0}' \
    cowl import --json disk.raw new:3 --parent new:2
}

@test "images" {
  is_document '{"schema": 1, "images": [{"name": "base", "tag": "v1", "layer_count": 1, "size_bytes": 65536,
    "stored_bytes": 24576, "created": "TIME"}]}' cowl images --json
}

@test "history" {
  cowl create base:v1 a >/dev/null
  write_device a 0 4096 7
  cowl commit a base:v2 >/dev/null
  succeeds cowl history base:v2 --json
  got=$(normalised <<<"$output" | jq -c '[.schema, (.history[] | [.layer, .created, .stored_bytes, .hidden_bytes])]')
  echo "$got"
  [ "$got" = '[1,["ID1","TIME",4096,0],["ID2","TIME",24576,4096]]' ]
  [ "$(jq -c '.history[0] | keys_unsorted | sort' <<<"$output")" = \
    '["created","created_by","hidden_bytes","layer","stored_bytes"]' ]
}

@test "create, clone and volume create" {
  is_document '{"schema": 1, "name": "a", "image": "base:v1", "size_bytes": 65536}' cowl create --json base:v1 a
  is_document '{"schema": 1, "name": "b", "image": "base:v1", "size_bytes": 131072}' \
    cowl create --json base:v1 b --size 128K
  is_document '{"schema": 1, "name": "c", "image": null, "size_bytes": 1048576}' cowl create --json --empty 1M c
  is_document '{"schema": 1, "name": "d", "image": "base:v1", "size_bytes": 65536}' cowl clone --json a d
  is_document '{"schema": 1, "name": "v", "image": null, "size_bytes": 1048576}' cowl volume create --json v --size 1M
}

@test "ls" {
  cowl create base:v1 a >/dev/null
  cowl volume create v --size 1M >/dev/null
  succeeds cowl ls --json
  served=false
  if is_served; then served=true; fi
  [ "$(jq -c '[.devices[] | [.name, .image, .kind, .size_bytes, .served, .attached]]' <<<"$output")" = \
    '[["a","base:v1","overlay",65536,'$served',null],["v",null,"volume",1048576,'$served',null]]' ]
  [ "$(jq -c '.devices[0] | [.stored_bytes, .disk_bytes]' <<<"$output")" = '[0,0]' ]
  (($(jq '.devices[1].disk_bytes' <<<"$output") >= 1048576))
}

@test "inspect of a device" {
  cowl create base:v1 a >/dev/null
  succeeds cowl inspect a --json
  got=$(normalised <<<"$output")
  uri='[]'
  if is_served; then uri='["nbd+unix:///a?socket=DIR/store/nbd.sock"]'; fi
  diff <(jq -S . <<<'{"schema": 1, "kind": "overlay", "name": "a", "size_bytes": 65536, "image": "base:v1", "cap_bytes": null, "overlay": null, "attached": null,
      "mount": null, "served": '"$uri"', "layers": [{"id": "ID1", "path": "DIR/store/layers/ID1.cowl", "stored_bytes": 24576}]}') \
    <(jq -S . <<<"$got")
  write_device a 0 4096 7
  succeeds cowl inspect a --json
  [ -f "$(jq -r .overlay.path <<<"$output")" ]
  [ -f "$(jq -r '.layers[0].path' <<<"$output")" ]
}

@test "inspect for people names image and cap" {
  cowl create base:v1 a --cap 8K >/dev/null
  cowl create --empty 1M b >/dev/null
  cowl inspect a | grep -Eq '^image: +base:v1$'
  cowl inspect a | grep -Eq '^cap: +8.0 KiB$'
  cowl inspect b | grep -Eq '^image: +none$'
  cowl inspect b | grep -Eq '^cap: +none$'
  if cowl inspect base:v1 | grep -E '^(image|cap):'; then return 1; fi
}

@test "inspect of an image, by its bare name too" {
  cowl tag base:v1 base
  succeeds cowl inspect base --json
  [ "$(jq -c '[.kind, .name, .size_bytes, .overlay, (.layers | length)]' <<<"$output")" = \
    '["image","base:latest",65536,null,1]' ]
}

@test "snapshot, commit and flatten" {
  cowl create base:v1 a >/dev/null
  write_device a 0 4096 7
  is_document '{"schema": 1, "image": "base:snap", "layer": "ID1", "pause_us": 0}' cowl snapshot --json a base:snap
  is_document '{"schema": 1, "image": "base:done", "layer": "ID1"}' cowl commit --json a base:done
  is_document '{"schema": 1, "image": "flat:latest", "layer": "ID1"}' cowl flatten --json base:snap flat
}

@test "diff" {
  cowl create base:v1 a >/dev/null
  is_document '{"schema": 1, "extents": []}' cowl diff --json a
  write_device a 4096 8192 7
  write_device a 32768 4096 7
  is_document '{"schema": 1, "extents": [{"offset_bytes": 4096, "length_bytes": 8192, "type": "data"},
    {"offset_bytes": 32768, "length_bytes": 4096, "type": "data"}]}' cowl diff --json a
}

@test "map" {
  cowl create base:v1 a >/dev/null
  write_device a 4096 4096 7
  succeeds cowl map a --json
  got=$(normalised <<<"$output" | jq -c '.extents[:4]')
  echo "$got"
  [ "$got" = '[{"offset_bytes":0,"length_bytes":4096,"type":"data","depth":2,"layer":"ID1"},{"offset_bytes":4096,"length_bytes":4096,"type":"data","depth":1,"layer":null},{"offset_bytes":8192,"length_bytes":4096,"type":"zero","depth":0,"layer":null},{"offset_bytes":12288,"length_bytes":4096,"type":"data","depth":2,"layer":"ID1"}]' ]
  [ "$(jq '[.extents[].length_bytes] | add' <<<"$output")" = 65536 ]
}

@test "df" {
  cowl create base:v1 a >/dev/null
  run --separate-stderr cowl df --json
  [ "$status" -eq 0 ]
  [ "$(jq -c '[.schema, .stored_bytes, (.images[0] | [.name, .logical_bytes, .stored_bytes]), (.devices[0] | [.name, .logical_bytes, .stored_bytes])]' <<<"$output")" = \
    '[1,24576,["base:v1",65536,24576],["a",65536,0]]' ]
  for field in logical_bytes disk_bytes reclaimable_bytes; do
    for at in . .images[0] .devices[0]; do
      [ "$(jq "$at | .$field | type" <<<"$output")" = '"number"' ]
    done
  done
}

@test "tree" {
  cowl create base:v1 a >/dev/null
  succeeds cowl tree --json
  [ "$(jq -c '[.nodes[].kind] | sort' <<<"$output")" = '["device","image","layer"]' ]
  [ "$(jq -c '[.nodes[] | select(.kind != "layer") | .name] | sort' <<<"$output")" = '["a","base:v1"]' ]
  layer=$(jq -r '.nodes[] | select(.kind == "layer") | .id' <<<"$output")
  [ "$(jq -c '[.nodes[] | select(.kind != "layer") | .parent] | unique' <<<"$output")" = "[\"$layer\"]" ]
  [ "$(jq '.nodes[] | select(.kind == "layer") | .parent' <<<"$output")" = null ]
}

@test "check" {
  succeeds cowl check --json --data
  [ "$(jq -c '[.schema, .errors, .leaks]' <<<"$output")" = '[1,[],[]]' ]
  (($(jq .checked_bytes <<<"$output") >= 24576))
}

@test "version, help and doctor" {
  [ "$(cowl version --json | jq -r '"cowl \(.version)"')" = "$(cowl --version)" ]
  cowl help --json | jq -e .text >/dev/null
  run --separate-stderr cowl doctor --json
  [ "$status" -eq 0 ]
  [ "$(jq -c '[.checks[] | keys_unsorted | sort] | unique' <<<"$output")" = '[["message","name","ok"]]' ]
}

@test "a failure with --json prints nothing on stdout" {
  for verb in "inspect none" "rm none" "rmi none" "history none" "diff none" "map none" "create none" "clone none" "reset none" \
              "snapshot none x" "commit none x" "tag none x" "flatten none x" "resize none 1M" "rename none x" \
              "import none x" "export none x" "check none" "attach none" "detach none"; do
    # shellcheck disable=SC2086
    fails 1 "^cowl: ${verb%% *}: .*none" cowl --json $verb
  done
}

@test "-q lists only names" {
  cowl create base:v1 b >/dev/null
  cowl create base:v1 a >/dev/null
  cowl tag base:v1 base
  succeeds cowl ls -q
  [ "$output" = $'a\nb' ]
  succeeds cowl images -q
  [ "$output" = $'base:latest\nbase:v1' ]
}

@test "people get tables" {
  cowl create base:v1 a >/dev/null
  succeeds cowl ls
  [[ ${lines[0]} == NAME*IMAGE*KIND*SIZE*STORED*DISK* ]]
  [[ ${lines[1]} == a*base:v1*overlay*"64.0 KiB"* ]]
  succeeds cowl images
  [[ ${lines[1]} == base*v1*"64.0 KiB"*"24.0 KiB"* ]]
}
