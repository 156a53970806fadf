"""From samples to quantities, and from quantities to what was reached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ntxengine.bench.result import BarResult, ContestantResult, Outcome, Sample
from ntxengine.bench.stats import Spread, paired_ratios, spread
from ntxengine.bench.suite import IN_FLIGHT, Bar, Quantity
from ntxengine.units import GIB, MIB

UNITS: dict[Quantity, str] = {
    "throughput": "GiB/s",
    "client_cpu": "s/GiB",
    "server_cpu": "s/GiB",
    "peak_memory": "MiB",
}
NAMES: dict[Quantity, str] = {
    "throughput": "throughput",
    "client_cpu": "client CPU",
    "server_cpu": "server CPU",
    "peak_memory": "peak memory",
}


def quantity_of(sample: Sample, quantity: Quantity) -> float | None:
    """Return a quantity in its unit; None if it was not measured."""
    gib = sample.bytes / GIB
    if quantity == "throughput":
        return gib / sample.seconds
    if quantity == "client_cpu":
        return sample.client_cpu_seconds / gib
    if quantity == "server_cpu":
        return None if sample.server_cpu_seconds is None else sample.server_cpu_seconds / gib
    return sample.peak_memory / MIB


def by_round(samples: Sequence[Sample], quantity: Quantity) -> dict[int, float]:
    """Return the values of a quantity by the number of their round."""
    values = ((sample.round, quantity_of(sample, quantity)) for sample in samples)
    return {number: value for number, value in values if value is not None}


def summarise(samples: Sequence[Sample]) -> dict[Quantity, Spread]:
    """Return median and quartiles of every quantity that was measured."""
    found = {quantity: spread(list(by_round(samples, quantity).values())) for quantity in UNITS}
    return {quantity: value for quantity, value in found.items() if value is not None}


def judge(bar: Bar, contestants: Mapping[str, ContestantResult], *, delay_ms: int) -> BarResult:
    """Say whether a bar was reached.  Against several: against the one whose median is best."""
    samples = contestants[bar.of].samples if bar.of in contestants else ()
    ours = by_round(samples, bar.quantity)
    rivals = {name: _values_of(name, bar.quantity, contestants, samples, delay_ms) for name in bar.rivals}
    if bar.rivals:
        best = _best(rivals, bar.quantity)
        values = paired_ratios(ours, rivals[best]) if best is not None else []
    else:
        values = list(ours.values())
    value = spread(values)
    return BarResult(
        text=describe(bar),
        quantity=bar.quantity,
        of=bar.of,
        against=bar.rivals,
        at_least=bar.at_least,
        at_most=bar.at_most,
        stretch=bar.stretch,
        outcome=outcome_of(bar, None if value is None else value.median),
        value=value,
    )


def outcome_of(bar: Bar, value: float | None) -> Outcome:
    """Return what `value` means for `bar`."""
    if value is None:
        return "unknown"
    sign, limit = (1, bar.at_least) if bar.at_least is not None else (-1, bar.at_most)
    assert limit is not None
    if sign * value < sign * limit:
        return "missed"
    return "stretch" if bar.stretch is not None and sign * value >= sign * bar.stretch else "reached"


def describe(bar: Bar) -> str:
    """Return a bar in words: `throughput of engine / nbdcopy >= 1.6 (stretch 2)`."""
    sign, limit = (">=", bar.at_least) if bar.at_least is not None else ("<=", bar.at_most)
    rivals = " / " + " or ".join(bar.rivals) if bar.rivals else ""
    unit = "" if bar.rivals else f" {UNITS[bar.quantity]}"
    stretch = "" if bar.stretch is None else f" (stretch {bar.stretch:g})"
    return f"{NAMES[bar.quantity]} of {bar.of}{rivals} {sign} {limit:g}{unit}{stretch}"


def _values_of(
    name: str,
    quantity: Quantity,
    contestants: Mapping[str, ContestantResult],
    ours: Sequence[Sample],
    delay_ms: int,
) -> dict[int, float]:
    if name != IN_FLIGHT:
        return by_round(contestants[name].samples, quantity) if name in contestants else {}
    # What is in flight is answered once per delay.
    return {
        sample.round: sum(r.connections * r.in_flight * r.request_size for r in sample.reports) / GIB / delay_ms * 1000
        for sample in ours
    }


def _best(rivals: Mapping[str, Mapping[int, float]], quantity: Quantity) -> str | None:
    """Return the rival to beat; None as long as one of them has no figures: it could have been the better one."""
    medians = {name: spread(list(values.values())) for name, values in rivals.items()}
    known = {name: value.median for name, value in medians.items() if value is not None}
    if len(known) < len(rivals):
        return None
    better = max if quantity == "throughput" else min
    return better(known, key=lambda name: known[name])
