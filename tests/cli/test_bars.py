"""Bars on a terminal: as wide as it is, and whole when messages come in between."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from ntxengine.cli.bars import bar_line
from ntxengine.cli.progress import Amount
from ntxengine.cli.text import shortened, text_width
from ntxengine.units import MIB
from tests.cli.ntx import environment
from tests.cli.terminal import on_a_terminal, what_is_seen

HALF = Amount(512 * MIB, 1024 * MIB, 2.0, 256 * MIB)

PROGRAM = """
import logging, time
from ntxengine.cli.output import open_screen
from ntxengine.cli.progress import Amount
from ntxengine.cli.messages import messages

screen = open_screen(as_json=False, progress="auto", verbose=False, quiet=False, debug=False)
with screen.view() as view:
    view.update("scsi.0", Amount(1, 4, 1.0))
    time.sleep(0.4)  # by then it has been drawn, some times a second
    logging.getLogger("ntxengine.any").warning("from a log")
    view.update("scsi.1", Amount(2, 4, 1.0))
    screen.warning("from a command")
    view.stage("verify", "scsi.0")
    screen.note("a note")
    messages.say("warning", "ntx: SIGTERM: stopping")
    view.update("scsi.0", Amount(4, 4, 2.0))
"""


@pytest.mark.parametrize("width", [40, 60, 80, 100, 140, 300])
def test_line_fits_the_terminal(width: int) -> None:
    line = str(bar_line("copy scsi.0", HALF, label_width=20, width=width))

    assert len(line) < width
    assert " 50 %" in line
    assert ("2.0 s left" in line) is (width >= 60)
    assert ("128.0 MiB/s" in line) is (width >= 80)
    assert ("512.0 MiB of 1.0 GiB" in line) is (width >= 100)


def test_line_says_that_the_target_flushes() -> None:
    whole = Amount(MIB, MIB, 2.0, MIB, is_flushing=True)

    assert "100 %          flushing" in str(bar_line("copy scsi.0", whole, label_width=20, width=80))


def test_bar_uses_the_room_there_is() -> None:
    narrow, wide = (bar_line("a", HALF, label_width=1, width=width) for width in (60, 160))

    assert narrow.filled + narrow.rest < wide.filled + wide.rest
    assert wide.filled == wide.rest


def test_name_that_is_too_long_keeps_its_ends() -> None:
    assert shortened("copy production-database-07 scsi.0", 20) == "copy produ…07 scsi.0"
    assert shortened("short", 20) == "short"
    assert text_width(shortened("数据库服务器生产环境", 9)) <= 9


@pytest.mark.parametrize("width", [60, 120])
def test_messages_do_not_break_live_bars(width: int) -> None:
    written = on_a_terminal(sys.executable, "-c", PROGRAM, env={"TERM": "xterm", "COLUMNS": str(width)})

    lines = what_is_seen(written)

    assert lines[:5] == [
        "warning: from a log", "warning: from a command", "verify: scsi.0", "a note", "ntx: SIGTERM: stopping",
    ]  # fmt: skip
    assert [line.split()[0] for line in lines[5:]] == ["scsi.0", "scsi.1"]
    assert "100 %" in lines[5]
    assert all(len(line) < width for line in lines)


MANY = """
import os

from ntxengine.cli.output import open_screen
from ntxengine.cli.progress import Amount

screen = open_screen(as_json=False, progress="auto", verbose=False, quiet=False, debug=False)
with screen.view() as view:
    for number in range(45):
        for done in (1, 4, 4):
            view.update(f"disk-{number:02d}", Amount(done, 4, 1.0))
    view.update("disk-45", Amount(1, 4, 1.0))
    os.write(2, b"<seen>")
"""


def test_what_runs_is_seen_where_there_are_more_bars_than_the_terminal_has_lines() -> None:
    written = on_a_terminal(sys.executable, "-c", MANY, env={"TERM": "xterm", "COLUMNS": "60", "LINES": "10"})

    meanwhile, at_the_end = what_is_seen(written.partition("<seen>")[0]), what_is_seen(written.replace("<seen>", ""))

    assert "disk-45" in meanwhile[-1]
    assert [line.split()[0] for line in at_the_end] == [f"disk-{number:02d}" for number in range(46)]
    assert ["100 %" in line for line in at_the_end] == [True] * 45 + [False]


def test_nothing_is_drawn_where_there_is_no_terminal() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment(), capture_output=True, text=True, check=True
    )

    assert not re.search(r"\x1b|━", done.stderr)
    assert "warning: from a log\n" in done.stderr
