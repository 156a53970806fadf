"""An upgrade whose file system fails at any change: one error, one whole version is used, and the next one ends it."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from pathlib import Path

import pytest

from ntxengine.deploy.release import Release
from ntxengine.errors import NtxError, ToolError
from tests.deploy import test_install
from tests.deploy.releases import fill
from tests.deploy.test_cut_short import Service
from tests.deploy.test_install import Machine
from tests.support import faulty
from tests.support.faulty import FaultyDisk

pytestmark = pytest.mark.slow


def fill_or_fail(here: Path, release: Release, python: Path) -> None:
    """Make the folder of a version, or fail as pip does."""
    try:
        fill(here, release, python)
    except OSError as exc:
        raise ToolError(f"pip: {exc}") from exc


def changed(before: Mapping[str, object], after: Mapping[str, object]) -> set[str]:
    return {name for name in {*before, *after} if before.get(name) != after.get(name)}


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS], ids=["ENOSPC", "EROFS"])
def test_an_upgrade_that_fails_at_any_change_is_put_back_or_runs_and_the_next_ends_it(
    tmp_path: Path, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(test_install, "fill", fill_or_fail)
    number, used = 0, []
    with FaultyDisk(tmp_path) as disk:
        while True:
            machine = Machine(disk.path / f"machine-{number}")
            machine.install(machine.release("1.0"), machine.config, Service(machine.places))
            before, new, service = machine.files(), machine.release("1.1"), Service(machine.places)
            disk.plan.begin(number, faulty.FAILS, code)
            said = ""
            try:
                machine.install(new, machine.config, service)
            except NtxError as error:
                said = str(error)
            if said:
                assert "\n" not in said
                used.append(machine.used)
                if machine.used == "1.0":
                    assert changed(before, machine.files()) <= {"opt/ntx/installed.json", "etc/ntx/agent.yaml.before"}
                else:
                    assert service.told == ["restart"]  # it had begun, and only the list was to be written
            has_failed = disk.plan.has_happened
            disk.plan.rest()
            if not has_failed:
                break
            machine.install(new, machine.config, Service(machine.places))
            assert machine.used == "1.1"
            number += 1
    assert used.count("1.0") > 20, used
