"""The command line: thin calls of the public functions, with nothing heavy imported before it is needed.

Exit codes: 0 all good, 1 something is broken (`zoo plugins`, `zoo check`, `zoo doctor`, `zoo batch`), 2 wrong use, 3
some videos or downloads failed.
"""

from __future__ import annotations

import difflib
import io
import shlex
import sys
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click

from zoo import ZooError, __version__
from zoo.cli import (
    authors,
    bulk,
    catalogue,
    deployment,
    evaluation,
    gallery,
    health,
    names,
    publishing,
    training,
    videos,
    weights,
)
from zoo.cli.examples import epilog
from zoo.errors import VideoError

WRONG_USE = 2
SECTIONS = {
    "Videos": ("predict", "embed", "frames", "batch", "demo"),
    "Models": ("list", "info", "card", "gallery", "download", "convert", "cache"),
    "Training, evaluation and deployment": ("train", "evaluate", "export", "bench", "publish"),
    "Plugins": ("plugins", "new", "check"),
    "This installation": ("doctor", "completion"),
}


class _Refused(click.ClickException):
    exit_code = WRONG_USE


class _Failed(click.ClickException):
    exit_code = videos.SOME_FAILED


class _Commands(click.Group):
    """Commands by what they are for. Errors that a user can cause are one sentence on stderr, not a traceback."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for section, commands in SECTIONS.items():
            with formatter.section(section):
                formatter.write_dl([(name, self.commands[name].get_short_help_str(80)) for name in commands])

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            raise click.UsageError(f"{error.format_message()} {_instead(args[0], self.commands)}", ctx) from error

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except VideoError as error:
            raise _Failed(str(error)) from error
        except (ZooError, ImportError) as error:
            raise _Refused(str(error)) from error
        except BrokenPipeError:
            raise  # `zoo list | head` is no error
        except OSError as error:
            raise _Refused(f"{error.filename}: {error.strerror}" if error.filename else str(error)) from error


def _instead(word: str, names: Iterable[str]) -> str:
    """What somebody meant who typed a word that is no command."""
    if Path(word).is_file():
        return f"To name what a video shows: zoo predict {shlex.quote(word)}"
    close = difflib.get_close_matches(word, names, n=1)
    return f"Did you mean {close[0]}?" if close else "`zoo --help` lists them."


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="zoo")
def commands() -> None:
    """Video models by name: find them, run them on any video, train and publish them.

    \b
    zoo demo                                         see it work, without a video
    zoo predict my_video.mp4                         name the camera's motion
    zoo predict my_video.mp4 --report my_video.html  and write a web page about it
    zoo list                                         every model
    zoo COMMAND --help                               options and examples of a command
    """


PARTS = (
    catalogue,
    videos,
    bulk,
    weights,
    training,
    evaluation,
    deployment,
    authors,
    publishing,
    gallery,
    health,
    names,
)
for part in PARTS:
    for command in part.COMMANDS:
        command.epilog = epilog(command.name or "")
        commands.add_command(command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; without arguments, with those of the process."""
    warnings.showwarning = _one_line
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a pipe may not know every character of a name or of a bar
    sys.exit(commands(arguments, prog_name="zoo" if arguments else None))


def _one_line(message: Warning | str, *args: Any, **kwargs: Any) -> None:
    click.echo(f"Warning: {message}", err=True)
