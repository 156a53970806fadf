"""Compare what the benchmarks of this folder measured with bench/baseline.json.

    python -m bench.regression.check RESULT.json...
    python -m bench.regression.check --update RESULT.json...   makes the medians of all RESULTs the baseline

Exit code 1: something costs more than its tolerance allows; 3: only something that measuring again may clear does.

A RESULT is what pytest-benchmark writes.  A quantity is a cost: less is better.  It is compared only with a value of
the same key (the way of sending; compiler and kernels); where the baseline has none, that is said, and no failure.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

BASELINE = Path(__file__).resolve().parents[1] / "baseline.json"

# Instructions are the same when they are counted again; what a busy machine measured may not be.
NOISY = {"copy-cpu"}
MEASURE_AGAIN = 3

Verdict = Literal["ok", "WORSE", "better", "no baseline"]


@dataclass(frozen=True)
class Measurement:
    """A cost, and what it depends on."""

    quantity: str
    key: str
    value: float


@dataclass(frozen=True)
class Finding:
    """A measurement held against the baseline.  `change` and `tolerance` are shares of the baseline's value."""

    measurement: Measurement
    baseline: float | None
    tolerance: float

    @property
    def change(self) -> float:
        return 0.0 if self.baseline is None else self.measurement.value / self.baseline - 1

    @property
    def verdict(self) -> Verdict:
        if self.baseline is None:
            return "no baseline"
        if self.change > self.tolerance:
            return "WORSE"
        return "better" if self.change < -self.tolerance else "ok"

    def __str__(self) -> str:
        name, value = self.measurement.quantity, self.measurement.value
        if self.baseline is None:
            return f"no baseline  {name} {value:g} is not compared: nobody measured it with {self.measurement.key}"
        return (
            f"{self.verdict:<11}  {name} {value:g}, baseline {self.baseline:g}: "
            f"{self.change:+.1%}, allowed {self.tolerance:+.1%} ({self.measurement.key})"
        )


def read_results(paths: Iterable[Path]) -> list[Measurement]:
    """Return the median of each quantity and key over all results."""
    values: dict[tuple[str, str], list[float]] = {}
    for path in paths:
        for benchmark in json.loads(path.read_text())["benchmarks"]:
            for row in benchmark["extra_info"].get("measured", []):
                values.setdefault((row["quantity"], row["key"]), []).append(row["value"])
    return [Measurement(quantity, key, median(several)) for (quantity, key), several in values.items()]


def compare(measured: Iterable[Measurement], baseline: dict[str, Any]) -> list[Finding]:
    """Hold each measurement against the baseline."""
    findings = []
    for measurement in measured:
        known = baseline[measurement.quantity]
        findings.append(Finding(measurement, known["values"].get(measurement.key), known["tolerance"]))
    return findings


def updated(measured: Iterable[Measurement], baseline: dict[str, Any]) -> dict[str, Any]:
    """Return the baseline with new values.  Tolerances and the values of other keys stay."""
    after = {name: {**known, "values": dict(known["values"])} for name, known in baseline.items()}
    for measurement in measured:
        after[measurement.quantity]["values"][measurement.key] = round(measurement.value, 4)
    return after


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="check", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("results", type=Path, nargs="+", metavar="RESULT.json")
    parser.add_argument("--baseline", type=Path, default=BASELINE)
    parser.add_argument("--update", action="store_true")
    given = parser.parse_args(argv)
    measured = read_results(given.results)
    if not measured:
        sys.exit("check: nothing was measured")
    baseline = json.loads(given.baseline.read_text())
    findings = compare(measured, baseline)
    sys.stdout.writelines(f"{finding}\n" for finding in findings)
    if given.update:
        given.baseline.write_text(json.dumps(updated(measured, baseline), indent=2) + "\n")
        return 0
    worse = [finding.measurement.quantity for finding in findings if finding.verdict == "WORSE"]
    if worse:
        sys.stdout.write(f"costs more than before: {', '.join(worse)}.  bench/notes/regression.md says what to do\n")
    if not worse:
        return 0
    return MEASURE_AGAIN if NOISY.issuperset(worse) else 1


if __name__ == "__main__":
    sys.exit(main())
