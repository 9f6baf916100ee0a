"""From the figures of single runs to medians, ratios and bars."""

import statistics

FIGURES = ("iops", "mib_s", "mean_us", "p50_us", "p99_us", "p999_us", "cpu_us", "peak_mib", "wrote_ratio", "disk_read_mib")


class Results:
    """What was measured: figures by job, peer and repeat."""

    def __init__(self):
        self.rows = []

    def add(self, job, peer, repeat, figures):
        self.rows.append({"job": job, "peer": peer, "repeat": repeat, **figures})

    def of(self, job, peer, figure):
        """{repeat: value}, without those that have no such value."""
        return {row["repeat"]: row[figure] for row in self.rows
                if row["job"] == job and row["peer"] == peer and row.get(figure) is not None}

    def peers(self, job):
        return list(dict.fromkeys(row["peer"] for row in self.rows if row["job"] == job))

    def jobs(self):
        return list(dict.fromkeys(row["job"] for row in self.rows))

    def median(self, job, peer, figure):
        """(median, lowest, highest), or None."""
        return spread(self.of(job, peer, figure).values())

    def ratio(self, job, peer, to, figure="iops", to_job=None):
        """PEER's figure / TO's, each pair within one repeat: (median, lowest, highest), or None."""
        mine, other = self.of(job, peer, figure), self.of(to_job or job, to, figure)
        return spread([mine[repeat] / other[repeat] for repeat in mine if other.get(repeat)])


def spread(values):
    values = list(values)
    return (statistics.median(values), min(values), max(values)) if values else None


def summarise(results, reference, names):
    """A row for each job and peer (of NAMES, in their order): medians with lowest and highest, and the ratio of the reference (a peer) to it."""
    rows = []
    for job in results.jobs():
        for peer in sorted(results.peers(job), key=names.index):
            row = {"job": job, "peer": peer}
            for figure in FIGURES:
                found = results.median(job, peer, figure)
                row[figure] = dict(zip(("median", "min", "max"), found)) if found else None
            found = results.ratio(job, reference, peer) if reference and peer != reference else None
            row["cowl_ratio"] = dict(zip(("median", "min", "max"), found)) if found else None
            rows.append(row)
    return rows


# The bars.

COWL = "cowl@32"
SCATTERED = "; layers of equal shares"  # the hardest chain; see chains.py
QCOW2 = ("qcow2@1", "qcow2@32", "qcow2-ext@1", "qcow2-ext@32")


class Bars:
    """Each bar that these jobs can measure; those whose jobs or peers were left out are left out."""

    def __init__(self, results):
        self.results = results
        self.rows = []
        for measure in (self.reads, self.depths, self.latency, self.first_writes, self.rewrites, self.durable, self.sequential, self.mixes):
            measure()

    def add(self, what, found, limit, at_least=True, note=""):
        """FOUND: (median, lowest, highest) of a ratio, or None."""
        if found:
            ok = found[0] >= limit if at_least else found[0] <= limit
            self.rows.append({"bar": what, "limit": ("≥ " if at_least else "≤ ") + f"{limit:.3g}", "median": found[0], "min": found[1],
                              "max": found[2], "ok": ok, "note": note})

    def rate(self, what, job, peer, limit, mine=COWL):
        self.add(f"{what}: rate to {peer}'s", self.results.ratio(job, mine, peer), limit)

    def best_qcow2(self, job):
        found = [(self.results.median(job, peer, "iops")[0], peer) for peer in QCOW2 if self.results.median(job, peer, "iops")]
        return max(found)[1] if found else "qcow2"

    def noise(self, job, figure):
        """By what the A/A pair differs at most, as a ratio above 1."""
        found = self.results.ratio(job, "cowl-again", COWL, figure)
        return max(found[2], 1 / found[1]) if found else 1

    def reads(self):
        job = "read-4k-qd32"
        for mine, qcow2, kind in ((COWL, "qcow2@32", ""), ("cowl-scattered@32", "qcow2-scattered@32", SCATTERED)):
            what = f"4 KiB random read, depth 32, 32 layers{kind}"
            for peer, limit in (("qemu-raw", 2.0), ("nbdkit-file", 1.4), (qcow2, 5)):
                self.rate(what, job, peer, limit, mine)
            self.add(f"{what}: server CPU a request to qemu-raw's", self.results.ratio(job, mine, "qemu-raw", "cpu_us"), 0.5, False)

    def depths(self):
        for mine, kind in (("cowl@255", ""), ("cowl-scattered@255", SCATTERED)):
            for figure in ("p50_us", "p99_us"):
                noise = self.noise("read-4k-qd32", figure)
                self.add(f"the same, 255 layers to 1{kind}: {figure[:3]}", self.results.ratio("read-4k-qd32", mine, "cowl@1", figure),
                         max(1.1, noise), False, f"1.1 or the A/A noise, {noise:.2f}")

    def latency(self):
        self.add("4 KiB random read, depth 1: mean latency to nbdkit-file's",
                 self.results.ratio("read-4k-qd1", COWL, "nbdkit-file", "mean_us"), 1.0, False)

    def first_writes(self):
        what = "4 KiB first write, depth 32"
        self.rate(what, "first-write", "qemu-raw", 2.0)
        self.rate(what, "first-write", self.best_qcow2("first-write"), 3.0)
        self.rate(what, "first-write", "nbdkit-file", 0.9)
        self.add(f"{what}: bytes to the host file to bytes sent", self.results.median("first-write", COWL, "wrote_ratio"), 1.1, False)

    def rewrites(self):
        job = "rewrite-30s" if "rewrite-30s" in self.results.jobs() else "rewrite"
        for peer, limit in (("qemu-raw", 2.5), ("nbdkit-file", 1.0)):
            self.rate(f"4 KiB rewrite, depth 32 ({job})", job, peer, limit)

    def durable(self):
        for job, what in (("write-flush-qd1", "4 KiB write + flush, depth 1"), ("write-fua-qd1", "4 KiB write with FUA, depth 1")):
            mine, disk, null = (self.results.of(job, peer, "mean_us") for peer in (COWL, "local", "nbdkit-null"))
            ratios = [mine[repeat] / (disk[repeat] + null[repeat]) for repeat in mine if repeat in disk and repeat in null]
            sums = spread([disk[repeat] + null[repeat] for repeat in disk if repeat in null])
            note = f"{statistics.median(mine.values()):.0f} us to {sums[0]:.0f}" if ratios else ""
            self.add(f"{what}: latency to pwrite + fdatasync here + null's", spread(ratios), 1.15, False, note)
            self.rate(what, job, self.best_qcow2(job), 2.0)

    def sequential(self):
        for job, what, limit in (("read-1m", "1 MiB sequential read, depth 8", 1.5), ("write-1m", "1 MiB sequential write, depth 8", 1.3)):
            self.rate(what, job, "qemu-raw", limit)
            self.rate(what, job, "nbdkit-file", 1.0)
        what = f"1 MiB sequential read, depth 8{SCATTERED}"
        self.rate(what, "read-1m", "qemu-raw", 1.5, "cowl-scattered@32")
        self.rate(what, "read-1m", "nbdkit-file", 1.0, "cowl-scattered@32")

    def mixes(self):
        for job, what in (("mix-2conn", "two connections to one"), ("mix-16conn", "16 connections to one")):
            self.add(f"mix on 16 devices: rate to that of {what}", self.results.ratio("mix-16dev", COWL, COWL, to_job=job), 1.0)
