"""Making a copy of a repository, or one whose marker is lost, a repository of its own."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from ntxengine.errors import NotFoundError
from ntxengine.files import durable
from ntxengine.repository import layout, marker, site
from ntxengine.repository.marker import DamagedMarker
from ntxengine.repository.scan import vm_folders
from ntxengine.repository.store import PointStore


def adopt(path: Path | str) -> PointStore:
    """Give the repository a new id, and record that it is here.  Its points stay as they are.

    A directory with folders of VMs whose marker is gone or damaged becomes a repository again.

    What recovery points of the former one are on a cluster is its business from now on: nothing here removes them.
    Errors: NotFoundError, RepositoryError; LockedError while a VM of it is being captured; TargetError.
    """
    repository = _opened(path)
    with ExitStack() as stack:
        for folder in vm_folders(repository.path):
            stack.enter_context(repository.lock(folder.name))
        # The id first: as long as the site is another, a sweep refuses.
        durable.replace_file(repository.path / layout.MARKER_FILE, marker.new())
        site.record(repository.path)
    return PointStore.open(path)


def _opened(path: Path | str) -> PointStore:
    try:
        return PointStore.open(path)
    except (NotFoundError, DamagedMarker):
        folder = Path(path).absolute()
        if not vm_folders(folder):
            raise
        durable.replace_file(folder / layout.MARKER_FILE, marker.new())
        return PointStore.open(path)
