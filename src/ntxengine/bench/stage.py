"""The two ends of one case: sources that stay, targets that stay or are new for every run.

file    disk.raw
loop    disk.raw <- /dev/loopN, past the page cache
qcow2   disk.raw -> disk.qcow2 <- qemu-nbd
chain   disk.raw -> base.qcow2 <- overlay.qcow2 <- qemu-nbd
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ntxengine.bench import tools
from ntxengine.bench.disks import DiskFile, make_disk, make_layer, warm
from ntxengine.bench.memory import touch_free
from ntxengine.bench.servers import (
    Server,
    Sockets,
    forget_device,
    image_server,
    loop_device,
    target_server,
)
from ntxengine.bench.suite import Case, Disk, Transport
from ntxengine.units import MIB

# More than the programs and the servers of one run take for what is under way.
_BUFFERS = 256 * MIB


@dataclass(frozen=True)
class SourceEnd:
    """One disk to read: at `uri`, and for checks as an image in the file system.  `disk.path` is only its raw file."""

    uri: str
    disk: DiskFile
    image: Path
    format: str
    server: Server | None = None
    device: str | None = None


class DiskCache:
    """Raw disks, made when they are first wanted and kept until another case wants others."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: dict[str, DiskFile] = {}

    def take(self, name: str, disk: Disk, count: int) -> list[DiskFile]:
        """Return `count` disks of one description and different content, warm."""
        wanted = [f"{name}-{number}" for number in range(count)]
        for other in self._made.keys() - set(wanted):
            self._made.pop(other).path.unlink()
        for seed in wanted:
            if seed not in self._made:
                self._made[seed] = make_disk(self._folder / f"{seed}.raw", disk, seed=seed)
            warm(self._made[seed].path)
        return [self._made[seed] for seed in wanted]


class Stage:
    """The ends of a case between `__enter__` and `__exit__`."""

    def __init__(
        self, case: Case, disk: Disk, disk_cache: DiskCache, folder: Path, sockets: Sockets, drop: Path | None
    ) -> None:
        self.sources: tuple[SourceEnd, ...] = ()
        self._case = case
        self._disk = disk
        self._disk_cache = disk_cache
        self._folder = folder
        self._sockets = sockets
        self._drop = drop
        self._stack = ExitStack()
        self._kept: dict[Transport, tuple[Server, ...]] = {}

    def __enter__(self) -> Stage:
        with ExitStack() as stack:
            raws = self._disk_cache.take(self._case.source.disk, self._disk, self._case.disks)
            self.sources = tuple(self._source(stack, raw, number) for number, raw in enumerate(raws))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def size(self) -> int:
        """Bytes of all disks together."""
        return sum(source.disk.size for source in self.sources)

    @property
    def keeps_bytes(self) -> bool:
        """Whether what was sent can be read back from the target."""
        target = self._case.target
        return target is not None and not target.drops

    def make_ready(self) -> None:
        """Before each run: make the sources what they were before any run, and see to the memory that will be taken."""
        for source in self.sources:
            if source.device is not None:
                forget_device(source.device)
        touch_free(min(self.size, _BUFFERS) + (self.size if _writes_images(self._case) else 0))

    @contextmanager
    def targets(self, transport: Transport | None, *, fresh: bool) -> Iterator[tuple[Server, ...]]:
        """Give the servers of the targets for one run: new ones if `fresh`, or if they write an image."""
        if transport is None:
            yield ()
        elif fresh or _writes_images(self._case):
            with ExitStack() as stack:
                yield self._new_targets(stack, transport)
        else:
            if transport not in self._kept:
                self._kept[transport] = self._new_targets(self._stack, transport)
            yield self._kept[transport]

    def _new_targets(self, stack: ExitStack, transport: Transport) -> tuple[Server, ...]:
        assert self._case.target is not None
        target = msgspec.structs.replace(self._case.target, transport=transport)
        servers = []
        for number, source in enumerate(self.sources):
            image = None
            if target.server == "qemu-nbd":
                image = self._folder / f"target-{number}.qcow2"
                stack.callback(image.unlink, missing_ok=True)
                tools.run_tool("qemu-img", "create", "-q", "-f", "qcow2", str(image), str(source.disk.size))
            server = target_server(target, source.disk.size, image, self._sockets, drop=self._drop)
            servers.append(stack.enter_context(server))
        return tuple(servers)

    def _source(self, stack: ExitStack, raw: DiskFile, number: int) -> SourceEnd:
        via = self._case.source.via
        if via == "file":
            return SourceEnd(str(raw.path), raw, raw.path, "raw")
        if via == "loop":
            device = stack.enter_context(loop_device(raw.path))
            return SourceEnd(device, raw, raw.path, "raw", device=device)
        image = self._image(stack, raw.path, f"base-{number}.qcow2")
        if via == "chain":
            layer = make_layer(
                self._folder / f"layer-{number}.raw",
                self._disk,
                raw,
                changed=self._case.source.changed,
                seed=f"layer-{number}",
            )
            stack.callback(layer.path.unlink)
            raw, base, image = layer, image, self._image(stack, layer.path, f"overlay-{number}.qcow2")
            # The holes of the layer's file are not in its image: there the base shows.
            tools.run_tool("qemu-img", "rebase", "-u", "-F", "qcow2", "-b", str(base), str(image))
            warm(base)
        warm(image)
        server = stack.enter_context(image_server(image, self._sockets))
        return SourceEnd(server.uri, raw, image, "qcow2", server=server)

    def _image(self, stack: ExitStack, raw: Path, name: str) -> Path:
        image = self._folder / name
        stack.callback(image.unlink, missing_ok=True)
        tools.run_tool("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-t", "writeback", str(raw), str(image))
        return image


def bytes_needed(case: Case, disk: Disk) -> int:
    """Return the room that a case takes in the work directory, at most."""
    copies = 1 + {"file": 0, "loop": 0, "qcow2": 1, "chain": 3}[case.source.via]
    return case.disks * disk.size * (copies + int(_writes_images(case)))


def _writes_images(case: Case) -> bool:
    return case.target is not None and case.target.server == "qemu-nbd"
