"""Disks by their names: copied and digested, in one call each."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.copying import CopyRequest, DiskCopyReport, Telling, copy_disk
from ntxengine.dataplane import copy as dataplane
from ntxengine.dataplane.copy import CopyOptions, OnProgress
from ntxengine.dataplane.manifest import Manifest
from ntxengine.dataplane.mapping import map_device
from ntxengine.dataplane.retry import Patience
from ntxengine.dataplane.security import PLAIN, ConnectionOptions
from ntxengine.images.choice import OWN, ImageOptions
from ntxengine.images.endpoints import Format, SourceFormat, open_named_source

Name = str | os.PathLike[str]
"""A disk: the path of a file or block device, or a URI: nbd://HOST[:PORT]/EXPORT, nbd+unix:///EXPORT?socket=PATH,
nbd+ssh://[USER@]HOST[:PORT]/EXPORT, or "-" for standard input and output.  A `Path` is always a path; text that looks
like a URI is taken for that."""


async def copy(
    source: Name,
    target: Name,
    *,
    source_format: Format | None = None,
    target_format: Format | None = None,
    size: int | None = None,
    overwrite: bool = False,
    verify: bool = False,
    journal: Path | str | None = None,
    retry_for_s: float = Patience.seconds,
    image: ImageOptions = OWN,
    options: CopyOptions | None = None,
    connection: ConnectionOptions = PLAIN,
    on_progress: OnProgress | None = None,
) -> DiskCopyReport:
    """Copy a disk to a file, a block device or an NBD server, and flush.  Zeros are neither read nor sent as bytes.

    A file that does not exist is made, and gets its name only when it is whole; one that exists must have the size of
    the source, and needs `overwrite`.  The formats say what a file is that looks like an image: its bytes (`raw`), or
    the disk inside, a new image as a target (`qcow2`), written as `image` says.  `verify`: read the target back, and
    compare.  `size`: of what comes from standard input, where the target must know it.
    A lost connection to a server is tried again as long as that gets any further within `retry_for_s`; 0: not at all.
    With a `journal`, a file, the same call goes on where an earlier one was, however that ended.  Without one,
    cancelling ends it within a second: no thread, connection or unfinished file is left.
    Units:  `on_progress` is told of bytes, a few times a second, in the event loop; of the read-back from 0 again.
    Errors: OptionsError (a name or a size is wrong, the journal is of another copy), SourceError, TargetError,
            NbdError, TransferTimeout, ToolError (of qemu, for images), ChecksumMismatch (`verify`), LockedError
            (another process uses the journal), RepositoryError (it is damaged).
    """
    options = options or CopyOptions()
    request = CopyRequest(
        source=_text(source),
        target=_text(target),
        said=SourceFormat(source_format),
        target_format=target_format,
        image=image,
        size=size,
        journal_file=None if journal is None else Path(journal),
        retry_for_s=retry_for_s,
        verify=verify,
        overwrite=overwrite,
        wants_digest=False,
        options=options,
        connection=connection,
    )
    tell = on_progress or (lambda progress: None)
    telling = Telling(
        progress=lambda label, progress: tell(progress),
        map=lambda device: map_device(device, timeout_s=options.timeout_s),
    )
    return (await copy_disk(request, telling)).report


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
