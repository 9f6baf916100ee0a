"""The same 200 MiB read from many containers: what the page cache holds for it."""

import contextlib
import hashlib

from ground import MIB, Failed, Image, Measure, drop_caches, make_file
from workload import Case, Workload

READ_BYTES = 200 * MIB


class PageCache(Workload):
    number = 70
    name = "page-cache"
    title = "read the same 200 MiB in several containers; what counts is the page cache it takes"

    def cases(self, ground):
        return [Case(count, main="cache_bytes", quick=count != "50", repeats=1) for count in ("1", "10", "50")]  # memory varies little

    def image(self, ground, case):
        return Image("cached", lambda folder: make_file(folder / "data", READ_BYTES, ground.seed))

    def run(self, ground, driver, case):
        image = self.image(ground, case)
        with contextlib.ExitStack() as stack:
            containers = [stack.enter_context(driver.container(image, f"c{number}")) for number in range(int(case.name))]
            drop_caches()
            digests = set()
            with Measure(ground, driver) as measure:
                for container in containers:
                    digest = hashlib.sha256()
                    with open(container.path / "data", "rb", buffering=0) as file:
                        while piece := file.read(1 << 20):
                            digest.update(piece)
                    digests.add(digest.hexdigest())
            if len(digests) != 1:
                raise Failed(f"page-cache on {driver.name}: containers of one image read different data")
            return measure.figures

    def why(self, case, winner, loser):
        return "overlayfs shows every container the same inode, and so the same pages; a disk of its own has pages of its own"


def workloads():
    return [PageCache()]
