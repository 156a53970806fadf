"""Names of things: uuids that are the same for the same configuration, task ids, ETags."""

from __future__ import annotations

import base64
import hashlib
import uuid

_NAMESPACE = uuid.UUID("5d1a4a1e-6a6f-5d0e-9a55-6e7478656e67")

TASK_PREFIX = base64.b64encode(b"ergon").decode()
_ETAG_PREFIX = base64.b64encode(b"application/json").decode()


def fixed(*parts: object) -> str:
    """Return the uuid that these parts always give."""
    return str(uuid.uuid5(_NAMESPACE, "\x1f".join(map(str, parts))))


def fresh() -> str:
    """Return a new random uuid."""
    return str(uuid.uuid4())


def number(*parts: object) -> int:
    """Return a positive 63-bit number that these parts always give."""
    return int.from_bytes(hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()[:8], "big") >> 1


def task_id(task_uuid: str) -> str:
    """Return the v4 id of a task, which is no uuid: `ZXJnb24=:<uuid>`."""
    return f"{TASK_PREFIX}:{task_uuid}"


def etag(*parts: object) -> str:
    """Return the ETag of a version of an entity."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).hexdigest()[:24]
    return f"{_ETAG_PREFIX}:{digest}"
