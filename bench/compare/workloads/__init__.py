"""Every module here is a workload, or a few kin: `workloads()` returns its instances. The order of the report is their `number`."""

import importlib
import pathlib


def all_workloads():
    found = []
    for file in sorted(pathlib.Path(__file__).parent.glob("*.py")):
        if file.name != "__init__.py":
            found += importlib.import_module(f"workloads.{file.stem}").workloads()
    return sorted(found, key=lambda workload: workload.number)
