"""Docker's zfs driver: a data set for the image, clones of a snapshot for containers. The pool is in a file."""

import os
import shutil

from driver import Driver, copy_layers
from ground import NotHere, call

POOL_BYTES = 40 << 30


class Zfs(Driver):
    name = "zfs"
    title = "Docker's zfs"
    how = "zfs clones of snapshots, the pool in a file"
    by_block = True
    def check(self, ground):
        call("modprobe", "-q", "zfs", check=False)
        if not os.path.exists("/dev/zfs"):
            raise NotHere("the kernel has no zfs")
        if not shutil.which("zpool"):
            raise NotHere("no zpool (package zfsutils-linux)")

    def open(self, ground):
        super().open(ground)
        file = self.home / "pool"
        with open(file, "wb") as disk:
            disk.truncate(POOL_BYTES)
        self.pool = f"cowlcompare{os.getpid()}"
        call("zpool", "create", "-m", "none", self.pool, file)

    def import_image(self, image, folders):
        name = below = None
        for number, folder in enumerate(folders):
            name = f"{self.pool}/{image.name}-{number}"
            path = self.home / "fill" / f"{image.name}-{number}"
            options = ["-o", f"mountpoint={path}"]
            call("zfs", "clone", *options, below, name) if below else call("zfs", "create", "-p", *options, name)
            copy_layers([folder], path)
            below = f"{name}@layer"
            call("zfs", "snapshot", below)
        return below

    def make(self, container, base):
        container.data_set = f"{self.pool}/{container.name}"
        call("zfs", "clone", "-o", "mountpoint=legacy", base, container.data_set)

    def start(self, container):
        call("mount", "-t", "zfs", container.data_set, container.path)

    def delete(self, container):
        call("zfs", "destroy", container.data_set)

    def commit(self, container, name):
        self.stop(container)
        call("zfs", "snapshot", f"{container.data_set}@layer")
        return f"{container.data_set}@layer"

    def drop(self, base):
        call("zfs", "destroy", "-r", base.partition("@")[0])

    def used_bytes(self):
        call("zpool", "sync", self.pool)
        return int(call("zpool", "list", "-Hp", "-o", "allocated", self.pool))

    def stored_bytes(self, container):
        return self.used_bytes()

    def disk_bytes(self):
        return self.used_bytes()

    def delete_image(self, image, base):
        call("zfs", "destroy", "-R", f"{self.pool}/{image.name}-0")

    def close(self):
        call("zpool", "destroy", "-f", self.pool)


def drivers():
    return [Zfs()]
