"""The cluster: its change tracker, its version, who computes changed regions, its containers, what it encrypts, what we
left there."""

from __future__ import annotations

import asyncio
import ipaddress

from ntxengine.prism.cluster import storage_words_of
from ntxengine.prism.http.endpoint import authority
from ntxengine.prism.http.trust import shown
from ntxengine.prism.models import ClusterFacts, Container
from ntxengine.prism.versions import notice, refusal
from ntxengine.probe.check import Check, Context
from ntxengine.probe.model import Facts, Result, blocked, failed, ok, skipped, warning
from ntxengine.probe.words import AGAIN, FEW_DAYS, days_left

POINT_PREFIX = "ntx-probe-"
"""What the names of our own short-lived recovery points begin with."""

LIST_TIMEOUT_S = 25.0
"""For all recovery points, of which there may be thousands, at a rate that Prism sets."""
MAX_CLUSTERS = 16
MAX_SHOWN = 12
_YES_NO = {True: "yes", False: "no", None: "not told"}


class Tracker(Check):
    """What says which regions changed, and by which family a capture would speak."""

    name = "tracker"

    async def run(self, context: Context) -> Result:
        at = next((place for place in context.places if place.speaks_v4), None)
        if at is not None:
            context.at, context.prism = at, at.inquiry.central(context.elements)
            revision = at.inquiry.revisions["dataprotection"]
            return ok(f"changed regions of v4 (dataprotection {revision}), through Prism Central", family="v4")
        at = next((place for place in context.places if place.speaks_v3), None)
        if at is not None:
            context.at, context.prism = at, at.inquiry.element(context.places[0].no_v4)
            return ok("changed regions of v3, of a Prism Element", family="v3")
        wrong = [line.key for line in context.lines.values() if line.result.status == "failed"]
        return blocked(wrong[0]) if wrong else skipped("neither v4 nor v3 is spoken")


class Version(Check):
    """The version of AOS, and whether it is one that can be captured from."""

    name = "version"

    async def run(self, context: Context) -> Result:
        assert context.prism is not None
        assert context.at is not None
        ids = [context.vm.cluster_id] if context.vm is not None and context.vm.cluster_id else []
        if not ids and context.prism.family == "v4":
            reply, ids = await context.at.inquiry.cluster_ids()
            if reply.outcome == "denied":
                return skipped(
                    "this account may not list clusters (Backup Admin may not): name a VM to see its cluster"
                )
            if not ids:
                return warning(f"no cluster is told: {reply.text or 'the list is empty'}", "name a VM, or try again")
        context.clusters = [await context.prism.cluster(each) for each in (ids or [""])[:MAX_CLUSTERS]]
        facts: Facts = {
            "clusters": [
                {"cluster_id": each.id, "name": each.name, "version": str(each.version), "storage": each.storage_type}
                for each in context.clusters
            ]
        }
        told = ", ".join(_version(each) for each in context.clusters)
        for each in context.clusters:
            if problem := refusal(each.version):
                return failed(problem, "update the cluster: Prism > Life Cycle Management", **facts)
            if said := notice(each.version, context.prism.family):
                return warning(f"{each.name or each.id or 'the cluster'}: {said}", _AOS_REMEDY, **facts)
        return ok(told, **facts)


_AOS_REMEDY = (
    'give the account the right to see it ("View Cluster"; v2: any role), or go on: what it can is asked anyway'
)


class Computing(Check):
    """The Prism Elements that compute changed regions of v4 can be reached, and their certificates are trusted."""

    name = "computing"

    def applies(self, context: Context) -> bool:
        return context.prism is not None and context.prism.family == "v4"

    async def run(self, context: Context) -> Result:
        each = await asyncio.gather(*(self._of_one(context, cluster) for cluster in context.clusters))
        found = [result for result in each if result is not None]
        if not found:
            return skipped("no address of a Prism Element is told: cluster discovery names one, as --live shows")
        for status in ("failed", "warning"):
            if wrong := [result for result in found if result.status == status]:
                return wrong[0]
        return ok(f"reached and trusted: {'; '.join(result.text for result in found)}")

    async def _of_one(self, context: Context, cluster: ClusterFacts) -> Result | None:
        """Return what is so of one cluster; None if it tells no address."""
        inquiry, address, name = context.elements, cluster.address, _named(cluster)
        if not address:
            return None
        port = inquiry.endpoint.port
        route = await context.machine.connect(address, port)
        if route.answer != "open":
            return failed(
                f"{name}: no connection to {authority(address, port)}: {route.cause}",
                f"open TCP {port} from this machine to each Prism Element in the firewalls between",
                address=address,
            )
        shown_one = await inquiry.element_certificate(address)
        if shown_one is not None:
            context.names |= shown_one.all_names
        distrust = await inquiry.distrust_element(address, shown_one)
        if distrust is not None:
            why, remedy = distrust
            return failed(f"{name}: the certificate at {address} is not trusted: {why}", remedy, address=address)
        days = days_left(shown_one.not_after if shown_one else None, context.now())
        if days is not None and days < FEW_DAYS:
            return warning(
                f"{name} at {address}: its certificate ends in {days} days",
                "renew it: Prism Element > Settings > SSL Certificate",
            )
        return ok(f"{address}, SHA-256 {shown(shown_one.fingerprint)[:23]}..." if shown_one else address)


