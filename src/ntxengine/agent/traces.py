"""A trace of each run, for OpenTelemetry: one span for the run, and below it one for each stage, of each disk.

Off, and nothing of it imported, unless the standard variables name a collector.  Spans are made when a run has ended,
and sent by a thread of the library, from a queue with an end: a collector that is slow or gone costs no run a moment,
and is said once.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Protocol, cast

from ntxengine.agent.records import Run, RunState
from ntxengine.concurrency.completion import call_with_timeout
from ntxengine.events import DiskDone, Event, StageBegan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

log = logging.getLogger(__name__)

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
MAX_SPANS = 1000
"""Of one run: a VM with hundreds of disks is told of as far as this."""

CLOSE_S = 5.0
"""How long the end of the agent waits for what was not sent."""


class Observer(Protocol):
    """Who sees what happens in runs.  In the event loop, so be quick, and never raise."""

    def event(self, run: Run, event: Event, now: datetime) -> None:
        """Something happens in a run."""
        ...

    def ended(self, run: Run) -> None:
        """A run has ended."""
        ...


@dataclass
class _Stage:
    """A stage of a run, or of one of its disks (`disk_id`)."""

    name: str
    disk_id: str
    disk_label: str
    began_at: datetime
    ended_at: datetime | None = None


@dataclass
class _Seen:
    """What was seen of a run: its stages, and those that go on, by disk, "" for those of the run as a whole."""

    stages: list[_Stage] = field(default_factory=list)
    going_on: dict[str, _Stage] = field(default_factory=dict)

    def event(self, event: Event, now: datetime) -> None:
        if isinstance(event, DiskDone):
            self._end(event.disk_id, now)
        elif isinstance(event, StageBegan):
            # A stage of the whole run is over when one of a disk begins; disks are captured beside each other.
            for disk_id in {"", event.disk_id} if event.disk_id else set(self.going_on):
                self._end(disk_id, now)
            if len(self.stages) < MAX_SPANS:
                stage = _Stage(event.stage.value, event.disk_id, event.disk_label, now)
                self.stages.append(stage)
                self.going_on[event.disk_id] = stage

    def _end(self, disk_id: str, now: datetime) -> None:
        if (stage := self.going_on.pop(disk_id, None)) is not None:
            stage.ended_at = now


class Traces:
    """Makes spans of runs, and has them sent."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("ntxengine.agent")
        self._seen: dict[str, _Seen] = {}

    def event(self, run: Run, event: Event, now: datetime) -> None:
        """Take note of where a run is."""
        if isinstance(event, StageBegan | DiskDone):
            self._seen.setdefault(run.id, _Seen()).event(event, now)

    def ended(self, run: Run) -> None:
        """Make the spans of a run.  Never raises."""
        try:
            self._make(run)
        except Exception as exc:  # of a library: no run may fail for it
            log.warning("traces: run %s has none: %s", run.id, type(exc).__name__)
            log.debug("the traceback of the error", exc_info=exc)

    def _make(self, run: Run) -> None:
        from opentelemetry import trace

        seen = self._seen.pop(run.id, _Seen())
        ended_at = run.ended_at or run.started_at
        root = self._tracer.start_span(
            "ntx.run",
            trace.set_span_in_context(trace.INVALID_SPAN),
            attributes=_attributes(run),
            start_time=_ns(run.started_at),
        )
        below = trace.set_span_in_context(root)
        for stage in seen.stages:
            attributes = {"ntx.disk_id": stage.disk_id, "ntx.disk_label": stage.disk_label} if stage.disk_id else {}
            span = self._tracer.start_span(
                f"ntx.{stage.name}", below, attributes=attributes, start_time=_ns(stage.began_at)
            )
            span.end(_ns(stage.ended_at or ended_at))
        if run.state is not RunState.SUCCEEDED:
            root.set_status(trace.Status(trace.StatusCode.ERROR, run.error))
        root.end(_ns(ended_at))

    async def aclose(self) -> None:
        """Send what was not sent, if that is soon done."""
        try:
            await call_with_timeout(self._provider.shutdown, CLOSE_S)
        except TimeoutError:
            log.warning("traces: the last spans could not be sent within %g s", CLOSE_S)


