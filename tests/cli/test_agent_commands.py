"""`ntx status`, `runs`, `top` and `ntx agent ...`, as a person runs them beside an agent that serves."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.test_sockets import let_others_through
from tests.cli.ntx import COMMAND, assert_refused, environment, ntx
from tests.cli.served_agent import Lab, served
from tests.cli.test_json import problems


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with served(tmp_path_factory.mktemp("agent")) as found:
        yield found


def test_status_shows_jobs_and_each_vm(lab: Lab) -> None:
    ran, wide = lab("status"), lab("status", "--vms")

    assert ran.code == 0
    lines = ran.out.splitlines()
    assert lines[0].startswith("agent ")
    assert str(lab.socket) in lines[0]
    assert [line.split()[:2] for line in lines if line.startswith(("hourly", "nightly"))] == [
        ["hourly", "2"],
        ["nightly", "1"],
    ]
    assert [line.split()[:2] for line in wide.out.splitlines()[-3:]] == [
        ["db01", "hourly"],
        ["web01", "hourly"],
        ["db01", "nightly"],
    ]


def test_check_is_a_line_of_monitoring(lab: Lab) -> None:
    good = lab("status", "--check")
    lab("agent", "pause", "job", "nightly")
    warned = lab("status", "--check")
    lab("agent", "resume", "job", "nightly")

    assert (good.code, good.err) == (0, "")
    text, _, figures = good.out.strip().partition("|")
    assert text == "NTX OK - 2 VMs in 2 jobs, 0 running, 0 waiting"
    assert figures.startswith("vms=2;;;0 running=0;;;0 waiting=0;;;0 failing=")
    assert warned.code == 1
    assert warned.out.startswith("NTX WARNING - job nightly: paused since ")
    assert "ntx agent resume job nightly|" in warned.out
    assert warned.out.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("--socket", "/nonexistent/agent.sock"),
        ("--what",),
        ("--json",),
        ("--socket",),
    ],
)
def test_check_is_unknown_where_nothing_can_be_said(arguments: tuple[str, ...]) -> None:
    ran = ntx("status", "--check", *arguments)

    assert ran.code == 3
    assert ran.out.startswith("NTX UNKNOWN - ")
    assert ran.out.count("\n") == 1
    assert "Traceback" not in ran.err


def test_check_keeps_its_code_where_its_output_cannot_be_written() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*COMMAND, "status", "--check", "--socket", "/nonexistent/agent.sock"],
            env=environment(),
            stdout=full,
            stderr=subprocess.DEVNULL,
            timeout=60,
            check=False,
        )

    assert done.returncode == 3


@pytest.mark.parametrize("limit", ["99999999999999999999", "-1"])
def test_a_limit_that_is_none_is_refused(limit: str) -> None:
    assert_refused(ntx("runs", "--limit", limit), 2, "--limit")


def test_a_bad_file_of_configuration_is_unknown_too(tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_text("agent: {sokcet: /x}\n")

    check = ntx("--config", tmp_path / "f.yaml", "status", "--check")
    ran = ntx("--config", tmp_path / "f.yaml", "status")

    assert check.code == 3
    assert check.out.startswith("NTX UNKNOWN - ")
    assert_refused(ran, 2, "sokcet", "--socket PATH does without the file")


def test_a_run_that_is_waited_for_is_told_and_remembered(lab: Lab) -> None:
    ran = lab("agent", "run", "db01", "--wait", "--progress", "plain")
    document = lab.json("agent", "run", "db01", "--job", "nightly", "--wait")
    runs = lab.json("runs", "--vm", "db01")
    table = lab("runs", "--vm", "db01", "-o", "wide")

    assert ran.code == 0
    assert ran.out.startswith("db01: captured full point ")
    assert problems(document, "agent-run.json") == []
    assert problems(runs, "runs.json") == []
    found = runs["runs"]
    assert isinstance(found, list)
    assert document["run"] == found[0]
    assert [(each["job"], each["state"], each["trigger"]) for each in found] == [
        ("nightly", "succeeded", "person"),
        ("hourly", "succeeded", "person"),
    ]
    assert [line.split()[2:5] for line in table.out.splitlines()[1:]] == [
        ["db01", "nightly", "succeeded"],
        ["db01", "hourly", "succeeded"],
    ]


def test_a_run_that_fails_ends_the_waiting_with_its_exit_code(lab: Lab) -> None:
    original = lab.file.read_text()
    lab.file.write_text(original.replace("every: 300d, retries", "every: 300d, device_dir: /nowhere, retries"))
    try:
        reloaded = lab("agent", "reload")
        ran = lab("agent", "run", "web01", "--wait")
        failed = lab.json("runs", "--failed", "--since", "1d")
        status = lab("status")
    finally:
        lab.file.write_text(original)
        again = lab("agent", "reload")

    assert reloaded.out == "the configuration was read anew: 2 jobs\n", reloaded
    assert ran.code != 0
    assert "ntx: web01: run 20" in ran.err
    (run,) = failed["runs"]  # type: ignore[misc]
    assert (run["vm_name"], run["error"]["exit_code"]) == ("web01", ran.code)
    assert "WARNING: job hourly: the last runs of 1 of 2 VMs failed: 'web01' (1)" in status.out
    assert again.code == 0


def test_pause_holds_a_run_back_until_resume(lab: Lab) -> None:
    paused = lab("agent", "pause")
    document = lab.json("agent", "pause", "vm", "db01")
    refused = lab("agent", "run", "db01")
    resumed = lab("agent", "resume")
    still = lab("agent", "resume", "vm", "db01")

    assert paused.out == "all jobs: paused\n"
    assert problems(document, "agent-pause.json") == []
    assert_refused(refused, 2, "VM 'db01' is not run: all jobs are paused since")
    assert (resumed.out, resumed.err) == ("all jobs: resumed\n", "still paused: VM db01\n")
    assert (still.out, still.err) == ("VM db01: resumed\n", "")


def test_bandwidth_holds_until_a_reload(lab: Lab) -> None:
    changed = lab("agent", "bandwidth", "50M")
    document = lab.json("agent", "bandwidth", "08:00,50M 19:00,off")
    status = lab("status")
    reloaded = lab.json("agent", "reload")
    after = lab.json("status")

    assert changed.out == "bandwidth: 50.0 MiB/s now, until a reload: 50.0 MiB/s\n"
    assert problems(document, "agent-bandwidth.json") == []
    assert "bandwidth: " in status.out
    assert problems(reloaded, "agent-reload.json") == []
    assert after["bandwidth"] == {"rate": 0, "timetable": "no limit", "is_changed": False, "cpu_limit": 0.0} or (
        after["bandwidth"]["is_changed"] is False  # type: ignore[index]
    )


def test_a_bad_file_is_said_by_reload_and_changes_nothing(lab: Lab) -> None:
    original = lab.file.read_text()
    lab.file.write_text(original.replace("every: 300d}", "evry: 300d}"))
    try:
        ran = lab("agent", "reload")
    finally:
        lab.file.write_text(original)

    assert_refused(ran, 2, "the agent: ", "evry", "unknown key")
    assert len(lab.json("status")["jobs"]) == 2  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("agent", "run", "nobody"), 10, "no job has a VM 'nobody': `ntx status --vms` lists"),
        (("agent", "run", "nobody", "--wait"), 10, "no job has a VM 'nobody'"),
        (("agent", "run", "db01", "--job", "weekly"), 10, "no job 'weekly' has a VM 'db01'"),
        (("agent", "run", ""), 2, "it is empty"),
        (("agent", "pause", "job"), 2, "which job?"),
        (("agent", "pause", "all", "db01"), 2, "all jobs need no name"),
        (("agent", "pause", "everything"), 2, "'everything' is not one of"),
        (("agent", "pause", "job", "weekly"), 10, "there is no such job or VM"),
        (("agent", "bandwidth", "fast"), 2, "'fast' is not a size"),
        (("agent", "bandwidth"), 2, "Missing argument"),
        (("agent", "--state", "x", "reload"), 2, "leave it out with reload"),
        (("runs", "--since", "yesterday"), 2, "is not a time"),
        (("runs", "--state", "/nonexistent"), 10, "no agent remembers anything there"),
        (("runs", "--state", ".", "--socket", "x"), 2, "--state contradicts --socket"),
    ],
)
def test_what_is_wrong_is_one_line_with_its_exit_code(
    lab: Lab, arguments: tuple[str, ...], code: int, words: str
) -> None:
    assert_refused(lab(*arguments), code, words)


def test_the_socket_is_found_by_option_variable_and_file(lab: Lab) -> None:
    env = {"NTX_SOCKET": ""}

    option = lab("status", "--socket", str(lab.socket), env=env)
    file = lab("--config", str(lab.file), "status", env=env)
    beside_agent = lab("agent", "--config", str(lab.file), "resume", env=env)
    wins = lab("--config", str(lab.file), "status", "--socket", "/nonexistent", env=env)

    assert [option.code, file.code, beside_agent.code] == [0, 0, 0]
    assert_refused(wins, 10, "no agent at /nonexistent")


@pytest.mark.parametrize(
    "command", [("status",), ("runs",), ("top",), ("agent", "pause"), ("agent", "run", "x", "--wait")]
)
def test_without_an_agent_each_command_says_so(tmp_path: Path, command: tuple[str, ...]) -> None:
    ran = ntx(*command, env={"NTX_SOCKET": str(tmp_path / "agent.sock")})

    assert_refused(ran, 10, f"no agent at {tmp_path}/agent.sock", "is `ntx agent` running")


def test_who_may_not_connect_is_told_who_may(lab: Lab) -> None:
    let_others_through(lab.folder)
    program = (
        "import os; os.setgroups([]); os.setgid(65534); os.setuid(65534);"
        f" from ntxengine.cli.main import main; main(['status', '--socket', {str(lab.socket)!r}])"
    )
    # Modules are loaded before: nobody may read those of root.
    modules = "ntxengine.cli.status, ntxengine.agent.client, ntxengine.agent.answers"
    program = f"import {modules}; {program}"
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment(), capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 12, done
    assert "this user may not speak with the agent: srw-rw---- root:root" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_agent_that_stalls_is_left_after_ten_seconds(lab: Lab) -> None:
    lab.agent.tell(signal.SIGSTOP)
    try:
        ran, check = lab("status"), lab("status", "--check")
    finally:
        lab.agent.tell(signal.SIGCONT)

    assert_refused(ran, 75, "does not answer within 10 s")
    assert check.code == 3


def test_the_history_is_read_from_the_folder_too(lab: Lab) -> None:
    asked, read = (
        lab.json("runs", "--limit", "0"),
        lab.json("runs", "--state", str(lab.folder / "state"), "--limit", "0"),
    )

    assert asked == read
    assert lab("status").code == 0


def test_no_runs_are_an_empty_list(lab: Lab) -> None:
    assert lab.json("runs", "--vm", "nobody") == {"runs": []}
    ran = lab("runs", "--vm", "nobody")
    assert (ran.code, ran.out, ran.err) == (0, "", "no runs\n")


def test_more_runs_than_are_listed_are_said(lab: Lab) -> None:
    lab("agent", "run", "db01", "--wait")
    lab("agent", "run", "db01", "--wait")

    ran = lab("runs", "--limit", "1")

    assert len(ran.out.splitlines()) == 2
    assert ran.err == "the newest 1: --limit shows more\n"


@pytest.mark.parametrize("command", [("status",), ("top",), ("runs", "--limit", "0")])
def test_a_reader_that_goes_away_is_nothing_to_talk_about(lab: Lab, command: tuple[str, ...]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*COMMAND, *command],
        env=environment({"NTX_SOCKET": str(lab.socket)}),
        stdin=subprocess.DEVNULL,
        stdout=writer,
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
    )
    os.close(writer)

    assert done.returncode == 1
    assert done.stderr == b""


def test_something_else_at_the_socket_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        process = subprocess.Popen(
            [*COMMAND, "status", "--json", "--socket", str(path)],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        connection, _ = listening.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(b"SSH-2.0-OpenSSH\r\n")
        out, err = process.communicate(timeout=60)

    assert process.returncode == 1
    assert json.loads(out)["error"]["class"] == "AgentError"
    assert "is no agent of this version of ntx" in err


def test_the_end_of_the_agent_says_nothing_of_its_socket(lab: Lab) -> None:
    """Last in this file: the agent has ended then."""
    code = lab.agent.end()

    assert code == 0
    assert not lab.socket.exists()
    assert "Traceback" not in lab.agent.log
    assert lab.sim.password not in lab.agent.log
    assert_refused(lab("runs"), 10, "what it remembers: ntx runs --state DIR")
    assert len(lab.json("runs", "--state", str(lab.folder / "state"))["runs"]) >= 3  # type: ignore[arg-type]
