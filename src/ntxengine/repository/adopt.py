"""Making a copy of a repository a repository of its own."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from ntxengine.repository import layout, site, storage
from ntxengine.repository.repository import Repository, new_marker
from ntxengine.repository.scan import vm_folders


def adopt(path: Path | str) -> Repository:
    """Give the repository a new id, and record that it is here.  Its points stay as they are.

    What recovery points of the former one are on a cluster is its business from now on: nothing here removes them.
    Errors: NotFoundError, RepositoryError; LockedError while a VM of it is being captured; TargetError.
    """
    repository = Repository.open(path)
    with ExitStack() as stack:
        for folder in vm_folders(repository.path):
            stack.enter_context(repository.lock(folder.name))
        # The id first: as long as the site is another, a sweep refuses.
        storage.replace_file(repository.path / layout.MARKER_FILE, new_marker())
        site.record(repository.path)
    return Repository.open(path)
