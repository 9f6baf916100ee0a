"""Docker's btrfs driver: a subvolume for each layer, snapshots for containers. On a loop device where the host's disk is not btrfs."""

import os

from driver import Driver, copy_layers
from filesystem import LoopFileSystem
from ground import call, used_bytes


class Btrfs(Driver):
    name = "btrfs"
    title = "Docker's btrfs"
    how = "subvolumes and snapshots, on btrfs on a loop device"
    by_block = True

    def check(self, ground):
        LoopFileSystem.check(ground, "btrfs")

    def open(self, ground):
        super().open(ground)
        self.files = LoopFileSystem(ground, self.home, "btrfs")
        self.home = self.files.mount
        (self.home / "subvolumes").mkdir()

    def import_image(self, image, folders):
        below = None
        for number, folder in enumerate(folders):
            subvolume = self.home / "subvolumes" / f"{image.name}-{number}"
            if below:
                call("btrfs", "subvolume", "snapshot", below, subvolume)
            else:
                call("btrfs", "subvolume", "create", subvolume)
            copy_layers([folder], subvolume)
            below = subvolume
        return below

    def make(self, container, base):
        container.subvolume = self.home / "subvolumes" / container.name
        call("btrfs", "subvolume", "snapshot", base, container.subvolume)

    def start(self, container):
        call("mount", "--bind", container.subvolume, container.path)

    def delete(self, container):
        call("btrfs", "subvolume", "delete", "--commit-after", container.subvolume)

    def commit(self, container, name):
        self.stop(container)
        return container.subvolume

    def drop(self, base):
        call("btrfs", "subvolume", "delete", "--commit-after", base)

    def stored_bytes(self, container):
        os.sync()
        return used_bytes(self.home)

    def disk_bytes(self):
        call("btrfs", "subvolume", "sync", self.home)  # deleted ones are cleaned in the background
        os.sync()
        return used_bytes(self.home)

    def delete_image(self, image, base):
        for number in reversed(range(len(image.layers))):
            call("btrfs", "subvolume", "delete", "--commit-after", self.home / "subvolumes" / f"{image.name}-{number}")

    def close(self):
        self.files.close()


def drivers():
    return [Btrfs()]
