"""What Prometheus is told of what the agent watches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric

from ntxengine.agent.watch import Watch
from ntxengine.units import utc_now

_VM = ["job", "vm_id", "vm_name"]


def of_watch(watch: Watch) -> Iterator[Metric]:
    """Tell how things are now."""
    yield from _objectives(watch)
    yield from _replicas(watch)
    yield from _space(watch)


def _space(watch: Watch) -> Iterator[Metric]:
    held = GaugeMetricFamily(
        "ntx_agent_recovery_point_bytes",
        "What our recovery points hold on the cluster; estimated where Prism does not tell it.",
        labels=["container"],
    )
    capacity = GaugeMetricFamily("ntx_agent_container_capacity_bytes", "Of a storage container.", labels=["container"])
    points = GaugeMetricFamily("ntx_agent_recovery_points", "Our recovery points.", labels=["container"])
    oldest = GaugeMetricFamily(
        "ntx_agent_recovery_point_oldest_seconds", "Age of the oldest of them.", labels=["container"]
    )
    for each in watch.space.held:
        held.add_metric([each.container], each.bytes_held)
        points.add_metric([each.container], each.points)
        oldest.add_metric([each.container], each.oldest.total_seconds())
        if each.capacity is not None:
            capacity.add_metric([each.container], each.capacity)
    yield from (held, capacity, points, oldest)


def _replicas(watch: Watch) -> Iterator[Metric]:
    lag = GaugeMetricFamily(
        "ntx_agent_replica_lag_seconds", "Age of the newest whole generation of a replica.", labels=_VM
    )
    generation = GaugeMetricFamily("ntx_agent_replica_generation", "The newest whole generation.", labels=_VM)
    behind = GaugeMetricFamily(
        "ntx_agent_replica_behind_bytes",
        "What a cycle that is not over is about to write; without one, nothing is told.",
        labels=_VM,
    )
    verified = GaugeMetricFamily(
        "ntx_agent_replica_verified_timestamp_seconds", "When it was last read back; 0: never.", labels=_VM
    )
    between = GaugeMetricFamily(
        "ntx_agent_replica_between", "1: the target shows no generation, until a cycle comes to its end.", labels=_VM
    )
    doubted = GaugeMetricFamily(
        "ntx_agent_replica_doubted", "1: it gave back something else than what was written.", labels=_VM
    )
    now = utc_now()
    for each in watch.replicas.found:
        of, status = [each.job, each.vm.id, each.vm.name], each.status
        between.add_metric(of, float(status.is_between))
        doubted.add_metric(of, float(status.is_doubted))
        if status.bytes_behind is not None:
            behind.add_metric(of, status.bytes_behind)
        if status.replica is not None:
            age = status.lag(now)
            if age is not None and status.replica.cut_over_at is None:  # else nothing follows, as it was meant
                lag.add_metric(of, age.total_seconds())
            generation.add_metric(of, status.replica.generation)
            at = status.replica.verified
            verified.add_metric(of, 0.0 if at is None else at.at.timestamp())
    yield from (lag, generation, behind, verified, between, doubted)


def _objectives(watch: Watch) -> Iterator[Metric]:
    objective = GaugeMetricFamily(
        "ntx_agent_objective_seconds", "How old the newest point of a VM may be.", labels=["job"]
    )
    missed = GaugeMetricFamily("ntx_agent_objective_missed_vms", "VMs whose newest point is older.", labels=["job"])
    age = GaugeMetricFamily(
        "ntx_agent_point_age_seconds",
        "Age of the newest point of a VM in a job with an objective; without one, since when the VM is known.",
        labels=_VM,
    )
    aims = watch.aims()
    late = Counter(aim.job for aim in aims if not aim.is_kept)
    for job, span in {aim.job: aim.objective for aim in aims}.items():
        objective.add_metric([job], span.total_seconds())
        missed.add_metric([job], late[job])
    for aim in aims:
        age.add_metric([aim.job, aim.vm_id, aim.vm_name], aim.age.total_seconds())
    yield objective
    yield missed
    yield age
