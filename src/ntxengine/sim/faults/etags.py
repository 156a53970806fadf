"""How v4 deals with the ETag that removing a disk from a VM may need.

| rule        | GET disk, GET VM tell one | without If-Match | `If-Match: *` |
|-------------|---------------------------|------------------|---------------|
| `required`  | both                      | refused          | refused       |
| `optional`  | both                      | taken            | refused       |
| `of_vm`     | the VM                    | refused          | refused       |
| `absent`    | none                      | taken            | refused       |
| `wildcard`  | none                      | refused          | taken         |
| `withheld`  | none                      | refused          | refused       |

One that is told is always compared.
"""

from __future__ import annotations

from dataclasses import dataclass

from ntxengine.errors import OptionsError


@dataclass(frozen=True)
class EtagRule:
    """What is told, and what is taken."""

    disk_tells: bool = True
    vm_tells: bool = True
    takes_none: bool = False
    takes_any: bool = False


ETAG_RULES = {
    "required": EtagRule(),
    "optional": EtagRule(takes_none=True),
    "of_vm": EtagRule(disk_tells=False),
    "absent": EtagRule(disk_tells=False, vm_tells=False, takes_none=True),
    "wildcard": EtagRule(disk_tells=False, vm_tells=False, takes_any=True),
    "withheld": EtagRule(disk_tells=False, vm_tells=False),
}


def etag_rule(name: str) -> EtagRule:
    """Return a rule.  Errors: OptionsError if there is none of this name."""
    if name not in ETAG_RULES:
        raise OptionsError(f"simulator: faults.etags: {name!r} is not known; known are {', '.join(sorted(ETAG_RULES))}")
    return ETAG_RULES[name]
