"""Release folders of an ntx that does nothing: enough to be installed, tried, and to fail as it is told."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from ntxengine.deploy.release import Release
from ntxengine.deploy.unit import Filled, unit_text

TAG = f"cp{sys.version_info.major}{sys.version_info.minor}"

PROGRAM = """#!/bin/sh
case "$3" in
    --version) echo "ntx {version}" ;;
    config) exit {check} ;;
esac
"""

CONFIG = """
nutanix: {prism_central: pc.example, username: backup, password: "${PRISM_PASSWORD}"}
backup: {repository: /backups}
jobs: [{name: all, vms: ["*"], every: 1h}]
"""
EXAMPLE = "# say where the cluster is\n"


def write_sums(folder: Path) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "SHA256SUMS")
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder)}\n" for path in files]
    (folder / "SHA256SUMS").write_text("".join(lines))


def make_release(folder: Path, version: str, *, check: int = 0, says: str = "") -> Path:
    """Make a release folder; `check` is what its `config check` ends with, `says` what its version says it is."""
    (folder / "wheels").mkdir(parents=True)
    (folder / f"wheels/ntxengine-{version}-{TAG}-{TAG}-linux_x86_64.whl").write_text(f"{says or version} {check}")
    (folder / "wheels/pip-1.0-py3-none-any.whl").write_bytes(b"")
    (folder / "VERSION").write_text(f"{version}\n")
    (folder / "agent.yaml").write_text(EXAMPLE)
    (folder / "install.sh").write_text("#!/bin/sh\n")
    (folder / "ntx-agent.service").write_text(
        unit_text(Filled(Path("/opt/ntx/current/bin/ntx"), Path("/etc/ntx/agent.yaml")))
    )
    write_sums(folder)
    return folder


def fill(here: Path, release: Release, python: Path) -> None:
    """Make the folder of a version, with programs that say what the release was told to."""
    version, check = next(release.wheels.glob("ntxengine-*")).read_text().split()
    (here / "bin").mkdir(parents=True)
    (here / "bin/ntx").write_text(f"#!{here}/bin/python\n")
    (here / "bin/python").write_text(PROGRAM.format(version=version, check=check))
    (here / "bin/python").chmod(0o755)
