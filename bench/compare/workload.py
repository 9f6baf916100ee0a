"""What a workload has to be able to do. Each is one file in workloads/ with a function `workloads()` that returns its instances."""

import dataclasses

from ground import GIB, KIB, MIB


@dataclasses.dataclass(frozen=True)
class Case:
    """One variant of a workload, e.g. a file size."""

    name: str
    size_bytes: int = 0
    quick: bool = True
    main: str = "time_s"  # the figure that decides who wins
    repeats: int = 0  # of one run; 0: as the run's options say


class Workload:
    number = 0
    name = ""
    title = ""
    floor_counts = False  # drivers that copy everything beforehand are contestants: the copying is what is measured
    commits = False  # it makes layers, which drivers that have none cannot

    def cases(self, ground):
        raise NotImplementedError

    def image(self, ground, case):
        """What its containers start from."""
        raise NotImplementedError

    def run(self, ground, driver, case):
        """Does the work once on DRIVER and verifies what it did; figures by name (see ground.Measure for the usual ones)."""
        raise NotImplementedError

    def why(self, case, winner, loser):
        """One sentence: why WINNER (a driver) is ahead of LOSER here."""
        return ""


def size_name(size_bytes):
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if size_bytes >= unit and size_bytes % unit == 0:
            return f"{size_bytes // unit} {name}"
    return f"{size_bytes} B"
