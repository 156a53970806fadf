"""Which network of the target takes the place of which network of the cluster.

    VLAN10=bridge:br0      a bridge of the host                  (libvirt)
    VLAN10=network:lab     a network of libvirt, a port group    (libvirt, VMware)
    VLAN10=none            a card that is not connected
    *=network:default      all networks that are not named

The name in front is that of the network on the cluster, or its id.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from ntxengine.errors import OptionsError
from ntxengine.machines.model import Nic
from ntxengine.machines.text import one_line

NetworkKind = Literal["bridge", "network", "none"]

ALL_OTHERS = "*"

_MAX_NAME = 128


@dataclass(frozen=True)
class Network:
    """A network of the target; `name` is "" for none."""

    kind: NetworkKind
    name: str = ""

    def __str__(self) -> str:
        """Return it as people write it."""
        return self.kind if self.kind == "none" else f"{self.kind}:{self.name}"


NOT_CONNECTED = Network("none")


@dataclass(frozen=True)
class NetworkMap:
    """Networks of the target by names, or ids, of those of the cluster; `ALL_OTHERS` is for what is not named."""

    networks: tuple[tuple[str, Network], ...] = ()

    @classmethod
    def parse(cls, texts: Iterable[str]) -> NetworkMap:
        """Return the map that texts of the form `NAME=bridge:br0` mean.  Errors: OptionsError."""
        found: dict[str, Network] = {}
        for text in texts:
            name, network = parse_network(text)
            if name in found:
                raise OptionsError(f"{text!r}: the network {name!r} is named twice")
            found[name] = network
        return cls(tuple(found.items()))

    def of(self, nic: Nic) -> Network | None:
        """Return where a card is put, None if nothing is said of its network."""
        networks = dict(self.networks)
        for name in (nic.network, nic.network_id, ALL_OTHERS):
            if name and name in networks:
                return networks[name]
        return None


def parse_network(text: str) -> tuple[str, Network]:
    """Return the name and the network of `NAME=bridge:br0`.  Errors: OptionsError with the forms that there are."""
    name, has_target, target = text.rpartition("=")
    kind, _, place = target.partition(":")
    known = {word: word for word in get_args(NetworkKind)}
    is_whole = bool(has_target and name and kind in known and (kind == "none") == (place == ""))
    if not is_whole or place != one_line(place) or len(place) > _MAX_NAME:
        raise OptionsError(
            f"{text!r} does not say where a network goes: write NAME=bridge:br0, NAME=network:default or NAME=none, "
            f"with the name or the id of the network on the cluster, or * for all others"
        )
    return name, Network(known[kind], place)
