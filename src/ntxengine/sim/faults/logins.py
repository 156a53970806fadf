"""Logins as a directory behind Prism makes them: slow, one at a time, and not for ever patient."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class LoginFaults:
    """A login takes `takes_s`.

    `refuses_parallel`: one that comes while another is under way is refused, every other with 403.  `locks_after`: so
    many wrong passwords lock the account (0: never).  `ends_as_403`: every other refusal of an ended session is 403.
    """

    takes_s: float = 0
    refuses_parallel: bool = False
    locks_after: int = 0
    ends_as_403: bool = False
