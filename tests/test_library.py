"""The library: what `import ntxengine` shows is typed, documented and fetched late, and docs/library.md really runs."""

from __future__ import annotations

import ast
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ntxengine
from ntxengine import errors
from ntxengine.sim import Simulator, run_in_thread
from ntxengine.units import MIB
from tests.capture.lab import make_config
from tests.export.receiver import Client, Receiver
from tests.support.pki import Pki
from tests.support.servers import nbdkit, qemu_nbd, require
from tests.support.ssh import free_port

ROOT = Path(__file__).parent.parent
DOCUMENT = ROOT / "docs" / "library.md"
SECTION = re.compile(r"^## ([^\n]+)\n((?:(?!^## ).)*)", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)

HEAVY = {"httpx", "numpy", "msgspec", "asyncio", "click", "ssl"}

CALLS = [name for name in ntxengine.__all__ if inspect.isfunction(getattr(ntxengine, name))]
CLASSES = [name for name in ntxengine.__all__ if inspect.isclass(getattr(ntxengine, name))]


def examples() -> dict[str, str]:
    """Return each program of the document by the heading above it."""
    found = {}
    for heading, text in SECTION.findall(DOCUMENT.read_text()):
        for program in BLOCK.findall(text):
            assert heading not in found, f"one program below a heading: {heading}"
            found[heading] = program
    return found


def run_example(heading: str, folder: Path, **real: str) -> str:
    """Run a program of the document, with real things in the place of those that it names; return what it prints."""
    return run_program(examples()[heading], folder, real)


def run_program(program: str, folder: Path, real: dict[str, str]) -> str:
    for name, thing in real.items():
        assert name in program, f"{name} is not in it"
        program = program.replace(name, thing)
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """A disk of 8 MiB, the half of it zero."""
    path = tmp_path / "disk.raw"
    path.write_bytes(os.urandom(4 * MIB) + bytes(4 * MIB))
    return path


# ------------------------------------------------------------------------------------------------------ the names


