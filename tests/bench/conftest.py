"""A small suite of our own, and `ntx bench` as a person runs it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

SMALL = """\
name: small
title: one small case
rounds: 1
contestants:
  engine: {program: engine}
  nbdcopy: {program: nbdcopy}
  limit: {program: limit}
disks:
  disk: {size: 4M}
cases:
  - name: one
    title: to a server that drops it
    source: {disk: disk}
    target: {server: nbdkit-null}
    who: [engine, nbdcopy, limit]
    bars:
      - {quantity: throughput, against: nbdcopy, at_least: 0.001}
"""


@pytest.fixture
def suite_file(tmp_path: Path) -> Callable[..., Path]:
    """Write the small suite, with some of its text replaced."""

    def write(*replacements: tuple[str, str]) -> Path:
        text = SMALL
        for old, new in replacements:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "small.yaml"
        path.write_text(text)
        return path

    return write
