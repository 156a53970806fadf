"""Which attacher is chosen, why another is not, and that each of them is asked for what it left."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from ntxengine import attach
from ntxengine.attach import (
    YES,
    Attacher,
    AttachOptions,
    ContainerMount,
    FirstThatCan,
    HotAdd,
    Iscsi,
    Leftovers,
    Locality,
    NfsExport,
    Trace,
    Verdict,
    choose_attacher,
    find_leftovers,
    source_names,
    title_of,
)
from ntxengine.attach.nfs import export_problem
from ntxengine.errors import AttachError, NotFoundError, NtxError, OptionsError, PrismBusy, PrismError, ToolError
from ntxengine.prism.cluster import Prism
from ntxengine.prism.findings import Findings, Revisions
from ntxengine.prism.models import AttachedDisk, Disk, Vm

NO_PRISM = cast(Prism, SimpleNamespace(no_volume_groups="too old"))


V3 = Findings("v3")
V4 = Findings("v4", revisions=Revisions("v4.1", "v4.0", "v4.0"))
V4_0 = Findings("v4", revisions=Revisions("v4.0", "v4.0", "v4.0"))


async def chosen(findings: Findings, options: AttachOptions) -> type[Attacher]:
    found = await choose_attacher(NO_PRISM, findings, options)
    return type(found.candidates[0] if isinstance(found, FirstThatCan) else found)


async def test_mounted_containers_are_preferred_where_prism_tells_paths(tmp_path: Path) -> None:
    options = AttachOptions("w", tmp_path, containers=tmp_path)

    assert await chosen(V3, options) is ContainerMount
    assert await chosen(V4, options) is HotAdd


async def test_when_none_can_serve_the_error_has_the_reason_of_each(tmp_path: Path) -> None:
    with pytest.raises(
        OptionsError,
        match=r"mounted containers: .*--containers.*; hot-add: .*--worker.*; NFS: .*no paths.*; iSCSI: too old",
    ):
        await chosen(V4, AttachOptions())
    with pytest.raises(OptionsError, match=r"hot-add: .*v4\.0, it needs v4\.1"):
        await chosen(V4_0, AttachOptions("w"))
    with pytest.raises(OptionsError, match=r"mounted containers: .*tells no paths.*; hot-add: .*--worker"):
        await chosen(V4, AttachOptions(containers=tmp_path))


async def test_where_nothing_is_given_the_network_is_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await chosen(V3, AttachOptions()) is NfsExport
    monkeypatch.setattr(NO_PRISM, "no_volume_groups", "")
    assert await chosen(V4, AttachOptions()) is Iscsi


async def test_a_qemu_without_the_drivers_is_a_reason_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    qemu = tmp_path / "qemu-img"
    qemu.write_text("#!/bin/sh\necho \"qemu-img: Could not open 'json:{}': Unknown driver 'nfs'\" >&2\nexit 1\n")
    qemu.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    with pytest.raises(OptionsError, match="NFS: qemu has no nfs driver here: install the package qemu-block-extra"):
        await chosen(V3, AttachOptions())


@pytest.mark.parametrize("lacks", ["qemu-img", "qemu-nbd"])
async def test_a_machine_without_qemu_is_a_reason_before_anything_is_frozen(
    lacks: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for program in {"qemu-img", "qemu-nbd", "setpriv", "sh"} - {lacks}:
        (tmp_path / program).symlink_to(shutil.which(program) or "")
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(OptionsError, match=f"NFS: {lacks} is not installed: install the package qemu-utils"):
        await chosen(V3, AttachOptions())
    monkeypatch.setattr(NO_PRISM, "no_volume_groups", "")
    with pytest.raises(OptionsError, match=f"iSCSI: {lacks} is not installed.*; and iscsiadm"):
        await chosen(V4, AttachOptions())


async def test_a_container_is_not_said_to_be_closed_where_qemu_lacks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(ToolError, match="qemu-img is not installed: install the package qemu-utils"):
        await export_problem("127.0.0.1", "default")


async def test_the_way_that_is_named_is_taken_and_no_other(tmp_path: Path) -> None:
    options = AttachOptions("w", tmp_path, containers=tmp_path)

    assert await chosen(V3, replace(options, source="hotadd")) is HotAdd
    assert await chosen(V3, replace(options, source="path")) is ContainerMount
    with pytest.raises(OptionsError, match=r"^--source path: [^;]*tells no paths[^;]*$"):
        await chosen(V4, replace(options, source="path"))
    with pytest.raises(OptionsError, match=r"^--source hotadd: [^;]*--worker[^;]*$"):
        await chosen(V3, AttachOptions(containers=tmp_path, source="hotadd"))


async def test_a_way_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(OptionsError, match=r"--source tape: there is no such way: one of auto, path, hotadd"):
        await chosen(V3, AttachOptions("w", source="tape"))


class Stub(HotAdd):
    """A way that leads to the VMs whose names hold its own."""

    async def can_serve(self, findings: Findings) -> Verdict:
        return YES

    async def can_serve_vm(self, vm: Vm) -> Verdict:
        return YES if self.name in vm.name else Verdict(f"it does not lead to {vm.name}")


class Near(Stub):
    name, title = "near", "the near way"


class Far(Stub):
    name, title = "far", "the far way"


async def test_each_vm_gets_the_first_way_that_leads_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attach, "ATTACHERS", (Near, Far, ContainerMount))
    attacher = await choose_attacher(NO_PRISM, V4, AttachOptions())
    said: list[str] = []

    found = [
        await attacher.for_vm(Vm(name, name, "on", "cluster", None, ()), said.append)
        for name in ("near and far", "near", "far")
    ]

    assert [each.name for each in found] == ["near", "near", "far"]
    assert said == ["VM 'far' is read by the far way: the near way: it does not lead to far"]
    with pytest.raises(AttachError, match=r"VM 'none' .*the near way: .*; the far way: .*; mounted containers: no dir"):
        await attacher.for_vm(Vm("none", "none", "on", "cluster", None, ()), said.append)


class Broken(Stub):
    """A way that ends in an error before it can say yes or no."""

    name, title = "broken", "the broken way"
    error: NtxError

    async def can_serve_vm(self, vm: Vm) -> Verdict:
        raise self.error


@pytest.mark.parametrize("error", [AttachError("a link leads outside"), NotFoundError("no VM 'worker'")], ids=repr)
async def test_a_way_that_is_not_as_it_was_told_does_not_end_the_search(
    error: NtxError, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attach, "ATTACHERS", (Broken, Near))
    monkeypatch.setattr(Broken, "error", error, raising=False)
    attacher = await choose_attacher(NO_PRISM, V4, AttachOptions())
    said: list[str] = []

    found = await attacher.for_vm(Vm("near", "near", "on", "cluster", None, ()), said.append)

    assert found.name == "near"
    assert said == [f"VM 'near' is read by the near way: the broken way: {error}"]


async def test_what_may_pass_ends_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attach, "ATTACHERS", (Broken, Near))
    monkeypatch.setattr(Broken, "error", PrismBusy("not now"), raising=False)
    attacher = await choose_attacher(NO_PRISM, V4, AttachOptions())

    with pytest.raises(PrismBusy):
        await attacher.for_vm(Vm("near", "near", "on", "cluster", None, ()), print)


async def test_a_way_that_is_named_is_taken_for_every_vm_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attach, "ATTACHERS", (Near, Far))
    attacher = await choose_attacher(NO_PRISM, V4, AttachOptions(source="near"))

    assert type(attacher) is Near
    with pytest.raises(AttachError, match=r"^it does not lead to far$"):
        await attacher.for_vm(Vm("far", "far", "on", "cluster", None, ()), print)


def test_every_way_has_a_word_and_a_title_of_its_own() -> None:
    names = source_names()

    assert names[0] == "auto"
    assert len(set(names)) == len(names) == len(attach.ATTACHERS) + 1
    assert [title_of(name) for name in names[1:]] == [kind.title for kind in attach.ATTACHERS]
    assert title_of("of a newer ntx") == "of a newer ntx"


@pytest.mark.parametrize("name", ["containers", "device_dir"])
async def test_a_folder_that_is_not_there_is_an_error_of_the_options(name: str, tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    wrong = AttachOptions(containers=missing) if name == "containers" else AttachOptions("w", missing)

    with pytest.raises(OptionsError, match=f"--{name.replace('_', '-')}: {missing}: there is no such directory"):
        await chosen(V3, wrong)


class Cluster:
    """A Prism with VMs, on some of which clones are attached; those in `broken` cannot be looked at."""

    def __init__(self, *clones: AttachedDisk, broken: str = "") -> None:
        self.clones = list(clones)
        self.broken = broken

    async def attached_disks(self, worker_id: str) -> list[AttachedDisk]:
        if worker_id == self.broken:
            raise PrismError("no answer")
        return [disk for disk in self.clones if disk.worker_id == worker_id]

    async def vm(self, vm_id: str) -> Vm:
        own = Disk("own", 512, "scsi", 0, "c", vmdisk_id="own")
        return Vm(vm_id, vm_id, "on", "cluster", f"host of {vm_id}", (own,))

    async def detach_disk(self, disk: AttachedDisk) -> None:
        self.clones.remove(disk)


def clone(worker_id: str, source: str) -> AttachedDisk:
    return AttachedDisk(f"{source} on {worker_id}", "v", worker_id, source)


async def test_only_what_is_recorded_is_found_where_it_is_recorded_and_where_a_person_says() -> None:
    cluster = Cluster(clone("w", "ours"), clone("w", "theirs"), clone("other", "ours"), clone("third", "ours"))

    left = await find_leftovers(cast(Prism, cluster), AttachOptions("other"), Trace("w", ("ours",)))
    for leftover in left.found:
        await leftover.remove()

    assert [leftover.id for leftover in left.found] == ["ours on other", "ours on w"]
    assert [disk.id for disk in cluster.clones] == ["theirs on w", "ours on third"]


async def test_a_vm_that_cannot_be_looked_at_does_not_hide_the_others() -> None:
    cluster = Cluster(clone("w", "ours"), broken="a")

    left = await find_leftovers(cast(Prism, cluster), AttachOptions("w"), Trace("a", ("ours",)))

    assert [leftover.id for leftover in left.found] == ["ours on w"]
    assert [(place, str(error)) for place, error in left.unseen] == [("worker VM a", "no answer")]


async def test_every_attacher_is_asked_for_what_it_left(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other(HotAdd):
        """A second kind."""

    monkeypatch.setattr(attach, "ATTACHERS", (*attach.ATTACHERS, Other))

    left = await find_leftovers(cast(Prism, Cluster(clone("w", "ours"))), AttachOptions(), Trace("w", ("ours",)))

    assert len(left.found) == 2


async def test_only_the_way_that_is_recorded_is_asked_for_what_it_left(monkeypatch: pytest.MonkeyPatch) -> None:
    class Forbidden(HotAdd):
        """A way whose things this user may not see."""

        name = "forbidden"

        async def leftovers(self, trace: Trace) -> Leftovers:
            raise AssertionError("it was asked")

    monkeypatch.setattr(attach, "ATTACHERS", (*attach.ATTACHERS, Forbidden))
    cluster = cast(Prism, Cluster(clone("w", "ours")))

    left = await find_leftovers(cluster, AttachOptions(), Trace("w", ("ours",), "ntx-1", "hotadd"))
    nothing = await find_leftovers(cluster, AttachOptions(), Trace("w", ("ours",), "ntx-1", "path"))

    assert len(left.found) == 1
    assert nothing == Leftovers()


async def test_what_a_way_that_is_not_known_left_is_not_taken_for_nothing() -> None:
    left = await find_leftovers(NO_PRISM, AttachOptions(), Trace("", ("ours",), "ntx-1", "tape"))

    ((place, error),) = left.unseen
    assert "ntx-1" in place
    assert "'tape'" in str(error)
    assert "newer ntx" in str(error)


def test_a_read_is_local_where_the_vm_and_the_reader_share_a_host() -> None:
    assert Locality.between("a", "a") == Locality("local", "a")
    assert Locality.between("a", "b") == Locality("remote", "a")
    assert Locality.between("a", None) == Locality("unknown", "a")
    assert Locality.between(None, "b") == Locality("unknown", "")
