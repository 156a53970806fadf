"""`ntx sim --detach`: a simulator that goes on when the command has returned."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ntxengine.errors import LockedError, NtxError, OptionsError

LOG_FILE = "sim.log"
"""In the state folder: what the simulator says on stderr."""

_KINDS = {kind.exit_code: kind for kind in (OptionsError, LockedError)}


@dataclass(frozen=True)
class Serving:
    """A simulator that serves: its process, and what the other commands need."""

    pid: int
    environment: dict[str, str]


def start_detached(config_file: Path | None, state: Path, port: int) -> Serving:
    """Start a simulator in a session of its own; return when it serves.

    Errors: what the simulator answered, as the class that its exit code means.
    """
    state.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "ntxengine", "sim", "--json", "--state", str(state), "--port", str(port)]
    command += [] if config_file is None else ["--config", str(config_file)]
    # At its end: it is that of a simulator that runs already, and refuses this one.
    with (state / LOG_FILE).open("ab") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
    assert process.stdout is not None
    try:
        with process.stdout:
            said = process.stdout.readline()
        answer: dict[str, Any] = json.loads(said) if said else {}
        if "environment" in answer:
            return Serving(process.pid, answer["environment"])
        code = process.wait()
    except BaseException:
        process.terminate()
        raise
    message = answer.get("error", {}).get("message") or f"ntx sim ended with {code}: see {state / LOG_FILE}"
    raise _KINDS.get(code, NtxError)(message)
