"""What to measure, as data: a YAML file with contestants, disks and cases (docs/benchmarking.md describes it).

Whatever is wrong with a suite is one OptionsError that names the file, the case, the key and what would be right.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, NoReturn, TypeVar

import msgspec
from msgspec import Meta

from ntxengine.errors import OptionsError
from ntxengine.units import BLOCK_SIZE, GIB, MIB, format_size, parse_size

SUITES = Path(__file__).parent / "suites"
IN_FLIGHT = "bytes-in-flight"
"""Not a contestant: the throughput that the bytes in flight and the delay of the server permit."""

_MAX_FILE = MIB
_MAX_DISK = 1024 * GIB
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`")
_PATH = re.compile(r"(.*) - at `\$\.?(.*)`", re.DOTALL)


class Bytes(int):
    """A size: in YAML `2G`, `64KiB` or a number of bytes."""


Percent = Annotated[int, Meta(ge=0, le=100)]
Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]
Program = Literal["engine", "ntx", "nbdcopy", "qemu-img", "limit"]
Transport = Literal["unix", "tcp", "tls", "ssh"]
Quantity = Literal["throughput", "client_cpu", "server_cpu", "peak_memory"]
Mode = Literal["copy", "verify"]


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base: a key that nobody knows is an error, not a comment."""


class Contestant(_Strict, frozen=True, kw_only=True):
    """A program, and the options that it is given in every case.  `transport`: instead of that of the target."""

    program: Program
    transport: Transport | None = None
    title: str = ""
    options: tuple[str, ...] = ()


class Disk(_Strict, frozen=True, kw_only=True):
    """What a disk is made of, in percent; what is neither data nor zeros is a hole.  Kinds change every `run` bytes."""

    size: Bytes
    data: Percent = 100
    zeros: Percent = 0
    run: Bytes = Bytes(MIB)


class Source(_Strict, frozen=True, kw_only=True):
    """Where the bytes come from: a file, a loop device over it, or qemu-nbd serving it as qcow2, alone or as a chain.

    `changed`: percent of a chain's disk that its overlay holds.
    """

    disk: str
    via: Literal["file", "loop", "qcow2", "chain"] = "file"
    changed: Percent = 20


class Target(_Strict, frozen=True, kw_only=True):
    """The server that the bytes go to.  `delay_ms`: added by nbdkit to each request.  `cache`: of qemu-nbd.

    `transport`: a unix socket, TCP, TLS over TCP, or a unix socket behind an sshd.
    """

    server: Literal["nbdkit-null", "nbdkit-memory", "openssl-null", "qemu-nbd"]
    transport: Transport = "unix"
    delay_ms: Annotated[int, Meta(ge=0, le=10_000)] = 0
    cache: Literal["unsafe", "writeback"] = "unsafe"
    is_zero: bool = False

    @property
    def drops(self) -> bool:
        """Whether what is sent cannot be read back."""
        return self.server in ("nbdkit-null", "openssl-null")


class Ours(_Strict, frozen=True, kw_only=True):
    """Options of the engine and of ntx in one case; what is not given is chosen by the engine."""

    connections: Annotated[int, Meta(ge=1, le=64)] | None = None
    request_size: Bytes | None = None


class Bar(_Strict, frozen=True, kw_only=True):
    """What `of` should reach: a quantity of its own, or its ratio to the better one of `against`."""

    quantity: Quantity
    of: str = "engine"
    against: str | tuple[str, ...] = ()
    at_least: float | None = None
    at_most: float | None = None
    stretch: float | None = None

    @property
    def rivals(self) -> tuple[str, ...]:
        return (self.against,) if isinstance(self.against, str) else self.against


class Case(_Strict, frozen=True, kw_only=True):
    """One thing to do, and who does it.  `disks`: how many at once."""

    name: Name
    title: str
    source: Source
    who: Annotated[tuple[str, ...], Meta(min_length=1)]
    mode: Mode = "copy"
    disks: Annotated[int, Meta(ge=1, le=8)] = 1
    target: Target | None = None
    ours: Ours = Ours()
    bars: tuple[Bar, ...] = ()

    def transport_of(self, contestant: Contestant) -> Transport | None:
        """Return how `contestant` reaches the target, None if there is none."""
        return None if self.target is None else contestant.transport or self.target.transport


