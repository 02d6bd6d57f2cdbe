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
TIMM = ("tsm_resnet50", "inflated_resnet50", "stacked_tiny", "frames_vit_small_transformer", "test_convnext")
TRANSFORMER = (
    *("videomae_tiny", "vit_c_tiny", "videomae_base", "timesformer_base", "vivit_b_16x2", "vjepa2_vitl"),
    "hiera_base_16x224",
)
RNN = ("lrcn_resnet18", "gru_resnet18_bi", "convgru_small", "convgru_tiny", "predrnn")


def others(plugin, names):
    return [name for name in zoo.list_models(plugin=plugin, pretrained=False) if name not in names]


OTHER_TIMM = ("tsn_resnet50", "tsm_mobilenetv2_100", "frames_vit_small", "test_efficientnet", "test_vit")

test_cnn = zoo.testing.conformance("cnn", models=CNN)
test_all_other_cnns = pytest.mark.slow(zoo.testing.conformance("cnn", models=others("cnn", CNN)))
test_rnn = zoo.testing.conformance("rnn", models=RNN)
test_all_other_rnns = pytest.mark.slow(zoo.testing.conformance("rnn", models=others("rnn", RNN)))
test_timm = zoo.testing.conformance("timm", models=TIMM)
test_all_other_timms = pytest.mark.slow(zoo.testing.conformance("timm", models=OTHER_TIMM))
test_transformer = zoo.testing.conformance("transformer", models=TRANSFORMER)
test_all_other_transformers = pytest.mark.slow(
    zoo.testing.conformance("transformer", models=others("transformer", TRANSFORMER))
)
