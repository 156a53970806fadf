"""Every exception of the package can be sent to another process: nothing that it says is lost on the way."""

from __future__ import annotations

import errno
import importlib
import inspect
import pickle
import pkgutil
from typing import Any

import httpx
import pytest

import ntxengine
from ntxengine.errors import MachineError, NbdReplyError, NtxError, PrismConnectionError, SourceError, from_core

MESSAGE = "NBD write failed: offset 4194304 length 262144: No space left on device"
PLACE: dict[str, Any] = {"offset": 4194304, "length": 262144, "errno": 28}

PLAIN = [
    "AgentError", "AgentRefused", "AgentSilent", "AttachError", "BadHeader", "BodyTooLarge",
    "Cancelled", "CannotMap", "CannotResume", "CheckUnknown", "ControlPlaneError", "ControlPlaneTimeout",
    "CredentialsError", "Damaged", "DamagedMarker",
    "FingerprintError", "HookFailed", "ListRefused", "LockedError", "LoginUnknown",
    "MachineError", "MissingProgram", "NotFoundError", "NotOurs", "NtxError", "OptionsError", "OtherFailed",
    "PortableError", "PortTaken", "PrismAnswerError", "PrismBusy",
    "PrismConnectionError", "PrismError", "PrismProtected", "PrismTimeout", "RepositoryError",
    "RepositoryUnusable", "RunTimeout",
    "ServerEnded", "SomeFailed",
    "StartTimeout", "StateError", "TaskFailed", "ToolError", "WorkerUnusable", "WrongSize",
    "_Damaged", "_Differs", "_NotReached", "_Refused", "_SaysNothingError", "_Strange", "_TryAgain",
]  # fmt: skip
"""Classes that hold a message and nothing else."""

WITH_PLACE = [
    "NbdError", "NbdNegotiationError", "NbdProtocolError", "NbdReplyError", "PlaceError", "SourceError", "TargetError",
    "TransferTimeout",
]  # fmt: skip

SAMPLES: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    **{name: ((MESSAGE,), {}) for name in PLAIN},
    **dict.fromkeys(WITH_PLACE, ((MESSAGE,), PLACE)),
    "ApiError": ((429, "RATE_LIMITED", MESSAGE), {"code": "DP-1", "headers": {"retry-after": "1"}}),
    "BuiltOnDamage": ((MESSAGE,), {"offsets": (0, 65536), "blocks": 2}),
    "ChecksumMismatch": ((MESSAGE,), {"offsets": (0, 65536), "blocks": 2}),
    "ConfigError": ((MESSAGE,), {"problems": ("f.yaml:1: a: unknown key", "f.yaml:2: b: unknown key"), "found": ()}),
    "Interrupted": ((MESSAGE,), {"signal_number": 2}),
    "NoDriver": ((MESSAGE,), {"reason": "qemu has no nfs driver here"}),
    "OutputError": ((MESSAGE,), {"errno": 32}),
    "PrismStatusError": ((MESSAGE,), {"status": 404, "reason": "NOT_FOUND"}),
    "RunFailed": ((MESSAGE,), {"exit_code": 3}),
    "SchemaError": ((MESSAGE,), {"place": "$.vmExtId", "status": 422}),
    "TaskFailure": ((MESSAGE,), {"code": "DP-20000"}),
    "_ConnectionBrokenError": ((PrismConnectionError(MESSAGE),), {"may_repeat": True, "was_sent": True}),
}
"""How one of each class is made: positional arguments, and every keyword that it takes."""


class Unportable(Exception):
    """As some of the libraries below us: it cannot be made again from its message."""

    def __init__(self, message: str, *, request: object) -> None:
        super().__init__(message)
        self.request = request


def exception_classes() -> dict[str, type[Exception]]:
    """Return every exception class of the package by its name."""
    for module in pkgutil.walk_packages(ntxengine.__path__, "ntxengine."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found: dict[str, type[Exception]] = {}
    unseen = [Exception]
    while unseen:
        for kind in unseen.pop().__subclasses__():
            unseen.append(kind)
            if kind.__module__.startswith("ntxengine."):
                found[kind.__name__] = kind
    return found


CLASSES = exception_classes()


def portrait(error: BaseException | None) -> object:
    """Return all that an exception says, so that two can be compared."""
    if error is None:
        return None
    fields = {name: portrait(v) if isinstance(v, Exception) else v for name, v in vars(error).items()}
    return type(error), str(error), error.args, fields, portrait(error.__cause__)


def test_every_exception_class_has_a_sample() -> None:
    assert CLASSES.keys() == SAMPLES.keys()


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_an_exception_survives_pickling_with_all_that_it_says(name: str) -> None:
    positional, fields = SAMPLES[name]
    parameters = inspect.signature(CLASSES[name].__init__).parameters.values()
    keywords = {parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY}
    assert keywords <= fields.keys(), f"the sample of {name} says nothing of {keywords - fields.keys()}"
    error = CLASSES[name](*positional, **fields)
    error.add_note("NTX_PRISM=https://prism:9440")
    error.__cause__ = SourceError(MESSAGE, **PLACE)
    error.__cause__.__cause__ = OSError(28, "No space left on device")

    arrived = pickle.loads(pickle.dumps(error))

    assert portrait(arrived) == portrait(error)


@pytest.mark.parametrize("request_of_it", [None, lambda: None], ids=["fails to load", "fails to dump"])
def test_a_cause_that_cannot_be_pickled_is_told_in_words(request_of_it: object) -> None:
    error = NtxError(MESSAGE)
    error.__cause__ = Unportable("no route to host", request=request_of_it)

    arrived = pickle.loads(pickle.dumps(error))

    assert portrait(arrived.__cause__) == portrait(NtxError("Unportable: no route to host"))


def test_a_pickled_error_gives_no_password_away() -> None:
    """An exception of httpx holds the whole request."""
    request = httpx.Request("GET", "https://prism:9440/api", headers={"Authorization": "Basic U0VTQU1F"})
    error = NtxError(MESSAGE)
    error.__cause__ = httpx.ConnectError("no route to host", request=request)
    nested = NtxError(MESSAGE)
    nested.__cause__ = ExceptionGroup("several", [error.__cause__])

    pickled = pickle.dumps(error), pickle.dumps(nested)

    assert not any(b"U0VTQU1F" in data for data in pickled)
    assert str(pickle.loads(pickled[0]).__cause__) == "ConnectError: no route to host"


def test_what_a_server_lacks_is_not_what_this_machine_lacks() -> None:
    theirs = from_core("REPLY", -errno.ENOMEM, 0, 512, "nbd://x/: read failed: Cannot allocate memory")
    ours = from_core("DEVICE", -errno.ENOMEM, 0, 0, "nbd://x/: connecting failed: Cannot allocate memory")

    assert type(theirs) is NbdReplyError
    assert "ulimit" not in str(theirs)
    assert type(ours) is MachineError
