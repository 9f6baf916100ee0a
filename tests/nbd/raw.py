"""An NBD client that says exactly what a test wants said: bytes, whole or in part, right or wrong.

    python3 - <<'PYTHON'        (with PYTHONPATH=tests/nbd and $socket)
    from raw import *
    client = Client().go('disk')
    error, message, data = client.ask(READ, 0, 4096)
"""

import os
import random
import socket
import struct
import sys
import threading
import time

EXPORT_NAME, ABORT, LIST, STARTTLS, INFO, GO, STRUCTURED, LIST_CONTEXT, SET_CONTEXT, EXTENDED = 1, 2, 3, 5, 6, 7, 8, 9, 10, 11
ACK, SERVER, INFO_REPLY, CONTEXT = 1, 2, 3, 4
UNSUP, POLICY, INVALID, UNKNOWN, TOO_BIG = (1 << 31 | n for n in (1, 2, 3, 6, 9))
READ, WRITE, DISC, FLUSH, TRIM, CACHE, ZEROES, STATUS = range(8)
FUA, NO_HOLE, DF, REQ_ONE, FAST_ZERO = (1 << n for n in range(5))
EPERM, EIO, EINVAL, ENOSPC, EOVERFLOW, ENOTSUP = 1, 5, 22, 28, 75, 95
KIB, MIB = 1024, 1024 * 1024


def text(value):
    data = value if isinstance(value, bytes) else value.encode()
    return struct.pack('>I', len(data)) + data


def info(name, requests=()):
    return text(name) + struct.pack('>H', len(requests)) + b''.join(struct.pack('>H', r) for r in requests)


def contexts(name, queries):
    return text(name) + struct.pack('>I', len(queries)) + b''.join(text(q) for q in queries)


def option(number, data=b''):
    return b'IHAVEOPT' + struct.pack('>II', number, len(data)) + data


def request(command, offset, length, flags=0, cookie=1):
    return struct.pack('>IHHQQI', 0x25609513, flags, command, cookie, offset, length)


class Client:
    """Greets as it is made, with these client flags."""

    def __init__(self, flags=3):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(10)
        self.socket.connect(os.environ['socket'])
        assert self.hear(18)[:16] == b'NBDMAGICIHAVEOPT'
        self.say(struct.pack('>I', flags))
        self.cookie = 0
        self.size = None

    def say(self, data):
        self.socket.sendall(data)

    def hear(self, count):
        """So many bytes; fewer at the end of the stream."""
        heard = b''
        while len(heard) < count:
            try:
                piece = self.socket.recv(count - len(heard))
            except ConnectionResetError:
                piece = b''
            if not piece:
                break
            heard += piece
        return heard

    def is_closed(self):
        return self.hear(1) == b''

    def close(self):
        self.socket.close()

    def option(self, number, data=b''):
        """Every reply, as (type, data); the last is an acknowledgement or an error. None: closed."""
        self.say(option(number, data))
        replies = []
        while True:
            head = self.hear(20)
            if not head:
                return None
            magic, to, kind, length = struct.unpack('>QIII', head)
            assert (magic, to) == (0x3E889045565A9, number), head
            replies.append((kind, self.hear(length)))
            if kind == ACK or kind >> 31:
                return replies

    def last(self, number, data=b''):
        replies = self.option(number, data)
        return replies and replies[-1][0]

    def go(self, name, queries=(), structured=True):
        if structured:
            assert self.last(STRUCTURED) == ACK
        if queries:
            assert self.last(SET_CONTEXT, contexts(name, queries)) == ACK
        replies = self.option(GO, info(name))
        assert replies[-1][0] == ACK, replies
        self.size, self.flags = struct.unpack('>QH', replies[0][1][2:])
        return self

    def ask(self, command, offset, length, flags=0, payload=b''):
        """The answer of a structured client: error, message, chunks as (type, payload)."""
        self.cookie += 1
        self.say(request(command, offset, length, flags, self.cookie) + payload)
        error, message, chunks = 0, '', []
        while True:
            magic, = struct.unpack('>I', self.hear(4))
            if magic == 0x67446698:
                error, cookie = struct.unpack('>IQ', self.hear(12))
                assert cookie == self.cookie
                return error, message, chunks
            assert magic == 0x668E33EF, hex(magic)
            chunk_flags, kind, cookie, size = struct.unpack('>HHQI', self.hear(16))
            assert cookie == self.cookie
            data = self.hear(size)
            chunks.append((kind, data))
            if kind >> 15:
                error, message_size = struct.unpack('>IH', data[:6])
                message = data[6:6 + message_size].decode()
            if chunk_flags & 1:
                return error, message, chunks

    def error(self, *what, **more):
        return self.ask(*what, **more)[0]

    def read(self, offset, length):
        error, message, chunks = self.ask(READ, offset, length)
        assert error == 0, (error, message)
        data = bytearray(length)
        for kind, payload in chunks:
            if kind == 1:
                at = struct.unpack('>Q', payload[:8])[0] - offset
                data[at:at + len(payload) - 8] = payload[8:]
        return bytes(data)


def expect(got, wanted, what=''):
    assert got == wanted, f'{what}: got {got!r}, not {wanted!r}'
