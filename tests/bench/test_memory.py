"""Free memory is touched before a run that makes images, whatever is permitted."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Literal

import pytest

from ntxengine.bench import memory, stage, tools
from ntxengine.bench.servers import Sockets
from ntxengine.bench.stage import DiskShelf, Stage
from ntxengine.bench.suite import Bytes, Case, Disk, Source, Target
from ntxengine.units import GIB, KIB, MIB


def test_it_is_touched_by_another_process() -> None:
    ours = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    memory.touch_free(ours * KIB + 64 * MIB)

    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * KIB >= ours * KIB + 64 * MIB
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < ours + 64 * KIB


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
