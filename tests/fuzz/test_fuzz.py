"""Each fuzzer takes all of its corpus, and a moment more.  `make fuzz` gives them longer."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz import fuzzing

SECONDS = 2


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzzers")
    fuzzing.build(folder)
    return folder


@pytest.mark.parametrize("name", fuzzing.NAMES)
def test_nothing_that_is_parsed_breaks_the_parser(name: str, programs: Path, tmp_path: Path) -> None:
    finding = fuzzing.fuzz(name, programs / name, tmp_path / "found", seconds=SECONDS)

    assert finding is None, finding.text if finding else ""


@pytest.mark.parametrize("name", fuzzing.NAMES)
def test_every_fuzzer_has_a_corpus(name: str) -> None:
    sizes = [path.stat().st_size for path in (fuzzing.CORPUS / name).iterdir()]

    assert len(sizes) >= 10
    assert sum(sizes) < 200_000
