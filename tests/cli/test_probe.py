"""`ntx probe` as a person runs it: what is printed, with which code it ends, what a signal leaves."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ntxengine.sim import Simulator, run_in_thread
from ntxengine.sim.config import demo_config
from ntxengine.sim.faults import AnswerFault, Faults, HttpFault
from tests.cli.ntx import COMMAND, assert_refused, environment, ntx
from tests.cli.terminal import on_a_terminal, what_is_seen
from tests.cli.test_json import problems
from tests.cli.test_streams import in_a_shell
from tests.support.rates import without_rates


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    folder = tmp_path_factory.mktemp("cluster")
    config = without_rates(demo_config(folder / "disks"))
    with run_in_thread(config, folder / "state") as sim:
        yield sim


@pytest.fixture
def sim(played: Simulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    monkeypatch.setattr(played.config, "faults", Faults())
    yield played
    played.lose_recovery_points()


def test_a_healthy_cluster_ends_with_0(sim: Simulator, tmp_path: Path) -> None:
    ran = ntx("probe", "demo", "--to", tmp_path / "new", env=sim.env)

    assert ran.code == 0, ran.out
    assert ran.err == ""
    lines = ran.out.splitlines()
    assert lines[0].split() == ["ok", "prism", "name", "127.0.0.1", "is", "an", "address"]
    assert all(line.startswith(("ok ", "skipped ")) for line in lines[:-1])
    assert re.fullmatch(r"\d+ ok, \d+ skipped", lines[-1])


def test_something_that_failed_ends_with_3(sim: Simulator) -> None:
    sim.faults.lacking_rights.append("Delete Recovery Point")

    ran = ntx("probe", "demo", env=sim.env)

    assert ran.code == 3
    assert ran.err == "ntx: 1 check failed: prism v4-delete-points\n"
    (failed,) = (line for line in ran.out.splitlines() if line.startswith("FAILED"))
    assert "; to mend: give it the role Backup Admin" in failed


def test_a_warning_ends_with_0(sim: Simulator) -> None:
    sim.faults.clock_skew_s["central"] = 900

    ran = ntx("probe", env=sim.env)

    assert ran.code == 0
    assert "WARNING  prism clock" in ran.out


def test_a_prism_that_cannot_be_asked_ends_with_1(sim: Simulator) -> None:
    ran = ntx("probe", "demo", env={**sim.env, "NTX_PRISM": "https://127.0.0.1:1"})

    assert ran.code == 1
    assert ran.err == "ntx: no Prism could be asked anything: prism port failed\n"
    skipped = [line for line in ran.out.splitlines() if line.startswith("skipped  prism")]
    assert len(skipped) == 1
    assert skipped[0].endswith("need prism port")


def test_quiet_says_only_what_is_wrong(sim: Simulator) -> None:
    sim.faults.clock_skew_s["central"] = 900

    ran = ntx("probe", "-q", env=sim.env)

    assert [line.split()[0] for line in ran.out.splitlines()[:-1]] == ["WARNING"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--live"], "--live needs a VM"),
        (["demo", "--hide-names"], "--report FILE"),
        (["demo", "other"], "other"),
        (["--report", "/nowhere/at/all.json"], "--report"),
        (["--source", "rope"], "rope"),
    ],
)
def test_wrong_arguments_ask_nothing(arguments: list[str], words: str, sim: Simulator) -> None:
    before = len(sim.requests)

    ran = ntx("probe", *arguments, env=sim.env)

    assert_refused(ran, 2, words)
    assert len(sim.requests) == before


# -- the report


def test_a_report_has_all_and_no_secret(sim: Simulator, tmp_path: Path) -> None:
    file = tmp_path / "probe.json"

    ran = ntx("probe", "--live", "demo", "--report", file, env=sim.env)

    text = file.read_text()
    report = json.loads(text)
    assert ran.code == 0, ran.out
    assert problems(report, "probe-report.json") == []
    assert {each["check"] for each in report["checks"]} >= {"certificate", "v4", "freeze", "regions", "delete"}
    assert any("compute-changed-regions" in call["call"] for call in report["prisms"][0]["calls"])
    assert {each["letter"] for each in report["open_questions"]} == set("abcdefghi")
    seen = {each["letter"]: each["seen"] for each in report["open_questions"]}
    assert seen["e"] == "none is told"
    assert seen["a"] == "not asked"
    assert sim.password not in text + ran.out + ran.err
    assert "cookie" not in text.lower()
    assert "eyJ" not in text


def test_a_report_may_be_without_names(sim: Simulator, tmp_path: Path) -> None:
    file = tmp_path / "probe.json"

    ran = ntx("probe", "demo", "--report", file, "--hide-names", env=sim.env)

    text = file.read_text()
    assert ran.code == 0
    for name in ("demo", "127.0.0", "ntx-worker", "pe1", sim.vm_id("demo"), str(tmp_path)):
        assert name not in text, name
        assert name in ran.out or name == str(tmp_path)
    assert json.loads(text)["has_names"] is False
    assert "pc.7.5.1" in text


def test_a_report_is_written_where_something_failed_too(sim: Simulator, tmp_path: Path) -> None:
    file = tmp_path / "probe.json"

    ran = ntx("probe", "--report", file, env={**sim.env, "NTX_PRISM": "https://127.0.0.1:1"})

    assert ran.code == 1
    assert json.loads(file.read_text())["checks"][1]["status"] == "failed"


def test_a_report_that_could_not_be_written_is_named(sim: Simulator) -> None:
    ran = ntx("probe", "--report", "/dev/full", env=sim.env)

    assert ran.code == 1
    assert ran.err.strip() == "ntx: --report /dev/full: No space left on device: the report is not whole"


def test_an_older_report_is_kept_where_a_new_one_finds_no_room(sim: Simulator, tmp_path: Path) -> None:
    file = tmp_path / "probe.json"
    file.write_text("an older one")

    # Files of one block at most: writing the report ends with EFBIG, as on a full file system.
    ran = subprocess.run(
        ["prlimit", "--fsize=512", *COMMAND, "probe", "--report", str(file)],
        env=environment(sim.env),
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert ran.returncode == 1
    assert ran.stderr.strip() == f"ntx: --report {file}: File too large: the report is not whole"
    assert file.read_text() == "an older one"
    assert [path.name for path in tmp_path.iterdir() if "probe" in path.name] == ["probe.json"]


# -- stdout and signals


@pytest.mark.parametrize("where", [">/dev/full", ">/dev/full 2>&1"])
def test_a_result_that_could_not_be_written_is_an_error(where: str, sim: Simulator, tmp_path: Path) -> None:
    ran = in_a_shell(f"{exports(sim)} ntx probe demo --live {where}", cwd=tmp_path)

    assert ran.code == 1
    assert sim.world.state.points == {}


@pytest.mark.parametrize("where", ["<&- >&- 2>&-", "| head -n 1", "2>&1 | true"])
def test_output_that_nobody_reads_leaves_nothing_behind(where: str, sim: Simulator, tmp_path: Path) -> None:
    ran = in_a_shell(f"{exports(sim)} ntx probe demo --live {where}", cwd=tmp_path)

    assert ran.code in (0, 1)
    assert "Traceback" not in ran.err
    assert sim.world.state.points == {}


def exports(sim: Simulator) -> str:
    return " ".join(f"{name}='{value}'" for name, value in sim.env.items()) + " "


def started_live(sim: Simulator) -> subprocess.Popen[str]:
    """Start a live probe; return when its recovery point is there, and its regions are being waited for."""
    sim.faults.http.append(HttpFault("compute-changed-regions", delay_s=30, count=-1))
    process = subprocess.Popen(
        [*COMMAND, "probe", "demo", "--live"],
        env=environment(sim.env),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not sim.world.points("v4"):
        assert time.monotonic() < deadline, process.communicate()
        time.sleep(0.02)
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_middle_of_it_deletes_the_recovery_point(number: signal.Signals, sim: Simulator) -> None:
    process = started_live(sim)

    process.send_signal(number)
    _, err = process.communicate(timeout=60)

    assert process.returncode == 128 + number
    assert "Traceback" not in err
    assert sim.world.state.points == {}


def test_what_a_killed_probe_left_is_named_by_the_next_one(sim: Simulator) -> None:
    process = started_live(sim)
    process.kill()
    process.communicate()
    (left,) = sim.world.points("v4")
    sim.faults.http.clear()

    ran = ntx("probe", "demo", env=sim.env)

    (line,) = (line for line in ran.out.splitlines() if line.startswith("WARNING"))
    assert left.name in line
    assert left.id in line
    assert "expires" in line
    assert ran.code == 0
    assert left.expires is not None
    assert left.expires - left.created <= 3605


# -- a terminal


@pytest.mark.parametrize("columns", [60, 80, 150])
def test_a_terminal_shows_whole_words(columns: int, sim: Simulator) -> None:
    sim.faults.clock_skew_s["central"] = 900
    env = {**sim.env, "COLUMNS": str(columns), "TERM": "xterm", "NO_COLOR": "1"}

    written = on_a_terminal(*COMMAND, "probe", "demo", env=env, is_stdout_too=True)

    lines = what_is_seen(written)
    fingerprint = re.compile(r"(?:[0-9A-F]{2}:){31}")
    assert max(len(line) for line in lines if not fingerprint.search(line) and "/" not in line) <= columns
    assert any(line.startswith("WARNING") for line in lines)
    assert any("to mend: set both by NTP" in line for line in lines)


def test_a_terminal_shows_colours(sim: Simulator) -> None:
    written = on_a_terminal(*COMMAND, "probe", env={**sim.env, "TERM": "xterm"}, is_stdout_too=True)

    assert "\x1b[32m" in written


def test_names_of_others_are_shown_and_never_obeyed(sim: Simulator) -> None:
    sim.faults.answers.append(AnswerFault("clusters/[^/]+$", count=-1, field="data.name", value="\x1b[31mred\u202e"))

    ran = ntx("probe", "demo", env=sim.env)

    assert "\x1b" not in ran.out
    assert "\u202e" not in ran.out
