"""Nutanix Guest Tools in a VM: what Prism says of them, where it says it.

Null is not no: published answers of real clusters leave out what would decide (`isVssSnapshotCapable` is null in all of
them).  So each answer is yes, no or silence (None), and only a no keeps us from asking for application consistency:
the cluster then says what it became.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

GuestOs = Literal["windows", "linux", "unknown"]
Obstacle = Literal[
    "",
    "Guest Tools are not installed",
    "Guest Tools are not enabled",
    "Guest Tools do not answer",
    "Guest Tools cannot quiesce (no VSS snapshot capability)",
]

_WINDOWS = re.compile(r"\b(?:windows|win\d*)\b", re.IGNORECASE)
_LINUX = re.compile(
    r"\b(?:linux|ubuntu|debian|centos|fedora|rhel|red hat|rocky|alma(?:linux)?|suse|sles|opensuse|oracle)\b",
    re.IGNORECASE,
)


def told(*answers: bool | None) -> bool | None:
    """Return what several answers to one question say together: a no beats a yes, and a yes beats silence."""
    if False in answers:
        return False
    return True if True in answers else None


@dataclass(frozen=True)
class GuestTools:
    """State of Guest Tools; None where Prism does not say.  A VM of which nothing is said at all has none.

    `can_quiesce` is whether they are set up to make a guest consistent: by VSS on Windows, by freezing its file systems
    between scripts on Linux.  `os_name` is the guest's operating system, in the words of Guest Tools.
    """

    installed: bool | None = False
    enabled: bool | None = False
    reachable: bool | None = False
    can_quiesce: bool | None = False
    version: str = ""
    os_name: str = ""

    @property
    def obstacle(self) -> Obstacle:
        """What Prism says that keeps them from making the guest consistent, "" if nothing."""
        if self.installed is False:
            return "Guest Tools are not installed"
        if self.enabled is False:
            return "Guest Tools are not enabled"
        if self.reachable is False:
            return "Guest Tools do not answer"
        return "Guest Tools cannot quiesce (no VSS snapshot capability)" if self.can_quiesce is False else ""

    @property
    def os(self) -> GuestOs:
        """The kind of operating system, as far as its name tells."""
        if _WINDOWS.search(self.os_name):
            return "windows"
        return "linux" if _LINUX.search(self.os_name) else "unknown"

    @property
    def can_use_vss(self) -> bool | None:
        """Whether VSS can make the guest consistent.  No API says so by itself: it follows from the system."""
        return self._by("windows", "linux")

    @property
    def can_freeze_file_systems(self) -> bool | None:
        """Whether its file systems can be frozen, between the scripts that it may have.  Follows from the system."""
        return self._by("linux", "windows")

    def _by(self, kind: GuestOs, other: GuestOs) -> bool | None:
        if self.os == other:
            return False
        return self.can_quiesce if self.os == kind or self.can_quiesce is False else None
