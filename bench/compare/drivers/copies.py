"""Whole copies: Docker's vfs driver (one for each container), the same with reflinks on xfs, and a plain directory as the floor."""

import os
import shutil

from driver import Driver, copy_layers
from filesystem import LoopFileSystem
from ground import call, tree_bytes, used_bytes


class Copies(Driver):
    """A container is a copy of the image's files, made when it starts."""

    copy = ("cp", "-a", "--reflink=never")

    def import_image(self, image, folders):
        base = self.home / "images" / image.name
        base.mkdir(parents=True)
        copy_layers(folders, base)
        return base

    def make(self, container, base):
        container.folder = self.home / "containers" / container.name
        container.folder.parent.mkdir(exist_ok=True)
        call(*self.copy, base, container.folder)

    def start(self, container):
        call("mount", "--bind", container.folder, container.path)

    def delete(self, container):
        shutil.rmtree(container.folder)

    def commit(self, container, name):
        self.stop(container)
        base = self.home / "images" / name
        container.folder.rename(base)
        return base

    def drop(self, base):
        shutil.rmtree(base)

    def stored_bytes(self, container):
        os.sync()
        return tree_bytes(container.folder)

    def delete_image(self, image, base):
        shutil.rmtree(base)


class Vfs(Copies):
    is_floor = True
    name = "vfs"
    title = "Docker's vfs"
    how = "a full copy of the image for each container, on the host's file system"


class Plain(Copies):
    """A Docker volume: what writes cost when nothing is shared. Starting it is not part of the comparison."""

    name = "plain"
    can_commit = False
    title = "a plain directory"
    is_floor = True
    how = "a directory of the host's file system, as a Docker volume: no layers, the floor"


class ReflinkXfs(Copies):
    name = "reflink-xfs"
    title = "reflink copies on xfs"
    how = "cp --reflink=always for each container, on xfs on a loop device"
    by_block = True
    copy = ("cp", "-a", "--reflink=always")

    def check(self, ground):
        LoopFileSystem.check(ground, "xfs")

    def open(self, ground):
        super().open(ground)
        self.files = LoopFileSystem(ground, self.home, "xfs")
        self.home = self.files.mount

    def stored_bytes(self, container):
        return used_bytes(self.home)  # copies share blocks: only the file system knows

    def disk_bytes(self):
        os.sync()
        return used_bytes(self.home)

    def close(self):
        self.files.close()


def drivers():
    return [Vfs(), Plain(), ReflinkXfs()]
