"""What to copy, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ntxengine.dataplane.copy import CopyOptions, CopyReport
from ntxengine.dataplane.location import parse
from ntxengine.dataplane.retry import MAX_PATIENCE_S, Patience
from ntxengine.dataplane.security import PLAIN, ConnectionOptions
from ntxengine.dataplane.standard import check_stdin, check_stdout
from ntxengine.errors import OptionsError
from ntxengine.files.identity import is_same
from ntxengine.images.choice import OWN, ImageOptions
from ntxengine.images.endpoints import Format, SourceFormat, check_apart, check_source, check_target
from ntxengine.images.targets import TargetSpec


@dataclass(frozen=True)
class CopyRequest:
    """What to copy, and what else to do.

    `size`: the bytes that come from standard input.  `retry_for_s`: as Patience.  `wants_digest`: of the whole disk, if
    that is copied.
    """

    source: str
    target: str
    said: SourceFormat = field(default_factory=SourceFormat)
    target_format: Format | None = None
    image: ImageOptions = OWN
    extents_file: Path | None = None
    manifest_file: Path | None = None
    journal_file: Path | None = None
    size: int | None = None
    verify: bool = False
    overwrite: bool = False
    wants_digest: bool = True
    retry_for_s: float = Patience.seconds
    options: CopyOptions = field(default_factory=CopyOptions)
    connection: ConnectionOptions = PLAIN

    def __post_init__(self) -> None:
        """Errors: OptionsError."""
        if not 0 <= self.retry_for_s <= MAX_PATIENCE_S:
            raise OptionsError(f"retry for {self.retry_for_s} s: from 0 to {MAX_PATIENCE_S} s")

    @property
    def has_manifest(self) -> bool:
        """Whether digests are needed, for whatever."""
        return self.wants_digest or self.verify or self.manifest_file is not None or self.journal_file is not None

    @property
    def is_from_stream(self) -> bool:
        """Whether the source is standard input."""
        return parse(self.source).kind == "stream"

    @property
    def is_to_stream(self) -> bool:
        """Whether the target is standard output."""
        return parse(self.target).kind == "stream"

    @property
    def is_checkpointed(self) -> bool:
        """Whether it can be of use to know how far it got."""
        is_served = any(parse(text).kind.startswith("nbd") for text in (self.source, self.target))
        has_image = "qcow2" in (self.said.format, self.target_format)  # a qemu-nbd of ours may serve it
        return self.journal_file is not None or (self.retry_for_s > 0 and (is_served or has_image))

    def target_spec(self, size: int) -> TargetSpec:
        """Return what was said of the target, for a source of `size` bytes."""
        return TargetSpec(
            self.target, size, self.target_format, self.overwrite, self.options, self.connection, self.image
        )

    def check(self) -> None:
        """Refuse what cannot work before anything is opened.  Errors: OptionsError."""
        check_streams(self)
        check_source(self.source, self.said.format)
        if not (self.journal_file is not None and self.journal_file.exists()):
            check_target(self.target, self.target_format, self.image)  # of a copy that goes on it may be whole already
        check_apart(self.source, self.said, self.target)
        if self.verify and parse(self.target).kind == "null":
            raise OptionsError("--verify: null: keeps nothing that could be read back")
        self.check_files()
        if self.manifest_file is not None and self.journal_file is None and self.manifest_file.exists():
            raise OptionsError(f"--manifest: {self.manifest_file} exists: remove it, or name another")

    def check_files(self) -> None:
        """Refuse files of which one would be in the place of another.  Errors: OptionsError."""
        files = {"--manifest": self.manifest_file, "--extents": self.extents_file, "--journal": self.journal_file}
        given = [(option, file) for option, file in files.items() if file is not None]
        for at, (option, file) in enumerate(given):
            for name, text in (("TARGET", self.target), ("SOURCE", self.source)):
                location = parse(text)
                if location.kind == "file" and is_same(file, Path(location.path)):
                    raise OptionsError(f"{option}: {file} and {name} are one file: name another")
            for other, another in given[:at]:
                if is_same(file, another):
                    raise OptionsError(f"{option}: {file} and {other} are one file: name another")


def check_streams(request: CopyRequest) -> None:
    """Refuse what cannot be had of what has no places, only what comes next.  Errors: OptionsError."""
    if not request.is_from_stream and request.size is not None:
        raise OptionsError("--size: only of standard input: any other SOURCE has a size")
    if not request.is_from_stream and not request.is_to_stream:
        return
    if request.journal_file is not None:
        raise OptionsError("--journal: standard input and output cannot be gone on with: write a path")
    if request.extents_file is not None:
        raise OptionsError("--extents: of standard input and output all is copied, in order")
    if (request.options.connections or 1) > 1:
        raise OptionsError("--connections: standard input and output are one connection")
    if request.is_to_stream and request.verify:
        raise OptionsError("--verify: standard output cannot be read back")
    if request.is_to_stream and request.options.target_is_zero:
        raise OptionsError("--target-is-zero: to standard output zeros are written like all else")
    if request.size is not None and request.size < 1:
        raise OptionsError("--size: a disk has one byte at least")
    if request.is_from_stream:
        check_stdin()
    if request.is_to_stream:
        check_stdout()


@dataclass(frozen=True)
class DiskCopyReport(CopyReport):
    """What a copy did, all attempts of this run together; `bytes_done` counts each byte once.

    `reconnects` is how often one was, and the copy went on.  `bytes_repeated` were copied again; of what a killed
    run did, only data are known.  `resumed_from` are the bytes that earlier runs had stored.
    `checkpoint_seconds` is what making `checkpoints` took.
    """

    reconnects: int
    bytes_repeated: int
    resumed_from: int
    checkpoints: int
    checkpoint_seconds: float

    @property
    def checkpoint_share(self) -> float:
        """Of the time, 0..1."""
        return min(1.0, self.checkpoint_seconds / self.seconds) if self.seconds > 0 else 0.0


@dataclass(frozen=True)
class CopyResult:
    """What became of it.  `digest` is None when extents leave out parts of the disk and no manifest was asked for.

    `size` is the source's, `target_size` the target's.
    """

    size: int
    target_size: int
    report: DiskCopyReport
    digest: str | None
    verified: CopyReport | None
