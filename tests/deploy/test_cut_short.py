"""Installations on machines that are not as usual: one was killed, a service was stopped, the user was there."""

from __future__ import annotations

import grp
import os
import pwd
from pathlib import Path

import pytest

from ntxengine.deploy import versions
from ntxengine.deploy.places import Places
from ntxengine.deploy.system import System
from ntxengine.deploy.unit import Filled, unit_text
from ntxengine.errors import ToolError
from tests.deploy.releases import CONFIG
from tests.deploy.test_install import Machine


class Killed(BaseException):
    """The program ends here, whatever it was doing."""


class Service(System):
    """A service that runs; `told` is what systemctl would be told."""

    runs_services = True

    def __init__(self, places: Places, *, active: bool = True) -> None:
        super().__init__(places)
        self.told: list[str] = []
        self.active, self.enabled = active, True

    def is_active(self) -> bool:
        return self.active

    def is_enabled(self) -> bool:
        return self.enabled

    def enable(self) -> None:
        self.enabled = True

    def disable(self) -> None:
        self.enabled = False

    def restart(self) -> None:
        self.told.append("restart")

    def stop(self) -> None:
        self.told.append("stop")


class KillsAtStart(Service):
    def restart(self) -> None:
        os._exit(9)


class DoesNotStart(Service):
    def restart(self) -> None:
        raise ToolError("the agent does not start")


def install_and_die(machine: Machine, release: Path) -> int:
    """Install in a process that ends when the service is to start; return what it ended with."""
    installation = machine.installation(release, machine.config, KillsAtStart(machine.places))
    child = os.fork()
    if child == 0:
        try:
            installation.run()
        finally:
            os._exit(0)  # else an error would go on with the tests, in the child
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_what_was_killed_before_the_start_starts_the_new_version_the_next_time(machine: Machine) -> None:
    old, new = machine.release("1.0"), machine.release("1.1")
    machine.install(old, machine.config, Service(machine.places))
    code = install_and_die(machine, new)
    service = Service(machine.places)

    did = machine.install(new, machine.config, service)
    after = machine.versions
    again = machine.install(new, machine.config, service)

    assert (code, machine.used) == (9, "1.1")
    assert did.changes == ["start the service anew: an installation was cut short"]
    assert service.told == ["restart"]
    assert after == ["1.0", "1.1"]  # the old one may have run until now
    assert again.changes == []


def test_what_was_killed_before_the_start_goes_back_to_the_version_that_ran(machine: Machine) -> None:
    old, new = machine.release("1.0"), machine.release("1.1")
    machine.install(old, machine.config, Service(machine.places))
    install_and_die(machine, new)

    with pytest.raises(ToolError):
        machine.install(new, machine.config, DoesNotStart(machine.places))

    assert machine.used == "1.0"


def test_a_service_that_was_stopped_by_hand_still_starts_with_the_machine_after_a_failure(machine: Machine) -> None:
    machine.install(machine.release("1.0"), machine.config, Service(machine.places))
    service = DoesNotStart(machine.places, active=False)

    with pytest.raises(ToolError):
        machine.install(machine.release("1.1"), machine.config, service)

    assert machine.used == "1.0"
    assert service.enabled


def test_a_user_that_was_there_keeps_its_own_group(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    system = Service(machine.places)
    monkeypatch.setattr(system, "_is_real", True)
    root = pwd.getpwuid(0)
    monkeypatch.setattr(pwd, "getpwnam", lambda name: pwd.struct_passwd((name, "x", 4242, root.pw_gid, "", "/", "")))
    named = system.group_of("backup")
    monkeypatch.setattr(grp, "getgrgid", lambda number: grp.struct_group(("domain users", "x", number, [])))

    assert named == "root"
    assert system.group_of("backup") == str(root.pw_gid)
    assert "\nUser=backup\nGroup=users\n" in unit_text(Filled(Path("/ntx"), Path("/a.yaml"), "backup", "users"))


def test_what_is_left_to_a_person_is_right_for_the_shell(machine: Machine) -> None:
    machine.config.write_text(CONFIG.replace("/backups", "'/my backups/50%'"))

    did = machine.install(machine.release("1.0"), machine.config)

    assert did.to_do[0].endswith("install -d -o ntx -g ntx -m 700 '/my backups/50%'")


def test_a_version_that_was_half_removed_is_made_anew(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(path: Path) -> None:
        (path / "bin/ntx").unlink()
        raise Killed

    releases = [machine.release(version) for version in ("1.0", "1.1", "1.2")]
    for release in releases[:2]:
        machine.install(release, machine.config)
    with monkeypatch.context() as patched, pytest.raises(Killed):
        remove_tree = versions.remove_tree
        patched.setattr(
            versions, "remove_tree", lambda path: killed(path) if "1.0-" in path.name else remove_tree(path)
        )
        machine.install(releases[2], machine.config)

    machine.install(releases[0], machine.config)

    assert (machine.root / "opt/ntx/current/bin/ntx").exists()
    assert machine.used == "1.0"
