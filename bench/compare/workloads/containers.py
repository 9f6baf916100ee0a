"""Many containers from one image: made, started, first byte read, first write, all the space they take, deleted."""

import os
import time

from ground import Failed, Image, make_file
from workload import Case, Workload

FILES = 200


def small_system(folder, seed):
    for number in range(FILES):
        path = folder / "usr" / f"d{number % 20}" / f"f{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        make_file(path, 100 << 10, seed + number)
    (folder / "etc").mkdir()
    (folder / "etc/motd").write_text("hello\n", encoding="ascii")


def settled(driver, least):
    """What it takes on the disk when space that comes back by itself has come back."""
    for _ in range(30):
        found = driver.disk_bytes()
        if found <= least:
            break
        time.sleep(0.1)
    return found


class Containers(Workload):
    number = 60
    name = "containers"
    title = "start containers from one image of 20 MiB, use and delete them"
    floor_counts = True

    def cases(self, ground):
        return [Case(str(count), main="start_s", repeats=1 if ground.quick and count == 100 else 0) for count in (1, 10, 100)]

    def image(self, ground, case):
        return Image("small-system", lambda folder: small_system(folder, ground.seed))

    def run(self, ground, driver, case):
        image = self.image(ground, case)
        driver.base(image)
        containers = []
        os.sync()
        before = driver.disk_bytes()
        try:
            begin = time.perf_counter()
            containers = [driver.create(image, f"c{number}") for number in range(int(case.name))]
            made = time.perf_counter()
            made_bytes = driver.disk_bytes() - before
            resumed = time.perf_counter()
            for container in containers:
                driver.start(container)
            started = time.perf_counter()
            self.read_all(driver, containers)
            read = time.perf_counter()
            self.write_all(containers)
            written = time.perf_counter()
            used_bytes = driver.disk_bytes() - before
        finally:
            begin_delete = time.perf_counter()
            for container in containers:
                driver.remove(container)
            deleted = time.perf_counter()
        return {"start_s": made - begin + started - resumed, "first_read_s": read - started, "first_write_s": written - read,
                "delete_s": deleted - begin_delete, "made_bytes": max(0, made_bytes), "used_bytes": max(0, used_bytes),
                "left_bytes": max(0, settled(driver, before) - before)}

    def read_all(self, driver, containers):
        for container in containers:
            if (container.path / "etc/motd").read_text(encoding="ascii") != "hello\n":
                raise Failed(f"containers on {driver.name}: {container.path}/etc/motd holds something else")

    def write_all(self, containers):
        for container in containers:
            with open(container.path / "etc/written", "wb", buffering=0) as file:
                file.write(b"x" * 4096)
                os.fsync(file.fileno())

    def why(self, case, winner, loser):
        if loser.is_floor:
            return f"{loser.name} copies the image for each container"
        return f"what starting is: for {winner.name} {winner.how}; for {loser.name} {loser.how}"


def workloads():
    return [Containers()]
