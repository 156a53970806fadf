"""A name is given once, to the first who asks, whatever the file system can."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from errno import EEXIST, EINVAL, ENOSYS, EPERM
from pathlib import Path

import pytest

from ntxengine import files
from tests.cli.ntx import environment
from tests.support.filesystem import lacking

WAYS: list[dict[str, int]] = [{}, {"link": EPERM}, {"link": ENOSYS, "rename-new": EINVAL}]


def call(name: str, old: Path, new: Path, lacks: dict[str, int]) -> str:
    """Run a function of `files` on such a file system, and return the name of what it raised, or of nothing."""
    code = (
        "import sys; from pathlib import Path; from ntxengine import files\n"
        "try: getattr(files, sys.argv[1])(Path(sys.argv[2]), Path(sys.argv[3]))\n"
        "except OSError as exc: print(type(exc).__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, name, old, new],
        env=environment(lacking(old.parent, lacks)),
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


@pytest.mark.parametrize("lacks", WAYS, ids=lambda lacks: " ".join(lacks) or "all")
@pytest.mark.parametrize("name", ["publish", "rename_new"])
def test_a_name_that_is_taken_stays_with_who_has_it(name: str, lacks: dict[str, int], tmp_path: Path) -> None:
    (tmp_path / "old").write_text("old")
    (tmp_path / "new").write_text("new")

    raised = call(name, tmp_path / "old", tmp_path / "new", lacks)

    assert raised == "FileExistsError"
    assert (tmp_path / "old").read_text() == "old"
    assert (tmp_path / "new").read_text() == "new"


@pytest.mark.parametrize("lacks", WAYS, ids=lambda lacks: " ".join(lacks) or "all")
@pytest.mark.parametrize("name", ["publish", "rename_new"])
def test_a_free_name_is_given(name: str, lacks: dict[str, int], tmp_path: Path) -> None:
    (tmp_path / "old").write_text("old")

    raised = call(name, tmp_path / "old", tmp_path / "new", lacks)

    assert raised == ""
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_a_dangling_link_has_a_name_too(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("old")
    (tmp_path / "new").symlink_to(tmp_path / "elsewhere")

    for give in (files.publish, files.rename_new):
        with pytest.raises(FileExistsError):
            give(tmp_path / "old", tmp_path / "new")

    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("lacks", [{}, {"rename-over": EEXIST}], ids=["can", "cannot"])
def test_what_exists_is_replaced(lacks: dict[str, int], tmp_path: Path) -> None:
    (tmp_path / "old").write_text("old")
    (tmp_path / "new").write_text("new")

    raised = call("replace", tmp_path / "old", tmp_path / "new", lacks)

    assert raised == ""
    assert (tmp_path / "new").read_text() == "old"


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch], ids=["folder", "file"])
def test_a_folder_is_renamed_onto_nothing_that_exists(make: Callable[[Path], None], tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    make(tmp_path / "new")

    with pytest.raises(FileExistsError):
        files.rename_new(tmp_path / "old", tmp_path / "new")
