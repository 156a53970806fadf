"""An audit finds what the cluster did not tell, everything is read then, and the points that believed it are marked."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from typing import Any

import pytest

from ntxengine.capture import Audit
from ntxengine.errors import NtxError, RepositoryError, SourceError
from ntxengine.events import Stage
from ntxengine.repository import Point, StoredAudit
from ntxengine.repository.store import PointStore
from ntxengine.sim.faults import HiddenRegion
from tests.capture.lab import DATA_SIZE, MIB, SYSTEM_SIZE, Lab, Witness

pytestmark = pytest.mark.slow

BLOCK = 65536
SYSTEM_BLOCKS = SYSTEM_SIZE // BLOCK
ALL = Audit(share=1.0)


def audit_of(point: Point, label: str = "scsi.0") -> StoredAudit:
    audit = point.report.disks[point.disk(label).disk_id].audit
    assert audit is not None
    return audit


def tracking_of(point: Point, label: str = "scsi.0") -> str | None:
    return point.report.disks[point.disk(label).disk_id].tracking


def distrusted(lab: Lab) -> dict[str, list[str]]:
    """Return the labels of the distrusted disks by point."""
    health = PointStore.open(lab.repository.path).health()
    return {folder.name: sorted(each.label for each in found) for folder, found in health.distrusted.items()}


def hide(lab: Lab, offset: int, length: int = BLOCK, **how: Any) -> None:
    lab.sim.faults.hidden.append(HiddenRegion(offset, length, **how))


async def miss_a_change(lab: Lab) -> tuple[Point, Point]:
    """Capture twice; the cluster does not tell of one of two changes in between."""
    first = await lab.capture()
    hide(lab, 5 * MIB, question="changed")
    lab.write(0, 5 * MIB + 1000, b"nobody tells of this")
    lab.write(0, 0, os.urandom(4096))
    second = await lab.capture()
    assert lab.stored(second) != lab.guest()
    lab.sim.faults.hidden.clear()
    return first, second


async def test_a_change_that_the_cluster_never_told_of_is_found(lab: Lab) -> None:
    first, second = await miss_a_change(lab)
    lab.write(1, 512, os.urandom(512))

    third = await lab.capture(audit=ALL)

    assert lab.stored(third) == lab.guest()
    assert (tracking_of(third), tracking_of(third, "scsi.1")) == ("digest-scan", f"{lab.prism.family}-changed-regions")
    assert (audit_of(third).blocks_wrong, audit_of(third).offsets) == (1, (5 * MIB,))
    assert distrusted(lab) == {second.id: ["scsi.0"]}
    warning = next(text for text in lab.witness.warnings if "an audit found" in text)
    assert f"at offset {5 * MIB};" in warning
    assert "scsi.0" in warning
    assert second.id in warning
    assert first.id not in warning
    assert "an audit found that 1 of" in third.tracking_reason
    assert warning in third.report.warnings
    lab.assert_clean(points=3)


async def test_what_is_zero_that_should_not_be_makes_the_first_point_distrusted_too(lab: Lab) -> None:
    hide(lab, 5 * MIB, question="allocated")
    first = await lab.capture()
    second = await lab.capture()

    third = await lab.capture(audit=ALL)

    assert lab.stored(third) == lab.guest()
    assert distrusted(lab) == {first.id: ["scsi.0"], second.id: ["scsi.0"]}


async def test_a_first_point_for_which_all_was_read_is_not_distrusted(v4_lab: Lab) -> None:
    lab = v4_lab
    await lab.capture()  # of scsi.1 nothing was said to be allocated, so that all of it was read
    lab.write(1, MIB, b"nobody tells of this")
    hide(lab, MIB)
    second = await lab.capture()

    await lab.capture(audit=ALL)

    assert distrusted(lab) == {second.id: ["scsi.1"]}


async def test_a_full_capture_distrusts_the_points_before_it(v4_lab: Lab) -> None:
    lab = v4_lab
    hide(lab, 5 * MIB)
    first = await lab.capture()
    second = await lab.capture()

    third = await lab.capture(full=True, audit=ALL)

    assert lab.stored(third) == lab.guest()
    assert tracking_of(third) == "full"
    assert distrusted(lab) == {first.id: ["scsi.0"], second.id: ["scsi.0"]}
    assert any(f"{second.id}, {first.id} may lack changes" in text for text in lab.witness.warnings)


async def test_a_first_point_that_holds_what_a_full_one_was_not_told_is_not_distrusted(v4_lab: Lab) -> None:
    lab = v4_lab
    await lab.capture()
    second = await lab.capture()
    hide(lab, 5 * MIB)

    await lab.capture(full=True, audit=ALL)

    assert distrusted(lab) == {second.id: ["scsi.0"]}


async def test_where_the_newest_cannot_be_read_it_is_distrusted(v4_lab: Lab) -> None:
    lab = v4_lab
    first = await lab.capture()
    first.manifest_path(first.disk("scsi.0")).write_bytes(b"no manifest")
    hide(lab, 5 * MIB)

    await lab.capture(audit=ALL)

    assert distrusted(lab) == {first.id: ["scsi.0"]}


@pytest.mark.parametrize("kind", ["dropped", "zeroed"])
@pytest.mark.parametrize("verify", [True, False])
async def test_a_change_is_stored_with_the_rest_of_its_block(kind: str, verify: bool, v4_lab: Lab) -> None:
    lab = v4_lab
    hide(lab, 5 * MIB + BLOCK // 2, BLOCK // 2, kind=kind)

    first = await lab.capture(verify=verify)
    stored = lab.stored(first) == lab.guest()
    lab.write(0, 5 * MIB, os.urandom(BLOCK))
    second = await lab.capture(verify=verify)

    assert stored
    assert lab.stored(second) == lab.guest()
    assert tracking_of(second) == "v4-changed-regions"


@pytest.mark.parametrize("kind", ["dropped", "zeroed"])
async def test_a_first_capture_reads_everything_when_what_is_said_to_be_zero_is_not(kind: str, lab: Lab) -> None:
    lab.write(1, 0, b"not empty")
    hide(lab, 5 * MIB, kind=kind)

    point = await lab.capture(audit=ALL)

    assert lab.stored(point) == lab.guest()
    assert (tracking_of(point), tracking_of(point, "scsi.1")) == ("full", "allocated")
    assert "zero or unallocated" in point.tracking_reason
    assert audit_of(point).position == 0
    assert distrusted(lab) == {}


async def test_what_is_said_to_have_become_zero_is_compared_with_zero(lab: Lab) -> None:
    first = await lab.capture()
    lab.write(0, 5 * MIB, os.urandom(BLOCK))
    hide(lab, 5 * MIB, kind="zeroed", question="changed")

    second = await lab.capture(audit=ALL)

    assert lab.stored(second) == lab.guest()
    assert tracking_of(second) == "digest-scan"
    assert first.id not in distrusted(lab)


async def test_what_honestly_became_zero_is_right(lab: Lab) -> None:
    await lab.capture(audit=ALL)
    lab.zero(0, 5 * MIB + 4096, MIB // 2)

    point = await lab.capture(audit=ALL)

    assert lab.stored(point) == lab.guest()
    assert audit_of(point).blocks_wrong == 0
    assert tracking_of(point) == f"{lab.prism.family}-changed-regions"


async def test_coverage_grows_until_the_missed_change_is_found(v4_lab: Lab) -> None:
    lab = v4_lab
    await miss_a_change(lab)
    positions = []
    for _ in range(9):
        point = await lab.capture(audit=Audit(share=0.125))
        if tracking_of(point) == "digest-scan":
            break
        positions.append(audit_of(point).position)

    assert lab.stored(point) == lab.guest()
    assert positions == [SYSTEM_BLOCKS // 8 * (number + 1) for number in range(len(positions))]
    assert len(positions) < 8


async def test_what_was_covered_stays_so_over_captures_without_an_audit(v4_lab: Lab) -> None:
    lab = v4_lab
    await lab.capture(audit=Audit(share=0.25))
    first = await lab.capture(audit=Audit(share=0.25))
    lab.write(0, 0, os.urandom(4096))
    between = await lab.capture()

    second = await lab.capture(audit=Audit(share=0.25))

    before, kept, after = (audit_of(point) for point in (first, between, second))
    assert (kept.seed, kept.position, kept.blocks_sampled) == (before.seed, before.position, 0)
    assert (after.seed, after.position, after.blocks) == (before.seed, 3 * SYSTEM_BLOCKS // 4, SYSTEM_BLOCKS)
    assert Stage.AUDIT in lab.witness.stages


async def test_a_scan_and_a_full_point_begin_anew(v4_lab: Lab) -> None:
    lab = v4_lab
    await lab.capture(audit=Audit(share=0.5))

    scanned = await lab.capture(scan=True, audit=Audit(share=0.5))
    after_scan = await lab.capture(audit=Audit(share=0.5))
    full = await lab.capture(full=True, audit=Audit(share=0.25))

    assert scanned.report.disks[scanned.disk("scsi.0").disk_id].audit is None
    assert audit_of(after_scan).position == SYSTEM_BLOCKS // 2
    assert audit_of(full).position == SYSTEM_BLOCKS // 4


async def test_nothing_is_sampled_of_a_disk_that_is_read_anyway(v4_lab: Lab) -> None:
    await v4_lab.capture()

    await v4_lab.capture(scan=True, audit=ALL)

    assert Stage.AUDIT not in v4_lab.witness.stages


async def test_bytes_are_divided_by_size_and_do_not_count_what_is_read_anyway(v4_lab: Lab) -> None:
    lab = v4_lab
    await lab.capture()
    lab.write(0, 0, os.urandom(MIB))

    point = await lab.capture(audit=Audit(bytes=2 * MIB))

    both = [audit_of(point, label) for label in ("scsi.0", "scsi.1")]
    total = SYSTEM_SIZE + DATA_SIZE
    assert [audit.blocks_sampled for audit in both] == [
        -(-2 * MIB * size // total // BLOCK) for size in (SYSTEM_SIZE, DATA_SIZE)
    ]
    assert both[0].position >= both[0].blocks_sampled
    assert 0 < sum(audit.bytes_read for audit in both) <= 2 * MIB + 2 * BLOCK


async def test_an_untouched_disk_is_attached_for_its_audit_and_not_written(v4_lab: Lab) -> None:
    lab = v4_lab
    await lab.capture()

    point = await lab.capture(audit=ALL)

    assert {Stage.ATTACH, Stage.AUDIT} <= set(lab.witness.stages)
    assert Stage.COPY not in lab.witness.stages
    assert lab.stored(point) == lab.guest()
    assert audit_of(point, "scsi.1").blocks_sampled == audit_of(point, "scsi.1").blocks == -(-DATA_SIZE // BLOCK)
    lab.assert_clean(points=2)


async def test_a_short_last_block_and_a_disk_that_grew_are_audited(lab: Lab) -> None:
    await lab.capture(audit=ALL)
    lab.resize(1, DATA_SIZE + MIB + 1024)
    lab.write(1, DATA_SIZE + MIB, b"the new tail")

    grown = await lab.capture(audit=ALL)
    again = await lab.capture(audit=ALL)

    assert lab.stored(grown) == lab.stored(again) == lab.guest()
    assert audit_of(again, "scsi.1").blocks_sampled == audit_of(again, "scsi.1").blocks
    assert distrusted(lab) == {}


@pytest.mark.parametrize("options", [{}, {"on_lost_tracking": "full"}, {"full": True}, {"max_chain": 1}])
async def test_what_was_found_is_kept_though_the_capture_fails(options: dict[str, Any], v4_lab: Lab) -> None:
    lab = v4_lab
    _, second = await miss_a_change(lab)

    class Fails(Witness):
        def began(self, stage: Stage) -> None:
            if stage is Stage.COMMIT:
                raise RuntimeError("too late")

    lab.make_witness = Fails
    with pytest.raises(RuntimeError):
        await lab.capture(audit=ALL)
    assert distrusted(lab) == {second.id: ["scsi.0"]}
    lab.make_witness = Witness

    hide(lab, 5 * MIB)
    third = await lab.capture(**options)

    assert lab.stored(third) == lab.guest()
    assert tracking_of(third) == ("full" if "full" in options or "max_chain" in options else "digest-scan")
    assert any(f"point {second.id} may lack changes" in text for text in lab.witness.warnings)
    lab.assert_clean(points=3)


async def test_where_reading_all_is_not_allowed_the_capture_fails_and_the_finding_stays(v4_lab: Lab) -> None:
    lab = v4_lab
    _, second = await miss_a_change(lab)

    with pytest.raises(NtxError, match="not allowed"):
        await lab.capture(audit=ALL, on_lost_tracking="fail")

    assert distrusted(lab) == {second.id: ["scsi.0"]}
    lab.assert_clean(points=2)


async def test_a_finding_that_cannot_be_recorded_is_in_the_error(v4_lab: Lab) -> None:
    lab = v4_lab
    _, second = await miss_a_change(lab)

    class Spoils(Witness):
        def began(self, stage: Stage) -> None:
            if stage is Stage.AUDIT:
                (second.path.parent / "distrusted.json").mkdir(exist_ok=True)

    lab.make_witness = Spoils
    with pytest.raises(
        RepositoryError, match=rf"an audit found .* at offset {5 * MIB}; .*/distrusted.json.* --scan, or .*--audit\)$"
    ):
        await lab.capture(audit=ALL)

    lab.assert_clean(points=2)


@pytest.fixture
def unreadable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every read of an audit fails."""

    async def fails(*_: Any, **__: Any) -> None:
        raise SourceError("/dev/x: reading failed: offset 65536: Input/output error", offset=65536)

    monkeypatch.setattr("ntxengine.capture.audit.dataplane.digest", fails)
    return


