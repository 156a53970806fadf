"""`--json` of every command: one vocabulary, and the schema in docs/schema that describes it.

A schema is open, so that a reader takes fields that are added later.  Here it is closed: what is printed is described.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import jsonschema
import pytest
from referencing import Registry, Resource

from ntxengine.cli.main import COMMANDS, ntx
from ntxengine.sim import Simulator
from tests.cli.ntx import COMMAND, ROOT, environment
from tests.cli.ntx import ntx as run_ntx
from tests.cli.process import Process
from tests.support.servers import require

SCHEMAS = ROOT / "docs" / "schema"

FORBIDDEN = {"id", "uuid", "vm", "vm_uuid", "disk", "disk_uuid", "point", "parent", "previous_point"}
"""Names that do not say what they identify, or say in another way what has a name."""


AGENT = """
nutanix:
  {{prism_central: {NTX_PRISM}, username: {NTX_USERNAME}, password_file: {NTX_PASSWORD_FILE}, ca_file: {NTX_CA_FILE}}}
backup: {{repository: {NTX_REPOSITORY}, worker: {NTX_WORKER}, device_dir: {NTX_DEVICE_DIR}}}
agent: {{state: {folder}/agent, socket: {folder}/agent.sock}}
jobs: [{{name: hourly, vms: [demo], every: 300d}}]
"""


class Documents:
    """What each command printed, as a person would have typed them one after the other."""

    def __init__(self, cluster: Simulator, folder: Path) -> None:
        self._env = {**cluster.env, "NTX_REPOSITORY": str(folder / "repository")}
        self._folder = folder
        self._guest = cluster.config.vms[0].disks[1].path
        self.printed: dict[str, list[Any]] = {}

    def run(self, *arguments: str, code: int = 0) -> Any:
        ran = run_ntx(*arguments, "--json", env=self._env, cwd=self._folder)
        assert ran.code == code, ran.err
        self.printed.setdefault(arguments[0], []).append(ran.json)
        return ran.json

    def run_all(self) -> None:
        self._cluster_and_repository()
        self._data_plane()
        self._trying_out()
        self._agent()

    def _cluster_and_repository(self) -> None:
        self.run("vms")
        self.run("probe", "demo", "--live")
        self.run("probe", "nobody", code=3)
        self.run("capture", "demo", "--dry-run")
        self.run("capture", "demo")
        with self._guest.open("r+b") as disk:
            disk.write(os.urandom(65536))
        self.run("capture", "demo", "--dry-run", "--audit", "2%")
        self.run("capture", "demo", "--audit", "2%")
        self.run("points")
        older, newer = (point["point_id"] for point in self.run("points")["points"])
        self.run("diff", older, newer)
        self.run("diff", older, newer, "--regions")
        self.run("verify", "--all")
        self.run("verify", "--all", "--sample", "50%")
        self.run("check", "--read-data", "50%")
        self.run("stats")
        self.run("stats", "demo")
        self.run("restore", "demo", "out", "--dry-run")
        self.run("restore", "demo", "out")
        self.run("restore", "demo", "out", "--dry-run", code=2)
        self.run("restore", "demo", "--to", "scsi.1=one.qcow2", "--dry-run")
        self.run("restore", "demo", "--to", "scsi.1=one.qcow2")
        self.run("restore", "demo", "out", "--in-place")
        ports = ("--ports", "10809-10899", "--advertise", "worker.example")
        tls = ("--tls-ca", "ca.pem", "--tls-cert", "cert.pem", "--tls-key", "key.pem")
        notify = ("--state", "exports", "--notify", "https://cp.example/ntx")
        self.run("export", "demo", *notify, *ports, *tls, "--dry-run")  # for real: tests/export
        self._replicas()
        self._retention()
        self._kill_a_capture()
        assert self.run("points")["interrupted"]
        self.run("sweep", "--dry-run")
        self.run("sweep")
        self.run("check")
        self.run("sweep", "--unfinished")
        (next((self._folder / "repository").glob("*-*-*-*-*")) / ".removed-x").mkdir()
        self.run("repair", "--dry-run")
        self.run("repair")

    def _replicas(self) -> None:
        (self._folder / "kvm").mkdir()
        to, at = ("--to", "kvm:kvm", "--format", "qcow2"), ("--at", "kvm:kvm")
        self.run("replicate", "demo", *to, "--dry-run")
        self.run("replicate", "demo", *to)
        self.run("replicate", "demo", *to, "--dry-run")
        self.run("replicas", *at)
        self.run("replicas", *at, "--check", "--max-lag", "1d")
        self.run("verify", "--replica", "demo", *at)
        self.run("cutover", "demo", *to, "--test")
        self.run("cutover", "demo", *to, "--running")
        self.run("verify", "--replica", "demo", *at, "--sample", "50%")

    def _retention(self) -> None:
        first = self.run("points")["points"][0]["point_id"]
        self.run("tag", first, "release", "--dry-run")
        self.run("tag", first, "release")
        self.run("hold", "demo", "--for", "30d", "--reason", "audit")
        self.run("points")
        self.run("forget", "--all", "--keep-last", "1", "--dry-run")
        self.run("forget", first)
        self.run("points", "--forgotten")
        self.run("prune", "demo", "--dry-run")
        self.run("forget", "--all", "--keep-last", "1", "--prune", "--dry-run")
        self.run("sync", "copied")
        self.run("sync", "copied", "--dry-run")
        self.run("forget", "--undo", first)
        self.run("hold", "demo", "--release")

    def _kill_a_capture(self) -> None:
        """Leave a disk, a recovery point and an unfinished point for sweep to name."""
        arguments = ("capture", "demo", "--bandwidth", "64K", "--request-size", "64K", "--progress", "json")
        with self._guest.open("r+b") as disk:
            disk.write(os.urandom(1024**2))
        process = subprocess.Popen(
            [*COMMAND, *arguments], env=environment(self._env), stderr=subprocess.PIPE, text=True
        )
        assert process.stderr is not None
        for line in process.stderr:
            if json.loads(line).get("name") == "copy":
                break
        process.kill()
        process.communicate()

    def _data_plane(self) -> None:
        self.run("copy", "pattern:1M", "new.raw", "--dry-run")
        self.run("copy", "-", "streamed.raw", "--dry-run")
        self.run("copy", "pattern:1M", "new.raw", "--verify")
        self.run("map", "new.raw")
        self.run("checksum", "new.raw")
        self.run("info", "new.raw")
        self.run("info", "--engine")

    def _trying_out(self) -> None:
        self.run("bench", "--list")
        self.run("bench", "smoke", "--list")
        cases = ("--case", "dense-null", "--case", "two-disks", "--case", "verify")
        self.run("bench", "smoke", "--no-plot", "--rounds", "1", "--size", "1M", *cases)
        self.run("sim", "--state", "sim", "--port", "0", "--detach")
        self.run("sim", "--state", "sim", "--stop")

    def _agent(self) -> None:
        """An agent with a run, one that is held and one that waits: tests/cli/test_agent_commands.py does the rest."""
        file = self._folder / "agent.yaml"
        file.write_text(AGENT.format(folder=self._folder, **self._env))
        agent = Process(self._folder, "agent", "--config", str(file))
        try:
            socket = ("--socket", str(self._folder / "agent.sock"))
            agent.until((self._folder / "agent.sock").exists)
            agent.until(lambda: run_ntx("status", *socket, "--json").json["vm_count"])
            assert run_ntx("agent", "run", "demo", "--wait", *socket).code == 0
            assert run_ntx("agent", "pause", "job", "hourly", *socket).code == 0
            self.run("status", *socket, "--vms")
            self.run("runs", *socket)
            self.run("history", "demo", *socket)
            assert agent.end() == 0
        finally:
            agent.kill()
        self.run("runs", "--state", str(self._folder / "agent"))


@pytest.fixture(scope="module")
def printed(cluster: Simulator, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    require("qemu-nbd", "qemu-img", "setpriv")
    documents = Documents(cluster, tmp_path_factory.mktemp("json"))
    documents.run_all()
    return documents.printed


def commands_that_print_json() -> list[str]:
    found = []
    for name in COMMANDS:
        command = ntx.get_command(click.Context(ntx), name)
        assert command is not None
        if any("--json" in parameter.opts for parameter in command.params):
            found.append(name)
    return found


def closed(schema: Any) -> Any:
    """Return a schema that takes no property which it does not describe."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {name: closed(value) for name, value in schema.items()}
    if "properties" in schema and "additionalProperties" not in schema:
        inner["additionalProperties"] = False
    return inner


