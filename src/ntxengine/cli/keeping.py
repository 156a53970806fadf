"""`--keep-...`: what is to stay of each VM, as one policy."""

from __future__ import annotations

import functools
from datetime import timedelta
from typing import Any

import click

from ntxengine.cli.options import Function
from ntxengine.cli.times import SPAN, TIME_ZONE

_RULES = {
    "last": "The newest N points.",
    "hourly": "The newest point of each of the newest N hours that have points.",
    "daily": "The newest point of each of the newest N days that have points.",
    "weekly": "The same for weeks, from Monday (ISO 8601).",
    "monthly": "The same for months.",
    "yearly": "The same for years.",
}


def keep_options(function: Function) -> Function:
    """Add --keep-last, --keep-daily, ... and --time-zone; pass `policy`, None without any rule."""

    @click.option("--keep-within", "within", type=SPAN, help="What is not older than this before the newest point: 2d.")
    @click.option("--keep-tag", "tags", multiple=True, metavar="TAG", help="What has this tag; repeatable.")
    @click.option(
        "--time-zone",
        type=TIME_ZONE,
        default="UTC",
        envvar="NTX_TIME_ZONE",
        show_envvar=True,
        show_default=True,
        help="Whose hours, days, weeks, months and years: UTC, Europe/Berlin.",
    )
    @functools.wraps(function)
    def with_policy(*args: Any, within: timedelta | None, tags: tuple[str, ...], time_zone: Any, **kwargs: Any) -> Any:
        from ntxengine.repository import checked_tag
        from ntxengine.retention import Policy

        counts = {rule: kwargs.pop(f"keep_{rule}") or 0 for rule in _RULES}
        wanted = tuple(map(checked_tag, tags))
        is_given = any(counts.values()) or within is not None or bool(wanted)
        policy = Policy(**counts, within=within or timedelta(0), tags=wanted, time_zone=time_zone) if is_given else None
        return function(*args, policy=policy, **kwargs)

    decorated: Function = with_policy
    for rule, text in reversed(_RULES.items()):
        decorated = click.option(f"--keep-{rule}", f"keep_{rule}", type=click.IntRange(1), metavar="N", help=text)(
            decorated
        )
    return decorated
