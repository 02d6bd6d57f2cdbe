"""The command line: thin calls of the public functions, with nothing heavy imported before it is needed.

Exit codes: 0 all good, 1 something is broken (`zoo plugins`, `zoo check`, `zoo doctor`, `zoo batch`), 2 wrong use, 3
some videos or downloads failed.
"""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Sequence
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


class _Refused(click.ClickException):
    exit_code = WRONG_USE


class _Failed(click.ClickException):
    exit_code = videos.SOME_FAILED


class _Commands(click.Group):
    """Errors that a user can cause are one sentence on stderr, not a traceback."""

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


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="zoo")
def commands() -> None:
    """Video models by name: list them, ask about them, run them on any video.

    \b
    zoo demo                          see it work
    zoo predict my_video.mp4          name the camera's motion
    zoo predict my_video.mp4 --report my_video.html
    zoo list                          every model
    zoo doctor                        what is slow or broken here
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
