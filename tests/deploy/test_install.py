"""An installation below another root: beside the old version, switched at once, put back where it fails."""

from __future__ import annotations

import os
import sqlite3
import stat
from pathlib import Path

import pytest

from ntxengine.deploy.install import Installation, InstallOptions, InstallReport
from ntxengine.deploy.places import Places
from ntxengine.deploy.release import open_release
from ntxengine.deploy.system import System, python_for
from ntxengine.deploy.uninstall import Removal
from ntxengine.errors import LockedError, NotFoundError, OptionsError, StateError, ToolError
from ntxengine.files.lock_file import LockFile
from tests.deploy.releases import CONFIG, EXAMPLE, TAG, fill, make_release, write_sums
from tests.support.booted import python_there

DROP_INS = "etc/systemd/system/ntx-agent.service.d"


class Machine:
    """A root, and what is installed below it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "root"
        (self.root / "etc/ntx").mkdir(parents=True)
        (self.root / "etc/ntx/environment").write_text("# of the service\nPRISM_PASSWORD='secret word'\n")
        self.places = Places(self.root)
        self.config = folder / "agent.yaml"
        self.config.write_text(CONFIG)

    def release(self, version: str, **options: object) -> Path:
        return make_release(self.folder / f"ntx-{version}", version, **options)  # type: ignore[arg-type]

    def installation(
        self, release: Path, config: Path | None = None, system: System | None = None, python: Path | None = None
    ) -> Installation:
        options = InstallOptions(config, python=python or python_there())
        return Installation(self.places, open_release(release), options, system, fill)

    def install(self, release: Path, config: Path | None = None, system: System | None = None) -> InstallReport:
        return self.installation(release, config, system).run()

    def files(self) -> dict[str, bytes | str]:
        """Return all that is below the root, but for what a version is made of: contents of files, and links."""
        found: dict[str, bytes | str] = {}
        for parent, folders, names in os.walk(self.root):
            if Path(parent).name == "versions":
                folders.clear()
            for name in [*names, *(each for each in folders if Path(parent, each).is_symlink())]:
                path = Path(parent, name)
                found[str(path.relative_to(self.root))] = os.readlink(path) if path.is_symlink() else path.read_bytes()
        return found

    @property
    def used(self) -> str:
        return os.readlink(self.root / "opt/ntx/current").removeprefix("versions/").partition("-")[0]

    @property
    def versions(self) -> list[str]:
        return sorted(path.name.partition("-")[0] for path in (self.root / "opt/ntx/versions").iterdir())


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_first_installation_writes_what_it_said_before_and_a_second_one_nothing(machine: Machine) -> None:
    release = machine.release("1.0")
    before = machine.files()

    would = machine.installation(release, machine.config).look()
    after_look = machine.files()
    did = machine.install(release, machine.config)
    first = machine.files()
    again = machine.install(release, machine.config)

    assert after_look == before
    assert did.changes == would.changes
    assert len(did.changes) == 5
    assert again.changes == []
    assert machine.files() == first
    assert first["usr/local/bin/ntx"] == "/opt/ntx/current/bin/ntx"
    assert "ReadWritePaths=-/backups\n" in str(first[f"{DROP_INS}/10-ntx-folders.conf"], "utf-8")  # type: ignore[arg-type]
    unit = (machine.root / "etc/systemd/system/ntx-agent.service").read_text()
    assert "ExecStart=/opt/ntx/current/bin/ntx agent --config /etc/ntx/agent.yaml\n" in unit
    assert str(machine.root) not in unit
    program = (machine.root / "opt/ntx/current/bin/ntx").read_text()
    assert program.startswith(f"#!/opt/ntx/versions/1.0-{open_release(release).digest[:12]}/bin/python")
    modes = {
        name: stat.S_IMODE((machine.root / name).stat().st_mode) for name in ("etc/ntx/agent.yaml", "etc/credstore")
    }
    assert modes == {"etc/ntx/agent.yaml": 0o640, "etc/credstore": 0o700}
    assert "install -d -o ntx -g ntx -m 700 /backups" in did.to_do[0]


def test_without_a_configuration_the_example_is_written_and_nothing_started(machine: Machine) -> None:
    did = machine.install(machine.release("1.0"))

    assert (machine.root / "etc/ntx/agent.yaml").read_text() == EXAMPLE
    assert not did.is_started
    assert did.to_do[0].startswith("say in /etc/ntx/agent.yaml where the cluster is")
    assert did.to_do[-1] == "run this command again"


def test_a_version_goes_beside_the_one_before_and_both_ways_are_open(machine: Machine) -> None:
    releases = {version: machine.release(version) for version in ("1.0", "1.1", "1.2")}
    for version in ("1.0", "1.1", "1.2"):
        machine.install(releases[version], machine.config)
    after_upgrades = machine.versions

    back = machine.install(releases["1.1"])

    assert after_upgrades == ["1.1", "1.2"]
    assert (back.before or "").startswith("1.2-")
    assert back.changes == [f"use it: /opt/ntx/current -> versions/{open_release(releases['1.1']).name}"]
    assert (machine.used, machine.versions) == ("1.1", ["1.1", "1.2"])


def test_another_configuration_takes_the_place_of_the_old_which_is_kept(machine: Machine) -> None:
    release = machine.release("1.0")
    machine.install(release, machine.config)
    machine.config.write_text(CONFIG.replace("/backups", "/var/lib/ntx/points").replace("every: 1h", "every: 2h"))

    machine.install(release, machine.config)

    assert (machine.root / "etc/ntx/agent.yaml.before").read_text() == CONFIG
    drop_in = (machine.root / DROP_INS / "10-ntx-folders.conf").read_text()
    assert "/backups" not in drop_in


def test_a_drop_in_that_nothing_needs_any_more_is_removed_and_those_of_people_stay(machine: Machine) -> None:
    release = machine.release("1.0")
    machine.config.write_text(CONFIG.replace("/backups", "/backups, worker: backup01"))
    machine.install(release, machine.config)
    had = sorted(path.name for path in (machine.root / DROP_INS).iterdir())
    (machine.root / DROP_INS / "override.conf").write_text("[Service]\nNice=5\n")
    machine.config.write_text(CONFIG)

    machine.install(release, machine.config)

    assert had == ["10-ntx-folders.conf", "20-ntx-attached-disks.conf"]
    assert sorted(path.name for path in (machine.root / DROP_INS).iterdir()) == ["10-ntx-folders.conf", "override.conf"]


class DoesNotStart(System):
    """The service of the new version ends at once."""

    def restart(self) -> None:
        raise ToolError("the agent does not start: ntx: the configuration has no jobs")

    def reload_units(self) -> None:
        if not self.told:
            self.told = True
            self.restart()

    told = False


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        ({"check": 2}, "by the new version"),
        ({"says": "0.9"}, "this is version"),
        ({}, "the agent does not start: ntx: the configuration has no jobs"),
    ],
    ids=["its configuration", "its version", "its start"],
)
def test_what_fails_leaves_the_old_version_as_it_was(machine: Machine, broken: dict[str, object], says: str) -> None:
    machine.install(machine.release("1.0"), machine.config)
    before = machine.files()
    machine.config.write_text(CONFIG.replace("/backups", "/elsewhere"))

    with pytest.raises((ToolError, OptionsError), match=says):
        machine.install(
            machine.release("1.1", **broken), machine.config, None if broken else DoesNotStart(machine.places)
        )

    after = machine.files()
    for listed in (before, after):
        listed.pop("opt/ntx/installed.json")
    assert after == before
    assert machine.used == "1.0"


def test_a_killed_installation_is_done_anew(machine: Machine) -> None:
    release = machine.release("1.0")
    machine.install(release, machine.config)
    version = machine.root / "opt/ntx/versions" / open_release(release).name
    (version / ".complete").unlink()
    (version / "bin/ntx").unlink()

    did = machine.install(release, machine.config)

    assert (version / "bin/ntx").exists()
    assert did.changes == [f"make /opt/ntx/versions/{version.name}, with its own Python modules"]


def test_a_version_that_could_not_read_what_the_newer_remembers_is_refused_before_the_switch(machine: Machine) -> None:
    machine.install(machine.release("1.0"), machine.config)
    state = machine.root / "var/lib/ntx"
    state.mkdir(parents=True)
    with sqlite3.connect(state / "state.db") as database:
        database.execute("PRAGMA user_version = 99")
    before = machine.files()

    with pytest.raises(StateError, match=r"was written by a newer ntx .* move .*state\.db away"):
        machine.install(machine.release("0.9"), machine.config)

    assert machine.files() == before


def test_two_installations_do_not_meet(machine: Machine) -> None:
    release = machine.release("1.0")
    (machine.root / "opt/ntx").mkdir(parents=True)
    lock = LockFile(machine.root / "opt/ntx/install.lock", "it")
    lock.acquire()

    with pytest.raises(LockedError, match="the installation"):
        machine.install(release, machine.config)
    lock.release()


def damage(release: Path, how: str) -> None:
    wheel = next((release / "wheels").iterdir())
    if how == "changed":
        wheel.write_bytes(wheel.read_bytes() + b"x")
    elif how == "missing":
        wheel.unlink()
    elif how == "more":
        (release / "wheels/evil-1.0-py3-none-any.whl").write_bytes(b"")
    elif how == "a link":
        wheel.rename(release.parent / "elsewhere.whl")
        wheel.symlink_to(release.parent / "elsewhere.whl")
    elif how == "no list":
        (release / "SHA256SUMS").unlink()
    elif how == "a list of something else":
        (release / "SHA256SUMS").write_text(f"{'0' * 64}  ../../etc/passwd\n")
    elif how == "no version":
        (release / "VERSION").write_text("../../x\n")
        write_sums(release)


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("changed", "is not what SHA256SUMS says"),
        ("missing", "is missing: copy the release again"),
        ("more", "is not in SHA256SUMS"),
        ("a link", "is no regular file"),
        ("no list", "is no release folder"),
        ("a list of something else", "line 1: not a checksum and a file of the folder"),
        ("no version", "does not name a version"),
    ],
)
def test_a_release_that_is_not_whole_is_not_installed(machine: Machine, how: str, says: str) -> None:
    release = machine.release("1.0")
    damage(release, how)

    with pytest.raises(OptionsError, match=says):
        open_release(release)


def test_a_folder_that_is_not_there_is_no_release(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        open_release(tmp_path / "nothing")


def test_a_python_that_the_service_cannot_use_is_refused() -> None:
    with pytest.raises(OptionsError, match=r"the wheels are for Python 3\.9, and .* give it by --python"):
        python_for("cp39", python_there())
    with pytest.raises(OptionsError, match="--python /nowhere"):
        python_for(TAG, Path("/nowhere"))


def test_a_python_in_a_home_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ntxengine.deploy.system.HOMES", (Path("/usr"), Path("/opt"), Path("/root"), Path("/home")))

    with pytest.raises(OptionsError, match="lies in a home, which the service cannot enter"):
        python_for(TAG, python_there())


def put_repository(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "ntx-repository.json").write_text("{}")
    (folder / "point").write_text("bytes")
    return folder


def test_a_removal_removes_what_was_written_and_touches_no_repository(machine: Machine) -> None:
    machine.install(machine.release("1.0"), machine.config)
    machine.install(machine.release("1.1"), machine.config)
    put_repository(machine.root / "backups")
    (machine.root / "var/lib/ntx").mkdir(parents=True)
    (machine.root / "var/lib/ntx/state.db").write_text("")
    (machine.root / DROP_INS / "override.conf").write_text("[Service]\n")

    would = Removal(machine.places, purge=False).look()
    did = Removal(machine.places, purge=False).run()

    assert would == did
    assert sorted(machine.files()) == [
        "backups/ntx-repository.json",
        "backups/point",
        "etc/ntx/agent.yaml",
        "etc/ntx/environment",
        f"{DROP_INS}/override.conf",
        "var/lib/ntx/state.db",
    ]
    assert not (machine.root / "opt/ntx").exists()
    assert "every repository" in did.stays


def test_a_purge_removes_configuration_and_history_and_leaves_what_others_put_there(machine: Machine) -> None:
    machine.install(machine.release("1.0"), machine.config)
    state = machine.root / "var/lib/ntx"
    put_repository(state / "points")
    for name in ("state.db", "state.db-wal", "state.db.damaged-20260101T000000Z", "agent.lock", "mine"):
        (state / name).write_text("")

    Removal(machine.places, purge=True).run()

    assert sorted(machine.files()) == [
        "etc/ntx/environment",
        "var/lib/ntx/mine",
        "var/lib/ntx/points/ntx-repository.json",
        "var/lib/ntx/points/point",
    ]


def test_nothing_is_removed_while_a_repository_lies_in_what_would_be(machine: Machine) -> None:
    release = machine.release("1.0")
    machine.install(release, machine.config)
    put_repository(machine.root / "opt/ntx/versions" / open_release(release).name / "points")
    before = machine.files()

    with pytest.raises(OptionsError, match=r"there is a repository in .*points: nothing of .* is removed"):
        Removal(machine.places, purge=True).run()

    assert machine.files() == before


@pytest.mark.parametrize(
    "list_of_files", ["{", '{"version": 2}', '{"version": 1, "user": "", "files": ["../x"], "folders": []}']
)
def test_a_damaged_list_removes_nothing(machine: Machine, list_of_files: str) -> None:
    machine.install(machine.release("1.0"), machine.config)
    (machine.root / "opt/ntx/installed.json").write_text(list_of_files)
    before = machine.files()

    with pytest.raises(OptionsError):
        Removal(machine.places, purge=True).run()

    assert machine.files() == before


def test_where_nothing_was_installed_nothing_is_removed(machine: Machine) -> None:
    with pytest.raises(NotFoundError, match="nothing is installed at"):
        Removal(machine.places, purge=True).run()
