"""Chains of layers in which every layer really holds blocks.

A layered chain is what images are made of: the lowest layer holds the disk, each further one rewrites a random 1/1024 of it, and
most of what is read comes from the base, through all of them. A scattered chain is the hardest there is: layer k rewrites a random
1/k of all blocks, so that every layer holds an equal share of what is read. Either, built once, serves every depth. cowl gets single
blocks of 4 KiB, the hardest for it; qcow2 whole clusters of 64 KiB, the easiest for it (4 KiB writes would have copied up clusters
and made its files many times larger).
"""

import os
import random

import nbd
from process import Process, call

CLUSTER = 65536


def share(ground, layer, unit, scattered):
    """Offsets in bytes, in a random order, of the blocks of UNIT bytes that a layer rewrites."""
    blocks = ground.size // unit
    count = max(1, blocks // (layer if scattered else 1024))
    return [block * unit for block in random.Random(f"{ground.seed} {layer}").sample(range(blocks), count)]


def chain_name(scattered):
    return "scattered" if scattered else "layered"


def init_cowl(ground):
    call([ground.cowl, "--store", ground.store, "init"])


def build_cowl(ground, depths, scattered):
    """Images layered:N, or scattered:N, for each N up to the largest of DEPTHS, through the command line and a server."""
    store = ["--store", ground.store]
    chain = chain_name(scattered)
    call([ground.cowl, *store, "import", ground.raw, f"{chain}:1", "--format", "raw"])
    path = ground.socket("build")
    data = os.urandom(4096)
    with Process([ground.cowl, *store, "serve", "--listen", f"unix:{path}"], path, ground.log("build-cowl")):
        for layer in range(2, max(depths) + 1):
            ground.progress(f"cowl's {chain} chain: layer {layer} of {max(depths)}")
            call([ground.cowl, *store, "create", f"{chain}:{layer - 1}", "next"])
            client = nbd.Nbd(path, "next")
            client.write_all(share(ground, layer, 4096, scattered), data)
            client.flush()
            client.close()
            call([ground.cowl, *store, "commit", "next", f"{chain}:{layer}", "--force"])


def qcow2_layer(ground, layer, scattered):
    return ground.raw if layer == 1 else ground.path(f"{chain_name(scattered)}{layer}.qcow2")


def build_qcow2(ground, depths, scattered):
    """Files layered2.qcow2, layered3.qcow2, ..., or scattered2.qcow2, ..., above the raw file, which is layer 1."""
    data = os.urandom(CLUSTER)
    path = ground.socket("build")
    for layer in range(2, max(depths) + 1):
        ground.progress(f"qcow2's {chain_name(scattered)} chain: layer {layer} of {max(depths)}")
        file = qcow2_layer(ground, layer, scattered)
        qcow2_above(ground, layer - 1, scattered, file)
        with Process(["qemu-nbd", "-f", "qcow2", "--cache=unsafe", "-t", "-k", path, file], path, ground.log("build-qcow2")):
            client = nbd.Nbd(path)
            client.write_all(share(ground, layer, CLUSTER, scattered), data)
            client.close()


def qcow2_above(ground, layer, scattered, file, extended=False):
    """An empty qcow2 FILE above layer LAYER."""
    options = "extended_l2=on,cluster_size=128k" if extended else "cluster_size=64k"
    call(["qemu-img", "create", "-q", "-f", "qcow2", "-o", options, "-b", qcow2_layer(ground, layer, scattered),
          "-F", "raw" if layer == 1 else "qcow2", file])
