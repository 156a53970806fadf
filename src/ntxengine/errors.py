"""Every error that ntxengine raises.

The class says what is left to the caller, the message says subject, action, numbers and cause, and the fields say
the same to programs.  `exit_code` is what `ntx` ends with (docs/errors.md has the table).  All of them can be pickled:
processes hand them to each other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from ntxengine import machine


class PortableError(Exception):
    """Base of every exception of the package: pickling keeps class, message, fields, notes and cause.

    Python's own way calls the class with the message alone, which fails where a field is required, and drops the cause.
    """

    def __reduce__(self) -> tuple[Callable[..., PortableError], tuple[Any, ...]]:
        return _made_again, (type(self), self.args, vars(self), _portable(self.__cause__))


def _made_again(
    kind: type[PortableError], args: tuple[Any, ...], fields: dict[str, Any], cause: BaseException | None
) -> PortableError:
    error = kind.__new__(kind, *args)
    vars(error).update(fields)
    if cause is not None:  # None too would be taken for `raise ... from None`
        error.__cause__ = cause
    return error


def _portable(cause: BaseException | None) -> BaseException | None:
    """Return `cause`, or what it says where it is not of Python itself, with nothing but plain values.

    Those of other libraries often cannot be pickled; and those of httpx carry the request, with its password.
    """
    if cause is None or isinstance(cause, PortableError):
        return cause
    has_plain_values = all(value is None or isinstance(value, str | int) for value in cause.args)
    if type(cause).__module__ == "builtins" and has_plain_values and vars(cause).keys() <= {"__notes__"}:
        return cause
    return NtxError(f"{type(cause).__name__}: {cause}")


class NtxError(PortableError):
    """Base of all: the work failed, and trying the same again will most likely fail again."""

    exit_code: ClassVar[int] = 1


class OptionsError(NtxError):
    """The arguments, the configuration or an input file are wrong: fix them."""

    exit_code: ClassVar[int] = 2


class MachineError(NtxError):
    """This machine cannot: no memory, no thread, no descriptor."""


class ToolError(NtxError):
    """A program that we start (qemu-nbd, qemu-img) is missing or failed."""


class MissingProgram(ToolError):
    """A program is not installed here; the message names the package."""


class NotFoundError(NtxError):
    """What was named does not exist: a VM, a repository, a point, a recovery point."""

    exit_code: ClassVar[int] = 10


class LockedError(NtxError):
    """Somebody else works on the same thing now: try later."""

    exit_code: ClassVar[int] = 11


class PrismError(NtxError):
    """Prism could not be used.

    `may_have_been_done` is true if the request was sent more than once, and an earlier try may have been executed: then
    also a clear no does not prove that nothing was changed.  `was_sent` is false if the last try never left: no
    connection, or no turn for it.  `is_of_element` is true if it was a Prism Element that a Prism Central named: others
    may be well.
    """

    may_have_been_done: bool = False
    was_sent: bool = True
    is_of_element: bool = False


class PrismConnectionError(PrismError):
    """No connection: host, port, route, or a certificate that is not trusted."""


class PrismTimeout(PrismError):
    """Prism did not answer in time: try later."""

    exit_code: ClassVar[int] = 75


class PrismBusy(PrismError):
    """Prism refused for load or rate (429, 503) on every retry: try later."""

    exit_code: ClassVar[int] = 75


class PrismStatusError(PrismError):
    """Prism answered, and the answer is no.

    `status` is the HTTP status, `reason` Prism's own code for it (may be empty).
    """

    def __init__(self, message: str, *, status: int, reason: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


class CredentialsError(PrismError):
    """User, password or token were refused."""

    exit_code: ClassVar[int] = 12


class PrismAnswerError(PrismError):
    """Prism's answer does not fit its own schema, or cannot be true: nothing was done with it."""


class TaskFailed(PrismError):
    """A Prism task ended in failure: final."""