def registry() -> Registry[Any]:
    contents = {path.name: closed(json.loads(path.read_text())) for path in SCHEMAS.glob("*.json")}
    return Registry().with_resources((name, Resource.from_contents(schema)) for name, schema in contents.items())


def problems(document: Any, schema_name: str) -> list[str]:
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$ref": schema_name}
    validator = jsonschema.Draft202012Validator(schema, registry=registry())
    return [f"{list(each.absolute_path)}: {each.message[:300]}" for each in validator.iter_errors(document)]


def names_in(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield name
            yield from names_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from names_in(item)


def disks_in(value: Any) -> Iterator[Any]:
    """Yield whatever is called `disks`."""
    if isinstance(value, dict):
        for name, item in value.items():
            if name.endswith("disks"):
                yield item
            yield from disks_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from disks_in(item)


@pytest.mark.parametrize("command", commands_that_print_json())
def test_what_a_command_prints_is_as_its_schema_says(command: str, printed: dict[str, list[Any]]) -> None:
    documents = printed[command]

    found = [problem for document in documents for problem in problems(document, f"{command}.json")]

    assert not found


@pytest.mark.parametrize("command", [name for name in commands_that_print_json() if name != "bench"])
def test_one_vocabulary_in_all_commands(command: str, printed: dict[str, list[Any]]) -> None:
    # A suite of bench is printed in the words of its YAML file, and its disks are nobody's.
    documents = printed[command]

    names = set(names_in(documents))

    assert not names & FORBIDDEN


@pytest.mark.parametrize("command", ["vms", "capture", "points", "diff", "verify", "restore"])
def test_disks_are_a_list_everywhere_and_each_has_its_id(command: str, printed: dict[str, list[Any]]) -> None:
    documents = printed[command]

    disks = list(disks_in(documents))

    assert any(disks)
    assert all(isinstance(each, list) for each in disks)
    assert all("disk_id" in disk for each in disks for disk in each)


@pytest.mark.parametrize(
    "arguments",
    [("points", "--repository", "/nonexistent"), ("points", "--what"), ("checksum", "/nonexistent"), ("info", "::")],
)
def test_what_fails_is_one_object_too(arguments: tuple[str, ...]) -> None:
    ran = run_ntx(*arguments, "--json")

    assert ran.code != 0
    assert problems(ran.json, "error.json") == []
    assert ran.json["error"]["exit_code"] == ran.code


@pytest.mark.parametrize("path", sorted(SCHEMAS.glob("*.json")), ids=lambda path: path.name)
def test_a_schema_is_one(path: Path) -> None:
    schema = json.loads(path.read_text())

    jsonschema.Draft202012Validator.check_schema(schema)

    assert schema["$id"] == path.name
    assert f"schema/{path.name}" in (ROOT / "docs" / "cli.md").read_text()
