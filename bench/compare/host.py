"""Facts about the host that a reader needs to judge the figures."""

import os
import platform
import subprocess
import sys
import time

from ground import call, memory_info


def version(*command):
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return ((done.stdout + done.stderr).strip().splitlines() or ["?"])[0]


def command():
    return " ".join(["bench/compare/run", *sys.argv[1:]])


def facts(ground, root):
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        cpu = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), platform.machine())
    file_system = call("findmnt", "-no", "FSTYPE,SOURCE", "-T", ground.folder).split()
    return {"cpu": cpu, "cpus": os.cpu_count(), "memory_mib": memory_info()["MemTotal"] >> 20, "kernel": platform.release(),
            "file_system": file_system[0], "disk": ground.disk.name, "cowl": version(str(ground.cowl), "--version"),
            "tools": {"qemu": version("qemu-img", "--version"), "mkfs.ext4": version("mkfs.ext4", "-V"), "mkfs.xfs": version("mkfs.xfs", "-V"),
                      "btrfs": version("btrfs", "--version"), "sqlite": version("sqlite3", "--version")},
            "command": command(), "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
