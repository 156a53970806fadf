"""A booted machine leaves nothing behind."""

from __future__ import annotations

import os
from pathlib import Path

from tests.support.booted import booted

LONG = f"12345.{os.getpid()}"
"""Seconds that nobody else on this machine sleeps."""


def test_all_that_ran_in_a_machine_ends_with_it(tmp_path: Path) -> None:
    with booted(tmp_path / "machine") as machine:
        # exec: it returns when the program is running, not when there is a process for it
        machine.run("systemd-run", "--quiet", "--property=Type=exec", "sleep", LONG)
        leader = Path(f"/proc/{machine.leader}")
        was_there = leader.exists()
        left = _sleeping()

    assert was_there
    assert len(left) == 1
    assert not leader.exists()
    assert not _sleeping()
    assert not [line for line in Path("/proc/mounts").read_text().splitlines() if str(tmp_path) in line]


def _sleeping() -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if LONG.encode() in path.read_bytes():
                found.append(path.parent.name)
        except OSError:  # it has ended
            continue
    return found
