"""Ten rewrites of a large file, in place or by truncate-and-write, then it is deleted and the space is given back."""

import os

from ground import GIB, MIB, Failed, Image, Measure, call, make_file
from workload import Case, Workload, size_name

ROUNDS = 10
PIECE = 1 << 20


class Rewrites(Workload):
    number = 100
    name = "rewrites"
    title = "rewrite a file ten times, then delete and trim it"

    def cases(self, ground):
        return [Case(f"{size_name(size)}, {way}", size, quick=size <= 100 * MIB) for size in (100 * MIB, GIB)
                for way in ("in place", "truncate and write")]

    def image(self, ground, case):
        return Image(f"rewrites-{case.size_bytes >> 20}", lambda folder: make_file(folder / "data", case.size_bytes, ground.seed),
                     size_bytes=4 * case.size_bytes + 2 * GIB)

    def run(self, ground, driver, case):
        with driver.container(self.image(ground, case)) as container:
            path = container.path / "data"
            before = driver.stored_bytes(container)
            with Measure(ground, driver, container) as measure:
                for number in range(ROUNDS):
                    self.rewrite(path, case, number)
            piece = bytes([ROUNDS]) * PIECE
            with open(path, "rb", buffering=0) as file:
                while found := file.read(PIECE):
                    if found != piece:
                        raise Failed(f"rewrites on {driver.name}: {path} does not hold what was written last")
            path.unlink()
            call("sync", "-f", container.path)
            driver.give_back(container)
            return measure.figures | {"left_bytes": max(0, driver.stored_bytes(container) - before)}

    def rewrite(self, path, case, number):
        piece = bytes([number + 1]) * PIECE
        with open(path, "r+b" if case.name.endswith("in place") else "wb", buffering=0) as file:
            for _ in range(case.size_bytes // PIECE):
                file.write(piece)
            os.fsync(file.fileno())

    def why(self, case, winner, loser):
        return "ten times the file goes to the disk in any case; what differs is the first copy and the way to the disk"


def workloads():
    return [Rewrites()]