class Suite(_Strict, frozen=True, kw_only=True):
    """A whole file.  `bars` count in every case."""

    name: Name
    title: str
    rounds: Annotated[int, Meta(ge=1, le=1000)]
    contestants: dict[Name, Contestant]
    disks: dict[Name, Disk]
    cases: Annotated[tuple[Case, ...], Meta(min_length=1)]
    bars: tuple[Bar, ...] = ()


S = TypeVar("S", bound=_Strict)

_PARTS: dict[str, type[_Strict]] = {
    "bars": Bar, "source": Source, "target": Target, "ours": Ours, "contestants": Contestant, "disks": Disk,
}  # fmt: skip


def suite_names() -> list[str]:
    """Return the names of the suites that come with the package."""
    return sorted(path.stem for path in SUITES.glob("*.yaml"))


def load_suite(name: str) -> Suite:
    """Read a suite by its name or from a file.

    Errors: OptionsError in one line: file, case, key, remedy.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        if name not in suite_names():
            raise OptionsError(f"{name!r} is no suite: give one of {', '.join(suite_names())}, or a FILE.yaml")
        path = SUITES / f"{name}.yaml"
    document = _read_yaml(path)
    if not isinstance(document, dict):
        raise OptionsError(f"{path}: is no suite: it needs the keys {', '.join(Suite.__struct_fields__)}")
    cases = document.get("cases")
    for case in cases if isinstance(cases, list) else ():
        _convert(case, Case, f"{path}: case {_name_of(case)}")
    suite = _convert(document, Suite, str(path))
    check(suite, str(path))
    return suite


def narrowed(suite: Suite, *, cases: tuple[str, ...], rounds: int | None, size: int | None) -> Suite:
    """Return `suite` with only some cases, another number of rounds, or disks of another size.

    Errors: OptionsError if there is no such case, or the size does not fit.
    """
    known = [case.name for case in suite.cases]
    for name in cases:
        if name not in known:
            raise OptionsError(f"suite {suite.name} has no case {name!r}: give --case {', '.join(known)}")
    chosen = tuple(case for case in suite.cases if not cases or case.name in cases)
    disks = suite.disks
    if size is not None:
        disks = {name: msgspec.structs.replace(disk, size=Bytes(size)) for name, disk in disks.items()}
    smaller = msgspec.structs.replace(suite, cases=chosen, disks=disks, rounds=rounds or suite.rounds)
    check(smaller, f"suite {suite.name}")
    return smaller


# ------------------------------------------------------------------------------------------------------ decoding


def _read_yaml(path: Path) -> object:
    try:
        import yaml
    except ModuleNotFoundError as missing:
        raise OptionsError("reading a suite needs PyYAML: pip install 'ntxengine[bench]'") from missing
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_FILE + 1)
    except OSError as exc:
        raise OptionsError(f"{path}: cannot be read: {exc.strerror}") from exc
    if len(text) > _MAX_FILE:
        raise OptionsError(f"{path}: is no suite: it is larger than {format_size(_MAX_FILE)}")
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as exc:
        raise OptionsError(f"{path}: is no YAML: {' '.join(str(exc).split())}") from exc


def _name_of(case: object) -> str:
    return str(case.get("name", "without a name")) if isinstance(case, dict) else repr(case)


def _convert(value: object, kind: type[S], where: str) -> S:
    try:
        return msgspec.convert(value, kind, dec_hook=_decode_bytes)
    except msgspec.ValidationError as exc:
        match = _PATH.fullmatch(str(exc))
        problem, key = (match[1], match[2]) if match else (str(exc), "")
        raise OptionsError(_explain(where, problem, key, kind)) from exc


def _decode_bytes(_: type, value: object) -> Bytes:
    """Read a size: Bytes is the only type of a suite that msgspec does not know itself."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(f"{value!r} is not a size: write 64KiB, 2G or bytes")
    try:
        return Bytes(parse_size(value) if isinstance(value, str) else value)
    except OptionsError as exc:
        raise ValueError(str(exc)) from exc


def _explain(where: str, problem: str, key: str, kind: type[_Strict]) -> str:
    unknown = _UNKNOWN.fullmatch(problem)
    if unknown is None:
        return f"{where}: {key or 'suite'}: {problem}; docs/benchmarking.md describes the keys"
    part = next((_PARTS[name] for name in re.findall(r"[a-z_]+", key)[::-1] if name in _PARTS), kind)
    inside = f"{key}." if key else ""
    return f"{where}: {inside}{unknown[1]}: no such key: use {', '.join(part.__struct_fields__)}"


