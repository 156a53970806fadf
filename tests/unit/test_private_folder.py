"""The private folder of a socket, in a folder where everybody can make names."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from ntxengine.errors import MachineError
from ntxengine.files.private import PrivateFolder


@pytest.fixture(autouse=True)
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_only_we_can_enter_it_and_it_goes_with_all_in_it(shared: Path) -> None:
    folder = PrivateFolder()
    (folder.path / "nbd.sock").touch()

    assert folder.path.stat().st_mode & 0o777 == 0o700

    folder.close()
    assert list(shared.iterdir()) == []


def test_who_sees_it_being_made_cannot_take_its_name(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = tempfile.mkdtemp

    def seen(prefix: str, dir: Path) -> str:
        fresh = make(prefix=prefix, dir=dir)
        (shared / Path(fresh).name.removeprefix(".") / "taken").mkdir(parents=True)
        return fresh

    monkeypatch.setattr(tempfile, "mkdtemp", seen)

    folder = PrivateFolder()

    assert folder.path.stat().st_mode & 0o777 == 0o700
    folder.close()


def test_what_stands_in_its_place_is_not_followed(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (shared / "elsewhere").mkdir()
    (shared / "ntx-run-00000000").symlink_to(shared / "elsewhere")
    monkeypatch.setattr("ntxengine.files.private.secrets.token_hex", lambda _: "00000000")

    with pytest.raises(MachineError, match="no private folder"):
        PrivateFolder()

    assert list((shared / "elsewhere").iterdir()) == []
