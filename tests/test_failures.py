"""The failure matrix: what an end can do to a copy, and how the copy ends.  docs/errors.md has the same table.

Real servers do it (nbdkit with its filters, killed, stopped), and files, wherever they can be made to.  What none does
that is installed is played by tests/fakes/nbd.py: a pause among clients that lose patience, an answer that never comes
beside others that do, an error that nobody knows, EOVERFLOW, a reply that breaks the protocol, bytes that are not what
was stored.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import re
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from ntxengine.dataplane import checkpoints as due
from ntxengine.dataplane.checkpoints import Checkpoints
from ntxengine.dataplane.copy import CopyReport, copy, verify
from ntxengine.dataplane.manifest import Manifest
from ntxengine.dataplane.open import open_source, open_target
from ntxengine.dataplane.retry import retrying
from ntxengine.errors import (
    ChecksumMismatch,
    NbdNegotiationError,
    NbdProtocolError,
    NbdReplyError,
    NtxError,
    OptionsError,
    SourceError,
    TargetError,
    TransferTimeout,
)
from tests.support.failing import (
    LIMIT_S,
    MIB,
    SIZE,
    End,
    OnTheWay,
    Scene,
    Side,
    TakesTlsAwayThen,
    breaks_the_protocol,
    cannot_flush,
    dies_and_comes_back,
    encrypted,
    fills_up,
    flips_a_bit,
    forgets_one,
    greets,
    hangs_up_within_one,
    has_another_export,
    has_no_tls,
    is_cut,
    is_not_there,
    is_paused,
    is_told_to_end,
    is_too_small,
    knows_another_error,
    never_flushes,
    played,
    refuses_once_with_shutdown,
    served,
    shuts_down_and_comes_back,
    stalls_and_comes_back,
    stays_away,
    trickles_one,
    troubled,
    zeroes_half_a_mib_at_once,
)

pytestmark = pytest.mark.slow

DOCS = Path(__file__).parents[1] / "docs" / "errors.md"

# -------------------------------------------------------------------------------------------------- the matrix


@dataclass(frozen=True)
class Case:
    """`source` and `target` are how the copy ends if it is that end: "goes on", "retries", or what it fails with, and
    what that says; "" where it cannot happen."""

    fault: str
    end: End
    source: str | type[NtxError] = ""
    target: str | type[NtxError] = ""
    says: str = ""
    verifies: bool = False
    needs_root: bool = False


SSH = b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n"
ESHUTDOWN = ("--filter=error", "error=ESHUTDOWN", "error-rate=100%", "error-file={}/trigger")
REFUSES = ("--filter=error", "error-pread-rate=100%", "error-pwrite-rate=100%", "error-zero-rate=100%")

MATRIX = [
    Case("a server is slow", served("--filter=delay", "rdelay=50ms", "wdelay=50ms"), "goes on", "goes on"),
    Case("it gives so many bytes a second", served("--filter=rate", "rate=64M"), "goes on", "goes on"),
    Case("it accepts fewer connections than it promised", served("--filter=limit", "limit=1"), "goes on", "goes on"),
    Case(
        "it insists on blocks of 64 KiB, of 256 KiB at most",
        served(
            "--filter=blocksize-policy",
            "blocksize-minimum=64K",
            "blocksize-preferred=64K",
            "blocksize-maximum=256K",
            "blocksize-error-policy=error",
        ),
        "goes on",
        "goes on",
    ),
    Case("it has no structured replies, so no block status", served("--no-sr"), "goes on", "goes on"),
    Case("it fails to tell its block status", served("--filter=error", "error-extents-rate=100%"), "goes on"),
    Case("it has no `WRITE_ZEROES`", served("--filter=nozero"), target="goes on"),
    Case("it refuses `WRITE_ZEROES` of a long range", played(zeroes_half_a_mib_at_once), target="goes on"),
    Case(
        "it is told to end, and waits for its clients",
        troubled(is_told_to_end, "--filter=exitwhen", "exit-when-file-created={}/stop", "exit-when-poll=1"),
        "goes on",
        "goes on",
    ),
    Case("it dies, and is started again", troubled(dies_and_comes_back), "retries", "retries"),
    Case("it stalls for longer than `--timeout`", stalls_and_comes_back, "retries", "retries"),
    Case("it is paused for longer than that, and accepts connections", is_paused, "retries", "retries"),
    Case("it never answers one request, and all others", played(forgets_one, timeout_s=0.5), "retries", "retries"),
    Case("... or trickles its answer, byte by byte", played(trickles_one, timeout_s=0.3), "retries", "retries"),
    Case("it hangs up within an answer", played(hangs_up_within_one), "retries", "retries"),
    Case(
        "it shuts down (`ESHUTDOWN`), and comes back",
        troubled(shuts_down_and_comes_back, *ESHUTDOWN),
        "retries",
        "retries",
    ),
    Case("it shuts down one connection", played(refuses_once_with_shutdown), "retries", "retries"),
    Case(
        "it dies, and stays away",
        troubled(stays_away, is_tried_once_more=True),
        SourceError,
        TargetError,
        "Connection refused",
    ),
    Case("it is not there when the copy begins", is_not_there, SourceError, TargetError, "No such file"),
    Case("it takes a connection, and says nothing", greets(b""), TransferTimeout, TransferTimeout, "time limit"),
    Case("it is no NBD server", greets(SSH), NbdProtocolError, NbdProtocolError, "this is not an NBD server"),
    Case("it has no such export", has_another_export, NbdNegotiationError, NbdNegotiationError, "no such export"),
    Case("it is asked for TLS, and has none", has_no_tls, NbdNegotiationError, NbdNegotiationError, "cannot be had"),
    Case("somebody on the way changes a byte of what goes through TLS", encrypted(OnTheWay), "retries", "retries"),
    Case(
        "... and says then that there is no TLS",
        encrypted(TakesTlsAwayThen, is_tried_once_more=True),
        NbdNegotiationError,
        NbdNegotiationError,
        "does not offer it",
    ),
    Case("it refuses a request: `EIO`", served(*REFUSES), NbdReplyError, NbdReplyError, "Input/output error"),
    Case("... `EPERM`", served(*REFUSES, "error=EPERM"), NbdReplyError, NbdReplyError, "Operation not permitted"),
    Case("... `ENOMEM`", served(*REFUSES, "error=ENOMEM"), NbdReplyError, NbdReplyError, "Cannot allocate memory"),
    Case("... `ENOSPC`", served(*REFUSES, "error=ENOSPC"), target=NbdReplyError, says="No space left on device"),
    Case(
        "... with an error that nobody knows",
        played(knows_another_error),
        NbdReplyError,
        NbdReplyError,
        "Invalid argument",
    ),
    Case("it breaks the protocol", played(breaks_the_protocol), NbdProtocolError, NbdProtocolError, "wrong magic"),
    Case("it is read-only", served("-r"), target=NbdNegotiationError, says="read-only"),
    Case("it has less room than the source has bytes", is_too_small, target=OptionsError, says="too small"),
    Case("it refuses to flush", played(cannot_flush), target=NbdReplyError, says="Input/output error"),
    Case(
        "it never answers the flush",
        played(never_flushes, flush_timeout_s=0.2, is_tried_once_more=True),
        target=TransferTimeout,
        says="flush failed",
    ),
    Case(
        "it flips a bit of what is read back",
        played(flips_a_bit),
        ChecksumMismatch,
        ChecksumMismatch,
        "not what was captured",
        verifies=True,
    ),
    Case("a file is cut while it is read", is_cut, source=SourceError),
    Case("the file system is full", fills_up, target=TargetError, says="No space left", needs_root=True),
]


def expectation(case: Case, side: Side) -> str | type[NtxError]:
    return case.source if side == "source" else case.target


ROWS = [
    pytest.param(case, side, id=f"{side}-{case.fault}")
    for case in MATRIX
    for side in ("source", "target")
    if expectation(case, side)
]


# ---------------------------------------------------------------------------------------------------- the copies


def make_disk(path: Path, seed: int) -> Path:
    """Data, with zeros between it and a MiB of them at the end."""
    block = bytes((at * seed) % 251 + 1 for at in range(MIB - MIB // 4))
    with open(path, "wb") as file:
        for start in range(0, SIZE - MIB, MIB):
            file.seek(start)
            file.write(block)
        file.truncate(SIZE)
    return path


@pytest.fixture
def scene(tmp_path: Path, case: Case, side: Side, request: pytest.FixtureRequest) -> Scene:
    make_disk(tmp_path / "source", 7)
    (tmp_path / "target").write_bytes(b"\xee" * SIZE)  # so that it shows what was not written
    small_fs = request.getfixturevalue("small_fs") if case.needs_root else None
    return Scene(side, tmp_path, tmp_path / side, small_fs)


def what_is_open() -> tuple[list[str], int]:
    """What descriptors refer to, and how many threads there are besides those that asyncio keeps."""
    gc.collect()
    found = []
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # that of listdir()
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
    kept = sum(thread.name.startswith("asyncio") for thread in threading.enumerate())
    return sorted(found), len(os.listdir("/proc/self/task")) - kept


async def check_nothing_is_left(before: tuple[list[str], int]) -> None:
    until = time.monotonic() + LIMIT_S
    while what_is_open() != before and time.monotonic() < until:
        await asyncio.sleep(0.01)  # a thread that has said its last word may take a moment to go
    assert what_is_open() == before


async def run(scene: Scene, failing: str, checkpoints: Checkpoints, *, verifies: bool) -> CopyReport:
    """Copy, going on after each loss, and compare what is there then."""
    source_name, target_name = failing, str(scene.folder / "target")
    if scene.side == "target":
        source_name, target_name = str(scene.folder / "source"), failing
    timeout_s = scene.options.timeout_s
    with Manifest.temporary(size=SIZE) as manifest:

        async def once() -> CopyReport:
            async with (
                open_source(source_name, timeout_s=timeout_s, connection=scene.connection) as source,
                open_target(
                    target_name, source=source, overwrite=True, timeout_s=timeout_s, connection=scene.connection
                ) as target,
            ):
                report = await copy(
                    source,
                    target.device,
                    scene.windows(),
                    options=scene.options,
                    manifest=manifest,
                    bytes_expected=SIZE,
                    checkpoints=checkpoints,
                )
                if verifies:
                    manifest.seal()
                    end = source if scene.side == "source" else target.device
                    await verify(end, manifest, options=scene.options)
                return report

        mending = asyncio.create_task(scene.mend())
        try:
            return await retrying(once, checkpoints, scene.patience, name="disk")
        finally:
            mending.cancel()
            await asyncio.wait({mending})


@pytest.mark.parametrize(("case", "side"), ROWS)
async def test_a_copy_ends_as_the_matrix_says(
    case: Case, side: Side, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(due, "DUE_S", 0.05)
    monkeypatch.setattr(due, "_SELDOMER", 0)
    checkpoints = scene.checkpoints
    expected = expectation(case, side)
    original = (scene.folder / "source").read_bytes()
    before, began = what_is_open(), time.monotonic()

    with case.end(scene) as failing:
        if isinstance(expected, str):
            await run(scene, failing, checkpoints, verifies=case.verifies)
        else:
            with pytest.raises(expected) as caught:
                await run(scene, failing, checkpoints, verifies=case.verifies)
            assert type(caught.value) is expected
            assert case.says in str(caught.value)
            assert str(caught.value).isprintable()

    assert time.monotonic() - began < LIMIT_S
    assert (checkpoints.retries > 0) == (expected == "retries" or scene.is_tried_once_more)
    await check_nothing_is_left(before)
    if isinstance(expected, str):
        assert (scene.folder / "target").read_bytes() == original
        assert checkpoints.stored_to == SIZE


def test_the_matrix_is_documented() -> None:
    def cell(expected: str | type[NtxError]) -> str:
        return expected if isinstance(expected, str) else f"fails: `{expected.__name__}`"

    wanted = [f"| {case.fault} | {cell(case.source)} | {cell(case.target)} |" for case in MATRIX]
    section = DOCS.read_text().partition("\n## What a copy survives\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\|.*\|$", section, re.MULTILINE)

    assert rows == ["| Fault | of the source | of the target |", "|---|---|---|", *wanted]
