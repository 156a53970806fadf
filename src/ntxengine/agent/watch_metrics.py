"""What Prometheus is told of what the agent watches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric

from ntxengine.agent.watch import Watch

_VM = ["job", "vm_id", "vm_name"]


def of_watch(watch: Watch) -> Iterator[Metric]:
    """Tell how things are now."""
    yield from _objectives(watch)
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
