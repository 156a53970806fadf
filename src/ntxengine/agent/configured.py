"""From the file of configuration to what the agent is told: jobs, limits, connection, their work."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path

from ntxengine import prism
from ntxengine.agent.connection import Connection
from ntxengine.agent.hooks import Hooks
from ntxengine.agent.inventory import Choice, PrismInventory
from ntxengine.agent.jobs import Job, Setup
from ntxengine.agent.listening import Places
from ntxengine.agent.pings import Pings
from ntxengine.agent.queue import Limits
from ntxengine.agent.retries import LoginUnknown, Retries
from ntxengine.agent.runner import WorkRunner
from ntxengine.agent.service import Built
from ntxengine.agent.sockets import Access
from ntxengine.agent.state import State
from ntxengine.agent.work import Work
from ntxengine.agent.works import work_of
from ntxengine.config import jobs as configured
from ntxengine.config import meaning
from ntxengine.config.file import Config
from ntxengine.config.secrets import required_secret
from ntxengine.dataplane.bandwidth import Bandwidth
from ntxengine.dataplane.memory import MemoryBudget
from ntxengine.errors import OptionsError
from ntxengine.prism import Cluster, Secret
from ntxengine.schedule.due import Schedule
from ntxengine.schedule.window import parse_window
from ntxengine.units import parse_share, parse_span, parse_time_zone

log = logging.getLogger(__name__)


class Builder:
    """What the service builds itself with: `read` is called at the start, and for each reload.

    Runs from before a reload and from after it share one limit on bandwidth and processors, while that is the same, and
    one budget of memory in any case: with another limit, it is of what begins from then on.
    """

    def __init__(self, read: Callable[[], Config]) -> None:
        self._read = read
        self._limit: Bandwidth | None = None
        self._limit_said: tuple[str, float | None] | None = None
        self._memory = MemoryBudget()

    def __call__(self, state: State) -> Built:
        """Errors: OptionsError."""
        config = self._read()
        said = meaning.rate_text(config.performance), meaning.cpu_share(config.performance)
        limit = self._limit if said == self._limit_said else None
        limit = limit or meaning.bandwidth(config.performance, self._memory)
        built = build(config, state, limit)
        self._limit, self._limit_said = limit, said  # only now: a bad file changes nothing
        self._memory.change(meaning.memory_bytes(config.performance))
        return built


def build(config: Config, state: State, limit: Bandwidth | None = None) -> Built:
    """Return what a configuration means; runs keep to `limit`, or to one of their own.  Errors: OptionsError."""
    if not config.jobs:
        raise OptionsError("the configuration has no jobs: what is to be captured or replicated, and when?")
    read_secret = partial(required_secret, config.nutanix)
    meaning.login(config, read_secret)  # what is missing is said now

    async def connect() -> Cluster:
        # The secrets are read each time: a password that was changed in its file is the new one.
        try:
            login = meaning.login(config, read_secret)
            return await prism.connect(login.central, login.element)
        except OptionsError as exc:  # it was right at the start: a file is being replaced, or its folder is not mounted
            raise LoginUnknown(str(exc)) from exc

    connection = Connection(connect)
    shared = limit or meaning.bandwidth(config.performance)
    at_once = config.performance.max_concurrent_vms
    works = {each.name: work_of(config, each, shared) for each in config.jobs}
    setup = Setup(
        tuple(_job(each, works[each.name]) for each in config.jobs),
        PrismInventory(connection, {each.name: _choice(config, each) for each in config.jobs}),
        WorkRunner(connection, works, state, at_once=at_once),
        _limits(config),
    )
    return Built(
        setup,
        connection,
        works,
        shared,
        meaning.rate_text(config.performance),
        recovery_point_limit=parse_share(config.agent.recovery_point_limit),
        places=_places(config),
    )


def _places(config: Config) -> Places:
    agent, metrics = config.agent, config.agent.metrics
    return Places(
        Path(agent.socket),
        Access(int(agent.socket_mode, 8), agent.socket_group),
        metrics.listen or "",
        None if metrics.token_file is None else Path(metrics.token_file),
    )


def _job(job: configured.Job, work: Work) -> Job:
    return Job(
        job.name,
        schedule_of(job),
        target=work.target,
        priority=job.priority,
        timeout=None if job.timeout is None else parse_span(job.timeout),
        retries=_retries(job.retries),
        hooks=_hooks(job.hooks),
        pings=_pings(job.pings),
        objective=None if job.objective is None else parse_span(job.objective),
        kind=work.kind,
    )


def schedule_of(job: configured.Job) -> Schedule:
    """Return when a job is due.  Errors: OptionsError (it says neither `every` nor `cron`)."""
    if job.every is None and job.cron is None:
        raise OptionsError(f"job {job.name!r} does not say when: give every or cron")
    return Schedule(
        every=None if job.every is None else parse_span(job.every),
        cron=job.cron or "",
        zone=parse_time_zone(job.timezone),
        windows=tuple(parse_window(each) for each in job.windows),
        jitter=timedelta(0) if job.jitter is None else parse_span(job.jitter),
        missed=job.missed,
        spread=job.spread,
    )


def _retries(retries: configured.Retries) -> Retries:
    first = parse_span(retries.backoff)
    return Retries(
        attempts=retries.attempts,
        first=first,
        longest=max(first, Retries().longest),
        budget=parse_span(retries.budget),
    )


def _hooks(hooks: configured.Hooks) -> Hooks:
    return Hooks(hooks.start or (), hooks.success or (), hooks.failure or (), parse_span(hooks.timeout).total_seconds())


def _pings(pings: configured.Pings) -> Pings:
    start, success, failure = (
        None if url is None else Secret(url.get_secret_value()) for url in (pings.start, pings.success, pings.failure)
    )
    return Pings(start, success, failure)


def _limits(config: Config) -> Limits:
    limits = config.performance.limits
    return Limits(
        total=config.performance.max_concurrent_vms,
        per_cluster=limits.per_cluster,
        per_host=limits.per_host,
        per_container=limits.per_container,
        per_target=limits.per_target,
    )


def _choice(config: Config, job: configured.Job) -> Choice:
    """Return which VMs a job has; only those of the one cluster that the file names, if it names one."""
    return Choice(
        job.vms,
        job.exclude,
        job.categories,
        job.clusters,
        worker=config.backup_of(job).worker or "",
        within=config.nutanix.cluster_uuid or "",
    )
