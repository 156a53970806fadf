"""Nutanix's SDK in a virtual environment of its own, built once into the repository's root."""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
FOLDER = Path(__file__).parents[2] / ".venv-conformance"


@pytest.fixture(scope="session")
def sdk_python() -> Path:
    """Return the interpreter that has the SDK; skip where it cannot be installed."""
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()
    venv, stamp = FOLDER / "venv", FOLDER / "built-from"
    python = venv / "bin" / "python"
    FOLDER.mkdir(exist_ok=True)
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if stamp.exists() and stamp.read_text() == wanted:
            return python
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(venv)], check=True)
        command = [str(venv / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", "-r"]
        built = subprocess.run([*command, str(REQUIREMENTS)], capture_output=True, text=True, check=False)
        if built.returncode != 0:
            reason = (built.stderr.strip().splitlines() or ["no reason given"])[-1]
            pytest.skip(f"the Nutanix SDK cannot be installed here: {reason}")
        stamp.write_text(wanted)
    return python
