"""Things out of a list: one that cannot be read hides none of the others."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeVar

import msgspec

from ntxengine.errors import PrismAnswerError
from ntxengine.prism.http.parse import decode
from ntxengine.prism.models import MAX_TOLD, OddVm, Vm, VmList
from ntxengine.prism.pages import Listed

T = TypeVar("T")

NameOf = Callable[[msgspec.Raw], str]

log = logging.getLogger(__name__)


async def each_vm(
    entities: AsyncIterable[Listed], read: Callable[[Listed], Awaitable[Vm]], name_of: NameOf
) -> AsyncIterator[Vm | OddVm]:
    """Yield the VMs that `read` can read, and what it says of the others, as they come."""
    async for listed in entities:
        try:
            yield await read(listed)
        except PrismAnswerError as exc:
            yield OddVm(listed.id, name_of(listed.raw), str(exc))


async def sorted_list(found: AsyncIterable[Vm | OddVm]) -> VmList:
    """Return all of them, sorted."""
    vms: list[Vm] = []
    odd: list[OddVm] = []
    async for vm in found:
        if isinstance(vm, Vm):
            vms.append(vm)
        else:
            odd.append(vm)
    return VmList(
        tuple(sorted(vms, key=lambda vm: (vm.name, vm.id))), tuple(sorted(odd, key=lambda vm: (vm.name, vm.id)))
    )


async def ids_named(entities: AsyncIterable[Listed], name: str, name_of: NameOf) -> list[str]:
    """Return the ids of the VMs of exactly this name, whatever a server makes of a filter; "" for one without an id."""
    return [listed.id async for listed in entities if name_of(listed.raw) == name]


async def these(raws: Sequence[msgspec.Raw], request: str) -> AsyncIterator[Listed]:
    """Yield the entities of a list that came in one answer."""
    for raw in raws:
        yield Listed("", raw, request)


async def readable(entities: AsyncIterable[Listed], kind: type[T], *, what: str, limit: int | None = None) -> list[T]:
    """Return the entities that are a `kind`, `limit` of them at most; of others one warning tells."""
    found: list[T] = []
    odd: list[str] = []
    async for listed in entities:
        if len(found) + len(odd) == limit:
            log.warning("more than %d times %s in a list: the rest is left out", limit, what)
            break
        try:
            found.append(decode(listed.raw, kind, request=f"{listed.request}: {what} {listed.id or 'without an id'}"))
        except PrismAnswerError as exc:
            odd.append(str(exc))
    if odd:
        more = f"; and {len(odd) - MAX_TOLD} more" if len(odd) > MAX_TOLD else ""
        log.warning("left out of a list: %s%s", "; ".join(odd[:MAX_TOLD]), more)
    return found
