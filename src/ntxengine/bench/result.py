"""The record of a benchmark: everything that is needed to judge it, every single sample included."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Literal

import msgspec

from ntxengine.bench.stats import Spread
from ntxengine.bench.suite import Quantity
from ntxengine.bench.wire import Report
from ntxengine.errors import OptionsError, TargetError

SCHEMA_VERSION = 1

Outcome = Literal["stretch", "reached", "missed", "unknown"]


class _Record(msgspec.Struct, frozen=True, kw_only=True):
    """Base: fields that a newer ntx wrote are ignored."""


class Sample(_Record, frozen=True, kw_only=True):
    """One counted run.  `bytes` is the size of the disks, holes included; seconds are of wall and of CPU."""

    round: int
    bytes: int
    seconds: float
    client_cpu_seconds: float
    server_cpu_seconds: float | None
    peak_memory: int
    reports: tuple[Report, ...] = ()


class ContestantResult(_Record, frozen=True, kw_only=True):
    """What one contestant did in one case, or why it did not."""

    name: str
    program: str
    title: str
    command: tuple[str, ...]
    absent: str | None = None
    failed: str | None = None
    checked: tuple[str, ...] = ()
    samples: tuple[Sample, ...] = ()
    summary: dict[Quantity, Spread] = {}


class BarResult(_Record, frozen=True, kw_only=True):
    """What should be reached, and what was.  `value` is a ratio where there is a rival."""

    text: str
    quantity: Quantity
    of: str
    against: tuple[str, ...]
    at_least: float | None
    at_most: float | None
    stretch: float | None
    outcome: Outcome
    value: Spread | None = None


class CaseResult(_Record, frozen=True, kw_only=True):
    """One case."""

    name: str
    title: str
    bytes: int
    absent: str | None = None
    contestants: tuple[ContestantResult, ...] = ()
    bars: tuple[BarResult, ...] = ()


class Machine(_Record, frozen=True, kw_only=True):
    """What it ran on."""

    cpu: str
    cores: int
    memory: int
    kernel: str
    system: str
    is_virtual: bool
    load_average: float
    work_file_system: str


class Result(_Record, frozen=True, kw_only=True):
    """A whole run."""

    schema_version: int
    suite: str
    title: str
    began: datetime
    ended: datetime
    command: tuple[str, ...]
    rounds: int
    machine: Machine
    versions: dict[str, str | None]
    commit: str | None
    dirty: bool | None
    cases: tuple[CaseResult, ...]
    memory_floor: int
    """Bytes.  Peak memory of a command is not known below it: Linux hands a part of the parent's count to a child."""

    @property
    def failed(self) -> list[str]:
        """`case: contestant` of everyone who began and did not end."""
        return [f"{case.name}: {each.name}" for case in self.cases for each in case.contestants if each.failed]


def write_result(result: Result, path: Path) -> None:
    """Write the record, readable, and whole or not at all.

    Errors: TargetError.
    """
    unfinished = path.with_suffix(".unfinished")
    try:
        unfinished.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")
        unfinished.replace(path)
    except OSError as exc:
        unfinished.unlink(missing_ok=True)
        raise TargetError(f"{path}: the result cannot be written: {exc.strerror}", errno=exc.errno or 0) from exc


def read_result(path: Path) -> Result:
    """Read a record.

    Errors: OptionsError if it is none, or of another schema.
    """
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise OptionsError(f"{path}: cannot be read: {exc.strerror}") from exc
    try:
        version = msgspec.json.decode(data, type=_Version).schema_version
        if version != SCHEMA_VERSION:
            raise OptionsError(f"{path}: schema version {version}: this ntx reads {SCHEMA_VERSION}")
        return msgspec.json.decode(data, type=Result)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise OptionsError(f"{path}: is no result of ntx bench: {exc}") from exc


class _Version(msgspec.Struct):
    schema_version: int
