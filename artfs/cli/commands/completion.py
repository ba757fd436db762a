"""`artfs completion`."""

from __future__ import annotations

import click

from artfs.cli.common import App, artfs_command, pass_app
from artfs.cli.completion import SHELLS, script
from artfs.cli.output import say

INSTALL = {
    "bash": 'put this line into ~/.bashrc:  eval "$(artfs completion bash)"',
    "zsh": 'put this line into ~/.zshrc, after compinit:  eval "$(artfs completion zsh)"',
    "fish": "type:  artfs completion fish > ~/.config/fish/completions/artfs.fish",
}


@artfs_command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
@pass_app
def command(app: App, ctx: click.Context, shell: str) -> None:
    """Print the completion script for a shell.

    Commands, options, and the names of projects, collections, aliases, versions and drafts are completed. How
    to install it is said on stderr.

    \b
    Examples:
      eval "$(artfs completion bash)"
      artfs completion fish > ~/.config/fish/completions/artfs.fish
    """
    say(script(shell, ctx.find_root().command).rstrip("\n"))
    app.note(f"# to install: {INSTALL[shell]}")
