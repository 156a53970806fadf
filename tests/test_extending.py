"""docs/extending.md: the files that it names exist, and what it shows as an example works when it is registered."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner

from ntxengine import attach
from ntxengine.attach import AttachOptions, choose_attacher
from ntxengine.cli.main import COMMANDS, Entry, ntx
from ntxengine.dataplane.copy import CopyOptions
from ntxengine.images import create
from ntxengine.images.create import NewImage, create_image
from ntxengine.prism.findings import Findings
from ntxengine.repository import Repository
from ntxengine.repository.store import PointStore
from ntxengine.sim import Simulator, run_in_thread
from tests.capture.lab import make_config, open_lab

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "extending.md").read_text()


def example(name: str) -> str:
    found = re.search(rf"<!-- runs: {name} -->\n```\w+\n(.*?)```", TEXT, re.DOTALL)
    assert found is not None, f"docs/extending.md has no example of {name}"
    return found[1]


def module_of(name: str) -> ModuleType:
    module = ModuleType(f"example_{name.replace(' ', '_')}")
    exec(compile(example(name), "docs/extending.md", "exec"), module.__dict__)
    return module


def test_every_file_that_is_named_exists() -> None:
    named = re.findall(r"`((?:src|csrc|tests|docs)/[^`\s]+)`", TEXT)

    assert len(named) > 15
    for name in named:
        # <name> is that of the new file, beside which there must be others of its kind.
        assert list(ROOT.glob(name.replace("<name>", "*"))), name


@pytest.fixture
def simulator(tmp_path: Path) -> Iterator[Simulator]:
    with run_in_thread(make_config(tmp_path / "disks"), tmp_path / "cluster") as sim:
        yield sim


async def test_a_capture_reads_through_the_attacher(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = module_of("attacher").ServedFile
    lab = await open_lab(simulator, "v3", await Repository.create(tmp_path / "repository"), attach="mount")
    async with aclosing(lab.prism):
        monkeypatch.setattr(attach, "ATTACHERS", (kind, *attach.ATTACHERS))
        options = AttachOptions(containers=simulator.world.layout.containers)

        lab.attacher = await choose_attacher(lab.prism, Findings("v3"), options)
        point = await lab.capture()

        assert point.report.source == kind.name
        assert lab.stored(point) == lab.guest()
        lab.assert_clean(points=1)


async def test_an_image_is_written_in_the_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = module_of("image format").FullRawFile
    monkeypatch.setitem(create.WRITERS, kind.format, kind)
    new = NewImage(tmp_path / "image", 1024**2)

    async with create_image(new, kind.format, CopyOptions()) as image:
        assert image.device.size == new.size
        await image.finish()

    assert new.path.stat().st_blocks * 512 >= new.size


def test_the_command_is_found_by_its_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = re.search(r'"count": Entry\("(\w+)", "([^"]+)"\)', TEXT)
    assert row is not None
    monkeypatch.setitem(COMMANDS, "count", Entry(row[1], row[2]))
    monkeypatch.setitem(sys.modules, f"ntxengine.cli.{row[1]}", module_of("command"))
    PointStore.create(tmp_path)

    ran = CliRunner().invoke(ntx, ["count", "--repository", str(tmp_path)])

    assert (ran.exit_code, ran.stderr) == (0, "")


def test_the_device_compiles(tmp_path: Path) -> None:
    source = tmp_path / "device_ones.c"
    source.write_text(example("device"))

    flags = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", f"-I{ROOT / 'csrc'}"]
    done = subprocess.run(
        ["gcc", *flags, "-fsyntax-only", source], capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 0, done.stderr
