"""What this machine's qemu can read."""

from __future__ import annotations

import pytest

from ntxengine.images import qemu_img
from tests.support.servers import require


@pytest.mark.parametrize(("driver", "lacks"), [("file", False), ("rope", True)])
async def test_a_driver_that_qemu_lacks_is_known(driver: str, lacks: bool) -> None:
    require("qemu-img", "qemu-nbd", "setpriv")

    said = await qemu_img.no_driver(driver)

    assert bool(said) == lacks
    assert lacks == ("rope" in said)


async def test_where_no_qemu_is_installed_its_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _program: None)

    assert await qemu_img.no_driver("file") == "qemu-img is not installed: install the package qemu-utils"
