"""Options that several commands share: what they are called, which NTX_* variable sets them, what they turn into.

A decorator adds the options and hands the command one object in their place:

    @common_options      screen: Screen                 how to speak
    @transfer_options    transfer: TransferOptions      how hard to pull
    @repository_option   repository: Path               where the points are
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from ntxengine.cli import complete
from ntxengine.cli.paths import FOLDER
from ntxengine.cli.values import (
    BANDWIDTH,
    COMPRESSION,
    CPU_LIMIT,
    EXPIRY,
    MEMORY_LIMIT,
    SECONDS,
    SIZE,
    TIER,
    Given,
    SecondsUpTo,
)
from ntxengine.cli.variables import name_in
from ntxengine.dataplane.retry import MAX_PATIENCE_S, Patience
from ntxengine.dataplane.tier import Tier
from ntxengine.dataplane.timetable import Timetable
from ntxengine.errors import NtxError

if TYPE_CHECKING:
    from ntxengine.cli.output import Screen
    from ntxengine.dataplane.bandwidth import Bandwidth
    from ntxengine.dataplane.copy import CopyOptions

Function = Callable[..., Any]

MAX_CONNECTIONS = 64
MAX_IN_FLIGHT = 64


# ---------------------------------------------------------------------------------------------------- speaking


def common_options(function: Function) -> Function:
    """Add --json, --progress, -v, -q and --debug; pass `screen`."""

    @click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
    @click.option(
        "--progress",
        type=click.Choice(["auto", "plain", "json", "none"]),
        default="auto",
        envvar="NTX_PROGRESS",
        show_envvar=True,
        help="Progress on stderr: bars on a terminal (auto), lines, JSON lines or nothing.",
    )
    @click.option("-v", "--verbose", is_flag=True, help="Say what is being done.")
    @click.option(
        "-q", "--quiet", is_flag=True, help="Nothing if all is well: only warnings, errors, and what was asked for."
    )
    @click.option(
        "--debug",
        is_flag=True,
        envvar="NTX_DEBUG",
        show_envvar=True,
        help="Everything, with the traceback of an error.",
    )
    @functools.wraps(function)
    def with_screen(
        *args: Any, as_json: bool, progress: str, verbose: bool, quiet: bool, debug: bool, **kwargs: Any
    ) -> Any:
        from ntxengine.cli.output import open_screen

        if quiet and (verbose or debug):
            raise click.UsageError("--quiet contradicts --verbose and --debug: give one of them")
        screen = open_screen(as_json=as_json, progress=progress, verbose=verbose, quiet=quiet, debug=debug)
        try:
            return function(*args, screen=screen, **kwargs)
        except (NtxError, click.UsageError) as exc:
            name_in(exc, click.get_current_context())
            raise

    return with_screen


def table_option(function: Function) -> Function:
    """Add -o; `screen`, which @common_options above passes, knows it."""

    @click.option(
        "-o",
        "--output",
        type=click.Choice(["table", "wide"]),
        default="table",
        help="wide: more columns, and nothing is shortened to fit the terminal.",
    )
    @functools.wraps(function)
    def with_output(*args: Any, output: str, screen: Screen, **kwargs: Any) -> Any:
        return function(*args, screen=dataclasses.replace(screen, is_wide=output == "wide"), **kwargs)

    return with_output


def dry_run_option(function: Function) -> Function:
    """Add -n."""
    return click.option("-n", "--dry-run", is_flag=True, help="Say what would be done, and touch nothing.")(function)


def parallel_option(function: Function) -> Function:
    """Add --disks; pass `parallel`."""
    at_least_one = click.IntRange(1)
    return click.option(
        "--disks", "parallel", type=at_least_one, metavar="N", default=4, show_default=True, help="Disks at a time."
    )(function)


# ---------------------------------------------------------------------------------------------------- transfer


@dataclass(frozen=True)
class TransferOptions:
    """What the person said about the transfer; None means: choose for me."""

    connections: int | None
    request_size: int | None
    in_flight: int | None
    bandwidth: Bandwidth | None
    timeout_s: float | None
    flush_timeout_s: float | None
    tier: Tier | None = None

    def over(self, options: CopyOptions) -> CopyOptions:
        """Return `options` with what was given; a tier gives how to begin, where that was not."""
        given = {name: value for name, value in vars(self).items() if value is not None and name != "tier"}
        return dataclasses.replace(options, **given).on(self.tier)


def _categories(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        if not all(value.partition("=")):
            raise click.BadParameter(f"{value!r} is not written KEY=VALUE", ctx, param)
    return values


category_option = click.option(
    "--category",
    "categories",
    multiple=True,
    metavar="KEY=VALUE",
    callback=_categories,
    help="Only VMs of this category; may be repeated: any of several values of a key, each of several keys.",
)
"""Adds --category; passes `categories`."""


cluster_option = click.option(
    "--cluster",
    type=Given(),
    metavar="NAME|UUID",
    shell_complete=complete.clusters,
    help="Only VMs on this cluster: behind one Prism Central there may be several.",
)
"""Adds --cluster; passes `cluster`, None without it."""


flush_timeout_option = click.option(
    "--flush-timeout",
    "flush_timeout_s",
    type=SECONDS,
    metavar="SECONDS",
    help="Longest wait for the target to make sure, at the end, of what it was sent; 1800.",
)
"""Adds --flush-timeout; passes `flush_timeout_s`."""


def limit_options(function: Function) -> Function:
    """Add --bandwidth, --cpu-limit and --memory-limit; pass `bandwidth`, None without any."""

    @click.option(
        "--bandwidth",
        "timetable",
        type=BANDWIDTH,
        envvar="NTX_BANDWIDTH",
        show_envvar=True,
        help='Limit on what is read in a second, of all disks: 500M, off, or by the hour: "08:00,50M 19:00,off".',
    )
    @click.option(
        "--cpu-limit",
        type=CPU_LIMIT,
        envvar="NTX_CPU_LIMIT",
        show_envvar=True,
        help="Limit on the processor time of this program and its servers, as a part of the whole machine: 5%.",
    )
    @click.option(
        "--memory-limit",
        type=MEMORY_LIMIT,
        envvar="NTX_MEMORY_LIMIT",
        show_envvar=True,
        help="Limit on what buffers and tables of all copies take of memory together: 512M.",
    )
    @functools.wraps(function)
    def with_limits(
        *args: Any, timetable: Timetable | None, cpu_limit: float | None, memory_limit: int | None, **kwargs: Any
    ) -> Any:
        from ntxengine.dataplane.bandwidth import Bandwidth

        bandwidth = None
        if any(each is not None for each in (timetable, cpu_limit, memory_limit)):
            bandwidth = Bandwidth(timetable or 0, cpu_limit=cpu_limit or 0.0, memory_limit=memory_limit or 0)
        return function(*args, bandwidth=bandwidth, **kwargs)

    return with_limits


retry_for_option = click.option(
    "--retry-for",
    "retry_for_s",
    type=SecondsUpTo(0, MAX_PATIENCE_S),
    metavar="SECONDS",
    default=Patience.seconds,
    show_default=True,
    help="How long to try again after a lost connection without getting any further; 0: not at all.",
)
"""Adds --retry-for; passes `retry_for_s`."""

volume_groups_option = click.option(
    "--no-volume-groups/--volume-groups", help="Leave out the volume groups that are attached to the VM (v4)."
)
"""Adds --no-volume-groups; passes `no_volume_groups`."""

lost_tracking_option = click.option(
    "--on-lost-tracking",
    type=click.Choice(["scan", "full", "fail"]),
    default="scan",
    show_default=True,
    help="When the cluster cannot say what changed: read all and send what differs, send all, or fail.",
)
"""Adds --on-lost-tracking; passes `on_lost_tracking`."""

expiry_option = click.option(
    "--keep-recovery-point",
    "expiry",
    type=EXPIRY,
    default="7d",
    show_default=True,
    metavar="TIME",
    help="How long the cluster keeps our recovery point, which the next run compares with, if we never come back.",
)
"""Adds --keep-recovery-point; passes `expiry`."""


def transfer_options(function: Function) -> Function:
    """Add --tier, --connections, --request-size, --in-flight, --bandwidth, --cpu-limit, --memory-limit,
    --timeout and --flush-timeout.

    Passes `transfer`.
    """

    @click.option(
        "--tier",
        type=TIER,
        envvar="NTX_TIER",
        show_envvar=True,
        help="Where the bytes lie: SSD, HYBRID, ARCHIVE or CLOUD; sets request size and requests at first.",
    )
    @click.option(
        "--connections",
        type=click.IntRange(1, MAX_CONNECTIONS),
        metavar="N",
        help="Threads, each with a connection of its own to either end; without it they follow what is seen.",
    )
    @click.option("--request-size", type=SIZE, help="Bytes per request: a multiple of 64KiB, at most 32MiB.")
    @click.option(
        "--in-flight",
        type=click.IntRange(1, MAX_IN_FLIGHT),
        metavar="N",
        help="Requests per connection; without it they follow what is seen.",
    )
    @limit_options
    @click.option(
        "--timeout",
        "timeout_s",
        type=SECONDS,
        metavar="SECONDS",
        help="Longest wait for one answer of the source or the target.",
    )
    @flush_timeout_option
    @functools.wraps(function)
    def with_transfer(
        *args: Any,
        connections: int | None,
        request_size: int | None,
        in_flight: int | None,
        bandwidth: Bandwidth | None,
        timeout_s: float | None,
        flush_timeout_s: float | None,
        tier: Tier | None,
        **kwargs: Any,
    ) -> Any:
        transfer = TransferOptions(connections, request_size, in_flight, bandwidth, timeout_s, flush_timeout_s, tier)
        return function(*args, transfer=transfer, **kwargs)

    return with_transfer


def image_options(function: Function) -> Function:
    """Add --writer and --compress; pass `image`."""

    @click.option(
        "--writer",
        type=click.Choice(["own", "qemu"]),
        default="own",
        show_default=True,
        help="What writes QCOW2 images: this program, or a qemu-nbd.",
    )
    @click.option(
        "--compress",
        "zstd_level",
        type=COMPRESSION,
        metavar="zstd[:LEVEL]",
        default=0,
        help="Store clusters of QCOW2 images compressed, where that makes them smaller; level 1 without another.",
    )
    @functools.wraps(function)
    def with_image(*args: Any, writer: Any, zstd_level: int, **kwargs: Any) -> Any:
        from ntxengine.images.choice import ImageOptions

        if zstd_level and writer != "own":
            raise click.UsageError(f"--compress and --writer {writer} contradict each other")
        return function(*args, image=ImageOptions(writer, zstd_level), **kwargs)

    return with_image


# -------------------------------------------------------------------------------------------------- repository


def repository_option(*aliases: str, required: bool = True) -> Callable[[Function], Function]:
    """Add --repository and its `aliases`; pass `repository`."""

    def decorate(function: Function) -> Function:
        return click.option(
            *aliases,
            "--repository",
            "repository",
            required=required,
            type=FOLDER,
            envvar="NTX_REPOSITORY",
            show_envvar=True,
            metavar="REPO",
            help="Directory that holds the points.",
        )(function)

    return decorate
