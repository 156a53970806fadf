"""Lines of the agent's log: whatever is in them is shown, on one line, with its run."""

from __future__ import annotations

import logging
import sys

from ntxengine.agent.records import Run
from ntxengine.agent.run_context import within
from ntxengine.cli.agent_log import fields_of, text_of
from tests.agent.virtual import START
from tests.cli.test_json import problems

RUN = Run("20261130T120000Z-8f3a2c", "nightly", "id-a", "db01", START)


def record(text: str, *, exception: BaseException | None = None) -> logging.LogRecord:
    exc_info = None if exception is None else (type(exception), exception, exception.__traceback__)
    return logging.LogRecord("ntxengine.capture", logging.WARNING, "f.py", 1, text, (), exc_info)


def test_a_line_has_the_short_id_of_its_run_and_no_escape_of_others() -> None:
    with within(RUN):
        inside = text_of(fields_of(record("VM '\x1b[2J\nx'")))
    outside = text_of(fields_of(record("hello")))

    assert inside.partition("Z ")[2] == r"WARNING ntxengine.capture [8f3a2c]: VM '\x1b[2J\nx'"
    assert outside.partition("Z ")[2] == "WARNING ntxengine.capture: hello"


def test_an_exception_is_a_field_and_for_people_lines_behind() -> None:
    try:
        raise ValueError("why")
    except ValueError:
        error = sys.exception() if hasattr(sys, "exception") else sys.exc_info()[1]
    fields = fields_of(record("it broke", exception=error))

    assert str(fields["exception"]).endswith("ValueError: why")
    assert text_of(fields).splitlines()[1].startswith("Traceback")
    assert problems({"message_type": "log", **fields}, "log.json") == []
