"""What the record of a question's script says besides its figures."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import msgspec

from ntxengine.bench import machine


def provenance(doc: str | None, place: Path) -> dict[str, Any]:
    """Return the question, the command, the machine (`place`: where the disks are), the versions and the commit."""
    commit, dirty = machine.commit()
    return {
        "question": (doc or "").partition("\n")[0],
        "command": shlex.join([f"bench/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "machine": msgspec.to_builtins(machine.machine(place)),
        "versions": machine.versions(),
        "commit": commit,
        "dirty": dirty,
    }
