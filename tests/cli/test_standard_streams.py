"""`ntx copy` with `-`: standard input and output, between real programs."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
from pathlib import Path
from typing import IO, Any

import pytest

from tests.cli.ntx import COMMAND, Ran, assert_refused, environment, ntx
from tests.support.servers import nbdkit, qemu_nbd

KIB, MIB = 1024, 1024**2
ODD_SIZE = 5 * MIB + 777
DATA = {
    1: b"x",
    511: os.urandom(511),
    64 * KIB: os.urandom(64 * KIB),
    ODD_SIZE: os.urandom(MIB + 5) + bytes(3 * MIB) + os.urandom(ODD_SIZE - 4 * MIB - 5),
}


def copy(*arguments: str | Path, given: bytes | IO[bytes] | int = b"", out: Any = subprocess.PIPE) -> tuple[Ran, bytes]:
    """Run `ntx copy` with `given` on a pipe, or from what is open."""
    source: dict[str, Any] = {"input": given} if isinstance(given, bytes) else {"stdin": given}
    done = subprocess.run(
        [*COMMAND, "copy", *map(str, arguments)],
        env=environment(),
        stdout=out,
        stderr=subprocess.PIPE,
        timeout=120,
        check=False,
        **source,
    )
    return Ran(done.returncode, "", done.stderr.decode()), done.stdout or b""


def started(*arguments: str | Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*COMMAND, "copy", *map(str, arguments)],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.fixture(params=sorted(DATA))
def data(request: pytest.FixtureRequest) -> bytes:
    return DATA[request.param]


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk.raw"
    path.write_bytes(DATA[ODD_SIZE])
    return path


def digest_of(path: Path) -> str:
    return str(ntx("checksum", path, "--json").json["digest"])


# --------------------------------------------------------------------------------------------- from standard input


def test_pipe_of_unknown_length_becomes_a_new_file(data: bytes, tmp_path: Path) -> None:
    ran, out = copy("-", tmp_path / "new.raw", "--verify", given=data)

    assert ran.code == 0, ran.err
    assert (tmp_path / "new.raw").read_bytes() == data
    assert f"digest           {digest_of(tmp_path / 'new.raw')}".encode() in out


def test_zeros_that_come_are_holes_of_the_new_file(tmp_path: Path) -> None:
    ran, _ = copy("-", tmp_path / "new.raw", given=bytes(16 * MIB) + b"x")

    assert ran.code == 0, ran.err
    assert (tmp_path / "new.raw").stat().st_size == 16 * MIB + 1
    assert (tmp_path / "new.raw").stat().st_blocks * 512 < MIB


def test_size_that_is_said_is_checked(tmp_path: Path) -> None:
    for given, size, words in (
        (b"x" * 100, 200, ("it ended at 100 bytes", "200 were to come")),
        (b"x" * 200, 100, ("goes on past 100 bytes",)),
    ):
        ran, _ = copy("-", tmp_path / "new.raw", "--size", str(size), given=given)

        assert_refused(ran, 1, "standard input", *words)
        assert list(tmp_path.iterdir()) == []


def test_stream_without_a_byte_is_a_producer_that_failed(tmp_path: Path) -> None:
    ran, _ = copy("-", tmp_path / "new.raw", given=b"")

    assert_refused(ran, 1, "it ended without a byte")
    assert list(tmp_path.iterdir()) == []


def test_file_that_the_shell_opened_is_read_from_where_it_stands(disk: Path, tmp_path: Path) -> None:
    with disk.open("rb") as file:
        os.lseek(file.fileno(), 1000, os.SEEK_SET)
        ran, _ = copy("-", tmp_path / "new.qcow2", "--target-format", "qcow2", "--verify", given=file)

    assert ran.code == 0, ran.err
    subprocess.run(["qemu-img", "convert", "-O", "raw", tmp_path / "new.qcow2", tmp_path / "back"], check=True)
    assert (tmp_path / "back").read_bytes()[: ODD_SIZE - 1000] == DATA[ODD_SIZE][1000:]


def test_stream_goes_to_a_server_that_has_room_for_more(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(b"\xee" * 8 * MIB)
    given = DATA[ODD_SIZE][: 5 * MIB + 512]
    with qemu_nbd(image) as uri:
        ran, _ = copy("-", uri, "--verify", given=given)

    assert ran.code == 0, ran.err
    assert image.read_bytes() == given + b"\xee" * (8 * MIB - len(given))


def test_stream_that_has_more_than_the_server_has_room_for_fails() -> None:
    with nbdkit("memory", "1M") as uri:
        ran, _ = copy("-", uri, given=bytes(range(256)) * 8 * KIB)

    assert_refused(ran, 1, "goes on past 1048576 bytes", "no more")


def test_what_must_know_its_size_asks_for_it(disk: Path, tmp_path: Path) -> None:
    image, _ = copy("-", tmp_path / "new.qcow2", "--target-format", "qcow2", given=b"x" * MIB)
    there, _ = copy("-", disk, "--overwrite", given=b"x" * MIB)
    said, _ = copy("-", disk, "--overwrite", "--size", str(ODD_SIZE), given=b"x" * ODD_SIZE)

    assert_refused(image, 2, "--size")
    assert_refused(there, 2, "exists already", "--size")
    assert said.code == 0, said.err
    assert disk.read_bytes() == b"x" * ODD_SIZE


def test_manifest_of_a_stream_is_that_of_the_same_bytes(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(data)

    copy("-", "null:", "--manifest", tmp_path / "of-stream", given=data)
    copy(tmp_path / "disk", "null:", "--manifest", tmp_path / "of-file")

    assert (tmp_path / "of-stream").read_bytes() == (tmp_path / "of-file").read_bytes()


# --------------------------------------------------------------------------------------------- to standard output


def test_standard_output_is_the_copy_and_nothing_else(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(data)

    ran, out = copy(tmp_path / "disk", "-", "-v")

    assert ran.code == 0, ran.err
    assert out == data
    assert f"digest           {digest_of(tmp_path / 'disk')}" in ran.err


def test_server_goes_to_standard_output_in_order(disk: Path) -> None:
    with nbdkit("-r", "--filter=delay", "file", str(disk), "rdelay=5ms") as uri:
        ran, out = copy(uri, "-", "--request-size", "64K", "-q")

    assert ran.code == 0, ran.err
    assert ran.err == ""
    assert out == DATA[ODD_SIZE]


def test_file_behind_standard_output_is_sparse_and_flushed(tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(b"x")
    os.truncate(tmp_path / "disk", 16 * MIB)

    with (tmp_path / "out").open("wb") as out:
        ran, _ = copy(tmp_path / "disk", "-", out=out)

    assert "flushed          yes" in ran.err
    assert (tmp_path / "out").read_bytes() == (tmp_path / "disk").read_bytes()
    assert (tmp_path / "out").stat().st_blocks * 512 < MIB


def test_pipe_goes_through_and_is_digested(data: bytes) -> None:
    ran, out = copy("-", "-", given=data)

    assert ran.code == 0, ran.err
    assert out == data
    assert "digest  " in ran.err


def test_reader_that_goes_away_is_one_line(disk: Path) -> None:
    process = started(disk, "-")
    assert process.stdout is not None
    head = subprocess.run(["head", "-c", "10"], stdin=process.stdout, capture_output=True, check=True)
    process.stdout.close()
    _, err = process.communicate(timeout=60)

    assert head.stdout == DATA[ODD_SIZE][:10]
    assert_refused(Ran(process.returncode, "", err.decode()), 1, "standard output", "its reader is gone")


def test_device_without_room_is_one_line(disk: Path) -> None:
    with open("/dev/full", "wb") as full:
        ran, _ = copy(disk, "-", out=full)

    assert_refused(ran, 1, "standard output", "No space left on device")


# ---------------------------------------------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["-", "null:", "--journal", "j"], "--journal"),
        (["-", "null:", "--extents", "e"], "--extents"),
        (["-", "null:", "--connections", "2"], "--connections"),
        (["-", "null:", "--size", "0"], "--size"),
        (["-", "pattern:1M"], "can only be a source"),
        (["-", "x", "--target-format", "qcow2"], "--size"),
        (["-", "x", "--source-format", "qcow2"], "only a file"),
        (["pattern:1M", "-", "--verify"], "--verify"),
        (["pattern:1M", "-", "--target-is-zero"], "--target-is-zero"),
        (["pattern:1M", "-", "--json"], "--json"),
        (["pattern:1M", "-", "--target-format", "qcow2"], "only a file"),
        (["pattern:1M", "null:", "--size", "1M"], "--size"),
    ],
    ids=" ".join,
)
def test_what_a_stream_cannot_have_is_refused(arguments: list[str], word: str) -> None:
    for extra in ([], ["-n"]):
        ran, out = copy(*arguments, *extra, given=b"x")

        assert_refused(ran, 2, word)
        assert out == b""


def test_terminal_is_refused(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()

    target, _ = copy("pattern:1M", "-", out=theirs)
    source, _ = copy("-", tmp_path / "new.raw", given=theirs)

    assert_refused(target, 2, "standard output is a terminal")
    assert_refused(source, 2, "standard input is a terminal")
    os.close(ours)
    os.close(theirs)


@pytest.mark.parametrize(("arguments", "closed"), [("- null:", "0<&-"), ("pattern:1M -", "1>&-")])
def test_closed_descriptor_is_refused(arguments: str, closed: str) -> None:
    shell = f"{' '.join(COMMAND)} copy {arguments} {closed}"
    done = subprocess.run(["sh", "-c", shell], env=environment(), capture_output=True, text=True, check=False)

    assert_refused(Ran(done.returncode, done.stdout, done.stderr), 2, "is closed")


def test_file_on_both_sides_is_refused(disk: Path) -> None:
    with disk.open("rb") as file:
        source, _ = copy("-", disk, "--overwrite", given=file)
    with disk.open("ab") as file:
        target, _ = copy(disk, "-", out=file)

    assert_refused(source, 2, "is standard input as well")
    assert_refused(target, 2, "is standard output as well")
    assert disk.read_bytes() == DATA[ODD_SIZE]


def test_dry_run_reads_and_writes_nothing(disk: Path, tmp_path: Path) -> None:
    with disk.open("rb") as file:
        source = ntx("copy", "-n", "-", tmp_path / "new", "--json", "--size", "5")
        stdin, _ = copy("-n", "-", tmp_path / "new", given=file)
        at = os.lseek(file.fileno(), 0, os.SEEK_CUR)
    target, out = copy("-n", disk, "-")

    assert source.json["size"] == 5
    assert source.json["target_is_new"]
    assert stdin.code == 0
    assert at == 0
    assert not (tmp_path / "new").exists()
    assert out == b""
    assert "standard output" in target.err


# ---------------------------------------------------------------------------------------------------- stopping


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stalled_producer_has_no_limit_and_a_signal_does_not_wait_for_it(number: int, tmp_path: Path) -> None:
    process = started("-", tmp_path / "new.raw", "--timeout", "0.2", "--progress", "plain")
    assert process.stdin is not None
    assert process.stderr is not None
    process.stdin.write(b"x" * 100)
    process.stdin.flush()
    for _ in range(2):
        assert process.stderr.readline() != b""  # it is alive, and says how far it is; much later than 0.2 s
    process.send_signal(number)
    _, err = process.communicate(timeout=60)

    assert process.returncode == 128 + number
    assert b"Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_signal_does_not_wait_for_a_stalled_reader(disk: Path) -> None:
    process = started(disk, "-", "--timeout", "0.2")
    assert process.stdout is not None
    assert process.stdout.read(10) == DATA[ODD_SIZE][:10]
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=60)
    process.communicate()

    assert process.returncode == 128 + signal.SIGTERM
