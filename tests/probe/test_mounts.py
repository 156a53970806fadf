"""Mounted storage containers, where no VM is named: each that Prism tells of is looked at."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ntxengine.probe import Result
from ntxengine.sim.faults import AnswerFault, HttpFault
from tests.probe.lab import Lab

MOUNT = "mount -t nfs -o ro,vers=3,nolock,proto=tcp"


@pytest.fixture
def mounts(lab: Lab) -> Lab:
    lab.element()
    lab.give(vm="", worker="")
    lab.give_attach(source="path", containers=lab.folder)
    return lab


async def found_of(lab: Lab) -> Result:
    await lab.probe()
    return next(line.result for line in lab.told if line.key == "source.path")


def mount(lab: Lab, *names: str) -> None:
    for name in names:
        (lab.folder / name / ".acropolis").mkdir(parents=True)


def let_looking_at(name: str, lab: Lab, do: Callable[[Path], bool]) -> None:
    """Let one container answer so, and all others as they are."""

    def look(_root: Path, place: Path) -> bool:
        return do(place) if place.name == name else (place / ".acropolis").is_dir()

    lab.patch.setattr("ntxengine.attach.container._is_container", look)


def refuses(_place: Path) -> bool:
    raise PermissionError(13, "Permission denied")


def is_dead(_place: Path) -> bool:
    time.sleep(0.5)
    return True


async def test_all_that_are_mounted_can_be_read(mounts: Lab) -> None:
    mount(mounts, "default", "fast")

    found = await found_of(mounts)

    assert found.status == "ok"
    assert found.text == f"2 containers can be read below {mounts.folder}: default, fast"
    assert found.facts["containers_mounted"] == ["default", "fast"]


async def test_none_that_is_mounted_is_a_failure_with_the_command(mounts: Lab) -> None:
    found = await found_of(mounts)

    assert found.status == "failed"
    assert f"cannot read {mounts.folder / 'default'}: No such file or directory" in found.text
    assert f"{MOUNT} CLUSTER:/default {mounts.folder}/default" in found.remedy


async def test_one_that_is_not_mounted_is_named(mounts: Lab) -> None:
    mount(mounts, "default")
    (mounts.folder / "fast").mkdir()

    found = await found_of(mounts)

    assert found.status == "warning"
    assert "'fast'" in found.text
    assert "'default'" not in found.text
    assert "or has no disk yet" in found.text
    assert f"{MOUNT} CLUSTER:/fast {mounts.folder}/fast" in found.remedy
    assert found.facts["containers_mounted"] == ["default"]


async def test_one_that_refuses_us_does_not_hide_the_others(mounts: Lab) -> None:
    mount(mounts, "default", "fast")
    let_looking_at("fast", mounts, refuses)

    found = await found_of(mounts)

    assert found.status == "warning"
    assert "'fast': cannot read" in found.text
    assert "Permission denied; mount it there, and let this machine be in its allow-list" in found.text
    assert found.facts["containers_mounted"] == ["default"]


async def test_a_dead_mount_is_named_with_the_time_that_it_was_waited_for(mounts: Lab) -> None:
    mount(mounts, "default", "fast")
    mounts.patch.setattr("ntxengine.probe.sources.FOLDER_TIMEOUT_S", 0.1)
    let_looking_at("default", mounts, is_dead)

    found = await found_of(mounts)

    assert found.status == "warning"
    assert f"no answer from {mounts.folder / 'default'} in 0.1 s" in found.text
    assert "fast" not in found.text


async def test_containers_that_are_not_told_are_not_called_mounted(mounts: Lab) -> None:
    mounts.sim.faults.http.append(HttpFault("storage_containers", status=500, count=-1))

    found = await found_of(mounts)

    assert found.status == "warning"
    assert "no storage container is told" in found.text
    assert "name a VM" in found.remedy


async def test_a_command_is_one_whatever_a_container_is_called(mounts: Lab) -> None:
    mounts.sim.faults.answers.append(AnswerFault("storage_containers", count=-1, field="entities.*.name", value="a; b"))

    found = await found_of(mounts)

    assert found.remedy == f"{MOUNT} 'CLUSTER:/a; b' '{mounts.folder}/a; b'"


async def test_of_a_vm_the_containers_of_its_disks_are_named(mounts: Lab) -> None:
    mounts.give(vm="db01")
    mount(mounts, "default", "fast")

    found = await found_of(mounts)

    assert found.status == "ok"
    assert found.text == f"2 containers can be read below {mounts.folder}: default, fast"
