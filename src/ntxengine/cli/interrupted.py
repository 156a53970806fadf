"""What a list says of captures that were interrupted."""

from __future__ import annotations

from typing import Any

from ntxengine.cli.figures import UNKNOWN
from ntxengine.cli.text import printable
from ntxengine.repository import Interrupted, is_point_id
from ntxengine.units import format_size, format_time, utc_now


def interrupted_text(found: Interrupted) -> str:
    """Return what can be done with an interrupted capture."""
    text = f"the capture of {printable(vm_name_of(found))} as point {found.point_id} was interrupted"
    if found.resume is None:
        return f"{text}, and cannot be gone on with: {printable(found.problem)}; the next capture of the VM begins anew"
    done = f"{format_size(found.bytes_done)} of {format_size(found.bytes_total)} are copied"
    frozen = f"of the VM as it was frozen at {format_time(found.resume.frozen_at)}"
    until = format_time(found.resume.expires_at)
    if not found.can_be_resumed(utc_now()):
        return f"{text}, and is too old to be gone on with: its recovery point was kept until {until}"
    return (
        f"{text}: {done}, {frozen}; `ntx capture` goes on with it until {until}; `ntx capture --no-resume`, or "
        f"`ntx sweep --unfinished`, gives it up"
    )


def interrupted_fields(found: Interrupted) -> dict[str, Any]:
    """Return one as `--json` has it."""
    resume = found.resume
    return {
        "point_id": found.point_id if is_point_id(found.point_id) else None,
        "vm_id": found.vm_id,
        "vm_name": None if resume is None else resume.vm_name,
        "frozen_at": None if resume is None else resume.frozen_at,
        "expires_at": None if resume is None else resume.expires_at,
        "bytes_done": found.bytes_done,
        "bytes_total": found.bytes_total,
        "resumable": found.can_be_resumed(utc_now()),
        "problem": found.problem,
    }


def interrupted_row(found: Interrupted) -> list[str]:
    """Return one as a row of `ntx points`."""
    percent = 100 * found.bytes_done // found.bytes_total if found.bytes_total else 0
    resume = found.resume
    return [
        found.point_id,
        vm_name_of(found),
        UNKNOWN,
        format_size(found.bytes_total) if resume else "?",
        "?",
        resume.consistency if resume else "?",
        f"interrupted at {percent} %",
        found.vm_id,
        (resume.parent_id if resume else None) or UNKNOWN,
        UNKNOWN,
    ]


def vm_name_of(found: Interrupted) -> str:
    """Return what its VM is called, as far as that is known."""
    return found.vm_id if found.resume is None else found.resume.vm_name
