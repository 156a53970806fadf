"""`ntx completion`: the script that makes a shell complete our commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

_VARIABLE = "_NTX_COMPLETE"


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion_command(shell: str) -> None:
    """Print the completion script of a shell, to be sourced where the shell starts.

    \b
    Examples:
      ntx completion bash > ~/.local/share/bash-completion/completions/ntx
      ntx completion fish > ~/.config/fish/completions/ntx.fish
      echo 'eval "$(ntx completion zsh)"' >> ~/.zshrc
    """
    from ntxengine.cli.main import ntx

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(ntx, {}, "ntx", _VARIABLE).source())
