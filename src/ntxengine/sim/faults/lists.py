"""A list that a cluster does not give as it was asked for.

| kind            | the list                                                                       |
|-----------------|--------------------------------------------------------------------------------|
| `ignore_filter` | has everything, whatever is filtered for                                        |
| `refuse_filter` | is refused if it is filtered                                                    |
| `ignore_order`  | comes in the order that the server likes                                        |
| `refuse_order`  | is refused if an order is asked for                                             |
| `vanish`        | has lost its first `value` entities: with `after: 1`, between two pages         |
| `replace`       | the same, and as many new ones are at its end: the total does not move          |
| `page_cap`      | has at most `value` entities a page                                             |
| `no_total`      | does not say how many there are                                                 |
| `more_total`    | says `value` more than there are                                                |
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ntxengine.errors import OptionsError, PortableError
from ntxengine.sim.faults.requests import Requests

Json = dict[str, Any]


class ListRefused(PortableError):
    """The server does not do what was asked of the list."""


@dataclass
class Listing:
    """A list on its way out: what was asked for, and then what there is of it."""

    filter: str
    order_by: str
    length: int
    entities: list[Json]
    total: int | None = None


Asked = Callable[[Listing, "ListFault"], None]

ASKED_FAULTS: dict[str, Asked] = {}
"""What changes before entities are looked for."""

FOUND_FAULTS: dict[str, Asked] = {}
"""What changes once they are found and in order."""


@dataclass
class ListFault(Requests):
    """These lists are changed by `kind`."""

    kind: str = ""
    value: int = 1

    def check(self) -> None:
        """Raise OptionsError if there is no such kind."""
        if self.kind not in ASKED_FAULTS | FOUND_FAULTS:
            known = ", ".join(sorted(ASKED_FAULTS | FOUND_FAULTS))
            raise OptionsError(f"simulator: faults.lists: kind {self.kind!r} is not known; known are {known}")


def change(registry: dict[str, Asked], faults: list[ListFault], listing: Listing) -> None:
    """Let the faults of one registry change the list.  Raises ListRefused."""
    for fault in faults:
        fault.check()
        if fault.kind in registry:
            registry[fault.kind](listing, fault)


def _enter(registry: dict[str, Asked], name: str) -> Callable[[Asked], Asked]:
    def enter(changed: Asked) -> Asked:
        registry[name] = changed
        return changed

    return enter


@_enter(ASKED_FAULTS, "ignore_filter")
def _ignore_filter(listing: Listing, _fault: ListFault) -> None:
    listing.filter = ""


@_enter(ASKED_FAULTS, "refuse_filter")
def _refuse_filter(listing: Listing, _fault: ListFault) -> None:
    if listing.filter:
        raise ListRefused("this list cannot be filtered")


@_enter(ASKED_FAULTS, "ignore_order")
def _ignore_order(listing: Listing, _fault: ListFault) -> None:
    listing.order_by = ""


@_enter(ASKED_FAULTS, "refuse_order")
def _refuse_order(listing: Listing, _fault: ListFault) -> None:
    if listing.order_by:
        raise ListRefused("this list cannot be sorted")


@_enter(ASKED_FAULTS, "page_cap")
def _page_cap(listing: Listing, fault: ListFault) -> None:
    listing.length = min(listing.length, fault.value)


@_enter(FOUND_FAULTS, "vanish")
def _vanish(listing: Listing, fault: ListFault) -> None:
    del listing.entities[: fault.value]
    listing.total = len(listing.entities)


@_enter(FOUND_FAULTS, "replace")
def _replace(listing: Listing, fault: ListFault) -> None:
    gone = listing.entities[: fault.value]
    del listing.entities[: fault.value]
    listing.entities += [_another(entity, number) for number, entity in enumerate(gone)]


def _another(entity: Json, number: int) -> Json:
    """Return an entity like this one, of another id and a name that comes last."""
    new, name = str(uuid.UUID(int=number + 1)), f"~{number}"
    if "metadata" in entity:
        status = {**entity["status"], "name": name}
        return {**entity, "metadata": {**entity["metadata"], "uuid": new}, "status": status}
    return {**entity, "extId": new, "name": name}


@_enter(FOUND_FAULTS, "no_total")
def _no_total(listing: Listing, _fault: ListFault) -> None:
    listing.total = None


@_enter(FOUND_FAULTS, "more_total")
def _more_total(listing: Listing, fault: ListFault) -> None:
    listing.total = len(listing.entities) + fault.value
