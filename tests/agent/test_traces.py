"""A run is a trace at a real receiver of OTLP; a receiver that is gone costs nothing, and is said once."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from ntxengine.agent import traces
from ntxengine.agent.records import Figures, Run, RunState
from ntxengine.agent.traces import Traces, open_traces
from ntxengine.events import DiskDone, Stage, StageBegan
from tests.agent.virtual import START

RUN = Run("20261130T120000Z-8f3a2c", "nightly", "id-a", "db01", START)


class Receiver(HTTPServer):
    """Takes OTLP over HTTP, as long as `status` is a good one."""

    def __init__(self) -> None:
        received: list[ExportTraceServiceRequest] = []
        headers: list[dict[str, str]] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers.append({**self.headers, "path": self.path})
                received.append(ExportTraceServiceRequest.FromString(body))
                self.send_response(self.server.status)  # type: ignore[attr-defined]
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.status, self.received, self.headers_seen = 200, received, headers

    @property
    def spans(self) -> list[Any]:
        return [
            span
            for request in self.received
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    with Receiver() as server:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setattr(traces, "CLOSE_S", 60.0)  # here it is to get everything, however slow this machine is
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def opened() -> Traces:
    found = open_traces("1.2")
    assert found is not None
    return found


def ended(**fields: Any) -> Run:
    run = {"ended_at": START + timedelta(seconds=60), "state": RunState.SUCCEEDED, **fields}
    return Run("20261130T120000Z-8f3a2c", "nightly", "id-a", "db01", START, **run)


def told(made: Traces, *events: Any) -> None:
    """Tell events, one each second."""
    for number, event in enumerate(events):
        made.event(RUN, event, START + timedelta(seconds=number))


def attributes(span: Any) -> dict[str, Any]:
    return {each.key: each.value.string_value or each.value.int_value for each in span.attributes}


async def test_a_run_is_a_trace_with_a_span_for_each_stage_of_each_disk(receiver: Receiver) -> None:
    made = opened()
    told(
        made,
        StageBegan(stage=Stage.PLAN),
        StageBegan(stage=Stage.FREEZE),
        StageBegan(stage=Stage.COPY, disk_id="d0", disk_label="scsi.0"),
        StageBegan(stage=Stage.COPY, disk_id="d1", disk_label="scsi.1"),
        StageBegan(stage=Stage.VERIFY, disk_id="d0", disk_label="scsi.0"),
        DiskDone(disk_id="d0"),
        StageBegan(stage=Stage.COMMIT),
    )

    made.ended(ended(figures=Figures(kind="full", bytes_sent=5)))
    await made.aclose()

    spans = {(span.name, attributes(span).get("ntx.disk_label")): span for span in receiver.spans}
    root = spans["ntx.run", None]
    assert attributes(root)["ntx.run_id"] == RUN.id
    assert (attributes(root)["ntx.bytes_sent"], attributes(root)["ntx.state"]) == (5, "succeeded")
    assert {span.trace_id for span in receiver.spans} == {root.trace_id}
    assert {span.parent_span_id for span in receiver.spans if span is not root} == {root.span_id}
    began = int(START.timestamp()) * 10**9
    seconds = {
        key: ((span.start_time_unix_nano - began) // 10**9, (span.end_time_unix_nano - began) // 10**9)
        for key, span in spans.items()
    }
    assert seconds == {
        ("ntx.run", None): (0, 60),
        ("ntx.plan", None): (0, 1),
        ("ntx.freeze", None): (1, 2),
        ("ntx.copy", "scsi.0"): (2, 4),
        ("ntx.copy", "scsi.1"): (3, 6),
        ("ntx.verify", "scsi.0"): (4, 5),
        ("ntx.commit", None): (6, 60),
    }
    (resource,) = receiver.received[0].resource_spans
    assert {each.key: each.value.string_value for each in resource.resource.attributes}["service.name"] == "ntx-agent"
    assert receiver.headers_seen[0]["path"] == "/v1/traces"


async def test_a_run_that_failed_is_an_error_with_its_class(receiver: Receiver) -> None:
    made = opened()

    made.ended(ended(state=RunState.FAILED, error="no connection", error_class="NbdError"))
    await made.aclose()

    (span,) = receiver.spans
    assert (span.status.code, span.status.message) == (2, "no connection")
    assert attributes(span)["error.type"] == "NbdError"


async def test_a_collector_that_does_not_take_them_is_said_once_and_once_when_it_does_again(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    made = opened()
    receiver.status = 400
    for status in (400, 400, 200):
        receiver.status = status
        made.ended(ended())
        await asyncio.to_thread(made._provider.force_flush)
    await made.aclose()

    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == [
        "traces: the collector does not take spans: those of some runs are lost",
        "traces: the collector takes spans again",
    ]


async def test_a_collector_that_is_not_there_costs_no_run_a_moment_and_the_end_little(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setattr(traces, "CLOSE_S", 0.2)
    made = opened()
    began = time.monotonic()

    for _ in range(5000):
        made.ended(ended())
    took = time.monotonic() - began
    await made.aclose()

    assert took < 10
    assert time.monotonic() - began < took + 10
    assert "127.0.0.1" not in caplog.text


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h", "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_they_are_off_unless_a_collector_is_named(environment: dict[str, str]) -> None:
    assert open_traces("1", environment) is None


def test_nothing_is_imported_while_they_are_off() -> None:
    code = (
        "import sys\nfrom ntxengine.agent import service, traces\nassert traces.open_traces('1', {}) is None\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]"
    )

    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_is_missing_is_said_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)

    assert open_traces("1", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h"}) is None

    assert "pip install 'ntxengine[otel]'" in caplog.text