def imports_for_type_checkers() -> dict[str, str]:
    """Return the module that each public name is imported from."""
    tree = ast.parse((ROOT / "src" / "ntxengine" / "__init__.py").read_text())
    guarded = next(node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    return {
        alias.asname or alias.name: str(node.module)
        for node in guarded.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def test_table_imports_and_all_name_the_same() -> None:
    assert imports_for_type_checkers() == ntxengine._HOMES
    assert sorted(ntxengine.__all__) == sorted([*ntxengine._HOMES, "__version__"])
    assert set(ntxengine.__all__) <= set(dir(ntxengine))


def test_every_error_can_be_caught_by_a_public_name() -> None:
    kinds = {name for name, kind in vars(errors).items() if inspect.isclass(kind) and issubclass(kind, errors.NtxError)}

    assert kinds <= set(ntxengine.__all__)


def test_no_public_name_hides_a_part_of_the_package() -> None:
    parts = {path.stem for path in (ROOT / "src" / "ntxengine").iterdir()}

    assert not parts & set(ntxengine._HOMES)


def test_a_name_that_is_none_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        _ = ntxengine.nonsense  # type: ignore[attr-defined]


def test_importing_it_loads_nothing() -> None:
    code = "import sys; before = set(sys.modules); import ntxengine; dir(ntxengine); print(*set(sys.modules) - before)"

    loaded = set(run_program(code, ROOT, {}).split())

    assert {name for name in loaded if name.startswith("ntxengine")} == {"ntxengine"}
    assert not loaded & HEAVY


def test_an_error_costs_no_data_plane() -> None:
    loaded = run_program("import sys, ntxengine; ntxengine.NtxError; print(*sys.modules)", ROOT, {}).split()

    assert not set(loaded) & HEAVY


@pytest.mark.parametrize("name", [*CALLS, *CLASSES])
def test_a_public_name_is_documented(name: str) -> None:
    text = getattr(ntxengine, name).__doc__

    assert text
    assert not text.startswith(f"{name}("), f"{name} has the docstring that dataclasses make up"


@pytest.mark.parametrize("name", CALLS)
def test_a_call_says_its_errors_units_and_shapes(name: str) -> None:
    call = getattr(ntxengine, name)
    text = inspect.getdoc(call) or ""
    signature = str(inspect.signature(call))

    assert "Errors:" in text
    assert "Units:" in text or not re.search(r"_s:|on_progress|Extents", signature)
    assert "Shape:" in text or "Extents" not in signature
    assert "Any" not in signature


def test_the_examples_and_the_names_are_typed(tmp_path: Path) -> None:
    programs = [*examples().values(), *BLOCK.findall((ROOT / "README.md").read_text())]
    files = [tmp_path / f"example_{number}.py" for number in range(len(programs))]
    for file, program in zip(files, programs, strict=True):
        file.write_text(program)
    wrong = tmp_path / "wrong.py"
    wrong.write_text("import ntxengine\nntxengine.nonsense\ncopying = ntxengine.copy(1, 'target')\n")

    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", *map(str, [*files, wrong])],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    found = re.findall(r"(\w+\.py):(\d+): error: .*\[([\w-]+)\]", done.stdout)
    assert found == [("wrong.py", "2", "attr-defined"), ("wrong.py", "3", "arg-type")], done.stdout + done.stderr


# --------------------------------------------------------------------------------------------------- the examples


def test_every_example_is_run_by_a_test() -> None:
    run = re.findall(r'run_example\(\s*"([^"]+)"', Path(__file__).read_text())

    assert set(run) == set(examples())


def test_a_disk_is_copied(disk: Path, tmp_path: Path) -> None:
    target = tmp_path / "target.raw"
    target.write_bytes(os.urandom(8 * MIB))
    with qemu_nbd(target) as uri:
        shown = run_example("Copy a disk", tmp_path, **{"nbd://backup01/disk": uri})

    assert target.read_bytes() == disk.read_bytes()
    assert f"{8 * MIB} of {8 * MIB} bytes" in shown
    assert f"sent {4 * MIB} bytes" in shown


def test_the_example_of_the_readme_runs(disk: Path, tmp_path: Path) -> None:
    (program,) = BLOCK.findall((ROOT / "README.md").read_text())

    with nbdkit("memory", "8M") as uri:
        shown = run_program(program, tmp_path, {"nbd://backup01/disk": uri})

    assert shown.startswith(f"sent {4 * MIB} bytes")


def test_a_copy_is_stopped(disk: Path, tmp_path: Path) -> None:
    with nbdkit("--filter=delay", "memory", "8M", "wdelay=30") as uri:
        shown = run_example("Stop a copy", tmp_path, **{"nbd://backup01/disk": uri, "timeout(60)": "timeout(0.5)"})

    assert shown == "stopped: it took more than a minute\n"


def test_two_disks_are_compared(disk: Path, tmp_path: Path) -> None:
    other = bytearray(disk.read_bytes())
    other[MIB : MIB + 10] = bytes(10)
    (tmp_path / "other.raw").write_bytes(other)

    with qemu_nbd(tmp_path / "other.raw", "-r") as uri:
        differ = run_example("Compare two disks", tmp_path, **{"nbd://backup01/disk": uri})
    with qemu_nbd(disk, "-r") as uri:
        same = run_example("Compare two disks", tmp_path, **{"nbd://backup01/disk": uri})

    assert differ == f"65536 bytes differ at offset {MIB}\n"
    assert same == "the same\n"


@pytest.fixture
def simulator(tmp_path: Path) -> Iterator[Simulator]:
    require("qemu-nbd", "qemu-img", "setpriv")
    with run_in_thread(make_config(tmp_path / "disks"), tmp_path / "cluster") as sim:
        yield sim


def capture_example(sim: Simulator, folder: Path) -> str:
    """Run the example, which says neither whom to trust nor where a simulated machine finds its disks."""
    return run_example(
        "Capture a VM",
        folder,
        **{
            '"/backups"': '"backups"',
            **of_cluster(sim),
        },
    )


def of_cluster(sim: Simulator) -> dict[str, str]:
    """Return what is real of a cluster that an example names."""
    return {
        'os.environ["PRISM_PASSWORD"]': repr(sim.password),
        '"https://prism.example.com"': f'"{sim.central_url}", ca_file="{sim.ca_file}"',
        '"backup"': f'"{sim.username}"',
        '"backup01"': f'"{sim.worker_id}", device_dir="{sim.world.layout.devices}"',
    }


def test_a_vm_is_exported(simulator: Simulator, tmp_path: Path) -> None:
    pki = Pki(tmp_path / "pki")
    control_plane = Receiver(pki)
    control_plane.then = lambda notification: check_done(Client(pki).done(notification).status_code)
    for name, source in (("ca", "ca-cert"), ("cert", "server-cert"), ("key", "server-key")):
        (tmp_path / f"{name}.pem").write_bytes((pki.folder / f"{source}.pem").read_bytes())
    (tmp_path / "key.pem").chmod(0o600)
    first = free_port()

    with control_plane.listening():
        shown = run_example(
            "Export a VM",
            tmp_path,
            **{
                '"/var/lib/ntx/export"': '"exports"',
                '"worker1.example", (10809, 10899), tls': f'"127.0.0.1", ({first}, {first + 40}), tls, "127.0.0.1"',
                '"https://cp.example/ntx"': f'"{control_plane.url}", ca=Path("ca.pem")',
                **of_cluster(simulator),
            },
        )

    assert shown == f"next time: LAST={control_plane.last['recovery_point']['id']}\n"


def check_done(status: int) -> None:
    assert status == 200


def test_a_vm_is_captured_and_restored_and_what_changed_is_read(simulator: Simulator, tmp_path: Path) -> None:
    system, data = (disk.path for disk in simulator.config.vms[0].disks)

    full = capture_example(simulator, tmp_path)
    with simulator.disk_lock, data.open("r+b") as file:
        file.seek(MIB + 100)
        file.write(b"new")
    incremental = capture_example(simulator, tmp_path)
    changed = run_example("Read what changed", tmp_path, **{'"/backups"': '"backups"'})
    restored = run_example("Restore a disk", tmp_path, **{'"/backups"': '"backups"', '"/restored"': '"restored"'})

    forgotten = run_example(
        "Keep some points, forget others",
        tmp_path,
        **{'"/backups"': '"backups"', "last=3, daily=7, weekly=4, ": "last=1, ", "max_waste=0.1": "max_waste=0"},
    )

    *events, result = full.splitlines()
    assert {line.partition(":")[0] for line in events} >= {"scsi.0 copy", "scsi.0 verify", "captured"}
    assert result.startswith("full, application-consistent, ")
    assert incremental.splitlines()[-1].startswith("incremental, application-consistent, ")
    assert changed == f"scsi.1: 65536 bytes of data at offset {MIB}\n"
    assert "restored/scsi.0.raw: 8388608 bytes in" in restored
    assert (tmp_path / "restored" / "scsi.0.raw").read_bytes() == system.read_bytes()
    ids = [line.removeprefix("captured: ") for line in (full + incremental).splitlines() if "captured: " in line]
    first, second, *removed, freed = forgotten.splitlines()
    assert [first, second] == [f"{ids[0]}: forgotten", f"{ids[1]}: last 1 of 1"]
    assert removed == [f"removed: {ids[0]}"]
    assert freed.startswith("freed ")
