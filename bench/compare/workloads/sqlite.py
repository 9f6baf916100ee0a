"""A SQLite database that came with the image: opened, first transaction, and a steady run of durable ones."""

import sqlite3
import time

from ground import Failed, Image, Measure
from workload import Case, Workload

ROWS = 100_000
TRANSACTIONS = 200


def build(folder):
    connection = sqlite3.connect(folder / "data.db")
    connection.execute("create table t (id integer primary key, value integer, filler text)")
    connection.executemany("insert into t values (?, 0, ?)", ((number, "x" * 100) for number in range(ROWS)))
    connection.commit()
    connection.close()


class Sqlite(Workload):
    number = 30
    name = "sqlite"
    title = f"SQLite, synchronous=FULL, a database that came with the image: {TRANSACTIONS} transactions of one update"

    def cases(self, ground):
        return [Case(f"{ROWS} rows")]

    def image(self, ground, case):
        return Image("sqlite", build)

    def run(self, ground, driver, case):
        with driver.container(self.image(ground, case)) as container:
            path = container.path / "data.db"
            with Measure(ground, driver, container) as measure:
                begin = time.perf_counter()
                connection = sqlite3.connect(path, isolation_level=None)
                connection.execute("pragma synchronous=full")
                connection.execute("select count(value) from t where id < 100").fetchone()
                opened = time.perf_counter()
                self.update(connection, 0)
                first = time.perf_counter()
                for number in range(1, TRANSACTIONS):
                    self.update(connection, number)
                connection.close()
            self.check(path, driver)
            return measure.figures | {"open_s": opened - begin, "first_s": first - opened}

    def update(self, connection, number):
        connection.execute("update t set value = value + 1 where id = ?", (number * 7919 % ROWS,))

    def check(self, path, driver):
        connection = sqlite3.connect(path)
        found = connection.execute("select sum(value) from t").fetchone()[0]
        sound = connection.execute("pragma integrity_check").fetchone()[0]
        connection.close()
        if found != TRANSACTIONS or sound != "ok":
            raise Failed(f"sqlite on {driver.name}: {found} of {TRANSACTIONS} updates are there, integrity check: {sound}")

    def why(self, case, winner, loser):
        return "after the first write it is one or two syncs a transaction: what counts is what a sync costs; overlay2 pays the copy of the whole database first"


def workloads():
    return [Sqlite()]
