"""A machine that lacks descriptors, threads or processes is named as the cause, with the limit and how to raise it."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.ntx import COMMAND, Ran, assert_refused, environment
from tests.support.seccomp import CLONE3, denying

ENOUGH = 64
"""Descriptors with which a copy of one file works for certain."""


def limited(*arguments: str, cwd: Path, limit: Callable[[], None]) -> Ran:
    done = subprocess.run(
        [*COMMAND, *arguments],
        env=environment(),
        cwd=cwd,
        preexec_fn=limit,
        capture_output=True,
        text=True,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def files(most: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@pytest.mark.parametrize("most", [7, 9, 12, 16, 18, 19, 20, 21, 22, 23, 24, 26])
def test_with_few_descriptors_a_copy_works_or_names_the_limit(most: int, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(os.urandom(1 << 20))

    ran = limited("copy", "source", "target", "--verify", "-q", cwd=tmp_path, limit=files(most))

    if ran.code == 0:
        assert ran.err == ""
        return
    assert_refused(ran, 1, "Too many open files", f"may have {most} files open", "ulimit -n")
    assert len(ran.err.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_with_enough_descriptors_it_works(tmp_path: Path) -> None:
    ran = limited("copy", "pattern:1M", "target", "--verify", "-q", cwd=tmp_path, limit=files(ENOUGH))

    assert (ran.code, ran.err) == (0, "")


VMS = ["vms", "--prism", "https://localhost", "--username", "x", "--password-file", "password"]  # looks a name up


@pytest.mark.parametrize("arguments", [["copy", "pattern:1M", "null:"], VMS], ids=["copy", "vms"])
def test_without_threads_the_limit_is_named(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "password").write_text("x")
    (tmp_path / "password").chmod(0o600)

    ran = limited(*arguments, cwd=tmp_path, limit=denying(CLONE3, errno.EAGAIN))

    assert_refused(ran, 1, "no thread can be started", "ulimit -u")
    assert len(ran.err.splitlines()) == 1
