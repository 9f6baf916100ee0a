"""PostgreSQL on data that came with the image: start-up, the first transaction, a steady run of pgbench, with real fsync."""

import glob
import os
import shutil
import time

from ground import Failed, Image, Measure, call
from workload import Case, Workload

TRANSACTIONS = 300


def tools():
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: int(path.split("/")[4]))
    if not found:
        raise Failed("postgres: no /usr/lib/postgresql/*/bin (package postgresql)")
    return found[-1]


def as_postgres(*command, **options):
    return call("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *command, cwd="/", **options)


class Server:
    """One on DATA with its socket in a folder outside of what is measured."""

    def __init__(self, data, sockets):
        self.data = data
        self.sockets = sockets

    def start(self):
        as_postgres(f"{tools()}/pg_ctl", "-D", self.data, "-w", "-t", "60", "-l", f"{self.sockets}/log", "-o",
                    f"-k {self.sockets} -c listen_addresses= -c fsync=on -c synchronous_commit=on", "start")

    def stop(self):
        as_postgres(f"{tools()}/pg_ctl", "-D", self.data, "-w", "-m", "fast", "stop")

    def query(self, text):
        return as_postgres(f"{tools()}/psql", "-X", "-A", "-t", "-h", self.sockets, "-d", "postgres", "-c", text).strip()

    def bench(self, *options):
        return as_postgres(f"{tools()}/pgbench", "-h", self.sockets, *options, "postgres")


class Postgres(Workload):
    number = 31
    name = "postgres"
    title = f"PostgreSQL on data that came with the image: start, {TRANSACTIONS} pgbench transactions, stop"

    def cases(self, ground):
        return [Case("pgbench scale 1"), Case("pgbench scale 10", quick=False)]

    def image(self, ground, case):
        return Image(case.name.replace(" ", "-"), lambda folder: self.build(ground, folder, case.name.split()[-1]))

    def sockets(self, ground):
        folder = ground.path("postgres", "log").parent
        shutil.chown(folder, "postgres", "postgres")
        return folder

    def build(self, ground, folder, scale):
        os.chmod(folder, 0o755)
        data = folder / "data"
        data.mkdir()
        shutil.chown(data, "postgres", "postgres")
        as_postgres(f"{tools()}/initdb", "-D", data, "-A", "trust", "--no-sync")
        server = Server(data, self.sockets(ground))
        server.start()
        try:
            server.bench("-i", "-q", "-s", scale)
        finally:
            server.stop()

    def run(self, ground, driver, case):
        with driver.container(self.image(ground, case)) as container:
            server = Server(container.path / "data", self.sockets(ground))
            with Measure(ground, driver, container) as measure:
                begin = time.perf_counter()
                server.start()
                try:
                    started = time.perf_counter()
                    server.query("update pgbench_tellers set tbalance = tbalance where tid = 1")
                    first = time.perf_counter()
                    server.bench("-n", "-c", "1", "-t", str(TRANSACTIONS), f"--random-seed={ground.seed}")
                    steady = time.perf_counter()
                    found = server.query("select count(*) from pgbench_history")
                finally:
                    server.stop()
            if found != str(TRANSACTIONS):
                raise Failed(f"postgres on {driver.name}: {found} of {TRANSACTIONS} transactions are in pgbench_history")
            return measure.figures | {"open_s": started - begin, "first_s": first - started, "steady_s": steady - first}

    def why(self, case, winner, loser):
        return "starting touches many files of the image, which overlay2 copies up whole; then each transaction is a sync of the log"


def workloads():
    return [Postgres()]
