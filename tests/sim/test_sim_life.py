"""Start, restart, stop; configuration from YAML; what `ntx sim` runs."""

from __future__ import annotations

import os
import shlex
import signal
import ssl
import stat
import subprocess
import sys
import uuid
from pathlib import Path

import httpx
import pytest

from ntxengine.errors import OptionsError
from ntxengine.sim import SimConfig, Simulator, run_in_thread
from ntxengine.sim.config import DiskConfig, VmConfig, demo_config
from ntxengine.sim.main import serve
from tests.sim.lab import DP, V2, V3, Lab, disk_name, small_config, snapshot_path

VMS = "/api/vmm/v4.1/ahv/config/vms"


async def test_a_restart_keeps_points_clones_and_password(tmp_path: Path) -> None:
    async with Simulator(small_config(tmp_path / "disks"), tmp_path / "state") as sim:
        lab = Lab(sim)
        first = (sim.password, sim.worker_id, sim.vm_id("app"))
        old = disk_name(await lab.point())
        path = snapshot_path(await lab.snapshot())
        clone = {"vm_disk_clone": {"disk_address": {"device_bus": "SCSI", "ndfs_filepath": path}}}
        answer = await lab.element.post(f"{V2}/vms/{sim.worker_id}/disks/attach", json={"vm_disks": [clone]})
        await lab.poll(answer.json()["task_uuid"])
        await lab.aclose()

    async with Simulator(small_config(tmp_path / "disks"), tmp_path / "state") as sim:
        lab = Lab(sim)
        lab.write(0, 0, b"x")
        new = disk_name(await lab.point())
        diff = await lab.compute(new, old)
        again = await lab.regions(path)
        disks = (await lab.central.get(f"{VMS}/{sim.worker_id}/disks")).json()["data"]
        await lab.aclose()

    assert (sim.password, sim.worker_id, sim.vm_id("app")) == first
    assert diff.json()["data"][0]["length"] == 512
    assert again.status_code == 200
    assert len(disks) == 1
    assert len(list((tmp_path / "state/dev/by-id").iterdir())) == 1


async def test_what_a_killed_simulator_left_is_swept_at_start(tmp_path: Path) -> None:
    config = small_config(tmp_path / "disks")
    config.faults.stuck_tasks["delete"] = 1
    async with Simulator(config, tmp_path / "state") as sim:
        lab = Lab(sim)
        point = await lab.point()
        headers = {"NTNX-Request-Id": str(uuid.uuid4())}
        task = (await lab.central.delete(f"{DP}/{point['extId']}", headers=headers)).json()["data"]["extId"]
        await sim.world.tasks.wait([task.partition(":")[2]], 0.2)
        await lab.aclose()
    strays = [tmp_path / "state" / name for name in ("clones/x", "dev/by-id/y", "recovery-points/a/b")]
    for stray in strays:
        stray.parent.mkdir(exist_ok=True)
        stray.write_bytes(b"stray")

    async with Simulator(small_config(tmp_path / "disks"), tmp_path / "state") as sim:
        lab = Lab(sim)
        found = (await lab.central.get(f"/api/prism/v4.0/config/tasks/{task}")).json()["data"]
        await lab.aclose()

    assert found["status"] == "FAILED"
    assert not any(stray.exists() for stray in strays)


async def test_frozen_files_of_a_known_point_survive_the_sweep(tmp_path: Path) -> None:
    async with Simulator(small_config(tmp_path / "disks"), tmp_path / "state") as sim:
        lab = Lab(sim)
        disk = disk_name(await lab.point())
        await lab.aclose()

    async with Simulator(small_config(tmp_path / "disks"), tmp_path / "state") as sim:
        assert sim.frozen_path(disk[2]).stat().st_size == 1 << 20


def test_the_thread_form_answers_and_ends(tmp_path: Path) -> None:
    with run_in_thread(demo_config(tmp_path / "disks"), tmp_path / "state") as sim:
        context = ssl.create_default_context(cafile=str(sim.ca_file))
        with httpx.Client(verify=context, auth=(sim.username, sim.password)) as client:
            names = [vm["name"] for vm in client.get(sim.central_url + VMS).json()["data"]]
        port = sim.port

    assert names == ["demo", "ntx-worker"]
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}")


def test_the_environment_is_for_a_shell_and_private(tmp_path: Path) -> None:
    state = tmp_path / "a state's $HOME"
    with run_in_thread(small_config(tmp_path / "disks"), state) as sim:
        script = f'. {shlex.quote(str(state / "connect.env"))} && env && cat "$NTX_PASSWORD_FILE"'
        shown = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True, env={}).stdout
        modes = [
            stat.S_IMODE((state / name).stat().st_mode)
            for name in ("connect.env", "password", "tls/central.pem", "tls/element.pem")
        ]

    assert all(f"{name}={value}\n" in shown for name, value in sim.env.items())
    assert shown.endswith(sim.password)
    assert sim.password not in (state / "connect.env").read_text()
    assert modes == [0o600] * 4
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    expected = {"NTX_PRISM", "NTX_PRISM_ELEMENT", "NTX_USERNAME", "NTX_PASSWORD_FILE", "NTX_CA_FILE"}
    assert set(sim.env) == expected | {"NTX_WORKER", "NTX_DEVICE_DIR", "NTX_CONTAINERS"}


