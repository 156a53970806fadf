"""What can be wrong with a cluster, an account or a machine: one line and the exit code that says what to do."""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from ntxengine.repository.store import PointStore
from ntxengine.sim import Simulator
from tests.cli.conftest import STRANGE_NAME
from tests.cli.ntx import COMMAND, assert_refused, environment, ntx

TWINS = ("00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002")


def waits_for_a_writer(pid: int) -> bool:
    """Say if a process sleeps in openat(2), which it only does for a pipe."""
    fields = Path(f"/proc/{pid}/syscall").read_text().split()
    return fields[0] == "257" and Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"


def test_vms_are_listed(cluster: Simulator) -> None:
    table, document = ntx("vms", env=cluster.env), ntx("vms", "--json", env=cluster.env)

    assert (table.code, document.code) == (0, 0)
    assert table.err == document.err == ""
    names = [vm["vm_name"] for vm in document.json["vms"]]
    assert sorted(names) == sorted(["demo", STRANGE_NAME, "twin", "twin", "ntx-worker"])
    assert all(isinstance(disk["size"], int) for vm in document.json["vms"] for disk in vm["disks"])


def test_a_name_is_shown_but_never_obeyed(cluster: Simulator) -> None:
    ran = ntx("vms", env=cluster.env)

    assert r"../../etc/passwd\n\x1b[31mred\u202e" in ran.out.replace("\n", "")
    assert "\x1b" not in ran.out
    assert "\u202e" not in ran.out


def test_unreachable_host() -> None:
    ran = ntx("vms", env={"NTX_PRISM": "https://127.0.0.1:1", "NTX_USERNAME": "u", "NTX_PASSWORD": "p"})

    assert_refused(ran, 1, "127.0.0.1:1")


def test_host_that_does_not_exist() -> None:
    ran = ntx("vms", env={"NTX_PRISM": "https://no-such-host.invalid", "NTX_USERNAME": "u", "NTX_PASSWORD": "p"})

    assert_refused(ran, 1, "no-such-host.invalid")


def test_host_that_never_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}"

        ran = ntx("vms", "--prism-timeout", "0.5", env={"NTX_PRISM": url, "NTX_USERNAME": "u", "NTX_PASSWORD": "p"})

    assert_refused(ran, 75, "127.0.0.1")


def test_refused_certificate(cluster: Simulator) -> None:
    env = {name: value for name, value in cluster.env.items() if name != "NTX_CA_FILE"}

    assert_refused(ntx("vms", env=env), 1, "certificate")


def test_insecure_trusts_any_certificate_and_warns(cluster: Simulator) -> None:
    env = {name: value for name, value in cluster.env.items() if name != "NTX_CA_FILE"}

    ran = ntx("vms", "--insecure", env=env)

    assert ran.code == 0
    assert "warning: --insecure" in ran.err


def test_wrong_password(cluster: Simulator) -> None:
    ran = ntx("vms", env={**cluster.env, "NTX_PASSWORD": "hunter2"})

    assert_refused(ran, 12)
    assert "hunter2" not in ran.err


@pytest.mark.parametrize("content", ["", "\n", "a" * 5000])
def test_password_file_that_is_none(content: str, cluster: Simulator, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(content)

    assert_refused(ntx("vms", "--password-file", file, env=cluster.env), 2, "password file")


def test_password_file_that_everybody_reads_gives_a_warning(cluster: Simulator, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(f"{cluster.password}\nsecond line\n")
    file.chmod(0o644)

    ran = ntx("vms", "--password-file", file, env=cluster.env)

    assert ran.code == 0
    assert "chmod 600" in ran.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_waiting_for_a_password_ends_with_a_signal(number: signal.Signals, cluster: Simulator, tmp_path: Path) -> None:
    pipe = tmp_path / "password"
    os.mkfifo(pipe)
    with subprocess.Popen(
        [*COMMAND, "vms", "--password-file", str(pipe)], env=environment(cluster.env), stderr=subprocess.PIPE, text=True
    ) as process:
        while not waits_for_a_writer(process.pid):
            time.sleep(0.01)

        process.send_signal(number)
        try:
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()

    assert process.returncode in (128 + number, -number)
    assert "Traceback" not in err


def test_unknown_vm(cluster: Simulator, tmp_path: Path) -> None:
    ran = ntx("capture", "nobody", "--to", tmp_path / "r", env=cluster.env)

    assert_refused(ran, 10, "nobody")
    assert not (tmp_path / "r").exists()


def test_unknown_uuid(cluster: Simulator, tmp_path: Path) -> None:
    ran = ntx("capture", "00000000-0000-4000-8000-999999999999", "--to", tmp_path / "r", env=cluster.env)

    assert_refused(ran, 10, "00000000-0000-4000-8000-999999999999")


def test_name_of_two_vms_lists_their_uuids(cluster: Simulator, tmp_path: Path) -> None:
    assert_refused(ntx("capture", "twin", "--to", tmp_path / "r", env=cluster.env), 2, *TWINS)


def test_no_way_to_the_disks(cluster: Simulator, tmp_path: Path) -> None:
    env = {name: value for name, value in cluster.env.items() if name not in ("NTX_WORKER", "NTX_CONTAINERS")}

    cluster.faults.volumes = ["no_data_services"]

    ran = ntx("capture", "demo", "--to", tmp_path / "r", env=env)

    cluster.faults.volumes = []
    assert_refused(ran, 1, "has no data services address", "--data-services HOST")


def test_repository_that_cannot_be_written(cluster: Simulator, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    ran = ntx("capture", "demo", "--to", tmp_path / "file" / "r", env=cluster.env)

    assert_refused(ran, 1, "file/r")


def test_directory_that_is_no_repository(cluster: Simulator, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")

    ran = ntx("capture", "demo", "--to", tmp_path, env=cluster.env)

    assert_refused(ran, 1, "letter.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_missing_qemu_nbd(cluster: Simulator, tmp_path: Path, path_without_qemu_nbd: str) -> None:
    env = {**cluster.env, "PATH": path_without_qemu_nbd}

    ran = ntx("capture", "demo", "--to", tmp_path / "r", "--writer", "qemu", "-q", env=env)

    assert_refused(ran, 1, "qemu-nbd", "qemu-utils")
    assert PointStore.open(tmp_path / "r").points() == []
    assert not list((tmp_path / "r").glob("*/.unfinished-*"))


def test_vm_that_is_being_captured(cluster: Simulator, tmp_path: Path) -> None:
    repository = PointStore.create(tmp_path / "r")

    with repository.lock(cluster.vm_id("demo")):
        ran = ntx("capture", "demo", "--to", repository.path, env=cluster.env)

    assert_refused(ran, 11, cluster.vm_id("demo"))


@pytest.mark.parametrize("command", [["points"], ["verify", "--all"], ["restore", "p", "d"], ["sweep"]])
def test_repository_that_is_not_there(command: list[str], tmp_path: Path) -> None:
    assert_refused(ntx(*command, "--repository", tmp_path / "none", cwd=tmp_path), 10, "none")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [["verify", "nothing"], ["restore", "nothing", "d"], ["points", "nothing"]])
def test_point_that_is_not_there(command: list[str], tmp_path: Path) -> None:
    PointStore.create(tmp_path / "r")

    assert_refused(ntx(*command, "--repository", tmp_path / "r", cwd=tmp_path), 10, "nothing")


def test_simulator_on_a_port_that_is_taken(cluster: Simulator, tmp_path: Path) -> None:
    assert_refused(ntx("sim", "--state", tmp_path / "s", "--port", str(cluster.port)), 2, str(cluster.port))
