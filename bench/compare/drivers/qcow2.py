"""qcow2 files with ext4 on them, through qemu: qemu-nbd on /dev/nbdN where the kernel has nbd, qemu-storage-daemon's FUSE export and a
loop device elsewhere."""

import os
import shutil

import nbd_device
import server
from driver import Driver, copy_layers
from filesystem import OPTIONS, attach, detach
from ground import Failed, NotHere, call, unmount

DISK_BYTES = 8 << 30


class Qcow2(Driver):
    name = "qcow2"
    title = "qcow2 with ext4"
    by_block = True

    @property
    def how(self):
        way = "qemu-nbd and /dev/nbd" if nbd_device.available() else "qemu-storage-daemon's FUSE export and a loop device"
        return f"a qcow2 file (64 KiB clusters) on the image's, {way}, ext4 on it"

    def check(self, ground):
        for tool in ("qemu-img", "qemu-nbd" if nbd_device.available() else "qemu-storage-daemon"):
            if not shutil.which(tool):
                raise NotHere(f"no {tool}")
        if not nbd_device.available() and not os.path.exists("/dev/fuse"):
            raise NotHere("the kernel has neither nbd nor FUSE")

    def make_file(self, file, below=None, size=None):
        options = ["-b", below, "-F", "qcow2"] if below else []
        call("qemu-img", "create", "-q", "-f", "qcow2", *options, file, *([size] if size else []))

    def import_image(self, image, folders):
        below = None
        for number, folder in enumerate(folders):
            file = self.home / f"{image.name}-{number}.qcow2"
            self.make_file(file, below, None if below else max(DISK_BYTES, image.size_bytes))
            device = Device(self, file)
            try:
                if not below:
                    call(*OPTIONS["ext4"][0], device.path)
                path = self.home / "fill"
                path.mkdir(exist_ok=True)
                call("mount", device.path, path)
                try:
                    copy_layers([folder], path)
                finally:
                    unmount(path)
            finally:
                device.close()
            below = file
        return below

    def make(self, container, base):
        container.file = self.home / f"{container.name}.qcow2"
        self.make_file(container.file, base)

    def start(self, container):
        container.device = Device(self, container.file)
        call("mount", "-o", "discard", container.device.path, container.path)

    def stop(self, container):
        unmount(container.path)
        device = getattr(container, "device", None)
        if device:
            device.close()
            container.device = None

    def delete(self, container):
        container.file.unlink()

    def commit(self, container, name):
        self.stop(container)
        return container.file

    def drop(self, base):
        base.unlink()

    def stored_bytes(self, container):
        os.sync()
        return os.stat(container.file).st_blocks * 512

    def processes(self):
        return server.pids_of(str(self.home))

    def delete_image(self, image, base):
        for number in range(len(image.layers)):
            (self.home / f"{image.name}-{number}.qcow2").unlink()


class Device:
    """A qcow2 file as a block device."""

    def __init__(self, driver, file):
        self.server = None
        if nbd_device.available():
            self.path = nbd_device.connect(file)
            return
        disk = file.with_suffix(".disk")
        disk.touch()
        node = f"driver=qcow2,node-name=disk,discard=unmap,file.driver=file,file.filename={file},file.aio=io_uring"
        pid = file.with_suffix(".pid")
        self.server = server.Server(["qemu-storage-daemon", "--blockdev", node, "--export",
                                     f"type=fuse,id=disk,node-name=disk,mountpoint={disk},writable=on", "--pidfile", pid],
                                    pid, file.with_suffix(".log"))
        self.disk = disk
        try:
            self.path = attach(disk, direct=False)  # what mkfs writes with direct I/O through FUSE is not what mount reads
        except Failed:
            self.server.stop()
            raise

    def close(self):
        if not self.server:
            return nbd_device.disconnect(self.path)
        detach(self.path)
        self.server.stop()
        self.disk.unlink(missing_ok=True)


def drivers():
    return [Qcow2()]
