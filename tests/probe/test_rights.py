"""Every right that a capture needs: the account lacks it, and just its check says so.

That a question leads where the right is asked for shows only so: a path that is none is "not there", as an id that
does not exist is.
"""

from __future__ import annotations

import pytest

from ntxengine.probe.rights import V3_RIGHTS, V4_RIGHTS, WAY_RIGHTS_V3, WAY_RIGHTS_V4, Right
from tests.probe.lab import Lab

ROWS = [("v4", right) for right in (*V4_RIGHTS, *WAY_RIGHTS_V4)]
ROWS += [("v3", right) for right in (*V3_RIGHTS, *WAY_RIGHTS_V3)]


@pytest.mark.parametrize(("family", "right"), ROWS, ids=[f"{family}-{right.name}" for family, right in ROWS])
async def test_a_right_that_lacks_is_named_and_no_other(family: str, right: Right, lab: Lab) -> None:
    if family == "v3":
        lab.element()
    if right.source:
        lab.give_attach(source=right.source)
    lab.serve_iscsi()
    lab.lacks(right.operation)

    not_ok = await lab.not_ok()

    key = f"prism.{family}-{right.name}"
    assert not_ok == {key: "failed"}, lab.told
    line = next(line for line in lab.told if line.key == key)
    assert f"may not {right.what}: HTTP 403" in line.result.text
    assert line.result.remedy.startswith("give it the role ")
