"""Disks by their names: copied and digested, in one call each."""

from __future__ import annotations

import dataclasses
import os
from contextlib import ExitStack
from pathlib import Path

from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.dataplane import copy as dataplane
from ntxengine.dataplane.copy import CopyOptions, CopyReport, OnProgress
from ntxengine.dataplane.location import parse
from ntxengine.dataplane.manifest import Manifest
from ntxengine.dataplane.mapping import map_device
from ntxengine.dataplane.security import PLAIN, ConnectionOptions
from ntxengine.errors import OptionsError
from ntxengine.images.endpoints import Format, SourceFormat, check_apart, open_named_source, open_named_target

Name = str | os.PathLike[str]
"""A disk: the path of a file or block device, or a URI: nbd://HOST[:PORT]/EXPORT, nbd+unix:///EXPORT?socket=PATH,
nbd+ssh://[USER@]HOST[:PORT]/EXPORT.  A `Path` is always one; text that looks like a URI is taken for that."""


async def copy(
    source: Name,
    target: Name,
    *,
    source_format: Format | None = None,
    target_format: Format | None = None,
    overwrite: bool = False,
    verify: bool = False,
    options: CopyOptions | None = None,
    connection: ConnectionOptions = PLAIN,
    on_progress: OnProgress | None = None,
) -> CopyReport:
    """Copy a disk to a file, a block device or an NBD server, and flush.  Zeros are neither read nor sent as bytes.

    A file that does not exist is made, and gets its name only when it is whole; one that exists must have the size of
    the source, and needs `overwrite`.  The formats say what a file is that looks like an image: its bytes (`raw`), or
    the disk inside, a new image as a target (`qcow2`).  `verify`: read the target back, and compare.
    Cancelling ends it within a second: no thread, connection or unfinished file is left.
    Units:  `on_progress` is told of bytes, a few times a second, in the event loop; of the read-back from 0 again.
    Errors: OptionsError (a name or a size is wrong), SourceError, TargetError, NbdError, TransferTimeout, ToolError (of
            qemu, for images), ChecksumMismatch (`verify`).
    """
    options = options or CopyOptions()
    from_, to, said = _text(source), _text(target), SourceFormat(source_format)
    if verify and parse(to).kind == "null":
        raise OptionsError("null: keeps nothing that could be read back to verify it")
    await to_thread_joined(check_apart, from_, said, to)
    timeout_s, connections = options.timeout_s, options.most_connections
    with ExitStack() as stack:
        source_opening = open_named_source(
            from_, said, timeout_s=timeout_s, connections=connections, connection=connection
        )
        async with source_opening as device:
            manifest = stack.enter_context(Manifest.temporary(size=device.size)) if verify else None
            extents = stack.enter_context(await map_device(device, timeout_s=timeout_s))
            opening = open_named_target(
                to,
                source=device,
                format=target_format,
                overwrite=overwrite,
                options=options,
                connection=connection,
            )
            async with opening as opened:
                report = await dataplane.copy(
                    device,
                    opened.device,
                    extents.windows(),
                    options=dataclasses.replace(options, target_is_zero=options.target_is_zero or opened.is_zero),
                    manifest=manifest,
                    bytes_expected=device.size,
                    on_progress=on_progress,
                )
                if manifest is not None:
                    await dataplane.verify(opened.device, manifest, options=options, on_progress=on_progress)
    return report


async def digest(
    source: Name,
    *,
    manifest: Path | str | None = None,
    source_format: Format | None = None,
    options: CopyOptions | None = None,
    connection: ConnectionOptions = PLAIN,
    on_progress: OnProgress | None = None,
) -> Manifest:
    """Read a disk and return the digests of its blocks of 64 KiB; what it says is zero is not read.

    Two disks hold the same bytes if `disk_digest` and `size` are the same; differing_extents says where they differ.
    The caller closes it (`with`).  It is kept in the new file `manifest`, or gone when closed.
    Units:  as `copy`.
    Errors: OptionsError (a name is wrong, `manifest` exists), SourceError, NbdError, TransferTimeout, ToolError,
            TargetError (no room for the digests).
    """
    options = options or CopyOptions()
    opening = open_named_source(
        _text(source),
        SourceFormat(source_format),
        timeout_s=options.timeout_s,
        connections=options.most_connections,
        connection=connection,
    )
    with ExitStack() as undo:
        async with opening as device:
            if manifest is None:
                found = Manifest.temporary(size=device.size)
            else:
                found = Manifest.create(manifest, size=device.size)
                undo.callback(os.unlink, manifest)
            undo.callback(found.close)
            with await map_device(device, timeout_s=options.timeout_s) as extents:
                await dataplane.digest(
                    device,
                    found,
                    options=options,
                    extents=extents.windows(),
                    bytes_expected=device.size,
                    on_progress=on_progress,
                )
            await to_thread_joined(found.seal)
        undo.pop_all()
    return found


def _text(name: Name) -> str:
    """Return what a name is as SOURCE or TARGET: of a path, one that cannot be taken for anything else."""
    return name if isinstance(name, str) else str(Path(name).absolute())
