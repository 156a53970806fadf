"""Runs every C test under the thread sanitizer."""

from pathlib import Path

import pytest

from tests.csrc.compiling import TESTS, Build, check

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("source", TESTS, ids=lambda source: source.stem.removeprefix("test_"))
def test_c(source: Path, build: Build, tmp_path: Path) -> None:
    check(source, "tsan", build, tmp_path)
