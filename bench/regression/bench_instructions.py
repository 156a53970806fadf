"""How many instructions does each kernel of the core need for its unit of work?

Counted by callgrind, of kernels.c: the difference of two counts, divided.  It is the same number at every run, on any
machine with the same compiler and kernels; valgrind shows programs an AVX2 processor at most, so that is what is
counted on better ones too.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.regression import programs

# The two counts.  Enough for what is not per unit (an item, a page of the ring) to even out.
COUNTS = {"zero": (100, 300), "digest": (100, 300), "plan": (100_000, 200_000), "worker": (200, 600)}


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return programs.build(
        tmp_path_factory.mktemp("regression") / "kernels", [programs.HERE / "kernels.c", *programs.CORE]
    )


def valgrind(*command: str | Path) -> tuple[str, int]:
    """Return what a program prints and how many instructions it takes to its end."""
    done = subprocess.run(
        ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", *command],
        capture_output=True,
        text=True,
        timeout=programs.TIMEOUT_S,
        check=False,
    )
    counted = re.search(r"Collected\s*:\s*(\d+)", done.stderr)
    assert done.returncode == 0, done.stderr
    assert counted is not None, done.stderr
    return done.stdout, int(counted[1])


def per_unit(kernels: Path, name: str) -> float:
    few, many = COUNTS[name]
    instructions = [valgrind(kernels, name, str(count))[1] for count in (few, many)]
    return (instructions[1] - instructions[0]) / (many - few)


@pytest.mark.parametrize("name", COUNTS)
def bench_instructions(benchmark: BenchmarkFixture, kernels: Path, name: str) -> None:
    """Instructions for a block of zeros, a block digested, an extent through the plan, a block through a worker."""
    chosen = valgrind(kernels, "chosen")[0].strip()

    value = benchmark.pedantic(per_unit, args=(kernels, name), rounds=1)

    assert value > 0
    key = f"{programs.compiler_name()} {chosen}"
    benchmark.extra_info["measured"] = [{"quantity": f"{name}-instructions", "key": key, "value": round(value, 2)}]
