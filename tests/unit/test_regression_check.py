"""The judge of the performance check: what fails it, and what does not."""

import json
from pathlib import Path

import pytest

from bench.regression import check
from bench.regression.check import Finding, Measurement

BASELINE = {
    "copy-cpu": {"tolerance": 0.1, "values": {"vmsplice": 0.9, "send": 1.2}},
    "plan-instructions": {"tolerance": 0.03, "values": {"gcc-1": 100}},
}


def result(path: Path, value: float, *, key: str = "vmsplice", quantity: str = "copy-cpu") -> Path:
    """Write what pytest-benchmark would."""
    measured = [{"quantity": quantity, "key": key, "value": value}]
    path.write_text(json.dumps({"benchmarks": [{"extra_info": {"measured": measured}}, {"extra_info": {}}]}))
    return path


@pytest.fixture
def baseline(tmp_path: Path) -> Path:
    path = tmp_path / "baseline.json"
    path.write_text(json.dumps(BASELINE))
    return path


@pytest.mark.parametrize(
    ("value", "verdict"), [(0.9, "ok"), (0.98, "ok"), (1.0, "WORSE"), (0.82, "ok"), (0.8, "better")]
)
def test_a_cost_is_worse_above_its_tolerance_only(value: float, verdict: str) -> None:
    finding = Finding(Measurement("copy-cpu", "vmsplice", value), 0.9, 0.1)

    assert finding.verdict == verdict


def test_only_what_is_worse_fails(tmp_path: Path, baseline: Path, capsys: pytest.CaptureFixture[str]) -> None:
    worse = result(tmp_path / "worse", 104, key="gcc-1", quantity="plan-instructions")
    better = result(tmp_path / "better", 0.5)

    assert check.main([str(better), "--baseline", str(baseline)]) == 0
    assert check.main([str(better), str(worse), "--baseline", str(baseline)]) == 1
    assert "costs more than before: plan-instructions" in capsys.readouterr().out


def test_a_copy_that_costs_more_is_to_be_measured_again(tmp_path: Path, baseline: Path) -> None:
    slow = result(tmp_path / "slow", 1.1)
    more = result(tmp_path / "more", 104, key="gcc-1", quantity="plan-instructions")

    assert check.main([str(slow), "--baseline", str(baseline)]) == check.MEASURE_AGAIN
    assert check.main([str(slow), str(more), "--baseline", str(baseline)]) == 1


def test_the_median_of_several_measurements_decides(tmp_path: Path, baseline: Path) -> None:
    slow = result(tmp_path / "slow", 1.1)
    quick = [result(tmp_path / str(value), value) for value in (0.91, 0.92)]

    assert check.main([*map(str, [slow, *quick]), "--baseline", str(baseline)]) == 0


def test_an_unknown_key_is_one_line_and_no_failure(
    tmp_path: Path, baseline: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unknown = result(tmp_path / "unknown", 9.9, key="carrier pigeon")

    code = check.main([str(unknown), "--baseline", str(baseline)])

    out = capsys.readouterr().out
    assert code == 0
    assert out.count("\n") == 1
    assert out.startswith("no baseline  copy-cpu")
    assert "carrier pigeon" in out


def test_an_update_takes_the_median_and_keeps_the_rest(tmp_path: Path, baseline: Path) -> None:
    results = [str(result(tmp_path / str(value), value)) for value in (0.7, 0.8, 3.0)]

    assert check.main(["--update", *results, "--baseline", str(baseline)]) == 0

    after = json.loads(baseline.read_text())
    assert after["copy-cpu"] == {"tolerance": 0.1, "values": {"vmsplice": 0.8, "send": 1.2}}
    assert after["plan-instructions"] == BASELINE["plan-instructions"]


def test_nothing_measured_is_an_error(tmp_path: Path, baseline: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_text('{"benchmarks": []}')

    with pytest.raises(SystemExit, match="nothing was measured"):
        check.main([str(empty), "--baseline", str(baseline)])


def test_the_committed_baseline_knows_every_quantity() -> None:
    known = json.loads(check.BASELINE.read_text())

    assert set(known) == {
        "copy-cpu", "zero-instructions", "digest-instructions", "plan-instructions", "worker-instructions",
    }  # fmt: skip
    for name, row in known.items():
        assert 0 < row["tolerance"] <= 0.15, name
        assert row["values"], name
