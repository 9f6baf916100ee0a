"""Packages and the release build: what a benchmark program does before it begins."""

import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


class SetUpFailed(Exception):
    """One line; what went wrong was printed before."""


def set_up(sections, with_cowl):
    """Installs the packages of these SECTIONS of tools/packages, and WITH_COWL builds cowl."""
    if subprocess.run([ROOT / "tools/setup", *sections], stdin=subprocess.DEVNULL).returncode:
        raise SetUpFailed("set-up: packages are missing")
    if not with_cowl:
        return
    print("building cowl (release)", flush=True)
    for step in (["cmake", "--preset", "release"], ["cmake", "--build", "build/release", "--target", "cowl"]):
        done = subprocess.run(step, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            print(done.stdout[-4000:], file=sys.stderr)
            raise SetUpFailed(f"set-up: {' '.join(step)} failed: see above")
