"""What a shell completes besides commands and options: VMs, points, suites, files.

Quickly and silently, from this machine alone: nobody expects the Tab key to log in to a cluster, and an account that is
locked after some wrong passwords would be.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from ntxengine.repository import Point

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]

_HARMLESS = re.compile(r"[\w.:@+-]+")
"""A name that a shell takes as it is.  Whoever names a VM `$(reboot)` must not get it typed by others."""


def _silent(found: Callable[[click.Context], Iterator[CompletionItem]]) -> Completer:
    """Offer those of `found` that begin with what was typed; nothing if they cannot be had, whatever the reason."""

    @functools.wraps(found)
    def complete(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
        logging.disable(logging.CRITICAL)
        try:
            return [item for item in found(ctx) if item.value.startswith(incomplete)]
        except Exception:
            logging.debug("nothing to complete with", exc_info=True)
            return []
        finally:
            logging.disable(logging.NOTSET)

    return complete


@_silent
def vms(ctx: click.Context) -> Iterator[CompletionItem]:
    """Offer the VMs that the repository has points of."""
    return _vm_items(_points(ctx))


@_silent
def clusters(_: click.Context) -> Iterator[CompletionItem]:
    """Offer the clusters that points of the repository in the environment were captured on."""
    repository = os.environ.get("NTX_REPOSITORY", "")
    clusters = [point.report.cluster for point in _points_of(repository)] if repository else []
    names = {cluster.cluster_name: cluster.cluster_id for cluster in clusters if cluster is not None}
    for name, cluster_id in names.items():
        if _HARMLESS.fullmatch(name):
            yield CompletionItem(name, help=cluster_id)


@_silent
def points(ctx: click.Context) -> Iterator[CompletionItem]:
    """Offer points by id, and the VMs, whose newest point is meant by their name."""
    found = _points(ctx)
    yield from _vm_items(found)
    for point in found:
        yield CompletionItem(point.id, help=f"{point.kind} of {point.vm_id}")


@_silent
def suites(_: click.Context) -> Iterator[CompletionItem]:
    """Offer the suites of `ntx bench`."""
    from ntxengine.bench.suite import suite_names

    yield from map(CompletionItem, suite_names())


def files(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Let the shell offer files: SOURCE and TARGET may be more than paths, so that click does not know."""
    return [CompletionItem(incomplete, type="file")]


def _vm_items(found: list[Point]) -> Iterator[CompletionItem]:
    """Offer each VM by name, or by its UUID where the name is not unique or not harmless."""
    names = {point.vm_id: point.vm_name for point in found}
    count = Counter(names.values())
    for vm_id, name in names.items():
        if count[name] == 1 and _HARMLESS.fullmatch(name):
            yield CompletionItem(name, help=vm_id)
        else:
            yield CompletionItem(vm_id)


def _points(ctx: click.Context) -> list[Point]:
    return _points_of(ctx.params["repository"])


def _points_of(repository: Any) -> list[Point]:
    from ntxengine.repository import Repository

    async def found() -> list[Point]:
        return await (await Repository.open(repository)).points()

    return asyncio.run(found())
