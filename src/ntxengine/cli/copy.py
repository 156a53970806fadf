"""`ntx copy`: one device to another."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import click

from ntxengine._core.device import Device
from ntxengine.cli import complete
from ntxengine.cli.connection import connection_options
from ntxengine.cli.device import report_fields, source_format_options
from ntxengine.cli.figures import bottleneck_of, packed_text, with_rate
from ntxengine.cli.mapping import map_shown
from ntxengine.cli.options import (
    TransferOptions,
    common_options,
    dry_run_option,
    image_options,
    retry_for_option,
    transfer_options,
)
from ntxengine.cli.output import Screen
from ntxengine.cli.paths import FILE
from ntxengine.cli.progress import View
from ntxengine.cli.run import run
from ntxengine.cli.streamed import plan_streamed, screen_for_streams
from ntxengine.cli.text import plural
from ntxengine.cli.values import SIZE
from ntxengine.copying import CopyRequest, CopyResult, DiskCopyReport, Telling, copy_disk, open_source_of
from ntxengine.dataplane.copy import CopyOptions, CopyReport
from ntxengine.dataplane.extents import ExtentFile
from ntxengine.dataplane.location import STREAM, parse
from ntxengine.dataplane.open import check_new
from ntxengine.dataplane.security import ConnectionOptions
from ntxengine.errors import OptionsError
from ntxengine.images.choice import ImageOptions
from ntxengine.images.endpoints import FORMATS, Format, SourceFormat, size_of_new
from ntxengine.images.targets import open_named_target
from ntxengine.units import format_size


@click.command("copy")
@click.argument("source", shell_complete=complete.files)
@click.argument("target", shell_complete=complete.files)
@source_format_options
@click.option(
    "--target-format",
    type=click.Choice(FORMATS),
    help="What TARGET is to hold: the bytes alone (raw), or a new image with the disk in it (qcow2).",
)
@click.option(
    "--extents",
    "extents_file",
    type=FILE,
    metavar="FILE",
    help='Copy only these: a JSON array of {"offset", "length", "type": "data" or "zero"}, ascending.',
)
@click.option(
    "--manifest",
    "manifest_file",
    type=FILE,
    metavar="FILE",
    help="Write the digests of all blocks of the source to this new file.",
)
@click.option(
    "--journal",
    "journal_file",
    type=FILE,
    metavar="FILE",
    help="Keep in this file how far it got: the same command goes on there after a failure, a kill or a power cut.",
)
@image_options
@retry_for_option
@click.option("--verify", is_flag=True, help="Read the target back and compare it with what was read.")
@click.option("--size", type=SIZE, help="How many bytes come from standard input, where SOURCE is -.")
@click.option("--overwrite", is_flag=True, help="Write into a file that exists and has the size of the source.")
@click.option("--target-is-zero", is_flag=True, help="The target reads as zero: zeros need not be written.")
@transfer_options
@connection_options
@dry_run_option
@common_options
def copy_command(
    source: str,
    target: str,
    said: SourceFormat,
    target_format: Format | None,
    extents_file: Path | None,
    manifest_file: Path | None,
    journal_file: Path | None,
    image: ImageOptions,
    retry_for_s: float,
    verify: bool,
    size: int | None,
    overwrite: bool,
    target_is_zero: bool,
    transfer: TransferOptions,
    connection: ConnectionOptions,
    dry_run: bool,
    screen: Screen,
) -> None:
    """Copy the disk SOURCE to TARGET, byte for byte, and flush.

    SOURCE is a file, a block device, nbd://HOST[:PORT]/EXPORT, nbd+unix:///EXPORT?socket=PATH,
    nbd+ssh://[USER@]HOST[:PORT]/EXPORT or pattern:SIZE; TARGET is one of the first five, or null: to drop the bytes.
    With nbds:// and nbds+unix:// it goes through TLS.  A file that does not exist is made, sparse, and gets its name
    only when it is whole; one that exists must have the size of SOURCE, and --overwrite.  A device or an export may be
    larger: the rest is left as it is.  What exists is written in place, zeros included unless --target-is-zero.  What
    looks like a disk image (QCOW2, VMDK, VHDX, VHD, VDI) is refused until --source-format or --target-format is given.

    A lost connection to a server is tried again, and the copy goes on where it was.

    - is standard input or standard output: a pipe is copied to its end, in order, once.

    \b
    Examples:
      ntx copy disk.raw nbd://server/disk0 --connections 8 --verify
      ntx copy nbd+unix:///?socket=/run/disk.sock disk.raw --bandwidth 200M
      ntx copy disk.raw nbd+ssh://backup@server:443/disk0 --ssh-key ~/.ssh/ntx
      ntx copy disk.raw nbds://server/disk0 --tls-ca ca.pem --tls-cert cert.pem --tls-key key.pem
      ntx copy disk.raw /dev/sdb --extents changed.json --json
      ntx copy disk.qcow2 /dev/sdb --source-format qcow2
      ntx copy nbd://server/disk0 disk.raw --journal disk.journal
      zcat disk.raw.gz | ntx copy - nbd://server/disk0
      ntx copy nbd://server/disk0 - | zstd > disk.raw.zst
    """
    screen = screen_for_streams(source, target, screen)
    request = CopyRequest(
        source=source,
        target=target,
        said=said,
        target_format=target_format,
        image=image,
        extents_file=extents_file,
        manifest_file=manifest_file,
        journal_file=journal_file,
        retry_for_s=retry_for_s,
        size=size,
        verify=verify,
        overwrite=overwrite,
        options=transfer.over(CopyOptions(target_is_zero=target_is_zero)),
        connection=connection,
    )
    if dry_run:
        request.check()
        _show_plan(run(_plan(request, screen)), screen)
        return
    result = run(_copy(request, screen))
    screen = screen.after_work()
    if screen.as_json:
        screen.result(
            {
                "source": source,
                "target": target,
                "target_size": result.target_size,
                "digest": result.digest,
                "verified": result.verified is not None,
                "checkpoint_share": round(result.report.checkpoint_share, 4),
                **report_fields(result.report),
            }
        )
    else:
        _show(result, screen)


async def _copy(request: CopyRequest, screen: Screen) -> CopyResult:
    with screen.view() as view:

        async def map_source(source: Device) -> ExtentFile:
            return await map_shown(source, view, timeout_s=request.options.timeout_s)

        telling = Telling(
            progress=view.update,
            map=map_source,
            resumed=lambda text: view.stage("going on", text),
            lost=view.warning,
        )
        return await copy_disk(request, telling)


def _pace(report: CopyReport) -> str:
    each = f"{report.in_flight} in flight, {format_size(report.request_size)} each"
    return f"{report.connections}, {each} ({report.pace.value})"


def _show(result: CopyResult, screen: Screen) -> None:
    report = result.report
    packed = packed_text(report.bytes_sent, report.bytes_stored, report.stage_seconds["packing"])
    rows = [
        ("copied", f"{format_size(report.bytes_done)} in {report.seconds:.1f} s"),
        ("read", with_rate(format_size(report.bytes_read), report.bytes_read, report.seconds)),
        ("sent", format_size(report.bytes_sent)),
        *([("stored", packed)] if packed else []),
        ("zeroed", format_size(report.bytes_zeroed)),
        ("skipped as zero", format_size(report.bytes_skipped)),
        ("connections", _pace(report)),
        ("bottleneck", bottleneck_of(report) or "none that stands out"),
        ("flushed", "yes" if report.is_flushed else "no: the target cannot"),
        ("verified", "yes" if result.verified is not None else "no"),
        ("digest", result.digest or "unknown: the extents leave out parts of the disk"),
    ]
    screen.pairs(rows + _rows_of_interruptions(report) + _rest_row(result.size, result.target_size))


def _rows_of_interruptions(report: DiskCopyReport) -> list[tuple[str, str]]:
    """Return what to say of a copy that did not run from its beginning to its end."""
    rows = []
    if report.resumed_from:
        rows.append(("gone on with", f"{format_size(report.resumed_from)} were stored before"))
    if report.reconnects:
        rows.append(("went on after", plural(report.reconnects, "lost connection")))
    if rows:
        rows.append(("copied once more", format_size(report.bytes_repeated)))
    if report.checkpoints:
        share = f"{report.checkpoint_share * 100:.1f} % of the time"
        rows.append(("checkpoints", f"{report.checkpoints}, {share}"))
    return rows


def _rest_row(size: int, target_size: int) -> list[tuple[str, str]]:
    """Return what to say of a target that is larger than the source."""
    if target_size <= size:
        return []
    return [("larger target", f"{target_size} bytes, the source {size}: the rest is left as it is")]


# ----------------------------------------------------------------------------------------------------- dry run


async def _plan(request: CopyRequest, screen: Screen) -> dict[str, Any]:
    """Find out what would be copied; neither end is changed."""
    if request.is_from_stream or request.is_to_stream:
        return await plan_streamed(request, screen)
    async with open_source_of(request) as source:
        with screen.view() as view, await _extents(request, source, view) as extents:
            location = parse(request.target)
            if location.kind == "pattern":
                raise OptionsError(f"{request.target}: can only be a source; to drop the bytes use null:")
            is_new = location.kind == "file" and not await asyncio.to_thread(os.path.lexists, location.path)
            target_size = size_of_new(source.size, request.target_format)
            if is_new:
                await asyncio.to_thread(check_new, Path(location.path))
            else:
                async with open_named_target(request.target_spec(source.size), source) as target:
                    target_size = target.device.size
            return {
                "source": request.source,
                "target": request.target,
                "dry_run": True,
                "size": source.size,
                "bytes_data": extents.bytes_data,
                "bytes_zero": extents.bytes_zero,
                "target_is_new": is_new,
                "target_size": target_size,
            }


async def _extents(request: CopyRequest, source: Device, view: View) -> ExtentFile:
    if request.extents_file is not None:
        from ntxengine.dataplane.extents_json import read_json

        return read_json(request.extents_file, size=source.size)
    return await map_shown(source, view, timeout_s=request.options.timeout_s)


def _show_plan(plan: dict[str, Any], screen: Screen) -> None:
    if screen.as_json:
        screen.result(plan)
        return
    way = "a new file" if plan["target_is_new"] else "overwritten in place"
    if plan["target"] == STREAM:
        way = "standard output"
    size = plan["size"]
    rows = [
        ("would copy", f"{plan['source']} ({'all that comes' if size is None else format_size(size)})"),
        ("to", f"{plan['target']} ({way})"),
    ]
    if plan["bytes_data"] is not None:
        rows += [("data", format_size(plan["bytes_data"])), ("zero", format_size(plan["bytes_zero"]))]
    if size is not None:
        rows += _rest_row(size, plan["target_size"])
    screen.pairs(rows)
