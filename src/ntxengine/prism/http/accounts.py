"""Who asks Prism: kinds of accounts, and what each sends to prove itself.

| kind      | is                                   | sends                                         | for            |
|-----------|--------------------------------------|-----------------------------------------------|----------------|
| `local`   | a user of this Prism itself          | basic credentials once, then the cookie       | v4, v3, v2     |
| `ad`      | a user of a directory: `user@domain` | the same; a directory refuses parallel logins | v4, v3, v2     |
| `api_key` | a service account                    | its key as a header, each time                | v4             |
| `saml`    | a user of an identity provider       | nothing that a program could                  | a browser only |

A new kind is a class here and a row in ACCOUNTS.
"""

from __future__ import annotations

import base64
from typing import ClassVar

from ntxengine.errors import OptionsError
from ntxengine.prism.http.secret import Secret


class Account:
    """An account, with what it says before anything is sent.

    `has_sessions`: a login gives a cookie that stands for the credentials.  `speaks_legacy`: v2 and v3 take it.
    """

    kind: ClassVar[str]
    has_sessions: ClassVar[bool] = True
    speaks_legacy: ClassVar[bool] = True

    def __init__(self, username: str, secret: Secret) -> None:
        self.username = username
        self._secret = secret
        self.check()

    def check(self) -> None:
        """Refuse what no request could carry.  Errors: OptionsError."""
        check_username(self.username)

    @property
    def who(self) -> str:
        """The account, for messages."""
        return f"user {self.username!r}"

    def proof(self) -> dict[str, str]:
        """Return the header that proves who asks."""
        pair = f"{self.username}:{self._secret.reveal()}".encode()
        return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}

    def secrets(self) -> tuple[str, ...]:
        """Return every form of the secret that is sent, so that none comes back in a message."""
        secret = self._secret.reveal()
        return tuple(text for text in (secret, self.proof()["Authorization"].removeprefix("Basic ")) if secret)


class LocalAccount(Account):
    """A user of this Prism itself."""

    kind = "local"


class DirectoryAccount(Account):
    """A user of a directory (AD, LDAP) that this Prism asks."""

    kind = "ad"

    def check(self) -> None:
        super().check()
        name, _, domain = self.username.partition("@")
        if not name or not domain:
            raise OptionsError("a user of a directory is written user@domain, as on the login page of Prism")


class ApiKeyAccount(Account):
    """A service account."""

    kind = "api_key"
    has_sessions = False
    speaks_legacy = False

    def check(self) -> None:
        key = self._secret.reveal()
        if not key.isascii() or not key.isprintable() or " " in key or not key:
            raise OptionsError("the API key is empty, or holds a space or a letter that no header can carry")

    @property
    def who(self) -> str:
        return "the API key"

    def proof(self) -> dict[str, str]:
        return {"X-ntnx-api-key": self._secret.reveal()}

    def secrets(self) -> tuple[str, ...]:
        return (self._secret.reveal(),)


class SamlAccount(Account):
    """A user of an identity provider: nothing that a program can log in with."""

    kind = "saml"

    def check(self) -> None:
        raise OptionsError(
            "a SAML user logs in with a browser, a program cannot: make a service account in Prism Central, give it"
            " the role Backup Admin and an API key, and use auth api_key; or use a local user, or one of a directory"
        )


ACCOUNTS: dict[str, type[Account]] = {
    kind.kind: kind for kind in (LocalAccount, DirectoryAccount, ApiKeyAccount, SamlAccount)
}


def account_of(kind: str, username: str, secret: Secret) -> Account:
    """Return an account.  Errors: OptionsError if there is no such kind, or it cannot be used."""
    if kind not in ACCOUNTS:
        raise OptionsError(f"{kind!r} is no kind of account: {', '.join(ACCOUNTS)}")
    return ACCOUNTS[kind](username, secret)


def check_username(name: str) -> None:
    """Refuse a name that no request could carry.  Errors: OptionsError."""
    if not name or ":" in name or any(ord(letter) < 0x20 for letter in name):
        raise OptionsError(
            "the Prism user name is empty, or holds a colon or a control character: basic auth cannot send it"
        )
