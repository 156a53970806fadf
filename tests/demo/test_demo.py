"""The demo: its guest, its proofs, and all of it together."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from ntxengine.demo.cluster import read_environment
from ntxengine.demo.guest import DATA_SIZE, SECTOR, SYSTEM_SIZE, Guest, allocated
from ntxengine.demo.machine import check_addresses
from ntxengine.demo.proof import Prover
from ntxengine.demo.shell import Shell
from ntxengine.demo.workplace import MARKER, Workplace, where_it_is
from ntxengine.errors import MachineError, NtxError, OptionsError, ToolError
from ntxengine.units import BLOCK_SIZE, KIB, MIB
from tests.cli.ntx import COMMAND, environment, ntx
from tests.support.processes import processes
from tests.support.servers import require


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    require("mkfs.ext4", "debugfs", "e2fsck", "qemu-img", "setpriv")
    return Shell(lambda text: None, tmp_path)


def test_guest_has_real_files_deleted_ones_and_holes(shell: Shell, tmp_path: Path) -> None:
    guest = Guest(tmp_path, shell)

    guest.make()

    shell.quietly("e2fsck", "-fn", str(guest.system))
    listing = shell.quietly("debugfs", "-R", "ls -l /var", str(guest.system))
    assert "deleted.bin" not in listing
    assert {"ledger.db", "cache.bin", "sparse.img"} <= set(re.findall(r"[a-z]+\.[a-z]+", listing))
    assert guest.system.stat().st_size == SYSTEM_SIZE
    assert 200 * MIB < allocated(guest.system) < SYSTEM_SIZE
    assert guest.data.stat().st_size == DATA_SIZE
    assert DATA_SIZE % BLOCK_SIZE


def test_guest_leaves_a_clean_file_system_and_new_zeros(shell: Shell, tmp_path: Path) -> None:
    guest = Guest(tmp_path, shell)
    guest.make()
    before = allocated(guest.system)
    data_before = guest.data.read_bytes()

    guest.change()

    data = guest.data.read_bytes()
    shell.quietly("e2fsck", "-fn", str(guest.system))
    assert before - allocated(guest.system) > 32 * MIB
    assert len(data) == DATA_SIZE
    assert data[-SECTOR:] != data_before[-SECTOR:]
    assert not any(data[31 * MIB : 32 * MIB])
    assert any(data_before[31 * MIB : 32 * MIB])


def test_proof_that_fails_is_said_and_raised(tmp_path: Path) -> None:
    said: list[str] = []
    prover = Prover(Shell(said.append, tmp_path))
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_bytes(bytes(64 * KIB))
    bad.write_bytes(bytes(40_000) + b"\1" + bytes(64 * KIB - 40_001))

    prover.file_equals(good, good, "one")
    prover.file_equals(bad, good, "two")
    prover.files_differ(good, good, "three")

    assert [line.split()[0] for line in said] == ["ok", "FAILED", "FAILED"]
    with pytest.raises(NtxError, match=r"2 of 3 proofs failed; the first: cmp: two: .* 40001"):
        prover.check()


def test_folder_of_somebody_else_is_not_deleted(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")

    with pytest.raises(OptionsError, match="not of a demo"):
        Workplace(tmp_path, lambda text: None).begin()

    assert (tmp_path / "letter.txt").read_text() == "dear"


def test_missing_tool_is_named_with_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ntxengine.demo.shell._SYSTEM_PATHS", ())
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(ToolError, match=r"apt-get install .*e2fsprogs.*qemu-utils"):
        Workplace(tmp_path / "demo", lambda text: None).begin()


def test_too_little_room_is_said_before_the_guest_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=300 * MIB))

    with pytest.raises(MachineError, match=r"needs 2\.0 GiB, and 300\.0 MiB are free: .*--dir"):
        Workplace(tmp_path / "demo", lambda text: None).begin()

    assert [each.name for each in (tmp_path / "demo").iterdir()] == [MARKER]


def test_an_address_that_cannot_be_served_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ntxengine.demo.machine.ADDRESSES", ("192.0.2.1",))

    with pytest.raises(MachineError, match=r"192\.0\.2\.1: nothing can be served there"):
        check_addresses()


def test_a_folder_that_is_removed_is_not_named(tmp_path: Path) -> None:
    assert str(tmp_path) in where_it_is(tmp_path, is_temporary=False)
    assert str(tmp_path) not in where_it_is(tmp_path, is_temporary=True)


def test_environment_is_read_without_running_it(tmp_path: Path) -> None:
    file = tmp_path / "connect.env"
    file.write_text("# comment\nexport NTX_A='a b'\nexport NTX_B=$(touch /nonexistent)\nNTX_C=c\n")

    assert read_environment(file) == {"NTX_A": "a b", "NTX_B": "$(touch", "NTX_C": "c"}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_agent_captures_fails_recovers_and_stops(tmp_path: Path) -> None:
    ran = ntx("demo", "agent", cwd=tmp_path, timeout_s=500)

    assert ran.code == 0, ran.out + ran.err
    assert "FAILED" not in ran.out
    assert re.search(r"(\d+) proofs, none failed", ran.out)
    assert re.search(r"db01: captured full point .* 48\.0 MiB sent", ran.out)
    assert re.search(r"NTX WARNING - repository .* is held since", ran.out)
    assert re.search(r"NTX OK - 2 VMs in 1 job", ran.out)
    assert 'ntx_agent_runs_total{job="servers",result="failed"} 1.0' in ran.out
    assert "would remove 0 things" in ran.out


@pytest.mark.slow
def test_a_machine_boots_from_a_replica_that_followed_for_four_cycles(tmp_path: Path) -> None:
    ran = ntx("demo", "replicate", cwd=tmp_path)

    assert ran.code == 0, ran.out + ran.err
    assert "FAILED" not in ran.out
    assert "5 proofs, none failed" in ran.out
    digests = re.findall(r"SHA-256 +([0-9a-f]{64})", ran.out)
    assert len(set(digests)) == 4
    assert f"  | {digests[2]}" in ran.out
    assert re.search(r"^erp01 .* 3  whole ", ran.out, re.MULTILINE)
    assert "would remove 0 things" in ran.out
    assert max(map(len, ran.out.split("proofs, none failed")[0].splitlines())) <= 120 + len(str(tmp_path))


@pytest.mark.slow
def test_the_whole_story_twice_in_one_folder(tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / MARKER).touch()
    (tmp_path / "demo" / "left over").touch()

    ran = ntx("demo", cwd=tmp_path)

    assert ran.code == 0, ran.out + ran.err
    assert "FAILED" not in ran.out
    assert re.search(r"(\d+) proofs, none failed", ran.out)
    assert not (tmp_path / "demo" / "left over").exists()
    tables = ran.out.split("== What it took")[1]
    assert re.search(
        r"incremental of demo.*\n +consistency: application\n"
        r" +made consistent by: .*\n +changes found by: v4-changed-regions",
        tables,
    )
    assert max(map(len, tables.split("proofs, none failed")[0].splitlines())) <= 120


@pytest.mark.slow
def test_a_demo_that_is_killed_leaves_no_process(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*COMMAND, "demo"], cwd=tmp_path, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "demo" / "cluster" / "state" / "connect.env").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)

    process.send_signal(signal.SIGKILL)
    process.wait()

    while left := _processes_in(tmp_path):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def _processes_in(folder: Path) -> list[str]:
    """Return the command lines of the processes whose working directory is `folder`."""
    found = []
    for process in processes():
        with suppress(OSError):  # ended meanwhile
            if os.readlink(process.folder / "cwd") == str(folder):
                found.append(process.command)
    return found
