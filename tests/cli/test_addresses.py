"""An address, or what looks like one, in the place of something else: refused, and nothing of that name is made."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from ntxengine.cli.paths import LocalPath
from tests.cli.ntx import all_commands, assert_refused, ntx


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["restore", "db01", "nbd://host/", "--from", "r"], "ntx copy FILE nbd://host/"),
        (["points", "--repository", "s3://bucket/ntx"], "only a path"),
        (["copy", "pattern:64K", "localhost:10899"], "write nbd://localhost:10899/"),
        (["checksum", "-"], "only `ntx copy`"),
        (["copy", "pattern:64K", "null"], "write null:"),
        (["copy", "pattern:64K", "null:", "--manifest", "nbd:host"], "nbd://host/"),
        (["sim", "--state", "nbd://host/"], "./nbd://host/"),
        (["restore", "db01", "::1:10898", "--from", "r"], "only a path"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
)
def test_address_makes_no_file_and_no_folder(arguments: list[str], word: str, tmp_path: Path) -> None:
    ran = ntx(*arguments, cwd=tmp_path)

    assert_refused(ran, 2, word)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["capture", "db01", "--to", ""],
        ["restore", "db01", "", "--from", "r"],
        ["sweep", ""],
        ["repository", "adopt", ""],
    ],
    ids=lambda value: value[0],
)
def test_empty_path_is_not_the_working_directory(arguments: list[str], tmp_path: Path) -> None:
    ran = ntx(*arguments, cwd=tmp_path)

    assert_refused(ran, 2, "names nothing")
    assert list(tmp_path.iterdir()) == []


def test_address_in_a_variable_is_refused_too(tmp_path: Path) -> None:
    ran = ntx("points", cwd=tmp_path, env={"NTX_REPOSITORY": "nbd://host/"})

    assert_refused(ran, 2, "only a path")


def test_file_that_is_really_called_so_has_a_spelling(tmp_path: Path) -> None:
    ran = ntx("copy", "pattern:64K", "./-", cwd=tmp_path)

    assert ran.code == 0, ran.err
    assert (tmp_path / "-").stat().st_size == 65536


def test_every_path_of_every_command_is_looked_at() -> None:
    paths = [
        (name, param.name, type(param.type))
        for name, command in all_commands().items()
        for param in command.params
        if isinstance(param.type, click.Path)
    ]

    assert len(paths) > 10
    assert [each for each in paths if each[2] is not LocalPath] == []
