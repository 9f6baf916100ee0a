"""The cost model of docs/file-vs-block.md: bytes that one small change of a file of the image writes.

By file (overlayfs): the whole file is copied up, then the change is written. By block (cowl): the changed blocks, and what the file
system on the disk and the store write around them, whatever the size of the file.
"""

BLOCK_BYTES = 4096
# ext4 on the disk: the inode's block, and a transaction of its journal (descriptor, a few blocks, commit); the store: a journal record.
AROUND_BYTES = 12 * BLOCK_BYTES


def file_bytes(size_bytes, change_bytes):
    return size_bytes + change_bytes


def block_bytes(size_bytes, change_bytes):
    return -(-change_bytes // BLOCK_BYTES) * BLOCK_BYTES + AROUND_BYTES


def curves(sizes, change_bytes=36):
    return {"model: by file": [(size, file_bytes(size, change_bytes)) for size in sorted(sizes)],
            "model: by block": [(size, block_bytes(size, change_bytes)) for size in sorted(sizes)]}
