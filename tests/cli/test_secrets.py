"""No secret is in what `ntx` prints, logs or stores, nor in the arguments or the environment of what it starts."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from ntxengine.sim import Simulator, run_in_thread
from ntxengine.sim.auth import Sessions, Tokens
from ntxengine.sim.config import demo_config
from ntxengine.sim.faults import HttpFault
from tests.cli.ntx import COMMAND, environment
from tests.support.processes import processes
from tests.support.rates import without_rates
from tests.support.servers import require

PASSWORD = "s3cret-pass-word-of-the-account"
ELEMENT_PASSWORD = "an0ther-pass-word-of-the-element"


class Handed:
    """The cookies and tokens that the simulator handed out."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.secrets = {PASSWORD, ELEMENT_PASSWORD}
        opened, issued = Sessions.open, Tokens.issue
        monkeypatch.setattr(Sessions, "open", lambda *given: self._kept(opened(*given)))
        monkeypatch.setattr(Tokens, "issue", lambda *given: self._kept(issued(*given)))

    def _kept(self, secret: str) -> str:
        self.secrets.add(secret)
        return secret


@pytest.fixture
def handed(monkeypatch: pytest.MonkeyPatch) -> Handed:
    return Handed(monkeypatch)


@pytest.fixture
def lab(handed: Handed, tmp_path: Path) -> Iterator[Simulator]:
    config = without_rates(demo_config(tmp_path / "disks"))
    config.password, config.element_password = PASSWORD, ELEMENT_PASSWORD
    with run_in_thread(config, tmp_path / "state") as sim:
        yield sim


def shown(ours: int) -> Iterator[bytes]:
    """Yield the arguments of every process, and the environment of all programs that `ours` started."""
    found = list(processes())
    itself = [process.words for process in found if process.pid == ours]
    for process in found:
        yield os.fsencode(process.command)
        if process.parent == ours and process.words not in itself:  # else it has just been forked
            with suppress(OSError):
                yield (process.folder / "environ").read_bytes()


def watched(*arguments: str | Path, env: dict[str, str]) -> tuple[int, bytes]:
    """Run `ntx`; return its exit code, and all that was seen of it and its programs."""
    seen: set[bytes] = set()
    command = [*COMMAND, *map(str, arguments)]
    with subprocess.Popen(
        command, env=environment(env), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as running:
        while True:
            try:
                out, _ = running.communicate(timeout=0.05)
                break
            except subprocess.TimeoutExpired:
                seen |= set(shown(running.pid))
    return running.returncode, b"\0".join([out, *seen])


def test_captures_that_fail_and_succeed_tell_no_secret(lab: Simulator, handed: Handed, tmp_path: Path) -> None:
    require("qemu-nbd", "qemu-img", "setpriv")
    env = {name: value for name, value in lab.env.items() if name != "NTX_PASSWORD_FILE"} | {"NTX_PASSWORD": PASSWORD}
    env |= {"NTX_ELEMENT": lab.element_url, "NTX_ELEMENT_USERNAME": lab.username}
    env |= {"NTX_ELEMENT_PASSWORD": ELEMENT_PASSWORD}
    repository = tmp_path / "repository"
    capture = ("capture", "demo", "--to", repository, "--debug", "--json")
    runs = []

    lab.faults.http.append(HttpFault(path="/config/recovery-points$", method="POST", status=409, count=2))
    runs.append(watched(*capture, env=env))
    lab.faults.http.append(HttpFault(path="compute-changed-regions", status=401, count=2))
    lab.faults.fail_tasks["attach"] = -1
    runs.append(watched(*capture, env=env))
    lab.faults.fail_tasks.clear()
    runs.append(watched(*capture, env=env))
    runs.append(watched("vms", "--debug", env=env | {"NTX_PASSWORD": f"{PASSWORD}-wrong"}))
    wrong = {"NTX_ELEMENT_PASSWORD": f"{ELEMENT_PASSWORD}-wrong"}
    runs.append(watched("vms", "--debug", "--api", "v3", env=env | wrong))

    assert [code != 0 for code, _ in runs] == [True, True, False, True, True]
    assert len(handed.secrets) > 4
    stored = b"\0".join(path.read_bytes() for path in repository.rglob("*") if path.is_file() and small(path))
    for place, content in (*((f"run {number}", seen) for number, (_, seen) in enumerate(runs)), ("stored", stored)):
        assert not [secret for secret in handed.secrets if secret.encode() in content], place


def small(path: Path) -> bool:
    """Whether a file holds what we write about a disk, not the disk."""
    return os.stat(path).st_size < 4 * 1024**2
