"""Docker's devicemapper driver: ext4 on thin volumes of a dm-thin pool, snapshots for containers. The pool is in a file on a loop device."""

import os

from driver import Driver, copy_layers
from filesystem import OPTIONS, attach, detach
from ground import NotHere, call, unmount

POOL_BYTES = 40 << 30
DISK_BYTES = 8 << 30
CHUNK_SECTORS = 128  # 64 KiB: Docker's
SECTOR = 512


def dmsetup(verb, *arguments):
    """Nobody waits for udev: entries of /dev/mapper are not used."""
    return call("dmsetup", verb, "--noudevsync", *arguments)


def node(name):
    """The kernel's own name of a device."""
    return "/dev/dm-" + call("dmsetup", "info", "-c", "--noheadings", "-o", "minor", name).strip()


class DeviceMapper(Driver):
    name = "devicemapper"
    title = "Docker's devicemapper"
    how = "ext4 on thin volumes (dm-thin, 64 KiB chunks), the pool in a file on a loop device"
    by_block = True

    def check(self, ground):
        call("modprobe", "-q", "dm-thin-pool", check=False)
        if "thin-pool" not in call("dmsetup", "targets", check=False):
            raise NotHere("the kernel has no dm-thin (module dm-thin-pool)")

    def open(self, ground):
        super().open(ground)
        self.next_id = 0
        self.sizes = {}
        self.loops = []
        for part, size in (("metadata", 512 << 20), ("data", POOL_BYTES)):
            file = self.home / part
            with open(file, "wb") as disk:
                disk.truncate(size)
            self.loops.append(attach(file))
        self.pool = f"cowl-compare-{os.getpid()}"
        dmsetup("create", self.pool, "--table",
             f"0 {POOL_BYTES // SECTOR} thin-pool {self.loops[0]} {self.loops[1]} {CHUNK_SECTORS} 0 1 skip_block_zeroing")

    def message(self, text):
        call("dmsetup", "message", self.pool, "0", text)

    def activate(self, identity, size):
        name = f"{self.pool}-{identity}"
        dmsetup("create", name, "--table", f"0 {size // SECTOR} thin {node(self.pool)} {identity}")
        return name

    def import_image(self, image, folders):
        size = max(DISK_BYTES, image.size_bytes)
        below = None
        for folder in folders:
            identity = self.next_id
            self.next_id += 1
            self.message(f"create_thin {identity}" if below is None else f"create_snap {identity} {below}")
            name = self.activate(identity, size)
            if below is None:
                call(*OPTIONS["ext4"][0], node(name))
            path = self.home / "fill"
            path.mkdir(exist_ok=True)
            call("mount", node(name), path)
            copy_layers([folder], path)
            unmount(path)
            dmsetup("remove", "--retry", name)
            below = identity
        self.sizes[below] = size
        return below

    def make(self, container, base):
        container.identity = self.next_id
        container.size = self.sizes[base]
        self.next_id += 1
        self.message(f"create_snap {container.identity} {base}")

    def start(self, container):
        container.device = self.activate(container.identity, container.size)
        call("mount", "-o", "discard", node(container.device), container.path)

    def stop(self, container):
        unmount(container.path)
        dmsetup("remove", "--retry", container.device)

    def delete(self, container):
        self.message(f"delete {container.identity}")

    def commit(self, container, name):
        self.stop(container)
        self.sizes[container.identity] = container.size
        return container.identity

    def drop(self, base):
        self.message(f"delete {base}")

    def used_bytes(self):
        os.sync()
        fields = call("dmsetup", "status", self.pool).split()
        return int(fields[5].split("/")[0]) * CHUNK_SECTORS * SECTOR  # used/total data blocks

    def stored_bytes(self, container):
        return self.used_bytes()

    def disk_bytes(self):
        return self.used_bytes()

    def close(self):
        dmsetup("remove", "--retry", self.pool)
        for loop in self.loops:
            detach(loop)


def drivers():
    return [DeviceMapper()]
