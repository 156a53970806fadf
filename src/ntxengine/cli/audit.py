"""`--audit`: how much, as a person writes it, and what a plan says of it."""

from __future__ import annotations

from typing import Any

import click

from ntxengine.capture import Audit, DiskPlan
from ntxengine.capture.plan import first_method
from ntxengine.cli.amounts import percent_text, seconds_of, share_of
from ntxengine.dataplane.coverage import blocks_of
from ntxengine.errors import OptionsError
from ntxengine.units import BLOCK_SIZE, format_size, parse_size


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
