"""What a program gets when a command fails: one JSON object on stdout, one JSON line on stderr."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ntxengine.cli.errors import error_fields
from ntxengine.errors import ChecksumMismatch, PrismStatusError, SourceError
from tests.cli.ntx import COMMAND, environment, ntx


@pytest.mark.parametrize(
    ("arguments", "kind", "code"),
    [
        (("points", "--repository", "missing"), "NotFoundError", 10),
        (("map", "missing.raw"), "SourceError", 1),
        (("points",), "MissingParameter", 2),
        (("info", "--nonsense"), "NoSuchOption", 2),
        (("nonsense",), "NoSuchCommand", 2),
        (("copy", "pattern:64K", "null:", "--connections", "0"), "BadParameter", 2),
    ],
)
def test_failure_is_one_object_too(arguments: tuple[str, ...], kind: str, code: int, tmp_path: Path) -> None:
    ran = ntx(*arguments, "--json", cwd=tmp_path)

    error = ran.json["error"]
    assert ran.code == code
    assert (error["class"], error["exit_code"]) == (kind, code)
    assert error["message"].split(".  See")[0].rstrip(".") in ran.err
    assert ran.err.startswith("ntx: ")


def test_without_json_nothing_is_on_stdout(tmp_path: Path) -> None:
    ran = ntx("points", "--repository", "missing", "--", "--json", cwd=tmp_path)

    assert (ran.code, ran.out) == (10, "")


def test_question_gets_no_full_stop() -> None:
    assert ntx("points", "--jso").err == "ntx: No such option '--jso'. Did you mean '--json'? See: ntx points --help\n"


def test_error_has_what_its_class_knows() -> None:
    source = error_fields(SourceError("read failed", offset=4096, length=512, errno=5))
    status = error_fields(PrismStatusError("no", status=403, reason="DENIED"))
    wrong = error_fields(ChecksumMismatch("wrong", offsets=(0, 65536), blocks=2))

    assert source == {
        "class": "SourceError", "message": "read failed", "exit_code": 1, "offset": 4096, "length": 512, "errno": 5,
    }  # fmt: skip
    assert (status["status"], status["reason"]) == (403, "DENIED")
    assert json.loads(json.dumps(wrong))["offsets"] == [0, 65536]


@pytest.mark.parametrize("way", [("--progress", "json"), ("--progress=json",)])
def test_error_is_a_json_line_among_those_of_the_progress(way: tuple[str, ...], tmp_path: Path) -> None:
    failed = ntx("points", "--repository", "missing", *way, cwd=tmp_path)
    refused = ntx("copy", *way, cwd=tmp_path)
    by_variable = ntx("copy", cwd=tmp_path, env={"NTX_PROGRESS": "json"})

    for ran, kind in ((failed, "NotFoundError"), (refused, "MissingParameter"), (by_variable, "MissingParameter")):
        (line,) = map(json.loads, ran.err.splitlines())
        assert (line["message_type"], line["class"], line["exit_code"]) == ("error", kind, ran.code)


def test_interrupted_command_speaks_json_to_the_end(tmp_path: Path) -> None:
    arguments = ["copy", "pattern:1G", str(tmp_path / "new"), "--bandwidth", "4M", "--progress", "json", "--json"]
    process = subprocess.Popen(
        [*COMMAND, *arguments], env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    first = json.loads(process.stderr.readline())

    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)

    lines: list[Any] = [json.loads(line) for line in err.splitlines()]
    assert first["bytes_per_s"] > 0
    assert first["seconds_left"] > 0
    assert [line["message_type"] for line in lines if line["message_type"] != "progress"] == ["warning", "error"]
    assert json.loads(out)["error"]["class"] == "Interrupted"
    assert json.loads(out)["error"]["exit_code"] == 143
