"""What tests/run does: the stages, in order, and the count of all their tests.

A stage builds the preset it needs, runs a program that reports single tests (ctest over GoogleTest programs, or bats) and adds
to the count. Everything a stage prints goes to build/test-logs/STAGE.log too.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree

ROOT = pathlib.Path(__file__).resolve().parent.parent
LOGS = ROOT / "build" / "test-logs"
TSAN_FREE_OF_RANDOM_MAPS = ["setarch", platform.machine(), "-R"]


@dataclasses.dataclass
class Count:
    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def add(self, other):
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped

    def __str__(self):
        text = f"{self.passed} passed, {self.failed} failed"
        return text + (f", {self.skipped} skipped" if self.skipped else "")


@dataclasses.dataclass
class Stage:
    name: str
    title: str
    run: object  # (Stage) -> Count
    default: bool = True  # runs without --all
    preset: str = "release"
    minutes_max: int = 15


class StageFailed(Exception):
    """A stage could not run its tests at all: one failure, with the reason."""


# Running programs.

def run_logged(stage, command, minutes_max, environment=None, on_line=None):
    """Runs a command to its end, every line to the log and to on_line; its status, or None when the time was over."""
    with open(LOGS / f"{stage.name}.log", "a", encoding="utf-8", errors="replace") as log:
        log.write("$ " + " ".join(map(str, command)) + "\n")
        log.flush()
        process = subprocess.Popen(list(map(str, command)), cwd=ROOT, env={**os.environ, **(environment or {})},
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                   text=True, errors="replace", start_new_session=True)
        timer = Alarm(process, minutes_max * 60)
        try:
            for line in process.stdout:
                log.write(line)
                if on_line:
                    on_line(line.rstrip("\n"))
            process.wait()
        finally:
            timer.stop()
        if timer.rang:
            log.write(f"\nnot done after {minutes_max} minutes: ended\n")
            return None
        return process.returncode


class Alarm:
    """Ends a process and all it started when its time is over, or when this program is interrupted."""

    def __init__(self, process, seconds):
        import threading
        self.process = process
        self.rang = False
        self.timer = threading.Timer(seconds, self.ring)
        self.timer.start()

    def ring(self):
        self.rang = True
        self.end()

    def end(self):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def stop(self):
        self.timer.cancel()
        if self.process.poll() is None:
            self.end()


def show(line):
    print("  " + line, flush=True)


def tail(stage, lines=40):
    text = (LOGS / f"{stage.name}.log").read_text(encoding="utf-8", errors="replace").splitlines()
    for line in text[-lines:]:
        print("  | " + line)


# Building.

BUILT = set()


def build(stage, *targets):
    """Configures and builds the stage's preset, once a run; all of it unless targets are named."""
    if stage.preset in BUILT:
        return ROOT / "build" / stage.preset
    folder = ROOT / "build" / stage.preset
    bench = "ON" if stage.preset in ("release", "clang") else "OFF"
    steps = [["cmake", "--preset", stage.preset, f"-DCOWL_BENCH={bench}"], ["cmake", "--build", folder, *(f"--target={target}" for target in targets)]]
    for step in steps:
        if run_logged(stage, step, minutes_max=30) != 0:
            tail(stage)
            raise StageFailed(f"the {stage.preset} preset does not build")
    BUILT.add(stage.preset)
    return folder


# GoogleTest programs, by ctest.

def count_program(case, results):
    """The count of one entry of ctest: its single tests where it wrote them down, else itself."""
    failed = case.find("failure") is not None or case.get("status") == "fail"
    skipped = case.find("skipped") is not None or case.get("status") in ("notrun", "disabled")
    count = Count()
    result = results / f"{case.get('name')}.json"
    if result.exists():
        for suite in json.loads(result.read_text())["testsuites"]:
            for test in suite["testsuite"]:
                if test.get("failures"):
                    count.failed += 1
                    show(f"FAILED {suite['name']}.{test['name']}")
                elif test["result"] == "SKIPPED" or test["status"] == "NOTRUN":
                    count.skipped += 1
                else:
                    count.passed += 1
    elif not failed:
        count = Count(skipped=1) if skipped else Count(passed=1)
    if failed and count.failed == 0:
        count.failed = 1  # it ended before it could write anything down, or after all its tests
    return count


def run_ctest(stage, select, environment=None, prefix=(), target=None):
    folder = build(stage)
    if target and run_logged(stage, ["cmake", "--build", folder, f"--target={target}"], minutes_max=30) != 0:
        tail(stage)
        raise StageFailed(f"{target} does not build")
    results = LOGS / f"{stage.name}-results"
    shutil.rmtree(results, ignore_errors=True)
    results.mkdir(parents=True)
    junit = results / "ctest.xml"
    command = [*prefix, "ctest", "--test-dir", folder, "-j2", "--output-on-failure", "--output-junit", junit, *select]
    environment = {"GTEST_OUTPUT": f"json:{results}/", "GTEST_COLOR": "no", **(environment or {})}
    status = run_logged(stage, command, stage.minutes_max, environment)
    if status is None or not junit.exists():
        tail(stage)
        raise StageFailed("ctest did not come to its end")
    total = Count()
    for case in ElementTree.parse(junit).getroot().iter("testcase"):
        count = count_program(case, results)
        show(f"{case.get('name')}: {count} ({float(case.get('time') or 0):.1f} s)")
        total.add(count)
    if total.failed:
        tail(stage, 60)
    return total


