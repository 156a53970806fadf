"""`ntx probe`: what would fail, before anything is frozen."""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
from pathlib import Path
from typing import Any

import click

from ntxengine.cli.errors import SomeFailed
from ntxengine.cli.messages import is_coloured
from ntxengine.cli.options import common_options
from ntxengine.cli.output import Screen, plain
from ntxengine.cli.paths import FOLDER, LocalPath
from ntxengine.cli.prism_options import PrismOptions, prism_options
from ntxengine.cli.run import run
from ntxengine.cli.session import AttachArguments, Login, attach_options, login
from ntxengine.cli.text import plural, printable
from ntxengine.errors import NtxError, OptionsError, TargetError
from ntxengine.files import durable
from ntxengine.probe import STATUSES, Line, Probe, ProbeOptions, Status, found_of, hidden, probe, report_of

COLOURS: dict[Status, str] = {"ok": "green", "warning": "yellow", "failed": "red", "skipped": "bright_black"}
SHOWN: dict[Status, str] = {"ok": "ok", "warning": "WARNING", "failed": "FAILED", "skipped": "skipped"}
_STATUS_WIDTH = 8
_NAME_WIDTH = 27
_LEAST_WIDTH = 60
MEND = "to mend: "


@click.command("probe")
@click.argument("vm", required=False, metavar="[VM]")
@click.option("--live", is_flag=True, help="Make one short-lived recovery point of VM, ask about it, and delete it.")
@attach_options
@click.option(
    "--to",
    "--repository",
    "repository",
    type=FOLDER,
    envvar="NTX_REPOSITORY",
    show_envvar=True,
    metavar="REPO",
    help="Where a capture would go: look whether it can be written, and for room.",
)
@click.option(
    "--report",
    "report_file",
    type=LocalPath(dir_okay=False),
    metavar="FILE",
    help="Write all that was seen as JSON, without secrets: to attach to a bug.",
)
@click.option("--hide-names", is_flag=True, help="Leave names, addresses and ids out of that file.")
@prism_options
@common_options
def probe_command(
    vm: str | None,
    live: bool,
    attach: AttachArguments,
    repository: Path | None,
    report_file: Path | None,
    hide_names: bool,
    prism: PrismOptions,
    screen: Screen,
) -> None:
    """Look at all that a capture needs, and say of each thing whether it is there; if not, what mends it.

    Changes nothing, but for one recovery point with --live, which is deleted whatever happens and expires within an
    hour.  Give VM to look at that VM, too.

    Exit codes: 0 nothing failed (there may be warnings), 3 something failed, 1 no Prism could be asked anything, or
    the report could not be written.

    \b
    Examples:
      ntx probe --prism https://pc.example.com --username backup --password-file /etc/ntx/password
      ntx probe db01 --worker backup01 --to /backups
      ntx probe --live db01 --report probe.json --hide-names
    """
    if live and vm is None:
        raise click.UsageError("--live needs a VM: ntx probe --live VM")
    if hide_names and report_file is None:
        raise click.UsageError("--hide-names is about --report FILE: give that, too")
    if report_file is not None:
        _check_writable(report_file)
    options = _options(login(prism, screen), vm, live, attach, repository)
    told = _Lines(screen)
    found = run(probe(options, told.tell))
    told.end()
    if report_file is not None:
        _write_report(found, report_file, hide_names=hide_names)
    counts = {status: found.count(status) for status in STATUSES}
    if screen.as_json:
        screen.result({"checks": [plain(found_of(line)) for line in found.lines], "counts": counts})
    else:
        screen.line(", ".join(f"{count} {status}" for status, count in counts.items() if count))
    _end(found)


def _options(
    prism_login: Login, vm: str | None, live: bool, attach: AttachArguments, repository: Path | None
) -> ProbeOptions:
    return ProbeOptions(
        prism_login.central,
        prism_login.element,
        vm=vm or "",
        live=live,
        worker=attach.worker or "",
        attach=attach.options(),
        repository=repository,
    )