class PrismProtected(PrismError):
    """Prism keeps what it was told to delete: somebody has to approve that, or it stays until it expires."""


class AttachError(NtxError):
    """The bytes of a recovery point could not be made readable on this machine."""


class OtherFailed(NtxError):
    """Another VM that was to be frozen with this one failed first: its own error says why."""


class AgentError(NtxError):
    """The agent could not be asked, or told something: what answers at its socket is not one that we understand."""


class AgentRefused(AgentError):
    """Its socket lets this user not in."""

    exit_code: ClassVar[int] = 12


class AgentSilent(AgentError):
    """It does not answer in time, or closed the connection: try later."""

    exit_code: ClassVar[int] = 75


class ControlPlaneError(NtxError):
    """A control plane could not be told of an export, said that it failed, or never said that it is done."""


class ControlPlaneTimeout(ControlPlaneError):
    """A control plane did not say in time that it is done: try later."""

    exit_code: ClassVar[int] = 75


class RepositoryError(NtxError):
    """The repository is damaged, or not a repository."""


class StateError(NtxError):
    """What the agent remembers cannot be read or written."""


class ChecksumMismatch(NtxError):
    """What was read back is not what was captured.  Never retried silently.

    `offsets` are the first differing blocks in bytes, `blocks` is how many differ.
    """

    def __init__(self, message: str, *, offsets: tuple[int, ...] = (), blocks: int = 0) -> None:
        super().__init__(message)
        self.offsets = offsets
        self.blocks = blocks


class PlaceError(NtxError):
    """An error at a place of a device: `offset` and `length` in bytes (both 0 if it is not about one place)."""

    def __init__(self, message: str, *, offset: int = 0, length: int = 0, errno: int = 0) -> None:
        super().__init__(message)
        self.offset = offset
        self.length = length
        self.errno = errno


class SourceError(PlaceError):
    """The source failed at `offset`: final."""


class TargetError(PlaceError):
    """The target failed at `offset`."""


class NbdError(PlaceError):
    """An NBD server failed us."""


class NbdNegotiationError(NbdError):
    """This server cannot do what is needed: asking again will not help."""


class NbdProtocolError(NbdError):
    """The server broke the protocol: the connection was dropped."""


class NbdReplyError(NbdError):
    """The server refused one request at `offset`."""


class TransferTimeout(PlaceError):
    """Neither end answered in time."""

    exit_code: ClassVar[int] = 75


class Cancelled(NtxError):
    """The transfer was stopped by us."""

    exit_code: ClassVar[int] = 130


# By the names in enum ntx_error_class, csrc/ntx.h, without NTX_E_.
_FROM_CORE: dict[str, type[NtxError]] = {
    "OPTIONS": OptionsError,
    "SYSTEM": MachineError,
    "DEVICE": PlaceError,
    "SOURCE": SourceError,
    "TARGET": TargetError,
    "NEGOTIATION": NbdNegotiationError,
    "PROTOCOL": NbdProtocolError,
    "REPLY": NbdReplyError,
    "TIMEOUT": TransferTimeout,
    "CANCELLED": Cancelled,
}


def from_core(error_class: str, code: int, offset: int, length: int, text: str) -> NtxError:
    """Turn a filled `struct ntx_error` into the exception that it means.  The only place that does."""
    kind = _FROM_CORE[error_class]
    # What a server says that it lacks is not what this machine lacks.
    if kind is MachineError or (kind is not NbdReplyError and machine.is_open_limit(-code)):
        return MachineError(f"{text}{machine.remedy(-code)}")
    if issubclass(kind, PlaceError):
        return kind(text, offset=offset, length=length, errno=-code)
    return kind(text)


def machine_error(action: str, cause: BaseException) -> MachineError | None:
    """Return the error for an exception that means a limit of this machine, None if it means another thing."""
    fault = machine.fault(cause)
    return MachineError(f"{action}: {fault}") if fault else None
