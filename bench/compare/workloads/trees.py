"""Many small files: a source tree is unpacked, a git checkout changes half of one, a tree that came with the image is deleted, something
small is compiled."""

import os
import random
import shutil
import subprocess
import tarfile

from ground import Failed, Image, Measure, call
from workload import Case, Workload

FILES = 2000
SOURCES = 12


def text(order, lines):
    return "".join(f"int v{order.randrange(1 << 30)} = {order.randrange(1 << 30)};\n" for _ in range(lines))


def make_sources(folder, seed, files=FILES):
    order = random.Random(seed)
    for number in range(files):
        path = folder / f"d{number % 40}" / f"f{number}.c"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text(order, order.randrange(10, 250)), encoding="ascii")


def git(folder, *arguments):
    call("git", "-C", folder, "-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "core.fsync=none", *arguments)


def make_repository(folder, seed):
    """A branch `other` in which half of the files differ."""
    make_sources(folder, seed)
    git(folder, "init", "-q", "-b", "first")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "first")
    git(folder, "checkout", "-q", "-b", "other")
    for number in range(0, FILES, 2):
        with open(folder / f"d{number % 40}" / f"f{number}.c", "a", encoding="ascii") as file:
            file.write("int changed;\n")
    git(folder, "commit", "-q", "-a", "-m", "other")
    git(folder, "checkout", "-q", "first")
    git(folder, "gc", "-q")


def make_program(folder, seed):
    for number in range(SOURCES):
        (folder / f"part{number}.c").write_text(text(random.Random(seed + number), 2000) + f"int part{number}(void) {{ return {number}; }}\n",
                                               encoding="ascii")
    calls = " + ".join(f"part{number}()" for number in range(SOURCES))
    declarations = "".join(f"int part{number}(void);\n" for number in range(SOURCES))
    (folder / "main.c").write_text(f"{declarations}int main(void) {{ return {calls}; }}\n", encoding="ascii")


class Tree(Workload):
    """Work on the tree that BUILD made, in the container's folder `tree`."""

    def __init__(self, number, name, title, build, work, check, reason):
        self.number = number
        self.name = name
        self.title = title
        self.build = build
        self.work = work
        self.check = check
        self.reason = reason

    def cases(self, ground):
        return [Case(f"{FILES} files" if self.build is not make_program else f"{SOURCES + 1} files")]

    def image(self, ground, case):
        return Image(self.name, lambda folder: self.make(ground, folder))

    def make(self, ground, folder):
        (folder / "tree").mkdir()
        self.build(folder / "tree", ground.seed)

    def run(self, ground, driver, case):
        with driver.container(self.image(ground, case)) as container:
            with Measure(ground, driver, container) as measure:
                self.work(container.path)
                call("sync", "-f", container.path)
            if not self.check(container.path):
                raise Failed(f"{self.name} on {driver.name}: the result is not what it should be")
            driver.give_back(container)
            return measure.figures | {"left_bytes": driver.stored_bytes(container)}

    def why(self, case, winner, loser):
        return self.reason


def archive_only(folder, seed):
    make_sources(folder / "sources", seed)
    with tarfile.open(folder / "sources.tar", "w") as archive:
        archive.add(folder / "sources", "sources")
    shutil.rmtree(folder / "sources")


def unpack(path):
    call("tar", "-xf", path / "tree/sources.tar", "-C", path)


def unpacked(path):
    return call("tar", "-df", path / "tree/sources.tar", "-C", path) == ""


def checkout(path):
    call("git", "-C", path / "tree", "-c", "safe.directory=*", "checkout", "-q", "other")


def checked_out(path):
    return call("git", "-C", path / "tree", "-c", "safe.directory=*", "status", "--porcelain") == "" \
        and (path / "tree/d0/f0.c").read_text(encoding="ascii").endswith("int changed;\n")


def delete(path):
    shutil.rmtree(path / "tree")


def deleted(path):
    return not os.path.lexists(path / "tree")


def compile_program(path):
    call("gcc", "-O1", "-o", path / "program", *sorted((path / "tree").glob("*.c")), env={**os.environ, "TMPDIR": str(path)})


def compiled(path):
    return subprocess.run([path / "program"], stdin=subprocess.DEVNULL).returncode == sum(range(SOURCES))


def workloads():
    return [Tree(50, "unpack", "unpack an archive that came with the image", archive_only, unpack, unpacked,
                 "new files only: nothing is copied up; what counts is the way to the disk"),
            Tree(51, "git-checkout", "git checkout of a branch in which half of the files differ", make_repository, checkout, checked_out,
                 "git writes changed files anew and removes the old ones: whiteouts and renames on the one side, plain blocks on the other"),
            Tree(52, "delete", "delete a tree that came with the image", make_sources, delete, deleted,
                 "overlayfs leaves a whiteout where the tree was, in one step a directory; a file system of its own frees each inode"),
            Tree(53, "compile", "compile and link a small C program", make_program, compile_program, compiled,
                 "the compiler's own time is nearly all of it")]
