"""What can go wrong with a repository: made wrong on purpose, and what is to be found then."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from ntxengine.check import CheckReport
from ntxengine.images.rebase import set_backing
from ntxengine.repository import Hold, Point, layout, retention_file, rewrite, sums
from tests.repository.builders import DISK, OTHER_VM, VM

NOW = datetime(2026, 11, 24, tzinfo=UTC)
IMAGE = layout.image_name(DISK)


def said(report: CheckReport) -> list[tuple[str, str, str]]:
    """Return severity, kind and path of what was found."""
    return [(each.severity.value, each.kind, str(each.path.relative_to(report.path))) for each in report.findings]


def state_of(root: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path): (path.lstat().st_mtime_ns, path.lstat().st_size)
        for path in root.rglob("*")
        if not path.name.startswith("catalog.sqlite-") and path.is_file()
    }


def sql(root: Path, statement: str) -> None:
    with closing(sqlite3.connect(root / "catalog.sqlite")) as connection, connection:
        connection.execute(statement)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def hold_and_remove(root: Path, points: list[Point]) -> None:
    retention_file.change(root / VM, lambda found: found.hold(points[2].id, Hold()))
    subprocess.run(["rm", "-r", points[2].path], check=True)


def pad(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[2000] = 1
    path.write_bytes(data)


def link_instead(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


DAMAGE: dict[str, tuple[Callable[[Path, list[Point]], object], str, str]] = {
    "point.json cut": (lambda _, points: cut(points[1].path / "point.json"), "point", "{1}/point.json"),
    "vm.json gone": (lambda _, points: (points[1].path / "vm.json").unlink(), "file", "{1}/vm.json"),
    "report.json changed": (
        lambda _, points: (points[1].path / "report.json").write_text("{}"),
        "file",
        "{1}/report.json",
    ),
    "digests gone": (lambda _, points: (points[1].path / "SHA256SUMS").unlink(), "point", "{1}/SHA256SUMS"),
    "digests in capitals": (
        lambda _, points: (points[1].path / "SHA256SUMS").write_text(
            (points[1].path / "SHA256SUMS").read_text().replace("a", "A", 1)
        ),
        "sums",
        "{1}/SHA256SUMS",
    ),
    "manifest cut": (
        lambda _, points: cut(points[1].manifest_path(points[1].disks[0])),
        "manifest",
        "{1}/disk-" + DISK + ".manifest",
    ),
    "manifest padded": (
        lambda _, points: pad(points[1].manifest_path(points[1].disks[0])),
        "manifest",
        "{1}/disk-" + DISK + ".manifest",
    ),
    "image gone": (lambda _, points: (points[1].path / IMAGE).unlink(), "image", "{1}/" + IMAGE),
    "image of another disk": (
        lambda _, points: set_backing(points[2].path / IMAGE, f"../{points[0].id}/{IMAGE}"),
        "image",
        "{2}/" + IMAGE,
    ),
    "parent gone": (
        lambda root, points: points[0].path.rename(root.parent / "moved"),
        "parent",
        "{0}",
    ),
    "a folder is a link": (lambda _, points: link_instead(points[2].path), "link", "{2}"),
    "retention": (lambda root, _: (root / VM / "retention.json").write_text("{"), "retention", "retention.json"),
    "distrust": (lambda root, _: (root / VM / "distrusted.json").write_text("[]"), "distrusted", "distrusted.json"),
    "distrust without its checksum": (
        lambda root, _: (root / VM / "distrusted.json").write_text(
            '{"format": "ntxengine-distrust", "version": 1, "disks": [], "cheak": "x"}'
        ),
        "distrusted",
        "distrusted.json",
    ),
    "samples": (lambda root, _: (root / VM / "sampled.json").write_text("\0"), "sampled", "sampled.json"),
    "cluster record": (
        lambda root, points: (root / VM / f".cluster-{points[0].id}.json").write_text("{}"),
        "cluster-record",
        ".cluster-{0}.json",
    ),
    "held point gone": (hold_and_remove, "missing-point", "{2}"),
}


def two_digests(root: Path, points: list[Point]) -> None:
    found = sums.read_sums(points[1].path)
    assert found is not None
    lines = {**found, "point.json": [bytes(32), *found["point.json"]]}
    (points[1].path / "SHA256SUMS").write_bytes(sums.encode(lines))


def forget_and_remove(root: Path, points: list[Point]) -> None:
    retention_file.change(root / VM, lambda found: found.forget([points[2].id], NOW))
    subprocess.run(["rm", "-r", points[2].path], check=True)


def old_file(path: Path) -> None:
    path.touch(0o600)
    os.utime(path, (time.time() - 7200,) * 2)


def other_generation(root: Path, points: list[Point], *, keep_old: bool = True) -> None:
    """Leave what a prune has that was killed before it let the images above know."""
    point = points[0]
    new = replace(point.disks[0], file=layout.image_name(DISK, 1))
    (point.path / new.file).write_bytes((point.path / IMAGE).read_bytes())
    (point.path / new.file).chmod(0o600)
    rewrite.rewrite(replace(point, disks=(new,)))
    if not keep_old:
        (point.path / IMAGE).unlink()


LEFTOVERS: dict[str, tuple[Callable[[Path, list[Point]], object], set[tuple[str, str]]]] = {
    "removed point": (
        lambda root, points: (root / VM / f".removed-{points[0].id}").mkdir(0o700),
        {("removed-point", "{vm}/.removed-{0}")},
    ),
    "unfinished point": (
        lambda root, points: (root / VM / f".unfinished-{points[0].id}").mkdir(0o700),
        {("unfinished-point", "{vm}/.unfinished-{0}")},
    ),
    "half-written": (
        lambda root, points: [
            old_file(path)
            for path in (
                root / VM / ".distrusted.json.0123abcd.new",
                root / VM / ".retention.json.0123abcd.new",
                root / VM / ".sampled.json.0123abcd.new",
                points[1].path / ".point.json.0123abcd.new",
                root / ".ntx-site.json.0123abcd.new",
            )
        ],
        {
            ("half-written", "{vm}/.distrusted.json.0123abcd.new"),
            ("half-written", "{vm}/.retention.json.0123abcd.new"),
            ("half-written", "{vm}/.sampled.json.0123abcd.new"),
            ("half-written", "{vm}/{1}/.point.json.0123abcd.new"),
            ("half-written", ".ntx-site.json.0123abcd.new"),
        },
    ),
    "unused image": (
        lambda root, points: (points[1].path / layout.image_name(DISK, 7)).touch(0o600),
        {("unused-image", "{vm}/{1}/" + layout.image_name(DISK, 7))},
    ),
    "maps": (
        lambda root, points: [
            (points[1].path / name).touch(0o600) for name in (f"{IMAGE}.map", f"{layout.image_name(DISK, 3)}.map")
        ],
        {("map", "{vm}/{1}/" + f"{IMAGE}.map"), ("map", "{vm}/{1}/" + f"{layout.image_name(DISK, 3)}.map")},
    ),
    "two digests": (two_digests, {("rewrite", "{vm}/{1}/SHA256SUMS")}),
    "pruned point": (forget_and_remove, {("gone-points", "{vm}/retention.json")}),
    "other generation": (
        other_generation,
        {("backing", "{vm}/{1}/" + IMAGE), ("unused-image", "{vm}/{0}/" + IMAGE)},
    ),
    "empty folder": (
        lambda root, _: (root / OTHER_VM).mkdir(0o700),
        {("empty-folder", OTHER_VM)},
    ),
}
