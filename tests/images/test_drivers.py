"""What this machine's qemu can read."""

from __future__ import annotations

import pytest

from ntxengine.images import process, qemu_img
from tests.support.servers import require


@pytest.mark.parametrize(("driver", "lacks"), [("file", False), ("rope", True)])
async def test_a_driver_that_qemu_lacks_is_known(driver: str, lacks: bool) -> None:
    require("qemu-img", "qemu-nbd", "setpriv")

    said = await qemu_img.no_driver(driver)

    assert bool(said) == lacks
    assert lacks == ("rope" in said)


@pytest.mark.parametrize("words", ["Unknown driver 'nfs'", "Driver 'nfs' is not whitelisted"])
def test_a_driver_that_qemu_may_not_use_is_one_that_it_lacks(words: str) -> None:
    """Some distributions build qemu with all drivers, and let it use a list of them."""
    output = f"qemu-img: Could not open 'json:{{}}': {words}\n".encode()

    error = process.failure("qemu-img", output, 1, action="looking", path="x")

    assert isinstance(error, process.NoDriver)
    assert error.reason.startswith("qemu has no nfs driver here: ")


async def test_where_no_qemu_is_installed_its_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _program: None)

    assert await qemu_img.no_driver("file") == "qemu-img is not installed: install the package qemu-utils"
