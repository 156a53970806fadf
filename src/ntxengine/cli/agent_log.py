"""The log of `ntx agent`: lines on stderr, for people or as JSON (docs/schema/log.json), each with the run it is about.

It is the log of the whole process: what libraries warn of is in it too, so that each line is of the one form.
"""

from __future__ import annotations

import logging
import traceback
from datetime import UTC, datetime

from ntxengine.agent.run_context import current_run
from ntxengine.cli.messages import messages
from ntxengine.cli.output import LogHandler, open_screen
from ntxengine.cli.text import printable

_SHORT_ID = 6
"""Of a run: the part by chance, behind its time."""


def open_agent_log(log_format: str, level: str) -> None:
    """Send what is logged to stderr."""
    progress = "json" if log_format == "json" else "none"
    open_screen(as_json=False, progress=progress, verbose=True, quiet=False, debug=False)
    ours, root = logging.getLogger("ntxengine"), logging.getLogger()
    for logger in (ours, root):
        for old in [handler for handler in logger.handlers if isinstance(handler, LogHandler | AgentLogHandler)]:
            logger.removeHandler(old)
    root.addHandler(AgentLogHandler())
    root.setLevel(logging.WARNING)
    ours.setLevel(level.upper())
    logging.captureWarnings(capture=True)


class AgentLogHandler(logging.Handler):
    """Makes lines of log records."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            fields = fields_of(record)
            messages.say("log", text_of(fields), fields=fields)
        except Exception:  # noqa: BLE001  as logging itself has it: what cannot be said must not end what says it
            self.handleError(record)


def fields_of(record: logging.LogRecord) -> dict[str, object]:
    """Return a record as JSON has it."""
    when = datetime.fromtimestamp(record.created, UTC)
    fields: dict[str, object] = {
        "time": f"{when:%Y-%m-%dT%H:%M:%S}.{when.microsecond // 1000:03d}Z",
        "level": record.levelname.lower(),
        "logger": record.name,
        "text": record.getMessage(),
    }
    if (run := current_run()) is not None:
        fields |= {"run_id": run.id, "job": run.job, "vm_id": run.vm_id, "vm_name": run.vm_name}
    if record.exc_info is not None and record.exc_info[0] is not None:
        fields["exception"] = "".join(traceback.format_exception(*record.exc_info)).rstrip()
    return fields


def text_of(fields: dict[str, object]) -> str:
    """Return the line for a person: with the short id of the run; an exception in lines of their own behind it."""
    run_id = str(fields.get("run_id", ""))
    run = f" [{run_id[-_SHORT_ID:]}]" if run_id else ""
    time, level = str(fields["time"])[:19] + "Z", str(fields["level"]).upper()
    line = f"{time} {level:<7} {fields['logger']}{run}: {fields['text']}"
    more = str(fields.get("exception", "")).splitlines()
    return "\n".join(printable(each) for each in [line, *more])
