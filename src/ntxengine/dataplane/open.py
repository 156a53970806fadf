"""Opening what a SOURCE or TARGET names.

Opening may block (a server that does not answer, a sleeping disk), so it happens in a thread.  A target file that does
not exist is made under another name and gets its own only when everything in it is right.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ntxengine import files
from ntxengine._core.device import Device
from ntxengine.concurrency.completion import acquire_in_daemon_thread, to_thread_joined
from ntxengine.dataplane.connect import connect
from ntxengine.dataplane.location import Location, parse, socket_uri
from ntxengine.dataplane.security import PLAIN, ConnectionOptions, SshOptions
from ntxengine.dataplane.through_ssh import open_through_ssh
from ntxengine.errors import OptionsError, PlaceError, SourceError, TargetError, machine_error
from ntxengine.files import free_space
from ntxengine.files import unfinished as unfinished_file
from ntxengine.files.identity import is_same


@dataclass(frozen=True)
class Target:
    """An open target.  `is_zero`: every byte of it reads as zero now."""

    device: Device
    is_zero: bool


@asynccontextmanager
async def _opened(
    location: Location,
    *,
    write: bool,
    timeout_s: float,
    connection: ConnectionOptions = PLAIN,
    direct: bool = False,
) -> AsyncIterator[Device]:
    """Open, for no longer than we are wanted: a server may accept us and say nothing, a disk may sleep.

    A failure that the core could not give a side gets it here.
    """
    if "\0" in location.path + location.host + location.export + location.user:
        raise OptionsError(f"{location.text}: %00 cannot be part of a name")  # it would end the name there
    async with AsyncExitStack() as stack:
        try:
            device = await stack.enter_async_context(_opening(location, write, timeout_s, connection, direct))
        except PlaceError as exc:
            if type(exc) is not PlaceError:
                raise
            side = TargetError if write else SourceError
            raise side(str(exc), offset=exc.offset, length=exc.length, errno=exc.errno) from exc
        yield device


@asynccontextmanager
async def _opening(
    location: Location, write: bool, timeout_s: float, connection: ConnectionOptions, direct: bool
) -> AsyncIterator[Device]:
    if location.kind == "nbd_ssh":
        options = connection.ssh or SshOptions()
        async with open_through_ssh(location, options, write=write, timeout_s=timeout_s) as device:
            yield device
        return
    if location.kind in ("nbd_unix", "nbd_tcp"):
        device = await connect(location, write=write, timeout_s=timeout_s, connection=connection)
    else:
        opening = partial(_open_here, location, write=write, direct=direct)
        device = await acquire_in_daemon_thread(opening, give_back=Device.close)
    async with closing(device):
        yield device


def _open_here(location: Location, *, write: bool, direct: bool) -> Device:
    """Open what is on this machine.  A thread that waits for a dead file system is left behind."""
    if location.kind == "pattern":
        return Device.open_pattern(location.size)
    if Path(location.path).is_socket():
        raise OptionsError(f"{location.text}: is a socket: write {socket_uri(location.path)}")
    # The page cache is of use for files, which others read too; a block device is read once and by us alone.
    direct = direct or Path(location.path).is_block_device()
    return Device.open_file(os.fsencode(location.path), write=write, direct=direct)


@asynccontextmanager
async def closing(device: Device) -> AsyncIterator[Device]:
    """Close a device in a thread, for that may block."""
    try:
        yield device
    finally:
        await to_thread_joined(device.close)


@asynccontextmanager
async def open_source(
    source: str | Location, *, timeout_s: float = 60.0, connection: ConnectionOptions = PLAIN
) -> AsyncIterator[Device]:
    """Open `source` for reading.

    Errors: OptionsError (no such kind), PlaceError (file), NbdError, TransferTimeout.
    """
    location = parse(source) if isinstance(source, str) else source
    _check_no_stream(location)
    if location.kind == "null":
        raise OptionsError(f"{location.text}: can only be a target; as a source of nothing use pattern:SIZE")
    async with _opened(location, write=False, timeout_s=timeout_s, connection=connection) as device:
        yield device


@asynccontextmanager
async def open_target(
    target: str | Location,
    *,
    source: Device,
    size: int | None = None,
    overwrite: bool = False,
    timeout_s: float = 60.0,
    connection: ConnectionOptions = PLAIN,
) -> AsyncIterator[Target]:
    """Open `target` for a copy of `source`; a file that does not exist is made, sparse, and kept only on success.

    `size` is what it must have room for: the source's, if nothing else is said.  Of a file that exists it must be the
    size, and `overwrite` allows to write into it; a device or an export is there to be written, and may be larger.
    Errors: as open_source; OptionsError if the target is the source, or not of such a size.
    """
    location = parse(target) if isinstance(target, str) else target
    size = source.size if size is None else size
    _check_no_stream(location)
    if location.kind == "pattern":
        raise OptionsError(f"{location.text}: can only be a source; to drop the bytes use null:")
    if location.kind == "file" and os.path.isdir(location.path):
        raise OptionsError(f"{location.text}: is a folder: name the file in it")
    if location.kind == "null":
        async with closing(Device.open_null(size)) as device:
            yield Target(device, is_zero=True)
    elif location.kind == "file" and not os.path.lexists(location.path):
        with new_file(Path(location.path)) as unfinished:
            set_size(unfinished, size, of=location.path)
            async with open_made(unfinished, timeout_s=timeout_s) as device:
                yield Target(device, is_zero=True)
    else:
        async with open_existing(
            location, size=size, overwrite=overwrite, timeout_s=timeout_s, source=source, connection=connection
        ) as device:
            yield Target(device, is_zero=False)


@asynccontextmanager
async def open_existing(
    target: str | Location,
    *,
    size: int,
    source: Device | None = None,
    overwrite: bool = False,
    timeout_s: float = 60.0,
    connection: ConnectionOptions = PLAIN,
    direct: bool = False,
) -> AsyncIterator[Device]:
    """Open what exists for writing: as open_target.  `source` is what it must not be.

    `direct`: past the page cache, where the file system can.
    """
    location = parse(target) if isinstance(target, str) else target
    async with _opened(location, write=True, timeout_s=timeout_s, connection=connection, direct=direct) as device:
        if location.kind == "file" and source is not None and source.path is not None:
            _check_not_source(Path(location.path), Path(os.fsdecode(source.path)))
        _check_existing(location.text, device, size, overwrite=overwrite)
        with naming(location.path, location.path) if location.kind == "file" else nullcontext():
            yield device


@asynccontextmanager
async def open_made(path: Path, *, timeout_s: float = 60.0) -> AsyncIterator[Device]:
    """Open a file for writing that was made by us, whatever it is called until it is whole.  Errors: as open_target."""
    made = Location("file", str(path), path=str(path))
    async with _opened(made, write=True, timeout_s=timeout_s) as device:
        yield device


def _check_no_stream(location: Location) -> None:
    if location.kind == "stream":
        raise OptionsError(f"{location.text}: only `ntx copy` reads standard input and writes standard output")


def _check_not_source(target: Path, source: Path) -> None:
    """Refuse a target that is the source, under whatever name.  Errors: OptionsError."""
    if is_same(target, source):
        raise OptionsError(f"{target}: is the source itself (one file, or one lies on the other): name another")


def _check_existing(name: str, device: Device, size: int, *, overwrite: bool) -> None:
    """Refuse a target without room, and a file that would keep bytes behind the copy or that nobody gave away."""
    is_file = device.kind == "file" and not device.is_block_device
    sizes = f"{name}: has {device.size} bytes, the source {size}"
    if device.size < size:
        raise OptionsError(f"{sizes}: it is too small: {'remove it, or name' if is_file else 'name'} another")
    if is_file and device.size > size:
        raise OptionsError(f"{sizes}: what is behind would stay: remove it, cut it to size, or name another")
    if is_file and not overwrite:
        raise OptionsError(f"{name}: exists already: allow it to be overwritten (--overwrite), or name another")


@contextmanager
def naming(device: str, name: str) -> Iterator[None]:
    """Let an error at a place of `device`, a file or a socket of ours, say the name that the person knows."""
    try:
        yield
    except PlaceError as exc:
        if device not in str(exc):
            raise
        text = free_space.remedied(str(exc).replace(device, name), exc.errno, name)
        raise type(exc)(text, offset=exc.offset, length=exc.length, errno=exc.errno) from exc


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Yield an empty file that becomes `path` if the block ends without an error, and is removed if not.

    Errors: TargetError (it cannot be made, or somebody else has made `path` meanwhile).
    """
    with ExitStack() as stack:
        try:
            unfinished = stack.enter_context(unfinished_file.begun(path))
        except OSError as exc:
            error = machine_error(f"{path}: cannot be made", exc)
            raise error or TargetError(f"{path}: cannot be made: {exc.strerror}", errno=exc.errno or 0) from exc
        try:
            with naming(str(unfinished), str(path)):
                yield unfinished
            _publish(unfinished, path)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(unfinished)
            raise


