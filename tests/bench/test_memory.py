"""Free memory is touched before a run, whatever is permitted."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from ntxengine.bench import memory, stage, tools
from ntxengine.bench.servers import Sockets
from ntxengine.bench.stage import DiskCache, Stage
from ntxengine.bench.suite import Bytes, Case, Disk, Source, Target
from ntxengine.units import GIB, KIB, MIB

_PEAK = """
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM:")))
"""


def test_as_much_is_touched_as_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    run_tool = tools.run_tool
    peaks: list[int] = []

    def with_peak(program: str, option: str, script: str, size: str, *, good: tuple[int, ...]) -> str:
        said = run_tool(program, option, script + _PEAK, size, good=good)
        peaks.append(int(said) * KIB)
        return said

    monkeypatch.setattr(tools, "run_tool", with_peak)

    memory.touch_free(0)
    memory.touch_free(32 * MIB)

    assert 31 * MIB < peaks[1] - peaks[0] < 36 * MIB


def test_less_than_that_may_be_permitted(monkeypatch: pytest.MonkeyPatch) -> None:
    run_tool = tools.run_tool

    def limited(*command: str, good: tuple[int, ...]) -> str:
        return run_tool("prlimit", f"--as={200 * MIB}", "--", *command, good=good)

    monkeypatch.setattr(tools, "run_tool", limited)

    memory.touch_free(GIB)


@pytest.mark.parametrize(
    ("server", "size", "touched"),
    [
        ("nbdkit-memory", MIB, MIB),  # buffers: not more than there are bytes
        ("nbdkit-memory", GIB, 256 * MIB),
        ("qemu-nbd", MIB, 2 * MIB),  # and the new image
    ],
)
def test_as_much_as_a_run_will_take(
    server: Literal["qemu-nbd", "nbdkit-memory"],
    size: int,
    touched: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes: list[int] = []
    monkeypatch.setattr(stage, "touch_free", sizes.append)
    case = Case(name="x", title="x", source=Source(disk="x"), target=Target(server=server), who=("engine",))
    empty = Disk(size=Bytes(size), data=0)

    with Stage(case, empty, DiskCache(tmp_path), tmp_path, Sockets(tmp_path), drop=None) as made:
        made.make_ready()

    assert sizes == [touched]
