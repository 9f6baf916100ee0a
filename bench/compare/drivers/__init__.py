"""Every module here is a storage driver, or a few kin: `drivers()` returns its instances. The order of the report is ORDER."""

import importlib
import pathlib

ORDER = ("overlay2", "overlay2-metacopy", "docker", "vfs", "btrfs", "devicemapper", "zfs", "qcow2", "reflink-xfs", "cowl-ext4", "cowl-xfs",
         "cowl-btrfs", "cowl-volume", "plain")


def all_drivers():
    found = []
    for file in sorted(pathlib.Path(__file__).parent.glob("*.py")):
        if file.name != "__init__.py":
            found += importlib.import_module(f"drivers.{file.stem}").drivers()
    return sorted(found, key=lambda driver: (ORDER.index(driver.name) if driver.name in ORDER else len(ORDER), driver.name))
