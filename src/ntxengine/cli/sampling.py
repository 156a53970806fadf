"""`--sample` and `--for`: how much of a point to verify, as a person writes it; and what came of it."""

from __future__ import annotations

import functools
import math
from typing import Any

import click

from ntxengine.cli.amounts import percent_text
from ntxengine.cli.options import Function
from ntxengine.dataplane.coverage import SEEDS
from ntxengine.units import seconds_of, share_of
from ntxengine.verify import Sampled, Sampling


class Share(click.ParamType[float]):
    """A share of a disk: `5%`."""

    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        share = share_of(str(value).strip())
        if share is None or not 0 < share <= 1:
            self.fail(f"{value!r} is not a share of a disk: write 5%, above 0% and at most 100%", param, ctx)
        return share


class Duration(click.ParamType[float]):
    """A time: `90s`, `10m`, `1h`."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        seconds = seconds_of(str(value).strip())
        if not seconds:
            self.fail(f"{value!r} is not a time: write seconds, minutes or hours, such as 90s, 10m or 1h", param, ctx)
        return seconds


def sampling_options(function: Function) -> Function:
    """Add --sample, --for and --seed; pass `sampling`, None without them."""

    @click.option(
        "--sample",
        "share",
        type=Share(),
        metavar="SHARE",
        help="Read so much of each disk (5%), chosen at random, and each time another part.",
    )
    @click.option(
        "--for", "seconds", type=Duration(), metavar="TIME", help="Read so long (10m), all disks together, likewise."
    )
    @click.option(
        "--seed",
        type=click.IntRange(0, SEEDS - 1),
        metavar="N",
        help="Of the order in which --sample and --for read; another one than before begins anew.",
    )
    @functools.wraps(function)
    def with_sampling(*args: Any, share: float | None, seconds: float | None, seed: int | None, **kwargs: Any) -> Any:
        if share is not None and seconds is not None:
            raise click.UsageError("--sample and --for contradict each other: give one of them")
        if share is None and seconds is None:
            if seed is not None:
                raise click.UsageError("--seed is of --sample or --for: give one of them")
            return function(*args, sampling=None, **kwargs)
        return function(*args, sampling=Sampling(share=share, seconds=seconds, seed=seed), **kwargs)

    return with_sampling


def sampling_text(sampled: Sampled | None) -> str:
    """Say of a disk of which nothing is wrong how far that was looked at."""
    if sampled is None:
        return "as captured"
    if not sampled.blocks:
        return "as captured: it has no data"
    part = f"{sampled.blocks_sampled} of {sampled.blocks} blocks as captured"
    if sampled.blocks_covered == sampled.blocks:
        return f"{part}; all covered" + (f", {sampled.rounds} times" if sampled.rounds > 1 else "")
    covered = percent_text(sampled.blocks_covered, sampled.blocks)
    excluded = sampled.excluded_share
    sure = "" if excluded is None else f"; 95 % sure that less than {_percent_up(excluded)} % of its blocks are wrong"
    return f"{part}; {covered} covered so far{sure}"


def _percent_up(share: float) -> str:
    """Return a share in percent, rounded up, with two digits that count."""
    digits = max(1, 1 - math.floor(math.log10(100 * share)))
    text = f"{math.ceil(100 * share * 10**digits) / 10**digits:.{digits}f}"
    return text.removesuffix(".0")


def sampling_fields(sampled: Sampled | None) -> dict[str, object] | None:
    """Return the same as `--json` has it; None of a disk that was read whole, or could not be read."""
    if sampled is None:
        return None
    return {
        "seed": sampled.cursor.seed,
        "blocks": sampled.blocks,
        "blocks_sampled": sampled.blocks_sampled,
        "blocks_covered": sampled.blocks_covered,
        "rounds": sampled.rounds,
        "excluded_share": sampled.excluded_share,
    }
