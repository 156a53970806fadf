"""What is said of replicas beside the runs: what no cycle that runs explains, and what is not what was written."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ntxengine.agent.jobs import JobVm
from ntxengine.agent.levels import Level
from ntxengine.agent.replicas import Followed, Replicas
from ntxengine.agent.watch import Watch
from ntxengine.agent.watch_metrics import _replicas
from ntxengine.replicate.state import (
    INTENT_FORMAT,
    REPLICA_FORMAT,
    Intent,
    IntentDisk,
    Replica,
    StoredImage,
    StoredReplicaDisk,
)
from ntxengine.replicate.status import ReplicaStatus

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
VM = JobVm("11111111-0000-0000-0000-000000000000", "db01")
DISK = StoredReplicaDisk("d", "scsi.0", 65536, (StoredImage("a.raw", "g3-0.manifest"),), "00")
HEAD: dict[str, Any] = {"id": "r", "vm_id": VM.id, "vm_name": "db01", "target": "kvm:/r", "name": "db01", "form": "raw"}
REPLICA = Replica(
    format=REPLICA_FORMAT,
    version=1,
    generation=3,
    frozen_at=NOW,
    committed_at=NOW,
    record_id="p",
    recovery_point_id="q",
    consistency="crash",
    disks=(DISK,),
    **HEAD,
)
DEAD = Intent(
    format=INTENT_FORMAT,
    version=1,
    generation=4,
    began_at=NOW,
    recovery_point_id="q",
    disks=(IntentDisk("d", "scsi.0", 65536, "regions", keeps=False, changes="c", bytes=4096),),
    **HEAD,
)
WHOLE = ReplicaStatus("r", VM.id, Path("/r"), REPLICA)
BETWEEN = replace(WHOLE, pending=DEAD)
DOUBTED = replace(WHOLE, replica=replace(REPLICA, disks=(replace(DISK, is_doubted=True),)))


def watched(status: ReplicaStatus) -> Replicas:
    replicas = Replicas()
    replicas.found = (Followed("standby", VM, status),)
    return replicas


@pytest.mark.parametrize(
    ("status", "level", "text"),
    [
        (BETWEEN, Level.WARNING, "is between generation 3 and 4 until the next cycle comes to its end"),
        (DOUBTED, Level.CRITICAL, "gave back something else than what was written: the next cycle reads it"),
        (replace(WHOLE, replica=None, problem="torn"), Level.WARNING, "its state cannot be read: torn"),
    ],
)
def test_what_no_cycle_that_runs_explains_is_found(status: ReplicaStatus, level: Level, text: str) -> None:
    (finding,) = watched(status).findings()

    assert finding.level is level
    assert finding.subject.startswith("replica of VM db01")
    assert finding.text.startswith(text)


@pytest.mark.parametrize("status", [WHOLE, replace(BETWEEN, is_running=True)])
def test_what_is_whole_or_is_being_written_is_no_news(status: ReplicaStatus) -> None:
    assert watched(status).findings() == []


@pytest.mark.parametrize(
    ("status", "samples"),
    [
        (WHOLE, {"lag_seconds", "generation", "verified_timestamp_seconds", "between", "doubted"}),
        (
            BETWEEN,
            {"lag_seconds", "generation", "behind_bytes", "verified_timestamp_seconds", "between", "doubted"},
        ),
        (
            replace(WHOLE, replica=replace(REPLICA, cut_over_at=NOW)),
            {"generation", "verified_timestamp_seconds", "between", "doubted"},
        ),
    ],
)
def test_metrics_tell_what_is_known_and_no_lag_of_what_was_cut_over(status: ReplicaStatus, samples: set[str]) -> None:
    watch = cast("Watch", SimpleNamespace(replicas=watched(status)))

    found = {sample.name: sample.value for family in _replicas(watch) for sample in family.samples}

    assert {name.removeprefix("ntx_agent_replica_") for name in found} == samples
    assert found["ntx_agent_replica_between"] == float(status.is_between)
    assert found["ntx_agent_replica_generation"] == 3
