"""What a point is made of: the points below it, the images below an image, and a manifest for each.

Always from point.json, and always in the folder of one VM.  What an image records as its backing file is compared,
never followed.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from ntxengine.errors import OptionsError, RepositoryError
from ntxengine.manifest import Manifest
from ntxengine.repository import images, layout
from ntxengine.repository.point import Point, PointDisk
from ntxengine.repository.scan import read_point


def points_of(point: Point) -> list[Point]:
    """Return the points that `point` is made of, itself first, the root last.

    Errors: RepositoryError if one is missing or damaged.
    """
    chain = [point]
    # Ends: a parent sorts before its child, which reading it has checked.
    while (parent_id := chain[-1].parent_id) is not None:
        folder = point.path.parent / parent_id
        if not folder.is_dir():
            raise RepositoryError(
                f"{folder}: is missing, and point {chain[-1].id} is on top of it: point {point.id} cannot be read whole"
            )
        chain.append(read_point(folder)[0])
    return chain


def images_of(point: Point, disk: PointDisk) -> tuple[Path, ...]:
    """Return the images of a disk, newest first down to the root, each checked against its point.

    Blocks: one qemu-img for each.
    Errors: RepositoryError if an image is missing, or is not what its point says.
    """
    chain: list[Path] = []
    # From one point to its parent as long as the disk has a backing file: older points may not have the disk.
    for each in points_of(point):
        found = next((candidate for candidate in each.disks if candidate.disk_id == disk.disk_id), None)
        if found is None:
            raise RepositoryError(
                f"{each.path}: has no disk {disk.disk_id}, which point {point.id} has on top of it: "
                f"disk {disk.label} cannot be read whole"
            )
        path = each.image_path(found)
        images.check(path, size=found.size, backing=found.backing)
        chain.append(path)
        if not found.backing:
            break
    return tuple(chain)


def open_manifest(folder: Path, disk: PointDisk) -> Manifest:
    """Open the manifest of a disk in the folder of its point, checked against what the point says.

    Blocks: reads all of it.  The caller closes it.
    Errors: RepositoryError if it is missing, damaged, or that of something else.
    """
    path = folder / disk.manifest
    try:
        manifest = Manifest.open(path)
    except OptionsError as exc:
        raise RepositoryError(str(exc)) from exc
    if (manifest.size, manifest.disk_digest) != (disk.size, disk.digest):
        manifest.close()
        raise RepositoryError(
            f"{path}: is not the manifest of disk {disk.label} in this point: it is of {manifest.size} bytes with "
            f"digest {manifest.disk_digest}, the point says {disk.size} and {disk.digest}"
        )
    return manifest


def images_below(path: Path) -> tuple[Path, ...]:
    """Return the images below one that lies in a repository, nearest first; () for one that stands alone.

    Its backing file must be the same disk in another point of the same VM, written as we write it: anything else is
    refused.  Blocks: some qemu-img.
    Errors: RepositoryError.
    """
    recorded = images.recorded_backing(path)
    if not recorded:
        return ()
    parts = PurePosixPath(recorded).parts
    if len(parts) == 3 and layout.is_point_id(parts[1]) and recorded == f"../{parts[1]}/{path.name}":
        point = read_point(path.absolute().parent.parent / parts[1])[0]
        disk = next((disk for disk in point.disks if disk.file == path.name), None)
        if disk is not None:
            return images_of(point, disk)
    raise RepositoryError(
        f"{path}: the image says that it is on top of {recorded[:200]!r}, which is no point of its VM: it is not opened"
    )
