"""Changes of names: a directory of the image is renamed, a file of it gets hard links."""

import os

from ground import MIB, Failed, Image, Measure, call, file_hash, make_file
from workload import Case, Workload

FILES, FILE_BYTES = 400, 64 << 10


def make_folder(folder, seed):
    (folder / "directory").mkdir()
    for number in range(FILES):
        make_file(folder / "directory" / f"file{number}", FILE_BYTES, seed + number)


def sync_folder(path):
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(descriptor)
    os.close(descriptor)


class RenameDirectory(Workload):
    number = 23
    name = "rename"
    title = "rename a directory of the image (mv; 400 files of 64 KiB)"

    def cases(self, ground):
        return [Case("25 MiB", FILES * FILE_BYTES)]

    def image(self, ground, case):
        return Image("directory", lambda folder: make_folder(folder, ground.seed))

    def run(self, ground, driver, case):
        with driver.container(self.image(ground, case)) as container:
            with Measure(ground, driver, container) as measure:
                call("mv", container.path / "directory", container.path / "renamed")
                call("sync", "-f", container.path)
            original = ground.tree(container.image)[0] / "directory"
            for number in range(FILES):
                if file_hash(container.path / "renamed" / f"file{number}") != file_hash(original / f"file{number}"):
                    raise Failed(f"rename on {driver.name}: file{number} holds other data")
            return measure.figures

    def why(self, case, winner, loser):
        return f"without redirect_dir overlayfs refuses to rename a directory of a lower layer, and mv copies it; {winner.name} changes a name"


class HardLinks(Workload):
    number = 24
    name = "hard-links"
    title = "ten hard links to a file of the image"

    def cases(self, ground):
        return [Case("10 MiB", 10 * MIB), Case("100 MiB", 100 * MIB)]

    def image(self, ground, case):
        return Image(f"links-{case.size_bytes >> 20}", lambda folder: make_file(folder / "data", case.size_bytes, ground.seed))

    def run(self, ground, driver, case):
        with driver.container(self.image(ground, case)) as container:
            with Measure(ground, driver, container) as measure:
                for number in range(10):
                    os.link(container.path / "data", container.path / f"link{number}")
                sync_folder(container.path)
            if os.stat(container.path / "link9").st_ino != os.stat(container.path / "data").st_ino:
                raise Failed(f"hard-links on {driver.name}: a link is another file")
            return measure.figures

    def why(self, case, winner, loser):
        return f"a link to a file of a lower layer copies it up first; {winner.name} adds names"


def workloads():
    return [RenameDirectory(), HardLinks()]
