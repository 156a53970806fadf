"""One thing is broken, and the probe names it: that check, and no other."""

from __future__ import annotations

import dataclasses
import os
import time

import pytest

from ntxengine.prism import Trust
from ntxengine.probe.machine import Route
from ntxengine.sim.config import DiskConfig, GroupConfig
from ntxengine.sim.faults import AnswerFault, HttpFault
from tests.probe.broken import BROKEN, broken
from tests.probe.lab import VM, WORKER, Lab

# -- rights, beside those of test_rights.py


@broken("a Prism that takes a request without a VM", prism__v4_create_points="warning")
def _(lab: Lab) -> None:
    lab.sim.faults.http.append(HttpFault("recovery-points$", method="POST", status=202, count=-1, plain=True))


@broken("no right to see storage containers", cluster__containers="warning")
def _(lab: Lab) -> None:
    lab.lacks("View Storage Container")


@broken("no right to see the cluster", cluster__version="warning")
def _(lab: Lab) -> None:
    lab.lacks("View Cluster")


# -- the cluster and the VM


@broken("an AOS that is too old", cluster__version="failed")
def _(lab: Lab) -> None:
    lab.element()
    lab.patch.setattr(lab.sim.config, "aos", "5.10.4")


@broken("an AOS that cannot be read", cluster__version="warning")
def _(lab: Lab) -> None:
    lab.patch.setattr(lab.sim.config, "aos", "master")


@broken("a Prism that does not tell its clusters", cluster__version="warning")
def _(lab: Lab) -> None:
    lab.give(vm="")
    lab.sim.faults.http.append(HttpFault("config/clusters$", status=500, count=-1, after=1))


@broken("a Prism Element whose certificate is not trusted", cluster__computing="failed")
def _(lab: Lab) -> None:
    lab.central(elements=Trust(fingerprints=("ab" * 32,)))


@broken("a Prism Element given with a port that is closed", element__port="failed", cluster__computing="failed")
def _(lab: Lab) -> None:
    lab.both()
    host = lab.sim.element_url.removeprefix("https://").rpartition(":")[0]
    element = lab.options.element
    assert element is not None
    lab.give(element=dataclasses.replace(element, url=f"https://{host}:1"))


@broken("a VM that is not there", vm__found="failed")
def _(lab: Lab) -> None:
    lab.give(vm="nobody")


@broken("a name that two VMs have", vm__found="failed")
def _(lab: Lab) -> None:
    lab.give(vm="twin")


@broken("a VM on another hypervisor", vm__found="failed")
def _(lab: Lab) -> None:
    lab.element()
    lab.change_vm(VM, hypervisor="ESX")


@broken("a disk on storage of another maker", vm__found="failed")
def _(lab: Lab) -> None:
    lab.change_vm(VM, odd=["external"])


@broken("a VM without disks", vm__found="failed")
def _(lab: Lab) -> None:
    path = f"/ahv/config/vms/{lab.sim.vm_id(VM)}$"
    lab.sim.faults.answers.append(AnswerFault(path, count=-1, field="data.disks", value=[]))


@broken("a VM that is being moved", vm__found="failed")
def _(lab: Lab) -> None:
    path = f"/ahv/config/vms/{lab.sim.vm_id(VM)}$"
    lab.sim.faults.answers.append(
        AnswerFault(path, count=-1, field="data.isCrossClusterMigrationInProgress", value=True)
    )


@broken("a VM without Guest Tools", vm__guest_tools="warning")
def _(lab: Lab) -> None:
    lab.change_vm(VM, guest_tools=None)


@broken("a volume group that the account may not see", vm__volume_groups="warning")
def _(lab: Lab) -> None:
    disk = DiskConfig(lab.sim.state_dir.parent / "group.raw", size=1024**2)
    lab.sim.config.volume_groups.append(GroupConfig("data", disks=[disk], vms=[VM]))
    lab.sim.faults.http.append(HttpFault("/volume-groups/[^/]+$", status=403, count=-1))


@broken("Guest Tools that are not enabled", vm__guest_tools="warning")
def _(lab: Lab) -> None:
    lab.change_guest_tools(VM, enabled=False)


@broken("Guest Tools that do not answer", vm__guest_tools="warning")
def _(lab: Lab) -> None:
    lab.change_guest_tools(VM, reachable=False)


@broken("Guest Tools that cannot quiesce", vm__guest_tools="warning")
def _(lab: Lab) -> None:
    lab.change_guest_tools(VM, can_quiesce=False)


# -- the ways to the bytes


@broken("no way to the bytes", source__chosen="failed")
def _(lab: Lab) -> None:
    lab.give(worker="")
    lab.sim.faults.answers.append(
        AnswerFault("config/clusters/[^/]+$", count=-1, kind="drop", field="data.network.externalDataServiceIp")
    )


@broken("hot-add without a worker VM", source__hotadd="failed")
def _(lab: Lab) -> None:
    lab.give(worker="")
    lab.give_attach(source="hotadd")


@broken("a worker VM that is not there", worker__found="failed")
def _(lab: Lab) -> None:
    lab.give(worker="nobody")


@broken("a worker VM that is off", worker__found="failed")
def _(lab: Lab) -> None:
    lab.change_vm(WORKER, power="off")


@broken("a worker VM that is not this machine", worker__found="failed")
def _(lab: Lab) -> None:
    lab.machine.id = lab.sim.vm_id(VM)


