"""Nothing of an account follows a redirect; only the token that came with it does."""

from __future__ import annotations

import pytest

from ntxengine import errors
from ntxengine.prism.http.session import Session
from tests.prism.hostile import Hostile, reply
from tests.prism.test_http import GET, SESSION


@pytest.mark.parametrize("location", ["https://evil.example/x?token=1", "", "http://[bad", "/elsewhere"])
async def test_a_redirect_without_a_token_is_not_followed(hostile: Hostile, session: Session, location: str) -> None:
    hostile.on("GET /thing", reply(302, {}, Location=location))

    with pytest.raises(errors.PrismAnswerError, match=r"redirected \(302\) to .*: not followed") as refused:
        await session.ask(GET)

    assert "token" not in str(refused.value)
    assert len(hostile.asked) == 1


@pytest.mark.parametrize("location", ["http://127.0.0.2:{}/x", "https://a:b@127.0.0.2:{}/x", "https://127.0.0.2:0/x"])
async def test_a_redirect_to_what_is_no_prism_is_not_followed(
    hostile: Hostile, session: Session, location: str
) -> None:
    hostile.on("GET /thing", reply(302, {}, Location=location.format(hostile.port), X_Redirect_Token="hidden"))

    with pytest.raises(errors.PrismAnswerError, match="not followed") as refused:
        await session.ask(GET)

    assert "hidden" not in str(refused.value)
    assert len(hostile.asked) == 1


async def test_a_redirect_is_followed_with_its_token_and_nothing_of_the_account(
    hostile: Hostile, session: Session
) -> None:
    hostile.on(
        "GET /thing",
        reply(200, {}, Set_Cookie=SESSION),
        reply(302, {}, Location=f"https://127.0.0.2:{hostile.port}/there?a=1", X_Redirect_Token="T=one"),
    )
    hostile.on("GET /there", reply(200, {"a": 1}, Set_Cookie="NTNX_IGW_SESSION=theirs; Path=/"))

    await session.ask(GET)
    answer = await session.ask(GET)

    there = hostile.asked_for("/there")[0]
    assert answer.decode(dict[str, int]) == {"a": 1}
    assert (there.host, there.path) == ("127.0.0.2", "/there?a=1")
    assert there.headers["cookie"] == "T=one"
    assert not {"authorization", "x-ntnx-api-key"} & there.headers.keys()


async def test_a_second_redirect_is_not_followed(hostile: Hostile, session: Session) -> None:
    again = reply(302, {}, Location=f"https://127.0.0.2:{hostile.port}/thing", X_Redirect_Token="T=one")
    hostile.on("GET /thing", again)

    with pytest.raises(errors.PrismAnswerError, match="not followed"):
        await session.ask(GET)

    assert len(hostile.asked) == 2
