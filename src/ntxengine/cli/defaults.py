"""`ntx --config FILE`: a file of configuration as the defaults of a command's options.

    option  >  NTX_* variable  >  file  >  default

What the file says of a cluster (account, certificates) holds for the cluster that it names, and for no other: whoever
gives another --prism gives the rest, too.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from ntxengine.errors import NtxError, OptionsError

if TYPE_CHECKING:
    from ntxengine.cli.output import Screen
    from ntxengine.config.file import Config
    from ntxengine.config.reading import Loaded
    from ntxengine.config.sections import Nutanix
    from ntxengine.prism.reach import SecretName

_KEY = "ntxengine.cli.defaults"
_LIBRARIES = ("pydantic", "yaml", "cronsim")
_OF_AGENT = ("starlette", "uvicorn", "prometheus_client")


@dataclass(frozen=True)
class FileDefaults:
    """A file of configuration that was given: `places` has by the name of a parameter where its value comes from."""

    loaded: Loaded
    config: Config
    places: dict[str, str]

    @property
    def nutanix(self) -> Nutanix:
        return self.config.nutanix

    @property
    def snapshot_timeout_s(self) -> float:
        from ntxengine.config.meaning import snapshot_timeout_s

        return snapshot_timeout_s(self.config.performance)

    def names(self, url: str) -> bool:
        """Say whether the file names the Prism at `url`."""
        return _is_at(self.nutanix.prism_central or self.nutanix.prism_element, url)

    def names_element(self, url: str | None) -> bool:
        """Say whether the file names the Prism Element at `url`, beside its Prism Central."""
        return url is None or _is_at(self.nutanix.prism_element, url)

    def other_user(self, name: SecretName, user: str | None) -> str:
        """Return whose password it is that the file has, "" if it is that of `user`, or the file does not say."""
        if name == "api_key":
            return ""
        own = self.nutanix.username
        if name == "element_password" and self.nutanix.element_username is not None:
            own = self.nutanix.element_username
        return own if own is not None and own != user else ""

    def secret(self, name: SecretName, url: str, element: str | None, screen: Screen) -> str | None:
        """Return a secret for the Prism at `url`, and the Prism Element beside it; None if the file knows none.

        For the user that the file has: see other_user.
        """
        from ntxengine.config.named_files import exposed_secret
        from ntxengine.config.secrets import secret_of

        if not self.names(url) or (name == "element_password" and not self.names_element(element)):
            return None
        if exposed := exposed_secret(self.loaded):
            screen.warning(exposed.text(self.loaded.name))
        return secret_of(self.nutanix, name, warn=screen.warning)


def _is_at(address: str | None, url: str) -> bool:
    from ntxengine.config.values import prism_url
    from ntxengine.prism import check_url

    return address is not None and check_url(prism_url(address)) == check_url(url)


def use(ctx: click.Context, file: str, profile: str | None) -> None:
    """Make a file the defaults of the command that `ctx` is about to run.  Errors: OptionsError."""
    loaded = load_file(file)
    from ntxengine.cli.file_settings import settings

    config = loaded.config.with_profile(profile)
    assert ctx.invoked_subcommand is not None
    command = ctx.command.get_command(ctx, ctx.invoked_subcommand) if isinstance(ctx.command, click.Group) else None
    values: dict[str, Any] = {}
    places: dict[str, str] = {}
    for setting in settings(config, None if profile is None else loaded.config.profiles[profile], profile):
        for parameter in _parameters(command):
            is_for = setting.commands is None or ctx.invoked_subcommand in setting.commands
            if parameter.name is not None and is_for and setting.option in parameter.opts:
                values[parameter.name] = setting.value
                places[parameter.name] = loaded.place(setting.path)
    ctx.default_map = {ctx.invoked_subcommand: values}
    ctx.meta[_KEY] = FileDefaults(loaded, config, places)


def load_file(file: str) -> Loaded:
    """Read a file of configuration.  Errors: OptionsError; NtxError, if what reads it is not installed."""
    require_libraries()
    from ntxengine.config.reading import load

    if not file:
        raise OptionsError("--config: '' names nothing: write a path")
    return load(Path(file))


def require_libraries(*, of_agent: bool = False) -> None:
    """Errors: NtxError, if what reads a configuration, or what an agent serves with, is not installed."""
    needed = (*_LIBRARIES, *(_OF_AGENT if of_agent else ()))
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        what = "the agent" if of_agent else "a configuration"
        raise NtxError(f"{what} needs {', '.join(missing)}, which is not installed: pip install 'ntxengine[agent]'")


def of_file(ctx: click.Context | None = None) -> FileDefaults | None:
    """Return the file that this command was given, None if none was."""
    ctx = ctx or click.get_current_context(silent=True)
    found = None if ctx is None else ctx.meta.get(_KEY)
    return found if isinstance(found, FileDefaults) else None


def place_in_file(ctx: click.Context, parameter: click.Parameter) -> str:
    """Return where in the file the value of a parameter comes from, "" if it does not."""
    if parameter.name is None or ctx.get_parameter_source(parameter.name) is not ParameterSource.DEFAULT_MAP:
        return ""
    found = of_file(ctx)
    return "" if found is None else found.places.get(parameter.name, "")


def value_in_file(ctx: click.Context, parameter: click.Parameter) -> object:
    """Return what the file gives a parameter."""
    return (ctx.default_map or {}).get(parameter.name or "")


def _parameters(command: click.Command | None) -> Iterator[click.Parameter]:
    yield from () if command is None else command.params
