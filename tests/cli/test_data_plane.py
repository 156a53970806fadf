"""`ntx copy`, `map`, `checksum`, `info` as processes: what they print, and how they end."""

import json
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.cli.ntx import COMMAND, assert_refused, environment, ntx
from tests.support.servers import nbdkit

MIB = 1024**2
JSON_KEYS = {
    "bytes_total", "bytes_read", "bytes_sent", "bytes_stored", "bytes_zeroed", "bytes_skipped", "seconds",
    "cpu_seconds", "connections", "request_size", "in_flight", "retries", "digest", "bottleneck",
}  # fmt: skip


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """3 MiB + 512 bytes: data, a hole, data."""
    path = tmp_path / "disk.raw"
    with path.open("wb") as file:
        file.write(os.urandom(MIB))
        file.seek(2 * MIB)
        file.write(os.urandom(MIB + 512))
    return path


def test_copy_says_what_it_did(disk: Path, tmp_path: Path) -> None:
    ran = ntx("copy", disk, tmp_path / "copy.raw", "--verify", "--json", "--progress", "none")

    assert ran.code == 0
    assert ran.err == ""
    assert ran.json.keys() >= JSON_KEYS
    assert ran.json["bytes_total"] == 3 * MIB + 512
    assert ran.json["bytes_read"] == 2 * MIB + 512
    assert ran.json["verified"] is True
    assert (tmp_path / "copy.raw").read_bytes() == disk.read_bytes()


def test_digest_is_that_of_checksum_and_manifest(disk: Path, tmp_path: Path) -> None:
    copied = ntx("copy", disk, "null:", "--manifest", tmp_path / "m", "--json")
    summed = ntx("checksum", disk, "--connections", "1", "--request-size", "64K")

    manifest = (tmp_path / "m").read_bytes()
    assert summed.out == f"{copied.json['digest']}  {disk}\n"
    assert manifest[:8] == b"NTXMANIF"
    assert manifest[36:52].hex() == copied.json["digest"]


def test_map_is_what_copy_reads(disk: Path, tmp_path: Path) -> None:
    extents = tmp_path / "extents.json"
    extents.write_text(ntx("map", "--json", disk).out)

    ran = ntx("copy", disk, tmp_path / "copy.raw", "--extents", extents, "--json")

    assert json.loads(extents.read_text()) == [
        {"offset": 0, "length": MIB, "type": "data"},
        {"offset": MIB, "length": MIB, "type": "zero"},
        {"offset": 2 * MIB, "length": MIB + 512, "type": "data"},
    ]
    assert ran.json["digest"] == ntx("checksum", "--json", disk).json["digest"]
    assert (tmp_path / "copy.raw").read_bytes() == disk.read_bytes()


def test_extents_that_leave_out_parts_give_no_digest_unless_a_manifest_is_wanted(disk: Path, tmp_path: Path) -> None:
    extents = tmp_path / "extents.json"
    extents.write_text('[{"offset": 700, "length": 1000, "type": "data"}]')

    without = ntx("copy", disk, tmp_path / "a.raw", "--extents", extents, "--json")
    with_manifest = ntx("copy", disk, tmp_path / "b.raw", "--extents", extents, "--json", "--manifest", tmp_path / "m")

    assert without.json["digest"] is None
    assert without.json["bytes_sent"] == without.json["bytes_stored"] == 1000
    assert with_manifest.json["digest"] == ntx("checksum", "--json", disk).json["digest"]
    copied = (tmp_path / "a.raw").read_bytes()
    assert copied[700:1700] == disk.read_bytes()[700:1700]
    assert not any(copied[:700] + copied[1700:])


