"""overlayfs in Docker's own directory layout: for each layer diff, link, lower, work; for a container merged, and its -init layer.

Layout and mount options are those of Docker's overlay2 driver: short names in l/, lowerdir from top to bottom.
"""

import os
import secrets
import shutil
import string

from driver import Driver
from ground import NotHere, call, mounted, tree_bytes, unmount

INIT_FILES = ("etc/hosts", "etc/hostname", "etc/resolv.conf", ".dockerenv")  # what Docker's -init layer has


class Overlay2(Driver):
    def __init__(self, name, title, options):
        super().__init__()
        self.name = name
        self.title = title
        self.options = options
        self.how = f"overlayfs on the host's file system, {options}"

    def check(self, ground):
        probe = ground.path("probe", self.name)
        for part in ("l", "u", "w", "m"):
            (probe / part).mkdir(parents=True)
        try:
            call("mount", "-t", "overlay", "overlay", "-o", f"lowerdir={probe}/l,upperdir={probe}/u,workdir={probe}/w,{self.options}", probe / "m")
        except Exception as error:
            raise NotHere(f"overlayfs with {self.options} cannot be mounted: {error}") from None
        unmount(probe / "m")

    def new_layer(self, below):
        """BELOW: short names of the layers under it, top first."""
        identity = secrets.token_hex(32)
        link = "".join(secrets.choice(string.ascii_uppercase + string.digits) for _ in range(26))
        folder = self.home / identity
        (folder / "diff").mkdir(parents=True)
        (self.home / "l").mkdir(exist_ok=True)
        os.symlink(f"../{identity}/diff", self.home / "l" / link)
        (folder / "link").write_text(link, encoding="ascii")
        if below:
            (folder / "lower").write_text(":".join(f"l/{name}" for name in below), encoding="ascii")
            (folder / "work").mkdir()
        return folder, link

    def import_image(self, image, folders):
        below = []
        for source in folders:
            folder, link = self.new_layer(below)
            call("cp", "-a", f"{source}/.", folder / "diff")
            below.insert(0, link)
        return below

    def make(self, container, base):
        init, init_link = self.new_layer(base)
        for name in INIT_FILES:
            path = init / "diff" / name
            path.parent.mkdir(exist_ok=True)
            path.touch()
        container.init = init
        container.layer, _ = self.new_layer([init_link, *base])
        (container.layer / "merged").mkdir()

    def start(self, container):
        below = (container.layer / "lower").read_text(encoding="ascii")
        lower = ":".join(f"{self.home}/{name}" for name in below.split(":"))
        merged = container.layer / "merged"
        call("mount", "-t", "overlay", "overlay", "-o",
             f"lowerdir={lower},upperdir={container.layer}/diff,workdir={container.layer}/work,index=off,{self.options}", merged)
        call("mount", "--bind", merged, container.path)  # where all drivers show a container

    def stop(self, container):
        unmount(container.path)
        if mounted(container.layer / "merged"):
            unmount(container.layer / "merged")

    def delete(self, container):
        for folder in (container.layer, container.init):
            (self.home / "l" / (folder / "link").read_text(encoding="ascii")).unlink()
            shutil.rmtree(folder)

    def commit(self, container, name):
        self.stop(container)
        below = [link for link in (container.layer / "lower").read_text(encoding="ascii").replace("l/", "").split(":")][1:]  # without -init
        folder, link = self.new_layer(below)
        (folder / "diff").rmdir()
        (container.layer / "diff").rename(folder / "diff")
        (container.layer / "diff").mkdir()
        self.delete(container)
        return [link, *below]

    def drop(self, base):
        self.remove_layer(base[0])

    def stored_bytes(self, container):
        os.sync()
        return tree_bytes(container.layer / "diff")

    def delete_image(self, image, base):
        for link in base:
            self.remove_layer(link)

    def remove_layer(self, link):
        path = self.home / "l" / link
        folder = path.resolve().parent
        path.unlink()
        shutil.rmtree(folder)


def drivers():
    return [Overlay2("overlay2", "Docker's overlay2", "metacopy=off,redirect_dir=off"),
            Overlay2("overlay2-metacopy", "overlay2 with metacopy", "metacopy=on,redirect_dir=on")]
