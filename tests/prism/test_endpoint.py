"""Addresses are checked before anybody connects, and secrets do not print themselves."""

from __future__ import annotations

import pickle

import pytest

from ntxengine.errors import OptionsError
from ntxengine.prism.http.endpoint import Endpoint, Secret


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("https://pc.example.org", "pc.example.org", 9440),
        ("https://pc.example.org/", "pc.example.org", 9440),
        ("https://10.0.0.1:443", "10.0.0.1", 443),
        ("https://[fd00::1]:9441", "fd00::1", 9441),
    ],
)
def test_host_and_port_come_from_the_url(url: str, host: str, port: int) -> None:
    endpoint = Endpoint(url, "admin", Secret("x"))

    assert (endpoint.host, endpoint.port) == (host, port)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://pc",
        "pc.example.org",
        "https://",
        "https://pc:0",
        "https://pc:99999",
        "https://pc:port",
        "https://pc/console",
        "https://pc?x=1",
        "https://pc#x",
        "https://admin:hidden-word@pc",
        "https://pc example",
        "https://pc\n.example",
        "https://-pc",
        "https://[fd00::1%25eth0]",
        "https://[nonsense]",
        "https://pc?",
    ],
)
def test_an_address_that_is_not_host_and_port_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(OptionsError) as refused:
        Endpoint(url, "admin", Secret("x"))

    assert "hidden-word" not in str(refused.value)
    assert "https://HOST" in str(refused.value)


@pytest.mark.parametrize("username", ["", "a:b", "a\nb"])
def test_a_user_name_that_basic_auth_cannot_send_is_refused(username: str) -> None:
    with pytest.raises(OptionsError):
        Endpoint("https://pc", username, Secret("x"))


def test_a_time_limit_of_zero_is_refused() -> None:
    with pytest.raises(OptionsError):
        Endpoint("https://pc", "admin", Secret("x"), timeout_s=0)


def test_a_secret_does_not_print_itself() -> None:
    secret = Secret("hidden-word")

    texts = [repr(secret), str(secret), f"{secret}", f"{secret!r}", repr(Endpoint("https://pc", "admin", secret))]

    assert not [text for text in texts if "hidden-word" in text]
    assert secret.reveal() == "hidden-word"


def test_a_secret_is_not_pickled() -> None:
    with pytest.raises(TypeError):
        pickle.dumps(Secret("hidden-word"))


def test_equal_secrets_are_equal() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert len({Secret("a"), Secret("a")}) == 1
