"""What no document says of a cluster, and what this probe saw of it.  Most of it needs more than a probe does."""

from __future__ import annotations

from dataclasses import dataclass

from ntxengine.probe.model import Fact, Line
from ntxengine.probe.workflow import Probe

NOT_ASKED = "not asked"


@dataclass(frozen=True)
class OpenAnswer:
    """A question, and what was seen."""

    letter: str
    question: str
    seen: str


def open_questions(probe: Probe) -> tuple[OpenAnswer, ...]:
    """Return every question that is open, with what this probe saw of it."""
    lines = {line.key: line for line in probe.lines}
    freeze, regions = lines.get("live.freeze"), lines.get("live.regions")
    family = str(_fact(lines.get("cluster.tracker"), "family") or "")
    return (
        OpenAnswer("a", "Can a disk be made of a disk recovery point (volume group, VM)?", NOT_ASKED),
        OpenAnswer(
            "b",
            "How fine are the changed regions of v4, and what is ZEROED in a difference?",
            _granularity(regions, family),
        ),
        OpenAnswer("c", "How long is a page of v3, and does next_offset appear?", _page(regions, family)),
        OpenAnswer("d", "What comes back when VSS fails?", NOT_ASKED),
        OpenAnswer("e", "Is there a storage path of a recovery point of v4?", _paths(freeze, family)),
        OpenAnswer("f", "Are paths of snapshots of v2 taken for changed regions?", NOT_ASKED),
        OpenAnswer("g", "What is the rate limit of compute-changed-regions?", _compute_rate(probe)),
        OpenAnswer("h", "Are regions computed against a recovery point on another cluster?", NOT_ASKED),
        OpenAnswer("i", "What becomes of tracking after a resize, a move, a restore?", NOT_ASKED),
    )


def _fact(line: Line | None, name: str) -> Fact:
    return None if line is None else line.result.facts.get(name)


def _granularity(line: Line | None, family: str) -> str:
    value = _fact(line, "granularity")
    if value is None or family != "v4":
        return NOT_ASKED
    return f"{value} bytes with blocks of 32768 asked for; a difference was not asked for"


def _page(line: Line | None, family: str) -> str:
    if line is None or family != "v3" or _fact(line, "regions") is None:
        return NOT_ASKED
    return f"{_fact(line, 'regions')} regions in the first MiB, next_offset {_fact(line, 'next_offset')}"


def _paths(line: Line | None, family: str) -> str:
    told = _fact(line, "tells_paths")
    return NOT_ASKED if told is None or family != "v4" else ("yes" if told else "none is told")


def _compute_rate(probe: Probe) -> str:
    for place in probe.context.places:
        watch = place.inquiry.watch
        for call, rate in watch.rates.items():
            if "compute-changed-regions" in call:
                return f"{rate.limit or 'none told'} in {rate.period_s or '?'} s, {rate.of_all or 'none told'} for all"
        if any("compute-changed-regions" in call for call, _ in watch.calls):
            return "no header tells one"
    return NOT_ASKED
