"""What a value on the command line may be: sizes, rates, seconds, tiers, texts that are not empty, the address and the
user of a Prism.

What is a text is a StringParamType: of those a message names the NTX_* variable (variables.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import click
from click.shell_completion import CompletionItem

from ntxengine import units
from ntxengine.dataplane.cpu import parse_cpu_limit
from ntxengine.dataplane.tier import Tier, tier_of
from ntxengine.dataplane.timetable import Timetable, parse_timetable
from ntxengine.errors import OptionsError


class Size(click.ParamType[int]):
    """Bytes, written as `64KiB`, `1G`, `4096`."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        with failing_with(self, param, ctx):
            return units.parse_size(str(value))


class Bandwidth(click.ParamType[Timetable]):
    """Bytes per second, written as `500M`, or as a timetable: `08:00,50M 19:00,off`."""

    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Timetable:
        if isinstance(value, Timetable):
            return value
        with failing_with(self, param, ctx):
            return parse_timetable(str(value))


class CpuLimit(click.ParamType[float]):
    """A part of this machine, written as `5%`."""

    name = "percent"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        with failing_with(self, param, ctx):
            return parse_cpu_limit(str(value))


class MemoryLimit(click.ParamType[int]):
    """Bytes of memory, written as `512M`."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        with failing_with(self, param, ctx):
            return units.parse_memory_limit(str(value))


class Seconds(click.ParamType[float]):
    """A time limit: more than nothing, and no longer than anybody waits."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            seconds = float(value)
        except ValueError:
            self.fail(f"{value!r} is not a number of seconds", param, ctx)
        if not 0 < seconds <= units.MAX_TIMEOUT_S:
            self.fail(f"{value} is not more than 0 and at most {units.MAX_TIMEOUT_S} seconds", param, ctx)
        return seconds


class SecondsUpTo(click.FloatRange):
    """Seconds within limits; `nan`, which is within any, is refused."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        seconds = super().convert(value, param, ctx)
        if math.isnan(seconds):
            self.fail(f"{value} is not in the range {self._describe_range()}.", param, ctx)
        return seconds


class Compression(click.ParamType[int]):
    """A level of zstd, written as `zstd` or `zstd:LEVEL`."""

    name = "compression"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        from ntxengine.images.choice import zstd_level_of

        with failing_with(self, param, ctx):
            return zstd_level_of(str(value))


class Expiry(click.ParamType[timedelta]):
    """A time to live: `36h`, `7d`."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        with failing_with(self, param, ctx):
            return units.parse_expiry(str(value))


class TierName(click.ParamType[Tier]):
    """A storage tier, by our name or by any that Prism has for it."""

    name = "tier"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Tier:
        tier = value if isinstance(value, Tier) else tier_of(str(value))
        if tier is None:
            known = ", ".join(each.name for each in Tier)
            self.fail(f"{value!r} is no tier: write {known}, or what Prism calls it, such as DAS-SATA", param, ctx)
        return tier

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(each.name) for each in Tier if each.name.startswith(incomplete.upper())]


class PrismUrl(click.types.StringParamType):
    """The address of a Prism, checked before anything is asked for."""

    name = "url"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from ntxengine.prism import check_url

        with failing_with(self, param, ctx):
            check_url(value)
        return str(value)


class Username(click.types.StringParamType):
    """The user of a Prism."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from ntxengine.prism import check_username

        with failing_with(self, param, ctx):
            check_username(value)
        return str(value)


class Given(click.types.StringParamType):
    """A text that is not empty: `--worker "$W"`, where a script forgot to set W, must not mean that nothing was said.

    An NTX_* variable that is empty is none: click passes over it.
    """

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not str(value).strip():
            self.fail("it is empty: leave the option out, or say what it is", param, ctx)
        return str(value)


class Fingerprint(click.types.StringParamType):
    """The SHA-256 of a certificate, however it is written."""

    name = "sha256"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from ntxengine.prism.http.trust import check_fingerprint

        with failing_with(self, param, ctx):
            return check_fingerprint(value)


@contextmanager
def failing_with(
    kind: click.ParamType[Any], param: click.Parameter | None, ctx: click.Context | None
) -> Iterator[None]:
    """Turn an OptionsError into one about the value of `param`."""
    try:
        yield
    except OptionsError as exc:
        kind.fail(str(exc), param, ctx)


SIZE = Size()
BANDWIDTH = Bandwidth()
CPU_LIMIT = CpuLimit()
MEMORY_LIMIT = MemoryLimit()
SECONDS = Seconds()
COMPRESSION = Compression()
EXPIRY = Expiry()
TIER = TierName()
FINGERPRINT = Fingerprint()