class _Once:
    """An exporter that says once that the collector does not take spans, and once that it does again.

    No subclass of that of the library, which is not to be imported here.
    """

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._is_broken = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        from opentelemetry.sdk.trace.export import SpanExportResult

        try:
            result = self._exporter.export(spans)
        except Exception as exc:  # noqa: BLE001  whatever it is, the thread that sends must go on
            log.debug("sending spans: %s", type(exc).__name__)
            result = SpanExportResult.FAILURE
        is_broken = result is not SpanExportResult.SUCCESS
        if is_broken and not self._is_broken:
            log.warning("traces: the collector does not take spans: those of some runs are lost")
        elif self._is_broken and not is_broken:
            log.warning("traces: the collector takes spans again")
        self._is_broken = is_broken
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return bool(self._exporter.force_flush(timeout_millis))


def open_traces(version: str, environment: Mapping[str, str] = os.environ) -> Traces | None:
    """Return what sends traces where the environment wants them; None where it does not, or cannot have them."""
    if not _is_wanted(environment):
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as exc:
        log.warning("no traces are sent: %s is not installed: pip install 'ntxengine[otel]'", exc.name)
        return None
    protocol = environment.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environment.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    if protocol not in (None, "", "http/protobuf"):
        log.warning("traces: OTEL_EXPORTER_OTLP_PROTOCOL=%s is not spoken: they are sent by http/protobuf", protocol)
    # It would say each failure anew, with all that it was to send.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    attributes = {"service.version": version}
    if not environment.get("OTEL_SERVICE_NAME"):
        attributes["service.name"] = "ntx-agent"
    try:
        provider = TracerProvider(resource=Resource.create(attributes), shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(cast("SpanExporter", _Once(OTLPSpanExporter()))))
    except Exception as exc:  # noqa: BLE001  what the variables say may be wrong in any way
        log.warning("no traces are sent: what the variables OTEL_* say cannot be used: %s", type(exc).__name__)
        return None
    return Traces(provider)


def _is_wanted(environment: Mapping[str, str]) -> bool:
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true" or environment.get("OTEL_TRACES_EXPORTER") == "none":
        return False
    return any(environment.get(name) for name in ENDPOINTS)


def _attributes(run: Run) -> dict[str, str | int | float]:
    """Return what of a run a span has: no argument, no address, nothing of an account."""
    found: dict[str, str | int | float] = {
        "ntx.run_id": run.id,
        "ntx.job": run.job,
        "ntx.vm_id": run.vm_id,
        "ntx.vm_name": run.vm_name,
        "ntx.trigger": run.trigger.value,
        "ntx.attempt": run.attempt,
        "ntx.state": run.state.value,
        "ntx.warnings": len(run.warnings),
    }
    if run.point_id:
        found["ntx.point_id"] = run.point_id
    if run.generation:
        found |= {"ntx.replica_id": run.replica_id, "ntx.generation": run.generation}
    if run.error_class:
        found["error.type"] = run.error_class
    if run.figures is not None:
        found |= {
            "ntx.kind": run.figures.kind,
            "ntx.tracking": run.figures.tracking,
            "ntx.consistency": run.figures.consistency,
            "ntx.bottleneck": run.figures.bottleneck,
            "ntx.bytes_changed": run.figures.bytes_changed,
            "ntx.bytes_read": run.figures.bytes_read,
            "ntx.bytes_sent": run.figures.bytes_sent,
            "ntx.bytes_stored": run.figures.bytes_stored,
        }
    return found


def _ns(when: datetime) -> int:
    return int(when.timestamp() * 1e6) * 1000
