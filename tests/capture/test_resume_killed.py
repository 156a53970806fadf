"""SIGKILL at each step of a capture of two disks, and the same command again: byte exact, and nothing left over."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from ntxengine.sweep import sweep
from tests.capture.lab import MIB, Lab
from tests.capture.resuming import IS_LONG, NtxCapture, fill, is_copied, stored_to, write_after_freeze
from tests.capture.test_interrupted import Ntx, servers_gone

RATE = ("--bandwidth", "4M")


def is_frozen(lab: Lab) -> Callable[[], bool]:
    return lambda: any(lab.repository.path.glob("*/.unfinished-*/resume"))


def has_changes(lab: Lab) -> Callable[[], bool]:
    return lambda: any(lab.repository.path.glob("*/.unfinished-*/disk-*.changes"))


def is_one_whole(lab: Lab) -> Callable[[], bool]:
    def found() -> bool:
        sizes = [path.stat().st_size for path in lab.disk_files]
        return any(to in sizes for to in stored_to(lab).values())

    return found


def are_both_whole(lab: Lab) -> Callable[[], bool]:
    return lambda: sorted(stored_to(lab).values()) == sorted(path.stat().st_size for path in lab.disk_files)


MOMENTS = {
    "frozen": is_frozen,
    "changes kept": has_changes,
    "first bytes": lambda lab: is_copied(lab, 64 * 1024),
    "middle": lambda lab: is_copied(lab, 2 * MIB),
    "one whole": is_one_whole,
    "both whole": are_both_whole,
}


@pytest.mark.parametrize("moment", MOMENTS if IS_LONG else ["one whole"])
async def test_a_killed_capture_is_gone_on_with_by_the_same_command(moment: str, v4_lab: Lab) -> None:
    lab = v4_lab
    await lab.capture()
    fill(lab)
    frozen = lab.guest()

    code, err = await NtxCapture(lab).run(*RATE, kill_when=MOMENTS[moment](lab))
    assert code == -signal.SIGKILL, err
    write_after_freeze(lab)
    code, err = await NtxCapture(lab).run()

    assert code == 0, err
    point = lab.points(lab.vm_id)[-1]
    assert lab.stored(point) == frozen
    assert point.report.resumed == 1
    assert "goes on with point" in err
    lab.check_images(point)
    await sweep(lab.prism, lab.repository, attach=lab.attach_options)
    lab.assert_clean(points=2)
    again = await lab.capture()
    assert lab.stored(again) == lab.guest()


@pytest.mark.parametrize("stage", ["plan", "freeze", "verify", "commit", "release"] if IS_LONG else ["commit"])
async def test_a_capture_killed_at_any_stage_is_followed_by_a_right_one(stage: str, v4_lab: Lab) -> None:
    lab = v4_lab
    await lab.capture()
    fill(lab)
    frozen = lab.guest()

    await Ntx(lab).run(stop_at=stage, after_s=0.0, by=signal.SIGKILL)
    assert await servers_gone(lab.repository.path)
    before = len(lab.points(lab.vm_id))
    write_after_freeze(lab)
    code, err = await NtxCapture(lab).run()

    assert code == 0, err
    point = lab.points(lab.vm_id)[-1]
    assert lab.stored(point) == (frozen if point.report.resumed else lab.guest())
    await sweep(lab.prism, lab.repository, attach=lab.attach_options)
    lab.assert_clean(points=before + 1)


async def test_a_capture_that_is_killed_each_time_comes_to_its_end(v4_lab: Lab) -> None:
    lab = v4_lab
    fill(lab)
    frozen = lab.guest()

    moments = (MIB, 2 * MIB, 3 * MIB, 4 * MIB) if IS_LONG else (MIB, 3 * MIB)
    for at in moments:
        code, err = await NtxCapture(lab).run(*RATE, kill_when=is_copied(lab, at))
        assert code == -signal.SIGKILL, err
    code, err = await NtxCapture(lab).run()

    assert code == 0, err
    (point,) = lab.points(lab.vm_id)
    # One that came to the next moment before it was seen at this one was killed again before it went on.
    assert 1 <= point.report.resumed <= len(moments)
    assert lab.stored(point) == frozen
    lab.check_images(point)
    await sweep(lab.prism, lab.repository, attach=lab.attach_options)
    lab.assert_clean(points=1)
