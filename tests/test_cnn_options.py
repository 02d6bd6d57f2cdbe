"""An option that cannot be is the caller's mistake: a SpecError that names it and says what there is."""

from __future__ import annotations

import re

import pytest
import torch

import zoo
from zoo.errors import SpecError

HEAD_POOLS, DEPTHS = "it is one of 'window', 'global'", "it is one of 10, 50, 101"
WRONG = [
    *((name, "depth", 34, DEPTHS) for name in ("c2d_r50", "i3d_r50", "slow_r50", "csn_r101", "r2plus1d_r50")),
    *((name, "depth", 0, DEPTHS) for name in ("slowfast_r50", "slowfast_r101", "co_slow_r50")),
    *((name, "head_pool", "mean", HEAD_POOLS) for name in ("slow_r50", "slowfast_r50", "csn_r101", "x3d_s_psf")),
    *((name, "dropout", 1.5, "from 0 to 1") for name in ("slow_r50", "x3d_s", "c3d", "s3d", "movinet_a0_base")),
    ("r2plus1d_tiny", "dropout", "much", "from 0 to 1"),
    ("slow_r50", "depth", True, DEPTHS),
    ("slow_r50", "depth", [50], DEPTHS),
    ("slow_r50", "variant", "slow_r18", "'c2d_r50', 'i3d_r50', 'slow_r50'"),
    ("slowfast_r50", "variant", "slowfast_r18", "'slowfast_r50', 'slowfast_r101'"),
    ("slowfast_r50", "slow_path", "every", "'linspace', 'stride'"),
    ("x3d_s", "shortcut_norm", "no", "'changing', 'always'"),
    ("x3d_s", "depth_factor", 0, "above 0"),
    ("x3d_s", "frames", 0, "at least 1"),
    ("x3d_s", "crop", "160", "at least 1"),
    ("movinet_a0_base", "variant", "a6", "'a0', 'a1', 'a2', 'a3', 'a4', 'a5'"),
    ("movinet_a0_stream", "causal", "yes", "True, False"),
    ("movinet_a0_base", "longest", 0, "at least 1"),
    ("c3d", "thinner", 65, "from 1 to 64"),
    ("s3d", "window", (2, 7), "3 whole numbers"),
    ("r2plus1d_tiny", "widths", (), "whole numbers"),
    ("r2plus1d_tiny", "widths", (16, 0), "at least 1"),
    ("co_x3d_s", "network", "slowfast", "'x3d', 'resnet3d', 'csn', 'r2plus1d'"),
    ("co_x3d_s", "clip_frames", 0, "at least 1"),
    ("co_x3d_s", "widths", 8, "its options are frames, crop"),
    ("co_x3d_s", "head_pool", "mean", HEAD_POOLS),
]


@pytest.mark.parametrize(("name", "option", "value", "right"), WRONG)
def test_a_wrong_value_is_named_with_the_right_ones(name: str, option: str, value: object, right: str) -> None:
    with pytest.raises(SpecError, match=rf"{option}.*{re.escape(right)}"), torch.device("meta"):
        zoo.build(name, **{option: value})


def test_an_option_that_there_is_not_is_named_with_those_that_there_are() -> None:
    with pytest.raises(TypeError, match=r"slow_r50: .*'width'.*variant, num_classes, dropout, head_pool, depth"):
        zoo.build("slow_r50", width=8)
