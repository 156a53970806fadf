"""The first of several ways that can serve a VM: what AUTO comes to where the cluster leaves a choice.

Whether a way leads to the disks of a VM is known once that VM is looked at: its containers may not be exported to this
machine, it may be on another cluster than the worker VM.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ntxengine.attach.base import Attacher, Verdict
from ntxengine.errors import AttachError, NotFoundError
from ntxengine.prism.models import Vm


class FirstThatCan:
    """Asks one way after the other.  `others` says of ways that cannot be used at all why not."""

    def __init__(self, candidates: Sequence[Attacher], others: Sequence[str]) -> None:
        self.candidates = tuple(candidates)
        self._others = tuple(others)

    async def for_vm(self, vm: Vm, warn: Callable[[str], None]) -> Attacher:
        """Return the first that can; a warning says why those before it cannot."""
        reasons: list[str] = []
        for each in self.candidates:
            try:
                verdict = await each.can_serve_vm(vm)
            except (AttachError, NotFoundError) as error:  # what is not as it was told, not what may pass
                verdict = Verdict(str(error))
            if verdict:
                if reasons:
                    warn(f"VM {vm.name!r} is read by {each.title}: {'; '.join(reasons)}")
                return each
            reasons.append(f"{each.title}: {verdict.reason}")
        raise AttachError(f"no way to the disks of VM {vm.name!r} ({vm.id}): {'; '.join([*reasons, *self._others])}")
