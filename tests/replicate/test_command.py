"""`ntx replicate`, `ntx replicas` and `ntx verify --replica`, as a person runs them."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import signal
import sys
from datetime import timedelta
from pathlib import Path
from typing import IO, Any

import pytest

from ntxengine.concurrency.signals import send
from ntxengine.events import Stage
from tests.capture.lab import MIB, Witness
from tests.capture.test_interrupted import ROOT
from tests.replicate.replicating import Killed, KillsAt, Replicating


async def ntx(following: Replicating, *words: str, code: int = 0) -> tuple[Any, str]:
    """Run it; return what it printed, as JSON if that was asked for, and what it said."""
    ended, out, err = await _ran(asyncio.subprocess.PIPE, following, *words)
    assert ended == code, err.decode()
    return json.loads(out) if "--json" in words else out.decode(), err.decode()


async def ntx_to(where: IO[bytes], following: Replicating, *words: str) -> tuple[int, str]:
    """Run it with `where` as stdout; return its exit code, and what it said."""
    code, _, err = await _ran(where, following, *words)
    return code, err.decode()


async def _ran(where: IO[bytes] | int, following: Replicating, *words: str) -> tuple[int, bytes, bytes]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("NTX_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ntxengine.cli.main", *words),
        env={**kept, **following.lab.sim.env, "PYTHONPATH": str(ROOT / "src")},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=where,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out, err


def at(following: Replicating) -> tuple[str, str]:
    return "--state", str(following.lab.repository.path)


async def test_lag_and_state_of_replicas(raw: Replicating) -> None:
    none, _ = await ntx(raw, "replicas", *at(raw), "--json")
    assert none["replicas"] == []
    await ntx(raw, "replicas", *at(raw), "--check", code=3)
    await raw.run()

    told, _ = await ntx(raw, "replicas", *at(raw), "--json", "--check")

    (found,) = told["replicas"]
    assert found["state"] == "whole"
    assert found["lag_s"] < 60
    assert found["bytes_behind"] is None
    assert found["replica"]["verified"]["generation"] == 1
    raw.state.write_replica(dataclasses.replace(raw.replica, frozen_at=raw.replica.frozen_at - timedelta(minutes=1)))
    await ntx(raw, "replicas", *at(raw), "--check", "--warn-lag", "1s", "--max-lag", "1h", code=1)
    await ntx(raw, "replicas", *at(raw), "--check", "--max-lag", "1s", code=2)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--state", "/nonexistent"), "there is no state of replicas: mount what belongs there"),
        (("--state", "/nonexistent", "--max-lag", "x"), "is not a time"),
        (("--what",), "No such option"),
        (("--warn-lag", "2h", "--max-lag", "1h"), "--warn-lag is more than --max-lag"),
        ((), "whose replicas is not said"),
    ],
)
async def test_check_is_unknown_where_nothing_can_be_said(raw: Replicating, words: tuple[str, ...], said: str) -> None:
    told, error = await ntx(raw, "replicas", "--check", "--json", *words, code=3)

    assert said in error
    assert told["error"]["exit_code"] == 3


async def test_check_keeps_its_code_where_its_output_cannot_be_written(raw: Replicating) -> None:
    await raw.run()
    raw.state.write_replica(dataclasses.replace(raw.replica, frozen_at=raw.replica.frozen_at - timedelta(minutes=1)))
    with Path("/dev/full").open("wb") as full:
        code, _ = await ntx_to(full, raw, "replicas", *at(raw), "--check", "--max-lag", "1s")

    assert code == 2


async def test_replica_between_two_generations_is_never_called_whole(raw: Replicating) -> None:
    await raw.run()
    raw.lab.write(0, MIB, os.urandom(65536))
    raw.make_witness = lambda: KillsAt(Stage.VERIFY)
    with pytest.raises(Killed):
        await raw.run()
    raw.make_witness = Witness

    told, _ = await ntx(raw, "replicas", *at(raw), "--json", "--check", code=1)

    (found,) = told["replicas"]
    assert found["state"] == "between"
    assert found["bytes_behind"] == 65536
    assert "between two generations" in found["problem"]
    _, said = await ntx(raw, "verify", "--replica", "db01", *at(raw), code=1)
    assert "is between generation 1 and 2" in said


async def test_verify_reads_the_target(raw: Replicating) -> None:
    await raw.run()
    whole, _ = await ntx(raw, "verify", "--replica", "db01", *at(raw), "--json")
    assert whole["replica"]["right"]
    assert raw.replica.last_whole_check is not None
    sample, _ = await ntx(raw, "verify", "--replica", raw.replica.id, *at(raw), "--sample", "10%", "--json")
    assert 0 < sum(disk["bytes_read"] for disk in sample["replica"]["disks"]) < 4 * MIB
    with (raw.folder() / raw.replica.disks[0].files[0].name).open("r+b") as file:
        file.seek(5 * MIB)
        file.write(b"damaged")

    _, said = await ntx(raw, "verify", "--replica", "db01", *at(raw), code=1)

    assert "at offset 5242880" in said
    told, _ = await ntx(raw, "replicas", *at(raw), "--json", "--check", code=2)
    assert told["replicas"][0]["replica"]["disks"][0]["doubted"]
    await raw.run()
    raw.assert_equal()
    await ntx(raw, "verify", "--replica", "db01", *at(raw))


async def looping(raw: Replicating) -> asyncio.subprocess.Process:
    """Start cycles, one a second."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("NTX_")}
    words = (
        "replicate",
        "db01",
        "--to",
        raw.text,
        *at(raw),
        "--every",
        "1s",
        "--source",
        "hotadd",
        "--progress",
        "none",
    )
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ntxengine.cli.main", *words),
        env={**kept, **raw.lab.sim.env, "PYTHONPATH": str(ROOT / "src"), "PYTHONUNBUFFERED": "1"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def test_loop_makes_generations_until_a_signal_ends_it(raw: Replicating) -> None:
    process = await looping(raw)
    assert process.stdout is not None
    async with asyncio.timeout(60):
        lines = [(await process.stdout.readline()).decode() for _ in range(2)]
    send(process, signal.SIGTERM)

    _, err = await process.communicate()

    assert process.returncode == 143, err.decode()
    assert "generation 1:" in lines[0]
    assert "generation 2:" in lines[1]
    assert len(raw.lab.recovery_points()) == 1
    raw.assert_equal()


async def test_isolated_copy_goes_into_a_folder_that_is_named_from_here(raw: Replicating, tmp_path: Path) -> None:
    await raw.run()
    (tmp_path / "into").mkdir()
    into = os.path.relpath(tmp_path / "into")

    told, _ = await ntx(raw, "cutover", "db01", "--to", raw.text, *at(raw), "--test", "--into", into, "--json")

    assert Path(told["folder"]).parent == tmp_path / "into"


async def test_loop_writes_nothing_where_its_state_was_mounted(raw: Replicating, tmp_path: Path) -> None:
    process = await looping(raw)
    assert process.stdout is not None
    assert process.stderr is not None
    state, away = raw.lab.repository.path, tmp_path / "away"
    async with asyncio.timeout(120):
        await process.stdout.readline()
        send(process, signal.SIGSTOP)
        state.rename(away)
        state.mkdir()
        send(process, signal.SIGCONT)
        while b"mount what belongs there" not in await process.stderr.readline():
            assert process.returncode is None

        assert list(state.iterdir()) == []

        state.rmdir()
        away.rename(state)
        while b"generation" not in await process.stdout.readline():
            assert process.returncode is None
    send(process, signal.SIGTERM)
    await process.communicate()
    assert process.returncode == 143


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--to", "kvm:"), "names no folder"),
        (("--to", "ftp://host/x"), "is no target of a replica"),
        (("--to", "nbd://host/{disk}"), "give --state DIR"),
        (("--to", "kvm:.", "--history", "3"), "keeps no history as raw"),
        (("--to", "kvm:.", "--network", "x"), "--network"),
        (("--to", "kvm:.", "--reason", "why"), "--reason is said with"),
        (("--to", "nbd://host/{disk}", "--state", "x", "--tls-hostname", "host"), "nothing here is encrypted"),
        (("--to", "kvm:.", "--follow-again", "--every", "1m"), "run one cycle with --follow-again"),
    ],
)
async def test_what_cannot_be_is_refused(raw: Replicating, words: tuple[str, ...], said: str) -> None:
    _, err = await ntx(raw, "replicate", "db01", *words, code=2)

    assert said in err


async def test_folder_that_is_no_replica_is_not_written_to(raw: Replicating, tmp_path: Path) -> None:
    folder = tmp_path / "kvm" / raw.target.name_for("db01", raw.lab.vm_id)
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")

    _, err = await ntx(raw, "replicate", "db01", "--to", raw.text, *at(raw), code=2)

    assert "is no replica" in err
    assert raw.lab.recovery_points() == []


async def test_dry_run_touches_nothing(raw: Replicating, tmp_path: Path) -> None:
    told, _ = await ntx(raw, "replicate", "db01", "--to", raw.text, "--dry-run", "--json")

    assert told["generation"] == 1
    assert [disk["incremental"] for disk in told["disks"]] == [False, False]
    assert list((tmp_path / "kvm").iterdir()) == []
    assert raw.lab.recovery_points() == []
