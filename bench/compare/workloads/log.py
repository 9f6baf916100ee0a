"""A log that came with the image and grows by small appends, each with fsync."""

import hashlib
import os

from ground import MIB, Image, Measure, expect, make_file
from workload import Case, Workload

LOG_BYTES = 10 * MIB
LINE = b"2026-01-01T00:00:00Z GET /index.html 200 1234 - - - - - - - - - - - - - - - - - - - - - -\n"


class Log(Workload):
    number = 40
    name = "log"
    title = "append 100 bytes and fsync, again and again, to a log of 10 MiB that came with the image"

    def cases(self, ground):
        return [Case("300 appends"), Case("3000 appends", quick=False)]

    def image(self, ground, case):
        return Image("log", lambda folder: make_file(folder / "log", LOG_BYTES, ground.seed))

    def run(self, ground, driver, case):
        appends = int(case.name.split()[0])
        with driver.container(self.image(ground, case)) as container:
            path = container.path / "log"
            with open(path, "rb") as file:
                digest = hashlib.sha256(file.read() + LINE * appends).hexdigest()
            with Measure(ground, driver, container) as measure, open(path, "ab", buffering=0) as file:
                for _ in range(appends):
                    file.write(LINE)
                    os.fsync(file.fileno())
            expect(path, digest, f"log on {driver.name}")
            return measure.figures

    def why(self, case, winner, loser):
        return "each append is one fsync: what counts is how many writes and syncs of the disk stand behind it"


def workloads():
    return [Log()]
