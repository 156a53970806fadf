"""Free memory is touched before a run that makes images, whatever is permitted."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from ntxengine.bench import memory, stage, tools
from ntxengine.bench.servers import Sockets
from ntxengine.bench.stage import DiskShelf, Stage
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


@pytest.mark.parametrize(("server", "touched"), [("qemu-nbd", [MIB]), ("nbdkit-memory", [])])
def test_only_for_new_images(
    server: Literal["qemu-nbd", "nbdkit-memory"], touched: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    monkeypatch.setattr(stage, "touch_free", sizes.append)
    case = Case(name="x", title="x", source=Source(disk="x"), target=Target(server=server), who=("engine",))

    with Stage(case, Disk(size=Bytes(MIB)), DiskShelf(tmp_path), tmp_path, Sockets(tmp_path)) as made:
        made.make_ready()

    assert sizes == touched
