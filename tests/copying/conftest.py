from __future__ import annotations

from pathlib import Path

import pytest

from ntxengine.dataplane import checkpoints as due
from tests.copying.interrupting import Files


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let checkpoints be made often."""
    monkeypatch.setattr(due, "DUE_S", 0.05)
    monkeypatch.setattr(due, "_SELDOMER", 0)


@pytest.fixture
def copied(tmp_path: Path) -> Files:
    return Files(tmp_path)
