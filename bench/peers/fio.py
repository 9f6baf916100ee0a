"""Runs a job against a server, or on the raw file itself, and turns what it reports into figures."""

import json
import os
import random
import subprocess

import nbd

PERCENTILES = {"p50_us": "50.000000", "p99_us": "99.000000", "p999_us": "99.900000"}


class RunFailed(Exception):
    """A server, or the work on it, failed: one line."""


def run(job, targets, seconds, seed, size):
    """Figures of JOB on TARGETS, each ("nbd", socket, export) or ("file", path): rates a second, latencies in microseconds."""
    if not job.fio:
        return run_fua(job, targets[0], seconds, seed, size)
    command = ["fio", "--output-format=json", "--group_reporting", "--lat_percentiles=1", "--clat_percentiles=0",
               "--percentile_list=50:99:99.9", f"--bs={job.block}", f"--iodepth={job.depth}", f"--size={size}", f"--runtime={int(seconds * 1000)}ms",
               f"--randseed={seed}", *job.fio, *options(job, targets[0])]
    for number in range(job.connections):
        command += [f"--name=job{number}", *target_options(targets[number % len(targets)])]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        raise RunFailed(f"fio did not end {60} s after its time") from None
    start = done.stdout.find("{\n")
    if done.returncode or start < 0:
        lines = (done.stderr + done.stdout).strip().splitlines()
        raise RunFailed("fio: " + next((line for line in lines if "error" in line.lower() or "failed" in line.lower()), "no report"))
    return figures(json.loads(done.stdout[start:])["jobs"][0], job)


def options(job, target):
    """What depends on the job and on where it runs."""
    found = [] if job.once else ["--time_based"]
    if not job.once and "--rw=randread" in job.fio:
        found.append("--norandommap")  # a map costs the client time, and a read may come twice
    local = target[0] == "file"
    if job.flush_every:
        found.append(f"--fdatasync={job.flush_every}" if local else f"--fsync={job.flush_every}")
    if local:
        found.append("--invalidate=0")  # else fio drops the file from the page cache first
        found.append("--ioengine=psync" if job.depth == 1 and job.flush_every else "--ioengine=io_uring")
    return found


def target_options(target):
    return ["--ioengine=nbd", f"--uri={nbd.uri(*target[1:])}"] if target[0] == "nbd" else [f"--filename={target[1]}"]


def figures(report, job):
    parts = [report[name] for name in ("read", "write", "mixed") if report.get(name, {}).get("total_ios")]
    if not parts or report["error"]:
        raise RunFailed(f"fio: no request was answered (error {report['error']})")
    part = parts[0]
    found = {"requests": part["total_ios"], "bytes": part["io_bytes"], "iops": part["iops"], "mib_s": part["bw_bytes"] / (1 << 20),
             "mean_us": part["lat_ns"]["mean"] / 1000}
    found |= {name: part["lat_ns"]["percentile"][key] / 1000 for name, key in PERCENTILES.items()}
    if job.flush_every == 1:  # fio times the write and its flush apart: a pair's mean is their sum; so are its percentiles, nearly
        flush = report["sync"]["lat_ns"]
        found["mean_us"] += flush["mean"] / 1000
        for name, key in PERCENTILES.items():
            found[name] += flush["percentile"][key] / 1000
    return found


def run_fua(job, target, seconds, seed, size):
    """Writes with FUA, one at a time; on the raw file pwrite and fdatasync. Blocks in a random order."""
    offsets = [block * job.block for block in random.Random(seed).sample(range(size // job.block), min(size // job.block, 65536))]
    data = os.urandom(job.block)
    if target[0] == "file":
        file = os.open(target[1], os.O_RDWR)
        try:
            latencies = nbd.timed_loop(lambda offset: (os.pwrite(file, data, offset), os.fdatasync(file)), offsets, seconds)
        finally:
            os.close(file)
    else:
        try:
            client = nbd.Nbd(*target[1:])
            if not client.flags & 8:
                raise RunFailed("the server does not offer FUA")
            latencies = nbd.timed_loop(lambda offset: client.write_fua(offset, data), offsets, seconds)
            client.close()
        except (OSError, nbd.NbdError) as error:
            raise RunFailed(f"write with FUA: {error}") from None
    latencies.sort()
    count = len(latencies)
    mean = sum(latencies) / count
    at = lambda share: latencies[min(count - 1, int(count * share))]
    return {"requests": count, "bytes": count * job.block, "iops": 1e6 / mean, "mib_s": job.block / mean * 1e6 / (1 << 20),
            "mean_us": mean, "p50_us": at(0.5), "p99_us": at(0.99), "p999_us": at(0.999)}
