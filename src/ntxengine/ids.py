"""UUIDs, the names that Nutanix gives to things: one pattern for all who read one."""

from __future__ import annotations

import re
from typing import TypeGuard

UUID_PATTERN = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"

_UUID = re.compile(UUID_PATTERN)


def is_uuid(text: object) -> TypeGuard[str]:
    """Return whether `text` is a UUID, in upper or lower case."""
    return isinstance(text, str) and _UUID.fullmatch(text) is not None


def is_canonical_uuid(text: str) -> bool:
    """Return whether `text` is a UUID in lower case: as we write it, so that a file has one name."""
    return is_uuid(text) and text == text.lower()
