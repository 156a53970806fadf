"""Which rights a capture needs, and whether the account has them: each by a question that changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ntxengine.probe.check import Context, PrismCheck, Probed
from ntxengine.probe.model import Facts, Result, failed, ok, skipped, warning
from ntxengine.probe.words import not_known

V4_ROLE = "Backup Admin"
V3_ROLE = "Cluster Admin"


Kind = Literal["see", "ask", "create", "change"]


@dataclass(frozen=True)
class Right:
    """A right.  `operation` is what Prism calls it; `source` is the only way to the bytes that needs it, "" if all do.

    see       lists something: without it others can hardly be judged
    ask       makes and changes nothing
    create    makes something
    change    changes or deletes something that is there

    What is to be seen in both families has one name in both: others wait for it, and look whether it lacks.
    """

    kind: Kind
    name: str
    question: str
    what: str
    operation: str
    source: str = ""

    @property
    def is_proof(self) -> bool:
        """Whether an answer that is no denial says that the right is there.

        Else it may be that Prism looks at its schema first, and a capture, or `--live`, shows it.
        """
        return self.kind in ("see", "ask")


V4_RIGHTS = (
    Right("see", "see-vms", "v4.vms", "see VMs", "View Existing Virtual Machine"),
    Right("see", "see-points", "v4.points", "see recovery points", "View Recovery Point"),
    Right("create", "create-points", "v4.create-point", "create recovery points", "Create Recovery Point"),
    Right("change", "delete-points", "v4.delete-point", "delete recovery points", "Delete Recovery Point"),
    Right("change", "discover", "v4.discover", "have changed regions computed", "discover-cluster"),
)
V3_RIGHTS = (
    Right("see", "see-vms", "v3.vms", "see VMs", "list VMs"),
    Right("see", "see-points", "v3.snapshots", "see snapshots", "list snapshots"),
    Right("ask", "regions", "v3.regions", "ask for changed regions", "changed regions"),
    Right("create", "create-points", "v3.create-snapshot", "create snapshots", "create snapshots"),
    Right("change", "delete-points", "v3.delete-snapshot", "delete snapshots", "delete snapshots"),
)

_ADMIT, _EXPEL = "admit iSCSI clients", "take iSCSI clients off"
_ADMIT_V4 = "Attach Volume Group To External ISCSI Client"
_EXPEL_V4 = "Detach Volume Group From External ISCSI Client"
_ADD, _REMOVE = "hot-add disks", "remove hot-added disks"

WAY_RIGHTS_V4 = (
    Right("change", "hot-add", "v4.hot-add", _ADD, "Create Virtual Machine Disk", "hotadd"),
    Right("change", "remove-disks", "v4.remove-disk", _REMOVE, "Delete Virtual Machine Disk", "hotadd"),
    Right("see", "see-groups", "v4.groups", "see volume groups", "View Volume Group", "iscsi"),
    Right("change", "delete-groups", "v4.delete-group", "delete volume groups", "Delete Volume Group", "iscsi"),
    Right("change", "admit-clients", "v4.attach-client", _ADMIT, _ADMIT_V4, "iscsi"),
    Right("change", "expel-clients", "v4.detach-client", _EXPEL, _EXPEL_V4, "iscsi"),
)
"""Those that one way to the bytes needs.  One whose lack leaves something behind is the one to find before a freeze."""
WAY_RIGHTS_V3 = (
    Right("change", "hot-add", "v2.hot-add", _ADD, "attach disks", "hotadd"),
    Right("change", "remove-disks", "v2.remove-disk", _REMOVE, "detach disks", "hotadd"),
    Right("see", "see-groups", "v2.groups", "see volume groups", "list volume groups", "iscsi"),
    Right("change", "delete-groups", "v2.delete-group", "delete volume groups", "delete volume groups", "iscsi"),
    Right("change", "admit-clients", "v2.open-group", _ADMIT, "attach initiators", "iscsi"),
    Right("change", "expel-clients", "v2.close-group", _EXPEL, "detach initiators", "iscsi"),
)


class RightCheck(PrismCheck):
    """The account has one right."""

    def __init__(self, place: Probed, right: Right, family: Literal["v4", "v3"]) -> None:
        super().__init__(place, needs=() if right.source else (family,), after=(family,))
        if right.source:
            self.after += ("source.chosen",)
        self.right = right
        self.family = family
        self.name = f"{family}-{right.name}"  # a Prism of which nobody knows what it is may be asked for both

    def applies(self, context: Context) -> bool:
        """A right that only one way to the bytes needs is looked for if that way is asked for, or would be taken."""
        if not self.right.source:
            return True
        speaks = self.place.speaks_v4 if self.family == "v4" else self.place.speaks_v3
        return speaks and self.right.source in (context.source, context.options.attach.source)

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
        if 200 <= reply.status < 300 and self.right.kind == "create":
            return warning(
                f"Prism took a request to {self.right.what} that names no VM",
                "look whether it made something: Prism > Tasks; and report it, with --report FILE",
                **facts,
            )
        if reply.outcome in ("busy", "silent", "odd"):
            return not_known(reply, **facts)
        if reply.outcome == "absent" and self.right.kind == "see":
            return failed(f"it cannot be asked for: {reply.text}", "update this Prism", **facts)
        doubt = "" if self.right.is_proof or reply.outcome == "good" else ", as far as a refused request tells"
        return ok(f"{who} may {self.right.what}{doubt}", **facts)
