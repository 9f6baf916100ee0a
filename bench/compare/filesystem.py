"""A file system of a kind the host's disk does not have: in a file on that disk, through a loop device with direct I/O."""

import contextlib
import os

from ground import Failed, NotHere, call, unmount

# What Docker's documentation and each project's own tools would make; discard lets deleted data go from the file too.
OPTIONS = {"ext4": (["mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0"], "discard"),
           "xfs": (["mkfs.xfs", "-q", "-m", "reflink=1"], "discard"),
           "btrfs": (["mkfs.btrfs", "-q", "-m", "single"], "discard")}


def known_to_kernel(kind):
    call("modprobe", "-q", kind, check=False)
    with open("/proc/filesystems", encoding="ascii") as file:
        return any(line.split()[-1] == kind for line in file)


class LoopFileSystem:
    SIZE_BYTES = 40 << 30  # sparse

    @staticmethod
    def check(ground, kind):
        if not known_to_kernel(kind):
            raise NotHere(f"the kernel has no {kind}")
        if not os.path.exists("/dev/loop-control"):
            raise NotHere("no loop devices (/dev/loop-control)")

    def __init__(self, ground, folder, kind):
        self.file = folder / f"{kind}.img"
        self.mount = folder / kind
        self.mount.mkdir()
        with open(self.file, "wb") as file:
            file.truncate(self.SIZE_BYTES)
        self.device = attach(self.file)
        make, options = OPTIONS[kind]
        try:
            call(*make, self.device)
            call("mount", "-o", options, self.device, self.mount)
        except Failed:
            detach(self.device)
            raise

    def close(self):
        unmount(self.mount)
        detach(self.device)


def attach(file, direct=True):
    """A loop device on FILE; with direct I/O, so that the data is not in the page cache twice."""
    return call("losetup", "--show", "-f", f"--direct-io={'on' if direct else 'off'}", file).strip()


def detach(device):
    with contextlib.suppress(Failed):
        call("losetup", "-d", device)
