"""The forms that answers and errors have in v2, v3 and v4."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from ntxengine.errors import PortableError

Json = dict[str, Any]
PathFamily = Literal["v2", "v3", "v4"]

_V4_PATH = re.compile(r"/api/(?P<namespace>[a-z]+)/(?:v4\.\d+|unversioned)/")


class ApiError(PortableError):
    """An answer that says no.  `reason` is v3's reason, or v4's error group; `code` is v4's code."""

    def __init__(
        self, status: int, reason: str, message: str, *, code: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.code = code
        self.headers = dict(headers or {})


class SchemaError(ApiError):
    """The request does not fit the schema; `place` is where."""

    def __init__(self, message: str, *, place: str = "", status: int = 400) -> None:
        super().__init__(status, "INVALID_REQUEST", message)
        self.place = place


def family_of(path: str) -> PathFamily:
    """Return the API family that a path belongs to."""
    if _V4_PATH.match(path):
        return "v4"
    return "v3" if path.startswith("/api/nutanix/v3") else "v2"


def namespace_of(path: str) -> str:
    """Return the v4 name space of a path."""
    found = _V4_PATH.match(path)
    return found["namespace"] if found else "prism"


def error_body(family: PathFamily, path: str, error: ApiError) -> Json:
    """Return the body of an error as its family writes it."""
    if family == "v4":
        return _v4_error(namespace_of(path), path, error)
    if family == "v3":
        return {
            "api_version": "3.1",
            "code": error.status,
            "message_list": [{"message": error.message, "reason": error.reason}],
            "state": "ERROR",
        }
    return {
        "error_code": {"code": error.status, "help_url": "http://my.nutanix.com"},
        "message": error.message,
        "detailed_message": None,
    }


_CODES = {"dataprotection": "DP", "vmm": "VMM", "volumes": "VOL", "clustermgmt": "CLU", "prism": "PRI"}


def _v4_error(namespace: str, path: str, error: ApiError) -> Json:
    kind = f"{namespace}.v4.error"
    content: Json = {"$objectType": f"{kind}.ErrorResponse"}
    if isinstance(error, SchemaError) or error.status == 422:
        place = error.place if isinstance(error, SchemaError) else ""
        content["$errorItemDiscriminator"] = f"{kind}.SchemaValidationError"
        content["error"] = {
            "$objectType": f"{kind}.SchemaValidationError",
            "statusCode": error.status,
            "error": "Bad Request",
            "path": path,
            "timestamp": time_text(datetime.now(UTC).timestamp()),
            "validationErrorMessages": [
                {
                    "$objectType": f"{kind}.SchemaValidationErrorMessage",
                    "location": "@body" if place else "@query",
                    "attributePath": place,
                    "message": error.message,
                }
            ],
        }
    else:
        content["$errorItemDiscriminator"] = f"List<{kind}.AppMessage>"
        content["error"] = [
            app_message(
                namespace,
                error.message,
                error.code or f"{_CODES.get(namespace, 'NTNX')}-{10000 + error.status}",
                error.reason,
            )
        ]
    return {
        "data": content,
        "metadata": metadata(has_error=True),
        "$reserved": {"$fv": "v4.r1"},
        "$dataItemDiscriminator": f"{kind}.ErrorResponse",
    }


def app_message(namespace: str, message: str, code: str, group: str = "", severity: str = "ERROR") -> Json:
    """Return a v4 message of an application."""
    return {
        "$objectType": f"{namespace}.v4.error.AppMessage",
        "message": message,
        "severity": severity,
        "code": code,
        "locale": "en-US",
        "errorGroup": group or f"{namespace.upper()}_INTERNAL_ERROR",
        "argumentsMap": {},
    }


def metadata(
    *, has_error: bool = False, links: list[Json] | None = None, total: int | None = None, extra: Json | None = None
) -> Json:
    """Return the metadata of a v4 answer; `extra` becomes extraInfo."""
    flags = {"hasError": has_error, "isPaginated": total is not None, "isTruncated": False}
    result: Json = {
        "$objectType": "common.v1.response.ApiResponseMetadata",
        "flags": [{"$objectType": "common.v1.config.Flag", "name": n, "value": v} for n, v in flags.items()],
    }
    if links:
        result["links"] = [{"$objectType": "common.v1.response.ApiLink", **link} for link in links]
    if total is not None:
        result["totalAvailableResults"] = total
    if extra is not None:
        pairs = [{"$objectType": "common.v1.config.KVPair", "name": n, "value": v} for n, v in extra.items()]
        result["extraInfo"] = pairs
    return result


def envelope(kind: str, data: Any, meta: Json, item: str = "") -> Json:
    """Return a v4 answer of type `kind`; `item` is the type of `data`."""
    discriminator = f"List<{item}>" if isinstance(data, list) else item
    result: Json = {"$objectType": kind, "$reserved": {"$fv": "v4.r1"}, "data": data, "metadata": meta}
    if discriminator:
        result["$dataItemDiscriminator"] = discriminator
    return result


def time_text(seconds: float | None) -> str | None:
    """Return a time as Prism writes it: `2026-11-23T06:15:25.920305Z`."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
