"""Starts and ends servers, and reads what the kernel counts of them."""

import os
import signal
import socket
import subprocess
import time

from fio import RunFailed

TICKS = os.sysconf("SC_CLK_TCK")


class Process:
    """A server on a unix socket. It is killed with this program, however that ends."""

    def __init__(self, command, socket_path, log_path, environment=None):
        self.socket_path = socket_path
        if os.path.exists(socket_path):
            os.unlink(socket_path)
        self.log_path = log_path
        with open(log_path, "wb") as log:
            # setpriv replaces itself by the server: the process counted is the server's. Its own session: Ctrl-C comes to us first.
            self.process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            start_new_session=True, env={**os.environ, **(environment or {})})
        try:
            self.wait(60)
        except BaseException:
            self.kill()
            raise

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        # After a failure or an interrupt nobody waits for it: a server may give a client that is stuck many seconds.
        self.kill() if kind else self.stop()

    def wait(self, seconds):
        """Until it can be connected to."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise RunFailed("the server ended: " + last_line(self.log_path))
            if os.path.exists(self.socket_path):
                try:
                    with socket.socket(socket.AF_UNIX) as probe:
                        probe.connect(self.socket_path)
                    return
                except OSError:
                    pass
            time.sleep(0.01)
        raise RunFailed(f"the server could not be connected to for {seconds} s")

    def stop(self):
        """Asks it to end, and kills it when it does not within 15 s."""
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.kill()
        except BaseException:
            self.kill()
            raise

    def kill(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def read(self, name):
        with open(f"/proc/{self.process.pid}/{name}", encoding="ascii", errors="replace") as file:
            return file.read()

    def forget_peak(self):
        """From here on VmHWM is the peak since now."""
        with open(f"/proc/{self.process.pid}/clear_refs", "w", encoding="ascii") as file:
            file.write("5")

    def counters(self):
        """CPU in microseconds of all its threads, peak memory in bytes, bytes it made the kernel write and read."""
        try:
            fields = self.read("stat").rpartition(")")[2].split()
            io = dict(line.split(": ") for line in self.read("io").splitlines())
            peak = next(line.split()[1] for line in self.read("status").splitlines() if line.startswith("VmHWM"))
        except (OSError, StopIteration):
            raise RunFailed("the server ended: " + last_line(self.log_path)) from None
        return {"cpu_us": (int(fields[11]) + int(fields[12])) * 1e6 / TICKS, "peak_bytes": int(peak) * 1024,
                "write_bytes": int(io["write_bytes"]), "read_bytes": int(io["read_bytes"])}


def last_line(path):
    with open(path, encoding="utf-8", errors="replace") as log:
        lines = [line.strip() for line in log if line.strip()]
    return lines[-1][:200] if lines else "it said nothing"


def call(command, environment=None):
    """Runs a tool to its end; what it printed."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, stdin=subprocess.DEVNULL,
                          env={**os.environ, **(environment or {})})
    if done.returncode:
        lines = (done.stderr + done.stdout).strip().splitlines()
        raise RunFailed(f"{os.path.basename(str(command[0]))} {command[1] if len(command) > 1 else ''}: {lines[-1] if lines else 'failed'}")
    return done.stdout
