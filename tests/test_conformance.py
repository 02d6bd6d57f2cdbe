"""Our own families are held to what every plugin is held to, by the same line."""

from __future__ import annotations

import pytest

import zoo
import zoo_transformer

test_cnn = zoo.testing.conformance("cnn")

ONE_OF_EACH = ("videomae_tiny", "videomae_base", "timesformer_base", "vivit_b_16x2", "vjepa2_vitl", "hiera_base_16x224")
SPECS = {spec.name: spec for spec in zoo_transformer.zoo_models()}


def transformers(names):
    unpinned = [n for n in names if any(w.source and not w.pinned for w in SPECS[n].weights.values())]
    reason = "tools/pin.py has not been run where there is a Hub to ask"
    xfail = {f"{name}-check_spec_is_complete": reason for name in unpinned}
    return zoo.testing.conformance("transformer", models=names, xfail=xfail)


test_transformer = transformers(ONE_OF_EACH)
# Sizes of the same networks, and torchvision's, which have no small variants.
test_all_other_transformers = pytest.mark.slow(transformers([name for name in SPECS if name not in ONE_OF_EACH]))