# bats.

TAP = re.compile(r"^(ok|not ok) \d+ ?(.*)$")


def run_bats(stage, paths, environment=None, options=(), prefix=()):
    folder = build(stage)
    count = Count()
    plan = []

    def on_line(line):
        if match := re.match(r"^1\.\.(\d+)$", line):
            plan.append(int(match.group(1)))
        elif match := TAP.match(line):
            if match.group(1) == "not ok":
                count.failed += 1
            elif re.search(r"# skip", match.group(2)):
                count.skipped += 1
            else:
                count.passed += 1
            show(line)
        elif count.failed and line.startswith("#"):
            show(line)

    command = [*prefix, "bats", "--formatter", "tap", "--timing", *options, *paths]
    programs = {"COWL_BUILD": folder, "COWL": folder / "bin/cowl", "MEMORY_SERVER": folder / "tests/nbd/memory_server"}
    environment = {**{name: str(path) for name, path in programs.items()}, **(environment or {})}
    status = run_logged(stage, command, stage.minutes_max, environment, on_line)
    lost = (plan[0] if plan else 0) - count.passed - count.failed - count.skipped
    if lost > 0 or (status != 0 and not count.failed):
        tail(stage)
        show(f"FAILED: bats ended with status {status}, {lost} tests have not reported")
        count.failed += max(lost, 1)
    return count


def bats_files(folder):
    files = sorted((ROOT / "tests" / folder).glob("*.bats"))
    if not files:
        raise StageFailed(f"tests/{folder} holds no tests")
    return files


# The stages.

NOT_UNIT = "^(property|crash|cli|nbd|mutant)_"  # stages of their own


def unit(stage):
    return run_ctest(stage, ["-E", NOT_UNIT])


def only(name, **environment):
    return lambda stage: run_ctest(stage, ["-R", f"^{name}_", "--no-tests=error"], environment)


def mutants(stage):
    """The crash tests against an engine with a fault planted in it, one fault after the other: each must be caught."""
    return run_ctest(stage, ["-R", "^mutant_", "--no-tests=error"], target="crash_mutants")


def suite(folder):
    return lambda stage: run_bats(stage, bats_files(folder))


def clients(stage):
    """Twice: a server of disks in memory, and `cowl serve` with a store."""
    show("disks in memory")
    count = run_bats(stage, bats_files("nbd"))
    show("a store")
    of_any_server = [path for path in bats_files("nbd") if path.name != "server.bats"]
    count.add(run_bats(stage, of_any_server, {"COWL_NBD_SERVER": str(ROOT / "tests/nbd/serve_store")}))
    return count


def command_line(stage):
    """Twice: each command opens the store itself, and a server runs them for it."""
    count = Count()
    for served, files in ((0, bats_files("cli")), (1, [p for p in bats_files("cli") if p.name != "serve.bats"])):
        show("commands are run by a server" if served else "commands open the store themselves")
        count.add(run_bats(stage, files, {"COWL_TEST_SERVER": str(served)}))
    return count


SANITIZER_SETTINGS = {
    "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0:strict_string_checks=1",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
    "TSAN_OPTIONS": f"halt_on_error=1:second_deadlock_stack=1:suppressions={ROOT}/tests/support/tsan.supp",
}


def checked_build(stage):
    """Unit, property and NBD tests of another build of everything."""
    prefix = TSAN_FREE_OF_RANDOM_MAPS if stage.preset == "tsan" else []
    count = run_ctest(stage, ["-E", NOT_UNIT.replace("property|", "")], SANITIZER_SETTINGS, prefix)
    count.add(run_bats(stage, bats_files("nbd"), SANITIZER_SETTINGS, prefix=prefix))
    return count


def fuzz(stage):
    folder = build(stage, "fuzz")
    targets = sorted(p for p in folder.glob("tests/**/fuzz_*") if p.is_file() and os.access(p, os.X_OK))
    if not targets:
        raise StageFailed("no fuzz targets were built")
    count = Count()
    for target in targets:
        corpus = folder / "corpus" / target.name
        corpus.mkdir(parents=True, exist_ok=True)
        seeds = [p for p in [ROOT / "tests" / "fuzz" / "corpus" / target.name] if p.exists()]
        command = [target, "-max_total_time=60", "-timeout=25", "-rss_limit_mb=3072", "-print_final_stats=1",
                   f"-artifact_prefix={LOGS}/{target.name}-", corpus, *seeds]
        status = run_logged(stage, command, minutes_max=4)
        show(f"{'ok' if status == 0 else 'not ok'} {target.name}")
        count.add(Count(passed=1) if status == 0 else Count(failed=1))
    if count.failed:
        tail(stage)
    return count


