"""The servers that are compared. To add one, write a class like the others and add an entry to PEERS."""

import os

import chains
import nbd
from process import Process, call

FILL = 1 << 20  # bytes of a request that fills a device


class Peer:
    """One server as it is started for one job."""

    engine = ""
    note = ""
    tool = ""  # the program whose version is told
    writer = True  # takes part in jobs that write
    many_devices = False
    depth = 0  # layers below the device
    scattered = False  # which kind of chain; see chains.py

    def __init__(self, name, quick=False, writer=True, core=False):
        self.name = name
        self.quick = quick
        self.writer = writer
        self.core = core or quick and writer  # takes part in jobs that only the most telling servers are given

    def prepare(self, ground):
        """Once, before anything is timed."""

    def before(self, ground, job):
        """Brings the device to the state that the job wants. The server does not run."""

    def command(self, ground, job, socket):
        """What starts the server."""
        raise NotImplementedError

    def environment(self, ground):
        return {}

    def exports(self, ground, job):
        return [""]

    def after_start(self, ground, job, socket):
        """What only the running server can be given: devices that live in its memory are filled here."""

    def after(self, ground, job):
        """Gives space back. The server has ended."""

    def start(self, ground, job):
        self.before(ground, job)
        socket = ground.socket(self.name)
        server = Process(self.command(ground, job, socket), socket, ground.log(self.name), self.environment(ground))
        try:
            self.after_start(ground, job, socket)
        except BaseException:
            server.kill()
            raise
        return server, [("nbd", socket, export) for export in self.exports(ground, job)]


def layers(count, scattered=False):
    return f"{count} layer" + ("s" if count > 1 else "") + (" that hold equal shares" if scattered else "")


def fill(ground, socket, export=""):
    client = nbd.Nbd(socket, export)
    client.write_all(range(0, ground.size, FILL), os.urandom(FILL), 4 * FILL)
    client.flush()
    client.close()


class Cowl(Peer):
    """A device on an image of DEPTH layers; every block read is checked against its checksum."""

    tool = "cowl"
    engine = "io_uring, checksums verified"
    many_devices = True

    def __init__(self, name, depth, quick=False, writer=False, core=False, scattered=False, note=""):
        super().__init__(name, quick, writer, core)
        self.depth = depth
        self.scattered = scattered
        self.many_devices = writer
        self.note = note or f"a device on an image of {layers(depth, scattered)}"

    @property
    def base(self):
        """The image that its devices stand on."""
        return f"{chains.chain_name(self.scattered)}:{self.depth}"

    def call(self, ground, *arguments):
        return call([ground.cowl, "--store", ground.store, *arguments])

    def prepare(self, ground):
        ground.once("cowl store", lambda: chains.init_cowl(ground))
        depths = ground.depths(Cowl, self.scattered)
        ground.once(f"cowl chain {self.scattered}", lambda: chains.build_cowl(ground, depths, self.scattered))
        ground.once(f"cowl device {self.base}", lambda: self.call(ground, "create", self.base, self.device(0)))
        if self.writer:
            ground.once(f"cowl writers {self.depth}", lambda: self.make_writers(ground))

    def make_writers(self, ground):
        """Fifteen more devices, and one that is full: written once, all of it."""
        for number in range(1, 16):
            self.call(ground, "create", self.base, self.device(number))
        self.call(ground, "create", self.base, f"full{self.depth}")
        ground.progress("cowl's full device")
        socket = ground.socket("build")
        with Process(self.command(ground, None, socket), socket, ground.log("build-cowl")):
            fill(ground, socket, f"full{self.depth}")

    def device(self, number):
        return f"on-{self.base.replace(':', '-')}-{number}"

    def exports(self, ground, job):
        return [f"full{self.depth}"] if job.state == "full" else [self.device(number) for number in range(job.devices)]

    def after(self, ground, job):
        if job.state == "fresh":
            for export in self.exports(ground, job):
                self.call(ground, "reset", export)

    def command(self, ground, job, socket):
        return [ground.cowl, "--store", ground.store, "serve", "--listen", f"unix:{socket}"]


class QemuNbd(Peer):
    """qemu-nbd on the raw file."""

    tool = "qemu-nbd"
    note = "the raw file: no layers, no checksums"

    @property
    def engine(self):
        return f"--aio={self.aio}, writeback"

    aio = "threads"  # QemuNbd.aio is set to the best that works before the run

    def image(self, ground, job):
        return "raw", ground.raw

    def command(self, ground, job, socket):
        form, file = self.image(ground, job)
        return ["qemu-nbd", "-f", form, "--cache=writeback", f"--aio={self.aio}", "-t", "-e", "16", "-k", socket, file]


