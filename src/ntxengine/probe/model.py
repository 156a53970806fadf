"""What a check finds, and what a person may say of a probe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ntxengine.attach import AttachOptions
from ntxengine.prism import Endpoint

Status = Literal["ok", "warning", "failed", "skipped"]
STATUSES: tuple[Status, ...] = ("ok", "warning", "failed", "skipped")

Fact = str | int | float | bool | None | Sequence[str] | Sequence[Mapping[str, str | int | float | bool | None]]
Facts = dict[str, Fact]

MAX_TEXT = 600
"""Characters of a text or a remedy: much of it may be what a server said."""


@dataclass(frozen=True)
class Result:
    """What one check found: `text` says what is so, `remedy` the command or the click that mends it.

    `because` is the check that failed, for which this one was skipped, "" if it was for another reason.
    """

    status: Status
    text: str
    remedy: str = ""
    facts: Mapping[str, Fact] = field(default_factory=dict)
    because: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", bounded(self.text))
        object.__setattr__(self, "remedy", bounded(self.remedy))


@dataclass(frozen=True)
class Line:
    """A result with the check that it is of."""

    subject: str
    name: str
    result: Result
    seconds: float = 0.0

    @property
    def key(self) -> str:
        """How checks name each other: `prism.certificate`."""
        return f"{self.subject}.{self.name}"

    @property
    def because(self) -> str:
        """The check that failed, for which this one was skipped."""
        return self.result.because


@dataclass(frozen=True)
class ProbeOptions:
    """What is probed.

    `central` and `element` are as for `prism.connect`: one endpoint for both is an address of which nobody knows what
    it is.  `vm` is a name or a UUID, "" for none; `live` makes a recovery point of it.  `attach` says where the bytes
    may be read; `worker` is the name or UUID of the worker VM.  `repository` is where a capture would go.
    """

    central: Endpoint | None
    element: Endpoint | None
    vm: str = ""
    live: bool = False
    worker: str = ""
    attach: AttachOptions = field(default_factory=AttachOptions)
    repository: Path | None = None


def ok(text: str, **facts: Fact) -> Result:
    """It is as it should be."""
    return Result("ok", text, "", facts)


def warning(text: str, remedy: str, **facts: Fact) -> Result:
    """A capture works, and not as well as it could, or not for long."""
    return Result("warning", text, remedy, facts)


def failed(text: str, remedy: str, **facts: Fact) -> Result:
    """A capture would fail by this."""
    return Result("failed", text, remedy, facts)


def skipped(text: str, **facts: Fact) -> Result:
    """It was not looked at, or is not used."""
    return Result("skipped", text, "", facts)


def blocked(because: str) -> Result:
    """It could not be looked at: another check failed."""
    return Result("skipped", f"needs {because}", because=because)


def bounded(text: str) -> str:
    """Return a text on one line, of bounded length."""
    line = " ".join(text.split())
    return line if len(line) <= MAX_TEXT else f"{line[:MAX_TEXT]}..."