class Containers(Check):
    """What the storage containers are like, as far as that matters to a capture."""

    name = "containers"

    async def run(self, context: Context) -> Result:
        assert context.prism is not None
        assert context.at is not None
        reply = await context.at.inquiry.ask("v4.containers" if context.prism.family == "v4" else "v2.containers")
        if reply.outcome == "denied":
            return warning(
                f"{context.at.inquiry.who} may not see storage containers: nothing is known of compression and dedup:"
                f" {reply.text}",
                'give it a role with "View Storage Container", such as Backup Admin',
            )
        if reply.outcome != "good":
            return warning(f"not told: {reply.text}", AGAIN)
        found = context.containers = await context.prism.containers()
        context.names |= {host for each in found for host in each.nfs_allowed or () if not is_address(host)}
        words = [word for each in context.clusters for word in await storage_words_of(context.prism, each)]
        tiers = list(dict.fromkeys(words))
        facts: Facts = {
            "containers": [
                {
                    "name": each.name,
                    "compression": _YES_NO[each.is_compressed],
                    "dedup": _YES_NO[each.has_dedup],
                    "encryption": _YES_NO[each.is_encrypted],
                    "erasure_coding": _YES_NO[each.is_erasure_coded],
                    "nfs_allowed": ", ".join(each.nfs_allowed or ()),
                }
                for each in found[:100]
            ],
            "tiers": tiers,
        }
        if not found:
            return warning("none is told", "is this the cluster that you mean?", **facts)
        shown_ones = "; ".join(_container(each) for each in found[:MAX_SHOWN])
        more = f"; and {len(found) - MAX_SHOWN} more" if len(found) > MAX_SHOWN else ""
        on = f" (disks: {', '.join(tiers)})" if tiers else ""
        return ok(f"{shown_ones}{more}{on}", **facts)


class Encryption(Check):
    """What the cluster encrypts at rest: a point holds the same bytes, and `ntx` does not encrypt them."""

    name = "encryption"

    async def run(self, context: Context) -> Result:
        facts: Facts = {
            "clusters": [
                {
                    "cluster_id": each.id,
                    "name": each.name,
                    "encrypted": _YES_NO[each.is_encrypted],
                    "encryption": each.encryption,
                    "traffic_encrypted": _YES_NO[each.encrypts_traffic],
                }
                for each in context.clusters
            ]
        }
        told = "; ".join(f"{_named(each)} {_encryption(each, context.containers)}" for each in context.clusters)
        return ok(told or "not told", **facts)


class Leftovers(Check):
    """Recovery points that a killed probe left."""

    name = "leftovers"

    async def run(self, context: Context) -> Result:
        assert context.prism is not None
        if denied := context.denied("see-points"):
            return denied
        try:
            async with asyncio.timeout(LIST_TIMEOUT_S):
                found = await context.prism.recovery_points(name_prefix=POINT_PREFIX)
        except TimeoutError:
            return warning(
                f"not known: recovery points were not all listed within {LIST_TIMEOUT_S:g} s; a capture lists none",
                "are there thousands, or is this Prism busy? See Prism > Data Protection > VM Recovery Points",
            )
        if not found:
            return ok("no recovery point of an earlier probe")
        first = found[0]
        ends = f"expires {first.expires_at:%Y-%m-%d %H:%M} UTC" if first.expires_at else "never expires"
        return warning(
            f"{len(found)} of a probe that was killed, or that runs now: {first.name} ({first.id}), which {ends}",
            "let it expire, or delete it: Prism > Data Protection > VM Recovery Points",
            recovery_points=[each.name for each in found[:MAX_SHOWN]],
        )


def _container(container: Container) -> str:
    traits = {
        "compressed": container.is_compressed,
        "dedup": container.has_dedup,
        "encrypted": container.is_encrypted,
        "erasure-coded": container.is_erasure_coded,
    }
    told = [name for name, is_so in traits.items() if is_so] or ["plain"]
    return f"{container.name}: {', '.join(told)}"


def _encryption(cluster: ClusterFacts, containers: list[Container] | None) -> str:
    """Say what of a cluster is encrypted; of its containers where it is not encrypted as a whole."""
    how = f" ({cluster.encryption.lower().replace('_', ' ')})" if cluster.encryption else ""
    if cluster.is_encrypted:
        return f"encrypts all that it stores{how}"
    ours = [each for each in containers or () if each.cluster_id in ("", cluster.id)]
    some = [each.name for each in ours if each.is_encrypted]
    if some:
        more = f" and {len(some) - MAX_SHOWN} more" if len(some) > MAX_SHOWN else ""
        return f"encrypts {len(some)} of {len(ours)} containers{how}: {', '.join(some[:MAX_SHOWN])}{more}"
    is_told = cluster.is_encrypted is False or any(each.is_encrypted is False for each in ours)
    return "encrypts nothing of what it stores" if is_told else "does not tell whether it encrypts what it stores"


def is_address(text: str) -> bool:
    """Return whether a client of an allow-list is an address or a network, and no name."""
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def _version(cluster: ClusterFacts) -> str:
    return f"{_named(cluster)} has AOS {cluster.version}"


def _named(cluster: ClusterFacts) -> str:
    return cluster.name or cluster.id or "the cluster"
