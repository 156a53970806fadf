"""`ntx bench` as a command: what it refuses, what is absent, and that an interrupted one leaves nothing."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ntxengine.bench.suite import load_suite
from ntxengine.cli.main import main
from tests.cli.ntx import COMMAND, ROOT, assert_refused, environment, ntx

WriteSuite = Callable[..., Path]

TOOLS = ("nbdkit", "qemu-img", "qemu-nbd", "setpriv", "sh", "gcc", "as", "ld", "git")
SLOW = (("server: nbdkit-null", "server: nbdkit-null, delay_ms: 2000"), ("rounds: 1", "rounds: 100"))


# --------------------------------------------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fast"], ["'fast' is no suite", "default, smoke", "FILE.yaml"]),
        (["none.yaml"], ["none.yaml", "No such file"]),
        (["smoke", "--case", "x"], ["no case 'x'", "--case dense-null"]),
        (["smoke", "--size", "12345"], ["disks.dense.size", "multiple"]),
        (["smoke", "--rounds", "0"], ["--rounds"]),
        (["smoke", "--work-dir", "nowhere"], ["--work-dir", "does not exist"]),
        (["smoke", "--size", "512G"], ["needs", "are free", "--work-dir", "--size"]),
        (["--plot", "none.json"], ["none.json", "No such file"]),
        (["--plot", "none.json", "--no-plot"], ["--plot contradicts --no-plot"]),
    ],
)
def test_wrong_arguments_are_one_line(tmp_path: Path, arguments: list[str], words: list[str]) -> None:
    ran = ntx("bench", *arguments, cwd=tmp_path)

    assert_refused(ran, 2, *words)


@pytest.mark.parametrize(
    ("content", "words"),
    [("{}", "is no result"), ("no", "is no result"), ('{"schema_version": 99}', "schema version 99: this ntx reads 1")],
)
def test_what_is_no_result_cannot_be_drawn(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "odd.json"
    path.write_text(content)

    assert_refused(ntx("bench", "--plot", path), 2, "odd.json", words)


def test_missing_matplotlib_is_told_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for name in ("stdout", "stderr"):  # main() takes them over for the rest of a process
        monkeypatch.setattr(sys, name, getattr(sys, name))

    with pytest.raises(SystemExit) as ended:
        main(["bench", "smoke", "--out", str(tmp_path / "out")])

    assert ended.value.code == 2
    said = capfd.readouterr()
    assert said.err == "ntx: the picture needs matplotlib: pip install 'ntxengine[bench]', or give --no-plot\n"
    assert said.out == ""
    assert not (tmp_path / "out").exists()


def test_list_shows_suites_and_cases() -> None:
    suites, cases = ntx("bench", "--list", "--json"), ntx("bench", "smoke", "--list")

    assert set(suites.json) == {"default", "smoke"}
    for case in load_suite("smoke").cases:
        assert case.name in cases.out


# ---------------------------------------------------------------------------------------------------- absent


def test_missing_tool_is_shown_as_absent(suite_file: WriteSuite, tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found is not None
        (programs / tool).symlink_to(found)
    path = suite_file()

    ran = ntx("bench", path, "--no-plot", "--out", tmp_path / "out", "--json", env={"PATH": str(programs)})

    assert ran.code == 0, ran.err
    case = ran.json["cases"][0]
    by_name = {each["name"]: each for each in case["contestants"]}
    assert by_name["nbdcopy"]["absent"] == "nbdcopy not installed: apt-get install libnbd-bin"
    assert by_name["nbdcopy"]["samples"] == []
    assert len(by_name["engine"]["samples"]) == 1
    assert case["bars"][0]["outcome"] == "unknown"
    assert ran.json["versions"]["nbdcopy"] is None


def test_case_without_its_server_is_shown_as_absent_and_drawn(suite_file: WriteSuite, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()

    ran = ntx("bench", suite_file(), "--out", tmp_path / "out", env={"PATH": str(tmp_path / "bin")})

    assert ran.code == 0, ran.err
    assert "one: cannot be run here: setpriv, nbdkit not installed: apt-get install nbdkit util-linux" in ran.out
    assert (tmp_path / "out" / "small.png").stat().st_size > 1000


def test_the_picture_says_who_is_who_and_what_a_person_runs_comes_first(tmp_path: Path) -> None:
    result = ROOT / "bench" / "results" / "default.json"

    ran = ntx("bench", "--plot", result, "--out", tmp_path)

    assert ran.code == 0, ran.err
    drawn = re.findall(r">([^<>]+)</text>", (tmp_path / "default.svg").read_text())
    assert "what a person runs: the whole command, with the start of Python; digests every block" in drawn
    assert "nbdcopy, 1 MiB: the copy program of libnbd; digests nothing" in drawn
    assert drawn.index("ntx") < drawn.index("engine") < drawn.index("nbdcopy")
    assert "2.80  (1.11 x nbdcopy)" in drawn


def test_contestant_that_fails_is_told_and_the_others_go_on(suite_file: WriteSuite, tmp_path: Path) -> None:
    path = suite_file(("{program: nbdcopy}", "{program: nbdcopy, options: [--no-such-option]}"))

    ran = ntx("bench", path, "--no-plot", "--out", tmp_path / "out")

    assert ran.code == 3, ran.err
    assert "one: nbdcopy failed: nbdcopy --no-such-option" in ran.out
    result = json.loads((tmp_path / "out" / "small.json").read_text())
    assert len(result["cases"][0]["contestants"][0]["samples"]) == 1


def test_table_is_printed_and_the_result_is_written(suite_file: WriteSuite, tmp_path: Path) -> None:
    ran = ntx("bench", suite_file(), "--no-plot", "--out", tmp_path / "out")

    assert ran.code == 0, ran.err
    assert "throughput of engine / nbdcopy >= 0.001" in ran.out
    assert "reached" in ran.out
    assert (tmp_path / "out" / "small.json").exists()
    assert not (tmp_path / "out" / "small.png").exists()


# ------------------------------------------------------------------------------------------------- interrupted


def start(suite: Path, folder: Path) -> subprocess.Popen[str]:
    """Start a benchmark that takes for ever, and return when it copies."""
    folder.mkdir()
    process = subprocess.Popen(
        [*COMMAND, "bench", str(suite), "--no-plot", "--out", str(folder.parent / "out")],
        env=environment({"TMPDIR": str(folder)}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "warm-up" in line:
            break
    deadline = time.monotonic() + 30
    while len(children(process.pid)) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(children(process.pid)) >= 2, "a server and the engine were expected"
    return process


def children(pid: int) -> set[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return {int(word) for word in text.split()}


def all_gone(pids: set[int]) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if not any(is_running(pid) for pid in pids):
            return True
        time.sleep(0.02)
    return False


def is_running(pid: int) -> bool:
    """Whether a process is there and not only a memory of one: whoever inherited it may take his time to read it."""
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_interrupted_benchmark_leaves_nothing(suite_file: WriteSuite, tmp_path: Path, number: signal.Signals) -> None:
    process = start(suite_file(*SLOW), tmp_path / "tmp")
    started = children(process.pid)

    process.send_signal(number)
    out, err = process.communicate(timeout=60)

    assert process.returncode == 128 + number
    assert out == ""
    assert err.splitlines()[-1].startswith(f"ntx: interrupted by {number.name}")
    assert all_gone(started)
    assert os.listdir(tmp_path / "tmp") == []
    assert not any((tmp_path / "out").iterdir())


def test_servers_of_a_killed_benchmark_die_with_it(suite_file: WriteSuite, tmp_path: Path) -> None:
    process = start(suite_file(*SLOW), tmp_path / "tmp")
    started = children(process.pid)

    process.kill()
    process.communicate(timeout=60)

    assert all_gone(started)
