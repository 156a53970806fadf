"""Running `ntx` as a person does: as a process, with nothing in its environment that was not put there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from ntxengine.cli.main import main
from ntxengine.cli.main import ntx as overview
from tests.support.forked import fork_server

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


_BEFORE = environment()


def ntx(
    *arguments: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None, timeout_s: float = 120
) -> Ran:
    """Run `ntx` to its end."""
    words, variables = [str(argument) for argument in arguments], environment(env)
    if any(variables.get(name) != _BEFORE.get(name) for name in {*variables, *_BEFORE} if not name.startswith("NTX_")):
        return _started(words, variables, cwd, timeout_s)  # Python, or a module, reads it as it is loaded
    return _forked(words, variables, cwd, timeout_s)


def _started(words: Sequence[str], variables: Mapping[str, str], cwd: Path | None, timeout_s: float) -> Ran:
    done = subprocess.run(
        [*COMMAND, *words],
        env=variables,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def _forked(words: Sequence[str], variables: Mapping[str, str], cwd: Path | None, timeout_s: float) -> Ran:
    with tempfile.TemporaryDirectory(prefix="ntx-test-") as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        for file in (out, err):
            file.touch()
        process = fork_server().Process(target=_be, args=(words, variables, cwd or Path.cwd(), out, err))
        process.start()
        process.join(timeout_s)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(["ntx", *words], timeout_s, out.read_bytes(), err.read_bytes())
        return Ran(process.exitcode, out.read_text(), err.read_text())


def _be(words: Sequence[str], variables: Mapping[str, str], cwd: Path, out: Path, err: Path) -> None:
    """Be an `ntx`, in a process that was forked."""
    for number, file in ((1, out), (2, err)):
        descriptor = os.open(file, os.O_WRONLY)
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(cwd)
    sys.argv = ["ntx", *words]
    main()


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
