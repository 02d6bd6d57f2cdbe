"""Which models exist, and whose they are.

- Nothing is looked for before the first question, and no model code is imported by any question.
- Each plugin is loaded once and asked alone. One that fails becomes a record with its traceback; nobody else notices.
- The answer is the same in every process and thread, whatever else is installed.
- Bare names belong to plugins of our own distribution. Everybody else's models carry the plugin's name in front.
"""

from __future__ import annotations

import difflib
import fnmatch
import importlib
import os
import re
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, TypeVar

import pluggy

from zoo import hooks, licenses
from zoo.discovery import Entry, discover
from zoo.errors import PluginError, SpecError, UnknownModel
from zoo.spec import NAME, ModelSpec, Weights

LOCAL = "local"  # where notebooks register; the newest definition wins
THIS_PROCESS = "this process"
NEWER = "is it built for a newer zoo?"
# What Python, pluggy and we say of a field, a hook argument, a name or a module that this zoo does not have.
_UNKNOWN_HERE = re.compile(
    r"unexpected keyword argument|has no field|declared in the hookimpl but can not be found in the hookspec"
    r"|module 'zoo[\w.]*' has no attribute|cannot import name .* from 'zoo[\w.]*'|No module named 'zoo\."
)
Builder = TypeVar("Builder", bound=Callable[..., Any])


class PluginWarning(UserWarning):
    """A plugin is switched off or not as expected; everything else works."""


@dataclass
class PluginRecord:
    """One plugin and how it is doing."""

    name: str
    distribution: str  # THIS_PROCESS for what was registered by hand
    version: str = ""
    builtin: bool = False
    models: dict[str, ModelSpec] = field(default_factory=dict, repr=False)
    import_ms: float = 0.0
    error: str = ""  # the formatted traceback: an exception object would keep its frames, and all they hold, alive
    reason: str = ""  # the same in one sentence
    notes: list[str] = field(default_factory=list)

    @property
    def status(self) -> str:
        return "failed" if self.error else "ok"

    @property
    def n_models(self) -> int:
        return len(self.models)

    @property
    def origin(self) -> str:
        return f"{self.distribution} {self.version}".strip()


