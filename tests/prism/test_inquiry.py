"""Single questions: what might be taken for a wish is sent once."""

from __future__ import annotations

import pytest

from ntxengine.prism.http.endpoint import Endpoint, Secret
from ntxengine.prism.http.trust import Trust
from ntxengine.prism.inquiry import Inquiry
from tests.prism.hostile import PASSWORD, HandClock, Hostile, reply


@pytest.mark.parametrize(
    ("question", "path"), [("v4.create-point", "/config/recovery-points"), ("v3.create-snapshot", "/v3/vm_snapshots")]
)
@pytest.mark.parametrize("status", [503, 504])
async def test_a_question_that_might_make_something_is_asked_once(
    hostile: Hostile, ca_file: str, clock: HandClock, question: str, path: str, status: int
) -> None:
    hostile.on(f"POST {path}", reply(status, {}))
    endpoint = Endpoint(f"https://127.0.0.1:{hostile.port}", "admin", Secret(PASSWORD), ca_file)
    inquiry = Inquiry(endpoint, Trust(), clock=clock.clock)
    await inquiry.open()
    try:
        reply_to_it = await inquiry.ask(question)
    finally:
        await inquiry.aclose()

    assert reply_to_it.outcome in ("busy", "silent")
    assert len(hostile.asked_for(path)) == 1
