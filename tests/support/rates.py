"""Simulated clusters that are asked as fast as the tests can.

By default the simulator tells the small rate limits that were recorded, and whoever asks it waits for its turn: a third
of the time of a capture.  That limits are kept is proved in tests/prism, and the demonstration runs under them.
"""

from __future__ import annotations

from ntxengine.sim import SimConfig

NONE_REACHES = 1_000_000


def without_rates(config: SimConfig) -> SimConfig:
    """Let the simulator tell limits that no test reaches; returns `config`."""
    config.limits.requests_per_s = config.limits.api_requests_per_s = NONE_REACHES
    config.limits.api_rates.clear()
    return config
