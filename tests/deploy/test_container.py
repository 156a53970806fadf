"""The image and the manifest: what judges such files finds nothing, and what they say of each other is so."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from ntxengine.agent.service import DRAIN_S
from ntxengine.config.named_files import look_at_files
from ntxengine.config.reading import parse
from tests.support.booted import ROOT

CONTAINERFILE = ROOT / "Containerfile"
MANIFEST = ROOT / "docs/kubernetes/ntx-agent.yaml"
OLDEST, NEWEST = "1.28", "1.37"
"""Versions of Kubernetes that the manifest is for."""


def tool(name: str) -> Path:
    return Path(sys.executable).parent / name


def objects() -> dict[str, dict[str, Any]]:
    return {f"{each['kind']} {each['metadata']['name']}": each for each in yaml.safe_load_all(MANIFEST.read_text())}


def pod() -> dict[str, Any]:
    found: dict[str, Any] = objects()["Deployment ntx-agent"]["spec"]["template"]["spec"]
    return found


def container() -> dict[str, Any]:
    found: dict[str, Any] = pod()["containers"][0]
    return found


def stages() -> list[str]:
    return re.split(r"^FROM ", CONTAINERFILE.read_text(), flags=re.MULTILINE)[1:]


def test_a_linter_of_containerfiles_finds_nothing() -> None:
    judged = subprocess.run([tool("hadolint"), CONTAINERFILE], capture_output=True, text=True, check=False)

    assert (judged.returncode, judged.stdout) == (0, "")


def test_what_runs_has_no_tools_of_the_build_and_is_no_root() -> None:
    build, last = stages()

    assert "gcc" in build
    assert not re.search(r"\b(gcc|make|\S+-dev|pip|setuptools|git|python3-venv)\b", last)
    assert {"qemu-utils", "qemu-block-extra", "openssh-client"} <= set(re.findall(r"[\w-]+", last))
    assert re.search(r"^USER 10001:10001$", last, re.MULTILINE)
    assert "pip uninstall --yes setuptools pip" in build


def test_the_image_is_built_from_what_the_package_is_built_from() -> None:
    ignored = (ROOT / ".containerignore").read_text().splitlines()

    assert ignored[1] == "*"
    for name in ("src", "csrc/*.c", "csrc/*.h", "setup.py", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"):
        assert f"!{name}" in ignored


def test_the_schemas_of_kubernetes_find_no_mistake() -> None:
    for version in (OLDEST, NEWEST):
        command = [tool("kubernetes-validate"), "--strict", "--quiet", "-k", version, MANIFEST]
        judged = subprocess.run(command, capture_output=True, text=True, check=False)

        assert judged.returncode == 0, judged.stdout + judged.stderr


def test_the_schemas_would_find_one(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(MANIFEST.read_text().replace("readOnlyRootFilesystem", "readOnlyRootFileSystem"))

    judged = subprocess.run([tool("kubernetes-validate"), "--strict", wrong], capture_output=True, check=False)

    assert judged.returncode != 0


def test_its_configuration_is_right_and_its_paths_are_mounted() -> None:
    text = objects()["ConfigMap ntx-agent"]["data"]["agent.yaml"]
    loaded = parse(text.encode(), "agent.yaml", folder=Path("/etc/ntx"))
    mounts = [Path(each["mountPath"]) for each in container()["volumeMounts"]]

    assert not loaded.found
    # No file is looked at here: the Secret is not on this machine.
    assert {each.message.partition(" ")[0] for each in look_at_files(loaded)} <= {"/etc/ntx/secrets/ntx-metrics-token"}
    config = loaded.config
    needed = [
        config.backup.repository,
        config.agent.state,
        config.agent.socket,
        config.agent.metrics.token_file,
        "/tmp/x",
    ]
    for path in map(Path, filter(None, needed)):
        assert any(path.is_relative_to(mount) for mount in mounts), path
    (port,) = container()["ports"]
    assert config.agent.metrics.listen == f"0.0.0.0:{port['containerPort']}"
    assert all(
        container()[f"{kind}Probe"]["httpGet"]["port"] == port["name"] for kind in ("startup", "liveness", "readiness")
    )


def test_it_has_no_rights_and_the_time_to_stop() -> None:
    deployment = objects()["Deployment ntx-agent"]["spec"]
    security = container()["securityContext"]

    assert (deployment["replicas"], deployment["strategy"]) == (1, {"type": "Recreate"})
    assert pod()["terminationGracePeriodSeconds"] >= DRAIN_S + 60
    assert pod()["securityContext"]["runAsUser"] == 10001
    assert pod()["securityContext"]["runAsNonRoot"] is True
    assert pod()["automountServiceAccountToken"] is False
    assert security == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
