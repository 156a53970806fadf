"""`ntx` on file systems that lack something: what can be done otherwise is, and nothing that is done is thrown away."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from tests.cli.ntx import ntx
from tests.support.filesystem import lacking

MIB = 1024**2


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EMLINK, errno.EIO])
def test_a_copy_is_kept_where_its_name_cannot_be_given_by_link(code: int, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x" * MIB)

    ran = ntx("copy", source, tmp_path / "copy", "-q", env=lacking(tmp_path, {"link": code}))

    assert (ran.code, ran.err) == (0, "")
    assert (tmp_path / "copy").read_bytes() == source.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "source"]


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_copy_is_kept_where_a_folder_cannot_be_synced(code: int, tmp_path: Path) -> None:
    calls = {"fsync-folder": code, "link": errno.ENOSYS, "rename-new": errno.EINVAL, "seek-data": errno.EINVAL}

    ran = ntx("copy", "pattern:1M", tmp_path / "copy", "--verify", "-q", env=lacking(tmp_path, calls))

    assert (ran.code, ran.err) == (0, "")
    assert (tmp_path / "copy").stat().st_size == MIB
