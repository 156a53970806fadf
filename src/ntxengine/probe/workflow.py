"""A probe, from its options to what was found."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from ntxengine.concurrency.completion import run_to_completion
from ntxengine.errors import NtxError
from ntxengine.prism import Endpoint
from ntxengine.prism.inquiry import Inquiry
from ntxengine.prism.place import trust_in_elements
from ntxengine.probe.check import Context, Probed
from ntxengine.probe.live import delete_live_point
from ntxengine.probe.machine import Machine
from ntxengine.probe.model import Line, ProbeOptions, Status
from ntxengine.probe.registry import checks_for
from ntxengine.probe.run import run_checks

log = logging.getLogger(__name__)

PATIENCE_S = 15.0
"""How long a request waits for its answer, whatever --prism-timeout says."""


@dataclass(frozen=True)
class Probe:
    """What a probe found.  `context` is what it learned on the way, for the report."""

    options: ProbeOptions
    lines: tuple[Line, ...]
    began: datetime
    context: Context

    def count(self, status: Status) -> int:
        """Return how many checks ended so."""
        return sum(line.result.status == status for line in self.lines)

    @property
    def reached_nothing(self) -> bool:
        """Whether no Prism could be asked anything at all."""
        return not any(line.name == "account" and line.result.status in ("ok", "warning") for line in self.lines)


async def probe(options: ProbeOptions, tell: Callable[[Line], None], *, machine: Machine | None = None) -> Probe:
    """Look at everything that a capture needs, tell each finding as it comes, and return them all.

    Changes nothing, unless `options.live`: then one recovery point is made, and deleted also where this is cancelled.
    What goes wrong is a finding: it raises nothing but a limit of this machine (MachineError).
    """
    options = _impatient(options)
    places = [
        Probed(subject, Inquiry(endpoint, trust_in_elements(endpoint, options.central)), may_be_central, may_be_element)
        for subject, endpoint, may_be_central, may_be_element in _endpoints(options)
    ]
    context = Context(options, machine or Machine(), places)
    began = context.now()
    try:
        lines = await run_checks(checks_for(context), context, tell)
    finally:
        await _clean_up(context)
    return Probe(options, tuple(lines), began, context)


def _impatient(options: ProbeOptions) -> ProbeOptions:
    """Let no request wait for long: whoever asks what is wrong wants to know it now."""

    def shorter(endpoint: Endpoint | None) -> Endpoint | None:
        return (
            None if endpoint is None else dataclasses.replace(endpoint, timeout_s=min(endpoint.timeout_s, PATIENCE_S))
        )

    return dataclasses.replace(options, central=shorter(options.central), element=shorter(options.element))


def _endpoints(options: ProbeOptions) -> list[tuple[str, Endpoint, bool, bool]]:
    """Return each endpoint once, with what it is called here, and whether it may be Prism Central, and an element."""
    central, element = options.central, options.element
    first = central or element
    assert first is not None
    found = [("prism", first, central is not None, element == first)]
    if central is not None and element is not None and element != central:
        found.append(("element", element, False, True))
    return found


async def _clean_up(context: Context) -> None:
    try:
        await delete_live_point(context)
    except (NtxError, TimeoutError) as exc:
        point = context.live_point
        name = "" if point is None else f"{point.name} ({point.id})"
        log.warning("recovery point %s is left, and expires within an hour: %s", name, exc)
    finally:
        for place in context.places:
            await run_to_completion(place.inquiry.aclose(), timeout_s=5.0)
