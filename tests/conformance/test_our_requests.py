"""What we send to v4 is what Nutanix's SDKs would send: paths, queries, headers, bodies; what we get, they read."""

from __future__ import annotations

from typing import Any

from tests.conformance.exchanges import Exchange

USED = {
    "RecoveryPointsApi.create_recovery_point",
    "RecoveryPointsApi.delete_recovery_point_by_id",
    "RecoveryPointsApi.discover_cluster_for_recovery_point_id",
    "RecoveryPointsApi.get_recovery_point_by_id",
    "RecoveryPointsApi.get_vm_recovery_point_by_id",
    "RecoveryPointsApi.list_recovery_points",
    "RecoveryPointsApi.vm_recovery_point_compute_changed_regions",
    "TasksApi.get_task_by_id",
    "VmApi.create_disk",
    "VmApi.delete_disk_by_id",
    "VmApi.get_disk_by_id",
    "VmApi.get_vm_by_id",
    "VmApi.list_disks_by_vm_id",
    "VmApi.list_vms",
}


def test_every_exchange_is_one_that_the_sdks_know_and_read(judged: dict[str, Any]) -> None:
    wrong = [
        f"{exchange['method']} {exchange['path']}: {verdict['operation']}: {problem}"
        for exchange, verdict in judged["seen"]
        for problem in verdict["problems"]
    ]

    assert wrong == []


def test_the_judge_finds_what_is_wrong(judged: dict[str, Any]) -> None:
    for expected, verdict in judged["spoiled"].items():
        assert any(expected in problem for problem in verdict["problems"]), (expected, verdict)


def test_every_call_of_a_capture_was_judged(judged: dict[str, Any]) -> None:
    assert {verdict["operation"] for _, verdict in judged["seen"]} >= USED


def test_what_changes_a_vm_names_the_version_that_was_read(v4_exchanges: list[Exchange]) -> None:
    [removed] = [one for one in v4_exchanges if one.method == "DELETE" and "/disks/" in one.path]

    assert removed.headers["if-match"]


def test_the_password_stays_at_prism_central(v4_exchanges: list[Exchange]) -> None:
    computed = [one for one in v4_exchanges if one.path.endswith("compute-changed-regions")]

    assert computed
    assert not any("authorization" in one.headers for one in computed)
