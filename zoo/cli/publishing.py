"""`zoo publish`: a model into a repository on the Hub."""

from __future__ import annotations

import click


@click.command("publish", short_help="Publish a model on the Hub.")
@click.argument("model", metavar="MODEL_OR_DIR")
@click.option("--repo", required=True, metavar="OWNER/NAME", help="Where to; a new repository is made if need be.")
@click.option(
    "--private/--public",
    default=True,
    show_default=True,
    help="For you only, or for everybody once all has arrived.",
)
@click.option("--dry-run", is_flag=True, help="Check everything and say what would change, but change nothing.")
@click.option("--tag", help="A name for this commit, such as v1.")
@click.option("--endpoint", help="Another Hub than the client's, which HF_ENDPOINT sets.")
@click.option("--license", default="", help="Of the weights, such as cc-by-4.0, if they do not bring their own.")
@click.option("--training-data", default="", help="What the weights have seen, if they do not say so.")
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
