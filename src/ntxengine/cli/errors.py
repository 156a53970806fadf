"""From exceptions to one line on stderr and an exit code.  The only place that does; docs/errors.md has the table."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from ntxengine import machine
from ntxengine.cli.streams import OutputError
from ntxengine.cli.text import printable
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
    """Run `command`; report what it raises in one line on stderr; return what the process should exit with."""
    try:
        result = command()
    except click.exceptions.Exit as exc:
        return exc.exit_code
    except (KeyboardInterrupt, click.Abort):
        return _say("interrupted", BASE_OF_SIGNALS + signal.SIGINT)
    except click.exceptions.NoArgsIsHelpError as exc:
        exc.show()
        return USAGE
    except click.ClickException as exc:
        return _say(_usage_line(exc), exc.exit_code)
    except OutputError as exc:
        # A reader that went away (`ntx points | head`) has seen enough: nothing to talk about.
        return _say(str(exc), FAILED) if str(exc) else FAILED
    except NtxError as exc:
        return _say(str(exc), code_of(exc))
    except BaseExceptionGroup as group:
        return _group(group)
    except OSError as exc:
        return _os_error(exc)
    except Exception as exc:  # noqa: BLE001  the last border: one line instead of a traceback, whatever it is
        return _unexpected(exc)
    return result if isinstance(result, int) else 0


def code_of(error: NtxError) -> int:
    """Return the exit code that `error` means."""
    return BASE_OF_SIGNALS + error.signal_number if isinstance(error, Interrupted) else error.exit_code


def error_fields(error: Exception) -> dict[str, object]:
    """Return an error as `--json` has it: its class, the line that is said of it, and what the process exits with."""
    if isinstance(error, click.ClickException):
        message, code = error.format_message(), error.exit_code
    elif isinstance(error, NtxError):
        message, code = str(error), code_of(error)
    else:
        message, code = _os_line(error) if isinstance(error, OSError) else _unexpected_line(error), FAILED
    return {"class": type(error).__name__, "message": " ".join(message.split()), "exit_code": code}


@contextmanager
def as_usage(option: str) -> Iterator[None]:
    """Turn an OptionsError about the value of `option` into a usage error that names the option."""
    try:
        yield
    except OptionsError as exc:
        raise click.BadParameter(str(exc), param_hint=option) from exc


def _usage_line(exc: click.ClickException) -> str:
    ctx = exc.ctx if isinstance(exc, click.UsageError) else None
    if ctx is None:
        return exc.format_message()
    path = ctx.command_path
    return f"{exc.format_message().rstrip('.')}.  See: {path} --help"


def _group(group: BaseExceptionGroup[BaseException]) -> int:
    """Report the first error of ours in a group: the others are echoes or accompany it."""
    for leaf in _leaves(group):
        if isinstance(leaf, NtxError):
            return _say(str(leaf), code_of(leaf))
    return _unexpected(next(_leaves(group)))


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for member in group.exceptions:
        if isinstance(member, BaseExceptionGroup):
            yield from _leaves(member)
        else:
            yield member


def _os_error(exc: OSError) -> int:
    """Report a failure of the system."""
    logger.debug("the system call that failed", exc_info=exc)
    return _say(_os_line(exc), FAILED)


def _os_line(exc: OSError) -> str:
    subject = f"{exc.filename}: " if exc.filename else ""
    return f"{subject}{machine.fault(exc) or exc.strerror or exc}"


def _unexpected(exc: BaseException) -> int:
    logger.debug("the traceback of the unexpected error", exc_info=exc)
    return _say(_unexpected_line(exc), FAILED)


def _unexpected_line(exc: BaseException) -> str:
    if fault := machine.fault(exc):
        return fault
    detail = f": {exc}" if str(exc) else ""
    hint = "" if logger.isEnabledFor(logging.DEBUG) else "; run it again with --debug for the traceback"
    return f"a defect of ntx: unexpected {type(exc).__name__}{detail}{hint}"


def _say(message: str, code: int) -> int:
    click.echo(f"ntx: {printable(' '.join(message.split()))}", err=True)
    return code