class Registry:
    """Every plugin that this process can see; with `discover=False`, only what is registered by hand."""

    def __init__(self, *, discover: bool = True) -> None:
        # Guards the two dicts. No plugin code runs under it: a module that is being imported by one thread may ask the
        # zoo, while another thread holds the lock and waits for that import.
        self._lock = threading.RLock()
        self._discover = discover
        self._entries: dict[str, Entry] | None = None
        self._records: dict[str, PluginRecord] = {}
        self._loading = threading.local()  # names of the plugins that this thread is in the middle of loading

    # --- questions -------------------------------------------------------------------------------------------------

    def plugins(self, *, refresh: bool = False) -> list[PluginRecord]:
        """Every plugin, healthy or not. `refresh` looks again, after an install while this process was running."""
        if refresh:
            importlib.invalidate_caches()
            with self._lock:
                self._entries = None
                self._records = {n: r for n, r in self._records.items() if r.distribution == THIS_PROCESS}
        return [record for name in self._names() if (record := self.plugin(name))]

    def plugin(self, name: str) -> PluginRecord | None:
        """One plugin, loaded on first use; the others stay untouched. One that asks while it is loaded is not there."""
        record = self._records.get(name)
        if record is None and (entry := self._found().get(name)):
            loading: set[str] = self._loading.__dict__.setdefault("names", set())
            if name in loading:
                return None
            loading.add(name)
            try:
                record = self._load(entry)
            finally:
                loading.discard(name)
        return record

    def list_models(
        self,
        pattern: str = "*",
        *,
        task: str | None = None,
        family: str | None = None,
        plugin: str | None = None,
        pretrained: bool | None = None,
        license: str | None = None,
        streaming: bool | None = None,
    ) -> list[str]:
        """Sorted names of architectures and of their weights (`architecture.tag`) that match every filter given.

        pattern: as in a shell, for the whole name. pretrained: True gives only tags, False only bare names.
        license: of the weights for a tag, of the code for a bare name; case does not matter. "commercial" stands for
        the licences of zoo.licenses.ALLOWING, which allow commercial use. It does not speak of the training data.
        """
        names = []
        for name, spec, tag, terms in self._listing(plugin):
            if (
                task in (None, spec.task)
                and family in (None, spec.family)
                and pretrained in (None, tag is not None)
                and streaming in (None, spec.streaming)
                and (license is None or licenses.matches(terms, license))
            ):
                names.append(name)
        matches = re.compile(fnmatch.translate(pattern)).match
        return sorted(filter(matches, names))

    def info(self, name: str) -> ModelSpec:
        """What is known about a model, without importing its code. Takes `architecture` and `architecture.tag`."""
        return self.find(name)[0]

    def find(self, name: str) -> tuple[ModelSpec, Weights | None]:
        """The spec, and the weights if the name has a tag."""
        if not isinstance(name, str):
            raise TypeError(f"a model's name is a string, not {name!r:.80}")
        namespace, _, model = name.rpartition("/")
        architecture, dot, tag = model.partition(".")
        spec = self._in_namespace(namespace, architecture) if namespace else self._of_ours(architecture)
        if spec is None:
            raise self._unknown(name, architecture)
        if not dot:
            return spec, None
        if tag not in spec.weights:
            tags = ", ".join(f"{spec.full_name}.{t}" for t in spec.weights)
            raise UnknownModel(
                f"{spec.full_name!r} has no weights {tag!r}",
                hint=f"there are {tags}" if tags else "it has no weights yet",
            )
        return spec, spec.weights[tag]

    # --- registration in this process --------------------------------------------------------------------------------

    def register(self, plugin: object, name: str = LOCAL) -> PluginRecord:
        """Add a module, an object with `zoo_models`, or one spec. Models appear as `name/model`.

        Under "local" a model of the same name is replaced; any other name can be registered once.
        """
        if isinstance(spec := plugin, ModelSpec):
            plugin = SimpleNamespace(zoo_models=hooks.hookimpl(lambda: [spec]))
        models, notes = _ask(plugin, name, namespace=name)
        if not models:
            raise PluginError(f"{plugin!r:.80} describes no models", hint="mark its zoo_models with @zoo.hookimpl")
        with self._lock:
            if name != LOCAL and (name in self._records or name in self._found()):
                raise PluginError(
                    f"the plugin name {name!r} is taken", hint=f"choose another, or {LOCAL!r} to replace freely"
                )
            before = self._records.get(name)
            models = {**(before.models if before else {}), **models}
            self._records[name] = record = PluginRecord(name, THIS_PROCESS, models=models, notes=notes)
        return record

    def model(self, name: str, **fields: Any) -> Callable[[Builder], Builder]:
        """Decorate a builder: `@zoo.model("tiny")` makes `local/tiny`. Running the cell again replaces it."""

        def decorate(builder: Builder) -> Builder:
            self.register(ModelSpec(name=name, builder=builder, **fields))
            return builder

        return decorate

    @contextmanager
    def isolated(self) -> Iterator[Registry]:
        """Forget everything, discover nothing, and put all back at the end. For tests; not while other threads ask."""
        with self._lock:
            before = self._discover, self._entries, self._records
            self._discover, self._entries, self._records = False, None, {}
        try:
            yield self
        finally:
            with self._lock:
                self._discover, self._entries, self._records = before

    # --- how it works ------------------------------------------------------------------------------------------------

    def _names(self, *, ours_only: bool = False) -> list[str]:
        found = self._found()
        with self._lock:
            names = {n for n, entry in found.items() if entry.builtin or not ours_only}
            names |= {n for n, record in self._records.items() if record.builtin or not ours_only}
        return sorted(names)

    def _listing(self, plugin: str | None) -> Iterator[tuple[str, ModelSpec, str | None, str]]:
        """Every name, its spec or that of its namespace, its tag, and its licence."""
        records = self.plugins() if plugin is None else [r for r in [self.plugin(plugin)] if r]
        for record in records:
            for spec in list(record.models.values()):
                tags = {tag: weights.license for tag, weights in spec.weights.items()}
                names = _listed(spec) if spec.is_namespace else {spec.full_name: tags}
                for name, terms in names.items():
                    yield name, spec, None, spec.license
                    for tag, license in terms.items():
                        yield f"{name}.{tag}", spec, tag, license

    def _of_ours(self, architecture: str) -> ModelSpec | None:
        for name in self._names(ours_only=True):
            record = self.plugin(name)
            if record and architecture in record.models:
                return record.models[architecture]
        return None

    def _in_namespace(self, namespace: str, architecture: str) -> ModelSpec | None:
        record = self.plugin(namespace)
        if record is None:
            return None
        if record.error:
            raise UnknownModel(
                f"{namespace}/{architecture}: plugin {namespace!r} is switched off: {record.reason}",
                hint="see `zoo plugins`",
            )
        if architecture == ModelSpec.WILDCARD:
            return None
        spec = record.models.get(architecture)
        if spec is not None and spec.namespace:
            return spec
        wildcard = record.models.get(ModelSpec.WILDCARD)
        return _resolve(wildcard, architecture, namespace) if wildcard else None

    def _unknown(self, name: str, architecture: str) -> UnknownModel:
        names = self.list_models(pretrained=False)
        close = [n for n in names if n.rpartition("/")[2] == architecture]
        close = close or difflib.get_close_matches(name.partition(".")[0], names, n=3)
        if close:
            return UnknownModel(f"no model {name!r}", hint=f"did you mean {', '.join(close)}?")
        if self._discover and not self._names(ours_only=True) and os.environ.get("ZOO_PLUGINS") is None:
            return UnknownModel(
                f"no model {name!r}, and no plugin of zoo's own is installed",
                hint="in a checkout run `pip install -e .` so that the plugins are found",
            )
        return UnknownModel(f"no model {name!r}", hint="`zoo list` shows every name")

    def _found(self) -> dict[str, Entry]:
        complaints: list[str] = []
        with self._lock:  # reads installed metadata only, so it may hold the lock
            if self._entries is None:
                self._entries, complaints = discover() if self._discover else ({}, [])
            entries = self._entries
        for complaint in complaints:
            _warn(complaint)
        return entries

    def _load(self, entry: Entry) -> PluginRecord:
        record = PluginRecord(entry.name, entry.distribution, entry.version, entry.builtin, notes=list(entry.notes))
        had_torch, start = "torch" in sys.modules, time.perf_counter()
        try:
            namespace = "" if entry.builtin else entry.name
            record.models, notes = _ask(entry.point.load(), entry.name, namespace=namespace)
            record.notes += notes
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as caught:  # SystemExit and CancelledError must not end the host either
            record.reason = _sentence(caught)
            if os.environ.get("ZOO_STRICT") == "1":
                raise PluginError(
                    f"plugin {entry.name!r} ({entry.origin}) failed: {record.reason}",
                    hint=f"fix it, switch it off with ZOO_PLUGINS=-{entry.name}, or unset ZOO_STRICT",
                ) from caught
            record.error = traceback.format_exc().rstrip()
            if _UNKNOWN_HERE.search(record.reason):
                record.notes.append(NEWER)
        record.import_ms = (time.perf_counter() - start) * 1e3
        if not had_torch and "torch" in sys.modules:
            record.notes.append(f"imports torch on discovery ({record.import_ms:.0f} ms)")
        with self._lock:
            kept = self._records.setdefault(entry.name, record)  # the loser of a race between threads is dropped
        if record.error and kept is record:
            newer = f"; {NEWER}" if NEWER in record.notes else ""
            _warn(f"plugin {entry.name!r} ({entry.origin}) is switched off: {record.reason}{newer}")
        return kept


