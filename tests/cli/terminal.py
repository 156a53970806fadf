"""Running a program with stderr on a terminal, and seeing what a person sees there."""

from __future__ import annotations

import os
import pty
import re
import subprocess

from tests.cli.ntx import environment

_PIECE = re.compile(r"\x1b\[([?0-9;]*)([A-Za-z])|([\r\n])|([^\x1b\r\n]+)")


def on_a_terminal(*command: str, env: dict[str, str], is_stdout_too: bool = False) -> str:
    """Run a program with stderr (and stdout) on a terminal, and return what was written there."""
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            command,
            env=environment(env),
            stdin=subprocess.DEVNULL,
            stdout=theirs if is_stdout_too else subprocess.DEVNULL,
            stderr=theirs,
        )
        os.close(theirs)
        written = b""
        try:
            while chunk := os.read(ours, 65536):
                written += chunk
        except OSError:  # EIO: the other end is closed
            pass
        assert process.wait(60) == 0, written
    finally:
        os.close(ours)
    return written.decode()


def what_is_seen(written: str) -> list[str]:
    """Return the lines that stand on a terminal after what was written: it moves up, erases lines, and writes over."""
    lines, row, column = [""], 0, 0
    for code, command, control, text in _PIECE.findall(written):
        if command == "A":
            row = max(row - int(code or 1), 0)
        elif command == "K":
            lines[row] = ""
        elif control == "\r":
            column = 0
        elif control == "\n":
            row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
        elif text:
            line = lines[row].ljust(column)
            lines[row] = line[:column] + text + line[column + len(text) :]
            column += len(text)
    return [line.rstrip() for line in lines if line.strip()]
