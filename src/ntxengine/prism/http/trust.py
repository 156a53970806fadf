"""How the certificate of a Prism is judged, and the file of those that were trusted on first use."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from ntxengine.errors import OptionsError

MAX_FILE_SIZE = 4 * 1024 * 1024

_FINGERPRINT = re.compile(r"(?:sha-?256[:=])?((?:[0-9a-f]{2}:?){31}[0-9a-f]{2})", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_LINE = re.compile(r"(\S+) ([0-9a-f]{64})")


@dataclass(frozen=True)
class Trust:
    """How a certificate is judged; the first of these that is given decides.

    `insecure`: any is good.  `fingerprints`: one of these (SHA-256), whoever signed it, for whatever name and time.
    `trust_file`: the one that the host showed first.  Else it must be signed by an authority of `ca_file` (None: those
    of the machine), and be for the host, or for `name` where that is given.
    Errors: OptionsError if a part cannot be right.
    """

    ca_file: str | None = None
    insecure: bool = False
    fingerprints: tuple[str, ...] = ()
    name: str | None = None
    trust_file: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "fingerprints", tuple(check_fingerprint(text) for text in self.fingerprints))
        if self.insecure and self.fingerprints:
            raise OptionsError("a fingerprint and insecure contradict each other: give one of them")
        if self.name is not None and not _NAME.fullmatch(self.name):
            raise OptionsError("the name in a certificate is a host name, such as cvm.nutanix.local")


def check_fingerprint(text: str) -> str:
    """Return a SHA-256 fingerprint as 64 digits, however it was written.  Errors: OptionsError."""
    match = _FINGERPRINT.fullmatch(text.strip())
    if match is None:
        raise OptionsError(
            "a fingerprint is the SHA-256 of a certificate: 64 hexadecimal digits, with or without colons, as"
            " `openssl x509 -noout -fingerprint -sha256` prints it"
        )
    return match[1].replace(":", "").lower()


def shown(fingerprint: str) -> str:
    """Return a fingerprint as people compare it: AB:CD:..."""
    return ":".join(fingerprint[at : at + 2] for at in range(0, len(fingerprint), 2)).upper()


def check_only_ours(status: os.stat_result, subject: str) -> None:
    """Refuse a file that says whom to trust and that anybody can change.  Errors: OptionsError."""
    if status.st_mode & stat.S_IWOTH:
        raise OptionsError(f"{subject} can be changed by anybody: chmod o-w it, once you know what stands in it")


def known_or_remembered(path: Path, place: str, fingerprint: str) -> tuple[str, bool]:
    """Return the fingerprint that `place` (host:port) is known by, and whether it is new: if so, it is remembered.

    Reads and writes the file, under a lock, and syncs it.  Errors: OptionsError.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600), "r+b") as file:
            check_only_ours(os.fstat(file.fileno()), f"the file of trusted certificates {str(path)!r}")
            fcntl.flock(file, fcntl.LOCK_EX)
            content = file.read(MAX_FILE_SIZE + 1)
            known = _known(content, path).get(place)
            if known is None:
                start = "" if content.endswith(b"\n") or not content else "\n"
                file.write(f"{start}{place} {fingerprint}\n".encode())
                file.flush()
                os.fsync(file.fileno())
            return known or fingerprint, known is None
    except OSError as exc:
        raise OptionsError(f"the file of trusted certificates {str(path)!r}: {exc.strerror}") from exc


def _known(content: bytes, path: Path) -> dict[str, str]:
    """Return what the lines say; one that cannot be read might be the one that matters."""
    known: dict[str, str] = {}
    lines: list[str] = []
    with contextlib.suppress(UnicodeDecodeError):
        lines = content.decode().splitlines() if len(content) <= MAX_FILE_SIZE else [""]
    if content and not lines:
        lines = [""]
    for number, line in enumerate(lines, 1):
        match = _LINE.fullmatch(line)
        if match is None and line.startswith("#"):
            continue
        if match is None or match[1] in known:
            raise OptionsError(
                f"the file of trusted certificates {str(path)!r}: line {number} is not `HOST:PORT SHA256`, or the"
                " second of its host: correct it"
            )
        known[match[1]] = match[2]
    return known
