"""Our own families are held to what every plugin is held to, by the same line."""

from __future__ import annotations

import pytest

import zoo

# Networks that differ in code. What the others differ in is a number in a table, or checked against their reference.
ONE_OF_A_KIND = (
    *("r3d_18", "mc3_18", "r2plus1d_18", "s3d", "r2plus1d_tiny"),
    *("i3d_r50", "slowfast_r50", "csn_r101", "x3d_s_psf", "movinet_a0_stream", "c3d"),
)
OTHERS = [name for name in zoo.list_models(plugin="cnn", pretrained=False) if name not in ONE_OF_A_KIND]

test_cnn = zoo.testing.conformance("cnn", models=ONE_OF_A_KIND)
test_the_rest_of_cnn = pytest.mark.slow(zoo.testing.conformance("cnn", models=OTHERS))
