"""The kinds of work that there are, by what the configuration calls them: a new one adds a file, and a row."""

from __future__ import annotations

from collections.abc import Callable

from ntxengine.agent.capturing import CaptureJob
from ntxengine.agent.replicating import ReplicateJob
from ntxengine.agent.work import Work
from ntxengine.config.file import Config
from ntxengine.config.jobs import Job
from ntxengine.config.kinds import kind_of
from ntxengine.dataplane.bandwidth import Bandwidth

WORKS: dict[str, Callable[[Config, Job, Bandwidth], Work]] = {
    CaptureJob.kind.name: CaptureJob.of,
    ReplicateJob.kind.name: ReplicateJob.of,
}


def work_of(config: Config, job: Job, limit: Bandwidth) -> Work:
    """Return what a job of the configuration means; it keeps to `limit`.  Errors: OptionsError."""
    return WORKS[kind_of(job)](config, job, limit)
