"""What was found out about a cluster by asking it: kept for those who choose a way, so that nobody asks for a family.

A capability is a property here, with the one rule that it follows from.
"""

from __future__ import annotations

from dataclasses import dataclass

from ntxengine.prism.models import Family

NO_VOLUMES = "Prism Central has no volume groups by v4 (name space volumes)"
TOO_OLD_TO_HOT_ADD = "Prism Central is too old to hot-add a recovery point (vmm v4.0, it needs v4.1): update it"


@dataclass(frozen=True)
class Revisions:
    """A revision of v4 for each name space; `volumes` is "" where that cannot be used, and the others can."""

    vmm: str = "v4.1"
    dataprotection: str = "v4.0"
    prism: str = "v4.0"
    volumes: str = ""

    @property
    def can_hot_add(self) -> bool:
        """A disk of a recovery point can be added to a running VM: vmm v4.1 brought it."""
        return self.vmm != "v4.0"


@dataclass(frozen=True)
class Findings:
    """What a cluster can do.

    `family` is the API that is spoken; `no_v4` and `no_v3` say why one is not, "" if it could be.
    `product` is what the Prism calls itself; `is_central` is None where it does not tell.
    `revisions` are spoken, `server_revisions` are the server's own words ("" where it says nothing); None without v4.
    `no_volumes` says why the name space of volume groups cannot be used, where it cannot.
    `is_element_usable` is about the Prism Element that an address was given of, None where none was asked.
    """

    family: Family
    product: str = ""
    is_central: bool | None = None
    revisions: Revisions | None = None
    server_revisions: Revisions | None = None
    no_v4: str = ""
    no_v3: str = ""
    no_volumes: str = ""
    is_element_usable: bool | None = None

    @property
    def why(self) -> str:
        """Why this family is spoken."""
        if self.revisions is None:
            return f"v3 of a Prism Element (v4: {self.no_v4 or 'not asked for'})"
        spoken, server = self.revisions, self.server_revisions or Revisions("", "", "")
        each = (
            f"vmm {_spoken(spoken.vmm, server.vmm)}",
            f"dataprotection {_spoken(spoken.dataprotection, server.dataprotection)}",
        )
        return f"v4 of a Prism Central ({', '.join(each)})"

    @property
    def can_hot_add(self) -> bool:
        """A disk of a recovery point can be added to a running VM.  v2 always can."""
        return self.revisions is None or self.revisions.can_hot_add

    @property
    def no_volume_groups(self) -> str:
        """Why no volume group can be made of a disk of a recovery point, "" if nothing says so.  v2 always can."""
        return "" if self.revisions is None or self.revisions.volumes else self.no_volumes or NO_VOLUMES

    @property
    def tells_paths(self) -> bool:
        """A disk of a recovery point comes with the path of its file on storage: v3 does it, v4 does not."""
        return self.family == "v3"


def _spoken(spoken: str, server: str) -> str:
    """Return a revision, and the server's own word if that is another."""
    return spoken if server in ("", spoken) else f"{spoken}, the server has {server}"
