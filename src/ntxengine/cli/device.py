"""`ntx map`, `ntx checksum`, `ntx info`: one device, looked at."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Any

import click

from ntxengine.cli import complete
from ntxengine.cli.connection import connection_options
from ntxengine.cli.figures import with_rate
from ntxengine.cli.mapping import map_shown
from ntxengine.cli.options import Function, TransferOptions, common_options, transfer_options
from ntxengine.cli.output import Screen
from ntxengine.cli.paths import FOLDER
from ntxengine.cli.run import run
from ntxengine.cli.values import SECONDS
from ntxengine.dataplane import copy as dataplane
from ntxengine.dataplane.about import EngineInfo, engine_info
from ntxengine.dataplane.extents import ZERO, ExtentFile
from ntxengine.dataplane.location import parse
from ntxengine.dataplane.manifest import Manifest
from ntxengine.dataplane.security import ConnectionOptions
from ntxengine.images.endpoints import FORMATS, Format, SourceFormat, open_named_source
from ntxengine.images.formats import looks_like
from ntxengine.units import format_size

TIMEOUT_OPTION = click.option(
    "--timeout",
    "timeout_s",
    type=SECONDS,
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="Longest wait for one answer.",
)


def source_format_options(function: Function) -> Function:
    """Add --source-format and --backing-dir; pass `said`."""

    @click.option(
        "--source-format",
        type=click.Choice(FORMATS),
        help="What of SOURCE is meant: the bytes of the file (raw), or the disk in that image (qcow2).",
    )
    @click.option(
        "--backing-dir",
        "backing_folders",
        type=FOLDER,
        multiple=True,
        metavar="DIR",
        help="Where images below SOURCE may lie, other than beside it; repeatable.",
    )
    @functools.wraps(function)
    def with_said(*args: Any, source_format: Format | None, backing_folders: tuple[Path, ...], **kwargs: Any) -> Any:
        return function(*args, said=SourceFormat(source_format, backing_folders), **kwargs)

    return with_said


@click.command("map")
@click.argument("source", shell_complete=complete.files)
@source_format_options
@TIMEOUT_OPTION
@connection_options
@common_options
def map_command(
    source: str, said: SourceFormat, timeout_s: float, connection: ConnectionOptions, screen: Screen
) -> None:
    """Show which extents of SOURCE hold data and which read as zero, without reading it.

    SOURCE is a file, a block device or an NBD server, as `ntx copy` takes them.  With --json the extents are an array
    as `ntx copy --extents` reads it.  A source that cannot tell is one data extent.

    \b
    Examples:
      ntx map disk.raw
      ntx map --json nbd://server/disk0 > extents.json
    """
    with run(_map(source, said, timeout_s, connection, screen)) as extents:
        if screen.as_json:
            from ntxengine.dataplane.extents_json import write_json

            write_json(extents.windows(), sys.stdout)
            return
        screen.line(f"{'OFFSET':>16} {'LENGTH':>16}  TYPE")
        for window in extents.windows():
            for offset, length, flags in window.tolist():
                screen.line(f"{offset:>16} {length:>16}  {'zero' if flags & ZERO else 'data'}")
        screen.note(f"data {format_size(extents.bytes_data)}, zero {format_size(extents.bytes_zero)}")


async def _map(
    source: str, said: SourceFormat, timeout_s: float, connection: ConnectionOptions, screen: Screen
) -> ExtentFile:
    async with open_named_source(source, said, timeout_s=timeout_s, connection=connection) as device:
        with screen.view() as view:
            return await map_shown(device, view, timeout_s=timeout_s)


@click.command("checksum")
@click.argument("source", shell_complete=complete.files)
@source_format_options
@transfer_options
@connection_options
@common_options
def checksum_command(
    source: str, said: SourceFormat, transfer: TransferOptions, connection: ConnectionOptions, screen: Screen
) -> None:
    """Read SOURCE and print its digest: the one that a manifest of the same bytes has.

    It is XXH3-128 over the digests of its 64 KiB blocks, so that it does not depend on connections or request size.  It
    finds corruption, not malice.  What the source says is zero is not read.

    \b
    Examples:
      ntx checksum disk.raw
      ntx checksum nbd+unix:///?socket=/run/disk.sock --connections 8 --json
    """
    options = transfer.over(dataplane.CopyOptions())
    digest, report = run(_checksum(source, said, options, connection, screen))
    if screen.as_json:
        screen.result({"source": source, "digest": digest, **report_fields(report)})
        return
    screen.line(f"{digest}  {source}")
    read = f"read {format_size(report.bytes_read)} of {format_size(report.bytes_total)}"
    screen.note(with_rate(read, report.bytes_read, report.seconds))


async def _checksum(
    source: str,
    said: SourceFormat,
    options: dataplane.CopyOptions,
    connection: ConnectionOptions,
    screen: Screen,
) -> tuple[str, dataplane.CopyReport]:
    async with open_named_source(
        source,
        said,
        timeout_s=options.timeout_s,
        connections=options.most_connections,
        connection=connection,
    ) as device:
        # The manifest first: what it has no room for is known before a map that takes long.
        with (
            Manifest.temporary(size=device.size) as manifest,
            screen.view() as view,
            await map_shown(device, view, timeout_s=options.timeout_s) as extents,
        ):
            report = await dataplane.digest(
                device,
                manifest,
                options=options,
                extents=extents.windows(),
                bytes_expected=device.size,
                on_progress=lambda progress: view.update("checksum", progress),
            )
            return manifest.seal(), report


@click.command("info")
@click.argument("uri", metavar="SOURCE", required=False, shell_complete=complete.files)
@click.option("--engine", is_flag=True, help="Show what the engine found on this machine and chose; no SOURCE then.")
@source_format_options
@TIMEOUT_OPTION
@connection_options
@common_options
def info_command(
    uri: str | None,
    engine: bool,
    said: SourceFormat,
    timeout_s: float,
    connection: ConnectionOptions,
    screen: Screen,
) -> None:
    """Show what SOURCE is and can: its size, its block sizes, what an NBD server offers, which image it looks like.

    \b
    Examples:
      ntx info nbd://server:10809/disk0
      ntx info --json /dev/sdb
      ntx info --engine
    """
    if (uri is None) is not engine:
        raise click.UsageError("name a SOURCE, or --engine" if uri is None else "--engine: is not about a SOURCE")
    if uri is None:
        _show_engine(engine_info(), screen)
        return
    fields = run(_info(uri, said, timeout_s, connection))
    if screen.as_json:
        screen.result(fields)
        return
    screen.pairs((name.replace("_", " "), _shown(name, value)) for name, value in fields.items())


def _show_engine(info: EngineInfo, screen: Screen) -> None:
    if screen.as_json:
        screen.result(info)
        return
    features = " ".join(info.cpu_features) or "nothing that a kernel asks for"
    send = "yes: a unix socket takes memory as it is" if info.send_by_reference else "no: refused here, so it is copied"
    read = (
        "yes: io_uring" if info.read_in_flight else "no: io_uring is refused here, so each thread reads one at a time"
    )
    screen.pairs(
        [
            ("zero kernel", f"{info.zero_kernel} ({info.zero_kernel_reason})"),
            ("digest kernel", f"{info.digest_kernel} ({info.digest_kernel_reason})"),
            ("libxxhash", info.xxhash),
            ("processor", f"{info.architecture}: {features}"),
            ("cores", str(info.cores)),
            ("send by reference", send),
            ("reads in flight", read),
            ("kernel", info.kernel),
            ("libc", info.libc),
            ("page size", _shown("page_size", info.page_size)),
        ]
    )


async def _info(uri: str, said: SourceFormat, timeout_s: float, connection: ConnectionOptions) -> dict[str, object]:
    # To look at a file is no harm: what it looks like is said instead of refused.
    said = said if said.format else SourceFormat("raw")
    async with open_named_source(uri, said, timeout_s=timeout_s, connection=connection) as device:
        location = parse(uri)
        found = looks_like(Path(location.path)) if location.kind == "file" else None
        return {
            "name": device.name,
            "kind": "block device" if device.is_block_device else device.kind,
            "looks_like": found.name if found else None,
            "size": device.size,
            "min_block": device.min_block,
            "preferred_block": device.preferred_block,
            "max_payload": device.max_payload,
            "read_only": device.is_read_only,
            "can_map": device.can_map,
            "can_zero": device.can_zero,
            "can_flush": device.can_flush,
            "multi_conn": device.can_multi_conn,
            "structured_replies": device.has_structured_replies,
            "direct": device.is_direct,
            "rotational": device.is_rotational,
        }


def report_fields(report: dataplane.CopyReport) -> dict[str, object]:
    """Return a report as `--json` has it: the counters, and where the time went."""
    return {
        **{name: value for name, value in vars(report).items() if name != "is_flushing"},  # it has ended
        "pace": report.pace.name.lower(),
        "bottleneck": report.bottleneck,
        "bottleneck_share": round(report.bottleneck_share, 3),
        "stage_seconds": {name: round(seconds, 6) for name, seconds in report.stage_seconds.items()},
    }


def _shown(name: str, value: object) -> str:
    if value is None:
        return "no image"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value} ({format_size(value)})" if value >= 1024 else f"{value} B"
    return str(value)
