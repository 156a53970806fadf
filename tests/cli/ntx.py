"""Running `ntx` as a person does: as a process, with nothing in its environment that was not put there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from ntxengine.cli.main import ntx as overview

ROOT = Path(__file__).parent.parent.parent
COMMAND = (sys.executable, "-m", "ntxengine.cli.main")


@dataclass(frozen=True)
class Ran:
    """What a run of `ntx` gave."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("NTX_", "_NTX", "PYTEST"))}
    return {**kept, "PYTHONPATH": str(ROOT / "src"), "COLUMNS": "120", **(extra or {})}


def ntx(
    *arguments: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None, timeout_s: float = 120
) -> Ran:
    """Run `ntx` to its end."""
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)],
        env=environment(env),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def all_commands(group: click.Group = overview, before: str = "") -> dict[str, click.Command]:
    """Return every command by what a person types, those of groups too."""
    found: dict[str, click.Command] = {}
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        found[f"{before}{name}"] = command
        if isinstance(command, click.Group):
            found |= all_commands(command, f"{before}{name} ")
    return found


def assert_refused(ran: Ran, code: int, *words: str) -> None:
    """One line on stderr that says `words`, this exit code, nothing on stdout but the error as JSON, no traceback."""
    assert ran.code == code, ran
    lines = [line for line in ran.err.splitlines() if line.startswith("ntx: ")]
    assert len(lines) == 1, ran.err
    assert "Traceback" not in ran.err
    assert "defect" not in ran.err
    assert ran.out == "" or list(ran.json) == ["error"]
    for word in words:
        assert word in lines[0], lines[0]
