"""The four-instruction image of Docker's documentation: a base, `apt-get update`, `apt-get install nginx`, `COPY app`, and the clean-up of
apt's files in a step of its own or in the step that made them. What each layer adds, for files and for blocks.

Debian's base, lists and packages are fetched once, with the host's own apt sources, and kept; the steps read them from a folder.
"""

import contextlib
import lzma
import os
import pathlib
import re
import shutil
import time

from ground import GIB, MIB, Failed, Image, call, make_file, unmount
from workload import Case, Workload

APT = "DEBIAN_FRONTEND=noninteractive apt-get -q -o APT::Sandbox::User=root -o Acquire::Languages=none"
UPDATE = f"{APT} update"
INSTALL = f"{APT} install -y --no-install-recommends nginx"
CLEAN = "apt-get clean && rm -rf /var/lib/apt/lists/*"
COPY = None  # by the host, as COPY is by the builder
STEPS = {"clean-up in its own step": [("update", UPDATE), ("install", INSTALL), ("copy", COPY), ("clean", CLEAN)],
         "all in one step": [("install", f"{UPDATE} && {INSTALL} && {CLEAN}"), ("copy", COPY)]}


class Debian:
    """A root folder, and a mirror of just the lists and packages that the steps need, below the run's cache."""

    def __init__(self, ground):
        self.folder = ground.cache / "debian"
        self.root = self.folder / "root.tar"
        self.mirror = self.folder / "mirror"
        if not (self.folder / "complete").exists():
            ground.screen.line("fetching Debian's base and nginx, once")
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir()
            self.fetch()
            (self.folder / "complete").touch()

    def fetch(self):
        call("mmdebstrap", "--variant=apt", "--include=ca-certificates", "--skip=cleanup/apt/lists", "bookworm", self.root)
        work = self.folder / "work"
        work.mkdir()
        call("tar", "-xf", self.root, "-C", work)
        try:
            for name in ("/etc/resolv.conf", *map(str, pathlib.Path("/etc/apt").glob("apt.conf.d/*proxy*"))):
                if os.path.exists(name):
                    shutil.copy(name, work / name[1:])
            sources = work / "etc/apt/sources.list"  # the suite itself, without its updates: one set of lists
            lines = sources.read_text(encoding="utf-8").splitlines(keepends=True)
            sources.write_text("".join(line for line in lines if " bookworm " in line), encoding="utf-8")
            call("chroot", work, "sh", "-c", UPDATE)
            call("chroot", work, "sh", "-c", f"{APT} install -y --download-only --no-install-recommends nginx")
            self.make_mirror(work)
        finally:
            shutil.rmtree(work)

    def make_mirror(self, work):
        """The lists as the archive has them, and the packages that were fetched."""
        lists = work / "var/lib/apt/lists"
        release = next((path for path in lists.glob("*_dists_bookworm_InRelease")), None)
        if not release:
            raise Failed("image-build: the host's apt sources have no suite bookworm, which the image is made of")
        dists = self.mirror / "dists/bookworm"
        (dists / "main/binary-amd64").mkdir(parents=True)
        shutil.copy(release, dists / "InRelease")
        packages = dists / "main/binary-amd64/Packages.xz"
        address = call("chroot", work, "apt-get", "indextargets", "--format", "$(URI)", "Created-By: Packages").split()[0]
        call("chroot", work, "/usr/lib/apt/apt-helper", "download-file", f"{address}.xz", "/Packages.xz")
        shutil.copy(work / "Packages.xz", packages)
        with lzma.open(packages, "rt", encoding="utf-8") as file:
            wanted = {os.path.basename(line.split()[1]): line.split()[1] for line in file if line.startswith("Filename: ")}
        for package in (work / "var/cache/apt/archives").glob("*.deb"):
            name = re.sub(r"_\d+%3a", "_", package.name)  # apt keeps a version's epoch, the archive does not
            if name not in wanted:
                raise Failed(f"image-build: {name} is not in the suite's list: fetch again")
            path = self.mirror / wanted[name]
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(package, path)


class ImageBuild(Workload):
    number = 90
    name = "image-build"
    title = "build the four-instruction image: base, apt-get update, apt-get install nginx, COPY app"
    commits = True

    def cases(self, ground):
        return [Case(name, main="total_bytes", repeats=1) for name in STEPS]

    def image(self, ground, case):
        return Image("debian", lambda folder: self.unpack(ground, folder), size_bytes=4 * GIB)

    def unpack(self, ground, folder):
        debian = Debian(ground)
        call("tar", "-xf", debian.root, "-C", folder)
        for path in (folder / "etc/apt").rglob("*.list"):
            path.unlink()
        for path in (folder / "etc/apt/sources.list.d").glob("*.sources"):
            path.unlink()
        (folder / "etc/apt/sources.list").write_text("deb file:/mirror bookworm main\n", encoding="ascii")
        (folder / "mirror").mkdir()
        for path in (folder / "var/lib/apt/lists").glob("*_*"):
            path.unlink()

    def run(self, ground, driver, case):
        base = driver.base(self.image(ground, case))
        layers, figures = [], {"total_bytes": 0, "time_s": 0}
        before = driver.disk_bytes()
        try:
            for number, (step, command) in enumerate(STEPS[case.name]):
                begin = time.perf_counter()
                base = self.step(ground, driver, base, f"build{number}", command)
                layers.append(base)
                figures["time_s"] += time.perf_counter() - begin
                after = driver.disk_bytes()
                figures[f"{step}_bytes"] = max(0, after - before)
                before = after
            figures["total_bytes"] = sum(figures[f"{step}_bytes"] for step, _ in STEPS[case.name])
            self.check(ground, driver, base)
        finally:
            for layer in reversed(layers):
                driver.drop(layer)
        return figures

    def started(self, ground, driver, base, name):
        container = driver.new_container(None, name)
        driver.make(container, base)
        driver.start(container)
        return container

    def step(self, ground, driver, base, name, command):
        container = self.started(ground, driver, base, name)
        try:
            if command:
                in_root(ground, container.path, command)
            else:
                (container.path / "app").mkdir()
                make_file(container.path / "app/app", 5 * MIB, ground.seed)
            return driver.commit(container, name)
        except BaseException:
            with contextlib.suppress(Exception):
                driver.remove(container)
            raise

    def check(self, ground, driver, base):
        container = self.started(ground, driver, base, "built")
        try:
            in_root(ground, container.path, "nginx -t && test -s /app/app && ! ls /var/lib/apt/lists/*Packages* 2>/dev/null")
        finally:
            driver.remove(container)

    def why(self, case, winner, loser):
        return "what a later step deletes stays in the layer below, for files as for blocks; a changed file is stored whole or by its changed blocks"


def in_root(ground, root, command):
    """COMMAND in the container's root, with the mirror, /proc and /dev."""
    mounts = []
    try:
        for source, target in ((ground.cache / "debian/mirror", "mirror"), ("/proc", "proc"), ("/dev", "dev")):
            call("mount", "--bind", source, root / target)
            mounts.append(root / target)
        call("chroot", root, "sh", "-ec", command, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C"})
    finally:
        for path in reversed(mounts):
            unmount(path)


def workloads():
    return [ImageBuild()]