def test_copy_to_a_server_and_back(disk: Path, tmp_path: Path) -> None:
    with nbdkit("memory", str(disk.stat().st_size)) as uri:
        sent = ntx("copy", disk, uri, "--verify", "--connections", "2")
        fetched = ntx("copy", uri, tmp_path / "back.raw")
        info = ntx("info", uri, "--json")

    assert (sent.code, fetched.code) == (0, 0), sent.err + fetched.err
    assert (tmp_path / "back.raw").read_bytes() == disk.read_bytes()
    assert info.json["size"] == disk.stat().st_size
    assert info.json["kind"] == "nbd"


def test_dry_run_touches_nothing(disk: Path, tmp_path: Path) -> None:
    ran = ntx("copy", disk, tmp_path / "new.raw", "-n", "--json", cwd=tmp_path)

    assert ran.json == {
        "source": str(disk),
        "target": str(tmp_path / "new.raw"),
        "dry_run": True,
        "size": 3 * MIB + 512,
        "bytes_data": 2 * MIB + 512,
        "bytes_zero": MIB,
        "target_is_new": True,
        "target_size": 3 * MIB + 512,
    }
    assert [path.name for path in tmp_path.iterdir()] == ["disk.raw"]


def test_source_that_is_not_there(tmp_path: Path) -> None:
    ran = ntx("copy", tmp_path / "none.raw", tmp_path / "new.raw")

    assert_refused(ran, 1, "none.raw", "No such file")
    assert list(tmp_path.iterdir()) == []


def test_source_that_is_a_directory(tmp_path: Path) -> None:
    assert_refused(ntx("map", tmp_path), 1, str(tmp_path))


def test_target_in_a_directory_that_is_not_there(disk: Path, tmp_path: Path) -> None:
    assert_refused(ntx("copy", disk, tmp_path / "none" / "new.raw"), 1, "none/new.raw", "No such file")


@pytest.mark.parametrize("uri", ["nbd://127.0.0.1:1/x", "nbd+unix:///?socket=/nonexistent/sock"])
def test_server_that_is_not_there(uri: str) -> None:
    ran = ntx("info", uri)

    assert ran.code == 1
    assert len(ran.err.splitlines()) == 1


def test_server_that_never_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        ran = ntx("info", f"nbd://127.0.0.1:{silent.getsockname()[1]}/", "--timeout", "0.5")

    assert_refused(ran, 75)


