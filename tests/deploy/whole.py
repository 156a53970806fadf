"""A release of this source tree that can really be installed, without building or downloading anything.

Its wheel of ntxengine is made of what is built here.  The libraries that it needs come by a `.pth` of a second wheel,
from where those of the tests lie; pip is the one of the tests, as a wheel.
"""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import zipfile
from pathlib import Path

from ntxengine import __version__
from tests.deploy.releases import TAG, write_sums
from tests.support.booted import ENGINE, ROOT

NATIVE = f"{TAG}-{TAG}-linux_x86_64"
ANY = "py3-none-any"


def write_wheel(folder: Path, name: str, version: str, files: dict[str, bytes], tag: str, needs: str = "") -> None:
    """Write a wheel of these files."""
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}"
    files = {
        **files,
        f"{info}/METADATA": metadata.encode(),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: false\nTag: {tag}\n".encode(),
    }
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"]).encode()
    with zipfile.ZipFile(folder / f"{name}-{version}-{tag}.whl", "w") as file:
        for path, data in files.items():
            file.writestr(path, data)


def package(folder: Path) -> dict[str, bytes]:
    """Return the files of an installed ntxengine: those that setuptools takes, and the built modules."""
    subprocess.run(
        [sys.executable, "setup.py", "-q", "build_py", "--build-lib", folder],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    built = (ROOT / "src").glob("ntxengine/_core/*.so")
    return found | {str(path.relative_to(ROOT / "src")): path.read_bytes() for path in built}


def make_whole_release(folder: Path, version: str, files: dict[str, bytes]) -> Path:
    """Make a release of the files of a package, which says that it is of this version."""
    wheels = folder / "wheels"
    wheels.mkdir(parents=True)
    says = files["ntxengine/__init__.py"].replace(f'"{__version__}"'.encode(), f'"{version}"'.encode())
    script = b"[console_scripts]\nntx = ntxengine.__main__:main\n"
    entries = {
        **files,
        "ntxengine/__init__.py": says,
        f"ntxengine-{version}.dist-info/entry_points.txt": script,
    }
    needs = "Requires-Dist: libraries\nProvides-Extra: agent\nProvides-Extra: uvloop\n"
    write_wheel(wheels, "ntxengine", version, entries, NATIVE, needs)
    write_wheel(wheels, "libraries", "1.0", {"libraries.pth": f"{ENGINE}/site\n".encode()}, ANY)
    _write_pip(wheels)
    (folder / "VERSION").write_text(f"{version}\n")
    (folder / "agent.yaml").write_bytes(files["ntxengine/config/example.yaml"])
    (folder / "install.sh").write_bytes(files["ntxengine/deploy/files/install.sh"])
    write_sums(folder)
    return folder


def _write_pip(wheels: Path) -> None:
    pip = importlib.metadata.distribution("pip")
    files = {
        str(path): Path(str(pip.locate_file(path))).read_bytes()
        for path in pip.files or ()
        if path.parts[0] == "pip" and path.suffix != ".pyc"
    }
    write_wheel(wheels, "pip", pip.version, files, ANY)
