"""What the core should reach in bench/images.py, and whether it did.  Of two bars for a time one is enough."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from ntxengine.bench import stats
from ntxengine.units import GIB


@dataclass(frozen=True)
class Bar:
    """What the core should reach: a ratio of `against` to it, or, against nobody, no more CPU-s/GiB."""

    case: str
    quantity: str
    limit: float
    against: str = ""


BARS = (
    Bar("dense", "seconds", 2.0, "qemu-nbd"),
    Bar("dense", "seconds", 0.9, "loop"),
    Bar("dense", "cpu_s", 0.30),
    Bar("point", "cpu_s", 0.42),
    Bar("block", "cpu_s", 0.15),
    Bar("two", "seconds", 1.8, "qemu-img"),
    Bar("two", "seconds", 0.9, "loop"),
    Bar("zstd-1", "seconds", 1.7, "qemu-img"),
    Bar("zstd-1", "bytes", 1 / 1.06, "qemu-img"),
    Bar("zstd-3", "seconds", 1.25, "qemu-img"),
    Bar("zstd-3", "bytes", 0.99, "qemu-img"),
    Bar("chains", "seconds", 1.5, "qemu-img"),
)


def gib_of(case: str, size: int) -> float:
    return size * (2 if case in ("two", "chains") else 1) / GIB


def judged(found: dict[str, Any], size: int) -> list[dict[str, Any]]:
    """Return what became of each bar of the cases that were measured."""
    judged = []
    for bar in BARS:
        if bar.case not in found:
            continue
        result = found[bar.case]
        if bar.against:
            reached = result["ratios"][bar.against][bar.quantity]["median"]
        else:
            cpu = stats.spread([sample["cpu_s"] / gib_of(bar.case, size) for sample in result["samples"]["core"]])
            assert cpu is not None
            reached = cpu.median
        is_met = reached >= bar.limit if bar.against else reached <= bar.limit
        judged.append({**dataclasses.asdict(bar), "reached": reached, "outcome": "met" if is_met else "missed"})
    return judged
