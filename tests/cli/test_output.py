"""How the command line speaks: to a terminal, to a file, to a program."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ntxengine.cli.figures import shown_rate
from ntxengine.cli.output import open_screen, plain
from ntxengine.cli.progress import PLAIN_INTERVAL_S, Amount, Pace, PlainView, describe
from ntxengine.cli.text import elapsed, plural, printable
from ntxengine.units import GIB, MIB
from tests.cli.ntx import COMMAND
from tests.cli.terminal import on_a_terminal


@pytest.fixture(autouse=True)
def logger_as_it_was() -> Iterator[None]:
    """What a screen does to the logger is for the life of a process: here, for one test."""
    logger = logging.getLogger("ntxengine")
    level, handlers = logger.level, list(logger.handlers)
    yield
    logger.setLevel(level)
    logger.handlers[:] = handlers


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("db01", "db01"),
        ("Übergröße 数据", "Übergröße 数据"),
        ("a\nb\r\t", r"a\nb\r\t"),
        ("\x1b[31m", r"\x1b[31m"),
        ("\x9b31m", r"\x9b31m"),
        ("a\u202eb", r"a\u202eb"),
        ("a\u200bb", r"a\u200bb"),
        ("\u2028", r"\u2028"),
        ("\ud800", r"\ud800"),
        ("\U000e0041", r"\U000e0041"),
    ],
)
def test_only_what_shows_itself_is_printed(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_no_line_and_no_note_obeys_what_is_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    screen = open_screen(as_json=False, progress="none", verbose=False, quiet=False, debug=False)

    screen.line("disk \x1b]0;x\x07\nscsi.0", mark="ok ")
    screen.note("VM \u202eb: left alone")

    said = capsys.readouterr()
    assert said.out == "ok disk \\x1b]0;x\\x07\\nscsi.0\n"
    assert said.err == "VM \\u202eb: left alone\n"


def test_values_for_programs() -> None:
    when = datetime(2026, 11, 23, 4, 5, 6, tzinfo=UTC)

    value = plain(
        {"when": when, "path": Path("/a"), "size": 2**62, "raw": b"\1\2", "many": (Amount(1, 2, 0.5),), "none": None}
    )

    assert value == {
        "when": "2026-11-23T04:05:06Z",
        "path": "/a",
        "size": 2**62,
        "raw": "0102",
        "many": [{**vars(Amount(1, 2, 0.5))}],
        "none": None,
    }
    assert json.loads(json.dumps(value)) == value


def test_durations_and_counts_for_people() -> None:
    assert [elapsed(seconds) for seconds in (0.04, 59.9, 60, 185, 7380)] == [
        "0.0 s", "59.9 s", "1 min 00 s", "3 min 05 s", "2 h 03 min",
    ]  # fmt: skip
    assert [plural(1, "disk"), plural(2, "disk")] == ["1 disk", "2 disks"]


def test_progress_is_told_as_far_as_it_is_known() -> None:
    assert describe(Amount(0, 0, 0)) == "0 B"
    assert describe(Amount(512 * MIB, GIB, 2, 512 * MIB)) == "512.0 MiB of 1.0 GiB, 50 %, 256.0 MiB/s, 2.0 s left"
    assert describe(Amount(GIB, GIB, 4, GIB)) == "1.0 GiB of 1.0 GiB, 100 %, 256.0 MiB/s"
    assert describe(Amount(2 * GIB, GIB, 4)).startswith("1.0 GiB of 1.0 GiB, 100 %")


def test_rate_is_of_what_was_read_and_not_of_what_is_zero() -> None:
    assert describe(Amount(1024 * GIB, 1024 * GIB, 0.01, 0)) == "1.0 TiB of 1.0 TiB, 100 %"
    assert describe(Amount(1024 * GIB, 1024 * GIB, 2, 512 * MIB)) == "1.0 TiB of 1.0 TiB, 100 %, 256.0 MiB/s"
    assert [shown_rate(*each) for each in ((0, 1.0), (None, 1.0), (MIB, 0.0), (MIB, None))] == ["-"] * 4


@pytest.mark.parametrize(
    ("share", "seconds", "bytes_read", "is_said"),
    [(0.71, 2.0, MIB, True), (0.49, 2.0, MIB, False), (1.0, 0.9, MIB, False), (1.0, 2.0, 0, False)],
)
def test_bottleneck_is_said_where_something_was_waited_for(
    share: float, seconds: float, bytes_read: int, is_said: bool
) -> None:
    text = describe(Amount(MIB, MIB, seconds, bytes_read, "target", share))

    assert ("bottleneck" in text) is is_said
    assert text.endswith("target is the bottleneck: 71 % of worker time") is is_said


def test_a_log_gets_a_line_now_and_then_and_one_at_the_end() -> None:
    now = 0.0
    pace = Pace(PLAIN_INTERVAL_S, lambda: now)
    told = []
    for second in range(13):
        now = float(second)
        if pace.is_due("disk", Amount(second, 12, now)):
            told.append(second)

    assert told == [5, 10, 12]
    assert not pace.is_due("disk", Amount(12, 12, now))


def test_a_flush_that_lasts_is_told_now_and_then_and_the_end_again() -> None:
    now = 0.0
    pace = Pace(PLAIN_INTERVAL_S, lambda: now)
    told = []
    for second in range(14):
        now = float(second)
        if pace.is_due("disk", Amount(1, 1, now, is_flushing=0 < second < 12)):
            told.append(second)

    assert told == [0, 5, 10, 12]
    assert describe(Amount(MIB, MIB, 2, MIB, "target", 1.0, is_flushing=True)).endswith("512.0 KiB/s, flushing")


def test_plain_view_tells_stages_and_ends(capsys: pytest.CaptureFixture[str]) -> None:
    screen = open_screen(as_json=False, progress="plain", verbose=False, quiet=False, debug=False)

    with PlainView(screen, lambda: 0.0) as view:
        view.stage("freeze", "db\n01")
        view.update("scsi.0", Amount(MIB, 2 * MIB, 1))
        view.update("scsi.0", Amount(2 * MIB, 2 * MIB, 1, 2 * MIB))
        view.warning("careful")

    out, err = capsys.readouterr()
    assert out == ""
    assert err == ("freeze: db\\n01\n  scsi.0: 2.0 MiB of 2.0 MiB, 100 %, 2.0 MiB/s\nwarning: careful\n")


def test_terminal_gets_bars_with_colour(tmp_path: Path) -> None:
    written = on_a_terminal(
        *COMMAND, "copy", "pattern:8M", str(tmp_path / "a"), "--bandwidth", "16M", env={"TERM": "xterm-256color"}
    )

    assert "━" in written
    assert re.search(r"\x1b\[[0-9;]*3[0-9]", written)
    assert "100 %" in written


def test_no_color_is_respected(tmp_path: Path) -> None:
    env = {"TERM": "xterm-256color", "NO_COLOR": "1"}

    written = on_a_terminal(*COMMAND, "copy", "pattern:8M", str(tmp_path / "a"), "--bandwidth", "16M", env=env)

    assert "100 %" in written
    assert not re.search(r"\x1b\[[0-9;]*[34][0-9]m", written)


def test_dumb_terminal_gets_lines(tmp_path: Path) -> None:
    written = on_a_terminal(*COMMAND, "copy", "pattern:8M", str(tmp_path / "a"), env={"TERM": "dumb"})

    assert "\x1b" not in written
    assert "8.0 MiB of 8.0 MiB, 100 %" in written
