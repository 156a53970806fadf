"""Which network takes the place of which."""

from __future__ import annotations

import pytest

from ntxengine.errors import OptionsError
from ntxengine.machines import Network, NetworkMap, Nic, parse_network

ID = "f44f350c-2313-4861-89ed-d26b0b576690"


@pytest.mark.parametrize(
    ("text", "name", "network"),
    [
        ("VLAN10=bridge:br0", "VLAN10", Network("bridge", "br0")),
        (f"{ID}=network:default", ID, Network("network", "default")),
        ("*=none", "*", Network("none")),
        ("a=b=network:VM Network", "a=b", Network("network", "VM Network")),
        ("VLAN 10=network:a:b", "VLAN 10", Network("network", "a:b")),
    ],
)
def test_a_place_is_read(text: str, name: str, network: Network) -> None:
    assert parse_network(text) == (name, network)
    assert text == f"{name}={network}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "=bridge:br0",
        "x=",
        "x=br0",
        "x=bridge",
        "x=bridge:",
        "x=none:br0",
        "x=vlan:5",
        "x=bridge:a\nb",
        f"x=network:{'n' * 129}",
    ],
)
def test_what_is_no_place_is_refused_with_the_forms(text: str) -> None:
    with pytest.raises(OptionsError, match="write NAME=bridge:br0"):
        parse_network(text)


def test_a_network_that_is_named_twice_is_refused() -> None:
    with pytest.raises(OptionsError, match="twice"):
        NetworkMap.parse(["x=none", "x=bridge:br0"])


def test_the_name_counts_before_the_id_and_both_before_the_rest() -> None:
    networks = NetworkMap.parse([f"{ID}=bridge:of-id", "VLAN10=bridge:of-name", "*=none"])

    assert networks.of(Nic(network="VLAN10", network_id=ID)) == Network("bridge", "of-name")
    assert networks.of(Nic(network="other", network_id=ID)) == Network("bridge", "of-id")
    assert networks.of(Nic(network="other")) == Network("none")
    assert NetworkMap().of(Nic(network="other")) is None
