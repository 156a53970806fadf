"""Set-ups in which one thing is broken, by name: test_broken.py tries each.

Here are those of the way to Prism and of its API families; the others are where they are tried.
"""

from __future__ import annotations

from collections.abc import Callable

from ntxengine.prism import Secret
from ntxengine.probe.machine import Route
from ntxengine.sim.faults import HttpFault
from tests.probe.lab import Lab

Change = Callable[[Lab], None]

BROKEN: dict[str, tuple[Change, dict[str, str]]] = {}
"""What is broken, and which checks say so."""


def broken(name: str, **not_ok: str) -> Callable[[Change], Change]:
    """Enter a case; `not_ok` has `subject__check` of each check that fails or warns, with its status."""

    def enter(change: Change) -> Change:
        assert name not in BROKEN, f"{name!r} stands there already"
        BROKEN[name] = change, {key.replace("__", ".").replace("_", "-"): status for key, status in not_ok.items()}
        return change

    return enter


# -- on the way to Prism


@broken("a name that nobody knows", prism__name="failed")
def _(lab: Lab) -> None:
    lab.central(url="https://pc.example.com")
    lab.machine.unknown_names = True


@broken("a port that nobody listens on", prism__port="failed")
def _(lab: Lab) -> None:
    lab.central(url=f"https://127.0.0.1:{lab.closed_port()}")


@broken("a firewall", prism__port="failed")
def _(lab: Lab) -> None:
    lab.machine.routes[lab.sim.port] = Route("silent", 5.0, cause="no answer within 5 s")


@broken("a port where nobody speaks TLS", prism__certificate="failed")
def _(lab: Lab) -> None:
    lab.central(url=lab.silent_server(), timeout_s=0.3)


@broken("an authority that is not known", prism__certificate="failed")
def _(lab: Lab) -> None:
    lab.central(ca_file=None)


@broken("a certificate that is not the pinned one", prism__certificate="failed")
def _(lab: Lab) -> None:
    lab.central(fingerprint="ab" * 32)


@broken("a wrong password", prism__account="failed")
def _(lab: Lab) -> None:
    lab.central(password=Secret("wrong"))


@broken("an account that may see nothing", prism__account="failed")
def _(lab: Lab) -> None:
    lab.sim.faults.http.append(HttpFault("", status=403, count=-1))


@broken("a busy Prism", prism__account="failed")
def _(lab: Lab) -> None:
    lab.sim.faults.http.append(HttpFault("", status=503, count=-1))


@broken("a web server that is no Prism", prism__account="failed")
def _(lab: Lab) -> None:
    lab.sim.faults.http.append(HttpFault("", status=404, count=-1, plain=True))


@broken("a proxy with a page of its own", prism__account="failed")
def _(lab: Lab) -> None:
    lab.sim.faults.http.append(HttpFault("", status=200, count=-1, plain=True))


@broken("a server that leads elsewhere", prism__account="failed")
def _(lab: Lab) -> None:
    lab.sim.faults.http.append(HttpFault("", status=302, count=-1, plain=True))


@broken("a Prism Element whose snapshots are a page", prism__v3="failed")
def _(lab: Lab) -> None:
    lab.element()
    lab.sim.faults.http.append(HttpFault("vm_snapshots/list", status=200, count=-1, plain=True))


@broken("a Prism Element given as Prism Central", prism__kind="failed")
def _(lab: Lab) -> None:
    lab.give(central=lab.endpoint(lab.sim.element_url), element=None)


@broken("a Prism Central given as Prism Element", prism__kind="failed")
def _(lab: Lab) -> None:
    lab.give(central=None, element=lab.endpoint(lab.sim.central_url))


@broken("a clock that is fast", prism__clock="warning")
def _(lab: Lab) -> None:
    lab.sim.faults.clock_skew_s["central"] = 900


@broken("a clock that is slow", prism__clock="warning")
def _(lab: Lab) -> None:
    lab.sim.faults.clock_skew_s["central"] = -900


@broken("a wrong password at the Prism Element", element__account="failed")
def _(lab: Lab) -> None:
    lab.both(password=Secret("wrong"))


@broken("a slow clock of the Prism Element", element__clock="warning")
def _(lab: Lab) -> None:
    lab.both()
    lab.sim.faults.clock_skew_s["element"] = -900


# -- families


@broken("a Prism Central without v4", prism__v4="failed")
def _(lab: Lab) -> None:
    lab.sim.faults.http.append(HttpFault(r"^/api/(vmm|dataprotection)/v4", status=404, count=-1))


@broken("a Prism Central without a finished v4", prism__v4="failed")
def _(lab: Lab) -> None:
    lab.patch.setattr(lab.sim.config, "revisions", {"vmm": "v4.0.b1"})


@broken("a Prism Central that tells no tasks", prism__v4="failed")
def _(lab: Lab) -> None:
    lab.sim.faults.http.append(HttpFault(r"^/api/prism/v4", status=404, count=-1))


@broken("a Prism Central without volume groups", source__iscsi="failed")
def _(lab: Lab) -> None:
    lab.give_attach(source="iscsi")
    lab.serve_iscsi()
    lab.sim.faults.http.append(HttpFault(r"^/api/volumes/", status=404, count=-1))


@broken("a Prism Element without volume groups", prism__v3_see_groups="failed")
def _(lab: Lab) -> None:
    lab.element()
    lab.give_attach(source="iscsi")
    lab.serve_iscsi()
    lab.sim.faults.http.append(HttpFault(r"/v2.0/volume_groups$", method="GET", status=404, count=-1))


@broken("a Prism Element without changed regions", prism__v3="failed")
def _(lab: Lab) -> None:
    lab.element()
    lab.sim.faults.http.append(HttpFault("changed_regions", status=404, count=-1))


@broken("vmm v4.0, which cannot hot-add", source__hotadd="failed")
def _(lab: Lab) -> None:
    lab.patch.setattr(lab.sim.config, "revisions", {"vmm": "v4.0"})
    lab.give_attach(source="hotadd")
