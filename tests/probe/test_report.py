"""The report: what was seen, without secrets, and without names where that is wanted."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from ntxengine.cli.output import plain
from ntxengine.prism import Trust
from ntxengine.probe import Probe, hidden, report_of
from ntxengine.sim.faults import AnswerFault
from tests.probe.lab import VM, Lab


def written(found: Probe, *, has_names: bool = True) -> Any:
    value: Any = plain(report_of(found, has_names=has_names))
    return value if has_names else hidden(value, found)


async def test_a_secret_that_a_server_sends_back_is_not_in_it(lab: Lab) -> None:
    lab.lacks("Delete Recovery Point")
    said = f"the password {lab.sim.password} of yours may not"
    lab.sim.faults.answers.append(AnswerFault("recovery-points/", count=-1, field="data.error.0.message", value=said))

    text = json.dumps(written(await lab.probe()))

    assert "of yours may not" in text
    assert lab.sim.password not in text


async def test_an_ipv6_address_of_a_prism_is_written_as_in_a_url(lab: Lab) -> None:
    lab.central(url="https://[::1]:1")

    (asked,) = written(await lab.probe())["prisms"]

    assert asked["address"] == "[::1]:1"


@pytest.mark.parametrize("live", [False, True])
async def test_what_is_hidden_is_the_same_everywhere(live: bool, lab: Lab) -> None:
    lab.both()
    lab.give(live=live)
    found = await lab.probe()

    shown, covered = written(found), written(found, has_names=False)

    vm_id = lab.sim.vm_id("db01")
    count = json.dumps(shown).count(vm_id)
    line = next(each for each in covered["checks"] if each["subject"] == "vm" and each["check"] == "found")
    assert count > 1
    assert line["facts"]["vm_id"].startswith("id-")
    assert (
        json.dumps(covered).count(f'{line["facts"]["vm_id"]}"')
        + json.dumps(covered).count(f"({line['facts']['vm_id']})")
        >= count
    )
    assert line["facts"]["vm_name"].startswith("name-")
    for name in (vm_id, "db01", "127.0.0", "pe1", "fast", "ntx-worker", str(lab.folder)):
        assert name not in json.dumps(covered), name


def external_storage(lab: Lab) -> str:
    lab.change_vm(VM, odd=["external"])
    lab.give(vm=lab.sim.vm_id(VM))
    return VM


def allowed_by_name(lab: Lab) -> str:
    lab.element()
    host = "backup.acme.example"
    lab.sim.faults.answers += [
        AnswerFault("storage_containers", count=-1, field="entities.*.nfs_whitelist", value=[host]),
        AnswerFault("storage_containers", count=-1, field="entities.*.nfs_whitelist_inherited", value=False),
    ]
    return host


def name_of_elements(lab: Lab) -> str:
    lab.central(elements=Trust(ca_file=str(lab.sim.ca_file), name="pe.acme.example"))
    return "pe.acme.example"


def folder_above(lab: Lab) -> str:
    (lab.folder / "acme-corp").touch()
    lab.give(repository=lab.folder / "acme-corp" / "ntx" / "new")
    return "acme-corp"


def ca_file(lab: Lab) -> str:
    lab.central(ca_file=str(lab.folder / "acme-ca.pem"))
    return "acme-ca"


def odd_characters(lab: Lab) -> str:
    path = f"/ahv/config/vms/{lab.sim.vm_id(VM)}$"
    lab.sim.faults.answers.append(AnswerFault(path, count=-1, field="data.name", value="ac\\me  corp"))
    lab.give(vm=lab.sim.vm_id(VM))
    return "corp"


@pytest.mark.parametrize(
    "change", [external_storage, allowed_by_name, name_of_elements, folder_above, ca_file, odd_characters]
)
async def test_names_are_hidden_wherever_they_were_met(change: Callable[[Lab], str], lab: Lab) -> None:
    name = change(lab)
    found = await lab.probe()

    assert name in json.dumps(written(found))
    assert name not in json.dumps(written(found, has_names=False))


@pytest.mark.parametrize("name", ["skipped", "chosen", "prism"])
async def test_a_name_that_is_a_word_of_ours_breaks_no_report(name: str, lab: Lab) -> None:
    lab.give(vm=name)
    found = await lab.probe()

    shown, covered = written(found), written(found, has_names=False)

    words = ("subject", "check", "status", "because")
    assert [[each[word] for word in words] for each in shown["checks"]] == [
        [each[word] for word in words] for each in covered["checks"]
    ]


async def test_what_is_of_use_stays(lab: Lab) -> None:
    covered = json.dumps(written(await lab.probe(), has_names=False))

    for kept in ("pc.7.5.1", "7.5.1.2", "v4.4", "compressed", "GET /api/vmm/v4.1/ahv/config/vms"):
        assert kept in covered, kept


@pytest.mark.parametrize(
    "text",
    ["10.1.2.3", "at 10.1.2.3:9440", "fd00::1", "[fd00::1]:9440", "2001:db8:0:0:0:0:0:1", "AB:CD:" * 15 + "AB:CD"],
)
async def test_addresses_and_fingerprints_are_hidden_wherever_they_stand(text: str, lab: Lab) -> None:
    found = await lab.probe()

    covered = hidden({"text": f"it says {text}!"}, found)

    assert isinstance(covered, dict)
    assert not any(part in str(covered["text"]) for part in ("10.1.2.3", "fd00", "2001", "AB:CD"))


@pytest.mark.parametrize("text", ["12:34:56", "2026-11-29T09:00:00Z", "7.5.1.2.3", "v4.0", "el8.5-7.5.1"])
async def test_times_and_versions_are_not_taken_for_addresses(text: str, lab: Lab) -> None:
    found = await lab.probe()

    assert hidden({"text": text}, found) == {"text": text}
