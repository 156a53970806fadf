"""Which rights a capture needs, and whether the account has them: each by a question that changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ntxengine.attach import AUTO
from ntxengine.probe.check import Context, Place, PlaceCheck
from ntxengine.probe.model import Facts, Result, failed, ok, skipped, warning

V4_ROLE = "Backup Admin"
V3_ROLE = "Cluster Admin"


@dataclass(frozen=True)
class Right:
    """A right.  `operation` is what Prism calls it; `source` is the only way to the bytes that needs it, "" if all do.

    `is_proof`: an answer that is no denial says that the right is there.  Else it may be that Prism looks at its schema
    first, and a capture, or `--live`, shows it.
    """

    name: str
    question: str
    what: str
    operation: str
    source: str = ""
    is_proof: bool = True

    @property
    def is_to_see(self) -> bool:
        """Whether it is one without which others can hardly be judged."""
        return self.name.startswith("see-")


V4_RIGHTS = (
    Right("see-vms", "v4.vms", "see VMs", "View Existing Virtual Machine"),
    Right("see-points", "v4.points", "see recovery points", "View Recovery Point"),
    Right("create-points", "v4.create-point", "create recovery points", "Create Recovery Point", is_proof=False),
    Right("delete-points", "v4.delete-point", "delete recovery points", "Delete Recovery Point", is_proof=False),
    Right("discover", "v4.discover", "have changed regions computed", "discover-cluster", is_proof=False),
    Right("hot-add", "v4.hot-add", "hot-add disks", "Create Virtual Machine Disk", "hotadd", is_proof=False),
    Right("see-groups", "v4.groups", "see volume groups", "View Volume Group", "iscsi"),
    Right("delete-groups", "v4.delete-group", "delete volume groups", "Delete Volume Group", "iscsi", is_proof=False),
    Right(
        "admit-clients",
        "v4.attach-client",
        "admit iSCSI clients",
        "Attach Volume Group To External ISCSI Client",
        "iscsi",
        is_proof=False,
    ),
)
V3_RIGHTS = (
    Right("see-vms", "v3.vms", "see VMs", "see VMs"),
    Right("see-snapshots", "v3.snapshots", "see snapshots", "list snapshots"),
    Right("regions", "v3.regions", "ask for changed regions", "changed regions"),
    Right("create-snapshots", "v3.create-snapshot", "create snapshots", "create snapshots", is_proof=False),
    Right("delete-snapshots", "v3.delete-snapshot", "delete snapshots", "delete snapshots", is_proof=False),
    Right("hot-add", "v2.hot-add", "hot-add disks", "attach disks", "hotadd", is_proof=False),
    Right("see-groups", "v2.groups", "see volume groups", "list volume groups", "iscsi"),
    Right("delete-groups", "v2.delete-group", "delete volume groups", "delete volume groups", "iscsi", is_proof=False),
)


class RightCheck(PlaceCheck):
    """The account has one right."""

    def __init__(self, place: Place, right: Right, family: Literal["v4", "v3"]) -> None:
        super().__init__(place, needs=(family,))
        self.right = right
        self.family = family
        self.name = f"{family}-{right.name}"  # a Prism of which nobody knows what it is may be asked for both

    def applies(self, context: Context) -> bool:
        """A right that only one way to the bytes needs is looked for if that way is asked for."""
        if self.right.source == "":
            return True
        attach = context.options.attach
        if attach.source != AUTO:
            return self.right.source == attach.source
        return self.right.source == ("hotadd" if context.options.worker else "iscsi")

    async def run(self, context: Context) -> Result:
        if unserved := self.place.inquiry.unserved(self.right.question):
            return skipped(unserved)
        known = self.place.replies.get(self.right.question)
        reply = known or await self.place.inquiry.ask(self.right.question)
        facts: Facts = {"status": reply.status, "operation": self.right.operation}
        who = self.place.inquiry.who
        if reply.outcome == "denied":
            role, where = (
                (V4_ROLE, f'"{self.right.operation}": Prism Central > Admin Center > IAM > Roles')
                if self.family == "v4"
                else (V3_ROLE, "Prism Element > Settings > Local User Management, or Role Mapping for a directory")
            )
            return failed(
                f"{who} may not {self.right.what}: {reply.text}",
                f"give it the role {role}, or one with {where}",
                **facts,
            )
        if 200 <= reply.status < 300 and self.right.name.startswith("create-"):
            return warning(
                f"Prism took a request to {self.right.what} that names no VM",
                "look whether it made something: Prism > Tasks; and report it, with --report FILE",
                **facts,
            )
        if reply.outcome in ("busy", "silent", "odd"):
            return failed(f"not known: {reply.text}", "try again later; is this Prism busy, or being updated?", **facts)
        if reply.outcome == "absent" and self.right.is_to_see:
            return failed(f"it cannot be asked for: {reply.text}", "update this Prism", **facts)
        doubt = "" if self.right.is_proof or reply.outcome == "good" else ", as far as a refused request tells"
        return ok(f"{who} may {self.right.what}{doubt}", **facts)