def _ask(plugin: object, name: str, *, namespace: str) -> tuple[dict[str, ModelSpec], list[str]]:
    """What one plugin describes, through a manager of its own.

    A shared manager would need a lock around plugin code, and one implementation that raises would discard the answers
    of all.
    """
    if not NAME.fullmatch(name):
        raise SpecError(f"plugin name {name!r}", hint="use lower case letters, digits and _")
    manager = pluggy.PluginManager(hooks.GROUP)
    manager.add_hookspecs(hooks)
    manager.register(plugin, name)
    models: dict[str, ModelSpec] = {}
    for spec in (spec for batch in manager.hook.zoo_models() for spec in batch):
        if not isinstance(spec, ModelSpec):
            raise TypeError(f"zoo_models gave {spec!r:.80}, which is not a ModelSpec")
        if spec.name in models:
            raise SpecError(f"two models are called {spec.name!r}", hint="rename one of them")
        # A namespace is always addressed by the plugin's name, ours included.
        models[spec.name] = replace(spec, plugin=name, namespace=name if spec.is_namespace else namespace)
    callers = manager.get_hookcallers(plugin) or []
    notes = [f"implements {c.name!r}, which this zoo does not know" for c in callers if not c.has_spec()]
    if not models:
        unmarked = " (its zoo_models has no @zoo.hookimpl)" if hasattr(plugin, "zoo_models") and not callers else ""
        notes.append(f"describes no models{unmarked}")
    return models, notes


