#!/usr/bin/env bats
# A client that says wrong things, byte by byte: it gets the protocol's answer or is closed, nobody else notices, and what is on
# the disks stays.

load helpers

setup() { need python3; start_server; }
teardown() { stop_server; }

raw() { PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$BATS_TEST_DIRNAME DISK=$DISK DISK2=$DISK2 IMAGE=$IMAGE ODD=$ODD timeout 60 python3 -c "
from raw import *
DISK, DISK2, IMAGE, ODD = (os.environ[name] for name in ('DISK', 'DISK2', 'IMAGE', 'ODD'))
$1"; }

@test "options that are wrong are refused one by one, and the handshake goes on" {
  raw '
client = Client()
for number in (0, 4, EXTENDED, 12, 1000, 0xffffffff):
    for data in (b"", b"x", b"x" * 1000):
        expect(client.last(number, data), UNSUP, number)
expect(client.last(STARTTLS), UNSUP)
expect(client.last(LIST, b"x"), INVALID)
expect(client.last(STRUCTURED, b"x"), INVALID)
expect(client.last(SET_CONTEXT, contexts(DISK, ["base:allocation"])), INVALID, "before structured replies")
for number in (GO, INFO):
    expect(client.last(number), INVALID)
    expect(client.last(number, b"\xff\xff\xff\xff" + DISK.encode()), INVALID)
    expect(client.last(number, info(DISK)[:-1]), INVALID)
    expect(client.last(number, info(DISK) + b"x"), INVALID)
    expect(client.last(number, text(DISK) + b"\xff\xff"), INVALID)
    expect(client.last(number, info("n" * 4097)), INVALID)
for number in (LIST, GO, SET_CONTEXT, 77):
    expect(client.last(number, b"x" * (64 * KIB + 1)), TOO_BIG, number)
expect(client.go(DISK).size, 64 * MIB)'
}

@test "names that are none of ours are unknown, whatever bytes they are made of" {
  raw '
client = Client()
names = ["none", "../../etc/passwd", "/", "disk/", " disk", "disk\0", "disk\n", "DISK", "latest", ":", "image:", ":latest", "a" * 4096,
         b"\xff\xfe", b"\xc3\x28", "n\u00e4me", "%s%n", "image:latest:latest", "\x27; drop table devices; --"]
for name in names:
    replies = client.option(GO, info(name))
    expect(len(replies), 1, name)
    expect(replies[0][0], UNKNOWN, name)
    assert len(replies[0][1]) <= 4096 and replies[0][1].decode().isprintable(), replies
    expect(client.last(LIST_CONTEXT, contexts(name, [])), INVALID, "not yet structured")
for name in ["none", "n" * 4097, "x" * 70000, b"\0"]:
    client = Client()
    client.say(option(EXPORT_NAME, name if isinstance(name, bytes) else name.encode()))
    assert client.is_closed(), name
expect(Client().go(IMAGE).size, 16 * MIB)'
}

@test "greetings and lengths beyond reason end the connection" {
  raw '
for flags in (4, 0x80000000, 0xffffffff):
    assert Client(flags).is_closed(), flags
for number in (GO, LIST, 99, EXPORT_NAME):
    client = Client()
    client.say(b"IHAVEOPT" + struct.pack(">II", number, 0xffffffff))
    assert client.is_closed(), number
client = Client()
client.say(b"IHAVEOPX" + struct.pack(">II", LIST, 0))
assert client.is_closed()
client = Client().go(DISK)
client.say(request(WRITE, 0, 32 * MIB + 1))
assert client.is_closed()
client = Client().go(DISK)
client.say(b"\0" * 28)
assert client.is_closed()
expect(Client().go(DISK).error(READ, 0, 1), 0)'
}

@test "contexts: wildcards list, full names choose, and the rest is passed over" {
  raw '
client = Client()
expect(client.last(STRUCTURED), ACK)
def names(number, queries):
    replies = client.option(number, contexts(DISK, queries))
    expect(replies[-1][0], ACK, queries)
    return [data[4:].decode() for kind, data in replies if kind == CONTEXT]
both = ["base:allocation", "cowl:depth"]
expect(names(LIST_CONTEXT, []), both)
expect(names(LIST_CONTEXT, ["base:"]), both[:1])
expect(names(LIST_CONTEXT, ["cowl:"]), both[1:])
expect(names(LIST_CONTEXT, ["cowl:depth", "base:", "base:allocation"]), both)
expect(names(LIST_CONTEXT, ["qemu:", "qemu:dirty-bitmap:", "base:none", "x-a:b", "cowl:depth:", "cowl:dept", "Base:"]), [])
expect(names(SET_CONTEXT, ["base:", "cowl:"]), [])
expect(names(SET_CONTEXT, both + both), both)
for query in ("", "base", ":", ":allocation"):
    expect(client.last(LIST_CONTEXT, contexts(DISK, [query])), INVALID, query)
    expect(client.last(SET_CONTEXT, contexts(DISK, [query])), INVALID, query)
expect(client.last(SET_CONTEXT, text(DISK) + b"\xff\xff\xff\xff"), INVALID)
expect(client.last(SET_CONTEXT, text(DISK) + b"\0\0\0\1" + b"\xff\xff\xff\xff"), INVALID)
expect(client.last(SET_CONTEXT, contexts("none", both)), UNKNOWN)
client.go(DISK)
expect(client.error(STATUS, 0, 4096), EINVAL, "the last choice failed, so there is none")
other = Client()
other.last(STRUCTURED)
other.last(SET_CONTEXT, contexts(DISK2, both))
expect(other.go(DISK).error(STATUS, 0, 4096), EINVAL, "chosen for another export")'
}

@test "requests that are wrong get the protocol's error, and change nothing" {
  raw '
client = Client().go(ODD, ["base:allocation", "cowl:depth"])
size = client.size
expect(client.error(WRITE, 0, 4096, payload=b"w" * 4096), 0)
for command in (READ, WRITE, TRIM, CACHE, ZEROES, STATUS):
    beyond = ENOSPC if command in (WRITE, ZEROES) else EINVAL
    for offset, length in ((size, 1), (size - 1, 2), (0, size + 1), (2**64 - 1, 1), (2**63, 4096), (2**64 - 4096, 8192)):
        payload = b"x" * length if command == WRITE else b""
        expect(client.error(command, offset, length, payload=payload), beyond, (command, offset, length))
for command in (READ, WRITE, TRIM, CACHE, ZEROES):
    for offset in (0, 1, size):
        expect(client.error(command, offset, 0), 0, (command, offset))
expect(client.error(STATUS, 0, 0), EINVAL)
takes = {READ: FUA | DF, WRITE: FUA, FLUSH: FUA, TRIM: FUA, CACHE: FUA, ZEROES: FUA | NO_HOLE | FAST_ZERO, STATUS: FUA | REQ_ONE}
for command, flags in takes.items():
    for bit in range(16):
        if not flags >> bit & 1:
            payload = b"f" * 512 if command == WRITE else b""
            expect(client.error(command, 0, 0 if command == FLUSH else 512, flags=1 << bit, payload=payload), EINVAL, (command, bit))
expect(client.error(FLUSH, 1, 0), EINVAL)
expect(client.error(FLUSH, 0, 1), EINVAL)
for command in (8, 9, 255, 65535):
    expect(client.error(command, 0, 0), EINVAL, command)
expect(client.read(0, 4096), b"w" * 4096)
big = Client().go(DISK)
expect(big.error(READ, 0, 32 * MIB + 1), EOVERFLOW)
expect(big.error(READ, 0, 0xffffffff), EOVERFLOW)
image = Client().go(IMAGE)
for command in (WRITE, TRIM, ZEROES):
    payload = b"x" * 4096 if command == WRITE else b""
    expect(image.error(command, 0, 4096, payload=payload), EPERM, command)
    expect(image.error(command, image.size, 4096, payload=payload), EPERM, command)'
}

@test "odd offsets and lengths, one fragment, one extent, fast zeros" {
  raw '
client = Client().go(DISK, ["base:allocation", "cowl:depth"])
model = bytearray(256 * KIB)
noise = random.Random(11)
for i in range(200):
    length = noise.choice((1, 511, 512, 513, 4095, 4096, 4097, 10000))
    offset = noise.randrange(len(model) - length)
    if i % 3:
        data = noise.randbytes(length)
        expect(client.error(WRITE, offset, length, payload=data), 0)
    else:
        data = bytes(length)
        expect(client.error(ZEROES, offset, length, flags=noise.choice((0, NO_HOLE, FUA))), 0)
    model[offset:offset + length] = data
expect(client.read(0, len(model)), bytes(model))
expect(client.read(1, len(model) - 2), bytes(model[1:-1]))
error, message, chunks = client.ask(READ, 0, MIB, flags=DF)
expect([kind for kind, data in chunks], [1])
for offset, length in ((0, 64 * MIB), (4097, 9999), (63 * MIB + 1, 1)):
    error, message, chunks = client.ask(STATUS, offset, length, flags=REQ_ONE)
    expect(sorted(struct.unpack(">I", data[:4])[0] for kind, data in chunks), [1, 2])
    for kind, data in chunks:
        expect(len(data), 12)
        assert 0 < struct.unpack(">I", data[4:8])[0] <= length
    error, message, chunks = client.ask(STATUS, offset, length)
    for kind, data in chunks:
        lengths = [struct.unpack(">I", data[at:at + 4])[0] for at in range(4, len(data), 8)]
        assert all(lengths) and sum(lengths) <= length
for flags in (FAST_ZERO, FAST_ZERO | NO_HOLE, FAST_ZERO | FUA):
    before = client.read(0, 64 * KIB)
    error = client.error(ZEROES, 0, 64 * KIB, flags=flags)
    assert error in (0, ENOTSUP), error
    expect(client.read(0, 64 * KIB), bytes(64 * KIB) if error == 0 else before)
    client.error(WRITE, 0, 64 * KIB, payload=b"z" * 64 * KIB)'
}

@test "a client that vanishes in the middle of its data wrote none of it" {
  raw '
for said in (0, 1, 27, 28, 29, 4096 + 28, MIB + 27):
    client = Client().go(DISK)
    client.say((request(WRITE, 0, MIB) + b"v" * MIB)[:said])
    client.close()
expect(Client().go(DISK).read(0, MIB), bytes(MIB))'
}

@test "clients that flood the handshake, or stop in the middle of it, hold up nobody" {
  raw '
def flood():
    client = Client()
    try:
        while not done.is_set():
            client.say(option(LIST) * 1000)
    except OSError:
        pass
done = threading.Event()
stopped = [Client() for i in range(50)]
for client in stopped:
    client.say(b"IHAVEOPT\0\0")
floods = [threading.Thread(target=flood, daemon=True) for i in range(8)]
for thread in floods:
    thread.start()
begin = time.monotonic()
for i in range(20):
    expect(Client().go(DISK).error(READ, 0, 4096), 0)
took = time.monotonic() - begin
done.set()
assert took < 8, took
print("twenty handshakes beside the flood:", took)'
}

@test "clients that announce large writes and never send them hold up nobody" {
  raw '
slow = [Client().go(DISK) for i in range(40)]
for client in slow:
    client.say(request(WRITE, 0, 32 * MIB) + b"s" * 100000)
client = Client().go(DISK)
for i in range(100):
    expect(client.error(WRITE, MIB, 4096, payload=b"q" * 4096), 0)
expect(client.read(MIB, 4096), b"q" * 4096)
for one in slow:
    one.close()
expect(client.read(0, 4096), bytes(4096))'
}

@test "requests made at random are all answered, and leave the server serving" {
  raw '
noise = random.Random(5)
end = time.monotonic() + 5
count = 0
while time.monotonic() < end:
    client = Client().go(noise.choice((DISK2, ODD, IMAGE)), ["base:allocation"])
    for i in range(200):
        command = noise.choice((READ, WRITE, FLUSH, TRIM, CACHE, ZEROES, STATUS, 8, 77))
        offset = noise.choice((0, noise.randrange(client.size), client.size - noise.randrange(5000), noise.getrandbits(64)))
        length = noise.choice((0, 1, 512, 4096, noise.randrange(100000)))
        flags = noise.choice((0, 0, 0, 1 << noise.randrange(6)))
        error = client.error(command, offset, length, flags=flags, payload=noise.randbytes(length) if command == WRITE else b"")
        assert error in (0, EPERM, EINVAL, ENOSPC, ENOTSUP), (command, offset, length, flags, error)
        count += 1
print(count, "requests")
expect(Client().go(DISK).error(READ, 0, 4096), 0)'
}
