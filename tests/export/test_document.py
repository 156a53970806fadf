"""What docs/export.md shows is run, with real things in the place of those that it names, and is of its schemas."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from ntxengine.sim import Simulator
from tests.cli.ntx import environment
from tests.export.command import Command
from tests.export.receiver import Client, Notification, Receiver, check
from tests.export.test_tunnel import SETTINGS
from tests.support.pki import Pki
from tests.support.ssh import sshd

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = (ROOT / "docs" / "export.md").read_text()
BY_PORTS, NEXT_TIME, BY_TUNNEL = re.findall(r"```sh\n(.*?)```", DOCUMENT, re.DOTALL)
NOTIFICATION, DONE = (json.loads(text) for text in re.findall(r"```json\n(.*?)```", DOCUMENT, re.DOTALL))
IN_SSHD = re.search(r"^Match User ntx\n((?:    .*\n)+)", DOCUMENT, re.MULTILINE)


class Documented:
    """A workplace with what the examples name, and a control plane that takes everything."""

    def __init__(self, command: Command, pki: Pki, client: Client, folder: Path) -> None:
        self.command = command
        self._client = client
        self._copies = folder / "copies"
        self._work = folder / "work"
        for each in (self._copies, self._work):
            each.mkdir()
        for name, source in (("ca.pem", "ca-cert"), ("cert.pem", "server-cert"), ("key.pem", "server-key")):
            (self._work / name).write_bytes((pki.folder / f"{source}.pem").read_bytes())
        for name in ("key.pem", "token"):
            (self._work / name).touch(mode=0o600)
            (self._work / name).chmod(0o600)
        (self._work / "token").write_text("of-the-document\n")
        command.receiver.then = self._take

    def _take(self, notification: Notification) -> None:
        self._client.pull(notification, self._copies)
        assert self._client.done(notification).status_code == 200

    def run(self, example: str, **real: str) -> None:
        receiver = self.command.receiver
        found = {
            "/var/lib/ntx/export": str(self.command.state),
            "https://cp.example/ntx": f"{receiver.url} --notify-ca ca.pem",
            **real,
        }
        for name, thing in found.items():
            assert name in example, f"{name} is not in it"
            example = example.replace(name, thing)
        ntx = f"{shlex.quote(sys.executable)} -m ntxengine"
        done = subprocess.run(
            ["bash", "-euc", f'ntx() {{ {ntx} "$@"; }}\n{example}'],
            cwd=self._work,
            env=environment({**self.command.env, "PYTHONPATH": str(ROOT / "src")}),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert receiver.last["recovery_point"]["id"] in done.stdout

    def assert_taken(self) -> None:
        disks = [disk.path.read_bytes() for disk in self.command.sim.config.vms[0].disks]
        assert [path.read_bytes() for path in sorted(self._copies.iterdir())] == disks


@pytest.fixture
def documented(simulator: Simulator, pki: Pki, receiver: Receiver, tmp_path: Path) -> Documented:
    return Documented(Command(simulator, pki, receiver, tmp_path), pki, Client(pki), tmp_path)


def test_export_by_ports_and_the_next_time(documented: Documented) -> None:
    ports = documented.command.way[1]
    here = {"10809-10899": f"{ports} --bind 127.0.0.1", "worker1.example": "127.0.0.1"}

    documented.run(BY_PORTS, **here)
    documented.assert_taken()
    first = documented.command.receiver.last["recovery_point"]["id"]
    way = shlex.join(documented.command.way)
    documented.run(NEXT_TIME.replace(" ...", f" {way}"), **{"3f1c9a52-...": first})

    assert documented.command.receiver.seen[0]["authorization"] == "Bearer of-the-document"
    assert {disk["since"] for disk in documented.command.receiver.last["disks"]} == {first}
    documented.assert_taken()


def test_export_behind_ssh(simulator: Simulator, pki: Pki, receiver: Receiver, tmp_path: Path) -> None:
    documented = Documented(Command(simulator, pki, receiver, tmp_path), pki, Client(None), tmp_path)
    assert IN_SSHD is not None
    said = [line.strip() for line in IN_SSHD[1].splitlines()]
    assert {*SETTINGS} <= {*said}

    with sshd(tmp_path, *said) as server, tempfile.TemporaryDirectory(prefix="ntx-test-", dir="/tmp") as there:
        documented.run(
            BY_TUNNEL,
            **{
                "ssh://ntx@cp.example": f"ssh://{server.login}".replace("ssh://ssh://", "ssh://"),
                "/run/ntx": there,
                "~/.ssh/ntx_hosts": str(server.known_hosts),
                "~/.ssh/ntx ": f"{server.key} ",
            },
        )

    documented.assert_taken()


def test_what_is_shown_as_json_is_of_its_schema() -> None:
    def whole(value: Any) -> Any:
        """Return it with what the document leaves out put in."""
        if isinstance(value, dict):
            return {key: whole(each) for key, each in value.items()}
        if isinstance(value, list):
            return [whole(each) for each in value]
        return value.replace("...", "0" * 8) if isinstance(value, str) else value

    check("export-notification", whole(NOTIFICATION))
    check("export-done", whole(DONE))


def test_regions_of_a_file_are_read_as_the_document_says(tmp_path: Path) -> None:
    (said,) = re.findall(r"`ntx (copy URI disk\.raw --extents FILE)`", DOCUMENT)
    disk = tmp_path / "source.raw"
    disk.write_bytes(os.urandom(1 << 20))
    (tmp_path / "regions").write_text('[{"offset": 65536, "length": 65536, "type": "data"}]')
    words = said.replace("URI", str(disk)).replace("FILE", "regions").split()

    subprocess.run(
        [sys.executable, "-m", "ntxengine", *words, "-q"],
        cwd=tmp_path,
        env=environment({"PYTHONPATH": str(ROOT / "src")}),
        check=True,
    )

    copied = (tmp_path / "disk.raw").read_bytes()
    assert copied[65536:131072] == disk.read_bytes()[65536:131072]
    assert not any(copied[:65536])