# ------------------------------------------------------------------------------------------------------ checking


def check(suite: Suite, where: str) -> None:
    """Refuse what every key alone permits and all together do not."""
    for name, disk in suite.disks.items():
        _check_disk(disk, f"{where}: disks.{name}")
    for contestant in suite.contestants:
        if contestant == IN_FLIGHT:
            raise OptionsError(f"{where}: contestants.{contestant}: has a meaning of its own: use another name")
    seen = set()
    for case in suite.cases:
        if case.name in seen:
            raise OptionsError(f"{where}: case {case.name}: name: is there twice: rename one of them")
        seen.add(case.name)
        _check_case(suite, case, f"{where}: case {case.name}")
    for number, bar in enumerate(suite.bars):
        _check_limits(bar, f"{where}: bars[{number}]")


def _check_disk(disk: Disk, where: str) -> None:
    if disk.run < BLOCK_SIZE or disk.run % BLOCK_SIZE:
        raise OptionsError(f"{where}.run: {disk.run} is no multiple of 64KiB: write 1M")
    if not disk.run <= disk.size <= _MAX_DISK or disk.size % disk.run:
        raise OptionsError(
            f"{where}.size: {disk.size} is no multiple of its run, {format_size(disk.run)}, up to "
            f"{format_size(_MAX_DISK)}: write 2G, or --size 2G"
        )
    if disk.data + disk.zeros > 100:
        raise OptionsError(f"{where}.zeros: {disk.data} % data and {disk.zeros} % zeros are more than 100 %")


def _check_case(suite: Suite, case: Case, where: str) -> None:
    def wrong(key: str, problem: str) -> NoReturn:
        raise OptionsError(f"{where}: {key}: {problem}")

    if case.source.disk not in suite.disks:
        wrong("source.disk", f"no disk {case.source.disk!r}: use {', '.join(suite.disks)}")
    for name in case.who:
        if name not in suite.contestants:
            wrong("who", f"no contestant {name!r}: use {', '.join(suite.contestants)}")
    if (case.target is None) != (case.mode == "verify"):
        wrong("target", "a copy needs one, such as {server: nbdkit-null}; mode verify has none")
    if case.mode == "verify" and case.source.via != "qcow2":
        wrong("source.via", "mode verify reads an image back: use qcow2")
    allowed: set[Program] = {"engine", "ntx", "qemu-img"}
    if case.mode == "copy":
        allowed.add("nbdcopy")
        if case.source.via == "file" and case.disks == 1:
            allowed.add("limit")
    for name in case.who:
        transport, able = case.transport_of(suite.contestants[name]), set(allowed)
        if transport in ("tls", "ssh"):
            able -= {"qemu-img", "limit"}
            if case.target is not None and not case.target.drops:
                wrong(
                    "target.transport",
                    f"{transport} is for server nbdkit-null: nobody who knows it compares afterwards",
                )
        program = suite.contestants[name].program
        if program not in able:
            wrong("who", f"{name} ({program}) cannot do this case: use contestants of {', '.join(sorted(able))}")
    if case.target is not None and case.target.delay_ms and not case.target.server.startswith("nbdkit-"):
        wrong("target.delay_ms", f"{case.target.server} cannot delay: use server nbdkit-null or nbdkit-memory")
    for number, bar in enumerate(case.bars):
        _check_limits(bar, f"{where}: bars[{number}]")
        for name in (bar.of, *bar.rivals):
            if name not in case.who and not (name == IN_FLIGHT and case.target is not None and case.target.delay_ms):
                wrong(f"bars[{number}]", f"{name!r} does not take part: use {', '.join(case.who)}")


def _check_limits(bar: Bar, where: str) -> None:
    if (bar.at_least is None) == (bar.at_most is None):
        raise OptionsError(f"{where}: needs either at_least or at_most")
    if IN_FLIGHT in bar.rivals and (bar.quantity != "throughput" or len(bar.rivals) > 1):
        raise OptionsError(f"{where}.against: {IN_FLIGHT} is for throughput, alone")
    if bar.stretch is None:
        return
    is_harder = bar.stretch >= bar.at_least if bar.at_least is not None else bar.stretch <= (bar.at_most or 0)
    if not is_harder:
        raise OptionsError(f"{where}.stretch: {bar.stretch:g} is easier than the bar itself: swap them")
