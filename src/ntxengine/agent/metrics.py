"""What Prometheus is told: counters of the runs since the start, and how things are at the moment of the question.

Labels are jobs, VMs of jobs (id and name), and what is held or paused: as many series as there are VMs in jobs, and
none for what is gone.  Nothing here is secret: no address, no user, no text of an error.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric

from ntxengine.agent.records import Run, RunState
from ntxengine.agent.scheduler import Scheduler
from ntxengine.agent.state import State
from ntxengine.agent.watch import Watch
from ntxengine.agent.watch_metrics import of_watch

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (10, 30, 60, 120, 300, 600, 1200, 2400, 3600, 7200, 14400, 43200)
"""Bounds of the histogram: a run takes from seconds to half a day."""


class Metrics:
    """The metrics of one agent, in a registry of their own.  `on_run` is for the scheduler."""

    def __init__(self, state: State, version: str) -> None:
        self.scheduler: Scheduler | None = None
        """Whose runs and VMs are told; None: it is not there yet."""
        self.watch: Watch | None = None
        """What it watches, which is told too."""
        self._state = state
        self._version = version
        self.registry = CollectorRegistry(auto_describe=True)
        self._runs = self._counter("ntx_agent_runs", "Runs that ended.", "job", "result")
        self._seconds = Histogram(
            "ntx_agent_run_seconds", "How long runs took.", ("job",), registry=self.registry, buckets=_SECONDS
        )
        self._read = self._counter("ntx_agent_read_bytes", "Bytes read from sources.", "job")
        self._sent = self._counter("ntx_agent_sent_bytes", "Bytes sent to targets.", "job")
        self._stored = self._counter("ntx_agent_stored_bytes", "Bytes that new images take.", "job")
        self._warnings = self._counter("ntx_agent_warnings", "Warnings of runs that ended.", "job")
        self._anomalies = self._counter("ntx_agent_anomalies", "What was unlike the runs before.", "job", "kind")
        self._freed = self._counter("ntx_agent_freed_bytes", "Bytes that pruning gave back.", "job")
        self.registry.register(self)

    def on_run(self, run: Run) -> None:
        """Count a run when it has ended."""
        if run.state is RunState.RUNNING:
            return
        self._runs.labels(run.job, run.state.value).inc()
        self._seconds.labels(run.job).observe(run.seconds)
        self._warnings.labels(run.job).inc(len(run.warnings))
        if run.figures is not None:
            self._read.labels(run.job).inc(max(0, run.figures.bytes_read))
            self._sent.labels(run.job).inc(max(0, run.figures.bytes_sent))
            self._stored.labels(run.job).inc(max(0, run.figures.bytes_stored))
        for anomaly in run.anomalies:
            self._anomalies.labels(run.job, anomaly.kind).inc()
        if run.kept is not None:
            self._freed.labels(run.job).inc(max(0, run.kept.bytes_freed))

    def text(self) -> bytes:
        """Return all of them in the text format of Prometheus (CONTENT_TYPE)."""
        return generate_latest(self.registry)

    def collect(self) -> Iterator[Metric]:
        """Tell how things are now: called by the registry, in the thread of the event loop."""
        yield InfoMetricFamily("ntx_agent", "The agent.", value={"version": self._version})
        written = GaugeMetricFamily("ntx_agent_state_written", "1: the history can be written.")
        written.add_metric([], float(not self._state.problem))
        yield written
        paused = GaugeMetricFamily("ntx_agent_paused", "What is paused.", labels=["subject"])
        for subject in self._state.paused:
            paused.add_metric([subject], 1.0)
        yield paused
        if self.scheduler is not None:
            yield from self._now(self.scheduler)
        if self.watch is not None:
            yield from of_watch(self.watch)

    def _now(self, scheduler: Scheduler) -> Iterator[Metric]:
        listed = GaugeMetricFamily("ntx_agent_vms_listed", "1: the last list of VMs could be had.")
        listed.add_metric([], float(not scheduler.listing.problem))
        yield listed
        held = GaugeMetricFamily("ntx_agent_held", "What no run begins for until one has tried.", labels=["scope"])
        for scope in scheduler.holds.all:
            held.add_metric([scope], 1.0)
        yield held
        running = GaugeMetricFamily("ntx_agent_running", "Runs at this moment.", labels=["job"])
        waiting = GaugeMetricFamily("ntx_agent_waiting", "VMs that are due and wait.", labels=["job"])
        runs, waits = [run.job for run in scheduler.running], [each.wanted.job for each in scheduler.waiting]
        for job in scheduler.jobs:
            running.add_metric([job], runs.count(job))
            waiting.add_metric([job], waits.count(job))
        yield running
        yield waiting
        yield from self._of_vms(scheduler)

    def _of_vms(self, scheduler: Scheduler) -> Iterator[Metric]:
        labels = ["job", "vm_id", "vm_name"]
        succeeded = GaugeMetricFamily(
            "ntx_agent_last_success_timestamp_seconds", "When a VM was captured last; 0: never.", labels=labels
        )
        failures = GaugeMetricFamily("ntx_agent_failures", "Runs that failed since one that did not.", labels=labels)
        for job in scheduler.jobs:
            for vm in scheduler.listing.vms(job):
                standing = self._state.standing((job, vm.id))
                at = standing.succeeded_at
                succeeded.add_metric([job, vm.id, vm.name], 0.0 if at is None else at.timestamp())
                failures.add_metric([job, vm.id, vm.name], standing.failures)
        yield succeeded
        yield failures

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)
