"""The report: what was seen, without secrets, and without names where that is wanted."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ntxengine.cli.output import plain
from ntxengine.probe import Probe, hidden, report_of
from ntxengine.sim.faults import AnswerFault
from tests.probe.lab import Lab


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
