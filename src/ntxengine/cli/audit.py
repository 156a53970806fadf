"""`--audit`: how much, as a person writes it; and what a plan, a report and a list say of it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import click

from ntxengine.capture import Audit, DiskPlan
from ntxengine.capture.plan import first_method
from ntxengine.dataplane.coverage import blocks_of
from ntxengine.errors import OptionsError
from ntxengine.repository import Distrust, StoredAudit
from ntxengine.units import BLOCK_SIZE, format_size, parse_size

DISTRUSTED = "tracking distrusted"
"""What a point is called whose changes were found by a tracker that an audit has shown to be wrong."""

_SHARE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,20})?)\s*%")
_TIME = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,20})?)(s|m|h)")
_SECONDS = {"s": 1, "m": 60, "h": 3600}


class AuditAmount(click.ParamType[Audit]):
    """How much to audit: `2%`, `2GiB`, `10m`."""

    name = "amount"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Audit:
        if isinstance(value, Audit):
            return value
        try:
            return parse_amount(str(value).strip())
        except OptionsError as exc:
            self.fail(f"{exc}; write a share of each disk (2%), bytes (2GiB) or a time (90s, 10m, 1h)", param, ctx)


def parse_amount(text: str) -> Audit:
    """Return what `2%`, `2GiB` or `10m` means: a small m is minutes.  Errors: OptionsError."""
    if (share := share_of(text)) is not None:
        return Audit(share=share)
    if (seconds := seconds_of(text)) is not None:
        return Audit(seconds=seconds)
    size = parse_size(text)
    if size < BLOCK_SIZE:
        # Most likely a number whose % was forgotten.
        raise OptionsError(f"{text!r} is less than one block ({format_size(BLOCK_SIZE)})")
    return Audit(bytes=size)


def share_of(text: str) -> float | None:
    """Return what `2%` means, None if it is no share."""
    match = _SHARE.fullmatch(text)
    return None if match is None else float(match[1]) / 100


def seconds_of(text: str) -> float | None:
    """Return what `90s`, `10m` and `1h` mean, None if it is no time."""
    match = _TIME.fullmatch(text)
    return None if match is None else float(match[1]) * _SECONDS[match[2]]


audit_option = click.option(
    "--audit",
    type=AuditAmount(),
    metavar="AMOUNT",
    help="Read some of what the cluster says has not changed, and compare: 2% of each disk, 2GiB or 10m of a VM.",
)
"""Pass `audit`, as CaptureOptions has it."""


def plan_fields(plan: DiskPlan) -> dict[str, object] | None:
    """Return what would be audited of a disk as `--json` has it; None for nothing."""
    if plan.audit is None or first_method(plan) in ("lost", "distrusted") or not plan.disk.size:
        return None
    blocks = blocks_of(plan.disk.size)
    return {
        "blocks": blocks,
        "blocks_at_most": plan.audit.most_blocks(blocks),
        "seconds_at_most": plan.audit.seconds,
        "blocks_covered": plan.blocks_covered,
    }


def plan_text(plan: DiskPlan) -> str:
    """Return what would be audited of a disk, for a person; "" for nothing."""
    if plan_fields(plan) is None or plan.audit is None:
        return ""
    blocks = blocks_of(plan.disk.size)
    most = plan.audit.most_blocks(blocks)
    if most is None:
        much = f"for {plan.audit.seconds:.0f} s at most"
    else:
        much = f"{most} of {blocks} blocks at most, {format_size(min(most * BLOCK_SIZE, plan.disk.size))}"
    return f", audited: {much}; {percent_text(plan.blocks_covered, blocks)} covered so far"


def report_text(audit: StoredAudit | None) -> str:
    """Return what an audit of a disk found, for a person; "" if there was none."""
    if audit is None or not (audit.blocks_sampled or audit.problem):
        return ""
    if audit.blocks_wrong:
        found = f"{audit.blocks_wrong} of {audit.blocks_sampled} blocks were NOT as reported: all was read"
    else:
        covered = percent_text(min(audit.position, audit.blocks), audit.blocks)
        found = f"{audit.blocks_sampled} blocks were as reported; {covered} covered since all was read"
    return f"audit: {found}" + (f"; not all could be read: {audit.problem}" if audit.problem else "")


def distrust_text(distrusted: Iterable[Distrust]) -> str:
    """Say which disks of a point may lack changes, and who found it; "" if none."""
    found = [f"{each.label} ({each.found_by})" for each in distrusted]
    return f"{DISTRUSTED}: an audit found that changes may be missing: {', '.join(found)}" if found else ""


def distrust_fields(distrusted: Iterable[Distrust]) -> list[dict[str, object]]:
    """Return the same as `--json` has it."""
    return [
        {
            "disk_id": each.disk_id,
            "label": each.label,
            "found_by_point_id": each.found_by,
            "found_at": each.found_at,
            "offsets": each.offsets,
        }
        for each in distrusted
    ]


def percent_text(part: int, whole: int) -> str:
    """Return a part in percent.  Not rounded up: 100 % is all."""
    return f"{int(1000 * part / whole) / 10 if whole else 100:g} %"
