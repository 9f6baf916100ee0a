#!/usr/bin/env bats
# bench/compare/run, in small: that its drivers do what they say, and that the report has all of it.

setup_file() {
  [[ -z ${COWL_VM:-} ]] || skip "the emulated machine is too slow for it"
  ((EUID == 0)) || skip "needs root"
  export OUT="$BATS_FILE_TMPDIR/out" COMPARE="$BATS_TEST_DIRNAME/../../bench/compare/run"
  "$COMPARE" --quick --repeats 1 --drivers overlay2,overlay2-metacopy,btrfs,qcow2,cowl-ext4,devicemapper,plain \
    --workloads chmod,change-4k,hard-links --dir "$BATS_FILE_TMPDIR" --out "$OUT" --cowl "$COWL" >"$BATS_FILE_TMPDIR/printed"
}

figure() {  # WORKLOAD CASE DRIVER FIGURE
  jq -e --arg w "$1" --arg c "$2" --arg d "$3" --arg f "$4" \
    '.cases[] | select(.workload == $w and .case == $c) | .figures[$d][$f].median | floor' "$OUT/report.json"
}

@test "overlay2 stores the whole file for 4 KiB, cowl the blocks" {
  (($(figure change-4k "100 MiB" overlay2 stored_bytes) >= 100 << 20))
  (($(figure change-4k "100 MiB" cowl-ext4 stored_bytes) <= 128 << 10))
  (($(figure change-4k "100 MiB" overlay2 written_bytes) >= 100 << 20))
}

@test "with metacopy a chmod copies no data, without it does" {
  (($(figure chmod "10 MiB" overlay2 stored_bytes) >= 10 << 20))
  (($(figure chmod "10 MiB" overlay2-metacopy stored_bytes) < 1 << 20))
}

@test "a driver that this host cannot run is named with the reason" {
  jq -e '.drivers.devicemapper | .here or (.reason | length > 0)' "$OUT/report.json"
  grep -q devicemapper "$OUT/report.md"
}

@test "each case has a verdict, and nothing failed" {
  jq -e '.failures == [] and (.verdicts | length) == (.cases | length) and (.cases | length) == 8' "$OUT/report.json"
}

@test "the report in HTML is well formed and fetches nothing" {
  python3 - "$OUT/report.html" <<'PY'
import html.parser, sys
text = open(sys.argv[1], encoding="utf-8").read()
class Balance(html.parser.HTMLParser):
    open_tags = []
    def handle_starttag(self, tag, attributes):
        assert not any(name in ("src", "href") for name, _ in attributes), (tag, attributes)
        if tag not in ("meta", "br"):
            self.open_tags.append(tag)
    def handle_endtag(self, tag):
        assert self.open_tags.pop() == tag, tag
Balance().feed(text)
assert Balance.open_tags == [] and text.count("<svg") > 8, Balance.open_tags
PY
}

@test "nothing is left mounted or on the disk" {
  [[ $(grep -c "$BATS_FILE_TMPDIR/compare-" /proc/self/mountinfo) == 0 ]]
  [[ -z $(compgen -G "$BATS_FILE_TMPDIR/compare-*") ]]
}

@test "wrong usage is said in one line, with status 2" {
  run "$COMPARE" --drivers nosuch
  [[ $status == 2 && ${#lines[@]} == 1 && $output == *"nosuch: no such driver; there are: overlay2"* ]]
  run "$COMPARE" --repeats 0
  [[ $status == 2 && $output == *"not a number from 1 to 100"* ]]
}
