"""What goes wrong with volume groups, and on the way to them.

| kind                        | the cluster                                                                   |
|-----------------------------|-------------------------------------------------------------------------------|
| `no_data_services`          | has no data services IP                                                       |
| `unreachable_data_services` | tells one where nobody listens                                                |
| `no_target_name`            | does not tell the name of a volume group's target                             |
| `wrong_secret`              | wants another secret from an initiator than the one that it was told          |
| `deletion_refused`          | deletes no volume group: the task fails                                       |
| `unlisted`                  | names no volume group in a list                                               |
| `late`                      | serves a volume group two seconds after its task has succeeded                |
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from ntxengine.errors import OptionsError

_NOBODY = "127.0.0.250"
_LATE_S = 2.0


@dataclass(frozen=True)
class VolumeRules:
    """How volume groups are dealt with.  `data_services` is told instead of the real address, if it is not None."""

    data_services: str | None = None
    tells_target: bool = True
    knows_secret: bool = True
    refuses_deletion: bool = False
    is_listed: bool = True
    late_s: float = 0

    def given_secret(self, secret: str) -> str:
        """Return what the target is told of a secret."""
        return secret if self.knows_secret else secret[::-1]


Change = Callable[[VolumeRules], VolumeRules]

VOLUME_FAULTS: dict[str, Change] = {
    "no_data_services": lambda rules: replace(rules, data_services=""),
    "unreachable_data_services": lambda rules: replace(rules, data_services=_NOBODY),
    "no_target_name": lambda rules: replace(rules, tells_target=False),
    "wrong_secret": lambda rules: replace(rules, knows_secret=False),
    "deletion_refused": lambda rules: replace(rules, refuses_deletion=True),
    "unlisted": lambda rules: replace(rules, is_listed=False),
    "late": lambda rules: replace(rules, late_s=_LATE_S),
}


def volume_rules(kinds: Iterable[str]) -> VolumeRules:
    """Return the rules with these faults in them.  Errors: OptionsError if a kind is not known."""
    rules = VolumeRules()
    for kind in kinds:
        if kind not in VOLUME_FAULTS:
            known = ", ".join(sorted(VOLUME_FAULTS))
            raise OptionsError(f"simulator: faults.volumes: {kind!r} is not known; known are {known}")
        rules = VOLUME_FAULTS[kind](rules)
    return rules