@contextmanager
def kept_file(path: Path, unfinished: Path, *, is_there: bool) -> Iterator[None]:
    """Let `unfinished`, a new and empty file unless it `is_there`, become `path` if the block ends without an error.

    If not it stays.
    Errors: TargetError, as new_file.
    """
    if not is_there:
        try:
            os.close(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
        except OSError as exc:
            error = machine_error(f"{unfinished}: cannot be made", exc)
            raise error or TargetError(f"{unfinished}: cannot be made: {exc.strerror}", errno=exc.errno or 0) from exc
    with naming(str(unfinished), str(path)):
        yield
    _publish(unfinished, path)


def check_new(path: Path) -> None:
    """Find out what can be found out of making a file without making it.  Errors: TargetError, as new_file."""
    try:
        is_folder = stat.S_ISDIR(os.stat(path.parent).st_mode)
        code = 0 if is_folder else errno.ENOTDIR
        if is_folder and not os.access(path.parent, os.W_OK | os.X_OK):
            code = errno.EACCES
    except OSError as exc:
        code = exc.errno or errno.EIO
    if code:
        raise TargetError(f"{path}: cannot be made: {os.strerror(code)}", errno=code)


def set_size(path: Path, size: int, *, of: str) -> None:
    """Give a file a size, sparse.  Errors: TargetError, which names it as the file that it will be."""
    try:
        os.truncate(path, size)
    except OSError as exc:
        raise TargetError(f"{of}: cannot have {size} bytes: {exc.strerror}", errno=exc.errno or 0) from exc


def _publish(unfinished: Path, path: Path) -> None:
    try:
        files.publish(unfinished, path)
    except FileExistsError as exc:
        raise TargetError(f"{path}: was made by somebody else meanwhile: the copy was not kept") from exc
    except OSError as exc:
        raise TargetError(f"{path}: cannot be given its name: {exc.strerror}", errno=exc.errno or 0) from exc
