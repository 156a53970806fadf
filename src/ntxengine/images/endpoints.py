"""SOURCE and TARGET as a person names them: the format of what is opened is said, never guessed.

    disk.raw                      its bytes
    disk.qcow2                    refused, until the person says which is meant:
      raw                         the bytes of that file
      qcow2                       the disk inside; a new image, as a target

What has its format from us (a disk that was attached, an image of a point) is opened by dataplane/open.py and open.py.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from ntxengine._core.device import Device
from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.dataplane.location import Location, parse
from ntxengine.dataplane.open import open_source
from ntxengine.dataplane.security import PLAIN, ConnectionOptions
from ntxengine.errors import OptionsError
from ntxengine.files.identity import is_same
from ntxengine.images.choice import OWN, ImageOptions
from ntxengine.images.formats import ImageFormat, looks_like, named_like

Format = Literal["raw", "qcow2"]
FORMATS: tuple[Format, ...] = get_args(Format)


@dataclass(frozen=True)
class SourceFormat:
    """What the person said of the source; an image may have those below it beside it and below `backing_folders`."""

    format: Format | None = None
    backing_folders: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        _check_known(self.format)
        if self.backing_folders and self.format != "qcow2":
            raise OptionsError("--backing-dir: only with --source-format qcow2 is there an image below another")


def check_source(source: str, format: Format | None) -> None:
    """Refuse a source that looks like an image while nobody has said what is meant, and a format that it cannot have.

    A server is not asked: an NBD export is the bytes of a disk.
    Errors: OptionsError.
    """
    location = parse(source)
    if format == "qcow2":
        _path_of(location, "--source-format")
    if format is not None or location.kind != "file":
        return
    if found := looks_like(Path(location.path)):
        way = "--source-format qcow2" if found.name == "qcow2" else _conversion(found, location.path)
        raise OptionsError(
            f"{source}: looks like an image in {found.name} format: say --source-format raw for the bytes of the file, "
            f"or, for the disk inside, {way}"
        )


def _conversion(found: ImageFormat, path: str) -> str:
    return f"convert it first: qemu-img convert -f {found.qemu_name} -O raw {path} NEW.raw"


@asynccontextmanager
async def open_named_source(
    source: str,
    said: SourceFormat,
    *,
    timeout_s: float = 60.0,
    connections: int = 1,
    connection: ConnectionOptions = PLAIN,
) -> AsyncIterator[Device]:
    """Open `source` for reading; `qcow2`: the disk in that image (named_image.py says which files are opened for it).

    Errors: OptionsError (it looks like an image, or its chain is refused), ToolError; else as open_source.
    """
    await to_thread_joined(check_source, source, said.format)
    location = parse(source)
    if said.format == "qcow2":
        from ntxengine.images.named import open_named_image  # qemu and all that: loaded by whom it is for

        opening = open_named_image(
            Path(location.path), said.backing_folders, timeout_s=timeout_s, connections=connections
        )
    else:
        opening = open_source(location, timeout_s=timeout_s, connection=connection)
    async with opening as device:
        yield device


def check_target(target: str, format: Format | None, image: ImageOptions = OWN) -> None:
    """Refuse a target that is named like an image or looks like one while nobody has said what is meant, and what was
    said of an image where none is made.

    Errors: OptionsError.
    """
    _check_known(format)
    if format != "qcow2" and image != OWN:
        raise OptionsError(f"{target}: --writer and --compress are of a new image: give --target-format qcow2")
    location = parse(target)
    if format == "qcow2":
        path = _path_of(location, "--target-format")
        if os.path.lexists(path):
            raise OptionsError(f"{target}: exists, and an image is only made new: remove it, or name another")
    if format is not None or location.kind != "file":
        return
    path = Path(location.path)
    if found := named_like(path) or looks_like(path):
        how = "is named like" if named_like(path) else "looks like"
        ways = "--target-format raw for the bytes alone, or --target-format qcow2 for a new QCOW2 image"
        raise OptionsError(f"{target}: {how} an image in {found.name} format: say {ways}")


def check_apart(source: str, said: SourceFormat, target: str) -> None:
    """Refuse to write into the image that is read, or into one below it.  Of other sources, opening a target sees it.

    Errors: OptionsError.
    """
    path = Path(parse(target).path)
    if said.format != "qcow2" or parse(target).kind != "file" or not path.exists():
        return
    for image in images_of(source, said):
        if is_same(image, path):
            raise OptionsError(f"{target}: is the source itself, or an image below it")


def images_of(source: str, said: SourceFormat) -> tuple[Path, ...]:
    """Return the files that hold a source on this machine.  Errors: OptionsError (the chain is refused)."""
    path = Path(parse(source).path)
    if said.format != "qcow2":
        return (path,)
    from ntxengine.images.named import chain_of

    return chain_of(path, said.backing_folders).images


def size_of_new(size: int, format: Format | None) -> int:
    """Return the size that a new target has, for a source of `size` bytes."""
    if format != "qcow2":
        return size
    from ntxengine.images.qemu_img import rounded_size

    return rounded_size(size)


def _check_known(format: Format | None) -> None:
    """Refuse what only a program without types can say: it would be taken for raw.  Errors: OptionsError."""
    if format is not None and format not in FORMATS:
        raise OptionsError(f"format {format!r}: must be one of {', '.join(FORMATS)}")


def _path_of(location: Location, option: str) -> Path:
    if location.kind != "file":
        raise OptionsError(f"{location.text}: {option} qcow2: only a file can be an image")
    return Path(location.path)
