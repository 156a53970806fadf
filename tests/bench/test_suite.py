"""Suites: those of the package are right, and whatever is wrong with another is said in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ntxengine.bench.suite import load_suite, narrowed, suite_names
from ntxengine.errors import OptionsError
from ntxengine.units import GIB, MIB

WriteSuite = Callable[..., Path]


@pytest.mark.parametrize("name", suite_names())
def test_suites_of_the_package_are_right(name: str) -> None:
    suite = load_suite(name)

    assert suite.name == name
    assert all(case.bars or suite.bars for case in suite.cases)


def test_default_suite_has_the_cases_that_are_promised() -> None:
    suite = load_suite("default")

    assert [case.name for case in suite.cases] == [
        "dense-null", "dense-memory", "dense-tcp", "dense-tls", "dense-tls-openssl", "dense-ssh",
        "sparse-qcow2", "two-disks", "chain-memory", "block-null", "slow-server", "verify",
    ]  # fmt: skip
    assert suite.disks["dense"].size == 2 * GIB
    assert {bar.quantity for bar in suite.bars} == {"peak_memory"}


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("at_least: 0.001", "at_leest: 1", ("case one", "bars[0].at_leest", "no such key", "at_least")),
        ("at_least: 0.001", "stretch: 1", ("case one", "bars[0]", "either at_least or at_most")),
        ("at_least: 0.001", "at_least: 2, stretch: 1", ("case one", "bars[0].stretch", "easier")),
        ("at_least: 0.001", "at_least: fast", ("case one", "bars[0].at_least", "float")),
        ("against: nbdcopy", "against: cp", ("case one", "bars[0]", "'cp'", "engine, nbdcopy, limit")),
        ("against: nbdcopy", "against: bytes-in-flight", ("case one", "bars[0]", "does not take part")),
        ("who: [engine, nbdcopy, limit]", "who: [rsync]", ("case one", "who", "'rsync'", "engine, nbdcopy")),
        ("who: [engine, nbdcopy, limit]", "who: []", ("case one", "who", "length >= 1")),
        ("disk: disk}", "disk: floppy}", ("case one", "source.disk", "'floppy'", "use disk")),
        ("disk: disk}", "disk: disk, via: loop}", ("case one", "who", "limit (limit)", "cannot do this case")),
        ("server: nbdkit-null", "server: nfs", ("case one", "target.server", "'nfs'")),
        ("server: nbdkit-null", "server: qemu-nbd, delay_ms: 5", ("case one", "target.delay_ms", "nbdkit-null")),
        (
            "server: nbdkit-null",
            "server: nbdkit-memory, transport: tls",
            ("case one", "target.transport", "nbdkit-null"),
        ),
        (
            "server: nbdkit-null",
            "server: nbdkit-null, transport: tls",
            ("case one", "who", "limit (limit)", "cannot do"),
        ),
        (
            "nbdcopy: {program: nbdcopy}",
            "nbdcopy: {program: nbdcopy, transport: udp}",
            ("contestants", "transport", "'udp'"),
        ),
        (
            "limit: {program: limit}",
            "limit: {program: limit, transport: ssh}",
            ("case one", "who", "limit (limit)", "cannot do"),
        ),
        ("server: nbdkit-null", "server: openssl-null, delay_ms: 5", ("case one", "target.delay_ms", "openssl-null")),
        ("    target: {server: nbdkit-null}\n", "", ("case one", "target", "nbdkit-null")),
        ("size: 4M", "size: much", ("disks", "size", "'much'", "64KiB")),
        ("size: 4M", "size: 100K", ("disks.disk.size", "multiple of its run")),
        ("size: 4M", "size: 4M, data: 70, zeros: 40", ("disks.disk.zeros", "more than 100 %")),
        ("size: 4M", "size: 4M, run: 1000", ("disks.disk.run", "multiple of 64KiB")),
        ("program: limit", "program: dd", ("contestants", "program", "'dd'")),
        ("rounds: 1", "rounds: 0", ("rounds", ">= 1")),
        ("rounds: 1", "laps: 1\nrounds: 1", ("laps", "no such key", "rounds")),
        ("rounds: 1", "rounds: [", ("is no YAML", "line")),
    ],
)
def test_mistake_is_told_with_file_case_and_key(
    suite_file: WriteSuite, old: str, new: str, words: tuple[str, ...]
) -> None:
    path = suite_file((old, new))

    with pytest.raises(OptionsError) as caught:
        load_suite(str(path))

    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    for word in words:
        assert word in message, message


def test_name_that_is_there_twice_is_refused(suite_file: WriteSuite) -> None:
    path = suite_file()
    text = path.read_text()
    path.write_text(text + text.partition("cases:\n")[2])

    with pytest.raises(OptionsError, match="case one: name: is there twice"):
        load_suite(str(path))


@pytest.mark.parametrize("content", [b"", b"- 1\n", b"\xff\xfe", b"just text"])
def test_file_that_is_no_suite_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "odd.yaml"
    path.write_bytes(content)

    with pytest.raises(OptionsError, match="is no"):
        load_suite(str(path))


def test_unknown_name_is_told_with_the_known_ones() -> None:
    with pytest.raises(OptionsError, match="default, smoke"):
        load_suite("fast")


def test_suite_is_narrowed() -> None:
    suite = load_suite("default")

    small = narrowed(suite, cases=("verify", "dense-tcp"), rounds=2, size=64 * MIB)

    assert [case.name for case in small.cases] == ["dense-tcp", "verify"]
    assert small.rounds == 2
    assert {disk.size for disk in small.disks.values()} == {64 * MIB}


@pytest.mark.parametrize(
    ("cases", "size", "words"), [(("dense",), None, "no case 'dense'.*dense-null"), ((), 1000, "multiple of its run")]
)
def test_what_does_not_fit_the_suite_is_refused(cases: tuple[str, ...], size: int | None, words: str) -> None:
    suite = load_suite("default")

    with pytest.raises(OptionsError, match=words):
        narrowed(suite, cases=cases, rounds=None, size=size)
