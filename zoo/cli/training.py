"""`zoo train`: its options are the settings of a training, each under its own name."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from zoo.train.settings import Settings

FIRST = ("model", "data", "out")  # are arguments
FINISHED, STOPPED = 0, 128  # a training that a signal stopped ends with 128 and its number, as the shell has it


class _Numbers(click.ParamType[Any]):
    name = "a,b"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return [float(part) for part in value.split(",")]
        except ValueError:
            self.fail(f"{value!r} is not numbers with commas between", param, ctx)


class _Pair(click.ParamType[Any]):
    name = "key=value"

    def __init__(self, *, of_texts: bool) -> None:
        self.of_texts = of_texts

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        import tomllib

        name, equals, text = value.partition("=")
        if not (name and equals):
            self.fail(f"{value!r} is not such as dropout=0.2", param, ctx)
        if self.of_texts:
            return name, text
        try:
            return name, tomllib.loads(f"value = {text}")["value"]
        except ValueError:
            return name, text  # a word


def _options(command: Callable[..., None]) -> Callable[..., None]:
    """An option for each setting; what is not given is not passed on, so that it cannot hide what a file says."""
    for field in reversed(dataclasses.fields(Settings)):
        if field.name in FIRST:
            continue
        name = field.name.replace("_", "-")
        kind = str(field.type)
        more: dict[str, Any] = {"help": f"{field.metadata['meaning']}{_default(field.default)}", "default": None}
        names = [f"--{name}/--no-{name}" if kind == "bool" else f"--{name}", field.name]
        if kind.startswith("Mapping"):
            more |= {"type": _Pair(of_texts=kind == "Mapping[str, str]"), "multiple": True}
        elif kind != "bool":
            plain = {"int": int, "str": str, "float": float, "float | None": float}
            more["type"] = plain.get(kind) or _Numbers()
        command = click.option(*names, **more)(command)
    return command


def _default(value: Any) -> str:
    if value is None or value == "" or isinstance(value, bool | Mapping):
        return "  [on]" if value is True else ""
    return f"  [{','.join(f'{v:g}' for v in value) if isinstance(value, tuple) else value}]"


@click.command("train", short_help="Train a model on videos of your own.")
@click.argument("model", required=False)
@click.argument("data", required=False)
@click.argument("out", required=False)
@click.option("--config", type=click.Path(path_type=Path), help="A TOML file of settings; options win.")
@_options
def train_command(config: Path | None, **given: Any) -> None:
    """Train MODEL on the videos of DATA, into the folder OUT.

    MODEL starts from scratch as architecture, from weights as architecture.tag, hf-hub:owner/repo or local-dir:path.
    DATA is a folder of class folders, or a .csv or .jsonl of path, label and, if need be, start_s, end_s, split. OUT
    gets `model` (for zoo predict and zoo publish), settings.toml, log.csv, curves.png, val.csv (what was held back) and
    checkpoints; the same command goes on where it stopped. For many processes: torchrun --nproc-per-node N -m zoo.train
    MODEL DATA OUT.
    """
    import zoo

    settings: dict[str, Any] = {}
    for name, value in given.items():
        if value not in (None, ()):
            settings[name] = dict(value) if isinstance(value, tuple) else value
    trained = zoo.train(config=config, tell=lambda text: click.echo(text, err=True), **settings)
    if trained.stopped:
        sys.exit(STOPPED + max(trained.stopped, 0))
    if os.environ.get("RANK", "0") == "0":
        click.echo(trained.model)


COMMANDS = (train_command,)
