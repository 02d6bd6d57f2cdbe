"""`zoo publish`: a model into a repository on the Hub."""

from __future__ import annotations

import click


@click.command("publish", short_help="Publish a model on the Hub.")
@click.argument("model", metavar="MODEL_OR_DIR")
@click.option("--repo", required=True, metavar="OWNER/NAME", help="The repository; created if it does not exist.")
@click.option(
    "--private/--public",
    default=True,
    show_default=True,
    help="Visible to you only, or to everybody after a complete upload.",
)
@click.option("--dry-run", is_flag=True, help="Check everything and say what would change, but change nothing.")
@click.option("--tag", help="A name for this commit, such as v1.")
@click.option("--endpoint", help="The URL of another Hub than HF_ENDPOINT.")
@click.option("--license", default="", help="Licence of the weights, such as cc-by-4.0, unless they declare one.")
@click.option("--training-data", default="", help="What the weights were trained on, unless they declare it.")
@click.option("--description", default="", help="A sentence about the weights.")
def publish_command(
    model: str,
    repo: str,
    private: bool,
    dry_run: bool,
    tag: str | None,
    endpoint: str | None,
    license: str,
    training_data: str,
    description: str,
) -> None:
    """Publish MODEL_OR_DIR on the Hub: architecture.tag, architecture (its default weights), or a folder of zoo's own.

    Everything is checked before anything is sent. Prints the zoo.Weights(...) to paste into a plugin. Running it again
    changes nothing. Log in beforehand: hf auth login.
    """
    from zoo.publishing import publish

    published = publish(
        model,
        repo,
        endpoint=endpoint,
        private=private,
        dry_run=dry_run,
        tag=tag,
        license=license,
        training_data=training_data,
        description=description,
        tell=lambda text: click.echo(text, err=True),
    )
    if published.revision:
        click.echo(published.stanza)


COMMANDS = (publish_command,)
