"""A cluster that we are connected to: what to ask, and what was found out about it."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Self

from ntxengine.prism.findings import Findings
from ntxengine.prism.models import Prism


@dataclass(frozen=True)
class Cluster:
    """A context that closes its connections."""

    prism: Prism
    findings: Findings

    async def aclose(self) -> None:
        """Close the connections."""
        await self.prism.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
