"""How long a Prism may take to make a recovery point is said by its endpoint."""

from __future__ import annotations

import pytest

from ntxengine.errors import OptionsError, PrismTimeout
from ntxengine.prism.http.endpoint import Endpoint, Secret
from ntxengine.prism.models import Family
from ntxengine.prism.open import open_cluster
from ntxengine.sim import Simulator
from tests.prism.hostile import HandClock
from tests.prism.steps import freeze, points, subject


@pytest.mark.parametrize("family", ["v4", "v3"])
async def test_a_recovery_point_that_takes_longer_is_given_up(sim: Simulator, clock: HandClock, family: Family) -> None:
    sim.faults.stuck_tasks["create"] = 1
    url = sim.central_url if family == "v4" else sim.element_url
    endpoint = Endpoint(url, sim.username, Secret(sim.password), str(sim.ca_file), snapshot_timeout_s=1800)

    async with await open_cluster(endpoint, endpoint, clock=clock.clock) as cluster:
        with pytest.raises(PrismTimeout, match="not finished after 1800 s"):
            await freeze(cluster.prism, await subject(cluster.prism))

    assert points(sim) == 0


def test_no_time_at_all_is_refused() -> None:
    with pytest.raises(OptionsError, match="more than 0 seconds"):
        Endpoint("https://pc", "u", Secret("p"), snapshot_timeout_s=0)
