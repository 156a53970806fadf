"""Each disk of a point can go to a place of its own: a file, an image, a block device, an NBD server."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from ntxengine.errors import ChecksumMismatch, NotFoundError, OptionsError, TargetError
from ntxengine.images.choice import ImageOptions
from ntxengine.repository import Repository
from ntxengine.repository.store import PointStore
from ntxengine.restore import RestoreOptions, restore
from ntxengine.units import MIB
from tests.restore.points import OLD, SeveralDisks, device, flip, full_of
from tests.support.servers import loop_device, qemu_img, qemu_nbd, require_root

OVER = RestoreOptions(overwrite=True)
VERIFIED = RestoreOptions(overwrite=True, verify=True)


async def test_each_disk_goes_to_its_own_target_byte_for_byte(
    repository: PointStore, several: SeveralDisks, place: Path
) -> None:
    served = full_of(place / "served", several.sizes["scsi.1"])
    with device(place, 8 * MIB) as (path, behind), qemu_nbd(served) as uri:
        targets = {"scsi.0": path, "scsi.1": uri, several.ids[2].upper(): str(place / "x.qcow2")}

        report = await restore(Repository(repository), several.point, targets=targets, options=VERIFIED)

        assert several.is_in(path, "scsi.0")
    assert served.read_bytes() == several.data("scsi.1")
    assert behind.read_bytes()[several.sizes["scsi.0"] :] == OLD * (8 * MIB - several.sizes["scsi.0"])
    qemu_img("convert", "-f", "qcow2", "-O", "raw", str(place / "x.qcow2"), str(place / "plain"))
    assert several.is_in(place / "plain", "scsi.2")
    assert [(disk.kind, disk.format, disk.is_verified) for disk in report.disks] == [
        ("device", "raw", True),
        ("server", "raw", True),
        ("file", "qcow2", True),
    ]
    assert [disk.size for disk in report.disks[:2]] == [8 * MIB, several.sizes["scsi.1"]]
    assert (report.config, report.left_out) == (None, ())
    assert not [path for path in place.iterdir() if "unfinished" in path.name or path.suffix == ".map"]


async def test_the_directory_takes_the_disks_that_have_no_target(
    repository: PointStore, several: SeveralDisks, place: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"

    report = await restore(
        Repository(repository), several.point, out, targets={"scsi.1": str(place / "one.img")}, options=VERIFIED
    )

    assert sorted(path.name for path in out.iterdir()) == ["scsi.0.raw", "scsi.2.raw", "vm.json"]
    for label, file in (("scsi.0", out / "scsi.0.raw"), ("scsi.1", place / "one.img"), ("scsi.2", out / "scsi.2.raw")):
        assert file.read_bytes() == several.data(label)
        assert file.stat().st_mode & 0o077 == 0
    assert [disk.disk.label for disk in report.disks] == ["scsi.0", "scsi.1", "scsi.2"]


async def test_targets_alone_restore_only_their_disks_and_say_what_they_left_out(
    repository: PointStore, several: SeveralDisks, place: Path
) -> None:
    report = await restore(Repository(repository), several.point, targets={"scsi.2": str(place / "two.raw")})

    assert several.is_in(place / "two.raw", "scsi.2")
    assert [disk.label for disk in report.left_out] == ["scsi.0", "scsi.1"]


async def test_disks_beside_targets_need_a_directory(
    repository: PointStore, several: SeveralDisks, place: Path, tmp_path: Path
) -> None:
    targets = {"scsi.2": str(place / "two.raw")}

    with pytest.raises(OptionsError, match=r"disk scsi\.0 .*: has no target, and there is no directory"):
        await restore(Repository(repository), several.point, disks=["scsi.0"], targets=targets)
    with pytest.raises(OptionsError, match="no directory and no target"):
        await restore(Repository(repository), several.point)
    assert list(place.iterdir()) == []
    await restore(Repository(repository), several.point, tmp_path / "out", disks=["scsi.0"], targets=targets)

    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["scsi.0.raw", "vm.json"]
    assert several.is_in(place / "two.raw", "scsi.2")


async def test_what_holds_something_is_kept_unless_told_otherwise(
    repository: PointStore, several: SeveralDisks, place: Path
) -> None:
    file = full_of(place / "file", MIB)
    served = full_of(place / "served", 4 * MIB)
    with device(place, 8 * MIB) as (path, behind), qemu_nbd(served) as uri:
        for target in (path, uri, str(file)):
            with pytest.raises(OptionsError, match="--overwrite"):
                await restore(Repository(repository), several.point, targets={"scsi.0": target})

    for untouched in (file, served, behind):
        assert set(untouched.read_bytes()) == set(OLD)


async def test_a_file_is_replaced_only_when_the_new_one_is_whole(
    repository: PointStore, several: SeveralDisks, place: Path
) -> None:
    file = full_of(place / "file", MIB)
    (place / "link").symlink_to(file)
    rotten = flip(several, "scsi.1")

    with pytest.raises(ChecksumMismatch, match=r"scsi\.1"):
        await restore(
            Repository(repository),
            several.point,
            targets={"scsi.0": str(file), "scsi.1": str(place / "other")},
            options=OVER,
        )
    assert file.read_bytes() == OLD * MIB
    rotten()
    await restore(Repository(repository), several.point, targets={"scsi.0": str(place / "link")}, options=OVER)

    assert (place / "link").is_symlink()
    assert file.read_bytes() == several.data("scsi.0")
    assert sorted(path.name for path in place.iterdir()) == ["file", "link"]


async def test_what_is_too_small_is_refused_before_anything_is_written(
    repository: PointStore, several: SeveralDisks, place: Path
) -> None:
    served = full_of(place / "served", several.sizes["scsi.1"] - 512)
    other = full_of(place / "other", several.sizes["scsi.0"])
    with qemu_nbd(served) as uri, qemu_nbd(other) as fits, device(place, 5 * MIB) as (path, behind):
        for small, label in ((uri, "scsi.1"), (path, "scsi.2")):
            sizes = rf"has {5 * MIB if small == path else 2 * MIB - 512} bytes, the disk {several.sizes[label]}"
            with pytest.raises(OptionsError, match=rf"disk {re.escape(label)} .*{re.escape(small)}.*{sizes}"):
                await restore(
                    Repository(repository),
                    several.point,
                    place / "out",
                    targets={"scsi.0": fits, label: small},
                    options=OVER,
                )

    for untouched in (served, other, behind):
        assert set(untouched.read_bytes()) == set(OLD)
    assert not (place / "out").exists()


async def test_two_disks_never_share_a_target(
    repository: PointStore, several: SeveralDisks, place: Path, tmp_path: Path
) -> None:
    (place / "link").symlink_to(place)
    with device(place, 8 * MIB) as (path, behind), qemu_nbd(behind) as uri:
        (place / "disk").symlink_to(path)
        pairs = [
            (path, path),
            (path, str(place / "disk")),
            (path, str(behind)),
            (uri, uri),
            (str(place / "new"), str(place / "link" / "new")),
        ]
        for one, other in pairs:
            with pytest.raises(OptionsError, match=r"disks scsi\.0 and scsi\.2: .* are one target"):
                await restore(
                    Repository(repository), several.point, targets={"scsi.0": one, "scsi.2": other}, options=OVER
                )
        with pytest.raises(OptionsError, match="are one target"):
            await restore(Repository(repository), several.point, place, targets={"scsi.1": str(place / "scsi.0.raw")})
        with pytest.raises(OptionsError, match="the configuration of the VM"):
            await restore(Repository(repository), several.point, place, targets={"scsi.1": str(place / "vm.json")})
        with pytest.raises(OptionsError, match="has two targets"):
            await restore(
                Repository(repository), several.point, targets={"scsi.0": path, several.ids[0]: uri}, options=OVER
            )

    assert set(behind.read_bytes()) == set(OLD)


async def test_nothing_goes_into_the_repository(
    repository: PointStore, several: SeveralDisks, place: Path, tmp_path: Path
) -> None:
    image = several.point.image_path(several.point.disks[0])
    (place / "link").symlink_to(image)
    (place / "folder").symlink_to(several.point.path)
    os.link(image, place / "hard")
    spare = full_of(several.point.path.parent / "spare", 8 * MIB)
    before = image.read_bytes()

    with loop_device(spare) as path:
        names = [str(image), str(place / "link"), str(place / "folder" / "new"), str(place / "hard"), path]
        for name in names:
            with pytest.raises(OptionsError, match="lies in the repository"):
                await restore(Repository(repository), several.point, targets={"scsi.1": name}, options=OVER)

    assert image.read_bytes() == before
    assert set(spare.read_bytes()) == set(OLD)


async def test_a_mounted_device_is_refused(repository: PointStore, several: SeveralDisks, place: Path) -> None:
    require_root("mounting")
    (place / "mount").mkdir()
    with device(place, 8 * MIB) as (path, _):
        subprocess.run(["mkfs.ext4", "-q", path], check=True)
        subprocess.run(["mount", path, place / "mount"], check=True)
        try:
            with pytest.raises(TargetError, match="mounted or in use"):
                await restore(Repository(repository), several.point, targets={"scsi.0": path}, options=OVER)
        finally:
            subprocess.run(["umount", place / "mount"], check=True)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("/dev/sdzzz", "there is no such device"),
        ("null:", "cannot keep a disk"),
        ("pattern:1M", "cannot keep a disk"),
        ("-", "cannot keep a disk"),
        ("{}", "is a folder"),
        ("{}/dangling", "leads nowhere"),
        ("/dev/null", "exists and is not a file|neither a file nor a block device"),
        ("{}/x.vmdk", "vmdk format, which is not written"),
        ("nbd://", "write nbd://"),
        ("host:10809", "looks like a server"),
        ("", "names nothing"),
    ],
)
async def test_what_cannot_be_a_target_is_refused_with_what_would_be(
    repository: PointStore, several: SeveralDisks, place: Path, target: str, words: str
) -> None:
    (place / "dangling").symlink_to(place / "nowhere")

    with pytest.raises(OptionsError, match=words):
        await restore(Repository(repository), several.point, targets={"scsi.0": target.format(place)}, options=OVER)

    assert [path.name for path in place.iterdir()] == ["dangling"]


async def test_a_target_in_a_folder_that_is_not_there_is_refused_before_anything_is_written(
    repository: PointStore, several: SeveralDisks, place: Path
) -> None:
    with pytest.raises(TargetError, match="cannot be made: No such file"):
        await restore(
            Repository(repository),
            several.point,
            targets={"scsi.0": str(place / "a"), "scsi.1": str(place / "missing" / "b")},
        )

    assert list(place.iterdir()) == []


async def test_a_device_with_an_image_on_it_is_asked_about(
    repository: PointStore, several: SeveralDisks, place: Path
) -> None:
    with device(place, 8 * MIB) as (path, _):
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "1M"], check=True)

        with pytest.raises(OptionsError, match="looks like an image in qcow2 format: say --format raw"):
            await restore(Repository(repository), several.point, targets={"scsi.0": path}, options=OVER)
        with pytest.raises(OptionsError, match="only a file can be an image"):
            await restore(
                Repository(repository),
                several.point,
                targets={"scsi.0": path},
                options=RestoreOptions(overwrite=True, format="qcow2"),
            )
        await restore(
            Repository(repository),
            several.point,
            targets={"scsi.0": path},
            options=RestoreOptions(overwrite=True, format="raw"),
        )

        assert several.is_in(path, "scsi.0")


async def test_how_images_are_written_is_only_said_where_one_is(
    repository: PointStore, several: SeveralDisks, place: Path
) -> None:
    options = RestoreOptions(image=ImageOptions(zstd_level=1), verify=True)

    with pytest.raises(OptionsError, match="are of QCOW2 images"):
        await restore(Repository(repository), several.point, targets={"scsi.0": str(place / "x.raw")}, options=options)
    await restore(Repository(repository), several.point, targets={"scsi.0": str(place / "x.qcow2")}, options=options)

    assert '"compression-type": "zstd"' in qemu_img("info", "--output=json", str(place / "x.qcow2"))


async def test_labels_that_look_like_targets_name_their_disks(repository: PointStore, place: Path) -> None:
    labels = ["vg:data=1.0", "a b=/dev/x", "nbd://h/"]
    several = SeveralDisks(repository, labels=labels)
    targets = {label: str(place / f"{number}.raw") for number, label in enumerate(labels)}

    await restore(Repository(repository), several.point, targets=targets, options=RestoreOptions(verify=True))

    for number, label in enumerate(labels):
        assert (place / f"{number}.raw").read_bytes() == several.data(label)


async def test_a_disk_that_is_not_there_is_said_to_be_none(
    repository: PointStore, several: SeveralDisks, place: Path
) -> None:
    with pytest.raises(NotFoundError, match=r"no disk 'ide\.0'; its disks: scsi\.0"):
        await restore(Repository(repository), several.point, targets={"ide.0": str(place / "x")})
