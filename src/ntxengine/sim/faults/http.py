"""Another answer than the real one."""

from __future__ import annotations

from dataclasses import dataclass

from ntxengine.sim.faults.requests import Requests


@dataclass
class HttpFault(Requests):
    """These requests get this answer instead, or `delay_s` before the real one.

    `status` 0 only delays.  `plain` answers text, as an overloaded Prism does, else the error body of the family.
    `executed` does what is asked for all the same: only its answer is lost.
    """

    status: int = 0
    delay_s: float = 0
    plain: bool = False
    executed: bool = False
