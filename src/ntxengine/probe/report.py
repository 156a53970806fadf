"""A probe as a file that may be attached to a bug, and that says what a real cluster showed.

No secret can be in it: of a request only the call is kept, of an answer its status, and what a server said went through
the redaction of the session.  `hidden` takes out what tells whose cluster it is: each name, address and id becomes
`name-1`, `address-1`, `id-1`, the same everywhere in the report.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ntxengine import __version__
from ntxengine.attach import DEVICE_DIR
from ntxengine.ids import UUID_PATTERN
from ntxengine.prism.http.endpoint import authority
from ntxengine.probe.check import Probed
from ntxengine.probe.model import Fact, Line, Status
from ntxengine.probe.questions import OpenAnswer, open_questions
from ntxengine.probe.workflow import Probe
from ntxengine.units import format_time

FORMAT = 1
"""Raised when a reader of the former would misread it."""

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]

_SHORTEST_NAME = 3
_NOT_NAMES = frozenset({"default", "admin", "scsi", "ok", "unknown"})
_OURS = frozenset({"subject", "check", "status", "because"})
"""What we call checks and what came of them: a VM may have such a name, too."""
_V4 = r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w]|\.\d)"
_V6 = r"(?<![\w:])(?=[0-9a-fA-F:]*::|(?:[0-9a-fA-F]{1,4}:){7})[0-9a-fA-F:]{2,39}(?![\w:])"
_FINGERPRINT = r"\b(?:[0-9A-Fa-f]{2}:){7,31}[0-9A-Fa-f]{2}\b"
_KINDS = (("fingerprint", _FINGERPRINT), ("id", UUID_PATTERN), ("address", _V4), ("address", _V6))


@dataclass(frozen=True)
class Found:
    """What one check found."""

    subject: str
    check: str
    status: Status
    text: str
    remedy: str
    because: str
    seconds: float
    facts: Mapping[str, Fact]


@dataclass(frozen=True)
class Call:
    """How often a call was answered with a status, and the longest that it took."""

    call: str
    status: int
    count: int
    longest_s: float


@dataclass(frozen=True)
class Rate:
    """A rate limit, in the words of the headers."""

    call: str
    limit: str
    period_s: str
    all_calls: str


@dataclass(frozen=True)
class Asked:
    """One Prism, and what its answers told beside their bodies."""

    subject: str
    address: str
    auth: str
    product: str
    environment: str
    ahead_s: float | None
    calls: tuple[Call, ...]
    rates: tuple[Rate, ...]


@dataclass(frozen=True)
class Report:
    """All of a probe."""

    format: int
    ntx_version: str
    began: str
    has_names: bool
    checks: tuple[Found, ...]
    prisms: tuple[Asked, ...]
    open_questions: tuple[OpenAnswer, ...]


def found_of(line: Line) -> Found:
    """Return a line as a program reads it."""
    result = line.result
    return Found(
        line.subject, line.name, result.status, result.text, result.remedy, line.because, line.seconds, result.facts
    )


def report_of(probe: Probe, *, has_names: bool) -> Report:
    """Return the report of a probe; `hidden` is still to be asked for where it shall have no names."""
    return Report(
        format=FORMAT,
        ntx_version=__version__,
        began=format_time(probe.began),
        has_names=has_names,
        checks=tuple(map(found_of, probe.lines)),
        prisms=tuple(map(_asked, probe.context.places)),
        open_questions=open_questions(probe),
    )


def hidden(value: Json, probe: Probe) -> Json:
    """Return a report, as JSON has it, without names, addresses and ids."""
    # A version of four numbers looks like an address.
    kept = {str(cluster.version) for cluster in probe.context.clusters}
    names = {way for name in _names(probe) for way in _as_written(name)}
    return _Hider(sorted(names, key=len, reverse=True), kept).hidden(value)


def _asked(place: Probed) -> Asked:
    watch, endpoint = place.inquiry.watch, place.inquiry.endpoint
    return Asked(
        subject=place.subject,
        address=authority(endpoint.host, endpoint.port),
        auth=endpoint.auth,
        product=watch.product,
        environment=watch.environment,
        ahead_s=None if watch.skew_s is None else round(watch.skew_s, 1),
        calls=tuple(
            Call(call, status, answered.count, round(answered.longest_s, 3))
            for (call, status), answered in sorted(watch.calls.items())
        ),
        rates=tuple(Rate(call, rate.limit, rate.period_s, rate.of_all) for call, rate in sorted(watch.rates.items())),
    )


def _names(probe: Probe) -> Iterator[str]:
    """Yield what is called by a name that somebody gave."""
    context, options = probe.context, probe.options
    yield from context.names
    for place in context.places:
        endpoint = place.inquiry.endpoint
        yield from (endpoint.host, endpoint.username)
        if place.certificate is not None:
            yield from place.certificate.all_names
        for trust in (endpoint.trust, endpoint.element_trust):
            yield trust.name or ""
            yield from (each for path in (trust.ca_file, trust.trust_file) if path for each in _path(Path(path)))
    yield from (cluster.name for cluster in context.clusters)
    for line in probe.lines:
        yield from _names_in(line.result.facts)
    yield from (options.vm, options.worker, options.attach.nfs_server, options.attach.data_services)
    device_dir = options.attach.device_dir
    paths = (options.repository, options.attach.containers, None if device_dir == DEVICE_DIR else device_dir)
    yield from (each for path in paths if path is not None for each in _path(path))


def _path(path: Path) -> Iterator[str]:
    """Yield a path as it was given, and it and all folders above it from the root on."""
    yield str(path)
    whole = path.absolute()
    yield from (str(each) for each in (whole, *whole.parents))


def _as_written(name: str) -> set[str]:
    """Return the ways in which texts have a name: as it is, as `repr` writes it, on one line."""
    return {way for each in (name, repr(name)[1:-1]) for way in (each, " ".join(each.split()))}


def _names_in(facts: Mapping[str, Fact]) -> Iterator[str]:
    for value in facts.values():
        if isinstance(value, str | int | float) or value is None:
            continue
        yield from (str(each["name"]) for each in value if isinstance(each, Mapping) and "name" in each)


class _Hider:
    """Gives everything that shall not be seen another name, the same one each time."""

    def __init__(self, names: list[str], kept: set[str]) -> None:
        self._kept = kept
        self._known: dict[tuple[str, str], str] = {}
        self._counts: dict[str, int] = {}
        long = [name for name in names if len(name) >= _SHORTEST_NAME and name.lower() not in _NOT_NAMES]
        patterns = [("name", rf"(?<!\w){re.escape(name)}(?!\w)") for name in long]
        self._patterns = [(kind, re.compile(pattern, re.IGNORECASE)) for kind, pattern in (*patterns, *_KINDS)]

    def hidden(self, value: Json) -> Json:
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, list):
            return [self.hidden(each) for each in value]
        if isinstance(value, dict):
            ours = _OURS if value.keys() & {"check", "calls"} else frozenset[str]()
            return {name: each if name in ours else self.hidden(each) for name, each in value.items()}
        return value

    def _text(self, text: str) -> str:
        for kind, pattern in self._patterns:
            text = pattern.sub(self._replacement(kind), text)
        return text

    def _replacement(self, kind: str) -> Callable[[re.Match[str]], str]:
        def replace(match: re.Match[str]) -> str:
            if match[0] in self._kept:
                return match[0]
            key = kind, match[0].lower()
            if key not in self._known:
                self._counts[kind] = self._counts.get(kind, 0) + 1
                self._known[key] = f"{kind}-{self._counts[kind]}"
            return self._known[key]

        return replace
