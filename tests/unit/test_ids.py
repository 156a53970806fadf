"""What is a UUID, and what only looks like one."""

from __future__ import annotations

import pytest

from ntxengine.ids import is_canonical_uuid, is_uuid

LOWER = "5d1a4a1e-6a6f-4d0e-9a55-6e7478656e67"


def test_a_uuid_is_known_in_either_case_and_canonical_in_lower_case() -> None:
    assert is_uuid(LOWER)
    assert is_uuid(LOWER.upper())
    assert is_canonical_uuid(LOWER)
    assert not is_canonical_uuid(LOWER.upper())


@pytest.mark.parametrize(
    "text", ["", LOWER[:-1], f"{LOWER}0", f"{LOWER}\n", f" {LOWER}", f"{{{LOWER}}}", LOWER.replace("-", ""), None, 5]
)
def test_what_only_looks_like_a_uuid_is_none(text: object) -> None:
    assert not is_uuid(text)
