"""Several VMs, one after another or a few at a time.  What happens to one of them never stops the others."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from ntxengine.attach import Attachers
from ntxengine.capture.options import CaptureOptions
from ntxengine.capture.workflow import capture
from ntxengine.concurrency.parallel import map_limited
from ntxengine.errors import Cancelled
from ntxengine.events import OnEvent, log_event
from ntxengine.prism.cluster import Prism
from ntxengine.prism.models import Vm
from ntxengine.repository import Point, Repository

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What became of one VM: a point, or the error that there is none because of."""

    vm: Vm
    point: Point | None = None
    error: Exception | None = None


async def capture_several(
    prism: Prism,
    repository: Repository,
    vms: Sequence[Vm],
    *,
    options: CaptureOptions,
    attacher: Attachers,
    at_once: int = 1,
    on_event: OnEvent = log_event,
    on_outcome: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """Capture each of `vms`, at most `at_once` of them at a time; return what became of each, in their order.

    All that run at once share one budget of buffers.  `on_outcome` is told of each when it is done, `on_event` of all
    on the way; what that raises is the error of the VM that it was told about.
    Errors: none of a VM's own, whatever it is.  A cancellation stops all, and each cleans up.
    """
    at_once = max(1, min(at_once, len(vms)))
    shared = dataclasses.replace(options, captures_at_once=at_once)

    async def capture_one(vm: Vm) -> Point:
        return await capture(prism, repository, vm, options=shared, attacher=attacher, on_event=on_event)

    return await outcomes(vms, capture_one, at_once=at_once, on_outcome=on_outcome)


async def outcomes(
    vms: Sequence[Vm],
    capture_one: Callable[[Vm], Awaitable[Point]],
    *,
    at_once: int,
    on_outcome: Callable[[Outcome], None],
) -> list[Outcome]:
    """Return what became of each VM; `on_outcome` is told when it is known.  A cancellation alone goes on."""

    async def one(vm: Vm) -> Outcome:
        try:
            outcome = Outcome(vm, point=await capture_one(vm))
        except Cancelled:
            raise
        except Exception as error:
            # Whatever it is: also a defect that one VM meets must not cost the others their capture.
            log.debug("VM %s (%s) was not captured", vm.name, vm.id, exc_info=error)
            outcome = Outcome(vm, error=error)
        on_outcome(outcome)
        return outcome

    return await map_limited(vms, one, at_once=at_once)
