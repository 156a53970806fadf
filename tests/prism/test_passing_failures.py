"""A failure that passes costs a request or two, never a recovery point or a disk; one that stays is told clearly."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ntxengine.errors import PrismAnswerError, PrismBusy, PrismError, PrismStatusError, PrismTimeout, TaskFailed
from ntxengine.prism.cluster import Prism
from ntxengine.prism.models import Family, RecoveryPoint
from ntxengine.prism.tasks import Deadline, poll
from ntxengine.sim import Simulator
from ntxengine.sim.faults import AnswerFault, HttpFault
from tests.prism.conftest import Connect
from tests.prism.hostile import HandClock
from tests.prism.steps import freeze, points, subject

V4_POINTS, V4_DISKS = "/config/recovery-points", "/ahv/config/vms/.*/disks"
V4_POINT = V4_POINTS + "/[^/]*$"

# Which request, of which family, while something is made: its path and its method.
WHILE_FREEZING = [
    ("v4", "GET", "/config/tasks/"),
    ("v4", "GET", V4_POINT),
    ("v4", "GET", "/vm-recovery-points/"),
    ("v3", "GET", "/vm_snapshots/"),
    ("v3", "GET", "v2.0/vms/"),
]
WHILE_ATTACHING = [
    ("v4", "GET", "/config/tasks/"),
    ("v4", "GET", "/disks$"),
    ("v3", "GET", "v2.0/tasks/"),
]
PASSING = {
    "404": HttpFault(status=404),
    "json-500": HttpFault(status=500),
    "json-500-for-long": HttpFault(status=500, count=30),
    "404-for-a-while": HttpFault(status=404, count=4),
    "plain-502": HttpFault(status=502, plain=True, count=2),
    "504": HttpFault(status=504, count=12),
    "no-json": AnswerFault(kind="empty_body"),
    "nothing": AnswerFault(kind="nothing", count=2),
}


def spoil(sim: Simulator, name: str, method: str, path: str, *, after: int = 0) -> None:
    """Let the next answers to these requests be bad."""
    kind = PASSING[name]
    fields = {**vars(kind), "method": method, "path": path, "after": after}
    if isinstance(kind, HttpFault):
        sim.faults.http.append(HttpFault(**fields))
    else:
        sim.faults.answers.append(AnswerFault(**fields))


def left(sim: Simulator) -> list[int]:
    """Return how often each fault would still strike."""
    return [fault.count for fault in [*sim.faults.http, *sim.faults.answers]]


@pytest.mark.parametrize("failure", PASSING)
@pytest.mark.parametrize(("family", "method", "path"), WHILE_FREEZING)
async def test_a_recovery_point_outlives_a_failure_that_passes(
    sim: Simulator, connect: Connect, family: Family, method: str, path: str, failure: str
) -> None:
    async with connect(family) as prism:
        vm = await subject(prism)
        spoil(sim, failure, method, path)

        point = await freeze(prism, vm)

        assert len(point.disks) == len(vm.disks)
        assert left(sim) == [0]
        assert [request.status for request in sim.requests if request.method == "DELETE"] == []
    assert points(sim) == 1


@pytest.mark.parametrize("failure", PASSING)
@pytest.mark.parametrize(("family", "method", "path"), WHILE_ATTACHING)
async def test_a_hot_added_disk_outlives_a_failure_that_passes(
    sim: Simulator, connect: Connect, family: Family, method: str, path: str, failure: str
) -> None:
    worker = sim.worker_id or ""
    async with connect(family) as prism:
        point = await freeze(prism, await subject(prism))
        # The first look at the disks is before the request: nothing is at stake there.
        spoil(sim, failure, method, path, after=1 if path.endswith("disks$") else 0)

        disk = await prism.attach_disk(worker, point.disks[0])

        assert left(sim) == [0]
        assert await prism.attached_disks(worker) == [disk]
        assert len(sim.world.state.clones) == 1


@pytest.mark.parametrize("failure", PASSING)
@pytest.mark.parametrize(
    ("family", "method", "path"),
    [
        ("v4", "DELETE", V4_POINT),
        ("v4", "GET", "/config/tasks/"),
        ("v3", "DELETE", "/vm_snapshots/"),
        ("v3", "GET", "/vm_snapshots/"),
    ],
)
async def test_a_deletion_is_carried_through_over_a_failure_that_passes(
    sim: Simulator, connect: Connect, family: Family, method: str, path: str, failure: str
) -> None:
    async with connect(family) as prism:
        point = await freeze(prism, await subject(prism))
        spoil(sim, failure, method, path)

        await prism.delete_recovery_point(point.id)

    assert points(sim) == 0


@pytest.mark.parametrize("failure", ["404", "json-500-for-long", "504"])
@pytest.mark.parametrize(
    ("family", "method", "path"),
    [
        ("v4", "GET", "/config/tasks/"),
        ("v4", "DELETE", "/disks/"),
        ("v4", "GET", "/disks/"),
        ("v3", "GET", "v2.0/tasks/"),
        ("v3", "POST", "/detach$"),
        ("v3", "GET", "v2.0/vms/"),
    ],
)
async def test_a_disk_is_taken_off_over_a_failure_that_passes(
    sim: Simulator, connect: Connect, family: Family, method: str, path: str, failure: str
) -> None:
    worker = sim.worker_id or ""
    async with connect(family) as prism:
        point = await freeze(prism, await subject(prism))
        disk = await prism.attach_disk(worker, point.disks[0])
        spoil(sim, failure, method, path)

        await prism.detach_disk(disk)

    assert not sim.world.state.clones


@pytest.mark.parametrize("family", ["v3", "v4"])
async def test_one_404_does_not_lose_a_reference(sim: Simulator, connect: Connect, family: Family) -> None:
    async with connect(family) as prism:
        vm = await subject(prism)
        point = await freeze(prism, vm)
        sim.faults.http.append(HttpFault(path=point.id, method="GET", status=404))

        assert (await prism.recovery_point(point.id, vm)).id == point.id


# -- answers to the request itself that are lost


@pytest.mark.parametrize("status", [500, 504])
@pytest.mark.parametrize("family", ["v3", "v4"])
async def test_a_freeze_whose_answer_is_lost_is_found_and_made_once(
    sim: Simulator, connect: Connect, family: Family, status: int
) -> None:
    path = V4_POINTS + "$" if family == "v4" else "/vm_snapshots$"
    sim.faults.http.append(HttpFault(path=path, method="POST", status=status, count=-1, executed=True))
    async with connect(family) as prism:
        point = await freeze(prism, await subject(prism))

    assert list(sim.world.state.points) == [point.id]


@pytest.mark.parametrize("status", [409, 422])
@pytest.mark.parametrize("family", ["v3", "v4"])
async def test_a_freeze_that_is_refused_only_when_asked_again_is_found_too(
    sim: Simulator, connect: Connect, family: Family, status: int
) -> None:
    path = V4_POINTS + "$" if family == "v4" else "/vm_snapshots$"
    sim.faults.http.append(HttpFault(path=path, method="POST", status=504, executed=True))
    sim.faults.http.append(HttpFault(path=path, method="POST", status=status))
    async with connect(family) as prism:
        point = await freeze(prism, await subject(prism))

    assert list(sim.world.state.points) == [point.id]
    assert left(sim) == [0, 0]


async def test_a_snapshot_without_an_identifier_is_found_by_its_name(sim: Simulator, connect: Connect) -> None:
    sim.faults.http.append(HttpFault(path="idempotence", status=404, count=-1))
    sim.faults.http.append(HttpFault(path="/vm_snapshots$", method="POST", status=504, executed=True))
    async with connect("v3") as prism:
        point = await freeze(prism, await subject(prism))

    assert list(sim.world.state.points) == [point.id]
    assert len([one for one in sim.requests if one.method == "POST" and one.path.endswith("/vm_snapshots")]) == 1


@pytest.mark.parametrize("family", ["v3", "v4"])
async def test_a_hot_add_whose_answer_is_lost_is_found_and_made_once(
    sim: Simulator, connect: Connect, family: Family
) -> None:
    worker = sim.worker_id or ""
    path = "/disks$" if family == "v4" else "/disks/attach$"
    async with connect(family) as prism:
        point = await freeze(prism, await subject(prism))
        sim.faults.http.append(HttpFault(path=path, method="POST", status=504, count=-1, executed=True))

        disk = await prism.attach_disk(worker, point.disks[0])

        assert list(sim.world.state.clones) == [disk.vmdisk_id]


@pytest.mark.parametrize("family", ["v3", "v4"])
async def test_a_freeze_that_never_arrived_leaves_nothing(sim: Simulator, connect: Connect, family: Family) -> None:
    path = V4_POINTS + "$" if family == "v4" else "/vm_snapshots$"
    async with connect(family) as prism:
        vm = await subject(prism)
        sim.faults.http.append(HttpFault(path=path, method="POST", status=504, count=-1))

        with pytest.raises(PrismError):
            await freeze(prism, vm)

    assert points(sim) == 0


# -- failures that stay


@pytest.mark.parametrize(("family", "path"), [("v4", "/config/tasks/"), ("v3", "/vm_snapshots/")])
async def test_what_stays_unknown_ends_clearly_and_is_removed(
    sim: Simulator, connect: Connect, clock: HandClock, family: Family, path: str
) -> None:
    # The look at a snapshot is both: long unknown while it is made, and there again when it is removed.
    count = -1 if family == "v4" else 24
    async with connect(family) as prism:
        vm = await subject(prism)
        sim.faults.http.append(HttpFault(path=path, method="GET", status=404, count=count))
        began_s = clock.time_s

        with pytest.raises(PrismAnswerError, match=r"unknown to Prism for 60 s: .*404"):
            await freeze(prism, vm)

        assert clock.time_s - began_s < 200
    assert points(sim) == 0


async def test_a_prism_that_cannot_be_asked_until_the_deadline_is_busy(clock: HandClock) -> None:
    async def fails() -> None:
        raise PrismStatusError("HTTP 500: no luck", status=500, reason="")

    deadline = Deadline(clock.clock, 60)
    with pytest.raises(PrismBusy, match=r"something: no good answer within 60 s, try again later: HTTP 500: no luck"):
        await poll(fails, what="something", deadline=deadline)

    assert deadline.left_s == 0


@pytest.mark.parametrize("status", [400, 403, 409, 501])
async def test_a_clear_no_is_not_asked_again(clock: HandClock, status: int) -> None:
    async def refuses() -> None:
        raise PrismStatusError("no", status=status, reason="")

    with pytest.raises(PrismStatusError):
        await poll(refuses, what="something", deadline=Deadline(clock.clock))

    assert clock.slept == []


async def test_polling_gets_slower(clock: HandClock) -> None:
    async def never() -> None:
        return None

    with pytest.raises(PrismTimeout, match="something is not finished after 60 s"):
        await poll(never, what="something", deadline=Deadline(clock.clock, 60))

    assert clock.slept[0] == 0.25
    assert sorted(clock.slept[:-1]) == clock.slept[:-1]
    assert max(clock.slept) == 5
    assert sum(clock.slept) == 60


# -- what a task says, and does not


@pytest.mark.parametrize("said", ["wordless", "affected", "listed", "suspended"])
async def test_the_recovery_point_is_found_whatever_its_task_says(sim: Simulator, connect: Connect, said: str) -> None:
    sim.faults.tasks = said
    async with connect("v4") as prism:
        point = await freeze(prism, await subject(prism))

    assert list(sim.world.state.points) == [point.id]


async def test_a_failed_task_that_says_why_only_in_the_old_way_is_quoted(sim: Simulator, connect: Connect) -> None:
    sim.faults.tasks = "legacy_error"
    sim.faults.fail_tasks["create"] = 1
    async with connect("v4") as prism:
        with pytest.raises(TaskFailed, match="Simulated failure after the work was done"):
            await freeze(prism, await subject(prism))

    assert points(sim) == 0


async def test_a_task_that_can_be_cancelled_is(sim: Simulator, connect: Connect, clock: HandClock) -> None:
    sim.faults.cancelable_tasks = True
    sim.faults.stuck_tasks["create"] = 1
    async with connect("v4") as prism:
        with pytest.raises(PrismTimeout):
            await freeze(prism, await subject(prism))

    assert [task.status for task in sim.world.state.tasks.values() if task.kind == "create"] == ["CANCELED"]
    assert points(sim) == 0


# -- recovery points that the cluster does not delete


async def one_point(prism: Prism) -> RecoveryPoint:
    vm = await subject(prism)
    return await prism.create_recovery_point(
        vm, name="ntx-1", consistency="crash", expires_at=datetime(2099, 1, 1, tzinfo=UTC)
    )


async def test_a_secure_recovery_point_says_that_somebody_has_to_approve(
    sim: Simulator, connect: Connect, clock: HandClock
) -> None:
    sim.faults.secure_points = True
    async with connect("v4") as prism:
        point = await one_point(prism)
        began_s = clock.time_s

        with pytest.raises(PrismError, match=r"is secure \(isSecure\): somebody has to approve"):
            await prism.delete_recovery_point(point.id)

        assert "isSecure" in point.protection
        assert clock.time_s - began_s < 60
    assert points(sim) == 1


async def test_a_refused_deletion_of_a_write_once_recovery_point_says_so(sim: Simulator, connect: Connect) -> None:
    async with connect("v4") as prism:
        point = await one_point(prism)
        sim.faults.answers.append(AnswerFault(path=V4_POINT, field="data.isWormProtected", value=True, count=-1))
        sim.faults.http.append(HttpFault(path=V4_POINT, method="DELETE", status=409))

        with pytest.raises(PrismError, match="until it expires"):
            await prism.delete_recovery_point(point.id)
