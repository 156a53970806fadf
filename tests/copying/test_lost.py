"""`ntx copy` between two servers that die and stall at random moments: it goes on by itself, and every byte is right.

A few losses in `make test`; `make soak` sets NTX_COPY_LOSSES for fifty.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import ntxengine
from ntxengine.dataplane import checkpoints as due
from tests.cli.ntx import assert_refused, ntx
from tests.copying.interrupting import MIB, make_disk, start, stored_to, threads_there, wait_until
from tests.support.killable import Killable, killable_disk

SEED = int(os.environ.get("NTX_SOAK_SEED", "1"))
LOSSES = int(os.environ.get("NTX_COPY_LOSSES", "5"))
ANSWER_S = 1.0
"""How long an answer is waited for where a server stalls: a stall is longer."""
PATIENT_S = 30.0
"""How long where none does, on a busy machine."""
LONGEST_S = 60 + 30 * LOSSES
READ_BACK_S = 3.0
BANDWIDTH = 4 * MIB
DISK_SIZE = LOSSES * 3 * MIB + 512


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[tuple[Killable, Killable]]:
    make_disk(tmp_path / "source", DISK_SIZE)
    (tmp_path / "target").write_bytes(random.Random(2).randbytes(DISK_SIZE))
    with killable_disk(tmp_path / "source") as source, killable_disk(tmp_path / "target") as target:
        yield source, target


def copy(
    ends: tuple[Killable, Killable], target: Path, *options: str, timeout_s: float = PATIENT_S
) -> subprocess.Popen[bytes]:
    """Start a copy, and return when something has come to `target`, which the second server has."""
    before = target.stat().st_mtime_ns
    process = start(
        *("copy", ends[0].uri, ends[1].uri, "--bandwidth", f"{BANDWIDTH}", "--timeout", f"{timeout_s}"),
        *("--connections", "2", "--progress", "none", "--json", *options),
    )
    assert wait_until(lambda: target.stat().st_mtime_ns != before or process.poll() is not None)
    return process


class MovesOn:
    """Whether a copy has come further since this was made, or has ended; of one that is read back nothing tells, and a
    while is enough."""

    def __init__(self, process: subprocess.Popen[bytes], journal: Path) -> None:
        self._process = process
        self._journal = journal
        self._before = stored_to(journal)
        self._enough_at = time.monotonic() + READ_BACK_S

    def __call__(self) -> bool:
        now = stored_to(self._journal)
        if now == DISK_SIZE and time.monotonic() > self._enough_at:
            return True
        return now not in (self._before, 0, DISK_SIZE) or self._process.poll() is not None


def disturb(server: Killable, chance: random.Random) -> None:
    """Let a server die, or say nothing for longer than an answer is waited for, and come back."""
    if chance.random() < 0.5:
        server.send(signal.SIGSTOP)
        time.sleep(chance.uniform(1.5, 3) * ANSWER_S)
        server.send(signal.SIGCONT)
        return
    server.kill()
    time.sleep(chance.uniform(0, 0.5))
    server.start()


def test_servers_that_die_and_stall_cost_no_byte(ends: tuple[Killable, Killable], tmp_path: Path) -> None:
    chance = random.Random(SEED)
    journal = tmp_path / "journal"
    losses = reconnects = repeated = 0
    while losses < LOSSES:
        (tmp_path / "target").write_bytes(chance.randbytes(DISK_SIZE))
        process = copy(
            ends, tmp_path / "target", "--verify", "--retry-for", "30", "--journal", str(journal), timeout_s=ANSWER_S
        )
        ended_by = time.monotonic() + LONGEST_S

        while losses < LOSSES and process.poll() is None:
            wait_until(MovesOn(process, journal), 30)
            wait_until(MovesOn(process, journal), 30)
            time.sleep(chance.uniform(0, 0.6))
            disturb(chance.choice(ends), chance)
            losses += 1
        out, err = process.communicate(timeout=max(1, ended_by - time.monotonic()))

        assert process.returncode == 0, err.decode()
        assert (tmp_path / "target").read_bytes() == (tmp_path / "source").read_bytes()
        report = json.loads(out)
        assert report["verified"]
        assert report["bytes_done"] == DISK_SIZE
        assert report["bytes_repeated"] < DISK_SIZE
        assert err.decode().count("trying again in") == report["reconnects"]
        reconnects += report["reconnects"]
        repeated += report["bytes_repeated"]
    assert reconnects >= losses // 3  # one that comes when nothing is in flight is not noticed
    sys.stdout.write(f"{losses} losses, {reconnects} reconnects, {repeated} bytes repeated\n")


def test_without_retries_the_first_loss_ends_it(ends: tuple[Killable, Killable], tmp_path: Path) -> None:
    process = copy(ends, tmp_path / "target", "--retry-for", "0")
    ends[1].kill()
    out, err = process.communicate(timeout=60)

    assert process.returncode == 1, err.decode()
    assert json.loads(out)["error"]["class"] == "TargetError"
    assert "trying again" not in err.decode()


def test_a_server_that_comes_back_with_another_disk_is_refused(ends: tuple[Killable, Killable], tmp_path: Path) -> None:
    process = copy(ends, tmp_path / "target", "--journal", str(tmp_path / "journal"))
    assert wait_until(lambda: stored_to(tmp_path / "journal") > 0)
    ends[1].kill()
    (tmp_path / "target").write_bytes(bytes(DISK_SIZE))
    ends[1].start()
    out, err = process.communicate(timeout=60)

    assert process.returncode == 2, err.decode()
    assert "does not hold what was copied to it before" in json.loads(out)["error"]["message"]


def test_a_server_that_comes_back_with_another_size_is_refused(ends: tuple[Killable, Killable], tmp_path: Path) -> None:
    process = copy(ends, tmp_path / "target")
    ends[0].kill()
    os.truncate(tmp_path / "source", DISK_SIZE - 512)
    ends[0].start()
    out, err = process.communicate(timeout=60)

    assert process.returncode == 1, err.decode()
    assert f"had {DISK_SIZE} bytes when the copy began" in json.loads(out)["error"]["message"]


def test_a_time_that_is_none_is_refused(tmp_path: Path) -> None:
    ran = ntx("copy", "pattern:1M", "null:", "--retry-for", "-1")

    assert_refused(ran, 2, "--retry-for")


async def test_nothing_is_left_of_connections_that_were_lost(
    ends: tuple[Killable, Killable], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(due, "DUE_S", 0.05)
    monkeypatch.setattr(due, "_SELDOMER", 0)
    options = ntxengine.CopyOptions(bandwidth=BANDWIDTH, timeout_s=PATIENT_S, connections=2)
    await ntxengine.copy(ends[0].uri, "null:")  # what is opened once is open
    before = (len(os.listdir("/proc/self/fd")), threads_there())
    copied: list[int] = []

    async def trouble() -> None:
        for server in (ends[0], ends[1], ends[0]):
            seen = len(copied)
            while not any(copied[seen:]):  # a loss before it copies anything is final
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.3)
            server.kill()
            await asyncio.sleep(0.05)
            server.start()

    troubled = asyncio.create_task(trouble())
    report = await ntxengine.copy(
        *(ends[0].uri, ends[1].uri),
        options=options,
        verify=True,
        on_progress=lambda progress: copied.append(progress.bytes_done),
    )
    troubled.cancel()
    await asyncio.gather(troubled, return_exceptions=True)

    assert report.reconnects >= 1
    assert (tmp_path / "target").read_bytes() == (tmp_path / "source").read_bytes()
    assert len(os.listdir("/proc/self/fd")) == before[0]
    assert wait_until(lambda: threads_there() <= before[1])  # one that has opened a disk is about to end
