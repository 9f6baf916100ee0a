"""A small NBD client: fills devices, reads them once before a timed run, and writes with FUA, which fio's nbd engine cannot."""

import socket
import struct
import time

READ, WRITE, FLUSH = 0, 1, 3
FUA = 1
REQUEST = struct.Struct(">IHHQQI")
REPLY = struct.Struct(">IIQ")


class NbdError(Exception):
    """The server hung up or answered with an error."""


class Nbd:
    """One connection to the export NAME on a unix socket."""

    def __init__(self, path, name=""):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(path)
        magic, option, flags = struct.unpack(">8s8sH", self.take(18))
        if magic != b"NBDMAGIC" or option != b"IHAVEOPT":
            raise NbdError("not an NBD server")
        no_zeroes = flags & 2
        self.sock.sendall(struct.pack(">I", 1 | no_zeroes))
        self.sock.sendall(struct.pack(">8sII", b"IHAVEOPT", 1, len(name)) + name.encode())
        self.size, self.flags = struct.unpack(">QH", self.take(10))
        if not no_zeroes:
            self.take(124)

    def close(self):
        self.sock.sendall(REQUEST.pack(0x25609513, 0, 2, 0, 0, 0))
        self.sock.close()

    def take(self, count):
        data = bytearray(count)
        view = memoryview(data)
        while view:
            got = self.sock.recv_into(view)
            if not got:
                raise NbdError("the server hung up")
            view = view[got:]
        return data

    def reply(self):
        _, error, _ = REPLY.unpack(self.take(16))
        if error:
            raise NbdError(f"the server answered with error {error}")

    def write_all(self, offsets, data, window_bytes=1 << 20):
        """Writes DATA (bytes) at each of OFFSETS (bytes), many requests at once."""
        window = max(1, window_bytes // len(data)) if len(data) > 4096 else 64
        for start in range(0, len(offsets), window):
            part = offsets[start:start + window]
            self.sock.sendall(b"".join(REQUEST.pack(0x25609513, 0, WRITE, 0, offset, len(data)) + data for offset in part))
            for _ in part:
                self.reply()

    def read_once(self, size, step=1 << 20, window=4):
        """Reads the first SIZE bytes, in order."""
        offsets = range(0, size, step)
        for start in range(0, len(offsets), window):
            part = offsets[start:start + window]
            for offset in part:
                self.sock.sendall(REQUEST.pack(0x25609513, 0, READ, 0, offset, min(step, size - offset)))
            for offset in part:
                self.reply()
                self.take(min(step, size - offset))

    def flush(self):
        self.sock.sendall(REQUEST.pack(0x25609513, 0, FLUSH, 0, 0, 0))
        self.reply()

    def write_fua(self, offset, data):
        self.sock.sendall(REQUEST.pack(0x25609513, FUA, WRITE, 0, offset, len(data)) + data)
        self.reply()


def uri(path, name=""):
    return f"nbd+unix:///{name}?socket={path}"


def timed_loop(step, offsets, seconds):
    """Calls STEP(offset) for OFFSETS, again and again, for SECONDS; latencies in microseconds."""
    latencies = []
    end = time.perf_counter() + seconds
    while True:
        for offset in offsets:
            start = time.perf_counter()
            if start >= end:
                return latencies
            step(offset)
            latencies.append((time.perf_counter() - start) * 1e6)
