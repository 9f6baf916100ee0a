"""Where a comparison's files are, and how things are run, timed and counted in it.

Units: seconds, bytes. Everything lives below one folder on the file system that is compared (--dir); a run removes it again.
"""

import contextlib
import hashlib
import os
import pathlib
import random
import shutil
import subprocess
import tempfile
import time


KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


class Failed(Exception):
    """A driver or workload could not do its part; the text says what and where."""


class NotHere(Failed):
    """This host cannot run it; the text says why."""


def call(*command, check=True, **options):
    """Runs a tool to its end; what it printed."""
    done = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", **options)
    if check and done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise Failed(f"{' '.join(str(word) for word in command[:3])}: {'; '.join(lines[-2:]) if lines else f'status {done.returncode}'}")
    return done.stdout


def mounted(path):
    """os.path.ismount does not see a bind mount within one file system."""
    path = os.path.realpath(path).replace(" ", "\\040")
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return any(line.split()[4] == path for line in file)


def unmount(path):
    """A file system that something still uses for a moment (a process that ends) is given that moment."""
    for attempt in range(20):
        if not mounted(path):
            return
        try:
            return call("umount", path)
        except Failed:
            if attempt == 19:
                raise
            time.sleep(0.1)


def tree_bytes(folder):
    """What the files below FOLDER take on its disk, each once; nothing of what is mounted below."""
    device = os.stat(folder).st_dev
    seen, total = set(), 0
    for parent, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            status = os.lstat(os.path.join(parent, name))
            if status.st_dev != device:
                if name in folders:
                    folders.remove(name)
            elif status.st_ino not in seen:
                seen.add(status.st_ino)
                total += status.st_blocks * 512
    return total


def used_bytes(path):
    status = os.statvfs(path)
    return (status.f_blocks - status.f_bfree) * status.f_frsize


def file_hash(path):
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while piece := file.read(4 << 20):
            digest.update(piece)
    return digest.hexdigest()


def expect(path, digest, what):
    """Data is verified before its time counts."""
    found = file_hash(path)
    if found != digest:
        raise Failed(f"{what}: {path}: holds other data than was written (sha256 {found[:16]}, expected {digest[:16]})")


def make_file(path, size_bytes, seed):
    """SIZE_BYTES that do not compress and repeat nowhere, always the same for a seed."""
    base = bytearray(random.Random(seed).randbytes(1 << 20))
    with open(path, "wb", buffering=0) as file:
        for index in range(0, size_bytes, len(base)):
            for offset in range(0, len(base), 4096):
                base[offset:offset + 8] = (index + offset).to_bytes(8, "little")
            file.write(base[:min(len(base), size_bytes - index)])


class Disk:
    """The disk below a folder: what was written to it, as its driver counts."""

    def __init__(self, folder):
        device = os.stat(folder).st_dev
        path = os.path.realpath(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}")
        self.stat = os.path.join(path, "stat") if os.path.exists(os.path.join(path, "stat")) else None
        self.name = os.path.basename(path)

    def written_bytes(self):
        if not self.stat:
            return 0
        with open(self.stat, encoding="ascii") as file:
            return int(file.read().split()[6]) * 512


def memory_info():
    with open("/proc/meminfo", encoding="ascii") as file:
        return {line.split(":")[0]: int(line.split()[1]) * 1024 for line in file}


def cache_bytes():
    info = memory_info()
    return info["Cached"] + info["Buffers"]


def private_bytes(pids):
    """Memory that these processes have for themselves."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            total += sum(int(line.split()[1]) * 1024 for line in file if line.startswith(("Private_Clean", "Private_Dirty")))
    return total


def drop_caches():
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as file:
        file.write("3")


class Ground:
    def __init__(self, options, screen, root):
        self.options = options
        self.screen = screen
        self.root = root  # of the project
        self.seed = options.seed
        self.quick = options.quick
        base = options.dir or root / "build/bench"
        pathlib.Path(base).mkdir(parents=True, exist_ok=True)
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="compare-", dir=base))
        os.chmod(self.folder, 0o755)  # a database's own user must get through
        self.cache = root / "build/bench/compare-cache"  # what was fetched; kept for the next run
        self.cache.mkdir(parents=True, exist_ok=True)
        self.cowl = shutil.copy2(options.cowl or root / "build/release/bin/cowl", self.folder / "cowl")
        self.disk = Disk(self.folder)
        self.trees = {}

    def path(self, *names):
        path = self.folder.joinpath(*names)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def tree(self, image):
        """The layers of IMAGE as folders, made once."""
        if image.name not in self.trees:
            self.screen.step(f"preparing: the files of {image.name}")
            folders = []
            for number, build in enumerate(image.layers):
                folder = self.path("trees", image.name, str(number))
                shutil.rmtree(folder, ignore_errors=True)  # of an attempt that failed
                folder.mkdir(parents=True)
                build(folder)
                folders.append(folder)
            self.trees[image.name] = folders
        return self.trees[image.name]

    def forget_tree(self, image):
        if image.name in self.trees:
            del self.trees[image.name]
            shutil.rmtree(self.path("trees", image.name))

    def remove(self):
        shutil.rmtree(self.folder, ignore_errors=True)


class Image:
    """What a workload's containers start from: one function for each layer, lowest first, that fills a folder."""

    def __init__(self, name, *layers, size_bytes=0):
        self.name = name
        self.layers = layers
        self.size_bytes = size_bytes  # of a disk that holds it and what the workload adds; 0: the driver's choice


class Measure:
    """What some work costs: its time, and what it left behind.

    with Measure(ground, driver, container) as m: work
    m.figures: time_s (with the work's own fsync), stored_bytes (by which the writable layer grew), written_bytes (to the disk, until all
    was written back), server_bytes (private memory of the driver's processes), cache_bytes (by which the page cache grew).
    """

    def __init__(self, ground, driver, container=None):
        self.ground = ground
        self.driver = driver
        self.container = container
        self.figures = {}

    def __enter__(self):
        os.sync()
        self.stored = self.driver.stored_bytes(self.container) if self.container else 0
        self.written = self.ground.disk.written_bytes()
        self.cached = cache_bytes()
        self.begin = time.perf_counter()
        return self

    def __exit__(self, kind, *_):
        if kind:
            return
        took = time.perf_counter() - self.begin
        cached = cache_bytes()
        os.sync()
        self.figures = {"time_s": took, "written_bytes": self.ground.disk.written_bytes() - self.written,
                        "server_bytes": private_bytes(self.driver.processes()), "cache_bytes": max(0, cached - self.cached)}
        if self.container:
            self.figures["stored_bytes"] = max(0, self.driver.stored_bytes(self.container) - self.stored)
