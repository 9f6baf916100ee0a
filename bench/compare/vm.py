"""The comparison inside Debian's own kernel, emulated: for what the host's kernel lacks (nbd, dm-thin). See tests/vm/run.

The machine runs this program with --in-vm on an empty disk, and hands its report out as lines of text. Nothing that an emulated machine
measures in seconds means anything; its counts, bytes and ratios do.
"""

import base64
import json
import os
import subprocess
import sys
import textwrap
import zlib

from ground import MIB, Failed, call

BEGIN, END = "-----BEGIN REPORT-----", "-----END REPORT-----"
MODULES = "nbd loop fuse overlay xfs btrfs dm-thin-pool"
# What an emulated machine can do within an hour, and the largest file it is done to.
WORKLOADS = ("append", "change-4k", "chmod", "mmap", "rename", "hard-links", "log", "delete", "containers")
SIZE_MAX = 10 * MIB
LIMIT_S = 5400


def wants(workload, case, options):
    named = options.workloads is not None
    return (named or workload.name in WORKLOADS) and case.size_bytes <= SIZE_MAX and (named or case.name != "100")


def run(options, root, screen):
    """The machine's report, as report.as_json made it there, without times."""
    command = [root / "tests/vm/run", sys.executable if sys.executable.startswith("/usr/") else "/usr/bin/python3", root / "bench/compare/run",
               "--in-vm", "--quick", "--repeats", str(options.repeats), "--seed", str(options.seed), "--cowl",
               options.cowl or root / "build/release/bin/cowl"]
    for name in ("drivers", "workloads"):
        if getattr(options, name):
            command += [f"--{name}", getattr(options, name)]
    environment = {**os.environ, "VM_MODULES": MODULES, "VM_DISK": "60G", "VM_MEMORY_MB": "6144", "VM_TIMEOUT_S": str(LIMIT_S)}
    process = subprocess.Popen(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, errors="replace", env=environment,
                               cwd=root)
    packed, inside = [], False
    for line in process.stdout:
        line = line.strip("\r\n")
        if line in (BEGIN, END):
            inside = line == BEGIN
        elif inside:
            packed.append(line)
        else:
            screen.line(line)
    status = process.wait()
    if not packed:
        raise Failed(f"--vm: the emulated machine ended with status {status} and gave no report")
    return without_times(json.loads(zlib.decompress(base64.b64decode("".join(packed)))))


def hand_out(document):
    """In the machine: to its console."""
    print(BEGIN)
    print("\n".join(textwrap.wrap(base64.b64encode(zlib.compress(json.dumps(document).encode())).decode(), 76)))
    print(END, flush=True)


def make_ground():
    """In the machine: a file system on its empty disk, and the folder where it is mounted."""
    call("mkfs.ext4", "-q", "/dev/vda")
    os.makedirs("/mnt/compare", exist_ok=True)
    os.makedirs("/run/lock", exist_ok=True)  # where qemu-nbd -c keeps its socket
    call("mount", "/dev/vda", "/mnt/compare")
    return "/mnt/compare"


def without_times(document):
    """Each figure in seconds becomes its ratio to the lowest median of its case."""
    for case in document["cases"]:
        figures = {name for samples in case["samples"].values() for sample in samples for name in sample if name.endswith("_s")}
        for name in figures:
            medians = [entry[name]["median"] for entry in case["figures"].values() if entry.get(name)]
            best = min((value for value in medians if value > 0), default=1)
            for samples in case["samples"].values():
                for sample in samples:
                    if name in sample:
                        sample[name.removesuffix("_s") + "_ratio"] = sample.pop(name) / best
        case["main"] = case["main"].removesuffix("_s") + "_ratio" if case["main"].endswith("_s") else case["main"]
        del case["figures"]
    document["host"]["emulated"] = True
    return document
