"""Small changes of files that came from the image: a line appended, 4 KiB changed in the middle, the mode changed, a write through mmap.
The curve of file against block: what one small change costs, by the size of the file it is made to."""

import mmap
import os

from ground import GIB, MIB, Image, Measure, expect, file_hash, make_file
from workload import Case, Workload, size_name

SIZES = (MIB, 10 * MIB, 100 * MIB, GIB, 4 * GIB)
LINE = b"2026-01-01T00:00:00Z one more line\n"


def image_of(ground, size_bytes):
    return Image(f"file-{size_name(size_bytes).replace(' ', '').lower()}",
                 lambda folder: make_file(folder / "data", size_bytes, ground.seed), size_bytes=2 * size_bytes + 2 * GIB)


def append(path):
    with open(path, "ab", buffering=0) as file:
        file.write(LINE)
        os.fsync(file.fileno())


def change_middle(path):
    with open(path, "r+b", buffering=0) as file:
        file.seek(os.fstat(file.fileno()).st_size // 2)
        file.write(b"\xa5" * 4096)
        os.fsync(file.fileno())


def change_mode(path):
    os.chmod(path, 0o640)
    os.chown(path, 1, 1)
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def write_mapped(path):
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as view:
        middle = len(view) // 2
        view[middle:middle + 4096] = b"\x5a" * 4096
        view.flush()
        os.fsync(file.fileno())


class FileChange(Workload):
    def __init__(self, number, name, title, change, sizes):
        self.number = number
        self.name = name
        self.title = title
        self.change = change
        self.sizes = sizes
        self.expected = {}

    def cases(self, ground):
        # --quick: up to 100 MiB, but for the append to 1 GiB.
        most = GIB if self.change is append else 100 * MIB
        return [Case(size_name(size), size, quick=size <= most) for size in self.sizes]

    def image(self, ground, case):
        return image_of(ground, case.size_bytes)

    def digest(self, ground, case):
        """What the file holds afterwards: made once, on a copy outside of all drivers."""
        if case.size_bytes not in self.expected:
            copy = ground.path("expected")
            make_file(copy, case.size_bytes, ground.seed)
            self.change(copy)
            self.expected[case.size_bytes] = file_hash(copy)
            copy.unlink()
        return self.expected[case.size_bytes]

    def run(self, ground, driver, case):
        digest = self.digest(ground, case)
        with driver.container(self.image(ground, case)) as container:
            with Measure(ground, driver, container) as measure:
                self.change(container.path / "data")
            expect(container.path / "data", digest, f"{self.name} on {driver.name}")
            return measure.figures | {"start_s": container.start_s}

    def why(self, case, winner, loser):
        if loser.by_block:
            return f"{loser.name} copies blocks as well, in its own way: {loser.how}"
        return f"{loser.name} copies all {case.name} up before the first byte changes; {winner.name} writes the blocks that change"


def workloads():
    return [FileChange(10, "append", "append one line to a file of the image, and fsync", append, SIZES),
            FileChange(20, "change-4k", "change 4 KiB in the middle of a file, and fsync", change_middle, SIZES),
            FileChange(21, "chmod", "chmod and chown only, and fsync", change_mode, SIZES),
            FileChange(22, "mmap", "change 4 KiB through mmap, and msync", write_mapped, SIZES)]
