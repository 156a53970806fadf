"""Older generations of a replica in QCOW2: those that stay can be opened, and images that none needs are merged."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ntxengine.errors import TargetError
from ntxengine.replicate import cycle, history, state
from ntxengine.replicate.targets import qcow2 as images
from tests.capture.lab import MIB, Lab
from tests.replicate.replicating import Killed, Replicating
from tests.replicate.test_cutover import over, shut_down


@pytest.fixture
def keeping(v4_lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Replicating:
    """Two older generations stay, and three images are merged at once."""
    (tmp_path / "kvm").mkdir()
    merge = history.merge_needless
    monkeypatch.setattr(cycle, "merge_needless", lambda *args, **kwargs: merge(*args, **{**kwargs, "at_least": 2}))
    return Replicating(v4_lab, f"kvm:{tmp_path / 'kvm'}", "qcow2", history=2)


async def generations(following: Replicating, count: int) -> dict[int, list[bytes]]:
    held = {}
    for number in range(count):
        following.lab.write(0, number * 128 * 1024, os.urandom(4096))
        following.lab.zero(0, 5 * MIB + number * 65536, 65536)
        if number % 2:
            following.lab.write(1, 0, os.urandom(512))
        held[(await following.run()).replica.generation] = following.lab.guest()
        check(following, held)
    return held


def check(following: Replicating, held: dict[int, list[bytes]]) -> None:
    """Compare the newest generation and all that are kept, by qemu-img."""
    now = following.replica.generation
    following.assert_equal(held[now])
    kept = [each.generation for each in following.replica.history]
    assert kept == [number for number in (now - 1, now - 2) if number > 0]
    for generation in kept:
        for number, name in enumerate(following.history(generation)):
            expected = following.lab.sim.state_dir / "older.raw"
            expected.write_bytes(held[generation][number])
            following.compare(name, expected)


async def test_generations_that_stay_are_what_was_frozen_and_the_others_are_merged(keeping: Replicating) -> None:
    await generations(keeping, 9)

    chain = [image.name for image in keeping.replica.disks[0].files]
    assert len(chain) <= 6
    assert any("m1.qcow2" in name for name in chain)
    keeping.assert_clean()
    found = {path.name for path in keeping.folder().iterdir() if path.suffix == ".qcow2"}
    assert found == keeping.replica.names


async def test_merge_that_was_killed_after_its_commit_is_brought_to_its_end(
    keeping: Replicating, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: object) -> None:
        raise Killed

    held = {}
    with monkeypatch.context() as patched:
        patched.setattr(history, "mend_backing", dies)
        with pytest.raises(Killed):
            for number in range(9):
                keeping.lab.write(0, number * 128 * 1024, os.urandom(4096))
                held[number + 1] = keeping.lab.guest()
                await keeping.run()
    above, below = keeping.replica.disks[0].files[2:4]
    assert images.read_header(keeping.folder() / above.name).backing != below.name
    keeping.lab.write(0, 0, os.urandom(4096))
    held[keeping.replica.generation + 1] = keeping.lab.guest()

    await keeping.run()

    check(keeping, held)
    keeping.assert_clean()


async def test_history_that_is_made_shorter_is_given_back(keeping: Replicating) -> None:
    await generations(keeping, 4)
    shorter = Replicating(keeping.lab, keeping.text, "qcow2", history=0)

    await shorter.run()

    assert shorter.replica.history == ()
    shorter.assert_equal()


async def test_damage_below_leaves_the_images_as_they_are(keeping: Replicating) -> None:
    await generations(keeping, 5)
    lowest_overlay = keeping.folder() / keeping.replica.disks[0].files[-2].name
    with lowest_overlay.open("r+b") as file:
        file.seek(65536 + 1000)
        file.write(os.urandom(4096))

    said = []
    for number in range(3):
        keeping.lab.write(0, 6 * MIB + number * 65536, os.urandom(512))
        said += (await keeping.run(sample_bytes=0)).warnings

    assert any("could not be merged, and stay" in text for text in said)
    assert keeping.replica.generation == 8


async def test_cutover_keeps_the_generations_that_there_are(keeping: Replicating) -> None:
    """Whoever cuts over need not know how many: the newest one may be what nobody wants."""
    held = await generations(keeping, 4)
    shut_down(keeping)

    await over(Replicating(keeping.lab, keeping.text, "qcow2"))

    assert [each.generation for each in keeping.replica.history] == [4, 3, 2]
    for generation in (3, 2):
        for number, name in enumerate(keeping.history(generation)):
            expected = keeping.lab.sim.state_dir / "older.raw"
            expected.write_bytes(held[generation][number])
            keeping.compare(name, expected)


async def test_state_that_nobody_would_read_again_is_not_written(
    keeping: Replicating, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = await generations(keeping, 1)
    keeping.lab.write(0, 0, os.urandom(4096))
    with monkeypatch.context() as patched:
        patched.setattr(state, "_LIMIT", (keeping.state.path / state.REPLICA_FILE).stat().st_size + 100)

        with pytest.raises(TargetError, match=r"keep fewer older generations \(--history\)"):
            await keeping.run()

        keeping.assert_equal(held[1])
    await keeping.run()
    keeping.assert_equal()
