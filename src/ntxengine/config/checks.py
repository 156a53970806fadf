"""What has to fit together in a configuration whose values are right by themselves."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise

from cronsim import CronSim

from ntxengine.capture import CaptureOptions
from ntxengine.config.document import Document
from ntxengine.config.file import Config
from ntxengine.config.jobs import Job
from ntxengine.config.kinds import KINDS, kind_of
from ntxengine.config.listening import MAX_SOCKET_PATH, TcpAddress, parse_listen
from ntxengine.config.meaning import capture_options, expiry_of, policy_of, reach
from ntxengine.config.part import Part
from ntxengine.config.problems import KeyPath, Problem
from ntxengine.config.sections import Backup, Nutanix
from ntxengine.dataplane.bandwidth import Bandwidth
from ntxengine.errors import OptionsError
from ntxengine.prism.reach import endpoints
from ntxengine.schedule.rules import check_jitter
from ntxengine.units import format_span, parse_span, parse_time_zone

_LONG_SECRET = 6

_RUNS_LOOKED_AT = 400
"""Of a cron: more than a year of daily ones."""


def check(config: Config, document: Document) -> list[Problem]:
    """Return what does not fit together; nothing that follows from a mistake which is told already."""
    found = [*_contradictions(config, (), document), *_clusters(config), *_backups(config), *_jobs(config)]
    found += _agent(config)
    return [
        Problem(each.path, document.hidden(each.path, each.message), document.mark(each.path), each.is_warning)
        for each in found
        if not _is_echo(each.path, document)
    ]


def _is_echo(path: KeyPath, document: Document) -> bool:
    """Say whether something at, in or above a place is wrong already: what is missing there may be that.

    What a job or a profile does not say itself comes from the section of all.
    """
    places = [path]
    if path[0] == "profiles" and len(path) == 3:
        places.append(path[2:])
    elif path[0] == "jobs" and len(path) == 2:
        places.append(("backup",))
    return any(
        broken[: len(each)] == each or each[: len(broken)] == broken for broken in document.broken for each in places
    )


def _contradictions(part: Part, path: KeyPath, document: Document) -> Iterator[Problem]:
    """Keys of which one at most may be given."""
    for group in part.either:
        given = sorted(part.given(group), key=lambda name: document.mark((*path, name)).line)
        if len(given) > 1:
            first, second = given[:2]
            yield Problem((*path, second), f"contradicts {first}: give one of them")
    for name, value in part:
        if isinstance(value, Part):
            yield from _contradictions(value, (*path, name), document)
        elif isinstance(value, tuple):
            for number, each in enumerate(value):
                if isinstance(each, Part):
                    yield from _contradictions(each, (*path, name, number), document)
        elif isinstance(value, dict):
            for key, each in value.items():
                yield from _contradictions(each, (*path, name, key), document)


# ------------------------------------------------------------------------------------------------------ the cluster


def _clusters(config: Config) -> Iterator[Problem]:
    """Of the file itself, where it names a cluster or has jobs; and of each profile that changes something there."""
    if config.jobs or config.nutanix.model_fields_set:
        is_complete = bool(config.jobs) or not config.profiles
        yield from _cluster(config.nutanix, ("nutanix",), is_complete=is_complete)
    for name, profile in config.profiles.items():
        if profile.nutanix.model_fields_set:
            path = ("profiles", name, "nutanix")
            yield from _cluster(config.nutanix.overlaid(profile.nutanix), path, is_complete=True)


def _cluster(nutanix: Nutanix, path: KeyPath, *, is_complete: bool) -> Iterator[Problem]:
    has_address = nutanix.prism_central is not None or nutanix.prism_element is not None
    has_user = nutanix.username is not None or nutanix.auth not in ("local", "ad")
    if is_complete or (has_address and has_user):
        try:
            login = endpoints(reach(nutanix), lambda _: "none")
            if nutanix.auth == "api_key" and login.central is None:
                yield Problem(path, "an API key is for v4 only: name a prism_central, and no api: v3")
        except OptionsError as exc:
            yield Problem(path, str(exc))
    if nutanix.auth != "api_key":
        for key in nutanix.given(("api_key", "api_key_file")):
            yield Problem((*path, key), f"is not used: auth is {nutanix.auth}", is_warning=True)
    else:
        for key in nutanix.given(("password", "password_file")):
            yield Problem((*path, key), "is not used: auth is api_key", is_warning=True)
    for key, is_set in (("insecure", nutanix.insecure), ("element_insecure", nutanix.element_insecure)):
        if is_set:
            text = "anybody between here and Prism can read the password and change the answers"
            yield Problem((*path, key), text, is_warning=True)
    if nutanix.prism_element is None or nutanix.prism_central is None:
        for key in nutanix.given(("element_username", "element_password", "element_password_file")):
            yield Problem((*path, key), "is for a prism_element beside a prism_central", is_warning=True)
    if nutanix.trust_file is not None and not nutanix.trust_on_first_use:
        yield Problem((*path, "trust_file"), "is not used without trust_on_first_use", is_warning=True)


# --------------------------------------------------------------------------------------------------------- captures


def _backups(config: Config) -> Iterator[Problem]:
    usual = _refusal(config.backup)
    if usual:
        yield Problem(("backup",), usual)
    for name, profile in config.profiles.items():
        message = _refusal(config.backup.overlaid(profile.backup))
        if message and message != usual:
            yield Problem(("profiles", name, "backup"), message)
    for number, job in enumerate(config.jobs):
        message = _refusal(config.backup_of(job))
        if message and message != usual:
            yield Problem(("jobs", number), message)


def _refusal(backup: Backup) -> str:
    """Return why nothing could be captured so, "" if it could."""
    try:
        options: CaptureOptions = capture_options(backup, Bandwidth(0))
    except OptionsError as exc:
        return str(exc)
    assert options.expiry
    return ""


# ------------------------------------------------------------------------------------------------------------- jobs


def _jobs(config: Config) -> Iterator[Problem]:
    names: dict[str, int] = {}
    for number, job in enumerate(config.jobs):
        path = ("jobs", number)
        if (first := names.setdefault(job.name, number)) != number:
            yield Problem((*path, "name"), f"jobs[{first}] has the name {job.name}, too")
        if not job.given(("every", "cron")):
            yield Problem(path, "never runs: give every or cron")
        if not (job.vms or job.categories or job.clusters):
            yield Problem(path, 'chooses no VMs: give vms, categories or clusters; vms: ["*"] are all')
        yield from KINDS[kind_of(job)].check(config, number)
        yield from _retention(job, path)
        yield from _times(job, config.backup_of(job), path)
        yield from _hooks(job, config.nutanix, path)


def _hooks(job: Job, nutanix: Nutanix, path: KeyPath) -> Iterator[Problem]:
    given = {
        "password": nutanix.password,
        "api_key": nutanix.api_key,
        "element_password": nutanix.element_password,
    }
    secrets = {name: value.get_secret_value() for name, value in given.items() if value is not None}
    hooks = {"start": job.hooks.start, "success": job.hooks.success, "failure": job.hooks.failure}
    for event, arguments in hooks.items():
        for argument in arguments or ():
            for name, secret in secrets.items():
                # A short one may be part of any word.
                if secret == argument or (len(secret) >= _LONG_SECRET and secret in argument):
                    text = f"holds nutanix.{name}: everybody on this machine can read the arguments of a program"
                    yield Problem((*path, "hooks", event), text)


def _retention(job: Job, path: KeyPath) -> Iterator[Problem]:
    if job.retention is None:
        return
    try:
        policy_of(job.retention, job.timezone)
    except OptionsError:
        text = "keeps nothing: give keep_last, keep_daily or another rule, or leave retention out to keep all"
        yield Problem((*path, "retention"), text)


def _times(job: Job, backup: Backup, path: KeyPath) -> Iterator[Problem]:
    every = None if job.every is None else parse_span(job.every)
    if job.jitter is not None:
        try:
            check_jitter(parse_span(job.jitter), every)
        except OptionsError as exc:
            yield Problem((*path, "jitter"), str(exc))
    if job.given(("every", "cron")) == ["every", "cron"]:
        return
    longest = every if every is not None else _longest_wait(job)
    if longest is None:
        return
    expiry = expiry_of(backup)
    if expiry <= longest:
        text = (
            f"the cluster keeps our recovery point for {format_span(expiry)}, and the next run is "
            f"{format_span(longest)} later: each would find its reference gone, and read everything"
        )
        key = next(iter(job.given(("snapshot_retention_hours", "keep_recovery_point", "every", "cron"))), "name")
        yield Problem((*path, key), text, is_warning=True)
    if job.objective is not None and parse_span(job.objective) < longest:
        text = f"{job.objective} cannot be kept: runs are {format_span(longest)} apart"
        yield Problem((*path, "objective"), text, is_warning=True)


def _longest_wait(job: Job) -> timedelta | None:
    """Return the longest time between two runs by cron."""
    if job.cron is None:
        return None
    begin = datetime(2026, 1, 1, tzinfo=UTC).astimezone(parse_time_zone(job.timezone))
    times = [each.astimezone(UTC) for each in islice(CronSim(job.cron, begin), _RUNS_LOOKED_AT)]
    return max((later - earlier for earlier, later in pairwise(times)), default=None)


# -------------------------------------------------------------------------------------------------------- the agent


def _agent(config: Config) -> Iterator[Problem]:
    metrics = config.agent.metrics
    address = None if metrics.listen is None else parse_listen(metrics.listen)
    if isinstance(address, TcpAddress) and not address.is_local and metrics.token_file is None:
        text = f"whoever reaches {metrics.listen} can read the names of VMs: give token_file, or listen on 127.0.0.1"
        yield Problem(("agent", "metrics", "listen"), text)
    for key, name in (("socket", config.agent.socket), ("metrics.listen", metrics.listen or "")):
        if name.startswith("/") and len(os.fsencode(name)) > MAX_SOCKET_PATH:
            text = f"is too long for a unix socket: {len(os.fsencode(name))} bytes, {MAX_SOCKET_PATH} at most"
            yield Problem(("agent", *key.split(".")), text)
    if int(config.agent.socket_mode, 8) & 0o002:
        text = f"{config.agent.socket_mode} lets every user of this machine pause jobs and begin runs"
        yield Problem(("agent", "socket_mode"), text, is_warning=True)
