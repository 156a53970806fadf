"""A program that the kernel refuses one system call, as a sandbox or a container does."""

from __future__ import annotations

import ctypes
import platform
import struct
from collections.abc import Callable

IO_URING_SETUP, IO_URING_ENTER, CLONE3 = 425, 426, 435  # the same on every architecture: younger than the common table
VMSPLICE = 278 if platform.machine() == "x86_64" else 75

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2
_LOAD_WORD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _FAIL_WITH = 0x7FFF0000, 0x00050000


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def denying(number: int, code: int) -> Callable[[], None]:
    """Return what to run in the child before it becomes the program: system call `number` then fails with `code`."""
    instructions = b"".join(
        struct.pack("=HBBI", *each)
        for each in (
            (_LOAD_WORD, 0, 0, 0),  # the number of the call
            (_JUMP_IF_EQUAL, 0, 1, number),
            (_RETURN, 0, 0, _FAIL_WITH | code),
            (_RETURN, 0, 0, _ALLOW),
        )
    )
    program = _Program(len(instructions) // 8, instructions)
    libc = ctypes.CDLL(None, use_errno=True)

    def deny() -> None:
        for arguments in (
            (_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
            (_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0),
        ):
            if libc.prctl(*arguments) != 0:
                raise OSError(ctypes.get_errno(), "prctl")

    return deny
