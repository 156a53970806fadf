"""What an agent can be told and asked by its socket; and that whoever asks badly gets one clear answer."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from ntxengine import http_server as http
from ntxengine.agent.records import RunState, Trigger
from ntxengine.agent.state import State
from ntxengine.errors import OptionsError
from tests.agent.acting import Acting
from tests.agent.controlled import LIMIT_S, built, live, yearly
from tests.cli.test_json import problems


async def test_status_tells_of_jobs_runs_and_what_waits(tmp_path: Path) -> None:
    async with live(tmp_path, runner=Acting(takes_s=1000)) as agent:
        agent.service.scheduler.ask("db01")
        await agent.until(lambda: agent.service.scheduler.running)

        status, document = await agent.ask("status?vms=yes")

    assert status == 200
    assert problems(document, "status.json") == []
    assert document["level"] == "ok"
    assert document["jobs"] == [
        {
            "job": "hourly",
            "vms": 2,
            "running": 1,
            "waiting": 0,
            "failing": 0,
            "is_paused": False,
            "next_start_at": document["jobs"][0]["next_start_at"],
        }
    ]
    (run,) = document["running"]
    assert (run["vm_name"], run["state"], run["trigger"]) == ("db01", "running", "person")
    assert [each["is_running"] for each in document["vms"]] == [True, False]
    assert document["bandwidth"]["timetable"] == "500.0 MiB/s"


async def test_a_run_that_is_asked_for_is_in_the_history(tmp_path: Path) -> None:
    async with live(tmp_path) as agent:
        asked = await agent.ask("run", {"vm": "db01", "job": "hourly"})
        await agent.until(lambda: agent.service.state.runs(state=RunState.SUCCEEDED))
        status, page = await agent.ask("runs?vm=db01")

    assert asked == (200, {"job": "hourly", "vm_id": "id-db01", "vm_name": "db01"})
    assert status == 200
    assert problems(page, "runs.json") == []
    assert [(run["vm_id"], run["state"], run["trigger"]) for run in page["runs"]] == [
        ("id-db01", "succeeded", "person")
    ]
    assert page["next"] == ""


async def test_history_comes_in_pages_that_miss_and_repeat_nothing(tmp_path: Path) -> None:
    async with live(tmp_path) as agent:
        for number in range(5):
            agent.service.scheduler.ask("db01")
            await agent.until(lambda n=number: len(agent.service.state.runs(state=RunState.SUCCEEDED)) == n + 1)
        found, after = [], ""
        for _ in range(3):
            _, page = await agent.ask(f"runs?limit=2&after={after}")
            found += [run["run_id"] for run in page["runs"]]
            after = page["next"]
        every = [run.id for run in agent.service.state.runs()]

    assert found == every
    assert after == ""


async def test_history_can_be_asked_for_some_runs_alone(tmp_path: Path) -> None:
    runner = Acting(takes_s=0.01, errors={"web01": [OptionsError("wrong")]})
    async with live(tmp_path, runner=runner) as agent:
        for name in ("db01", "web01"):
            agent.service.scheduler.ask(name)
        await agent.until(lambda: len([run for run in agent.service.state.runs() if run.ended_at]) == 2)
        asked = {
            query: [run["vm_name"] for run in (await agent.ask(f"runs?{query}"))[1]["runs"]]
            for query in (
                "failed=yes", "job=other", "vm=id-web01", "since=2999-01-01T00:00:00Z", "since=2020-01-01T00:00:00Z",
            )
        }  # fmt: skip

    assert asked["failed=yes"] == ["web01"]
    assert asked["job=other"] == []
    assert asked["vm=id-web01"] == ["web01"]
    assert asked["since=2999-01-01T00:00:00Z"] == []
    assert sorted(asked["since=2020-01-01T00:00:00Z"]) == ["db01", "web01"]


async def test_what_is_paused_begins_nothing_until_it_is_resumed_also_after_a_restart(tmp_path: Path) -> None:
    async with live(tmp_path) as agent:
        paused = await agent.ask("pause", {"subject": "vm db01"})
        again = await agent.ask("pause", {"subject": "vm id-db01"})
        refused = await agent.ask("run", {"vm": "db01"})
    async with live(tmp_path) as agent:
        _, found = await agent.ask("status")
        resumed = await agent.ask("resume", {"subject": "vm db01"})
        nothing = await agent.ask("resume", {})
        allowed = await agent.ask("run", {"vm": "db01"})

    assert paused[1]["subject"] == "vm id-db01"
    assert (paused[1]["was_paused"], again[1]["was_paused"]) == (False, True)
    assert problems(paused[1], "agent-pause.json") == []
    assert refused[0] == 400
    assert "paused since" in refused[1]["error"]["message"]
    assert found["level"] == "warning"
    assert [each["subject"] for each in found["paused"]] == ["vm id-db01"]
    assert (resumed[1]["was_paused"], resumed[1]["paused"]) == (True, [])
    assert nothing[1]["was_paused"] is False
    assert allowed[0] == 200


async def test_bandwidth_is_changed_at_once_and_until_a_reload(tmp_path: Path) -> None:
    async with live(tmp_path) as agent:
        limit = agent.service._built.bandwidth
        assert limit is not None
        changed = await agent.ask("bandwidth", {"rate": "50M"})
        during = limit.limiter, limit.rate
        wrong = await agent.ask("bandwidth", {"rate": "fast"})
        reloaded = await agent.ask("reload", {})
        _, after = await agent.ask("status")

    assert problems(changed[1], "agent-bandwidth.json") == []
    assert (changed[1]["rate"], changed[1]["is_changed"]) == (50 * 1024**2, True)
    assert during[1] == 50 * 1024**2
    assert wrong[0] == 400
    assert "'fast' is not a size" in wrong[1]["error"]["message"]
    assert reloaded == (200, {"jobs": 1})
    assert (after["bandwidth"]["rate"], after["bandwidth"]["is_changed"]) == (500 * 1024**2, False)


async def test_a_reload_that_cannot_be_is_answered_and_changes_nothing(tmp_path: Path) -> None:
    async with live(tmp_path) as agent:
        agent.built = OptionsError("agent.yaml:3: jobs: evry: unknown key")
        refused = await agent.ask("reload", {})
        _, document = await agent.ask("status")

    assert refused[0] == 400
    assert refused[1]["error"] == {
        "class": "OptionsError",
        "message": "agent.yaml:3: jobs: evry: unknown key",
        "exit_code": 2,
    }
    assert [each["job"] for each in document["jobs"]] == ["hourly"]


async def test_a_reload_answers_with_the_new_jobs(tmp_path: Path) -> None:
    async with live(tmp_path) as agent:
        agent.built = built(tmp_path, jobs=(yearly("one"), yearly("two")))
        told = await agent.ask("reload", {})
        _, document = await agent.ask("status")

    assert told == (200, {"jobs": 2})
    assert problems(told[1], "agent-reload.json") == []
    assert [each["job"] for each in document["jobs"]] == ["one", "two"]


async def test_metrics_are_told_there_too(tmp_path: Path) -> None:
    async with live(tmp_path) as agent:
        agent.service.scheduler.ask("db01")
        await agent.until(lambda: agent.service.state.runs(state=RunState.SUCCEEDED))
        status, text = await agent.ask("metrics")

    assert status == 200
    assert 'ntx_agent_runs_total{job="hourly",result="succeeded"} 1.0' in text


async def test_who_told_it_is_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    async with live(tmp_path) as agent:
        await agent.ask("pause", {})

    assert f"all: was paused by uid {os.getuid()}, process {os.getpid()}" in caplog.text


async def test_what_is_unknown_is_named_without_a_host_too(tmp_path: Path) -> None:
    async with live(tmp_path) as agent:
        said = await agent.say(b"GET /nothing HTTP/1.0\r\n\r\n")

    assert b"'/nothing': the agent knows nothing of that" in said


BAD: list[tuple[str, Any, str, int, str]] = [
    ("nothing", None, "", 404, "knows nothing of that"),
    ("../etc/passwd", None, "", 404, "knows nothing of that"),
    ("status", {}, "", 405, "not of this"),
    ("run", None, "", 405, "not of this"),
    ("run", None, "DELETE", 405, "not of this"),
    ("run", {}, "", 400, "missing required field `vm`"),
    ("run", {"vm": "db01", "evil": 1}, "", 400, "unknown field `evil`"),
    ("run", {"vm": 5}, "", 400, "Expected `str`"),
    ("run", [], "", 400, "Expected `object`"),
    ("run", b"{", "", 400, "is not what is wanted here"),
    ("run", b"\xff\xfe", "", 400, "is not what is wanted here"),
    ("run", b"[" * 10000, "", 400, "is not what is wanted here"),
    ("run", {"vm": "x" * 1000}, "", 400, "256 characters at most"),
    ("run", {"vm": "a\nb"}, "", 400, "one line"),
    ("run", {"vm": "nobody"}, "", 404, "no job has a VM 'nobody'"),
    ("run", {"vm": "db01", "job": "nightly"}, "", 404, "no job 'nightly' has a VM 'db01'"),
    ("run?force=yes", {"vm": "db01"}, "", 400, "parameter 'force'"),
    ("run", b"x" * 20000, "", 413, "more than 16384 bytes"),
    ("pause", {"subject": "job nightly"}, "", 404, "there is no such job or VM"),
    ("pause", {"subject": "vm nobody"}, "", 404, "there is no such job or VM"),
    ("pause", {"subject": "everything"}, "", 404, "there is no such job or VM"),
    ("bandwidth", {"rate": ""}, "", 400, "is not a size"),
    ("bandwidth", {"rate": "9" * 200}, "", 400, "is not a size"),
    ("reload", {"file": "/etc/passwd"}, "", 400, "unknown field `file`"),
    ("runs?limit=0", None, "", 400, "from 1 to 200"),
    ("runs?limit=1000000", None, "", 400, "from 1 to 200"),
    ("runs?limit=-1", None, "", 400, "from 1 to 200"),
    ("runs?since=yesterday", None, "", 400, "write RFC 3339"),
    ("runs?since=2026-01-01", None, "", 400, "write RFC 3339"),
    ("runs?after=x", None, "", 400, "is no mark of a page"),
    ("runs?failed=maybe", None, "", 400, "write yes or no"),
    ("runs?sql=1", None, "", 400, "parameter 'sql'"),
    ("runs?vm=a&vm=b", None, "", 400, "once"),
    ("status?vms=1", None, "", 400, "write yes or no"),
]


@pytest.mark.parametrize(("target", "body", "method", "status", "words"), BAD)
async def test_what_is_asked_badly_has_one_clear_answer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, target: str, body: Any, method: str, status: int, words: str
) -> None:
    async with live(tmp_path) as agent:
        found, document = await agent.ask(target, body, method=method)
        good, _ = await agent.ask("status")

    assert found == status
    assert problems(document, "error.json") == []
    assert words in document["error"]["message"]
    assert "\n" not in document["error"]["message"]
    assert good == 200
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00",  # TLS
        b"GET /v1/status HTTP/1.1\r\nA: " + b"x" * 100_000,
        b"GET /v1/status HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade, close\r\n\r\n",
        b"POST /v1/run HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/run HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
async def test_what_is_no_request_hurts_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture, data: bytes) -> None:
    async with live(tmp_path) as agent:
        server = agent.service._listeners._control.server
        server.request_s = 0.3
        await agent.say(data)
        server.request_s = http.REQUEST_S
        good, _ = await agent.ask("status")

    assert good == 200
    assert "Traceback" not in caplog.text


async def test_a_defect_is_one_line_and_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with live(tmp_path) as agent:
        monkeypatch.setattr(agent.service.scheduler, "ask", lambda vm, job: 1 / 0)
        status, document = await agent.ask("run", {"vm": "db01"})
        good, _ = await agent.ask("status")

    assert status == 500
    text = "a defect of ntx: unexpected ZeroDivisionError"
    assert document["error"]["message"] == f"{text}; the log of the agent tells more"
    assert f"{text}: division by zero" in caplog.text
    assert "Traceback" not in caplog.text
    assert good == 200


async def test_who_sends_or_reads_slowly_is_cut_and_others_are_answered(tmp_path: Path) -> None:
    async def slow_clients(folder: Path) -> list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        found = [await asyncio.open_unix_connection(folder / "agent.sock") for _ in range(10)]
        for _, writer in found[:5]:
            writer.write(b"POST /v1/run HTTP/1.1\r\nContent-Length: 100\r\n\r\n{")
        return found

    async with live(tmp_path) as agent:
        server = agent.service._listeners._control.server
        patient = await slow_clients(agent.folder)
        good, _ = await agent.ask("status")
        server.request_s = 0.3
        silent = await slow_clients(agent.folder)
        async with asyncio.timeout(LIMIT_S):
            ended = [await reader.read() for reader, _ in silent[5:]]
        for _, writer in [*patient, *silent]:
            writer.close()
        await agent.until(lambda: not server._connections)

    assert good == 200
    assert ended == [b""] * 5


async def test_of_too_many_connections_the_oldest_gives_way(tmp_path: Path) -> None:
    async with live(tmp_path) as agent:
        socket = agent.folder / "agent.sock"
        many = [await asyncio.open_unix_connection(socket) for _ in range(http.CONNECTIONS * 3)]
        good, _ = await agent.ask("status")
        held = len(agent.service._listeners._control.server._connections)
        for _, writer in many:
            writer.close()

    assert good == 200
    assert held <= http.CONNECTIONS


async def test_the_end_of_the_agent_removes_its_socket(tmp_path: Path) -> None:
    async with live(tmp_path) as agent:
        assert (tmp_path / "agent.sock").is_socket()
        assert agent

    assert not list(tmp_path.glob("agent.sock*"))
    state = State(tmp_path / "state")
    assert all(run.trigger != Trigger.RESUME for run in state.runs())
    state.close()