async def test_a_taken_port_is_one_clear_line(tmp_path: Path) -> None:
    async with Simulator(SimConfig(), tmp_path / "a") as first:
        with pytest.raises(OptionsError, match=f"cannot listen on 127.0.0.1:{first.port}") as caught:
            async with Simulator(SimConfig(), tmp_path / "b", port=first.port):
                pass

    assert "\n" not in str(caught.value)


def test_a_taken_port_reaches_the_caller_of_the_thread_form(tmp_path: Path) -> None:
    with (
        run_in_thread(SimConfig(), tmp_path / "a") as first,
        pytest.raises(OptionsError, match="cannot listen"),
        run_in_thread(SimConfig(), tmp_path / "b", port=first.port),
    ):
        pass


def test_serve_ends_on_a_signal(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom ntxengine.sim.config import SimConfig\nfrom ntxengine.sim.main import serve\n"
        "serve(SimConfig(), sys.argv[1], port=0, ready=lambda env: print(env['NTX_PRISM'], flush=True))\n"
    )
    environment = {**os.environ, "PYTHONPATH": "src"}
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        with subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path / "state")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        ) as process:
            assert process.stdout is not None
            line = process.stdout.readline()
            process.send_signal(number)
            rest, errors = process.communicate(timeout=120)

        assert line.startswith("https://127.0.0.1:")
        assert (process.returncode, rest, errors) == (0, "", "")


def test_serve_refuses_a_taken_port(tmp_path: Path) -> None:
    with run_in_thread(SimConfig(), tmp_path / "a") as first, pytest.raises(OptionsError):
        serve(SimConfig(), tmp_path / "b", port=first.port)


async def test_only_v3_can_be_served(tmp_path: Path) -> None:
    config = small_config(tmp_path / "disks")
    config.families = ["v3"]
    async with Simulator(config, tmp_path / "state") as sim:
        lab = Lab(sim)
        v4 = await lab.central.options("/api/vmm/unversioned/info")
        v3 = await lab.element.post(f"{V3}/vm_snapshots/list", json={})
        await lab.aclose()

    assert (v4.status_code, v3.status_code) == (404, 200)
    assert sim.env["NTX_PRISM"] == sim.element_url


def test_a_configuration_comes_from_yaml(tmp_path: Path) -> None:
    path = tmp_path / "sim.yaml"
    path.write_text(
        """
cluster_name: lab
containers: [{name: default}, {name: fast, compression: true}]
limits: {regions_per_page: 5, token_s: 60}
vms:
  - name: "../../etc/passwd"
    power: off
    guest_tools: {reachable: false}
    disks:
      - {path: a.raw, size: 64MiB}
      - {path: b.raw, size: 1024, bus: sata, index: 3, container: fast}
faults: {fail_tasks: {create: 1}, http: [{path: regions, status: 503, count: 2}]}
"""
    )

    config = SimConfig.from_yaml(path)

    [vm] = config.vms
    assert (vm.name, vm.power) == ("../../etc/passwd", "off")
    assert [disk.size for disk in vm.disks] == [64 << 20, 1024]
    assert vm.disks[0].path == tmp_path / "a.raw"
    assert (config.limits.regions_per_page, config.limits.token_s) == (5, 60.0)
    assert (config.faults.http[0].status, config.faults.fail_tasks) == (503, {"create": 1})
    config.check()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("vms: [{name: x, disk: []}]", r"vms\[0\].disk is not known"),
        ("vms: {name: x}", "vms must be of type list"),
        ("vms: [{name: x, power: maybe}]", "power must be one of on, off, paused"),
        ("vms: [{disks: []}]", "name"),
        ("limits: {token_s: soon}", "limits.token_s must be of type float"),
        ("cluster_name: 5", "cluster_name must be of type str"),
        ("- x", "the file must be a mapping"),
        ("a: [", "is not YAML"),
    ],
)
def test_a_wrong_configuration_is_one_line_that_names_the_key(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "sim.yaml"
    path.write_text(text)

    with pytest.raises(OptionsError, match=words) as caught:
        SimConfig.from_yaml(path)

    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("vm", "words"),
    [
        (VmConfig("x", disks=[DiskConfig(Path("/nonexistent/disk"))]), "does not exist"),
        (VmConfig("x", disks=[DiskConfig(Path("/dev"))]), "no regular file"),
        (VmConfig("x", disks=[DiskConfig(Path("x"), container="no")]), "storage container 'no' does not exist"),
        (VmConfig("x", disks=[DiskConfig(Path("x"), index=0), DiskConfig(Path("y"), index=0)]), "two disks at scsi.0"),
    ],
)
async def test_what_cannot_be_played_is_refused_at_start(tmp_path: Path, vm: VmConfig, words: str) -> None:
    with pytest.raises(OptionsError, match=words):
        async with Simulator(SimConfig(vms=[vm]), tmp_path / "state"):
            pass


async def test_uuids_are_the_same_for_the_same_configuration(tmp_path: Path) -> None:
    seen = []
    for name in ("a", "b"):
        async with Simulator(small_config(tmp_path / "disks"), tmp_path / name) as sim:
            seen.append([(vm.id, [(file.vmdisk, file.device) for file in vm.files]) for vm in sim.world.vms.values()])

    assert seen[0] == seen[1]
    assert all(vmdisk != device for _, files in seen[0] for vmdisk, device in files)
