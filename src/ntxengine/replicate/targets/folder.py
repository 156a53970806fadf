"""A target that is a folder of this machine, with a folder for each VM.

DIR/.ntx-replicas/          the state, unless it is said to be elsewhere
DIR/<name>-<vm id>/         the disks, and what describes the machine
    .ntx-replica.json       whose it is: nobody else's folder is written to
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.errors import OptionsError, RepositoryError, TargetError
from ntxengine.files import durable
from ntxengine.files.free_space import free_bytes
from ntxengine.replicate.state import Intent, Replica
from ntxengine.replicate.targets.base import SECTOR, Named, Target, TargetDisk, TargetOptions, check_sizes, stem_of
from ntxengine.repository import StoredHead, decode_checked, encode_checked
from ntxengine.units import format_size

STATE_FOLDER = ".ntx-replicas"
MARKER_FILE = ".ntx-replica.json"
MARKER_FORMAT, MARKER_VERSION = "ntxengine-replica-marker", 1
_LIMIT = 65536
_HALF_WRITTEN = re.compile(r"\.[^/]+\.[0-9a-f]{8}\.new")
"""What a cycle that was killed leaves of a small file."""


@dataclass(frozen=True)
class _Marker(StoredHead):
    """.ntx-replica.json: whose the folder of a VM is, and which cycle was the last to write there."""

    vm_id: str
    replica_id: str
    state_id: str
    cycle: str = ""


class FolderTarget(Target):
    """See above.

    `passing` fits names that only cycles give: of such files, those that nobody names are removed.  `lasting` fits
    those of other files of a replica, which a person may give, too: only what a commit names is removed.
    """

    passing: ClassVar[re.Pattern[str]]
    lasting: ClassVar[re.Pattern[str]]

    def __init__(self, text: str, options: TargetOptions) -> None:
        super().__init__(text, options)
        path = text.partition(":")[2]
        if not path or "\0" in path:
            raise OptionsError(f"{text!r}: names no folder: write {self.kind}:DIR")
        self.folder = Path(os.path.abspath(path))
        if not str(self.folder).isprintable():
            raise OptionsError(
                f"{str(self.folder)!r}: no machine can be described there: use a path in UTF-8, without ends of lines "
                f"and control characters"
            )
        self.text = f"{self.kind}:{self.folder}"

    @property
    def place_text(self) -> str:
        """As Target.place_text."""
        return f"{os.path.realpath(self.folder)}:{self.form}"

    @property
    def default_state(self) -> Path:
        """As Target.default_state."""
        return self.folder / STATE_FOLDER

    @property
    def copies(self) -> Path:
        """As Target.copies."""
        return self.folder

    def path_of(self, named: Named, name: str) -> Path | None:
        """As Target.path_of."""
        return self.folder_of(named) / name

    def folder_of(self, named: Named) -> Path:
        """Return the folder of a VM."""
        return self.folder / named.name

    async def check_place(self) -> None:
        """As Target.check_place."""
        await to_thread_joined(self._check_folder)

    async def check(self, named: Named, disks: Sequence[TargetDisk]) -> None:
        """As Target.check."""
        check_sizes(self.text, disks, SECTOR, "a disk of a virtual machine")
        stems: dict[str, TargetDisk] = {}
        for disk in disks:
            if (other := stems.setdefault(stem_of(disk).lower(), disk)) is not disk:
                raise OptionsError(f"{self.text}: {other} and {disk} would have one name: move one to another address")
        await to_thread_joined(self._check_folder)
        await to_thread_joined(self._check_ours, named)

    async def check_room(self, named: Named, bytes_needed: int) -> None:
        """As Target.check_room."""
        free = await to_thread_joined(free_bytes, self.folder)
        if bytes_needed > free:
            raise TargetError(
                f"{self.folder}: its file system has {format_size(free)} free, and up to {format_size(bytes_needed)} "
                f"are to be written: free some space, or use another file system"
            )

    def _check_folder(self) -> None:
        if not self.folder.is_dir():
            raise OptionsError(f"{self.folder}: is no folder: make it, or mount what is to be there")
        if not os.access(self.folder, os.W_OK | os.X_OK):
            raise OptionsError(f"{self.folder}: cannot be written to: check its owner and mode")

    def _check_ours(self, named: Named) -> None:
        path = self.folder_of(named)
        if not os.path.lexists(path):
            return
        durable.check_folder(path)
        marker = path / MARKER_FILE
        if not os.path.lexists(marker):
            self._check_left(path)
            return
        found = _read(marker)
        if found.vm_id != named.vm_id:
            raise OptionsError(f"{path}: is another replica, of VM {found.vm_id}: use another folder")
        if found.replica_id != named.replica_id:
            raise OptionsError(
                f"{path}: is a replica that was made with another --to or --format ({found.replica_id}): give those, "
                f"or use another folder; if it was moved here, remove {marker}: the next cycle reads what is there"
            )
        if found.state_id != named.state_id:
            raise OptionsError(
                f"{path}: is a replica whose state is in another folder: name that (--state), or, if it is lost, "
                f"remove {marker}: the next cycle reads what is there, and begins anew"
            )

    def _check_left(self, path: Path) -> None:
        """Refuse a folder that has no marker, unless it holds a replica whose marker somebody removed."""
        for each in path.iterdir():
            if not any(known.fullmatch(each.name) for known in (self.passing, self.lasting, _HALF_WRITTEN)):
                raise OptionsError(
                    f"{path}: is there, and is no replica: it has {each.name[:80]!r}: move it, or use another folder"
                )

    async def claim(self, named: Named) -> None:
        """As Target.claim."""
        await to_thread_joined(self._claim, named)

    def _claim(self, named: Named) -> None:
        path = self.folder_of(named)
        durable.make_folder(path)
        marker = path / MARKER_FILE
        if not os.path.lexists(marker):
            found = _marker(named)
            fresh = marker.with_name(f"{MARKER_FILE}.{secrets.token_hex(4)}.new")
            durable.write_file(fresh, encode_checked(found))
            try:
                durable.rename(fresh, marker)
            except TargetError:
                durable.remove_file(fresh)
                if not os.path.lexists(marker):
                    raise
            durable.sync_folder(path)
        self._check_ours(named)  # others, whose state is elsewhere, may have been first

    async def mark(self, named: Named, cycle: str) -> None:
        """As Target.mark."""
        data = encode_checked(_marker(named, cycle))
        await to_thread_joined(durable.replace_file, self.folder_of(named) / MARKER_FILE, data)

    async def is_as_left(self, named: Named, cycles: Collection[str]) -> bool:
        """As Target.is_as_left."""
        marker = self.folder_of(named) / MARKER_FILE
        if not await to_thread_joined(os.path.lexists, marker):
            # of a folder that is gone, or is not mounted, whoever looks for its files tells
            return not await to_thread_joined(os.path.lexists, marker.parent)
        found = await to_thread_joined(_read, marker)
        return not found.cycle or found.cycle in cycles

    async def recover(self, named: Named, replica: Replica | None, intent: Intent | None) -> None:
        """As Target.recover."""
        await to_thread_joined(self._recover, named, replica, intent)

    def _recover(self, named: Named, replica: Replica | None, intent: Intent | None) -> None:
        path = self.folder_of(named)
        if not path.is_dir():
            return
        for old, new in replica.renames if replica is not None else ():
            _check_name(old)
            _check_name(new)
            if os.path.lexists(path / old):
                durable.replace(path / old, path / new)
        durable.sync_folder(path)
        if replica is not None:
            self._mend(path, replica)
        self._tidy(path, replica, intent)
        durable.sync_folder(path)

    def _mend(self, path: Path, replica: Replica) -> None:
        """Let the files of a generation be as its state says, where a commit decided that.  Errors: as recover."""
        del path, replica

    def files_of(self, replica: Replica) -> set[str]:
        """As Target.files_of."""
        return replica.names | {replica.definition} - {""}

    def _tidy(self, path: Path, replica: Replica | None, intent: Intent | None) -> None:
        """Remove our files that nobody names.  Where no generation is known they may be one, and are gone on with: but
        for what a cycle that is dead made beside them."""
        if replica is None:
            for name in (name for disk in intent.disks if disk.keeps for name in disk.names) if intent else ():
                _check_name(name)
                durable.remove_file(path / name)
            return
        named = self.files_of(replica)
        if intent is not None:
            named |= {name for disk in intent.disks if not disk.keeps for name in disk.names}
        for name in replica.removals:
            _check_name(name)
            if name not in named:
                durable.remove_file(path / name)
        for each in path.iterdir():
            is_passing = self.passing.fullmatch(each.name) or _HALF_WRITTEN.fullmatch(each.name)
            if is_passing and each.name not in named:
                durable.remove_file(each)


def _marker(named: Named, cycle: str = "") -> _Marker:
    return _Marker(MARKER_FORMAT, MARKER_VERSION, named.vm_id, named.replica_id, named.state_id, cycle)


def _read(marker: Path) -> _Marker:
    return decode_checked(
        marker,
        durable.read_file(marker, limit=_LIMIT),
        _Marker,
        format=MARKER_FORMAT,
        versions=(MARKER_VERSION,),
        needs_check=True,
    )


def _check_name(name: str) -> None:
    """Refuse a name that leads out of the folder.  Errors: RepositoryError."""
    if "/" in name or name in ("", ".", ".."):
        raise RepositoryError(f"{name[:80]!r}: is no name of a file of a replica: its state is damaged")