def bars(stage):
    """The product's bars, each a script that measures and says whether the figure holds."""
    environment = {"COWL": str(build(stage) / "bin/cowl")}
    count = Count()
    for name in ("rewrite", "chain", "kill", "snapshots", "creates"):
        status = run_logged(stage, [ROOT / "tests" / "bars" / name], stage.minutes_max, environment, show)
        show(f"{'ok' if status == 0 else 'not ok'} {name}")
        count.add(Count(passed=1) if status == 0 else Count(failed=1))
    return count


def emulated(*options):
    def run(stage):
        environment = {"VM_TIMEOUT_S": str(stage.minutes_max * 60 - 20)}
        prefix = ["tests/vm/run", "env", f"COWL_BUILD={build(stage)}", f"COWL={build(stage)}/bin/cowl", f"CI={os.environ.get('CI', '')}"]
        paths = [*bats_files("mount"), ROOT / "tests/cli/attach.bats"]
        return run_bats(stage, [p.relative_to(ROOT) for p in paths], environment, options, prefix)
    return run


STAGES = [
    Stage("unit", "unit tests, a folder each", unit),
    Stage("property", "random streams against a byte array", only("property")),
    Stage("crash", "crashes replayed, the short list", only("crash")),
    Stage("nbd", "real NBD clients, and hostile ones", clients),
    Stage("cli", "the command line as a black box", command_line),
    Stage("mount", "real file systems on this kernel", suite("mount")),
    Stage("bars", "what the product promises, measured", bars, False, minutes_max=20),
    Stage("dev", "AddressSanitizer and UBSan: unit, property, NBD", checked_build, False, "dev", 30),
    Stage("tsan", "ThreadSanitizer: unit, property, NBD", checked_build, False, "tsan", 30),
    Stage("clang", "clang: unit, property, NBD", checked_build, False, "clang", 30),
    Stage("fuzz", "fuzz targets, a minute each", fuzz, False, "fuzz", 30),
    Stage("crash-long", "crashes replayed, the long list", only("crash", COWL_CRASH_LONG="1"), False, minutes_max=40),
    Stage("mutants", "planted faults, which the crash tests must catch", mutants, False, minutes_max=30),
    Stage("vm", "an emulated kernel that has nbd", emulated(), False, minutes_max=30),
    Stage("vm-short", "an emulated kernel that has nbd, in short", emulated("--filter-tags", "short"), False),
]
IN_ALL = [stage for stage in STAGES if stage.name != "vm-short"]


def choose(arguments):
    names = {stage.name for stage in STAGES}
    for name in arguments.only + arguments.also:
        if name not in names:
            sys.exit(f"tests/run: there is no stage {name}; --list shows them")
    if arguments.only:
        return [stage for stage in STAGES if stage.name in arguments.only]
    chosen = IN_ALL if arguments.all else [stage for stage in STAGES if stage.default]
    return [stage for stage in STAGES if stage in chosen or stage.name in arguments.also]


def run_stage(stage):
    print(f"== {stage.name}: {stage.title}", flush=True)
    (LOGS / f"{stage.name}.log").write_text("")
    begin = time.monotonic()
    try:
        count = stage.run(stage)
    except StageFailed as failure:
        show(f"FAILED: {failure}")
        count = Count(failed=1)
    print(f"   {stage.name}: {count} in {time.monotonic() - begin:.0f} s", flush=True)
    if count.failed:
        print(f"   all of it: {LOGS.relative_to(ROOT)}/{stage.name}.log", flush=True)
    return count


def main():
    parser = argparse.ArgumentParser(prog="tests/run", description="Builds cowl and runs its tests.")
    parser.add_argument("--all", action="store_true", help="every sanitizer, fuzzing, the long crash list, the emulated kernel")
    parser.add_argument("--list", action="store_true", help="show the stages")
    parser.add_argument("--only", action="append", default=[], metavar="STAGE", help="this stage (may be repeated)")
    parser.add_argument("--also", action="append", default=[], metavar="STAGE", help="this stage besides the usual ones")
    arguments = parser.parse_args()
    if arguments.list:
        for stage in STAGES:
            print(f"{stage.name:<11} {'' if stage.default else '(--all) ' if stage in IN_ALL else '(--also) '}{stage.title}")
        return 0
    LOGS.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    total = Count()
    for stage in choose(arguments):
        total.add(run_stage(stage))
    print(f"== {time.monotonic() - begin:.0f} s in all")
    print(total)
    return 1 if total.failed or not total.passed else 0


if __name__ == "__main__":
    sys.exit(main())
