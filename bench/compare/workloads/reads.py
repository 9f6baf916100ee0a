"""Reads of what the image brought: in sequence and at random, cold and warm, and the stat of many small files."""

import os
import random

from ground import GIB, MIB, Failed, Image, Measure, drop_caches, expect, file_hash, make_file
from workload import Case, Workload

FILES = 5000
RANDOM_READS = 2000


def sequential(container, seed):
    with open(container.path / "data", "rb", buffering=0) as file:
        while file.read(1 << 20):
            pass


def at_random(container, seed):
    order = random.Random(seed)
    with open(container.path / "data", "rb", buffering=0) as file:
        blocks = os.fstat(file.fileno()).st_size // 4096
        for _ in range(RANDOM_READS):
            if len(os.pread(file.fileno(), 4096, order.randrange(blocks) * 4096)) != 4096:
                raise Failed(f"{container.path}/data: a short read")


def stat_all(container, seed):
    found = 0
    for parent, _, files in os.walk(container.path / "files"):
        for name in files:
            found += os.stat(os.path.join(parent, name)).st_size
    if found != FILES * 100:
        raise Failed(f"{container.path}/files: {found} bytes, not {FILES * 100}")


KINDS = {"sequential": sequential, "random 4 KiB": at_random, "stat of 5000 files": stat_all}


class Reads(Workload):
    number = 80
    name = "reads"
    title = "read what the image brought"

    def cases(self, ground):
        return [Case(f"{kind}, {heat}") for kind in KINDS for heat in ("cold", "warm")]

    def image(self, ground, case):
        return Image("reads", lambda folder: self.build(ground, folder))

    def build(self, ground, folder):
        make_file(folder / "data", 100 * MIB if ground.quick else GIB, ground.seed)
        for number in range(FILES):
            path = folder / "files" / f"d{number // 100}" / f"f{number}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x" * 100)

    def run(self, ground, driver, case):
        kind, heat = case.name.split(", ")
        with driver.container(self.image(ground, case)) as container:
            if heat == "warm":
                expect(container.path / "data", file_hash(ground.tree(container.image)[0] / "data"), f"reads on {driver.name}")
                KINDS[kind](container, ground.seed)
            else:
                driver.stop(container)
                drop_caches()
                driver.start(container)
            with Measure(ground, driver) as measure:
                KINDS[kind](container, ground.seed)
            return measure.figures

    def why(self, case, winner, loser):
        if case.name.endswith("warm"):
            return "all of it is in the page cache: the drivers are the same but for noise"
        return f"each read that misses the cache goes the driver's whole way: {loser.name}: {loser.how}"


def workloads():
    return [Reads()]
