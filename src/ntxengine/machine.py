"""Limits of this machine: which one was hit, how large it is, and how to raise it."""

from __future__ import annotations

import errno
import os
import resource
import tempfile

_ANY = "any number of"
_NO_THREAD = "can't start new thread"
"""What Python says of it: a RuntimeError without a code."""


def remedy(code: int) -> str:
    """Return which limit an errno means and how to raise it, to go behind a message; "" if it means none.

    EAGAIN is meant as that of starting a thread or a process.
    """
    if code == errno.EMFILE:
        most = _said(resource.RLIMIT_NOFILE)
        return f"; this process may have {most} files open at once: allow more (ulimit -n)"
    if code == errno.ENFILE:
        return "; all programs together have as many files open as this machine allows (sysctl fs.file-max)"
    if code == errno.EAGAIN:
        most = _said(resource.RLIMIT_NPROC)
        # The stack of a thread that has no memory is refused with the same code.
        memory = ", or more memory (ulimit -v)" if _said(resource.RLIMIT_AS) != _ANY else ""
        return (
            f"; this user may have {most} processes and threads: allow more (ulimit -u, or the container's pids limit)"
            f"{memory}"
        )
    if code == errno.ENOMEM:
        return "; give it more memory (ulimit -v, the container's memory limit)"
    return ""


def is_open_limit(code: int) -> bool:
    """Say whether an errno of opening something means a limit of this machine, and not what was opened."""
    return code in (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


def fault(cause: BaseException) -> str:
    """Return the limit that an exception means, and its remedy; "" if it means another thing."""
    if isinstance(cause, OSError) and is_open_limit(cause.errno or 0):
        return f"{cause.strerror}{remedy(cause.errno or 0)}"
    if isinstance(cause, MemoryError):
        return f"no memory{remedy(errno.ENOMEM)}"
    if isinstance(cause, RuntimeError) and str(cause) == _NO_THREAD:
        return f"no thread can be started{remedy(errno.EAGAIN)}"
    return ""


def temporary_folder() -> str:
    """Return where temporary files go.

    Errors: OSError, the true one: without a free descriptor `tempfile` says that no folder can be used.
    """
    try:
        return tempfile.gettempdir()
    except FileNotFoundError:
        os.close(os.open("/", os.O_RDONLY | os.O_CLOEXEC))
        raise


def _said(limit: int) -> str:
    soft, _ = resource.getrlimit(limit)
    return _ANY if soft == resource.RLIM_INFINITY else f"{soft}"
