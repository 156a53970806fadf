"""Several VMs frozen at one moment, by one recovery point; after that, what happens to one never stops the others."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from ntxengine.attach import Attachers
from ntxengine.capture.gathering import Gathering, check_together
from ntxengine.capture.options import CaptureOptions
from ntxengine.capture.several import Outcome, outcomes
from ntxengine.capture.workflow import capture
from ntxengine.errors import Cancelled
from ntxengine.events import OnEvent, log_event
from ntxengine.prism.cluster import Prism
from ntxengine.prism.models import Vm
from ntxengine.repository import Point, Repository


async def capture_together(
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
    """Freeze `vms` by one recovery point, then capture each, at most `at_once` of them at a time.

    Before the recovery point is made all must succeed, or none is captured; after it each is on its own.  A VM whose
    captured disks turn out to lie on damage is not captured anew: that would be another moment.  Else as
    capture_several.
    Errors: OptionsError (fewer than two; what no recovery point can hold); no errors of a VM's own.
    """
    check_together(prism, vms)
    at_once = max(1, min(at_once, len(vms)))
    shared = dataclasses.replace(options, captures_at_once=at_once)
    gathering = Gathering(prism, vms, shared, at_once=at_once)

    async def capture_one(vm: Vm) -> Point:
        try:
            return await capture(
                prism, repository, vm, options=shared, attacher=attacher, on_event=on_event, gathering=gathering
            )
        except Cancelled:
            raise
        except Exception as error:
            # Whatever it is: the others must not wait for this one for ever.
            gathering.fail(vm, error)
            raise

    return await outcomes(vms, capture_one, at_once=len(vms), on_outcome=on_outcome)
