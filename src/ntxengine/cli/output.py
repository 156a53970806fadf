"""How a command speaks: results to stdout (a table, or one JSON object), progress, warnings and logs to stderr."""

from __future__ import annotations

import dataclasses
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from ntxengine import units
from ntxengine.cli.messages import messages
from ntxengine.cli.reply import reply
from ntxengine.cli.streams import only_tells_of_work
from ntxengine.cli.table import Column, GrowingTable
from ntxengine.cli.text import printable

if TYPE_CHECKING:
    from ntxengine.cli.progress import View

ProgressMode = Literal["bars", "plain", "json", "none"]


@dataclass(frozen=True)
class Screen:
    """Where one command speaks, and how much."""

    as_json: bool
    progress: ProgressMode
    quiet: bool
    is_wide: bool = False
    tells_of_work: bool = False
    """What is printed is no result, but tells of work that is done, and well."""
    on_stderr: bool = False
    """stdout is what a copy writes to: not a byte of ours may be in it."""

    def after_work(self, *, is_good: bool = True) -> Screen:
        """Return what tells of work that is done: stdout that fails changes nothing any more.

        If quiet it is silent, unless some of the work failed: what is listed says what.
        """
        only_tells_of_work()
        return dataclasses.replace(self, tells_of_work=is_good)

    def result(self, value: object) -> None:
        """Give the one JSON object of this command, which is printed at its end: something may still fail."""
        reply.value = plain(value)

    def announce(self, value: object) -> None:
        """Print it now: the command goes on, and has no other result."""
        self.result(value)
        reply.write()

    def line(self, text: str = "", *, mark: str = "") -> None:
        """Print one line of a result.  Whatever is in it is shown, never obeyed, but for a `mark` in front."""
        if self.quiet and self.tells_of_work:
            return
        if self.on_stderr:
            messages.say("note", mark + printable(text))
        else:
            click.echo(mark + printable(text))

    def note(self, text: str) -> None:
        """Tell the person something that is not a result.  Whatever is in it is shown, never obeyed."""
        if not self.quiet and self.progress != "json":
            messages.say("note", printable(text))

    def warning(self, text: str) -> None:
        """Tell the person that something is worse than expected, and that we go on."""
        messages.say("warning", f"warning: {printable(text)}", colour="yellow", fields={"text": text})

    def item(self, name: str, value: object) -> None:
        """Print an item of the list that the JSON object of this command begins with."""
        reply.add(name, plain(value))

    def table(self, columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> None:
        """Print a table.  Whatever is in the cells is shown, never obeyed."""
        self.growing_table(columns)(rows)

    def growing_table(self, columns: Sequence[Column]) -> Callable[[Iterable[Sequence[str]]], None]:
        """Return what prints a part of a table each time it is called."""
        shown = [i for i, column in enumerate(columns) if self.is_wide or not column.wide]
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() and not self.is_wide else None
        table = GrowingTable([columns[i] for i in shown], width=width)

        def show(rows: Iterable[Sequence[str]]) -> None:
            for line in table.lines([[row[i] for i in shown] for row in rows]):
                self.line(line)

        return show

    def pairs(self, rows: Iterable[tuple[str, str]]) -> None:
        """Print `name  value` lines with the values in one column."""
        lines = [(name, printable(value)) for name, value in rows]
        width = max((len(name) for name, _ in lines), default=0)
        for name, value in lines:
            self.line(f"{name:<{width}}  {value}".rstrip())

    def view(self) -> View:
        """Return what shows the progress of this command: a context manager."""
        from ntxengine.cli.progress import make_view

        return make_view(self)


def open_screen(*, as_json: bool, progress: str, verbose: bool, quiet: bool, debug: bool) -> Screen:
    """Decide how to speak, and send the logs to stderr accordingly."""
    screen = Screen(as_json=as_json, progress=_progress_mode(progress, quiet=quiet), quiet=quiet)
    messages.as_json = screen.progress == "json"
    level = logging.DEBUG if debug else logging.INFO if verbose else logging.WARNING
    handler = LogHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s", datefmt="%H:%M:%S"))
    root = logging.getLogger("ntxengine")
    for old in [handler for handler in root.handlers if isinstance(handler, LogHandler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    return screen


class LogHandler(logging.Handler):
    """Makes messages of log records."""

    def emit(self, record: logging.LogRecord) -> None:
        level = record.levelname.lower()
        if record.levelno >= logging.WARNING and not logging.getLogger("ntxengine").isEnabledFor(logging.INFO):
            text = f"{level}: {printable(record.getMessage())}"
        else:
            text = "\n".join(printable(line) for line in self.format(record).splitlines())
        messages.say("log", text, fields={"level": level, "text": record.getMessage()})


def plain(value: object) -> object:
    """Return `value` as JSON has it: dataclasses as objects, times in RFC 3339, bytes in hex, sizes as integers."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(vars(value)[field.name]) for field in dataclasses.fields(value) if field.repr}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    return _SIMPLE.get(type(value), _same)(value)


def _same(value: object) -> object:
    return str(value) if isinstance(value, Path) else value


_SIMPLE: dict[type, Callable[..., object]] = {datetime: units.format_time, bytes: bytes.hex}


def _progress_mode(wanted: str, *, quiet: bool) -> ProgressMode:
    if wanted in ("plain", "json"):
        return "plain" if wanted == "plain" else "json"
    if wanted == "none" or quiet:
        return "none"
    dumb = os.environ.get("TERM", "dumb") == "dumb"
    return "bars" if sys.stderr.isatty() and not dumb else "plain"
