"""Starts and ends the servers that drivers have in userspace."""

import os
import signal
import subprocess
import time

from ground import Failed


class Server:
    """A process that is ready when PATH is there. It dies with this program."""

    def __init__(self, command, path, log_path):
        with open(log_path, "wb") as log:
            self.process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *map(str, command)], stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, start_new_session=True)
        end = time.monotonic() + 60
        while not os.path.exists(path):
            if self.process.poll() is not None or time.monotonic() > end:
                self.stop()
                with open(log_path, encoding="utf-8", errors="replace") as log:
                    lines = log.read().strip().splitlines() or ["it said nothing"]
                raise Failed(f"{command[0]} did not start: {lines[-1]}")
            time.sleep(0.01)

    @property
    def pid(self):
        return self.process.pid

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()


def pids_of(word):
    """Processes of whose command line WORD is a part."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if word.encode() in file.read() and int(pid) != os.getpid():
                    found.append(int(pid))
        except OSError:
            pass
    return found
