"""`ntx export`, as a person runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from ntxengine.sim import Simulator
from tests.cli.ntx import COMMAND, assert_refused, environment, ntx
from tests.cli.test_json import problems
from tests.export.command import Command
from tests.export.receiver import Client, Notification, Receiver
from tests.support.pki import Pki


@pytest.fixture
def command(simulator: Simulator, pki: Pki, receiver: Receiver, tmp_path: Path) -> Command:
    return Command(simulator, pki, receiver, tmp_path)


def test_result_as_json_has_its_schema(command: Command, pki: Pki, tmp_path: Path) -> None:
    copies = tmp_path / "copies"
    copies.mkdir()

    def take(notification: Notification) -> None:
        Client(pki).pull(notification, copies)
        assert Client(pki).done(notification, message="thank you").status_code == 200

    command.receiver.then = take

    first = ntx(*command.arguments, "--json", env=command.env)
    second = ntx(*command.arguments, "--since", first.json["recovery_point_id"], env=command.env)

    assert first.code == 0, first.err
    assert problems(first.json, "export.json") == []
    assert first.json["message"] == "thank you"
    assert "is exported in full: no recovery point to compare with was named" in first.err
    assert second.code == 0, second.err
    assert first.json["recovery_point_id"] in second.out
    assert "warning" not in second.err
    assert command.left() == [command.receiver.last["recovery_point"]["id"]]


def test_dry_run_touches_nothing(command: Command) -> None:
    ran = ntx(*command.arguments, "--dry-run", env=command.env)

    assert ran.code == 0, ran.err
    assert "no recovery point to compare with was named" in ran.out
    assert not command.state.exists()
    assert command.left() == []
    assert command.receiver.seen == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_while_it_waits_cleans_up(number: signal.Signals, command: Command) -> None:
    process = command.start()

    process.send_signal(number)
    out, err = process.communicate(timeout=60)

    assert process.returncode == 128 + number, err
    assert json.loads(out)["error"]["class"] == "Interrupted"
    assert command.left() == []


def test_what_a_kill_leaves_is_swept(command: Command, pki: Pki) -> None:
    process = command.start()
    uri = command.receiver.last["disks"][0]["uri"]

    process.kill()
    process.communicate()

    assert subprocess.run(["nbdinfo", Client(pki).nbd(uri)], capture_output=True, check=False).returncode != 0
    assert command.left() != []
    command.sweep()
    assert command.left() == []


def test_kill_after_done_was_answered_keeps_the_reference(command: Command, pki: Pki) -> None:
    process: list[subprocess.Popen[str]] = []

    def take(notification: Notification) -> None:
        assert Client(pki).done(notification).status_code == 200
        os.kill(process[0].pid, signal.SIGKILL)

    started = subprocess.Popen([*COMMAND, *command.arguments], env=environment(command.env), stderr=subprocess.PIPE)
    process.append(started)
    command.receiver.then = take
    started.communicate(timeout=60)

    command.sweep()

    assert command.left() == [command.receiver.last["recovery_point"]["id"]]


@pytest.mark.parametrize(
    ("replaced", "words"),
    [
        ({"--ports": "90-80"}, ("first port", "not behind")),
        ({"--ports": "x"}, ("is not FIRST-LAST",)),
        ({"--advertise": "a b"}, ("is not the name",)),
        ({"--bind": "localhost"}, ("is not an address",)),
        ({"--notify": "http://127.0.0.1/"}, ("--insecure-notify",)),
        ({"--notify": "https://user:secret@127.0.0.1/"}, ("--notify-token-file",)),
        ({"--notify": "ftp://127.0.0.1/"}, ("is not a URL",)),
        ({"--tls-key": "/nonexistent"}, ("No such file",)),
        ({"--notify-ca": "/nonexistent"}, ("--notify-ca",)),
    ],
)
def test_bad_input_is_one_line(replaced: dict[str, str], words: tuple[str, ...], command: Command) -> None:
    arguments = list(command.arguments)
    for option, value in replaced.items():
        arguments[arguments.index(option) + 1] = value

    ran = ntx(*arguments, "-q", env=command.env)

    assert_refused(ran, 2, *words)
    assert "secret" not in ran.err
    assert command.left() == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--ports and --advertise, or --tunnel"),
        (["--ports", "1-9", "--advertise", "h"], "--tls-ca"),
        (["--tunnel", "ssh://h"], "--tunnel-folder"),
        (["--tunnel", "ssh://h", "--tunnel-folder", "run"], "is not a folder that sockets can be made in"),
        (["--tunnel", "ssh://h", "--tunnel-folder", "/run", "--ports", "1-9"], "--tunnel opens no port here"),
        (["--tunnel-folder", "/run"], "give --tunnel"),
        (["--ssh-key", "key"], "give --tunnel"),
    ],
)
def test_ways_that_contradict_are_refused(arguments: list[str], words: str, command: Command) -> None:
    begin = command.arguments[:6]

    assert_refused(ntx(*begin, *arguments, env=command.env), 2, words)
