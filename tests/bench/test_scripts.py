"""Scripts that ask one question each are run by hand only: that they can still be loaded is seen here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = [path for path in sorted((ROOT / "bench").rglob("*.py")) if '__name__ == "__main__"' in path.read_text()]


def test_make_bench_scale_names_scripts_that_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()

    names = next(line for line in makefile.splitlines() if line.startswith("SCALE ?=")).split()[2:]

    assert names
    assert set(names) <= {path.stem for path in SCRIPTS if path.parent.name == "scale"}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_script_can_be_loaded(script: Path) -> None:
    done = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
