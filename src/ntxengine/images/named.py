"""QCOW2 images that a person names: the disk in one, and a new one.

An image records the name of the one below it, and whoever made the image chose that name: it may be any file of this
machine, or a server.  So a name is followed only to a regular file that lies beside the image or in a folder that the
person named, and each file is opened in the format that the one above records.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from ntxengine._core.device import Device
from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.dataplane.copy import CopyOptions
from ntxengine.dataplane.open import Target, naming
from ntxengine.errors import OptionsError
from ntxengine.files import durable
from ntxengine.images.choice import ImageOptions
from ntxengine.images.create import create_image, reopen_image
from ntxengine.images.header import BadHeader, Header, read_header
from ntxengine.images.open import open_image
from ntxengine.images.writer import NewImage

MAX_IMAGES = 200
"""Of a chain; qemu takes ever longer to open more."""

_PROTOCOL = re.compile(r"[^/]*:")  # as qemu sees it: json:, nbd:, http:


@asynccontextmanager
async def open_named_image(
    path: Path, folders: Sequence[Path], *, timeout_s: float, connections: int
) -> AsyncIterator[Device]:
    """Open the disk in an image.  Errors: as chain_of and open_image."""
    chain = await to_thread_joined(chain_of, path, folders)
    async with open_image(
        chain.images, root_format=chain.root_format, timeout_s=timeout_s, connections=connections
    ) as device:
        yield device


class MadeImage:
    """A new image at `path` for a copy of `size` bytes, under another name until it is whole."""

    def __init__(self, path: Path, *, size: int, options: CopyOptions, image: ImageOptions) -> None:
        """Errors: OptionsError (qemu cannot be told its name)."""
        _check_name(path)
        self._path = path
        self._size = size
        self._options = options
        self._image = image

    def opening(self, file: Path, *, stored_to: int) -> Callable[[Device], AbstractAsyncContextManager[Target]]:
        """Return what opens it, as often as wanted; when that ends without an error, it is whole and synced.

        It is made of an empty file when it is opened first, unless an earlier run stored something: up to `stored_to`.
        Errors: TargetError, ToolError, NbdError; RepositoryError (it is not that image).
        """
        new = NewImage(file, self._size, options=self._image)
        is_there = stored_to > 0

        @asynccontextmanager
        async def opened(_source: Device) -> AsyncIterator[Target]:
            nonlocal is_there, stored_to
            if is_there:
                opening = reopen_image(new, new.options.format, self._options, stored_to=stored_to)
            else:
                opening = create_image(new, new.options.format, self._options)
            async with opening as image:
                image.keep()  # whether it is of any use is for who gave the file
                is_there, stored_to = True, new.size  # as long as we live all is there that was written
                with naming(image.device.name, str(self._path)):
                    yield Target(image.device, is_zero=True)
                await image.finish()
            await to_thread_joined(durable.sync, file)

        return opened


@dataclass(frozen=True)
class ImageChain:
    """An image and those below it, nearest first.  `root_format` is that of the last: qcow2, or raw below another."""

    images: tuple[Path, ...]
    root_format: str


def chain_of(path: Path, folders: Sequence[Path] = ()) -> ImageChain:
    """Return which files an image is made of: those below it lie in its folder, or anywhere below one of `folders`.

    Errors: OptionsError: no QCOW2 image, or one that has more to it than files in these folders.
    """
    chain = [_regular(path, f"{path}")]
    beside = chain[0].parent
    allowed = [_resolved(folder, f"--backing-dir {folder}") for folder in folders]
    format = "qcow2"
    while format == "qcow2":
        image = chain[-1]
        name, format = _backing_of(image)
        if not name:
            return ImageChain(tuple(chain), "qcow2")
        below = _regular(image.parent / name, f"{image}: the image below it, {name[:200]}")
        if below.parent != beside and not any(below.is_relative_to(folder) for folder in allowed):
            raise OptionsError(
                f"{image}: the image below it, {below}, does not lie beside {path}: "
                f"if it may be read, give --backing-dir {below.parent}"
            )
        if len(chain) >= MAX_IMAGES or below in chain:
            raise OptionsError(f"{path}: has more than {MAX_IMAGES} images below it, or one that is below itself")
        chain.append(below)
    return ImageChain(tuple(chain), format)


def _resolved(path: Path, subject: str) -> Path:
    try:
        return path.resolve(strict=True)
    except (OSError, RuntimeError, ValueError) as exc:
        raise OptionsError(f"{subject}: {getattr(exc, 'strerror', None) or exc}") from exc


def _regular(path: Path, subject: str) -> Path:
    found = _resolved(path, subject)
    if not found.is_file():
        raise OptionsError(f"{subject}: is not a regular file: only files are opened as images")
    _check_name(found)
    return found


def _check_name(path: Path) -> None:
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError as exc:
        raise OptionsError(f"{str(path)!r}: qemu opens only paths in UTF-8: give it another name") from exc


def _backing_of(path: Path) -> tuple[str, str]:
    """Return the name and the format of what is below, "" and qcow2 for nothing.

    All else that `path` may refer to is looked at as well.
    """
    try:
        header = read_header(path)
    except BadHeader as exc:
        raise OptionsError(f"{path}: cannot be read as qcow2: it {exc}") from exc
    if problem := _problem(header):
        raise OptionsError(f"{path}: cannot be read as qcow2: {problem}")
    name, format = header.backing, header.backing_format
    if not name:
        return "", "qcow2"
    if _PROTOCOL.match(name):
        raise OptionsError(f"{path}: names {name[:200]!r} below it, which is no file: only files are opened")
    if not format:
        raise OptionsError(
            f"{path}: names {name[:200]!r} below it without its format, which is not guessed: "
            f"say it with qemu-img rebase -u -b {name[:200]} -F FORMAT {path}"
        )
    if format not in ("qcow2", "raw"):
        raise OptionsError(
            f"{path}: names {name[:200]!r} below it in {format[:40]!r} format, which is not read: "
            f"make one image of both first: qemu-img convert -f qcow2 -O qcow2 {path} NEW.qcow2"
        )
    return name, format


def _problem(header: Header) -> str:
    if header.has_external_data:
        return "its data are in another file"
    if header.crypt_method:
        return "it is encrypted"
    if header.is_corrupt:
        return "qemu has marked it corrupt: qemu-img check -r all"
    if header.unknown_features:
        return f"it has features that are not known: {header.unknown_features:#x}"
    return ""