async def test_what_cannot_be_read_ends_the_audit_and_not_the_capture(v4_lab: Lab, unreadable: None) -> None:
    lab = v4_lab

    point = await lab.capture(audit=ALL, verify=False)

    assert lab.stored(point) == lab.guest()
    assert "Input/output error" in audit_of(point).problem
    assert audit_of(point).blocks_sampled == 0
    assert audit_of(point).position < SYSTEM_BLOCKS / 2
    assert any("not all could be read" in text for text in lab.witness.warnings)


@pytest.mark.parametrize("seed", range(4))
async def test_an_honest_cluster_is_never_accused(seed: int, v4_lab: Lab) -> None:
    lab = v4_lab
    dice = random.Random(seed)
    lab.sim.config.limits.regions_per_page = dice.choice([1, 3, 10_000])
    lab.write(1, 0, b"not empty")
    for _ in range(4):
        for disk, size in ((0, SYSTEM_SIZE), (1, DATA_SIZE)):
            for _ in range(dice.randint(0, 4)):
                offset = dice.randrange(size // 512) * 512
                length = min(dice.randint(1, 400) * 512, size - offset)
                if dice.random() < 0.5:
                    lab.write(disk, offset, dice.randbytes(length))
                else:
                    lab.zero(disk, offset, length)
        audit = dice.choice([ALL, Audit(share=0.3), Audit(bytes=MIB), Audit(seconds=0.2)])

        point = await lab.capture(audit=audit)

        assert lab.stored(point) == lab.guest()
        assert {tracking_of(point), tracking_of(point, "scsi.1")} <= {"allocated", "v4-changed-regions"}
        assert [audit_of(point, label).blocks_wrong for label in ("scsi.0", "scsi.1")] == [0, 0]
    assert distrusted(lab) == {}
