from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ntxengine.repository import Repository
from ntxengine.sim import Simulator
from tests.capture.conftest import WAYS, config, lab, no_lab_stays_open, repository, simulator, v4_lab
from tests.capture.lab import Lab, open_lab
from tests.export.exporting import Exporting
from tests.export.receiver import Receiver
from tests.support.pki import Pki
from tests.support.servers import require

__all__ = ["config", "lab", "no_lab_stays_open", "repository", "simulator", "v4_lab"]


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return Pki(tmp_path / "pki")


@pytest.fixture
def receiver(pki: Pki) -> Iterator[Receiver]:
    with Receiver(pki).listening() as each:
        yield each


@pytest.fixture
def exporting(v4_lab: Lab, pki: Pki, receiver: Receiver, tmp_path: Path) -> Exporting:
    """Exports of the VM of a cluster that is reached through Prism Central, to a control plane at ports."""
    require("nbdcopy")
    return Exporting(v4_lab, pki, receiver, tmp_path)


@pytest.fixture(params=["v4-hot-add", "v3-mount", "v4-iscsi"])
async def any_exporting(
    request: pytest.FixtureRequest,
    simulator: Simulator,
    repository: Repository,
    pki: Pki,
    receiver: Receiver,
    tmp_path: Path,
) -> Exporting:
    """The same in each of several ways to the bytes."""
    require("nbdcopy", "qemu-nbd", "tgtd")
    family, attach = WAYS[request.param]
    return Exporting(await open_lab(simulator, family, repository, attach=attach), pki, receiver, tmp_path)
