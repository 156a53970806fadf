"""From exceptions to one line on stderr, an exit code, and an object for programs.

The only place that does; docs/errors.md has the table.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from ntxengine import machine
from ntxengine.cli.messages import messages
from ntxengine.cli.reply import reply
from ntxengine.cli.text import printable
from ntxengine.cli.variables import hint, notes
from ntxengine.errors import NtxError, OptionsError

logger = logging.getLogger(__name__)

FAILED = 1
USAGE = 2
SOME_FAILED = 3
BASE_OF_SIGNALS = 128


class SomeFailed(NtxError):
    """Some of several items failed; each was reported when it did."""

    exit_code = SOME_FAILED


class Interrupted(NtxError):
    """The person, or whoever runs us, told us to stop."""

    def __init__(self, message: str, *, signal_number: int) -> None:
        super().__init__(message)
        self.signal_number = signal_number


def exit_code_of(command: Callable[[], object]) -> int:
    """Run `command`; report what it raises; return what the process should exit with."""
    try:
        result = command()
    except click.exceptions.Exit as exc:
        return exc.exit_code
    except click.exceptions.NoArgsIsHelpError as exc:
        exc.show()
        return USAGE
    except (KeyboardInterrupt, click.Abort):
        return _report(Interrupted("interrupted", signal_number=signal.SIGINT))
    except BaseExceptionGroup as group:
        return _report(_first_of(group))
    except Exception as exc:  # noqa: BLE001  the last border: one line instead of a traceback, whatever it is
        return _report(exc)
    return result if isinstance(result, int) else 0


def _report(error: BaseException) -> int:
    """Say what failed, in one line and in the JSON object of the command, and return the exit code that it means."""
    if not isinstance(error, NtxError | click.ClickException):
        logger.debug("the traceback of the error", exc_info=error)
    fields = error_fields(error)
    # A reader that went away (`ntx points | head`) has seen enough: nothing to talk about.
    if fields["message"]:
        line = _usage_line(error) if isinstance(error, click.ClickException) else str(fields["message"])
        messages.say("error", f"ntx: {printable(' '.join(line.split()))}", fields=fields)
    reply.fail(fields)
    return int(str(fields["exit_code"]))


def code_of(error: NtxError) -> int:
    """Return the exit code that `error` means."""
    return BASE_OF_SIGNALS + error.signal_number if isinstance(error, Interrupted) else error.exit_code


def error_fields(error: BaseException) -> dict[str, object]:
    """Return an error as `--json` has it: its class, the line that is said of it, what the process exits with.

    With what the class knows beside: `offset`, `length` and `errno` of a SourceError, `status` of a PrismStatusError.
    """
    known: dict[str, object] = {}
    if isinstance(error, click.ClickException):
        message, code = _usage_text(error), error.exit_code
    elif isinstance(error, NtxError):
        message, code = f"{error}{notes(error)}", code_of(error)
        known = {name: value for name, value in vars(error).items() if isinstance(value, int | str | tuple)}
    elif isinstance(error, OSError):
        message, code = _os_line(error), FAILED
    else:
        message, code = _unexpected_line(error), FAILED
    return {"class": type(error).__name__, "message": " ".join(message.split()), "exit_code": code, **known}


@contextmanager
def as_usage(option: str) -> Iterator[None]:
    """Turn an OptionsError about the value of `option` into a usage error that names the option."""
    try:
        yield
    except OptionsError as exc:
        raise click.BadParameter(str(exc), param_hint=option) from exc


def _usage_line(exc: click.ClickException) -> str:
    ctx = exc.ctx if isinstance(exc, click.UsageError) else None
    text = _usage_text(exc)
    if ctx is None:
        return text
    return f"{text if text.endswith('?') else text.rstrip('.') + '.'}  See: {ctx.command_path} --help"


def _usage_text(exc: click.ClickException) -> str:
    """Return what is wrong with the arguments; a value that came from a variable is said to be that of the variable."""
    if isinstance(exc, click.BadParameter) and not isinstance(exc, click.MissingParameter) and exc.param_hint is None:
        exc.param_hint = hint(exc)
    return f"{exc.format_message()}{notes(exc)}"


def _first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first error of ours in a group: the others are echoes or accompany it."""
    return next((leaf for leaf in _leaves(group) if isinstance(leaf, NtxError)), next(_leaves(group)))


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for member in group.exceptions:
        if isinstance(member, BaseExceptionGroup):
            yield from _leaves(member)
        else:
            yield member


def _os_line(exc: OSError) -> str:
    subject = f"{exc.filename}: " if exc.filename else ""
    return f"{subject}{machine.fault(exc) or exc.strerror or exc}"


def _unexpected_line(exc: BaseException) -> str:
    if fault := machine.fault(exc):
        return fault
    detail = f": {exc}" if str(exc) else ""
    hint = "" if logger.isEnabledFor(logging.DEBUG) else "; run it again with --debug for the traceback"
    return f"a defect of ntx: unexpected {type(exc).__name__}{detail}{hint}"
