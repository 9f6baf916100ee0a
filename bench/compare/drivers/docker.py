"""Docker itself, with the storage driver its daemon uses. A container runs one sleeping process, which keeps its root mounted."""

import os
import pathlib
import shutil
import subprocess

from driver import Driver, copy_layers
from ground import Failed, NotHere, call, tree_bytes, unmount


def inspect(name, form):
    return call("docker", "inspect", "-f", "{{" + form + "}}", name).strip()


class Docker(Driver):
    name = "docker"
    title = "Docker"
    storage = "?"

    @property
    def how(self):
        return f"docker run, the daemon's own storage driver ({self.storage})"

    def check(self, ground):
        if not shutil.which("docker"):
            raise NotHere("no docker")
        try:
            self.storage = call("docker", "info", "-f", "{{.Driver}}").strip()
        except Failed as error:
            raise NotHere(f"no Docker daemon answers: {error}") from None
        if self.storage != "overlay2":
            raise NotHere(f"Docker stores with {self.storage} here, not with overlay2")
        if not shutil.which("busybox"):
            raise NotHere("no static busybox (package busybox-static), which the containers run")

    def import_image(self, image, folders):
        """Built from a Dockerfile of one COPY for each layer."""
        context = self.home / "context"
        lines = ["FROM scratch"]
        for number, folder in enumerate(folders):
            (context / str(number)).mkdir(parents=True)
            copy_layers([folder], context / str(number))
            lines.append(f"COPY {number}/ /")
        shutil.copy2(shutil.which("busybox"), context / "busybox")
        lines.append("COPY busybox /.busybox")
        (context / "Dockerfile").write_text("\n".join(lines), encoding="utf-8")
        tag = f"cowl-compare-{image.name}:{os.getpid()}"
        done = subprocess.run(["docker", "build", "-q", "-t", tag, str(context)], capture_output=True, text=True)
        shutil.rmtree(context)
        if done.returncode:
            raise Failed(f"docker build: {done.stderr.strip().splitlines()[-1:]}")
        return tag

    def make(self, container, base):
        container.docker = f"cowl-compare-{os.getpid()}-{container.name}"
        call("docker", "create", "--network", "none", "--name", container.docker, base, "/.busybox", "sleep", "1000000")

    def start(self, container):
        call("docker", "start", container.docker)
        call("mount", "--bind", inspect(container.docker, ".GraphDriver.Data.MergedDir"), container.path)

    def stop(self, container):
        unmount(container.path)
        call("docker", "stop", "-t", "0", container.docker)

    def delete(self, container):
        call("docker", "rm", "-f", container.docker)

    def commit(self, container, name):
        self.stop(container)
        tag = f"cowl-compare-{name}:{os.getpid()}"
        call("docker", "commit", container.docker, tag)
        self.delete(container)
        return tag

    def drop(self, base):
        call("docker", "rmi", base)

    def stored_bytes(self, container):
        os.sync()
        return tree_bytes(inspect(container.docker, ".GraphDriver.Data.UpperDir"))

    def disk_bytes(self):
        os.sync()
        return tree_bytes(pathlib.Path(call("docker", "info", "-f", "{{.DockerRootDir}}").strip()) / "overlay2")

    def delete_image(self, image, base):
        call("docker", "rmi", base)


def drivers():
    return [Docker()]
