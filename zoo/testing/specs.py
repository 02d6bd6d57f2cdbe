"""Checks of what a plugin says: light, complete, plain data, and true of the model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping

from zoo import registry
from zoo.spec import ModelSpec
from zoo.testing.failure import CheckFailed, require
from zoo.testing.subject import whole

# In a new interpreter: which modules that are neither the standard library's nor zoo's come with the plugin.
_PROBE = """
import json, sys
from zoo import registry
registry.default.list_models(plugin="")
before = set(sys.modules)
record = registry.default.plugin(sys.argv[1])
new = {name.partition(".")[0] for name in set(sys.modules) - before}
error = record.error if record else "it is not installed"
print(json.dumps({"error": error, "new": sorted(new - sys.stdlib_module_names)}))
"""


def check_discovery_is_light(spec: ModelSpec) -> None:
    """Asking which models the plugin has imports nothing but zoo, the standard library and the plugin itself."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", _PROBE, spec.plugin]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode:
        raise CheckFailed(
            "the plugin is found by a new interpreter", done.stderr.strip(), "run it by itself: zoo plugins"
        )
    answer = json.loads(done.stdout.splitlines()[-1])
    require(
        not answer["error"],
        expected="the plugin is found by a new interpreter",
        seen=answer["error"],
        fix="install it again (pip install -e .), and see `zoo plugins`",
    )
    own = {_package(spec.builder), _package(spec.resolver), _home(spec.plugin)}
    extra = [name for name in answer["new"] if name not in own]
    require(
        not extra,
        expected="the plugin's own package is all that is imported to describe its models",
        seen=f"it also imports {', '.join(extra)}",
        fix="keep networks in modules of their own, name builders as 'package.module:function', and import the rest "
        "inside of functions",
    )


def check_spec_is_complete(spec: ModelSpec) -> None:
    """The spec says what the model is, where it comes from, and under which terms it and its weights may be used."""
    missing = [name for name in ("description", "paper", "license", "family") if not getattr(spec, name)]
    if spec.preprocessing is None and not (spec.weights and all(w.preprocessing for w in spec.weights.values())):
        missing.append("preprocessing")
    terms = ("license", "training_data")
    missing += [f"weights[{tag!r}].{name}" for tag, w in spec.weights.items() for name in terms if not getattr(w, name)]
    require(
        not missing,
        expected="a spec that tells a stranger what the model is and what he may do with it",
        seen=f"empty: {', '.join(missing)}",
        fix="fill them in; paper is the URL of the paper or of the source that the model follows",
    )


def check_spec_is_data(spec: ModelSpec) -> None:
    """The spec is plain data that can be listed, cached, printed and written into a card."""
    functions = {"builder": spec.builder, "resolver": spec.resolver}
    kwargs = {"kwargs": spec.kwargs, "small": spec.small}
    kwargs |= {f"weights[{tag!r}].kwargs": weights.kwargs for tag, weights in spec.weights.items()}
    odd = [f"{name}={value!r:.80}" for name, value in functions.items() if callable(value)]
    odd += [f"{name}={dict(value)!r:.80}" for name, value in kwargs.items() if not _is_plain(value)]
    require(
        not odd,
        expected="numbers, strings, None, lists and dicts, and functions by name",
        seen="; ".join(odd),
        fix="write a function as 'package.module:function', and let the builder turn names into objects",
    )
    ModelSpec.from_dict(json.loads(json.dumps(spec.to_dict(), allow_nan=False)))


def check_parameter_count(spec: ModelSpec) -> None:
    """The model has as many parameters as the spec says (built on the meta device, where size costs nothing)."""
    count = sum(parameter.numel() for parameter in whole(spec).parameters())
    require(
        spec.params == count,
        expected=f"spec.params={spec.params}",
        seen=f"{count} parameters with the default options",
        fix=f"write params={count:_}, or find out why the model is another one",
    )


def check_named_functions_exist(spec: ModelSpec) -> None:
    """Every function that `layouts` and `opens` name can be imported, and weights ask for a layout that is there."""
    named = {f"layouts[{key!r}]": function for key, function in spec.layouts.items()}
    named |= {f"opens[{key!r}]": function for key, function in spec.opens.items()}
    wrong = [f"{where}={function!r} ({why})" for where, function in named.items() if (why := _not_callable(function))]
    wrong += [
        f"weights[{tag!r}].layout={weights.layout!r}, of {', '.join(spec.layouts) or 'none'}"
        for tag, weights in spec.weights.items()
        if weights.layout and weights.layout not in spec.layouts
    ]
    require(
        not wrong,
        expected="functions as 'package.module:function', and layouts by their keys",
        seen="; ".join(wrong),
        fix="correct the name, or write the function; an empty layout means the model's own, or to find out",
    )


def _not_callable(reference: str) -> str:
    """Why a function cannot be had by its name, or an empty string."""
    try:
        return "" if callable(registry.import_function(reference)) else "it is no function"
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def _is_plain(value: object) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | int | float)


def _package(function: object) -> str:
    return str(function or "").partition(":")[0].partition(".")[0]


def _home(plugin: str) -> str:
    """The package that the plugin's entry point names."""
    from importlib.metadata import entry_points

    from zoo.hooks import GROUP

    return next((_package(point.value) for point in entry_points(group=GROUP, name=plugin)), "")
