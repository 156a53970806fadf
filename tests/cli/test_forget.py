"""`ntx forget`, `ntx tag`, `ntx hold`, and what `ntx points` shows of them."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ntxengine.repository import Point
from ntxengine.repository.store import PointStore
from tests.cli.ntx import Ran, assert_refused, ntx
from tests.cli.test_completion import complete, offered
from tests.repository.builders import (
    DISK,
    OTHER_VM,
    VM,
    Clock,
    ModelDisk,
    Write,
    begin,
    fill_disk,
    record_of,
)

SIZE = 65536
DAYS = 5


def make_point(store: PointStore, clock: Clock, number: int, *, vm_id: str = VM, vm_name: str = "db01") -> Point:
    with begin(store, vm_id, store.newest(vm_id)) as unfinished:
        disk = fill_disk(unfinished, DISK, ModelDisk(SIZE), [Write(0, 512, number + 1)], "scsi.0")
        record = replace(record_of(unfinished, [disk], vm_name=vm_name), created_at=clock.now)
        return unfinished.commit(record, vm_config={"name": vm_name})


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> PointStore:
    return PointStore.create(tmp_path / "a repository", clock=clock)


@pytest.fixture
def points(store: PointStore, clock: Clock) -> list[Point]:
    """One a day, on top of each other; the first on 2026-11-23, at 04:15 UTC."""
    made = []
    for number in range(DAYS):
        made.append(make_point(store, clock, number))
        clock.advance(86400)
    return made


def run(store: PointStore, *arguments: str) -> Ran:
    return ntx(*arguments, env={"NTX_REPOSITORY": str(store.path)})


def listed(store: PointStore) -> list[str]:
    return [point.id for point in store.points(VM)]


def test_a_dry_run_says_of_each_point_whether_it_stays_and_why_and_forgets_none(
    store: PointStore, points: list[Point]
) -> None:
    ran = run(store, "forget", "db01", "--keep-last", "1", "--keep-weekly", "2", "--dry-run")

    assert ran.code == 0, ran.err
    lines = ran.out.splitlines()
    assert re.split(r"  +", lines[0]) == ["POINT", "VM", "FROZEN", "DECISION", "WHY"]
    assert [re.split(r"  +", line)[3:] for line in lines[1:6]] == [
        *[["forget", "no rule keeps it"]] * 4,
        ["keep", "last 1 of 1, weekly 2026-W48"],
    ]
    assert lines[1].split()[2] == "2026-11-23T04:15:00Z"
    assert lines[6] == "would forget 4 of 5 points of 1 VM"
    assert listed(store) == [point.id for point in points]


def test_what_no_rule_keeps_is_forgotten_and_the_next_night_has_less_to_say(
    store: PointStore, points: list[Point]
) -> None:
    first = run(store, "forget", "--all", "--keep-daily", "2", "--json")
    second = run(store, "forget", "--all", "--keep-daily", "2", "--json")

    assert listed(store) == [points[3].id, points[4].id]
    assert [each["forgotten"] for each in first.json["vms"][0]["points"]] == [True, True, True, False, False]
    assert [each["reasons"] for each in second.json["vms"][0]["points"]] == [
        ["daily 2026-11-26"],
        ["daily 2026-11-27"],
    ]


def test_forgotten_points_are_listed_only_if_asked_for(store: PointStore, points: list[Point]) -> None:
    run(store, "forget", points[1].id)

    hidden, shown = run(store, "points"), run(store, "points", "--forgotten")

    assert points[1].id not in hidden.out
    assert "1 forgotten point not listed: --forgotten does" in hidden.err
    assert re.search(rf"{points[1].id}.* forgotten", shown.out)
    assert shown.code == hidden.code == 0
    assert run(store, "points", "--forgotten", "--json").json["points"][1]["forgotten_at"] is not None


def test_a_forgotten_point_is_restored_by_its_whole_id_with_a_warning(
    store: PointStore, points: list[Point], tmp_path: Path
) -> None:
    run(store, "forget", points[1].id)

    ran = run(store, "restore", points[1].id, str(tmp_path / "out"))
    refused = run(store, "restore", points[1].id[:-1], str(tmp_path / "other"))

    assert ran.code == 0, ran.err
    assert f"warning: point {points[1].id} is forgotten: the next prune may remove it" in ran.err
    assert (tmp_path / "out" / "scsi.0.raw").read_bytes()[:1] == b"\2"
    assert_refused(refused, 10, "write the whole id")
    assert run(store, "verify", points[1].id).code == 0


def test_the_newest_of_a_vm_is_never_a_forgotten_point(store: PointStore, points: list[Point], tmp_path: Path) -> None:
    run(store, "forget", points[4].id)

    ran = run(store, "restore", "db01", str(tmp_path / "out"), "--json")

    assert ran.json["point_id"] == points[3].id


def test_all_points_of_a_vm_are_forgotten_only_by_their_names_and_that_is_said(
    store: PointStore, points: list[Point], tmp_path: Path
) -> None:
    ran = run(store, "forget", *(point.id for point in points))

    assert ran.code == 0
    assert "warning: every point of VM" in ran.err
    assert_refused(run(store, "restore", "db01", str(tmp_path / "out")), 10, "every point of VM", "is forgotten")
    assert run(store, "forget", "--undo", points[4].id).code == 0
    assert listed(store) == [points[4].id]


def test_a_point_is_brought_back_by_its_whole_id(store: PointStore, points: list[Point]) -> None:
    run(store, "forget", points[0].id, points[1].id)

    dry = run(store, "forget", "--undo", points[0].id, "--dry-run")
    ran = run(store, "forget", "--undo", points[0].id)
    again = run(store, "forget", "--undo", points[0].id)

    assert "bring back" in dry.out
    assert "bring back" in ran.out
    assert "was not forgotten" in again.out
    assert listed(store)[0] == points[0].id


def test_a_point_is_not_brought_back_while_its_vm_is_locked(store: PointStore, points: list[Point]) -> None:
    run(store, "forget", points[0].id)

    with store.lock(VM):
        assert_refused(run(store, "forget", "--undo", points[0].id), 11, "is locked by process")
        assert run(store, "forget", points[1].id).code == 0
        assert run(store, "tag", points[2].id, "x").code == 0


def test_tags_keep_and_are_shown(store: PointStore, points: list[Point]) -> None:
    tagged = run(store, "tag", points[0].id[:-1], "release", "v1.2")
    untagged = run(store, "tag", points[0].id, "v1.2", "never", "--remove", "--json")
    ran = run(store, "forget", "db01", "--keep-tag", "release")

    assert tagged.out == f"point {points[0].id}: tags: release v1.2\n"
    assert untagged.json["tags"] == ["release"]
    assert ran.code == 0
    assert listed(store) == [points[0].id, points[4].id]
    assert "the newest whole point of the VM" in ran.out
    shown = run(store, "points").out.splitlines()
    assert shown[0].split()[-1] == "TAGS"
    assert shown[1].split()[-1] == "release"


def test_a_hold_keeps_and_is_shown_and_refuses_with_what_releases_it(store: PointStore, points: list[Point]) -> None:
    held = run(store, "hold", points[0].id, "--until", "2127-03-01", "--reason", "audit of 2026")
    by_rules = run(store, "forget", "--all", "--keep-last", "1")
    by_id = run(store, "forget", points[0].id)

    assert held.out == f"point {points[0].id}: held until 2127-03-01T00:00:00Z (audit of 2026)\n"
    assert "held until 2127-03-01T00:00:00Z (audit of 2026)" in by_rules.out
    assert listed(store) == [points[0].id, points[4].id]
    assert_refused(by_id, 1, f"`ntx hold {points[0].id} --release` releases it")
    assert "until 2127-03-01T00:00:00Z (audit of 2026)" in run(store, "points").out
    assert run(store, "hold", points[0].id, "--release").out == f"point {points[0].id}: not held\n"
    assert run(store, "forget", points[0].id).code == 0


def test_one_that_is_held_keeps_the_others_that_are_named_from_being_forgotten(
    store: PointStore, points: list[Point]
) -> None:
    run(store, "hold", "db01")

    ran = run(store, "forget", points[0].id, points[4].id)

    assert_refused(ran, 1, "is held until it is released")
    assert len(listed(store)) == DAYS


def test_a_hold_for_a_time_ends_then(store: PointStore, points: list[Point]) -> None:
    before = datetime.now(UTC)

    ran = run(store, "hold", "db01", "--for", "4w2d", "--json")

    until = datetime.fromisoformat(ran.json["hold"]["until"])
    assert timedelta(0) <= until - before - timedelta(days=30) + timedelta(seconds=1) < timedelta(minutes=5)


def test_a_damaged_point_is_held_released_and_forgotten_by_its_id(store: PointStore, points: list[Point]) -> None:
    (points[4].path / "point.json").write_text("damaged")

    assert run(store, "hold", points[4].id).code == 0
    assert run(store, "forget", points[4].id).code == 1
    assert run(store, "hold", points[4].id, "--release").code == 0
    assert run(store, "points").code == 3
    assert run(store, "forget", points[4].id).code == 0
    assert run(store, "points").code == 0


def test_damaged_and_distrusted_points_stay_and_take_no_place(store: PointStore, points: list[Point]) -> None:
    points[4].manifest_path(points[4].disks[0]).unlink()
    with begin(store, VM, points[4]) as unfinished:
        unfinished.distrust_chain(points[3], points[3].disks[0], (0,), was_zero=False)

    ran = run(store, "forget", "--all", "--keep-last", "1", "--json")

    reasons = [each["reasons"] for each in ran.json["vms"][0]["points"]]
    assert reasons[4] == ["damaged: no rule counts it"]
    assert ["tracking distrusted: no rule counts it"] in reasons
    assert ["last 1 of 1"] in reasons
    assert listed(store)[-1] == points[4].id


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["db01", "--keep-last", "0"], ["'--keep-last'", "0"]),
        (["db01", "--keep-daily", "-1"], ["'--keep-daily'", "-1"]),
        (["db01", "--keep-within", "0d"], ["'--keep-within'", "not more than nothing"]),
        (["db01", "--keep-within", "-2d"], ["'--keep-within'", "is not a time"]),
        (["db01", "--keep-within", "99999d"], ["'--keep-within'", "at most 36525d"]),
        (["db01", "--keep-last", "1", "--time-zone", "Mars/Phobos"], ["'--time-zone'", "is no time zone"]),
        (["db01", "--keep-last", "1", "--time-zone", "../../etc/passwd"], ["'--time-zone'", "is no time zone"]),
        (["db01", "--keep-tag", "a b"], ["'a b' is no tag"]),
        (["--all"], ["no rule says what is to stay"]),
        (["db01"], ["'db01' is a VM: say what is to stay of it"]),
        ([], ["name a VM or a POINT, or give --all"]),
        (["--all", "db01", "--keep-last", "1"], ["contradict"]),
        (["--undo", "db01", "--keep-last", "1"], ["--undo takes points"]),
        (["--undo", "--all"], ["--undo takes points"]),
    ],
)
def test_what_makes_no_sense_is_refused_and_forgets_nothing(
    store: PointStore, points: list[Point], arguments: list[str], words: list[str]
) -> None:
    ran = run(store, "forget", *arguments)

    assert ran.code == 2, ran
    assert "Traceback" not in ran.err
    for word in words:
        assert word in ran.err
    assert len(listed(store)) == DAYS


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["hold", "db01", "--until", "2020-01-01"], ["--until 2020-01-01T00:00:00Z is over already"]),
        (["hold", "db01", "--until", "tomorrow"], ["'tomorrow' is not a date"]),
        (["hold", "db01", "--until", "2127-03-01T12:00:00"], ["is not a date"]),
        (["hold", "db01", "--until", "9999-12-31"], ["is not a date"]),
        (["hold", "db01", "--until", "9998-12-31T23:59:59-14:00"], ["is not a date"]),
        (["hold", "db01", "--until", "0001-01-01T00:00:00+14:00"], ["is not a date"]),
        (["hold", "db01", "--for", "30"], ["'30' is not a time"]),
        (["hold", "db01", "--for", ""], ["is not a time"]),
        (["hold", "db01", "--for", "1d", "--until", "2127-03-01"], ["contradict"]),
        (["hold", "db01", "--release", "--reason", "x"], ["--reason"]),
        (["hold", "db01", "--reason", "x\ny"], ["one line of 256"]),
        (["tag", "db01"], ["TAG"]),
        (["tag", "db01", "a b"], ["is no tag"]),
    ],
)
def test_what_is_no_tag_and_no_hold_is_refused(
    store: PointStore, points: list[Point], arguments: list[str], words: list[str]
) -> None:
    ran = run(store, *arguments)

    assert ran.code == 2, ran
    assert "Traceback" not in ran.err
    for word in words:
        assert word in ran.err
    assert not (store.path / VM / "retention.json").exists()


def test_dry_runs_of_tag_and_hold_change_nothing(store: PointStore, points: list[Point]) -> None:
    tagged = run(store, "tag", "db01", "x", "-n")
    held = run(store, "hold", "db01", "-n")

    assert tagged.out == f"point {points[4].id}: would have: tags: x\n"
    assert held.out == f"point {points[4].id}: would have: held until it is released\n"
    assert not list((store.path / VM).glob("*retention*"))


def test_what_is_not_there_is_not_found(store: PointStore, points: list[Point]) -> None:
    assert_refused(run(store, "forget", "20200101T000000Z-000000"), 10, "no point '20200101T000000Z-000000'")
    assert_refused(run(store, "forget", "nobody", "--keep-last", "1"), 10, "no point of a VM named 'nobody'")
    assert_refused(run(store, "tag", "nobody", "x"), 10, "no point 'nobody'")
    assert_refused(ntx("forget", "--all", "--keep-last", "1", "--from", store.path / "x"), 10, "is not a repository")


def test_a_damaged_file_lets_nothing_be_forgotten_of_that_vm_and_others_go_on(
    store: PointStore, points: list[Point], clock: Clock
) -> None:
    for number in range(2):
        make_point(store, clock, number, vm_id=OTHER_VM, vm_name="web01")
    run(store, "forget", points[0].id)
    path = store.path / VM / "retention.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "points": []}))

    every = run(store, "forget", "--all", "--keep-last", "1", "--json")
    one = run(store, "forget", "db01", "--keep-last", "1")
    named = run(store, "forget", points[1].id)
    shown = run(store, "points")

    assert every.code == 3
    assert [each["vm_name"] for each in every.json["vms"]] == ["web01"]
    assert [str(path) in each for each in every.json["problems"]] == [True]
    assert_refused(one, 1, "checksum does not fit", "put it back", "is forgotten")
    assert_refused(named, 1, str(path))
    assert shown.code == 0
    assert points[0].id in shown.out
    assert "forgotten points are listed like others" in shown.err
    assert len(store.points(OTHER_VM)) == 1


def test_what_goes_wrong_with_pruning_is_told_beside_what_goes_wrong_with_forgetting(
    store: PointStore, points: list[Point], clock: Clock
) -> None:
    for number in range(2):
        make_point(store, clock, number, vm_id=OTHER_VM, vm_name="web01")
    (store.path / VM / "retention.json").write_text("{")

    with store.lock(OTHER_VM):
        ran = run(store, "forget", "--all", "--keep-last", "1", "--prune")

    assert ran.code == 3
    assert "retention.json: is damaged" in ran.err
    assert f"VM {OTHER_VM} is locked by process" in ran.err


def test_quiet_is_quiet_where_all_is_well(store: PointStore, points: list[Point]) -> None:
    for arguments in (
        ["forget", "--all", "--keep-last", "4"],
        ["forget", points[1].id],
        ["tag", "db01", "x"],
        ["hold", "db01"],
    ):
        ran = run(store, *arguments, "--quiet")
        assert (ran.code, ran.out, ran.err) == (0, "", "")


def test_the_tab_key_offers_vms_and_points(store: PointStore, points: list[Point]) -> None:
    run(store, "forget", points[0].id)

    for command in ("forget", "tag", "hold"):
        found = offered(complete(f"ntx {command} ", {"NTX_REPOSITORY": str(store.path)}))
        assert found == ["db01", *(point.id for point in points[1:])]
