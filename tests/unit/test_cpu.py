"""How much processor time is meant, and what the processes that work for us took of it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from ntxengine.dataplane.cpu import children_ns, parse_cpu_limit, share_ppm
from ntxengine.errors import OptionsError

TAKEN_S = 0.3
SECOND_NS = 10**9

_TAKE = f"""
import sys, time
while time.process_time() < {TAKEN_S}: pass
print("taken", flush=True)
sys.stdin.read()
"""
_OF_A_CHILD = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {_TAKE!r}])"


@pytest.mark.parametrize(
    ("text", "part"), [("5%", 0.05), (" 0.5 % ", 0.005), ("100%", 1.0), ("0.01%", 0.0001), ("33.33%", 0.3333)]
)
def test_a_part_is_of_all_processors(text: str, part: float) -> None:
    assert parse_cpu_limit(text) == pytest.approx(part)


@pytest.mark.parametrize("text", ["", "5", "0%", "0.00%", "100.01%", "101%", "-5%", "1e1%", "5%%", "0.001%", "1000%"])
def test_what_is_no_part_is_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(OptionsError, match=r"write a part of all processors of this machine, from 0.01% to 100%"):
        parse_cpu_limit(text)


def test_the_core_is_told_millionths_of_one_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    of_eight = share_ppm(0.05)
    monkeypatch.setattr(os, "cpu_count", lambda: None)

    assert (of_eight, share_ppm(0.05)) == (400_000, 50_000)


@pytest.mark.parametrize("code", [_TAKE, _OF_A_CHILD], ids=["child", "child of a child"])
def test_what_a_process_took_counts_while_it_runs_and_when_it_has_ended(code: str) -> None:
    before = children_ns()
    started: list[subprocess.Popen[bytes]] = []

    def start() -> None:  # the kernel lists the children of each thread
        started.append(subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        assert started[0].stdout is not None
        assert started[0].stdout.readline() == b"taken\n"
        running.append(children_ns() - before)

    running: list[int] = []
    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    with started[0] as process:
        process.communicate()
    ended = children_ns() - before

    for taken in (*running, ended):
        assert 0.9 * TAKEN_S * SECOND_NS < taken < 20 * SECOND_NS
    assert ended >= 0.95 * running[0]
