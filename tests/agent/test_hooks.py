"""Hooks: what they get, and that none can hold an agent up or outlive its run."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from ntxengine.agent import hooks
from ntxengine.agent.hooks import HookFailed, Hooks, run_hook
from ntxengine.agent.records import Figures, Kept, Run, RunState
from ntxengine.errors import OptionsError
from tests.agent.virtual import START
from tests.cli.test_json import problems
from tests.support.processes import processes
from tests.support.servers import require
from tests.support.timeouts import Timeouts

RUN = Run("20261130T120000Z-8f3a2c", "nightly", "id-a", 'db "01"\n', START, state=RunState.SUCCEEDED, seconds=70.0)
ENDED = Run(
    "20261130T120000Z-8f3a2c",
    "nightly",
    "id-a",
    "db01",
    START,
    due_at=START,
    state=RunState.FAILED,
    ended_at=START,
    stages_s={"copy": 1.5},
    figures=Figures(kind="full"),
    kept=Kept(1, 1, 5),
    warnings=("w",),
    error="no connection",
    error_class="NbdError",
    exit_code=1,
)


LIMIT_S = 60.0
"""Longer than anything takes, however busy the machine is."""


@pytest.fixture(autouse=True)
def _programs() -> None:
    require("setpriv")


def script(folder: Path, text: str) -> str:
    file = folder / "hook"
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return str(file)


async def is_gone(pid_file: Path) -> None:
    """Wait until a process has ended, whose id is in a file: a zombie has, and has no words."""
    pid = int(pid_file.read_text())
    await until(lambda: pid not in {process.pid for process in processes() if process.words != [""]})


async def until(is_so: Callable[[], object]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not is_so():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(("event", "run"), [("start", RUN), ("success", RUN), ("failure", ENDED)])
async def test_a_hook_gets_json_as_its_schema_says_and_its_arguments_as_they_are(
    tmp_path: Path, event: str, run: Run
) -> None:
    argv = [script(tmp_path, f'cat > {tmp_path}/in; printf "%s|" "$@" > {tmp_path}/argv'), "a b", "$(id)", "--x=';'"]

    await run_hook(event, argv, run, LIMIT_S)

    document: Any = json.loads((tmp_path / "in").read_text())
    assert problems(document, "hook.json") == []
    assert (document["event"], document["run"]["vm_name"]) == (event, run.vm_name)
    assert (tmp_path / "argv").read_text() == "a b|$(id)|--x=';'|"


async def test_its_environment_is_this_and_nothing_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NTX_PASSWORD", "NUTANIX_PASSWORD", "NTX_API_KEY", "CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET"):
        monkeypatch.setenv(name, "hush")

    await run_hook(
        "start", [script(tmp_path, f"/usr/bin/env > {tmp_path}/env; ls -l /proc/self/fd > {tmp_path}/fds")], RUN, 10
    )

    told = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines())
    told.pop("_", None)
    assert told == {
        "PATH": hooks.PATH,
        "LANG": "C.UTF-8",
        "NTX_EVENT": "start",
        "NTX_RUN_ID": RUN.id,
        "NTX_JOB": "nightly",
        "NTX_VM_ID": "id-a",
        "PWD": "/",
    }
    opened = [line for line in (tmp_path / "fds").read_text().splitlines() if "->" in line]
    assert len(opened) == 4  # stdin, its own file, stderr, and the folder that ls reads


async def test_what_it_says_is_logged_and_its_last_line_is_in_the_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ntxengine")

    with pytest.raises(HookFailed, match=r"^hook start \(.*hook\): ended with exit code 3: the database is locked$"):
        await run_hook(
            "start", [script(tmp_path, "echo looking; echo the database is locked >&2; exit 3")], RUN, LIMIT_S
        )

    assert "looking" in caplog.text


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["/nowhere/tell"], "no such program"),
        (["no-such-program-of-ours"], "no such program"),
        (["/etc/passwd"], "no such program that may be run"),
        (["/bin/sh", "-c", "kill -9 $$"], "was killed by signal 9"),
    ],
)
async def test_what_cannot_be_started_or_dies_is_one_clear_line(argv: list[str], says: str) -> None:
    with pytest.raises(HookFailed, match=says) as caught:
        await run_hook("success", argv, RUN, LIMIT_S)

    assert "\n" not in str(caught.value)


async def test_one_that_takes_too_long_is_ended_with_all_that_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = tmp_path / "child"
    text = f"trap '' TERM; sleep 1000 & echo waiting; echo $! > {child}; while :; do wait; done"
    limits = Timeouts(monkeypatch, 1000)
    hook = asyncio.create_task(run_hook("success", [script(tmp_path, text)], RUN, 1000))
    await until(lambda: child.exists() and child.read_text())

    limits.run_out()

    with pytest.raises(HookFailed, match=r"was not done after 1000 s, and was ended: waiting"):
        await hook

    await is_gone(child)


async def test_what_it_leaves_in_the_background_with_its_pipe_neither_holds_it_up_nor_stays(tmp_path: Path) -> None:
    began = time.monotonic()

    await run_hook("success", [script(tmp_path, f"sleep 1000 & echo $! > {tmp_path}/child")], RUN, 2 * LIMIT_S)

    assert time.monotonic() - began < LIMIT_S
    await is_gone(tmp_path / "child")


async def test_a_daemon_of_its_own_session_that_keeps_the_pipe_does_not_hold_it_up(tmp_path: Path) -> None:
    text = f"setsid sh -c 'echo $$ > {tmp_path}/child; exec sleep 1000' & while ! [ -s {tmp_path}/child ]; do :; done"
    began = time.monotonic()

    await run_hook("success", [script(tmp_path, text)], RUN, 2 * LIMIT_S)

    assert time.monotonic() - began < LIMIT_S
    with suppress(ProcessLookupError):
        os.kill(int((tmp_path / "child").read_text()), signal.SIGKILL)


async def test_one_that_reads_nothing_of_much_is_no_trouble(tmp_path: Path) -> None:
    run = Run("r", "j", "v", "n", START, warnings=("x" * 1000,) * 1000)

    await run_hook("success", ["true"], run, LIMIT_S)
    await run_hook("success", [script(tmp_path, "exec <&-; exit 0")], run, LIMIT_S)


async def test_one_that_talks_without_end_costs_little_and_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    taken, take = [], hooks._Output._take
    monkeypatch.setattr(hooks._Output, "_take", lambda output: taken.append(True) or take(output))
    began = time.monotonic()

    with pytest.raises(HookFailed, match="was not done after 1 s") as caught:
        await run_hook("success", ["yes", "y" * 900], RUN, 1)

    assert len(str(caught.value)) < 700
    # Pieces of what it says, however much that is.
    assert len(taken) <= (time.monotonic() - began) / hooks._READ_INTERVAL_S + 2


async def test_when_it_is_cancelled_the_hook_is_ended_first(tmp_path: Path) -> None:
    argv = [script(tmp_path, f"sleep 1000 & echo $! > {tmp_path}/child; wait")]
    task = asyncio.create_task(run_hook("start", argv, RUN, 1000))
    await until(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text())

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    await is_gone(tmp_path / "child")


async def test_no_descriptor_is_left(tmp_path: Path) -> None:
    await run_hook("start", ["true"], RUN, LIMIT_S)
    gc.collect()  # what tests before left open closes now, or never
    before = len(os.listdir("/proc/self/fd"))

    for _ in range(5):
        await run_hook("start", ["true"], RUN, LIMIT_S)
        with pytest.raises(HookFailed):
            await run_hook("start", ["false"], RUN, LIMIT_S)

    assert len(os.listdir("/proc/self/fd")) == before


def test_what_is_no_argument_vector_is_refused() -> None:
    with pytest.raises(OptionsError, match="what is no program"):
        Hooks(start=("a\0b",))
    with pytest.raises(OptionsError, match="is no time"):
        Hooks(timeout_s=0)
