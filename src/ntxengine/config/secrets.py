"""Where the secrets of a configuration come from: the file itself, a file that it names, or systemd.

    key of the file          first line of the file at KEY_file         $CREDENTIALS_DIRECTORY/NAME
    password                 password_file                              ntx-password
    api_key                  api_key_file                               ntx-api-key
    element_password         element_password_file                      ntx-element-password
    (none)                   agent.metrics.token_file                   ntx-metrics-token

The first that is given is taken.  Nothing of it is ever in an argument, in the environment of a program that is
started, or in a message.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import SecretStr

from ntxengine.config.file import Agent
from ntxengine.config.sections import Nutanix
from ntxengine.errors import OptionsError
from ntxengine.files.secret_file import read_secret_file
from ntxengine.prism.reach import SecretName

log = logging.getLogger(__name__)

WHAT = {"password": "password", "api_key": "API key", "element_password": "password of the Prism Element"}

Warn = Callable[[str], None]


def secret_of(
    nutanix: Nutanix, name: SecretName, environment: Mapping[str, str] | None = None, *, warn: Warn = log.warning
) -> str | None:
    """Return a secret of the cluster; None if nothing says where it is.

    The password of a Prism Element is that of the account at Prism Central, if that account is used there too.
    Errors: OptionsError (a file that cannot be read).
    """
    said: dict[SecretName, tuple[SecretStr | None, str | None]] = {
        "password": (nutanix.password, nutanix.password_file),
        "api_key": (nutanix.api_key, nutanix.api_key_file),
        "element_password": (nutanix.element_password, nutanix.element_password_file),
    }
    text, file = said[name]
    found = _read(text, file, f"ntx-{name.replace('_', '-')}", WHAT[name], environment, warn)
    is_same = name == "element_password" and nutanix.element_username in (None, nutanix.username)
    if found is None and is_same and nutanix.auth in ("local", "ad"):
        return secret_of(nutanix, "password", environment, warn=warn)
    return found


def required_secret(nutanix: Nutanix, name: SecretName) -> str:
    """Return a secret of the cluster.  Errors: OptionsError, also if there is none."""
    if (found := secret_of(nutanix, name)) is None:
        raise OptionsError(
            f"no {WHAT[name]}: give nutanix.{name} or nutanix.{name}_file, or the systemd credential "
            f"ntx-{name.replace('_', '-')}"
        )
    return found


def metrics_token(agent: Agent, environment: Mapping[str, str] | None = None) -> str | None:
    """Return what must be sent to get metrics; None if nothing must.  Errors: OptionsError."""
    return _read(None, agent.metrics.token_file, "ntx-metrics-token", "token", environment, log.warning)


def _read(
    text: SecretStr | None,
    file: str | None,
    credential: str,
    what: str,
    environment: Mapping[str, str] | None,
    warn: Warn,
) -> str | None:
    if text is not None:
        return text.get_secret_value()
    if file is not None:
        found = read_secret_file(Path(file), f"{what} file")
        if found.warning:
            warn(found.warning)
        return found.text
    folder = (os.environ if environment is None else environment).get("CREDENTIALS_DIRECTORY", "")
    path = Path(folder) / credential
    # systemd alone can enter that folder as the user of the service: modes of the files are its business.
    return read_secret_file(path, "credential").text if folder.startswith("/") and path.is_file() else None
