"""Which checks there are, and which of them a model is asked.

They come in numbered sets that only ever grow by a new number, so that a new zoo does not break a plugin that names its
version. tests/test_kit.py holds their names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module

from zoo import registry
from zoo.spec import ModelSpec
from zoo.tasks import TASKS
from zoo.testing import geometry, golden, networks, reach, running, specs, streams, weights
from zoo.testing.failure import Check
from zoo.weights.source import PACKAGED

Sets = Mapping[int, Sequence[Check]]

# Once per plugin, and for every model; a task adds its own.
OF_PLUGINS: dict[int, tuple[Check, ...]] = {1: (specs.check_discovery_is_light,)}
OF_MODELS: dict[int, tuple[Check, ...]] = {
    1: (
        specs.check_spec_is_complete,
        specs.check_spec_is_data,
        specs.check_parameter_count,
        geometry.check_declared_clips_run,
        geometry.check_other_clips_raise,
        networks.check_input_is_not_mutated,
        networks.check_clips_are_independent,
        networks.check_deterministic,
        networks.check_safetensors_round_trip,
        networks.check_every_parameter_learns,
        networks.check_layer_groups,
        networks.check_deepcopy,
        networks.check_pickle,
        networks.check_export,
        networks.check_autocast,
        running.check_global_state_is_untouched,
    ),
    3: (
        specs.check_named_functions_exist,
        weights.check_weights_are_pinned,
        weights.check_labels_fit_the_weights,
        running.check_training_mode_works,
        running.check_forward_leaves_no_trace,
        reach.check_streaming_is_declared,
    ),
}
OF_STREAMS: dict[int, tuple[Check, ...]] = {
    1: (streams.check_chunks_make_no_difference, streams.check_steps_are_pure),
    2: (streams.check_state_survives_a_file, streams.check_one_stream_starts_anew, streams.check_step_exports),
    3: (
        streams.check_uneven_chunks_make_no_difference,
        reach.check_delay,
        reach.check_receptive_field,
        reach.check_period,
    ),
}
OF_PACKAGED: dict[int, tuple[Check, ...]] = {1: (golden.check_packaged_weights,)}


def of_task(task: str) -> Sets:
    """The sets of checks that a task adds."""
    reference = getattr(import_module(TASKS[task]), "CHECKS", "") if task in TASKS else ""
    sets: Sets = registry.import_function(reference) if reference else {}
    return sets


def of_plugin(version: int | None) -> Iterator[Check]:
    """What is asked once."""
    return _up_to(version, OF_PLUGINS)


def of_model(spec: ModelSpec, version: int | None) -> Iterator[Check]:
    """What a model is asked, by its task, and by whether it follows streams and brings weights in its package."""
    asked = [OF_MODELS, of_task(spec.task)]
    if spec.streaming:
        asked.append(OF_STREAMS)
    if any(weights.source.startswith(PACKAGED) for weights in spec.weights.values()):
        asked.append(OF_PACKAGED)
    return _up_to(version, *asked)


def newest() -> int:
    """The number of the newest set."""
    tasks = [of_task(task) for task in TASKS]
    return max(number for sets in (OF_PLUGINS, OF_MODELS, OF_STREAMS, OF_PACKAGED, *tasks) for number in sets)


def _up_to(version: int | None, *asked: Sets) -> Iterator[Check]:
    for sets in asked:
        for number, group in sorted(sets.items()):
            if version is None or number <= version:
                yield from group
