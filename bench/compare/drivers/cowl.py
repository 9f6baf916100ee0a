"""cowl: devices on images of its store, with ext4, xfs or btrfs on them, and a volume, which bypasses copy-on-write.

Through `cowl serve` and `cowl attach`: /dev/nbdN where the kernel has nbd, FUSE and a loop device elsewhere.
"""

import json
import os

import server
from driver import Driver, copy_layers
from filesystem import LoopFileSystem, OPTIONS
from ground import Failed, call, mounted, tree_bytes, unmount

DISK_BYTES = 8 << 30  # of an image, unless it asks for more; blocks that were never written take nothing


class CowlStore(Driver):
    """What all have: a store, and its server."""

    by_block = True
    mount_options = "discard"

    def open(self, ground):
        super().open(ground)
        self.store = self.home / "store"
        self.cowl("init")
        self.server = server.Server([ground.cowl, "--store", self.store, "serve"], self.store / "nbd.sock", self.home / "serve.log")

    def cowl(self, *arguments):
        return call(self.ground.cowl, "--store", self.store, *arguments)

    def attach(self, name, path):
        device = self.cowl("attach", name).split()[0]
        try:
            call("mount", "-o", self.mount_options, device, path)
        except Failed:
            self.cowl("detach", name)
            raise
        return device

    def fill(self, name, work):
        path = self.home / "fill"
        path.mkdir(exist_ok=True)
        self.attach(name, path)
        try:
            work(path)
        finally:
            self.detach(name, path)

    def detach(self, name, path):
        unmount(path)
        self.cowl("detach", name)

    def make(self, container, base):
        self.cowl("create", base, container.name)

    def start(self, container):
        self.attach(container.name, container.path)

    def stop(self, container):
        if mounted(container.path):
            self.detach(container.name, container.path)

    def delete(self, container):
        self.cowl("rm", container.name)

    def commit(self, container, name):
        self.stop(container)
        self.cowl("commit", container.name, f"{name}-layer")
        return f"{name}-layer:latest"

    def drop(self, base):
        self.cowl("rmi", base)

    def stored_bytes(self, container):
        os.sync()
        devices = json.loads(self.cowl("ls", "--json"))["devices"]
        return next(device["disk_bytes"] for device in devices if device["name"] == container.name)

    def delete_image(self, image, base):
        self.cowl("rmi", base)

    def processes(self):
        return server.pids_of(str(self.store))

    def give_back(self, container):
        call("fstrim", container.path)

    def close(self):
        self.server.stop()


class CowlDevice(CowlStore):
    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.name = f"cowl-{kind}"
        self.title = f"cowl with {kind}"
        self.how = f"a cowl device with {kind} on it"
        if kind == "xfs":
            self.mount_options = "discard,nouuid"  # devices of one image have one UUID

    def check(self, ground):
        if self.kind != "ext4":
            LoopFileSystem.check(ground, self.kind)

    def import_image(self, image, folders):
        size = max(DISK_BYTES, image.size_bytes)
        first = f"{image.name}-0:latest"
        if self.kind == "ext4":
            self.cowl("import", folders[0], first, "--size", size)
        else:
            self.make_file_system(folders[0], first, size)
        below = first
        for number, folder in enumerate(folders[1:], 1):
            above = f"{image.name}-{number}:latest"
            self.cowl("create", below, "layer")
            self.fill("layer", lambda path, folder=folder: copy_layers([folder], path))
            self.cowl("commit", "layer", above)
            below = above
        return below

    def make_file_system(self, folder, image, size):
        self.cowl("create", "--empty", size, "layer")
        device = self.cowl("attach", "layer").split()[0]
        call(*OPTIONS[self.kind][0], device)
        self.cowl("detach", "layer")
        self.fill("layer", lambda path: copy_layers([folder], path))
        self.cowl("commit", "layer", image)

    def make(self, container, base):
        self.cowl("create", base, container.name)
        if self.kind == "btrfs":
            self.new_uuid(container.name)

    def new_uuid(self, name):
        """btrfs mounts no two devices of one UUID."""
        device = self.cowl("attach", name).split()[0]
        try:
            call("btrfstune", "-f", "-m", device)
        finally:
            self.cowl("detach", name)

    def delete_image(self, image, base):
        for number in reversed(range(len(image.layers))):
            self.cowl("rmi", f"{image.name}-{number}:latest")


class CowlVolume(CowlStore):
    """Its content is copied in when it is made, as into a Docker volume."""

    name = "cowl-volume"
    can_commit = False
    title = "a cowl volume"
    how = "a preallocated cowl volume with ext4 on it: no copy-on-write"
    by_block = False
    is_floor = True
    mount_options = "defaults"
    ROOM_BYTES = 768 << 20

    def import_image(self, image, folders):
        return folders

    def make(self, container, base):
        content = sum(tree_bytes(folder) for folder in base)
        self.cowl("volume", "create", container.name, "--size", (int(content * 1.3) + self.ROOM_BYTES) >> 20 << 20)
        device = self.cowl("attach", container.name).split()[0]
        call(*OPTIONS["ext4"][0], device)
        self.cowl("detach", container.name)
        self.fill(container.name, lambda path: copy_layers(base, path))

    def stored_bytes(self, container):
        os.sync()
        status = os.statvfs(container.path)  # all of it is allocated from the start: what the file system on it uses
        return (status.f_blocks - status.f_bfree) * status.f_frsize

    def delete_image(self, image, base):
        pass


def drivers():
    return [CowlDevice("ext4"), CowlDevice("xfs"), CowlDevice("btrfs"), CowlVolume()]
