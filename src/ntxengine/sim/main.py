"""What `ntx sim` runs: a simulator until SIGHUP, SIGINT or SIGTERM."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path

from ntxengine.sim.config import SimConfig
from ntxengine.sim.lock import used_by_us
from ntxengine.sim.simulator import DEFAULT_PORT, Simulator


def serve(
    config: SimConfig,
    state_dir: Path | str,
    *,
    host: str = "",
    port: int = DEFAULT_PORT,
    ready: Callable[[dict[str, str]], None] | None = None,
) -> None:
    """Serve until SIGHUP, SIGINT or SIGTERM; call `ready` with the NTX_* environment once both endpoints answer.

    Prints nothing.  `STATE/connect.env` holds the same environment for a shell.  `host`, if given, is where Prism
    Central listens; Prism Element stays at the configuration's `element_host`, on the same port.
    Errors: OptionsError (configuration, port taken), LockedError (another simulator uses the state folder).
    """
    if host:
        config.central_host = host
    with used_by_us(Path(state_dir)):
        asyncio.run(_serve(config, Path(state_dir), port, ready))


async def _serve(config: SimConfig, state_dir: Path, port: int, ready: Callable[[dict[str, str]], None] | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup: what was ignored when we were started stays so
            loop.add_signal_handler(number, stop.set)
    async with Simulator(config, state_dir, port) as sim:
        if ready is not None:
            ready(sim.env)
        await stop.wait()