@broken("a worker VM on another cluster", worker__found="failed")
def _(lab: Lab) -> None:
    other = "00000000-0000-4000-8000-000000000001"
    path = f"/ahv/config/vms/{lab.sim.vm_id(WORKER)}$"
    lab.sim.faults.answers.append(AnswerFault(path, count=-1, field="data.cluster.extId", value=other))


@broken("a worker VM that is the one that is captured", worker__found="warning")
def _(lab: Lab) -> None:
    lab.give(worker=VM)


@broken("a folder of devices that is not there", source__hotadd="failed")
def _(lab: Lab) -> None:
    lab.give_attach(device_dir=lab.folder / "nowhere")


@broken("a storage container that is not mounted", source__path="failed")
def _(lab: Lab) -> None:
    lab.element()
    lab.give(worker="")
    lab.give_attach(containers=lab.folder, source="path")


@broken("a firewall before NFS", source__nfs="failed")
def _(lab: Lab) -> None:
    lab.element()
    lab.give_attach(source="nfs")
    lab.machine.routes[2049] = Route("silent", 5.0, cause="no answer within 5 s")


@broken("an allow-list of NFS without this machine", source__nfs="failed")
def _(lab: Lab) -> None:
    lab.element()
    lab.give_attach(source="nfs")
    lab.machine.routes |= {2049: Route("open", 0.0, "10.0.0.9"), 111: Route("open", 0.0, "10.0.0.9")}
    lab.sim.faults.answers += [
        AnswerFault("storage_containers", count=-1, field="entities.*.nfs_whitelist", value=["10.1.0.0/255.255.0.0"]),
        AnswerFault("storage_containers", count=-1, field="entities.*.nfs_whitelist_inherited", value=False),
    ]


@broken("no data services IP", source__iscsi="failed")
def _(lab: Lab) -> None:
    lab.give_attach(source="iscsi")
    lab.sim.faults.answers.append(
        AnswerFault("config/clusters/[^/]+$", count=-1, kind="drop", field="data.network.externalDataServiceIp")
    )


@broken("nothing, with a role that may not list clusters, and iSCSI without a VM")
def _(lab: Lab) -> None:
    lab.give(vm="")
    lab.give_attach(source="iscsi")
    lab.lacks("list clusters")


@broken("nothing, with a role that may not list clusters, without a VM and a worker VM")
def _(lab: Lab) -> None:
    lab.give(vm="", worker="")
    lab.lacks("list clusters")


@broken("a firewall before iSCSI", source__iscsi="failed")
def _(lab: Lab) -> None:
    lab.give_attach(source="iscsi", data_services="127.0.0.9")
    lab.machine.routes[3260] = Route("silent", 5.0, cause="no answer within 5 s")


@broken("no right to take iSCSI clients off", prism__v4_expel_clients="failed")
def _(lab: Lab) -> None:
    lab.give(worker="")
    lab.serve_iscsi()
    lab.lacks("Detach Volume Group From External ISCSI Client")


@broken("nothing, without a right that only another way to the bytes needs")
def _(lab: Lab) -> None:
    lab.element()
    lab.give(worker="")
    lab.lacks("delete volume groups")


@broken("a firewall behind iSCSI", source__iscsi="warning")
def _(lab: Lab) -> None:
    lab.give_attach(source="iscsi")
    lab.serve_iscsi()
    lab.machine.routes[3205] = Route("silent", 5.0, cause="no answer within 5 s")


@broken("a recovery point that a killed probe left", cluster__leftovers="warning")
def _(lab: Lab) -> None:
    lab.leave_a_point("ntx-probe-0123456789ab")


@broken("more recovery points than can be listed in time", cluster__leftovers="warning")
def _(lab: Lab) -> None:
    lab.patch.setattr("ntxengine.probe.cluster.LIST_TIMEOUT_S", 0.3)
    lab.sim.faults.http.append(HttpFault("recovery-points$", method="GET", delay_s=2, count=-1, after=1))


# -- this machine


@broken("no qemu-nbd", machine__programs="failed")
def _(lab: Lab) -> None:
    lab.machine.missing.add("qemu-nbd")


@broken("a file where the repository is to be", machine__repository="failed")
def _(lab: Lab) -> None:
    (lab.folder / "file").touch()
    lab.give(repository=lab.folder / "file")


@broken("a repository on a file system that is gone", machine__repository="failed")
def _(lab: Lab) -> None:
    lab.patch.setattr("ntxengine.probe.local.LOOK_TIMEOUT_S", 0.05)
    lab.patch.setattr("ntxengine.probe.local.free_bytes", lambda _place: time.sleep(0.3))


@broken("a repository that this user may not write", machine__repository="failed")
def _(lab: Lab) -> None:
    access = os.access
    lab.patch.setattr(os, "access", lambda path, mode: path != lab.folder and access(path, mode))


@broken("too little room", machine__repository="warning")
def _(lab: Lab) -> None:
    lab.patch.setattr("ntxengine.probe.local.free_bytes", lambda _place: 1024)


@pytest.mark.parametrize("name", BROKEN)
async def test_what_is_broken_is_named_and_nothing_else(name: str, lab: Lab) -> None:
    change, wanted = BROKEN[name]
    change(lab)

    not_ok = await lab.not_ok()

    assert not_ok == wanted, [line for line in lab.told if line.result.status in ("failed", "warning")]
    assert all(line.result.remedy for line in lab.told if line.key in wanted)
    assert not any(line.result.text.endswith(":") for line in lab.told)
    unknown = {line.key for line in lab.told if line.result.status == "skipped" and not line.because}
    assert all(line.because in wanted or line.because in unknown for line in lab.told if line.because)
