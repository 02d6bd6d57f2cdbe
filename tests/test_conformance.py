"""Our own families are held to what every plugin is held to, by the same line.

By default one network of a kind: those that differ in code. What the others differ in is a number in a table.
"""

from __future__ import annotations

import pytest

import zoo

CNN = (
    *("r3d_18", "mc3_18", "r2plus1d_18", "s3d", "r2plus1d_tiny"),
    *("i3d_r50", "slowfast_r50", "csn_r101", "x3d_s_psf", "movinet_a0_stream", "c3d", "co_x3d_s"),
)
TIMM = ("tsm_resnet50", "inflated_resnet50", "frames_vit_small_transformer", "test_convnext")
TRANSFORMER = ("videomae_tiny", "videomae_base", "timesformer_base", "vivit_b_16x2", "vjepa2_vitl", "hiera_base_16x224")
RNN = ("lrcn_resnet18", "gru_resnet18_bi", "convgru_tiny", "predrnn")


def others(plugin, names):
    return [name for name in zoo.list_models(plugin=plugin, pretrained=False) if name not in names]


def unpinned(names):
    """The complaint that is expected of weights whose digest nobody could ask for yet."""
    open_ends = [n for n in names if any(w.source and not w.pinned for w in zoo.info(n).weights.values())]
    return {f"{name}-check_spec_is_complete": "tools/pin.py has not been run online" for name in open_ends}


def transformers(names):
    return zoo.testing.conformance("transformer", models=names, xfail=unpinned(names))


def timms(names):
    """Bare names, and some of timm's own through the namespace."""
    listed = [name if name in zoo.list_models() else f"timm/{name}" for name in names]
    xfail = {key.removeprefix("timm/"): why for key, why in unpinned(listed).items()}
    return zoo.testing.conformance("timm", models=names, xfail=xfail)


OTHER_TIMM = ("tsn_resnet50", "tsm_mobilenetv2_100", "frames_vit_small", "test_efficientnet", "test_vit")

test_cnn = zoo.testing.conformance("cnn", models=CNN)
test_all_other_cnns = pytest.mark.slow(zoo.testing.conformance("cnn", models=others("cnn", CNN)))
test_rnn = zoo.testing.conformance("rnn", models=RNN)
test_all_other_rnns = pytest.mark.slow(zoo.testing.conformance("rnn", models=others("rnn", RNN)))
test_timm = timms(TIMM)
test_all_other_timms = pytest.mark.slow(timms(OTHER_TIMM))
test_transformer = transformers(TRANSFORMER)
test_all_other_transformers = pytest.mark.slow(transformers(others("transformer", TRANSFORMER)))
