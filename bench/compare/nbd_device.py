"""/dev/nbdN for qemu-nbd, where the kernel has nbd."""

import functools
import glob
import os

from ground import Failed, call


@functools.cache
def available():
    call("modprobe", "-q", "nbd", check=False)
    return os.path.exists("/dev/nbd0")


def free_device():
    for path in sorted(glob.glob("/sys/block/nbd*"), key=lambda name: int(name.rpartition("nbd")[2])):
        if not os.path.exists(f"{path}/pid"):
            return "/dev/" + os.path.basename(path)
    raise Failed("all /dev/nbdN are taken")


def connect(file):
    device = free_device()
    call("qemu-nbd", "-f", "qcow2", "--discard=unmap", "--cache=writeback", "-c", device, file)
    return device


def disconnect(device):
    call("qemu-nbd", "-d", device)