class Qcow2(QemuNbd):
    """An empty qcow2 file above a chain of DEPTH layers, of which the raw file is the lowest."""

    def __init__(self, name, depth, extended=False, quick=False, writer=False, core=False, scattered=False):
        super().__init__(name, quick, writer, core)
        self.depth = depth
        self.scattered = scattered
        self.extended = extended
        self.note = f"a qcow2 file on {layers(depth, scattered)}, " + ("extended L2, 128 KiB clusters" if extended else "64 KiB clusters")

    def prepare(self, ground):
        depths = ground.depths(Qcow2, self.scattered)
        ground.once(f"qcow2 chain {self.scattered}", lambda: chains.build_qcow2(ground, depths, self.scattered))
        if self.writer and ground.wants("full"):
            self.make(ground, "full")
            ground.progress(f"the full device of {self.name}")
            socket = ground.socket("build")
            command = ["qemu-nbd", "-f", "qcow2", "-t", "-k", socket, self.file(ground, "full")]
            with Process(command, socket, ground.log("build-qcow2")):
                fill(ground, socket)

    def file(self, ground, state):
        return ground.path(f"{self.name.replace('@', '-')}-{'full' if state == 'full' else 'fresh'}.qcow2")

    def make(self, ground, state):
        chains.qcow2_above(ground, self.depth, self.scattered, self.file(ground, state), self.extended)

    def before(self, ground, job):
        if job.state != "full":
            self.make(ground, job.state)

    def image(self, ground, job):
        return "qcow2", self.file(ground, job.state)

    def after(self, ground, job):
        if job.state != "full" and os.path.exists(self.file(ground, job.state)):
            os.unlink(self.file(ground, job.state))


class Nbdkit(Peer):
    """nbdkit with a plugin."""

    tool = "nbdkit"
    engine = "16 threads"

    def __init__(self, name, arguments, note, keeps=True, quick=False):
        super().__init__(name, quick)
        self.arguments = arguments  # (ground) -> list
        self.keeps = keeps  # what is written is there at the next start
        self.note = note

    def command(self, ground, job, socket):
        return ["nbdkit", "-f", "-U", socket, *self.arguments(ground)]

    def environment(self, ground):
        return {"TMPDIR": ground.folder}  # the filter's temporary file: on the disk that all use

    def after_start(self, ground, job, socket):
        if not self.keeps and (job.state == "full" or self.name == "nbdkit-memory"):
            fill(ground, socket)


class Local(Peer):
    """No server: fio itself on the raw file."""

    tool = "fio"
    engine = "io_uring, no server"
    note = "fio on the raw file, what the machine can do; write + flush and FUA at depth 1: pwrite and fdatasync"

    def start(self, ground, job):
        return None, [("file", ground.raw)]


def cow_filter(block):
    return lambda ground: ["--filter=cow", "file", ground.raw, f"cow-block-size={block}"]


PEERS = [
    Cowl("cowl@1", 1, quick=True, core=True),
    Cowl("cowl@8", 8),
    Cowl("cowl@32", 32, quick=True, writer=True),
    Cowl("cowl@128", 128),
    Cowl("cowl@255", 255, quick=True),
    Cowl("cowl-scattered@32", 32, quick=True, core=True, scattered=True),
    Cowl("cowl-scattered@255", 255, quick=True, scattered=True),
    Cowl("cowl-again", 32, quick=True, writer=True, note="A/A: cowl@32 a second time; what it differs by is the machine's noise"),
    QemuNbd("qemu-raw", quick=True),
    Qcow2("qcow2@1", 1, writer=True),
    Qcow2("qcow2@8", 8),
    Qcow2("qcow2@32", 32, quick=True, writer=True),
    Qcow2("qcow2@128", 128),
    Qcow2("qcow2-scattered@32", 32, core=True, scattered=True),
    Qcow2("qcow2-ext@1", 1, extended=True, writer=True),
    Qcow2("qcow2-ext@32", 32, extended=True, writer=True, core=True),
    Nbdkit("nbdkit-file", lambda ground: ["file", ground.raw], "the raw file: no layers, no checksums", quick=True),
    Nbdkit("nbdkit-cow-4k", cow_filter("4K"), "keeps nothing: what is written is gone when it ends", keeps=False),
    Nbdkit("nbdkit-cow-64k", cow_filter("64K"), "keeps nothing: what is written is gone when it ends", keeps=False),
    Nbdkit("nbdkit-null", lambda ground: ["null", str(ground.size)], "no storage at all: the protocol's ceiling", quick=True),
    Nbdkit("nbdkit-memory", lambda ground: ["memory", str(ground.size)], "keeps nothing: all in memory, a ceiling", keeps=False),
    Local("local", quick=True),
]
