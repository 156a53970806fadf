"""Every check there is, in the order in which they are told.

Of each Prism first what has to work before anything can be asked, then its API families, rights and limits; then the
cluster, the VM, the ways to the bytes, the rights that the chosen one needs, this machine; last, if it is
wanted, the live probe.
"""

from __future__ import annotations

from ntxengine.attach import ATTACHERS
from ntxengine.probe import cluster, families, live, local, network, rights, sources, vm
from ntxengine.probe.check import Check, Context, Probed

_SPEAKS = ("cluster.tracker",)


def checks_for(context: Context) -> list[Check]:
    """Return the checks of a probe, those that need others after them."""
    checks: list[Check] = []
    for place in context.places:
        checks += _of_place(place)
    of_rights = tuple(check.key for check in checks if isinstance(check, rights.RightCheck))
    families_of_all = tuple(check.key for check in checks if check.name in ("v4", "v3"))
    checks.append(cluster.Tracker("cluster", after=families_of_all))
    checks += _of_cluster(context, _sees(checks))
    checks += _of_sources(context, _sees(checks))
    for place in context.places:
        checks += [rights.RightCheck(place, right, "v4") for right in rights.WAY_RIGHTS_V4]
        checks += [rights.RightCheck(place, right, "v3") for right in rights.WAY_RIGHTS_V3]
    machine = ("vm.found",) if context.options.vm else ()
    checks += [local.Programs("machine"), local.Room("machine", after=machine)]
    if context.options.live:
        checks += _live(of_rights)
    return checks


def _of_place(place: Probed) -> list[Check]:
    checks: list[Check] = [
        network.Name(place),
        network.Port(place, needs=("name",)),
        network.CertificateCheck(place, needs=("port",)),
        network.Account(place, needs=("certificate",)),
        network.Kind(place, needs=("account",)),
        network.ClockSkew(place, needs=("account",)),
        families.V4(place, needs=("kind",)),
        families.V3(place, needs=("kind",), after=("v4",)),
    ]
    of_rights = [rights.RightCheck(place, right, "v4") for right in rights.V4_RIGHTS]
    of_rights += [rights.RightCheck(place, right, "v3") for right in rights.V3_RIGHTS]
    checks += of_rights
    checks.append(network.Rates(place, needs=("account",), after=tuple(check.name for check in of_rights)))
    return checks


def _sees(checks: list[Check]) -> tuple[str, ...]:
    """Return the rights without which nothing else can be seen: the others wait for them."""
    return tuple(check.key for check in checks if isinstance(check, rights.RightCheck) and check.right.kind == "see")


def _of_cluster(context: Context, sees: tuple[str, ...]) -> list[Check]:
    checks: list[Check] = []
    found: tuple[str, ...] = ()
    if context.options.vm:
        checks.append(vm.Found("vm", needs=_SPEAKS, after=sees))
        found = ("vm.found",)
    checks += [
        cluster.Version("cluster", needs=_SPEAKS, after=found),
        cluster.Computing("cluster", needs=("cluster.version",)),
        cluster.Containers("cluster", needs=_SPEAKS, after=("cluster.version",)),
        cluster.Encryption("cluster", needs=("cluster.version",), after=("cluster.containers",)),
        cluster.Leftovers("cluster", needs=_SPEAKS, after=sees),
    ]
    if found:
        checks += [vm.Groups("vm", needs=found), vm.Tools("vm", needs=found)]
    return checks


def _of_sources(context: Context, sees: tuple[str, ...]) -> list[Check]:
    checks: list[Check] = []
    worker: tuple[str, ...] = ()
    if context.options.worker:
        after = ("vm.found",) if context.options.vm else sees
        checks.append(vm.Worker("worker", needs=_SPEAKS, after=after))
        worker = ("worker.found",)
    known = ("cluster.version", "cluster.containers", *worker, *(("vm.found",) if context.options.vm else ()))
    ways = [sources.Way(kind, needs=_SPEAKS, after=known) for kind in ATTACHERS]
    checks += ways
    checks.append(sources.Chosen("source", needs=_SPEAKS, after=tuple(way.key for way in ways)))
    return checks


def _live(of_rights: tuple[str, ...]) -> list[Check]:
    return [
        live.Freeze("live", needs=("vm.found",), after=("cluster.leftovers", *of_rights)),
        live.Regions("live", needs=("live.freeze",)),
        live.Read("live", needs=("live.freeze", "source.chosen"), after=("live.regions",)),
        live.Delete("live", after=("live.regions", "live.read")),
    ]
