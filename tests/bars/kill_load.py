#!/usr/bin/env python3
"""kill_load.py COWL STORE: writes to the device "disk" over NBD, kills the server with SIGKILL in the middle, starts it again, and
checks that every answered write is there. A block that had writes in flight may hold the last answered one or any in flight.
Prints what it did, and the median time from starting the server to its first answer. Status 1 when a write was lost."""
import argparse
import os
import random
import signal
import socket
import statistics
import struct
import subprocess
import sys
import threading
import time

BLOCK = 4096
BLOCKS = 32768  # 128 MiB of the disk
PIECE = 256  # blocks that are read back with one request
DEPTH = 16


class Nbd:
    """A client of the simplest handshake; requests are pipelined by the caller."""

    def __init__(self, path, name):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(path)
        magic, option_magic, _ = struct.unpack(">QQH", self.take(18))
        assert magic == 0x4E42444D41474943 and option_magic == 0x49484156454F5054
        self.sock.sendall(struct.pack(">I", 3))  # fixed newstyle, no zeroes
        self.sock.sendall(struct.pack(">QII", option_magic, 1, len(name)) + name.encode())
        self.size, self.flags = struct.unpack(">QH", self.take(10))

    def take(self, count):
        parts = []
        while count:
            part = self.sock.recv(count)
            if not part:
                raise ConnectionError("the server hung up")
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def send(self, command, handle, offset, length, payload=b""):
        self.sock.sendall(struct.pack(">IHHQQI", 0x25609513, 0, command, handle, offset, length) + payload)

    def reply(self):
        magic, error, handle = struct.unpack(">IIQ", self.take(16))
        assert magic == 0x67446698, hex(magic)
        return error, handle

    def read(self, offset, length):
        self.send(0, 0, offset, length)
        error, _ = self.reply()
        assert error == 0, f"read at {offset}: error {error}"
        return self.take(length)


def content(block, stamp):
    return struct.pack("<QQ", block, stamp) * (BLOCK // 16)


class Load:
    def __init__(self, rng):
        self.rng = rng
        self.stamp = 0
        self.answered = {}  # block -> stamp of the last answered write
        self.in_flight = {}  # block -> stamps that were sent and not answered
        self.refused = []  # writes that were answered with an error

    def run(self, client, started, flush_every):
        pending = {}
        try:
            while True:
                while len(pending) < DEPTH:
                    block = self.rng.randrange(BLOCKS)
                    if any(block == other for other, _ in pending.values()):
                        continue
                    self.stamp += 1
                    pending[self.stamp] = (block, self.stamp)
                    self.in_flight.setdefault(block, set()).add(self.stamp)
                    client.send(1, self.stamp, block * BLOCK, BLOCK, content(block, self.stamp))
                    started.set()
                error, handle = client.reply()
                if handle == 0:
                    continue
                block, stamp = pending.pop(handle)
                if error != 0:
                    self.refused.append((block, error))
                    return
                self.answered[block] = stamp
                self.in_flight.pop(block, None)
                if stamp % flush_every == 0:
                    client.send(3, 0, 0, 0)
        except (ConnectionError, BrokenPipeError, OSError):
            return

    def verify(self, client):
        lost = []
        piece, piece_begin = b"", None
        for block in sorted(set(self.answered) | set(self.in_flight)):
            begin = block - block % PIECE
            if begin != piece_begin:
                piece, piece_begin = client.read(begin * BLOCK, PIECE * BLOCK), begin
            data = piece[(block - begin) * BLOCK:(block - begin + 1) * BLOCK]
            legal = set(self.in_flight.get(block, ()))
            legal.add(self.answered.get(block, 0))
            held = struct.unpack("<QQ", data[:16])[1]
            whole = data == (content(block, held) if held else bytes(BLOCK))
            if held not in legal or not whole:
                lost.append((block, held, sorted(legal)))
            elif held:
                self.answered[block] = held
        self.in_flight.clear()
        return lost


def start(cowl, store):
    begun = time.monotonic()
    server = subprocess.Popen([cowl, "--store", store, "serve"], stdout=subprocess.PIPE, text=True)
    line = server.stdout.readline()
    assert line.startswith("nbd+unix:"), f"serve said {line!r}"
    client = Nbd(os.path.join(store, "nbd.sock"), "disk")
    client.read(0, BLOCK)
    return server, client, (time.monotonic() - begun) * 1000


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cowl")
    parser.add_argument("store")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    load = Load(rng)
    reopen_ms = []
    away_ms = []
    server, client, _ = start(args.cowl, args.store)
    for _ in range(args.rounds):
        started = threading.Event()
        worker = threading.Thread(target=load.run, args=(client, started, rng.choice([50, 1000, 10**9])))
        worker.start()
        started.wait()
        time.sleep(rng.uniform(0.05, 1.5))
        killed = time.monotonic()
        server.send_signal(signal.SIGKILL)
        server.wait()
        worker.join()
        if load.refused:
            print(f"seed {args.seed}: a write was refused: block, error: {load.refused[0]}")
            return 1
        server, client, took_ms = start(args.cowl, args.store)
        reopen_ms.append(took_ms)
        away_ms.append((time.monotonic() - killed) * 1000)
        lost = load.verify(client)
        if lost:
            print(f"seed {args.seed}: {len(lost)} blocks are wrong, the first: block, stamp held, stamps legal: {lost[0]}")
            server.kill()
            return 1
    server.send_signal(signal.SIGTERM)
    server.wait()
    print(f"seed {args.seed}: {args.rounds} kills, {load.stamp} writes sent, {len(load.answered)} blocks checked, none lost")
    print(f"median_from_the_kill_ms {statistics.median(away_ms):.0f}")
    print(f"slowest_reopen_ms {max(reopen_ms):.0f}")
    print(f"median_reopen_ms {statistics.median(reopen_ms):.0f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
