"""What a command loads before it works: starting takes longer than a small copy, so nothing that it does not need."""

from __future__ import annotations

import errno
import resource
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from ntxengine.repository.store import PointStore
from tests.cli.ntx import COMMAND, ROOT, environment
from tests.support.seccomp import IO_URING_ENTER, IO_URING_SETUP, denying

HEAVY = {"httpx", "msgspec", "rich", "sqlite3", "ssl", "numpy", "ntxengine.prism", "ntxengine.repository"}
HEAVY |= {"ntxengine.capture", "ntxengine.sim", "starlette", "uvicorn", "trustme", "yaml"}

# A command, and which of the heavy ones it may load.  asyncio loads ssl, whether it is used or not.
DATA_PLANE = {"numpy", "ssl"}
REPOSITORY = DATA_PLANE | {"msgspec", "sqlite3", "ntxengine.prism", "ntxengine.repository"}
LOADED = {
    ("--help",): set(),
    ("--version",): set(),
    ("copy", "pattern:64K", "null:"): DATA_PLANE,
    ("copy", "pattern:64K", "null:", "--json", "--progress", "none"): DATA_PLANE,
    ("checksum", "pattern:64K"): DATA_PLANE,
    ("map", "pattern:64K"): DATA_PLANE,
    ("info", "pattern:64K"): DATA_PLANE,
    ("points", "--repository", "repository"): REPOSITORY,
}

CODE = """
import sys
from ntxengine.cli.main import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert not end.code, end.code
sys.stderr.write("\\n".join(["LOADED", *sys.modules]))
"""


@pytest.mark.parametrize("arguments", LOADED, ids=" ".join)
def test_a_command_loads_only_what_it_needs(arguments: tuple[str, ...], tmp_path: Path) -> None:
    PointStore.create(tmp_path / "repository")
    done = subprocess.run(
        [sys.executable, "-c", CODE, *arguments],
        env=environment(),
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )

    loaded = set(done.stderr.partition("LOADED\n")[2].split("\n"))

    assert loaded & HEAVY <= LOADED[arguments]


@pytest.mark.parametrize(("limit", "expected"), [((256, 4096), 4096), ((256, 256), 256)])
def test_descriptors_are_allowed_as_far_as_the_system_does(limit: tuple[int, int], expected: int) -> None:
    code = "import asyncio, resource; from ntxengine.cli.run import run; run(asyncio.sleep(0))\n"
    code += "print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])"

    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, limit),
        check=True,
        capture_output=True,
        text=True,
    )

    assert int(done.stdout) == expected


@pytest.mark.parametrize(("given", "threads"), [({}, "1"), ({"OPENBLAS_NUM_THREADS": "3"}, "3")])
def test_numpy_starts_no_threads_unless_the_person_wants_them(given: dict[str, str], threads: str) -> None:
    code = "import os; from ntxengine.cli.main import main\ntry: main(['--version'])\nexcept SystemExit: pass\n"
    code += "print(os.environ['OPENBLAS_NUM_THREADS'])"
    base = {name: value for name, value in environment().items() if name != "OPENBLAS_NUM_THREADS"}

    done = subprocess.run(
        [sys.executable, "-c", code], env={**base, **given}, check=True, capture_output=True, text=True
    )

    assert done.stdout.split()[-1] == threads


@pytest.mark.parametrize("call", [IO_URING_ENTER, IO_URING_SETUP])
@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOSYS], ids=errno.errorcode.get)
def test_a_sandbox_without_io_uring_ends_nothing(call: int, code: int, tmp_path: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "copy", "pattern:3M", "disk.raw", "--verify", "-q"],
        env=environment(),
        cwd=tmp_path,
        preexec_fn=denying(call, code),
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "disk.raw").stat().st_size == 3 * 1024**2


@pytest.mark.parametrize(("slow", "arguments"), [("click", ["--help"]), ("numpy", ["vms"])])
def test_ctrl_c_while_modules_are_loaded_shows_no_traceback(slow: str, arguments: list[str], tmp_path: Path) -> None:
    marker = tmp_path / "loading"
    (tmp_path / f"{slow}.py").write_text(f"open({str(marker)!r}, 'w').close()\nimport time; time.sleep(40)\n")
    env = environment({"NTX_PRISM": "https://127.0.0.1:1", "NTX_USERNAME": "u", "NTX_PASSWORD": "p"})
    env["PYTHONPATH"] = f"{tmp_path}:{env['PYTHONPATH']}"
    process = subprocess.Popen(
        [sys.executable, "-m", "ntxengine", *arguments], env=env, stderr=subprocess.PIPE, text=True
    )
    while not marker.exists():
        assert process.poll() is None
        time.sleep(0.01)

    process.send_signal(signal.SIGINT)
    err = process.communicate(timeout=50)[1]

    assert process.returncode in (130, -signal.SIGINT)
    assert "Traceback" not in err


def test_the_command_is_what_loads_nothing_before_it_heeds_ctrl_c() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / "src" / "ntxengine" / "__main__.py").read_text().splitlines()
    imports = {line for line in lines if line.startswith(("import", "from"))}

    assert project["scripts"] == {"ntx": "ntxengine.__main__:main"}
    assert imports == {"from __future__ import annotations", "import signal"}
