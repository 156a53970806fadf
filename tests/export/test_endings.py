"""However an export ends, nothing is served, attached or left on the cluster but the reference that was promised."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
import subprocess
from typing import Any

import httpx
import pytest

from ntxengine.errors import ControlPlaneError, ControlPlaneTimeout, NtxError, OptionsError
from ntxengine.events import Stage
from ntxengine.export import notify
from ntxengine.images.qemu_nbd import ServerEnded
from ntxengine.prism import Secret
from ntxengine.repository.store import PointStore
from ntxengine.sweep import sweep
from tests.capture.lab import Witness
from tests.export.exporting import Exporting, servers
from tests.export.receiver import Client, Notification


@pytest.fixture(autouse=True)
def _is_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify, "FIRST_WAIT_S", 0.01)


def silent(notification: Notification) -> None:
    """A control plane that never comes back."""


async def test_failure_deletes_the_recovery_point_and_says_why(exporting: Exporting) -> None:
    first = await exporting.run()

    def fail(notification: Notification) -> None:
        disk = notification["disks"][1]["id"]
        answer = exporting.client.done(notification, "failure", message="no\nroom\x1b[31m", failed_disks=[disk])
        assert answer.status_code == 200

    exporting.receiver.then = fail

    with pytest.raises(ControlPlaneError, match=r"says that it failed to take VM 'db01' .*: no room"):
        await exporting.run(since=first.recovery_point_id)

    exporting.assert_clean(kept=[first.recovery_point_id])


async def test_control_plane_that_never_says_done_is_given_up(exporting: Exporting) -> None:
    exporting.receiver.then = silent

    with pytest.raises(ControlPlaneTimeout, match=r"did not say that it is done .* until .*--time-limit") as e:
        await exporting.run(time_limit_s=0.5)

    assert e.value.exit_code == 75
    exporting.assert_clean(kept=[])


@pytest.mark.parametrize(
    ("status", "attempts", "words"),
    [(400, 1, "answers 400: no"), (401, 1, "answers 401"), (500, 3, "given up after 3 attempts"), (307, 1, "redirect")],
)
async def test_control_plane_that_does_not_take_it(
    status: int, attempts: int, words: str, exporting: Exporting
) -> None:
    receiver = exporting.receiver
    receiver.answer = lambda attempt: status
    receiver.headers = {"Location": receiver.url}
    receiver.body = b"no\x1b[31m\n" + 100_000 * b"x"

    with pytest.raises(ControlPlaneError, match=words) as e:
        await exporting.run(notify={"attempts": 3})

    assert len(receiver.seen) == attempts
    assert len(str(e.value)) < 500
    assert "\x1b" not in str(e.value)
    exporting.assert_clean(kept=[])


async def test_told_again_after_an_error_of_the_control_plane(exporting: Exporting) -> None:
    exporting.receiver.answer = lambda attempt: 503 if attempt < 3 else 204

    await exporting.run(notify={"token": Secret("shown-to-nobody")})

    assert len(exporting.receiver.seen) == 3
    assert {each["authorization"] for each in exporting.receiver.seen} == {"Bearer shown-to-nobody"}
    assert len({each["idempotency-key"] for each in exporting.receiver.seen}) == 1
    assert "shown-to-nobody" not in str(exporting.witness.events)
    assert exporting.copied() == exporting.lab.guest()


async def test_control_plane_that_stalls_is_told_again(exporting: Exporting) -> None:
    exporting.receiver.answer = lambda attempt: 0

    with pytest.raises(ControlPlaneError, match=r"no answer within 0\.2 s; given up after 2 attempts"):
        await exporting.run(notify={"attempts": 2, "timeout_s": 0.2})

    exporting.assert_clean(kept=[])


async def test_control_plane_that_is_not_there(exporting: Exporting) -> None:
    exporting.receiver.url = "https://127.0.0.1:1/"

    with pytest.raises(ControlPlaneError, match="cannot be told"):
        await exporting.run(notify={"attempts": 2})

    exporting.assert_clean(kept=[])


async def test_lies_are_refused_and_the_truth_is_taken(exporting: Exporting) -> None:
    refused: list[int] = []

    def lie(notification: Notification) -> None:
        client, done = exporting.client, notification["done"]
        token = done.rsplit("/", 2)[1]
        point = notification["recovery_point"]["id"]
        page_link = notification["disks"][0]["changed"]["pages"][0]
        lies: list[tuple[str, Any]] = [
            (done, {"result": "success", "recovery_point": "another"}),
            (done, {"result": "fine", "recovery_point": point}),
            (done, {"result": "success", "recovery_point": point, "failed_disks": [notification["disks"][0]["id"]]}),
            (done, {"result": "failure", "recovery_point": point, "failed_disks": ["none of them"]}),
            (done, ["x" * 300_000]),
            (done.replace(token, "x" * len(token)), {"result": "success", "recovery_point": point}),
            (done.replace(token, page_link.split("/")[3]), {"result": "failure", "recovery_point": point}),
        ]
        refused.extend(client.post(link, said).status_code for link, said in lies)
        wrong = (page_link + "9", page_link.replace("/disks/0", "/disks/7"), page_link.replace("/changed", "/x"))
        refused.extend(client.get(link).status_code for link in wrong)
        exporting.take_whole(notification)

    exporting.receiver.then = lie

    await exporting.run()

    assert refused == [409, 400, 409, 409, 400, 404, 404, 404, 404, 404]
    assert exporting.copied() == exporting.lab.guest()


async def test_done_counts_though_the_notification_was_not_answered(exporting: Exporting) -> None:
    receiver = exporting.receiver
    receiver.answers_last = True

    exported = await exporting.run(notify={"attempts": 1})

    assert exporting.copied() == exporting.lab.guest()
    exporting.assert_clean(kept=[exported.recovery_point_id])


async def test_client_without_certificate_gets_nothing(exporting: Exporting) -> None:
    seen: list[str] = []

    def look(notification: Notification) -> None:
        disk = notification["disks"][0]
        folder = exporting.copies.parent / "stranger"
        folder.mkdir()
        (folder / "ca-cert.pem").write_bytes(exporting.pki.ca_file.read_bytes())
        for uri in (f"{disk['uri']}?tls-certificates={folder}", disk["uri"].replace("nbds:", "nbd:")):
            ran = subprocess.run(["nbdinfo", "--size", uri], capture_output=True, text=True, check=False)
            seen.append(ran.stdout)
            assert ran.returncode != 0
        context = ssl.create_default_context(cafile=exporting.pki.ca_file)
        with pytest.raises(httpx.HTTPError):
            httpx.get(disk["changed"]["pages"][0], verify=context)
        exporting.client.done(notification)

    exporting.receiver.then = look

    await exporting.run()

    assert seen == ["", ""]


async def test_disks_cannot_be_written(exporting: Exporting) -> None:
    seen: list[str] = []

    def look(notification: Notification) -> None:
        uri = exporting.client.nbd(notification["disks"][0]["uri"])
        ran = subprocess.run(["nbdinfo", uri], capture_output=True, text=True, check=True)
        seen.append(ran.stdout)
        exporting.client.done(notification)

    exporting.receiver.then = look

    await exporting.run()

    assert "is_read_only: true" in seen[0]


async def test_pages_are_plain_for_whoever_takes_no_zstd(exporting: Exporting) -> None:
    seen: list[httpx.Response] = []

    def look(notification: Notification) -> None:
        link = notification["disks"][0]["changed"]["pages"][0]
        seen.extend(exporting.client.get(link, encoding=each) for each in ("identity", "zstd;q=0, gzip", "gzip, zstd"))
        exporting.client.done(notification)

    exporting.receiver.then = look

    await exporting.run()

    assert [each.headers.get("content-encoding") for each in seen] == [None, None, "zstd"]
    assert seen[0].json() == seen[1].json() == seen[2].json()


async def two_that_are_taken() -> tuple[int, list[asyncio.Server]]:
    """Listen at a port, and at the second after it; return the first."""
    while True:
        server = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
        first = server.sockets[0].getsockname()[1]
        try:
            return first, [server, await asyncio.start_server(lambda r, w: None, "127.0.0.1", first + 2)]
        except OSError:  # somebody has that one, and may give it back
            server.close()


async def test_ports_that_are_taken_are_passed_over(exporting: Exporting) -> None:
    first, taken = await two_that_are_taken()

    await exporting.run(way=exporting.ports(first))

    for server in taken:
        server.close()
    used = {disk["uri"].split(":")[2].split("/")[0] for disk in exporting.receiver.last["disks"]}
    assert not used & {str(first), str(first + 2)}
    assert exporting.copied() == exporting.lab.guest()


async def test_no_port_is_free(exporting: Exporting) -> None:
    server = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
    first = server.sockets[0].getsockname()[1] - 1

    with pytest.raises(NtxError, match=f"--ports {first}-{first + 2}: no port is free"):
        await exporting.run(way=exporting.ports(first, first + 2))
    with pytest.raises(OptionsError, match="2 ports, and 3 are needed"):
        await exporting.run(way=exporting.ports(first, first + 1))

    server.close()
    exporting.assert_clean(kept=[])


class _Cancels(Witness):
    """Cancels the task that tells when a stage begins."""

    def __init__(self, at: Stage) -> None:
        super().__init__()
        self._at = at

    def began(self, stage: Stage) -> None:
        if stage == self._at:
            task = asyncio.current_task()
            assert task is not None
            asyncio.get_running_loop().call_soon(task.cancel)


@pytest.mark.parametrize("stage", [Stage.FREEZE, Stage.CHANGES, Stage.ATTACH, Stage.SERVE, Stage.NOTIFY, Stage.WAIT])
async def test_cancelled_at_any_stage_leaves_nothing(stage: Stage, exporting: Exporting) -> None:
    exporting.receiver.then = silent
    exporting.lab.make_witness = lambda: _Cancels(stage)

    with pytest.raises(asyncio.CancelledError):
        await exporting.run()

    exporting.assert_clean(kept=[])


async def test_cancelled_after_success_still_deletes_what_was_replaced(
    exporting: Exporting, caplog: pytest.LogCaptureFixture
) -> None:
    first = await exporting.run()
    exporting.lab.make_witness = lambda: _Cancels(Stage.RELEASE)

    with pytest.raises(asyncio.CancelledError):
        await exporting.run(since=first.recovery_point_id)

    kept = exporting.receiver.last["recovery_point"]["id"]
    assert f"is exported: its control plane has recovery point {kept}" in caplog.text
    exporting.assert_clean(kept=[kept])


async def test_server_that_ends_by_itself_ends_the_export(exporting: Exporting) -> None:
    def kill(notification: Notification) -> None:
        os.kill(servers()[0], signal.SIGKILL)

    exporting.receiver.then = kill

    with pytest.raises(ServerEnded, match="qemu-nbd ended before its time"):
        await exporting.run()

    exporting.assert_clean(kept=[])


async def test_sweep_and_capture_leave_the_reference(exporting: Exporting) -> None:
    lab = exporting.lab
    first = await exporting.run()

    report = await sweep(lab.prism, lab.repository, attach=lab.attach_options)
    await lab.capture()

    assert report.removed == []
    assert first.recovery_point_id in lab.sim.world.state.points


async def test_sweep_forgets_a_reference_that_the_cluster_let_go(exporting: Exporting) -> None:
    lab = exporting.lab
    first = await exporting.run()
    await lab.prism.delete_recovery_point(first.recovery_point_id)

    await sweep(lab.prism, lab.repository, attach=lab.attach_options)

    assert not await lab.repository.has_cluster_records(lab.vm_id)


async def test_repository_with_points_is_no_state_folder(exporting: Exporting) -> None:
    await exporting.lab.capture()
    points = PointStore.open(exporting.lab.repository.path).points()

    with pytest.raises(OptionsError, match="is a repository that has points"):
        await exporting.run()

    assert len(points) == 1
    assert len(exporting.lab.recovery_points()) == 1


async def test_key_that_others_can_read_is_refused_before_anything_is_made(exporting: Exporting) -> None:
    (exporting.pki.folder / "server-key.pem").chmod(0o644)

    with pytest.raises(OptionsError, match="chmod"):
        await exporting.run()

    assert Stage.FREEZE not in exporting.witness.stages
    exporting.assert_clean(kept=[])


async def test_certificate_of_another_key_is_refused(exporting: Exporting) -> None:
    (exporting.pki.folder / "server-key.pem").write_bytes(exporting.pki.key.read_bytes())

    with pytest.raises(OptionsError, match="are not a certificate and its key"):
        await exporting.run()


def test_client_of_the_tests_trusts_only_its_ca() -> None:
    assert Client(None).nbd("nbd+unix:///x") == "nbd+unix:///x"
