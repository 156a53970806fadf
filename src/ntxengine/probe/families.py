"""Which API families and revisions are really served."""

from __future__ import annotations

from ntxengine.prism.inquiry import NAME_SPACES
from ntxengine.prism.probe import NEEDED
from ntxengine.probe.check import Context, PrismCheck
from ntxengine.probe.model import Facts, Result, failed, ok
from ntxengine.probe.words import not_known


class V4(PrismCheck):
    """v4 of a Prism Central: every name space that a capture uses, by a call that is really made."""

    name = "v4"

    def applies(self, context: Context) -> bool:
        return self.place.asks_v4

    async def run(self, context: Context) -> Result:
        served = {name: await self.place.inquiry.served(name) for name in NAME_SPACES}
        facts: Facts = {
            "revisions": [
                {"name_space": name, "served": each.revision, "told": each.told} for name, each in served.items()
            ]
        }
        self.place.replies |= {NAME_SPACES[name]: each.reply for name, each in served.items() if each.revision}
        missing = [name for name in NEEDED if not served[name].revision]
        if missing:
            reply = served[missing[0]].reply
            self.place.no_v4 = f"no {', '.join(missing)}"
            if reply.outcome in ("busy", "silent"):
                return not_known(reply, **facts)
            return failed(
                f"{', '.join(missing)} is not served: {reply.text}",
                "update Prism Central to pc.2024.3 or later; or name a Prism Element with an account of its own, too"
                " (--element, --element-username)",
                **facts,
            )
        self.place.speaks_v4 = True
        spoken = ", ".join(f"{name} {each.revision}" for name, each in served.items() if each.revision)
        newest = {each.told for each in served.values() if each.told}
        absent = [name for name, each in served.items() if not each.revision]
        spoken += f"; not served: {', '.join(absent)}" if absent else ""
        more = f" (the server has {', '.join(sorted(newest))})" if newest else ""
        return ok(f"{spoken}{more}", **facts)


class V3(PrismCheck):
    """v3 of a Prism Element: snapshots, and the changed regions of them."""

    name = "v3"

    def applies(self, context: Context) -> bool:
        return self.place.asks_v3

    async def run(self, context: Context) -> Result:
        inquiry = self.place.inquiry
        replies = {name: await inquiry.ask(name) for name in ("v3.snapshots", "v3.regions")}
        facts: Facts = {f"{name.removeprefix('v3.')}_status": reply.status for name, reply in replies.items()}
        self.place.replies |= replies
        for name, reply in replies.items():
            if reply.outcome == "absent":
                what = "snapshots" if name == "v3.snapshots" else "changed regions"
                return failed(
                    f"it has no {what}: {reply.text}",
                    "update AOS, or give the address of a Prism Central that has v4 (--prism)",
                    **facts,
                )
            if reply.outcome in ("busy", "silent", "odd"):
                return not_known(reply, **facts)
        self.place.speaks_v3 = True
        return ok("snapshots and changed regions are there", **facts)
