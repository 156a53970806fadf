"""`--audit` on the command line: what it takes, what it says, and what lists and verdicts say of distrusted points."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ntxengine.capture import Audit, parse_audit
from ntxengine.cli.audited import report_text
from ntxengine.errors import OptionsError
from ntxengine.repository import StoredAudit
from ntxengine.sim import Simulator
from ntxengine.sim.faults import HiddenRegion
from ntxengine.units import GIB, MIB
from tests.cli.ntx import Ran, assert_refused, ntx
from tests.support.servers import require


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("2%", Audit(share=0.02)),
        ("0.5 %", Audit(share=0.005)),
        ("100%", Audit(share=1.0)),
        ("2GiB", Audit(bytes=2 * GIB)),
        ("64KiB", Audit(bytes=65536)),
        ("10M", Audit(bytes=10 * MIB)),
        ("10m", Audit(seconds=600)),
        ("1.5h", Audit(seconds=5400)),
        ("90s", Audit(seconds=90)),
    ],
)
def test_an_amount_is_a_share_bytes_or_a_time(text: str, amount: Audit) -> None:
    assert parse_audit(text) == amount


@pytest.mark.parametrize(
    "text", ["", "0%", "0", "0s", "101%", "2", "65535", "64", "1B", "63KiB", "-1%", "ten", "1d", "nan%", "5%%"]
)
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(OptionsError):
        parse_audit(text)


def test_a_report_never_rounds_up_to_all() -> None:
    audit = StoredAudit(seed=0, position=99_999, blocks=100_000, blocks_sampled=7)

    assert "99.9 % covered" in report_text(audit)
    assert report_text(StoredAudit(0, 5, 10)) == ""
    assert "NOT as reported" in report_text(StoredAudit(0, 0, 10, blocks_sampled=3, blocks_wrong=1))


class Hand:
    """Types commands against one cluster and one repository, and writes to the first disk of its guest."""

    def __init__(self, cluster: Simulator, folder: Path) -> None:
        require("qemu-nbd", "qemu-img", "setpriv")
        self.cluster = cluster
        self.repository = folder / "repository"
        self.out = folder / "out"
        self._env = {**cluster.env, "NTX_REPOSITORY": str(self.repository)}

    def ntx(self, *arguments: str | Path) -> Ran:
        return ntx(*arguments, env=self._env)

    def write(self, offset: int, data: bytes) -> None:
        with self.cluster.disk_lock, self.cluster.config.vms[0].disks[0].path.open("r+b") as disk:
            disk.seek(offset)
            disk.write(data)


@pytest.fixture
def hand(cluster: Simulator, tmp_path: Path) -> Iterator[Hand]:
    yield Hand(cluster, tmp_path)
    cluster.faults.hidden.clear()


def test_a_bad_amount_is_one_line_and_exit_code_2(hand: Hand) -> None:
    for amount in ("two", "2"):
        assert_refused(hand.ntx("capture", "demo", "--audit", amount), 2, "--audit", "2%", "2GiB", "10m")


def test_from_a_missed_change_to_a_marked_point(hand: Hand) -> None:
    assert hand.ntx("capture", "demo", "--audit", "5%").code == 0
    hand.cluster.faults.hidden.append(HiddenRegion(5 * MIB, 65536, question="changed"))
    hand.write(5 * MIB, os.urandom(4096))
    missed = hand.ntx("capture", "demo", "--json").json
    hand.cluster.faults.hidden.clear()

    plan = hand.ntx("capture", "demo", "-n", "--audit", "100%")
    found = hand.ntx("capture", "demo", "--audit", "100%", "--quiet")
    after = hand.ntx("capture", "demo", "--audit", "5%", "--json")
    points = hand.ntx("points", "--json")
    listed = hand.ntx("points")
    verified = hand.ntx("verify", missed["point_id"], "--json")
    everything = hand.ntx("verify", "--all")
    newest = hand.ntx("verify", "demo")
    restore_plan = hand.ntx("restore", missed["point_id"], hand.out, "-n")
    restored = hand.ntx("restore", missed["point_id"], hand.out, "--json")
    quietly = hand.ntx("restore", missed["point_id"], hand.out.with_name("quietly"), "--quiet")

    assert "audited: 4096 of 4096 blocks at most, 256.0 MiB; 5 % covered so far" in plan.out
    assert found.code == 0
    assert found.out == ""
    assert f"tracking distrusted: {missed['point_id']} may lack changes" in " ".join(found.err.split())
    audit = after.json["report"]["disks"][0]["audit"]
    assert (audit["blocks_sampled"], audit["blocks_wrong"], audit["position"]) == (205, 0, 205)
    marks = {each["point_id"]: each["tracking_distrusted"] for each in points.json["points"]}
    assert [point_id for point_id, is_marked in marks.items() if is_marked] == [missed["point_id"]]
    (disk,) = next(each for each in points.json["points"] if each["tracking_distrusted"])["distrusted_disks"]
    assert disk["offsets"] == [5 * MIB]
    assert points.code == listed.code == 0
    assert "tracking distrusted" in listed.out
    assert (verified.code, verified.json["points"][0]["right"]) == (3, True)
    assert verified.json["points"][0]["tracking_distrusted"] is True
    assert "tracking distrusted" in verified.json["error"]["message"]
    assert (quietly.code, quietly.out) == (0, "")
    assert "tracking distrusted" in quietly.err
    assert (everything.code, newest.code) == (3, 0)
    assert "tracking distrusted: an audit found" in restore_plan.out
    third = points.json["points"][2]["point_id"]
    assert f"all of it was read for point {third}" in " ".join(restored.err.split())
    assert (restored.code, restored.json["tracking_distrusted"]) == (0, True)
    assert restored.json["distrusted_disks"] == [disk]
    assert "may lack changes (tracking distrusted)" in " ".join(restored.err.split())


def test_marks_that_cannot_be_read_are_said_and_never_taken_for_none(hand: Hand) -> None:
    point = hand.ntx("capture", "demo", "--json").json
    marks = hand.repository / point["vm_id"] / "distrusted.json"
    marks.write_text(json.dumps({"format": "ntxengine-distrust", "version": 9, "disks": []}))

    points = hand.ntx("points", "--json")
    verified = hand.ntx("verify", "demo", "--json")
    listed = hand.ntx("verify", "--all")
    plan = hand.ntx("restore", "demo", hand.out, "-n", "--json")
    captured = hand.ntx("capture", "demo", "--json")

    assert points.json["points"][0]["tracking_distrusted"] is None
    assert "distrusted.json" in points.err
    (verdict,) = verified.json["points"]
    assert (verdict["right"], verdict["tracking_distrusted"], verdict["problems"]) == (True, None, [])
    assert (plan.json["tracking_distrusted"], plan.json["distrusted_disks"]) == (None, [])
    assert "distrusted.json" in plan.err
    assert (verified.code, listed.code) == (3, 3)
    assert "tracking distrusted?" in listed.out
    assert f"{listed.out}{listed.err}".count("distrusted.json") == 1
    assert {disk["tracking"] for disk in captured.json["report"]["disks"]} == {"digest-scan"}
