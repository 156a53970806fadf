"""The figures: medians, quartiles, ratios of one round, and what they mean for a bar."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ntxengine.bench.judge import describe, judge, outcome_of, summarise
from ntxengine.bench.result import ContestantResult, Sample
from ntxengine.bench.rounds import rotated
from ntxengine.bench.stats import paired_ratios, spread
from ntxengine.bench.suite import Bar
from ntxengine.bench.wire import Report
from ntxengine.units import GIB, MIB


def sample(number: int, seconds: float, *, cpu: float = 0.5, reports: tuple[Report, ...] = ()) -> Sample:
    return Sample(
        round=number,
        bytes=2 * GIB,
        seconds=seconds,
        client_cpu_seconds=cpu,
        server_cpu_seconds=None,
        peak_memory=64 * MIB,
        reports=reports,
    )


def contestant(name: str, seconds: Sequence[float]) -> ContestantResult:
    samples = tuple(sample(number, value) for number, value in enumerate(seconds))
    return ContestantResult(name=name, program=name, title=name, command=(name,), samples=samples)


def test_spread_is_median_and_quartiles() -> None:
    found = spread([5.0, 1.0, 3.0, 2.0, 4.0])

    assert found is not None
    assert (found.q1, found.median, found.q3, found.count) == (2.0, 3.0, 4.0, 5)


def test_spread_of_one_value_is_that_value() -> None:
    found = spread([7.0])

    assert found is not None
    assert (found.q1, found.median, found.q3) == (7.0, 7.0, 7.0)
    assert spread([]) is None


def test_ratios_are_of_the_same_round() -> None:
    ratios = paired_ratios({0: 2.0, 1: 30.0, 2: 4.0}, {0: 1.0, 1: 10.0, 3: 1.0})

    assert ratios == [2.0, 3.0]


def test_median_of_ratios_is_not_ratio_of_medians() -> None:
    ours, theirs = {0: 1.0, 1: 10.0, 2: 3.0}, {0: 1.0, 1: 2.0, 2: 6.0}

    found = spread(paired_ratios(ours, theirs))

    assert found is not None
    assert found.median == 1.0  # of the medians it would be 1.5


def test_order_is_rotated() -> None:
    assert [rotated("abc", number) for number in range(4)] == [list("abc"), list("bca"), list("cab"), list("abc")]


def test_quantities_are_per_gib() -> None:
    found = summarise([sample(0, 4.0, cpu=1.0)])

    assert found["throughput"].median == 0.5
    assert found["client_cpu"].median == 0.5
    assert found["peak_memory"].median == 64
    assert "server_cpu" not in found


@pytest.mark.parametrize(
    ("value", "outcome"), [(1.59, "missed"), (1.6, "reached"), (1.99, "reached"), (2.0, "stretch"), (None, "unknown")]
)
def test_outcome_of_a_lower_limit(value: float | None, outcome: str) -> None:
    assert outcome_of(Bar(quantity="throughput", at_least=1.6, stretch=2.0), value) == outcome


@pytest.mark.parametrize(("value", "outcome"), [(0.51, "missed"), (0.5, "reached"), (0.35, "stretch")])
def test_outcome_of_an_upper_limit(value: float, outcome: str) -> None:
    assert outcome_of(Bar(quantity="client_cpu", at_most=0.5, stretch=0.35), value) == outcome


def test_bar_against_several_is_held_against_the_better_one() -> None:
    known = {
        each.name: each for each in (contestant("engine", [1, 1]), contestant("a", [2, 2]), contestant("b", [4, 4]))
    }
    bar = Bar(quantity="throughput", against=("b", "a"), at_least=1.5)

    found = judge(bar, known, delay_ms=0)

    assert found.value is not None
    assert found.value.median == 2.0
    assert found.outcome == "reached"


def test_bar_is_unknown_when_a_rival_is_absent() -> None:
    known = {each.name: each for each in (contestant("engine", [1, 1]), contestant("a", [2, 2]), contestant("b", []))}

    found = judge(Bar(quantity="throughput", against=("b", "a"), at_least=1.5), known, delay_ms=0)

    assert found.outcome == "unknown"
    assert found.value is None


def test_bytes_in_flight_are_answered_once_per_delay() -> None:
    report = Report(
        bytes_total=2 * GIB, bytes_read=0, bytes_sent=0, bytes_zeroed=0, bytes_skipped=0, seconds=1, cpu_seconds=1,
        connections=8, request_size=MIB, in_flight=4, bottleneck="target",
    )  # fmt: skip
    ours = ContestantResult(
        name="engine", program="engine", title="", command=(), samples=(sample(0, 2.0, reports=(report,)),)
    )

    found = judge(Bar(quantity="throughput", against="bytes-in-flight", at_least=0.5), {"engine": ours}, delay_ms=20)

    assert found.value is not None
    assert found.value.median == pytest.approx(1.0 / (32 * MIB / 0.020 / GIB))


def test_bar_is_told_in_words() -> None:
    bar = Bar(quantity="client_cpu", against="nbdcopy", at_most=0.5, stretch=0.35)

    assert describe(bar) == "client CPU of engine / nbdcopy <= 0.5 (stretch 0.35)"
    assert describe(Bar(quantity="peak_memory", at_most=128)) == "peak memory of engine <= 128 MiB"