def _end(found: Probe) -> None:
    """Say with which code this ends.  Errors: NtxError, SomeFailed."""
    failures = [line for line in found.lines if line.result.status == "failed"]
    if not failures:
        return
    named = ", ".join(f"{line.subject} {line.name}" for line in failures)
    if found.reached_nothing:
        raise NtxError(f"no Prism could be asked anything: {named} failed")
    raise SomeFailed(f"{plural(len(failures), 'check')} failed: {named}")


class _Lines:
    """Tells what was found as it comes.  Checks that were skipped for one reason, one after the other, are one line."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._skipped: list[Line] = []
        self._is_terminal = sys.stdout.isatty()
        self._has_colours = is_coloured(sys.stdout)

    def tell(self, line: Line) -> None:
        if self._screen.as_json or (self._screen.quiet and line.result.status in ("ok", "skipped")):
            return
        if self._skipped and (line.because != self._skipped[0].because or line.subject != self._skipped[0].subject):
            self._tell_skipped()
        if line.because:
            self._skipped.append(line)
            return
        self._show(line.result.status, f"{line.subject} {line.name}", line.result.text, line.result.remedy)

    def end(self) -> None:
        """Tell what is left."""
        if self._skipped:
            self._tell_skipped()

    def _tell_skipped(self) -> None:
        first, skipped = self._skipped[0], self._skipped
        self._skipped = []
        names = ", ".join(line.name for line in skipped)
        self._show(
            "skipped",
            f"{first.subject} {first.name}" if len(skipped) == 1 else first.subject,
            f"{'needs' if len(skipped) == 1 else f'{names}: need'} {first.because.replace('.', ' ')}",
            "",
        )

    def _show(self, status: Status, name: str, text: str, remedy: str) -> None:
        label = f"{SHOWN[status]:<{_STATUS_WIDTH}}"
        shown = click.style(label, fg=COLOURS[status], bold=status == "failed") if self._has_colours else label
        text, remedy = printable(text), printable(remedy)
        if not self._is_terminal:
            self._screen.line(f"{label} {name:<{_NAME_WIDTH}} {text}" + (f"; {MEND}{remedy}" if remedy else ""))
            return
        columns = shutil.get_terminal_size().columns
        indent = _STATUS_WIDTH + _NAME_WIDTH + 2
        is_narrow = columns < indent + _LEAST_WIDTH
        if is_narrow and indent + len(text) > columns:
            first, lines = "", _folded(text, columns - _STATUS_WIDTH - 1)
        else:
            first, *lines = _folded(text, columns - indent)
        self._screen.line(f" {name:<{_NAME_WIDTH}} {first}".rstrip(), mark=shown)
        indent = _STATUS_WIDTH + 1 if is_narrow else indent
        for each in (*lines, *(_folded(f"{MEND}{remedy}", columns - indent) if remedy else ())):
            self._screen.line(f"{' ' * indent}{each}")


def _folded(text: str, width: int) -> list[str]:
    """Return a text in lines; a word that is too long for one, such as a fingerprint, stays whole: it is copied."""
    return textwrap.wrap(text, max(width, 20), break_on_hyphens=False, break_long_words=False) or [""]


def _check_writable(path: Path) -> None:
    """Refuse a file that could not be written at the end.  Errors: OptionsError."""
    folder = path.absolute().parent
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise OptionsError(f"--report {path}: it cannot be written")


def _write_report(found: Probe, path: Path, *, hide_names: bool) -> None:
    """Errors: NtxError."""
    value: Any = plain(report_of(found, has_names=not hide_names))
    if hide_names:
        value = hidden(value, found)
    data = (json.dumps(value, indent=2, ensure_ascii=True) + "\n").encode()
    try:
        if path.exists() and not path.is_file():  # a terminal, a pipe: nothing to keep
            path.write_bytes(data)
        else:
            durable.replace_file(path.resolve(), data)
    except (OSError, TargetError) as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        raise NtxError(f"--report {path}: {why}: the report is not whole") from error
