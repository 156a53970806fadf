"""A real installation under a systemd that has booted: from nothing, to a version that does not start, and away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ntxengine import __version__
from tests.deploy.service import CONFIG, REPOSITORY, Served, prepared
from tests.deploy.whole import make_whole_release, package
from tests.support.booted import python_there

NEXT = f"{__version__}.post1"
RELEASES = Path("/srv/releases")

BROKEN = b"""
import sys
if sys.argv[1:3] == ["agent", "--config"]:
    sys.exit("ntx: this version cannot serve")
"""
"""Comes before all else of a version that can do anything but serve."""


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("installed")
    files = package(folder / "package")
    with prepared(folder) as machine:
        here = machine.root / RELEASES.relative_to("/")
        make_whole_release(here / "first", __version__, files)
        make_whole_release(here / "next", NEXT, files)
        program = files["ntxengine/__main__.py"]
        head, future, rest = program.partition(b"from __future__ import annotations\n")
        broken = head + future + BROKEN + rest
        make_whole_release(here / "broken", f"{NEXT}.dev2", {**files, "ntxengine/__main__.py": broken})
        machine.shell(f"mv {CONFIG} /root/agent.yaml")
        yield machine


def install(machine: Served, name: str, *options: str, check: bool = True) -> tuple[int, str]:
    done = machine.run(
        "env", f"PYTHON={python_there()}", "sh", f"{RELEASES}/{name}/install.sh", "--python", python_there(), *options,
        check=check,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@pytest.mark.timeout(900)  # systemd waits, on a busy machine for long
@pytest.mark.slow
def test_it_is_installed_brought_to_another_version_put_back_and_removed(machine: Served) -> None:
    # From nothing: the service is started, and a person's `ntx` reaches it.
    would = install(machine, "first", "--config", "/root/agent.yaml", "--dry-run")[1]
    nothing = machine.run("systemctl", "cat", "ntx-agent", check=False).returncode
    install(machine, "first", "--config", "/root/agent.yaml")
    machine.shell(f"chown ntx:ntx {REPOSITORY}")

    assert "would write /etc/systemd/system/ntx-agent.service" in would
    assert nothing != 0
    assert machine.show("ntx-agent", "ActiveState") == "active"
    assert machine.run("systemctl", "is-enabled", "ntx-agent").stdout == "enabled\n"
    machine.until(lambda: machine.run("ntx", "agent", "run", "demo", "--wait", check=False).returncode == 0)
    assert len(machine.points()) == 1

    # The same once more starts nothing anew.
    before = machine.show("ntx-agent", "MainPID")
    assert "is installed as it should be" in install(machine, "first")[1]
    assert machine.show("ntx-agent", "MainPID") == before

    # A version that does not start: everything is as it was, and the old one serves.
    code, said = install(machine, "broken", check=False)

    assert code == 1
    assert "the agent does not start: ntx: this version cannot serve" in said
    assert machine.run("ntx", "--version").stdout.strip().endswith(__version__)
    assert machine.show("ntx-agent", "ActiveState") == "active"
    assert machine.run("ntx", "status").returncode == 0

    # Another one, by the program that is installed.
    machine.run("env", f"PYTHON={python_there()}", "ntx", "agent", "install", "--from", f"{RELEASES}/next",
                "--python", python_there())  # fmt: skip

    assert machine.run("ntx", "--version").stdout.strip().endswith(NEXT)
    assert machine.show("ntx-agent", "ActiveState") == "active"

    # Away: but for the repository, and what people put there.
    machine.run("ntx", "agent", "uninstall", "--purge")

    assert machine.show("ntx-agent", "LoadState") == "not-found"
    left = machine.shell(
        "ls -d /opt/ntx /usr/local/bin/ntx /etc/ntx/agent.yaml /var/lib/ntx/state.db 2>/dev/null || true"
    )
    assert left == ""
    assert len(machine.points()) == 1
    assert machine.run("id", "ntx").returncode == 0

    # Anew, as another user, whom nobody has made yet.
    install(machine, "first", "--config", "/root/agent.yaml", "--user", "backup2", "--no-start")

    assert "/usr/sbin/nologin" in machine.run("getent", "passwd", "backup2").stdout
    assert machine.show("ntx-agent", "User") == "backup2"
    assert machine.show("ntx-agent", "ActiveState") == "inactive"
    assert machine.run("stat", "--format=%U:%G %a", CONFIG).stdout == "root:backup2 640\n"
