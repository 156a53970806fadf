"""Nutanix's SDKs in a virtual environment of their own, built once into the repository's root."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ntxengine.sim import Simulator
from tests.conformance import exchanges
from tests.support.servers import skip

HERE = Path(__file__).parent
REQUIREMENTS = HERE / "requirements.txt"
FOLDER = Path(__file__).parents[2] / ".venv-conformance"


@pytest.fixture(scope="session")
def sdk_python() -> Path:
    """Return the interpreter that has the SDKs; skip where they cannot be installed, but fail where CI is set."""
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
            skip(f"the Nutanix SDKs cannot be installed: {reason}")
        stamp.write_text(wanted)
    return python


def run_sdk(python: Path, script: str, spec: dict[str, Any]) -> dict[str, Any]:
    """Run a script of this folder where the SDKs are; return what it printed."""
    command = [str(python), str(HERE / script)]
    done = subprocess.run(command, input=json.dumps(spec), capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.fixture(scope="session")
def v4_walk(tmp_path_factory: pytest.TempPathFactory) -> exchanges.Walk:
    """What our client of Prism Central sends and gets, step by step."""
    return asyncio.run(_walked(tmp_path_factory.mktemp("v4"), "v4"))


@pytest.fixture(scope="session")
def v4_exchanges(v4_walk: exchanges.Walk) -> list[exchanges.Exchange]:
    """The same, all of it."""
    return v4_walk.exchanges


@pytest.fixture(scope="session")
def v3_walk(tmp_path_factory: pytest.TempPathFactory) -> exchanges.Walk:
    """What our client of a Prism Element sends and gets, step by step."""
    return asyncio.run(_walked(tmp_path_factory.mktemp("v3"), "v3"))


@pytest.fixture(scope="session")
def v3_exchanges(v3_walk: exchanges.Walk) -> list[exchanges.Exchange]:
    """The same, all of it."""
    return v3_walk.exchanges


async def _walked(folder: Path, family: str) -> exchanges.Walk:
    config = exchanges.config(folder)
    async with Simulator(config, folder / "state") as sim:
        url = sim.central_url if family == "v4" else sim.element_url
        return await exchanges.walk(sim, url, config.vms[0].disks[0].path)


@pytest.fixture(scope="session")
def judged(sdk_python: Path, v4_exchanges: list[exchanges.Exchange]) -> dict[str, Any]:
    """What the SDKs make of these, of some that are wrong on purpose, and the models of every answer."""
    seen = [vars(one) for one in v4_exchanges if one.path.startswith("/api/") and "/v4." in one.path]
    spoiled = exchanges.spoiled(v4_exchanges)
    result = run_sdk(sdk_python, "sdk_judge.py", {"exchanges": seen + [vars(one) for one in spoiled.values()]})
    verdicts = result.pop("verdicts")
    result["seen"] = list(zip(seen, verdicts[: len(seen)], strict=True))
    result["spoiled"] = dict(zip(spoiled, verdicts[len(seen) :], strict=True))
    return result
