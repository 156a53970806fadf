"""Which requests a fault is for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal


@dataclass
class Requests:
    """The next `count` requests (-1: all) whose path matches, after `after` others that match."""

    path: str = ""
    method: str = ""
    endpoint: Literal["", "central", "element"] = ""
    count: int = 1
    after: int = 0

    def takes(self, endpoint: str, method: str, path: str) -> bool:
        """Say if this request is hit, and count it."""
        if self.count == 0 or self.endpoint not in ("", endpoint) or self.method not in ("", method):
            return False
        if re.search(self.path, path) is None:
            return False
        if self.after > 0:
            self.after -= 1
            return False
        if self.count > 0:
            self.count -= 1
        return True
