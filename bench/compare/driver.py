"""What a storage driver has to be able to do. Each is one file in drivers/ with a function `drivers()` that returns its instances.

A driver keeps all it has below `self.home`. What a host cannot run raises NotHere in `check`, with the reason.
"""

import contextlib
import os
import pathlib
import shutil
import stat
import time

from ground import call, tree_bytes, unmount


class Container:
    """A writable layer on an image, mounted at `path`."""

    def __init__(self, name, path, image):
        self.name = name
        self.path = pathlib.Path(path)
        self.image = image


class Driver:
    name = ""
    title = ""
    how = ""  # what really serves the files, for the report
    by_block = False  # copies blocks on write, not whole files: which curve of the model it follows
    can_commit = True  # makes layers of containers
    is_floor = False  # nothing is shared, all was copied before the work began: shown, but no contestant

    def __init__(self):
        self.ground = None
        self.home = None
        self.images = {}

    # What a driver has to write.

    def check(self, ground):
        """Raises NotHere where the host cannot run it. Before anything is made."""

    def import_image(self, image, folders):
        """Makes IMAGE of its layers' FOLDERS, lowest first. What it returns is passed to `make` as `base`."""
        raise NotImplementedError

    def make(self, container, base):
        """Makes the writable layer."""
        raise NotImplementedError

    def start(self, container):
        """Mounts it at container.path, an empty folder; again after a stop."""
        raise NotImplementedError

    def stop(self, container):
        """Unmounts it; the layer stays."""
        unmount(container.path)

    def delete(self, container):
        """Removes the stopped container's layer."""
        raise NotImplementedError

    def stored_bytes(self, container):
        """What the writable layer takes on the disk, its share of metadata included."""
        raise NotImplementedError

    def commit(self, container, name):
        """The container ends, its layer becomes the top of an image: what `make` takes as `base`."""
        raise NotImplementedError

    def drop(self, base):
        """Removes the top layer of what `commit` returned. Nothing builds on it."""

    def delete_image(self, image, base):
        """Removes the image. All its containers are gone."""

    def processes(self):
        """Processes that serve it in userspace."""
        return []

    def give_back(self, container):
        """What tells the layers below of freed space (fstrim), where that is needed."""

    def close(self):
        """Ends what runs. Everything is unmounted."""

    # What all have.

    def open(self, ground):
        self.ground = ground
        self.home = ground.path("drivers", self.name)
        self.home.mkdir(parents=True)
        self.images = {}

    def base(self, image):
        if image.name not in self.images:
            folders = self.ground.tree(image)
            self.ground.screen.step(f"preparing: {image.name} for {self.name}")
            self.images[image.name] = (image, self.import_image(image, folders))
        return self.images[image.name][1]

    def forget(self, image):
        found = self.images.pop(image.name, None)
        if found:
            self.delete_image(*found)

    def create(self, image, name):
        """A container that is not started."""
        base = self.base(image)
        container = self.new_container(image, name)
        try:
            self.make(container, base)
        except BaseException:
            with contextlib.suppress(Exception):  # it may be half made; what is told is why
                self.remove(container)
            raise
        return container

    def remove(self, container):
        self.stop(container)
        self.delete(container)
        if container.path.is_dir():
            container.path.rmdir()

    def new_container(self, image, name):
        """Only its name and the empty folder where it will be mounted."""
        path = self.ground.path("mnt", self.name, name)
        path.mkdir(exist_ok=True)
        return Container(name, path, image)

    @contextlib.contextmanager
    def container(self, image, name="c"):
        """A started one, until the end of the block. What making and starting it took is in its start_s."""
        self.base(image)
        begin = time.perf_counter()
        container = self.create(image, name)
        try:
            self.start(container)
            container.start_s = time.perf_counter() - begin
            yield container
        finally:
            self.remove(container)

    def disk_bytes(self):
        """All that the driver takes on the host's disk."""
        os.sync()
        return tree_bytes(self.home)


def copy_layers(folders, target):
    """The content of layers, lowest first, merged into TARGET; overlayfs whiteouts (character devices 0:0) delete."""
    for folder in folders:
        whiteouts = [os.path.relpath(os.path.join(parent, file), folder) for parent, _, files in os.walk(folder) for file in files
                     if is_whiteout(os.path.join(parent, file))]
        for path in whiteouts:
            remove_tree(os.path.join(target, path))
        call("cp", "-a", "--remove-destination", f"{folder}/.", target)
        for path in whiteouts:
            os.unlink(os.path.join(target, path))


def is_whiteout(path):
    status = os.lstat(path)
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def remove_tree(path):
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)
