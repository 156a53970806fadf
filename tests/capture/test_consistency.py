"""How a guest is made consistent: what Prism says of Guest Tools, what it does not say, and what VSS is told."""

from __future__ import annotations

from typing import Any

import pytest

from ntxengine.capture.consistency import choose_consistency
from ntxengine.capture.plan import CaptureOptions, plan_capture
from ntxengine.errors import NtxError, OptionsError
from ntxengine.prism.guest import GuestTools, told
from ntxengine.prism.models import Vm
from ntxengine.prism.v4.api import CentralApi
from ntxengine.sim.config import GuestToolsConfig
from tests.capture.lab import Lab

ON = GuestTools(installed=True, enabled=True, reachable=True, can_quiesce=True)
WINDOWS = "windows:64:Windows Server 2022 Datacenter"
LINUX = "linux:64:Red Hat Enterprise Linux 9.4"


def vm(tools: GuestTools, power: Any = "on") -> Vm:
    return Vm("a", "db01", power, "", None, (), tools)


def give(lab: Lab, tools: GuestToolsConfig | None) -> None:
    lab.sim.config.vms[0].guest_tools = tools
    lab.reconfigure()


@pytest.fixture
def vss_sent(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What every recovery point that is asked for by v4 tells VSS."""
    sent: list[object] = []
    create = CentralApi.create_recovery_point

    async def watched(self: CentralApi, vss: dict[str, str | None], *rest: Any, **options: Any) -> str:
        sent.extend(vss.values() if options["with_application"] else ["crash"])
        return await create(self, vss, *rest, **options)

    monkeypatch.setattr(CentralApi, "create_recovery_point", watched)
    return sent


@pytest.mark.parametrize("field", ["installed", "enabled", "reachable", "can_quiesce"])
async def test_what_prism_does_not_say_of_guest_tools_is_not_no(lab: Lab, field: str) -> None:
    give(lab, GuestToolsConfig(**{field: None}))

    point = await lab.capture()

    assert (point.consistency_obtained, point.report.consistency_reason) == ("application", "")
    assert "Prism does not say" in (point.report.quiescing or "")
    assert point.report.guest_tools is not None
    if field != "can_quiesce":
        assert getattr(point.report.guest_tools, field) is None


@pytest.mark.parametrize("field", ["installed", "enabled", "reachable", "can_quiesce"])
async def test_only_what_prism_denies_is_no(lab: Lab, field: str) -> None:
    give(lab, GuestToolsConfig(**{field: False}))

    plan = await plan_capture(lab.prism, lab.repository, lab.vm_id, CaptureOptions())

    assert plan.consistency == "crash"
    assert plan.consistency_reason


async def test_a_vm_without_any_word_of_guest_tools_has_none(lab: Lab) -> None:
    give(lab, None)

    plan = await plan_capture(lab.prism, lab.repository, lab.vm_id, CaptureOptions())

    assert (plan.consistency, plan.consistency_reason) == ("crash", "Guest Tools are not installed")


async def test_silence_that_was_a_no_ends_as_the_cluster_says(v4_lab: Lab) -> None:
    give(v4_lab, GuestToolsConfig(can_quiesce=None))
    v4_lab.sim.faults.downgrade_consistency = True

    point = await v4_lab.capture()

    assert (point.consistency_obtained, point.report.quiescing) == ("crash", "")
    assert any("made a crash-consistent recovery point" in text for text in v4_lab.witness.warnings)


@pytest.mark.parametrize(("power", "wanted"), [("unknown", "application"), ("off", "crash"), ("paused", "crash")])
def test_an_unknown_power_state_is_not_off(power: str, wanted: str) -> None:
    assert choose_consistency(vm(ON, power), "auto")[0] == wanted


def test_a_no_beats_a_yes_and_a_yes_beats_silence() -> None:
    assert told(None, None) is None
    assert told(None, True) is True
    assert told(True, False) is False
    assert told() is None


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (WINDOWS, "windows"),
        ("Microsoft Windows 11 Pro", "windows"),
        ("win10", "windows"),
        (LINUX, "linux"),
        ("Ubuntu 24.04.1 LTS", "linux"),
        ("linux:64:CentOS Linux-7.3.1611", "linux"),
        ("Darwin 23", "unknown"),
        ("", "unknown"),
    ],
)
def test_the_system_of_a_guest_is_known_by_its_name(name: str, kind: str) -> None:
    assert GuestTools(os_name=name).os == kind


def test_vss_and_freezing_follow_from_the_system() -> None:
    windows, linux = (GuestTools(can_quiesce=None, os_name=name) for name in (WINDOWS, LINUX))
    unknown = GuestTools(can_quiesce=True)

    assert (windows.can_use_vss, windows.can_freeze_file_systems) == (None, False)
    assert (linux.can_use_vss, linux.can_freeze_file_systems) == (False, None)
    assert (unknown.can_use_vss, unknown.can_freeze_file_systems) == (None, None)
    assert GuestTools(can_quiesce=False).can_use_vss is False


@pytest.mark.parametrize(
    ("system", "options", "sent", "said"),
    [
        (WINDOWS, {}, "copy", "VSS makes a copy backup"),
        (WINDOWS, {"vss": "full"}, "full", "databases cut their logs"),
        (LINUX, {"vss": "full"}, None, "VSS is told nothing"),
        (None, {}, "copy", "system is not known, so VSS is told to make a copy backup"),
        (WINDOWS, {"consistency": "crash"}, "crash", ""),
    ],
)
async def test_vss_is_told_only_what_concerns_it(
    v4_lab: Lab, vss_sent: list[object], system: str | None, options: dict[str, Any], sent: str | None, said: str
) -> None:
    give(v4_lab, GuestToolsConfig(os=system))

    point = await v4_lab.capture(**options)

    assert vss_sent == [sent]
    assert said in (point.report.quiescing or "")
    assert point.consistency_obtained == ("crash" if sent == "crash" else "application")


async def test_the_newer_name_of_the_system_is_read_too(v4_lab: Lab) -> None:
    give(v4_lab, GuestToolsConfig(os="Microsoft Windows Server 2025", has_guest_info=True))

    found = await v4_lab.prism.vm(v4_lab.vm_id)

    assert (found.guest_tools.os, found.guest_tools.version) == ("windows", "4.1")


async def test_v3_has_no_choice_of_what_vss_makes(v3_hot_add_lab: Lab) -> None:
    lab = v3_hot_add_lab
    give(lab, GuestToolsConfig(os=WINDOWS))

    with pytest.raises(OptionsError, match=r"--vss full cannot be had: only v4"):
        await lab.capture(vss="full")
    lab.assert_clean(points=0)
    point = await lab.capture()

    assert "v3 lets nobody choose" in (point.report.quiescing or "")


async def test_a_linux_guest_is_frozen_by_v3_too_whatever_vss_is_to_do(v3_hot_add_lab: Lab) -> None:
    point = await v3_hot_add_lab.capture(vss="full")

    assert point.consistency_obtained == "application"


def test_application_consistency_that_was_demanded_is_refused_by_a_no_alone() -> None:
    assert choose_consistency(vm(GuestTools(None, None, None, None)), "app") == ("application", "")
    with pytest.raises(NtxError, match="do not answer"):
        choose_consistency(vm(GuestTools(True, True, False, True)), "app")
