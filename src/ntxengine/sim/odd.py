"""VMs as no client expects them: one of them must not hide the others.

| kind           | v4                                  | v3                                   |
|----------------|-------------------------------------|--------------------------------------|
| `no_backing`   | a disk has no `backingInfo`         | a disk has no `uuid`                 |
| `no_size`      | a disk has no `diskSizeBytes`       | a disk has no `disk_size_bytes`      |
| `no_address`   | a disk has no `diskAddress`         | a disk has no `device_properties`    |
| `same_ids`     | its disks all have the first's id   | the same                             |
| `null_disk`    | a disk is null                      | the same                             |
| `no_resources` | `disks` is an object                | there are no `resources`             |
| `no_name`      | its name is null                    | the same                             |
| `no_id`        | its id is null                      | the same                             |
| `external`     | its first disk lies on storage of somebody else: no container    | the same |
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ntxengine.errors import OptionsError
from ntxengine.sim.answers import Json

Spoil = Callable[[Json, Any], object]

ODD_V4: dict[str, Spoil] = {
    "no_backing": lambda _vm, disks: disks[0].pop("backingInfo"),
    "no_size": lambda _vm, disks: disks[0]["backingInfo"].pop("diskSizeBytes"),
    "no_address": lambda _vm, disks: disks[0].pop("diskAddress"),
    "same_ids": lambda _vm, disks: [disk["backingInfo"].update(diskExtId=_id_v4(disks[0])) for disk in disks],
    "null_disk": lambda _vm, disks: disks.append(None),
    "no_resources": lambda vm, _disks: vm.update(disks={}),
    "no_name": lambda vm, _disks: vm.update(name=None),
    "no_id": lambda vm, _disks: vm.update(extId=None),
    "external": lambda _vm, disks: disks[0]["backingInfo"].update(
        storageContainer=None, externalStorageInfo={"$objectType": "vmm.v4.ahv.config.ExternalStorageInfo"}
    ),
}

ODD_V3: dict[str, Spoil] = {
    "no_backing": lambda _vm, disks: disks[0].pop("uuid"),
    "no_size": lambda _vm, disks: disks[0].pop("disk_size_bytes"),
    "no_address": lambda _vm, disks: disks[0].pop("device_properties"),
    "same_ids": lambda _vm, disks: [disk.update(uuid=disks[0]["uuid"]) for disk in disks],
    "null_disk": lambda _vm, disks: disks.append(None),
    "no_resources": lambda vm, _disks: vm["status"].pop("resources"),
    "no_name": lambda vm, _disks: vm["status"].update(name=None),
    "no_id": lambda vm, _disks: vm["metadata"].update(uuid=None),
    "external": lambda _vm, disks: disks[0].pop("storage_config"),
}


def check(kinds: Iterable[str]) -> None:
    """Raise OptionsError if a kind is not known."""
    for kind in kinds:
        if kind not in ODD_V4:
            raise OptionsError(f"simulator: odd VM: {kind!r} is not known; known are {', '.join(sorted(ODD_V4))}")


def odd_v4(vm: Json, kinds: Iterable[str]) -> Json:
    """Return a VM of v4 with its oddities."""
    for kind in kinds:
        ODD_V4[kind](vm, vm["disks"])
    return vm


def odd_v3(vm: Json, kinds: Iterable[str]) -> Json:
    """Return a VM of v3 with its oddities."""
    for kind in kinds:
        ODD_V3[kind](vm, vm["status"]["resources"]["disk_list"])
    return vm


def _id_v4(disk: Json) -> str:
    return str(disk["backingInfo"]["diskExtId"])
