"""Checks of the weights that a spec names, by what it says of them. zoo.testing.golden runs those in the package."""

from __future__ import annotations

from pathlib import Path

from zoo import factory
from zoo.errors import ZooError
from zoo.spec import ModelSpec, Weights
from zoo.testing.failure import CheckFailed, Unpinned, require
from zoo.weights.source import PACKAGED

HUB = "hf://"


def check_weights_are_pinned(spec: ModelSpec) -> None:
    """Digest and size say which bytes the weights are; a file on the Hub without either is marked as unpinned."""
    missing = {tag: _missing(weights) for tag, weights in spec.weights.items() if weights.source}
    unpinned = [tag for tag, names in missing.items() if len(names) == 2 and spec.weights[tag].source.startswith(HUB)]
    half = [f"weights[{tag!r}].{name}" for tag, names in missing.items() if tag not in unpinned for name in names]
    expected = "sha256 and size of every file, so that what is loaded is what was published"
    require(
        not half,
        expected=expected,
        seen=f"empty: {', '.join(half)}",
        fix="write down both, of the file that you have: sha256sum FILE; zoo.publish prints them too",
    )
    if unpinned:
        named = ", ".join(f"weights[{tag!r}]" for tag in unpinned)
        raise Unpinned(
            expected, f"{named} on the Hub, not pinned", "paste the line that zoo.publish prints, or ask the Hub's page"
        )


def check_labels_fit_the_weights(spec: ModelSpec) -> None:
    """Labels name what comes out: more than one under a softmax, and as many as a file at hand has logits."""
    for tag, weights in spec.weights.items():
        protocol = weights.preprocessing or spec.preprocessing
        require(
            len(weights.labels) != 1 or protocol is None or protocol.activation != "softmax",
            expected=f"weights[{tag!r}] with a label for each logit",
            seen=f"one label, {weights.labels[0]!r}, whose score is 1 whatever the video shows"
            if weights.labels
            else "",
            fix='list all labels, in the order of the logits; for a single yes or no set activation="sigmoid"',
        )
        if _is_at_hand(weights):
            try:
                factory.create(f"{spec.full_name}.{tag}")
            except ZooError as error:
                raise CheckFailed(
                    f"{weights.source} fits a model of {weights.num_classes or spec.num_classes} classes",
                    f"{type(error).__name__}: {error}",
                    "give as many labels (or num_classes) as the file has logits, and kwargs as in its training",
                ) from error


def _missing(weights: Weights) -> list[str]:
    return [name for name in ("sha256", "size") if not getattr(weights, name)]


def _is_at_hand(weights: Weights) -> bool:
    """Whether it is a file of this machine; those in packages are loaded by check_packaged_weights."""
    elsewhere = not weights.source or weights.source.startswith((HUB, PACKAGED))
    return not elsewhere and Path(weights.source).is_file()
