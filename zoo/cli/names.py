"""Completion: names of models for the shell, and the script that teaches a shell to ask for them."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem, get_completion_class

import zoo

VARIABLE = "_ZOO_COMPLETE"  # how click's scripts ask


def model_name(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The names of models and weights that begin so."""
    try:
        return [CompletionItem(name) for name in zoo.list_models() if name.startswith(incomplete)]
    except Exception:  # a shell that waits for names has no place for an error
        return []


@click.command("completion", short_help="Print the completion script of a shell.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion_command(context: click.Context, shell: str) -> None:
    """Print the script with which SHELL completes commands, options and names of models."""
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(context.find_root().command, {}, "zoo", VARIABLE).source())


COMMANDS = (completion_command,)
