"""`ntx copy`: one device to another."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from ntxengine._core.engine import Device
from ntxengine.cli import complete
from ntxengine.cli.connection import connection_options
from ntxengine.cli.device import report_fields, source_format_options
from ntxengine.cli.figures import bottleneck_of, with_rate
from ntxengine.cli.mapping import map_shown
from ntxengine.cli.options import TransferOptions, common_options, dry_run_option, transfer_options
from ntxengine.cli.output import Screen
from ntxengine.cli.paths import FILE
from ntxengine.cli.progress import View
from ntxengine.cli.run import run
from ntxengine.dataplane import copy as dataplane
from ntxengine.dataplane.blocks import untouched
from ntxengine.dataplane.extents import ExtentFile, total
from ntxengine.dataplane.location import parse
from ntxengine.dataplane.manifest import Manifest
from ntxengine.dataplane.open import Target, check_new
from ntxengine.dataplane.security import ConnectionOptions
from ntxengine.errors import ChecksumMismatch, OptionsError
from ntxengine.files.identity import is_same
from ntxengine.images.endpoints import (
    FORMATS,
    Format,
    SourceFormat,
    check_apart,
    check_source,
    check_target,
    open_named_source,
    open_named_target,
    size_of_new,
)
from ntxengine.units import format_size


@dataclass(frozen=True)
class Request:
    """What to copy, and what else to do."""

    source: str
    target: str
    extents_file: Path | None
    manifest_file: Path | None
    verify: bool
    overwrite: bool
    said: SourceFormat
    target_format: Format | None
    options: dataplane.CopyOptions
    connection: ConnectionOptions


@dataclass(frozen=True)
class Result:
    """What became of it.  `digest` is None when extents leave out parts of the disk and no manifest was asked for.

    `size` is the source's, `target_size` the target's.
    """

    size: int
    target_size: int
    report: dataplane.CopyReport
    digest: str | None
    verified: dataplane.CopyReport | None


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
@click.option("--verify", is_flag=True, help="Read the target back and compare it with what was read.")
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
    verify: bool,
    overwrite: bool,
    target_is_zero: bool,
    transfer: TransferOptions,
    connection: ConnectionOptions,
    dry_run: bool,
    screen: Screen,
) -> None:
    """Copy the disk SOURCE to TARGET, byte for byte, and flush.

    SOURCE is a file, a block device, nbd://HOST[:PORT]/EXPORT, nbd+unix:///EXPORT?socket=PATH,
    nbd+ssh://[USER@]HOST[:PORT]/EXPORT or pattern:SIZE; TARGET is one of the first five, or null: to drop the bytes.  A
    file that does not exist is made, sparse, and gets its name only when it is whole; one that exists must have the
    size of SOURCE, and --overwrite.  A device or an export may be larger: the rest is left as it is.  What exists is
    written in place, zeros included unless --target-is-zero.  What looks like a disk image (QCOW2, VMDK, VHDX, VHD,
    VDI) is refused until --source-format or --target-format is given.

    \b
    Examples:
      ntx copy disk.raw nbd://server/disk0 --connections 8 --verify
      ntx copy nbd+unix:///?socket=/run/disk.sock disk.raw --bandwidth 200M
      ntx copy disk.raw nbd+ssh://backup@server:443/disk0 --ssh-key ~/.ssh/ntx
      ntx copy disk.raw /dev/sdb --extents changed.json --json
      ntx copy disk.qcow2 /dev/sdb --source-format qcow2
    """
    options = transfer.over(dataplane.CopyOptions(target_is_zero=target_is_zero))
    request = Request(
        source, target, extents_file, manifest_file, verify, overwrite, said, target_format, options, connection
    )
    _check(request)
    if dry_run:
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
                **report_fields(result.report),
            }
        )
    else:
        _show(result, screen)


def _check(request: Request) -> None:
    """Refuse what cannot work before anything is opened."""
    check_source(request.source, request.said.format)
    check_target(request.target, request.target_format)
    check_apart(request.source, request.said, request.target)
    if request.verify and parse(request.target).kind == "null":
        raise click.UsageError("--verify: null: keeps nothing that could be read back")
    _check_is_not_target("--manifest", request.manifest_file, request.target)
    _check_is_not_target("--extents", request.extents_file, request.target)
    if request.manifest_file is not None and request.manifest_file.exists():
        raise click.UsageError(f"--manifest: {request.manifest_file} exists: remove it, or name another")


def _check_is_not_target(option: str, file: Path | None, target: str) -> None:
    location = parse(target)
    if file is not None and location.kind == "file" and is_same(file, Path(location.path)):
        raise click.UsageError(f"{option}: {file} and TARGET are one file: name another")


async def _copy(request: Request, screen: Screen) -> Result:
    with ExitStack() as stack:
        view = stack.enter_context(screen.view())
        async with _open_source(request) as source:
            # Before the extents: what it has no room for is known before a map that takes long.
            manifest = stack.enter_context(_manifest(request, source.size))
            try:
                # Once more, now that it exists: a file system may take two spellings for one name.
                _check_is_not_target("--manifest", request.manifest_file, request.target)
                extents = stack.enter_context(await _extents(request, source, view))
                async with _open_target(request, source) as target:
                    return await _transfer(request, source, target, extents, manifest, view)
            except BaseException:
                if request.manifest_file is not None:
                    with suppress(FileNotFoundError):
                        request.manifest_file.unlink()
                raise


def _open_source(request: Request) -> AbstractAsyncContextManager[Device]:
    options = request.options
    return open_named_source(
        request.source,
        request.said,
        timeout_s=options.timeout_s,
        connections=options.most_connections,
        connection=request.connection,
    )


def _open_target(request: Request, source: Device) -> AbstractAsyncContextManager[Target]:
    return open_named_target(
        request.target,
        source=source,
        format=request.target_format,
        overwrite=request.overwrite,
        options=request.options,
        connection=request.connection,
    )


async def _transfer(
    request: Request, source: Device, target: Target, extents: ExtentFile, manifest: Manifest, view: View
) -> Result:
    options = request.options
    expected = extents.bytes_data + extents.bytes_zero
    report = await dataplane.copy(
        source,
        target.device,
        extents.windows(),
        options=dataclasses.replace(options, target_is_zero=options.target_is_zero or target.is_zero),
        manifest=manifest,
        bytes_expected=expected,
        on_progress=lambda progress: view.update("copy", progress),
    )
    is_whole = expected == source.size
    sizes = source.size, target.device.size
    verified = None
    if request.verify:
        with nullcontext() if is_whole else _naming_edges():
            verified = await dataplane.verify(
                target.device,
                manifest,
                options=options,
                extents=None if is_whole else extents.windows,
                on_progress=lambda progress: view.update("verify", progress),
            )
    if not is_whole:
        if request.manifest_file is None:
            return Result(*sizes, report, None, verified)
        await _digest_rest(source, manifest, extents, options, view)
    return Result(*sizes, report, manifest.seal(), verified)


@contextmanager
def _naming_edges() -> Iterator[None]:
    """Say of a mismatch that it may lie beside the extents: a digest is that of a whole block."""
    try:
        yield
    except ChecksumMismatch as error:
        raise ChecksumMismatch(
            f"{error}; whole blocks are compared: where an extent fills only a part of one, the rest has to be the "
            f"source's too; if the target has another there, give extents of whole blocks, or leave out --verify",
            offsets=error.offsets,
            blocks=error.blocks,
        ) from error


async def _digest_rest(
    source: Device, manifest: Manifest, extents: ExtentFile, options: dataplane.CopyOptions, view: View
) -> None:
    """Put the digests of all blocks that the extents left out into the manifest."""
    size = source.size
    expected = await asyncio.to_thread(lambda: sum(total(window) for window in untouched(extents.windows(), size=size)))
    await dataplane.digest(
        source,
        manifest,
        options=options,
        extents=untouched(extents.windows(), size=size),
        bytes_expected=expected,
        on_progress=lambda progress: view.update("manifest", progress),
    )


async def _extents(request: Request, source: Device, view: View) -> ExtentFile:
    if request.extents_file is not None:
        from ntxengine.dataplane.extents_json import read_json

        return read_json(request.extents_file, size=source.size)
    return await map_shown(source, view, timeout_s=request.options.timeout_s)


def _manifest(request: Request, size: int) -> Manifest:
    if request.manifest_file is None:
        return Manifest.temporary(size=size)
    return Manifest.create(request.manifest_file, size=size)


def _pace(report: dataplane.CopyReport) -> str:
    each = f"{report.in_flight} in flight, {format_size(report.request_size)} each"
    return f"{report.connections}, {each} ({report.pace.value})"


def _show(result: Result, screen: Screen) -> None:
    report = result.report
    rows = [
        ("copied", f"{format_size(report.bytes_done)} in {report.seconds:.1f} s"),
        ("read", with_rate(format_size(report.bytes_read), report.bytes_read, report.seconds)),
        ("sent", format_size(report.bytes_sent)),
        ("zeroed", format_size(report.bytes_zeroed)),
        ("skipped as zero", format_size(report.bytes_skipped)),
        ("connections", _pace(report)),
        ("bottleneck", bottleneck_of(report) or "none that stands out"),
        ("flushed", "yes" if report.is_flushed else "no: the target cannot"),
        ("verified", "yes" if result.verified is not None else "no"),
        ("digest", result.digest or "unknown: the extents leave out parts of the disk"),
    ]
    screen.pairs(rows + _rest_row(result.size, result.target_size))


def _rest_row(size: int, target_size: int) -> list[tuple[str, str]]:
    """Return what to say of a target that is larger than the source."""
    if target_size <= size:
        return []
    return [("larger target", f"{target_size} bytes, the source {size}: the rest is left as it is")]


# ----------------------------------------------------------------------------------------------------- dry run


async def _plan(request: Request, screen: Screen) -> dict[str, Any]:
    """Find out what would be copied; neither end is changed."""
    async with _open_source(request) as source:
        with screen.view() as view, await _extents(request, source, view) as extents:
            location = parse(request.target)
            if location.kind == "pattern":
                raise OptionsError(f"{request.target}: can only be a source; to drop the bytes use null:")
            is_new = location.kind == "file" and not await asyncio.to_thread(os.path.lexists, location.path)
            target_size = size_of_new(source.size, request.target_format)
            if is_new:
                await asyncio.to_thread(check_new, Path(location.path))
            else:
                async with _open_target(request, source) as target:
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


def _show_plan(plan: dict[str, Any], screen: Screen) -> None:
    if screen.as_json:
        screen.result(plan)
        return
    way = "a new file" if plan["target_is_new"] else "overwritten in place"
    screen.pairs(
        [
            ("would copy", f"{plan['source']} ({format_size(plan['size'])})"),
            ("to", f"{plan['target']} ({way})"),
            ("data", format_size(plan["bytes_data"])),
            ("zero", format_size(plan["bytes_zero"])),
            *_rest_row(plan["size"], plan["target_size"]),
        ]
    )
