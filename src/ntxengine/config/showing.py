"""What a configuration comes to: every value that holds, with defaults and without secrets; and its schema."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from typing import Any

import yaml
from pydantic import SecretStr

from ntxengine.attach import DEVICE_DIR
from ntxengine.capture import DEFAULT_EXPIRY
from ntxengine.config.file import Config, Profile
from ntxengine.config.jobs import Job
from ntxengine.config.meaning import rate_text, zstd_level
from ntxengine.config.part import Part
from ntxengine.config.problems import KeyPath
from ntxengine.config.reading import Loaded
from ntxengine.config.sections import Backup, Performance
from ntxengine.retention.policy import duration_text

HIDDEN = "***"

Origin = Callable[[str], KeyPath]
"""Where the value of a key comes from."""


def effective(loaded: Loaded, profile: str | None = None) -> dict[str, Any]:
    """Return every section with the values that hold, under a profile.

    A secret is `***`; a text with variables is as it stands in the file, since a variable may hold a secret.  A job has
    its keys of `backup`, whether they are its own or those of all.
    Errors: OptionsError, if there is no such profile.
    """
    config = loaded.config.with_profile(profile)
    over = None if profile is None else loaded.config.profiles[profile]
    found: dict[str, Any] = {}
    for name, part in (
        ("nutanix", config.nutanix),
        ("backup", config.backup),
        ("performance", config.performance),
        ("tunnel", config.tunnel),
        ("agent", config.agent),
    ):
        found[name] = _shown_part(part, _origin(name, over, profile), loaded)
    found["jobs"] = [_shown_job(config, number, over, profile, loaded) for number in range(len(config.jobs))]
    found["profiles"] = sorted(config.profiles)
    return found


def as_yaml(found: dict[str, Any]) -> str:
    """Return it as a person reads it."""
    return str(yaml.safe_dump(found, sort_keys=False, allow_unicode=False, width=100, default_flow_style=False))


def schema() -> dict[str, Any]:
    """Return the JSON Schema of the file, for editors and other programs."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Config.model_json_schema(),
        "title": "Configuration of ntx",
    }


def example() -> str:
    """Return a commented file to begin with."""
    return resources.files("ntxengine.config").joinpath("example.yaml").read_text(encoding="utf-8")


def _origin(section: str, over: Profile | None, profile: str | None) -> Origin:
    own: set[str] = set()
    if over is not None and section in Profile.model_fields:
        own = dict(over)[section].model_fields_set
    return lambda key: ("profiles", str(profile), section, key) if key in own else (section, key)


def _shown_job(config: Config, number: int, over: Profile | None, profile: str | None, loaded: Loaded) -> Any:
    job: Job = config.jobs[number]
    usual = _origin("backup", over, profile)
    shown = {key: _shown(value, ("jobs", number, key), loaded) for key, value in job if key not in Backup.model_fields}
    return shown | _shown_part(
        config.backup_of(job),
        lambda key: ("jobs", number, key) if key in job.model_fields_set else usual(key),
        loaded,
    )


def _shown_part(part: Part, origin: Origin, loaded: Loaded) -> dict[str, Any]:
    shown = {key: _shown(value, origin(key), loaded) for key, value in part}
    return shown | {key: usual for key, usual in _unsaid(part).items() if shown[key] is None}


def _unsaid(part: Part) -> dict[str, object]:
    """Return what holds where nothing is said, of keys that have another name for the same."""
    if isinstance(part, Backup):
        is_unsaid = part.snapshot_retention_hours is None
        expiry = {"keep_recovery_point": duration_text(DEFAULT_EXPIRY)} if is_unsaid else {}
        return {**expiry, "zstd_level": zstd_level(part), "device_dir": str(DEVICE_DIR)}
    return {"bandwidth": rate_text(part)} if isinstance(part, Performance) else {}


def _shown(value: Any, path: KeyPath, loaded: Loaded) -> Any:
    if isinstance(value, SecretStr):
        return HIDDEN
    if path in loaded.document.raw:
        return loaded.document.raw[path]
    if isinstance(value, Part):
        return _shown_part(value, lambda key: (*path, key), loaded)
    if isinstance(value, tuple):
        return [_shown(each, (*path, number), loaded) for number, each in enumerate(value)]
    return value
