"""The work that every server is given. To add a job, add an entry to JOBS."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Job:
    name: str
    title: str
    fio: tuple  # options of fio; empty: the loop of writes with FUA
    depth: int  # requests in flight on each connection
    block: int  # bytes of a request
    state: str  # of the device: "read" (nothing written above the chain), "fresh" (the same, to be written), "full" (all written)
    who: object = "writers"  # "all", "writers", "core" (fewer of them), "devices" (servers of many devices), or names
    connections: int = 1
    devices: int = 1
    flush_every: int = 0  # writes between flushes; 0: none
    once: bool = False  # each block at most once: ends early when all are written
    seconds: float = 0  # its own time in a full run
    quick: bool = False  # part of --quick

    @property
    def reads(self):
        return any(option in ("--rw=randread", "--rw=read", "--rw=randrw") for option in self.fio)

    @property
    def writes(self):
        return self.state != "read"


K4, K64, M1 = 4096, 65536, 1 << 20
MIX = ("--rw=randrw", "--rwmixread=70", "--unified_rw_reporting=1")

JOBS = [
    Job("read-4k-qd1", "4 KiB random read, depth 1", ("--rw=randread",), 1, K4, "read", "all", quick=True),
    Job("read-4k-qd32", "4 KiB random read, depth 32", ("--rw=randread",), 32, K4, "read", "all", quick=True),
    Job("first-write", "4 KiB first write, depth 32, each block at most once", ("--rw=randwrite",), 32, K4, "fresh", once=True, quick=True),
    Job("rewrite", "4 KiB rewrite, depth 32, flushed every 64 MiB", ("--rw=randwrite",), 32, K4, "full", flush_every=16384, quick=True),
    Job("rewrite-30s", "4 KiB rewrite, depth 32, flushed every 64 MiB, 30 s", ("--rw=randwrite",), 32, K4, "full",
        ("cowl@32", "cowl-again", "qemu-raw", "nbdkit-file"), flush_every=16384, seconds=30),
    Job("write-flush-qd1", "4 KiB write + flush, depth 1", ("--rw=randwrite",), 1, K4, "full", flush_every=1, quick=True),
    Job("write-flush-qd32", "4 KiB write + flush, depth 32", ("--rw=randwrite",), 32, K4, "full", "core", flush_every=1),
    Job("write-fua-qd1", "4 KiB write with FUA, depth 1", (), 1, K4, "full", quick=True),
    Job("read-64k", "64 KiB sequential read, depth 8", ("--rw=read",), 8, K64, "read", "core"),
    Job("read-1m", "1 MiB sequential read, depth 8", ("--rw=read",), 8, M1, "read", "core", quick=True),
    Job("write-64k", "64 KiB sequential write, depth 8", ("--rw=write",), 8, K64, "full", "core"),
    Job("write-1m", "1 MiB sequential write, depth 8", ("--rw=write",), 8, M1, "full", "core", quick=True),
    Job("mix-2conn", "4 KiB mix 70/30, one device, two connections of depth 16", MIX, 16, K4, "fresh", "core", connections=2, quick=True),
    Job("mix-16conn", "4 KiB mix 70/30, one device, 16 connections of depth 2", MIX, 2, K4, "fresh", "devices", connections=16,
        quick=True),
    Job("mix-16dev", "4 KiB mix 70/30, 16 devices, a connection of depth 2 each", MIX, 2, K4, "fresh", "devices", connections=16,
        devices=16, quick=True),
]