def _resolve(wildcard: ModelSpec, architecture: str, namespace: str) -> ModelSpec | None:
    """The spec that a namespace makes for a concrete name."""
    assert wildcard.resolver is not None
    try:
        spec = import_function(wildcard.resolver)(architecture)
    except Exception as caught:
        raise PluginError(
            f"{namespace}/{architecture}: plugin {namespace!r} could not resolve it: {caught!r}",
            hint="check the name, or report it to the authors of the plugin",
        ) from caught
    if spec is None:
        return None
    if not isinstance(spec, ModelSpec):
        raise PluginError(
            f"{namespace}/{architecture}: {wildcard.resolver} gave {spec!r:.80}, which is not a ModelSpec",
            hint="a resolver returns a zoo.ModelSpec, or None for a name that it does not know",
        )
    return replace(spec, plugin=wildcard.plugin, namespace=namespace)


def _listed(wildcard: ModelSpec) -> dict[str, dict[str, str]]:
    """{full name: {tag: licence}} of a namespace, as far as it lists its names."""
    if wildcard.lister is None:
        return {}
    try:
        found = import_function(wildcard.lister)()
        return {f"{wildcard.namespace}/{name}": dict(tags) for name, tags in found.items()}
    except Exception as caught:
        _warn(f"plugin {wildcard.plugin!r} cannot list its names: {caught!r}")
        return {}


def _sentence(error: BaseException) -> str:
    """What happened, in one line; of an exception whose own text raises, its kind."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:
        return type(error).__name__


def import_function(reference: str) -> Any:
    """The object behind "package.module:function"."""
    module, _, attribute = reference.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _warn(message: str) -> None:
    """Warn at the first line outside of zoo: the user's line, not ours."""
    frame, level = sys._getframe(), 1
    while frame.f_back and str(frame.f_globals.get("__name__")).partition(".")[0] == "zoo":
        frame, level = frame.f_back, level + 1
    warnings.warn(f"{message} (see `zoo plugins`)", PluginWarning, stacklevel=level)


default = Registry()  # the one behind zoo.list_models, zoo.info, zoo.plugins, zoo.register and zoo.model
