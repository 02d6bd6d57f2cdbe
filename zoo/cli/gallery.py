"""`zoo gallery build`: every model as a page to browse."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.group("gallery", short_help="Write a static site to browse the models.")
def gallery_command() -> None:
    """Every model that is installed here, as a static site."""


@gallery_command.command("build")
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("pattern", default="*")
def build_command(folder: Path, pattern: str) -> None:
    """Write the site into FOLDER, for the models whose name matches PATTERN ("*x3d*").

    FOLDER is new, empty, or an earlier gallery, which is replaced. Open its index.html; no server is needed.
    """
    from rich.console import Console
    from rich.progress import Progress

    from zoo.gallery import build

    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("writing", total=None)
        gallery = build(folder, pattern, tell=lambda done, of: progress.update(task, completed=done, total=of))
    click.echo(f"{gallery.index}: {gallery.n_models:,} models, {gallery.n_rows:,} names")


COMMANDS = (gallery_command,)
