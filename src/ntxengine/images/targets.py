"""TARGET as a person names it, opened as often as a copy needs until it is whole.

null:, a device, a server, a file that exists     opened in place
a new file, a new image                           made under another name, and gets its own when all is done
the same of a copy with a journal                 as before; the other name is one that stays
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ntxengine._core.device import Device
from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.dataplane.copy import CopyOptions
from ntxengine.dataplane.location import Location, parse
from ntxengine.dataplane.open import Target, kept_file, new_file, open_made, open_target, set_size
from ntxengine.dataplane.security import PLAIN, ConnectionOptions
from ntxengine.images.choice import OWN, ImageOptions
from ntxengine.images.endpoints import Format, check_target
from ntxengine.images.writer import map_of, remove

if TYPE_CHECKING:
    from ntxengine.images.named import MadeImage


@dataclass(frozen=True)
class TargetSpec:
    """What was said of a target.  `size` is the source's, `options` are those of the copy."""

    text: str
    size: int
    format: Format | None = None
    overwrite: bool = False
    options: CopyOptions = field(default_factory=CopyOptions)
    connection: ConnectionOptions = PLAIN
    image: ImageOptions = OWN


@dataclass(frozen=True)
class Unfinished:
    """A new target that outlives whoever makes it: its name until it is whole, and how far an earlier run stored it."""

    path: Path
    stored_to: int

    @property
    def is_there(self) -> bool:
        """Whether an earlier run made it."""
        return self.stored_to > 0

    @property
    def files(self) -> tuple[Path, ...]:
        """What there may be of it."""
        return self.path, map_of(self.path)


Opening = Callable[[Device], AbstractAsyncContextManager[Target]]
"""Opens a target for a copy of that source, one time after the other.  One that is an image is whole when the last one
ends without an error.  Errors: as open_target; ToolError."""


@asynccontextmanager
async def named_target(spec: TargetSpec, unfinished: Unfinished | None = None) -> AsyncIterator[Opening]:
    """Give what opens a target.  A new one gets its name if the block ends without an error.

    Without `unfinished` nothing is left of it otherwise.
    Errors: as open_target; OptionsError (it is named like an image, or looks like one), ToolError.
    """
    await to_thread_joined(check_target, spec.text, spec.format, spec.image)
    location = parse(spec.text)
    if unfinished is None and (location.kind != "file" or os.path.lexists(location.path)):
        yield _in_place(spec, location)
        return
    path = Path(location.path)
    made = _made(spec, path)
    with _named_when_whole(path, unfinished) as file:
        yield made.opening(file, stored_to=0 if unfinished is None else unfinished.stored_to)


@asynccontextmanager
async def open_named_target(spec: TargetSpec, source: Device) -> AsyncIterator[Target]:
    """Open a target once.  Errors: as named_target."""
    async with named_target(spec) as opening, opening(source) as target:
        yield target


def finished_target(spec: TargetSpec) -> Opening:
    """Return what opens a target that was new, and has its name already."""
    path = Path(parse(spec.text).path)
    return _made(spec, path).opening(path, stored_to=spec.size)


def _in_place(spec: TargetSpec, location: Location) -> Opening:
    return lambda source: open_target(
        location,
        source=source,
        overwrite=spec.overwrite,
        timeout_s=spec.options.timeout_s,
        connection=spec.connection,
    )


@contextmanager
def _named_when_whole(path: Path, unfinished: Unfinished | None) -> Iterator[Path]:
    if unfinished is None:
        with new_file(path) as file:
            try:
                yield file
            finally:
                remove(map_of(file))
        return
    with kept_file(path, unfinished.path, is_there=unfinished.is_there):
        yield unfinished.path


class _RawFile:
    """The bytes alone, and holes where there are none."""

    def __init__(self, spec: TargetSpec, path: Path) -> None:
        self._spec = spec
        self._path = path

    def opening(self, file: Path, *, stored_to: int) -> Opening:
        """Return what opens it, as often as wanted; an empty file gets its size first, of which nothing is stored."""
        has_size = stored_to > 0

        @asynccontextmanager
        async def opened(_source: Device) -> AsyncIterator[Target]:
            nonlocal has_size
            if not has_size:
                set_size(file, self._spec.size, of=str(self._path))
                has_size = True
            async with open_made(file, timeout_s=self._spec.options.timeout_s) as device:
                yield Target(device, is_zero=True)

        return opened


def _made(spec: TargetSpec, path: Path) -> _RawFile | MadeImage:
    if spec.format != "qcow2":
        return _RawFile(spec, path)
    from ntxengine.images.named import MadeImage  # qemu and all that: loaded by whom it is for

    return MadeImage(path, size=spec.size, options=spec.options, image=spec.image)