def test_full_target_leaves_nothing(disk: Path, tmp_path: Path) -> None:
    with nbdkit(
        "--filter=error", "memory", str(disk.stat().st_size), "error-pwrite=ENOSPC", "error-pwrite-rate=100%"
    ) as uri:
        ran = ntx("copy", disk, uri, "--manifest", tmp_path / "m", "--progress", "none")

    assert_refused(ran, 1, "No space left")
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGHUP, 129), (signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_first_signal_stops_cleanly(number: signal.Signals, code: int, tmp_path: Path) -> None:
    arguments = ["copy", "pattern:1G", str(tmp_path / "new.raw"), "--bandwidth", "1M", "--progress", "json"]
    process = subprocess.Popen([*COMMAND, *arguments], env=environment(), stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    process.stderr.readline()

    process.send_signal(number)
    _, err = process.communicate(timeout=30)

    assert process.returncode == code
    assert f"interrupted by {number.name}" in err.splitlines()[-1]
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_reader_that_goes_away_is_no_error_to_talk_about(disk: Path) -> None:
    process = subprocess.Popen(
        [*COMMAND, "map", str(disk)], env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()

    err = process.stderr.read()
    process.stderr.close()

    assert process.wait(30) == 1
    assert b"Traceback" not in err
    assert b"Exception" not in err


def test_debug_shows_the_traceback_of_a_defect(tmp_path: Path) -> None:
    broken = "import ntxengine.cli.device as d; d.open_named_source = None; from ntxengine.cli.main import main; main()"

    def run(*more: str) -> str:
        command = [COMMAND[0], "-c", broken, "info", "x", *more]
        done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 1
        return done.stderr

    short, long = run(), run("--debug")

    assert len(short.splitlines()) == 1
    assert "--debug" in short
    assert "Traceback" in long


def test_progress_as_json_lines(tmp_path: Path) -> None:
    ran = ntx("copy", "pattern:4M", tmp_path / "new.raw", "--progress", "json", "--bandwidth", "2M")

    lines = [json.loads(line) for line in ran.err.splitlines()]
    assert ran.code == 0
    assert {line["message_type"] for line in lines} == {"progress"}
    assert lines[-1]["bytes_done"] == lines[-1]["bytes_total"] == 4 * MIB


def test_quiet_says_nothing(disk: Path) -> None:
    began = time.monotonic()
    ran = ntx("copy", disk, "null:", "-q")

    assert ran.err == ""
    assert time.monotonic() - began < 60


def test_extents_from_a_pipe_are_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    done = ntx("copy", "pattern:1M", "null:", "--extents", str(tmp_path / "pipe"))

    assert done.code == 2
    assert "is not a regular file" in done.err


def test_target_and_manifest_cannot_be_one_file(tmp_path: Path) -> None:
    done = ntx("copy", "pattern:1M", str(tmp_path / "x"), "--manifest", str(tmp_path / "x"))

    assert done.code == 2
    assert "are one file" in done.err
    assert list(tmp_path.iterdir()) == []


def test_tier_sets_what_was_not_given(tmp_path: Path) -> None:
    cloud = ntx("copy", "pattern:64M", "null:", "--tier", "cloud", "--json").json
    given = ntx("copy", "pattern:64M", "null:", "--tier", "DAS-SATA", "--connections", "1", "--json").json
    wrong = ntx("copy", "pattern:1M", "null:", "--tier", "tape")

    assert (cloud["connections"], cloud["request_size"]) == (2, 4 * MIB)
    assert (given["connections"], given["request_size"]) == (1, MIB // 2)
    assert wrong.code == 2
    assert "'tape' is no tier: write SSD, HYBRID, ARCHIVE, CLOUD" in wrong.err


def test_info_of_the_engine_names_what_was_chosen_and_why() -> None:
    as_json, shown = ntx("info", "--engine", "--json"), ntx("info", "--engine")

    assert as_json.code == shown.code == 0
    chosen = as_json.json
    assert chosen["zero_kernel"] in ("avx2", "memcmp")
    assert chosen["digest_kernel"] in ("avx512", "avx2", "sse2", "build default")
    assert (chosen["zero_kernel"] == "avx2") is ("avx2" in chosen["cpu_features"])
    assert chosen["kernel"] == os.uname().release
    assert chosen["page_size"] == os.sysconf("SC_PAGESIZE")
    assert chosen["cores"] == len(os.sched_getaffinity(0))
    assert re.fullmatch(r"\d+\.\d+\.\d+", chosen["xxhash"])
    assert isinstance(chosen["send_by_reference"], bool)
    assert isinstance(chosen["read_in_flight"], bool)
    for value in ("zero_kernel_reason", "digest_kernel_reason", "xxhash", "kernel", "libc"):
        assert chosen[value] in shown.out


def test_info_is_about_a_source_or_about_the_engine(disk: Path) -> None:
    assert_refused(ntx("info"), 2, "SOURCE")
    assert_refused(ntx("info", disk, "--engine"), 2, "--engine")


def test_copy_keeps_to_a_limit_of_memory(disk: Path, tmp_path: Path) -> None:
    within = ntx("copy", disk, tmp_path / "copy.raw", "--json", "-q", env={"NTX_MEMORY_LIMIT": "16M"})

    assert within.code == 0
    assert within.json["memory_bytes"] <= 16 * MIB
    assert (tmp_path / "copy.raw").read_bytes() == disk.read_bytes()
    ran = ntx("copy", disk, "null:", "--memory-limit", "1M")
    assert_refused(ran, 2, "--memory-limit", "memory limit '1M': give copies 16.0 MiB at least")
