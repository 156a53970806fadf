"""What is timed is checked: whoever copies something else than it should is found out."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from ntxengine.bench.disks import DiskFile, make_disk
from ntxengine.bench.measure import Engine, Used
from ntxengine.bench.peers import EnginePeer, check_target, command_line
from ntxengine.bench.reference import build_drop
from ntxengine.bench.servers import Sockets, target_server
from ntxengine.bench.stage import SourceEnd
from ntxengine.bench.suite import Bytes, Case, Disk, Ours, Source, Target, load_suite
from ntxengine.bench.tools import run_tool
from ntxengine.bench.wire import Report, Request
from ntxengine.errors import ChecksumMismatch, ToolError
from ntxengine.units import MIB

CASE = Case(name="x", title="x", source=Source(disk="x"), target=Target(server="nbdkit-memory"), who=("engine",))


class LyingEngine(Engine):
    """Says that it did what it did not."""

    def __init__(self, *, digest: str, bytes_sent: int) -> None:
        super().__init__()
        self._digest = digest
        self._bytes_sent = bytes_sent

    def run(self, request: Request) -> tuple[Used, tuple[str, ...]]:
        report = Report(
            bytes_total=MIB, bytes_read=MIB, bytes_sent=self._bytes_sent, bytes_zeroed=0, bytes_skipped=0, seconds=1,
            cpu_seconds=1, connections=1, request_size=MIB, in_flight=1, bottleneck="",
        )  # fmt: skip
        return Used(1.0, 1.0, MIB, reports=(report,)), (self._digest,)


@pytest.fixture
def disk(tmp_path: Path) -> DiskFile:
    return make_disk(tmp_path / "disk", Disk(size=Bytes(MIB), data=50, run=Bytes(MIB // 8)), seed="a")


def end_of(disk: DiskFile) -> SourceEnd:
    return SourceEnd(str(disk.path), disk, disk.path, "raw")


def test_right_digest_and_bytes_are_believed(disk: DiskFile) -> None:
    peer = EnginePeer(CASE, LyingEngine(digest=disk.digest, bytes_sent=disk.bytes_data))

    assert peer.run([end_of(disk)], []).seconds == 1.0


def test_wrong_digest_is_found_out(disk: DiskFile) -> None:
    peer = EnginePeer(CASE, LyingEngine(digest="00" * 16, bytes_sent=disk.bytes_data))

    with pytest.raises(ChecksumMismatch, match=disk.digest):
        peer.run([end_of(disk)], [])


def test_bytes_that_were_not_sent_are_found_out(disk: DiskFile) -> None:
    peer = EnginePeer(CASE, LyingEngine(digest=disk.digest, bytes_sent=disk.bytes_data - 1))

    with pytest.raises(ChecksumMismatch, match=f"of {disk.bytes_data}"):
        peer.run([end_of(disk)], [])


def test_target_that_holds_something_else_is_found_out(disk: DiskFile, tmp_path: Path) -> None:
    (tmp_path / "sockets").mkdir()

    with target_server(CASE.target or Target(server="nbdkit-memory"), MIB, None, Sockets(tmp_path / "sockets")) as one:
        with pytest.raises(ChecksumMismatch, match="engine: the target does not hold"):
            check_target("engine", [end_of(disk)], [one])


def test_server_that_cannot_start_is_told_with_its_words(tmp_path: Path) -> None:
    target = Target(server="qemu-nbd")

    with pytest.raises(ToolError, match=r"qemu-nbd .* ended with 1: .*No such file"):
        with target_server(target, MIB, tmp_path / "none.qcow2", Sockets(tmp_path)):
            pass


def test_server_time_grows_with_its_work(tmp_path: Path) -> None:
    with target_server(Target(server="nbdkit-null", transport="tcp"), MIB, None, Sockets(tmp_path)) as server:
        assert server.uri.startswith("nbd://127.0.0.1:")
        assert 0 < server.cpu_seconds() < 10


def test_server_with_tls_tells_what_it_is_known_by(tmp_path: Path) -> None:
    with target_server(Target(server="nbdkit-null", transport="tls"), MIB, None, Sockets(tmp_path)) as server:
        assert server.uri.startswith("nbds://127.0.0.1:")
        assert server.certificates is not None
        assert (server.certificates / "ca-cert.pem").exists()


def test_server_behind_ssh_counts_its_sshd_and_leaves_nothing(tmp_path: Path) -> None:
    with target_server(Target(server="nbdkit-null", transport="ssh"), MIB, None, Sockets(tmp_path)) as server:
        assert server.ssh is not None
        before = server.cpu_seconds()
        deadline = time.monotonic() + 60
        while not (server.ssh.server_cpu_seconds() and server.ssh.tunnel_cpu_seconds()):  # they are told in ticks
            assert time.monotonic() < deadline
            assert run_tool("nbdinfo", "--size", f"nbd+unix:///?socket={server.ssh.tunnel}") == f"{MIB}\n"
        of_sshd = server.ssh.server_cpu_seconds()
        after = server.cpu_seconds()
        assert after >= before
        assert after > of_sshd > 0
        assert server.ssh.tunnel_cpu_seconds() > 0
        pids = (server.pid, server.ssh.sshd, server.ssh.ssh)

    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert list(tmp_path.glob("*/key")) == []


def test_server_over_openssl_drops_what_it_gets(tmp_path: Path) -> None:
    drop = build_drop(tmp_path)

    with target_server(
        Target(server="openssl-null", transport="tls"), MIB, None, Sockets(tmp_path), drop=drop.program
    ) as server:
        assert server.uri.startswith("nbds://127.0.0.1:")
        uri = f"{server.uri}?tls-certificates={server.certificates}"
        assert run_tool("nbdinfo", "--size", uri) == f"{MIB}\n"


def test_peers_get_the_options_of_the_suite_and_of_the_case() -> None:
    suite = load_suite("default")
    case = Case(
        name="x",
        title="x",
        source=Source(disk="x"),
        target=Target(server="qemu-nbd", is_zero=True),
        ours=Ours(connections=8, request_size=Bytes(MIB)),
        who=("engine",),
    )

    lines = {name: command_line(each, case, "S", "T") for name, each in suite.contestants.items()}

    assert lines["nbdcopy"] == ["nbdcopy", "--target-is-zero", "S", "T"]
    assert lines["qemu-img"] == (
        ["qemu-img", "convert", "-n", "-W", "-m", "16", "--target-is-zero", "-f", "raw", "-O", "raw", "S", "T"]
    )
    assert lines["ntx"][-3:] == ["--connections=8", f"--request-size={MIB}", "--target-is-zero"]


def test_programs_of_others_see_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NTX_PASSWORD", "NTX_ELEMENT_PASSWORD", "NTX_API_KEY"):
        monkeypatch.setenv(name, "s3cret")

    assert "s3cret" not in run_tool("env")
