"""`--audit`: how much, as a person writes it, and what a plan says of it."""

from __future__ import annotations

from typing import Any

import click

from ntxengine.capture import Audit, DiskPlan, parse_audit
from ntxengine.capture.plan import first_method
from ntxengine.cli.amounts import percent_text
from ntxengine.dataplane.coverage import blocks_of
from ntxengine.errors import OptionsError
from ntxengine.units import BLOCK_SIZE, format_size


class AuditAmount(click.ParamType[Audit]):
    """How much to audit: `2%`, `2GiB`, `10m`."""

    name = "amount"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Audit:
        if isinstance(value, Audit):
            return value
        try:
            return parse_audit(str(value))
        except OptionsError as exc:
            self.fail(str(exc), param, ctx)


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
