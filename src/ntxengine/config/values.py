"""What a value of the configuration may be: texts that stay as they were written, and are known to mean something.

Each is checked by the function that other parts of the program take the same text with.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationInfo, WithJsonSchema

from ntxengine.api.inventory import VmFilter
from ntxengine.attach import source_names
from ntxengine.capture import parse_audit
from ntxengine.config.listening import parse_listen
from ntxengine.config.problems import nearest
from ntxengine.dataplane.cpu import parse_cpu_limit
from ntxengine.dataplane.location import check_path
from ntxengine.dataplane.tier import Tier, tier_of
from ntxengine.dataplane.timetable import parse_timetable
from ntxengine.errors import OptionsError
from ntxengine.ids import is_uuid
from ntxengine.images.choice import zstd_level_of
from ntxengine.prism import check_url, check_username
from ntxengine.prism.http.trust import check_fingerprint
from ntxengine.repository import checked_tag
from ntxengine.schedule.rules import check_cron, check_every
from ntxengine.schedule.window import parse_window
from ntxengine.tunnel.options import SshLogin
from ntxengine.units import (
    MAX_TIMEOUT_S,
    parse_expiry,
    parse_memory_limit,
    parse_share,
    parse_size,
    parse_span,
    parse_time_zone,
)

_SECONDS = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?")
_MODE = re.compile(r"0?[0-7]{3}")
_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,62}[A-Za-z0-9_])?", re.ASCII)
_MEMBER = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,31}", re.ASCII)


def _checked(check: Callable[[str], object]) -> AfterValidator:
    """Return what lets a text pass that `check` takes; its OptionsError becomes the mistake."""

    def validate(text: str) -> str:
        try:
            check(text)
        except OptionsError as exc:
            raise ValueError(str(exc)) from exc
        return text

    return AfterValidator(validate)


def _filled(text: str) -> None:
    if not text.strip():
        raise OptionsError("is empty: say what it is, or leave the key out")


def number_or_text(description: str) -> WithJsonSchema:
    """Return the schema of a text that an editor may take for a number."""
    return WithJsonSchema({"type": ["string", "number"], "description": description})


def prism_url(text: str) -> str:
    """Return the address of a Prism as a URL.  Errors: OptionsError."""
    url = text if "://" in text else f"https://{text}"
    check_url(url)
    return url


def _path(text: str, info: ValidationInfo) -> str:
    """A relative path begins at the folder of the file: whoever starts an agent does it from anywhere."""
    try:
        check_path(text)
    except OptionsError as exc:
        raise ValueError(str(exc)) from exc
    folder = info.context.get("folder") if isinstance(info.context, dict) else None
    return text if folder is None else str(Path(folder) / text)


def program(argv: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
    """Return the arguments of a program: its own path, if it is one, begins at the folder of the file."""
    return (_path(argv[0], info), *argv[1:]) if "/" in argv[0] else argv


def seconds(value: Any) -> Any:
    """Return seconds of a number, or of a time such as `5m`."""
    if not isinstance(value, str) or _SECONDS.fullmatch(value.strip()):
        return value
    try:
        return parse_span(value).total_seconds()
    except OptionsError as exc:
        raise ValueError(f"{value!r} is not a time: write seconds, or such as 90s, 5m or 1h") from exc


def _every(text: str) -> None:
    check_every(parse_span(text))


def _source(text: str) -> None:
    if text not in source_names():
        raise OptionsError(f"{text!r} is no way to the disks{nearest(text, source_names())}")


def _tier(text: str) -> None:
    if tier_of(text) is None:
        raise OptionsError(f"{text!r} is no tier{nearest(text, [each.name for each in Tier])}")


def _category(text: str) -> None:
    VmFilter(categories=(text,))


def _uuid(text: str) -> None:
    if not is_uuid(text):
        raise OptionsError(f"{text[:80]!r} is not a UUID")


def _size(text: str) -> None:
    if parse_size(text) <= 0:
        raise OptionsError(f"{text!r} is nothing: write a size such as 512M")


def _some_share(text: str) -> None:
    if parse_share(text) <= 0:
        raise OptionsError(f"{text!r} is nothing: write a share such as 5%")


def _mode(text: str) -> None:
    if not _MODE.fullmatch(text):
        raise OptionsError(f"{text!r} is not a mode: write three octal digits, such as 0660")


def _name(text: str) -> None:
    if not _NAME.fullmatch(text):
        raise OptionsError(f"{text[:80]!r} is no name: letters, digits and ._- only, 64 at most")


def _group(text: str) -> None:
    if not (_MEMBER.fullmatch(text) or (text.isascii() and text.isdigit() and len(text) < 10)):
        raise OptionsError(f"{text[:80]!r} is no group of this system")


def _ping(value: SecretStr) -> SecretStr:
    try:
        parts = urlsplit(value.get_secret_value())
        is_good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_good = False
    if not is_good:  # not repeated: whoever knows such a URL can use it
        raise ValueError("is not a URL: write https://HOST/...")
    return value


def _some_secret(value: SecretStr) -> SecretStr:
    if not value.get_secret_value():
        raise ValueError("is empty")
    return value


def _fingerprint(text: str) -> None:
    check_fingerprint(text)


def _host(text: str) -> None:
    SshLogin(text)


def _user(text: str) -> None:
    SshLogin("host", user=text)


Text = Annotated[str, _checked(_filled)]
Name = Annotated[str, _checked(_name)]
LocalPath = Annotated[str, AfterValidator(_path)]
PrismAddress = Annotated[str, _checked(prism_url)]
Username = Annotated[str, _checked(check_username)]
Fingerprint = Annotated[str, _checked(_fingerprint)]
Uuid = Annotated[str, _checked(_uuid)]
Span = Annotated[str, _checked(parse_span)]
Every = Annotated[str, _checked(_every)]
CronText = Annotated[str, _checked(check_cron)]
WindowText = Annotated[str, _checked(parse_window)]
Expiry = Annotated[str, _checked(parse_expiry)]
Rate = Annotated[str, _checked(parse_timetable), number_or_text("bytes per second, or a timetable")]
Size = Annotated[str, _checked(_size), number_or_text("bytes, or such as 512M")]
SizeOrNone = Annotated[str, _checked(parse_size), number_or_text("bytes, or such as 512M; 0: nothing")]
Share = Annotated[str, _checked(_some_share)]
MemoryLimit = Annotated[str, _checked(parse_memory_limit), number_or_text("bytes, or such as 512M")]
CpuLimit = Annotated[str, _checked(parse_cpu_limit)]
Waste = Annotated[str, _checked(parse_share)]
AuditAmount = Annotated[str, _checked(parse_audit)]
Compression = Annotated[str, _checked(zstd_level_of)]
Source = Annotated[str, _checked(_source)]
TierName = Annotated[str, _checked(_tier)]
Category = Annotated[str, _checked(_category)]
Tag = Annotated[str, _checked(checked_tag)]
Zone = Annotated[str, _checked(parse_time_zone)]
Mode = Annotated[str, _checked(_mode), number_or_text("octal digits, such as 0660")]
Group = Annotated[str, _checked(_group), number_or_text("a group, by name or number")]
Listen = Annotated[str, _checked(parse_listen)]
SshHost = Annotated[str, _checked(_host)]
SshUser = Annotated[str, _checked(_user)]
SecretText = Annotated[SecretStr, AfterValidator(_some_secret)]
PingUrl = Annotated[SecretStr, AfterValidator(_ping)]
Seconds = Annotated[
    float,
    BeforeValidator(seconds),
    Field(gt=0, le=MAX_TIMEOUT_S),
    number_or_text("seconds, or such as 5m"),
]
"""A time limit."""
