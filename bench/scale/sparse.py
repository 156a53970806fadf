"""What does a sparse disk of 10 TiB cost, beyond what the same command costs for an empty disk, in CPU and memory?

    python bench/scale/sparse.py [--size 10T] [--data 8] [--directory DIR] [--save NAME]

A file with --data MiB of random bytes spread over it: `ntx checksum`, `ntx copy` to null: and to a new file, and an
increment of it in which nothing changed (the previous manifest opened, copied, sealed, and compared with itself).
Each in a process of its own; `beyond_start` is its CPU without that of the same command on a disk of 64 KiB.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from measure import in_child, parser, peak_bytes, report, run_ntx, spending

from ntxengine.dataplane.differing import differences
from ntxengine.dataplane.manifest import Manifest
from ntxengine.units import BLOCK_SIZE, MIB, parse_size


def make(path: Path, size: int, parts: int) -> None:
    with open(path, "wb") as file:
        file.truncate(size)
        for number in range(parts):
            file.seek(size // parts * number // BLOCK_SIZE * BLOCK_SIZE)
            file.write(os.urandom(MIB))


def commands(disk: Path, folder: Path) -> dict[str, Any]:
    """Run each command on `disk`; return figures and digests."""
    manifest = folder / f"{disk.name}.manifest"
    done = {
        "checksum": run_ntx("checksum", str(disk), "--json"),
        "copy to null": run_ntx("copy", str(disk), "null:", "--json", "--manifest", str(manifest)),
        "copy to a file": run_ntx("copy", str(disk), str(folder / f"{disk.name}.copy"), "--json"),
    }
    figures = {
        name: {**spent.as_dict(), "peak_bytes": peak, "digest": answer["digest"]}
        for name, (answer, spent, peak) in done.items()
    }
    figures["increment without changes"] = in_child(__file__, "--increment", str(manifest))
    return figures


def increment(previous: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder, spending() as spent, Manifest.open(previous) as before:
        after = Manifest.copy_of(before, f"{folder}/new", size=before.size)
        with after:
            digest = after.seal()
            assert list(differences(before, after)) == []
        allocated = os.stat(f"{folder}/new").st_blocks * 512
    return {**spent.as_dict(), "peak_bytes": peak_bytes(), "digest": digest, "manifest_bytes_allocated": allocated}


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--size", type=parse_size, default=parse_size("10T"))
    arguments.add_argument("--data", type=int, default=8, metavar="MIB")
    arguments.add_argument("--directory", help="where the disk is made (default: the temporary folder)")
    arguments.add_argument("--increment", metavar="MANIFEST", help="used by itself")
    given = arguments.parse_args()
    if given.increment:
        sys.stdout.write(json.dumps(increment(given.increment)))
        return
    with tempfile.TemporaryDirectory(dir=given.directory) as name:
        folder = Path(name)
        make(folder / "large", given.size, given.data)
        make(folder / "small", BLOCK_SIZE, 0)
        small = commands(folder / "small", folder)
        large = commands(folder / "large", folder)
    assert len({figures["digest"] for figures in large.values()}) == 1, large
    for command, figures in large.items():
        figures["beyond_start"] = {"cpu_s": round(figures["cpu_s"] - small[command]["cpu_s"], 4)}
    report(__doc__, given.save, {"size": given.size, "data_mib": given.data, "commands": large, "of 64 KiB": small})


if __name__ == "__main__":
    main()
