"""Prism, its account, its certificate, the VMs: what goes wrong is said once, and the agent goes on by itself."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from ntxengine.agent.records import RunState
from ntxengine.sim.auth import Credentials
from ntxengine.sim.config import DiskConfig, VmConfig
from tests.agent.troubles import Troubled, troubles

pytestmark = pytest.mark.slow


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Troubled]:
    with troubles(tmp_path, monkeypatch) as found:
        yield found


async def test_prism_that_is_away_for_an_hour_is_said_once_and_used_again(lab: Troubled) -> None:
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(AsyncExitStack())
        await first.enter_async_context(lab.cluster())
        await stack.enter_async_context(lab.agent())
        await lab.captured()

        await first.aclose()
        await lab.pass_time(hours=1)
        during = lab.said.taken()
        await stack.enter_async_context(lab.cluster())
        await lab.captured()
        after = lab.said.taken()

    (error,) = [line for line in during if line.startswith("ERROR")]
    assert error.startswith("ERROR: Prism: held, and tried now and then until it is over: Prism 127.0.0.1:")
    assert "no connection" in error
    assert len(during) <= 2, during  # that a call is made again is said before that
    (again,) = after
    assert again.startswith("WARNING: Prism: is used again, after ")
    assert {run.attempt for run in lab.ended} == {1}


async def test_an_agent_that_starts_without_prism_says_so_once_and_begins_when_it_is_there(lab: Troubled) -> None:
    async with lab.cluster():
        pass
    async with lab.agent():
        await lab.pass_time(minutes=30)
        during = lab.said.taken()
        async with lab.cluster():
            await lab.captured()
            after = lab.said.taken()

    assert [line.split(":")[0] for line in during].count("ERROR") == 1, during
    assert len(during) <= 2, during
    assert len(after) == 1, after


async def test_a_name_that_cannot_be_looked_up_is_said_once(lab: Troubled) -> None:
    async with lab.cluster():
        lab.host = "prism.invalid"
        async with lab.agent():
            await lab.pass_time(minutes=30)

    (error,) = lab.said.errors
    assert "prism.invalid" in error
    assert lab.ended == []


async def test_a_password_that_was_rotated_is_read_anew_and_no_account_is_locked(lab: Troubled) -> None:
    async with lab.cluster() as sim, lab.agent():
        await lab.captured()
        directory, sessions = sim.front("central").directory, sim.front("central")._sessions
        sim.faults.logins.locks_after = 10
        directory._credentials = Credentials(sim.username, "rotated")
        sessions._ends.clear()
        logins = directory.logins
        await lab.until(lambda: lab.said.errors)
        await lab.pass_time(hours=1)
        during, tried = lab.said.taken(), directory.logins - logins
        lab.password.write_text("rotated")
        await lab.captured()
        after = lab.said.taken()

    (error,) = [line for line in during if line.startswith("ERROR")]
    assert "refused" in error
    assert "rotated" not in error
    assert tried <= 2 + 3  # the session once more, then holds of 10, 20 and 40 minutes
    assert not directory.is_locked
    assert [line for line in after if "is used again" in line]


async def test_a_certificate_that_expired_is_said_once_and_a_renewed_one_is_taken(lab: Troubled) -> None:
    lab.config.faults.certificates = {"central": "expired"}
    async with lab.cluster():
        async with lab.agent():
            await lab.pass_time(minutes=30)
            during = lab.said.taken()
            lab.config.faults.certificates = {}
    assert lab.ended == []
    (error,) = [line for line in during if line.startswith("ERROR")]
    assert "certificate has expired: renew it on that Prism" in error
    assert len(during) <= 2, during


async def test_a_certificate_that_was_renewed_while_the_agent_runs_is_taken(lab: Troubled) -> None:
    async with AsyncExitStack() as stack:
        for faults in ({}, {"central": "expired"}):
            one = await stack.enter_async_context(AsyncExitStack())
            lab.config.faults.certificates = faults
            await one.enter_async_context(lab.cluster())
            if not faults:
                await stack.enter_async_context(lab.agent())
                await lab.captured()
            else:
                await lab.until(lambda: lab.said.errors)
            await one.aclose()
        lab.config.faults.certificates = {}
        await stack.enter_async_context(lab.cluster())
        await lab.captured()

    assert len(lab.said.of("ERROR")) == 1, lab.said.lines


def pinned(lab: Troubled) -> str:
    pem = ssl.get_server_certificate(("127.0.0.1", lab.port))
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()
    return f"fingerprint: {digest}, element_ca_file: {lab.folder}/cluster/tls/ca.pem"


async def test_a_fingerprint_that_changed_is_refused_said_once_and_never_trusted(lab: Troubled) -> None:
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(AsyncExitStack())
        await first.enter_async_context(lab.cluster())
        lab.trust = await asyncio.to_thread(pinned, lab)
        service = await stack.enter_async_context(lab.agent())
        await lab.captured()
        await first.aclose()
        await stack.enter_async_context(lab.cluster())  # it makes itself a new certificate

        await lab.until(lambda: lab.said.errors)
        await lab.pass_time(hours=1)
        asked = list(lab.sim.requests)
        during = lab.said.taken()
        lab.trust = await asyncio.to_thread(pinned, lab)
        lab.write()
        service.reload()
        await lab.captured()

    (error,) = [line for line in during if line.startswith("ERROR")]
    assert "not the one given with --fingerprint" in error
    assert asked == []


async def test_a_worker_vm_that_vanished_is_said_once_and_used_when_it_is_back(lab: Troubled) -> None:
    lab.backup = "source: hotadd"
    async with lab.cluster() as sim, lab.agent():
        await lab.captured()
        vms = sim.world.vms
        sim.world.vms = {vm.id: vm for vm in vms.values() if vm.id != sim.worker_id}
        await lab.pass_time(minutes=40)
        during = lab.said.taken()
        sim.world.vms = vms
        await lab.captured()
        after = lab.said.taken()

    (error,) = [line for line in during if line.startswith("ERROR")]
    assert error.startswith("ERROR: this machine: held")
    assert "the worker VM, this machine" in error
    assert [line for line in after if line.startswith("WARNING: this machine: is used again")]


async def test_vms_that_are_deleted_renamed_and_new_are_so_in_the_jobs(lab: Troubled) -> None:
    lab.vms = '"db*", "web*"'
    async with lab.cluster() as sim, lab.agent() as service:
        await lab.captured()
        renamed = sim.vm_id("web01")
        (lab.folder / "new.raw").write_bytes(b"n" * 65536)
        _, second, *others = lab.config.vms
        second.name, second.id = "web02", renamed
        lab.config.vms[:] = [second, VmConfig("db02", disks=[DiskConfig(lab.folder / "new.raw")]), *others]
        sim.world.vms = {vm.id: vm for vm in sim.world._make_vms()}
        await lab.captured(2, "db02", "web02")
        listed = {vm.name: vm.id for vm in service.scheduler.listing.vms("often")}

    assert listed.keys() == {"db02", "web02"}
    assert listed["web02"] == renamed
    assert {run.vm_name for run in lab.runs(RunState.FAILED)} <= {"db01"}
    assert len(lab.said.of("ERROR")) <= 1, lab.said.lines


async def test_a_full_quota_of_recovery_points_is_said_once_for_a_vm(lab: Troubled) -> None:
    async with lab.cluster():
        async with lab.agent():
            await lab.captured()
            lab.sim.faults.fail_tasks["create"] = -1
            await lab.pass_time(hours=2)
            during = lab.said.taken()
            lab.sim.faults.fail_tasks.clear()
            await lab.captured()
            after = lab.said.taken()

    errors = [line for line in during if line.startswith("ERROR")]
    assert sorted(line.split("'")[3] for line in errors) == ["db01", "web01"], during
    assert len(lab.runs(RunState.FAILED)) > len(errors)
    assert len([line for line in after if "is captured again" in line]) == 2, after


async def test_a_program_that_is_missing_is_said_once_and_used_when_it_is_installed(
    lab: Troubled, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.backup = "writer: qemu"
    async with lab.cluster():
        async with lab.agent():
            await lab.captured()
            with monkeypatch.context() as without:
                without.setenv("PATH", str(lab.folder))
                await lab.pass_time(minutes=45)
                during = lab.said.taken()
            await lab.captured()

    (error,) = [line for line in during if line.startswith("ERROR")]
    assert error.startswith("ERROR: this machine: held")
    assert "is not installed: install the package" in error
