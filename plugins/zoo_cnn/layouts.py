"""From the key layouts of published files to ours: pure functions from {name: tensor} to {name: tensor}, or None.

None says that a file is not of this kind. Ours are PyTorchVideo's hub names, MoViNet-pytorch's and torchvision's, so
only the others need renaming. Nothing is dropped or made up here: what a network does not know is found out when it
is loaded, and there zoo says of which network a file is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from torch import Tensor

from zoo.errors import WeightsMismatch

StateDict = dict[str, Tensor]
Rules = tuple[tuple[str, str], ...]


def rename(state: StateDict, rules: Iterable[tuple[str, str]]) -> StateDict:
    """Every name with every rule applied that matches, in order; two names must not become one."""
    renamed = {}
    for name, value in state.items():
        new = name
        for pattern, replacement in rules:
            new = re.sub(pattern, replacement, new)
        if new in renamed:
            raise WeightsMismatch(
                f"two tensors of the file would be called {new!r}; one of them is {name!r}",
                hint="is it another model's?",
            )
        renamed[new] = value
    return renamed


def as_published(state: StateDict) -> StateDict | None:
    """PyTorchVideo's and MoViNet-pytorch's names are ours."""
    return dict(state) if any(name.startswith(("blocks.0.", "blocks.b0_l0.")) for name in state) else None


def _renamed_if(mark: str, state: StateDict, *rules: Rules) -> StateDict | None:
    """Renamed, if a name begins with the mark of the layout."""
    if not any(name.startswith(mark) for name in state):
        return None
    return rename(state, [rule for group in rules for rule in group])


# --- PySlowFast: s1 is the stem, s2 to s5 the stages; pathways stand in names ----------------------------------------

_BLOCK: Rules = (
    (r"\.branch1_bn\.", ".branch1_norm."),
    (r"\.branch1\.weight$", ".branch1_conv.weight"),
    (r"\.branch2\.([abc])_bn\.", r".branch2.norm_\1."),
    (r"\.branch2\.([abc])\.weight$", r".branch2.conv_\1.weight"),
)
_ONE: Rules = (
    (r"^s1\.pathway0_stem\.bn\.", "blocks.0.norm."),
    (r"^s1\.pathway0_stem\.", "blocks.0."),
    (r"\.pathway0_res(\d+)\.", r".res_blocks.\1."),
)
_TWO: Rules = (
    (r"^s1\.pathway([01])_stem\.bn\.", r"blocks.0.multipathway_blocks.\1.norm."),
    (r"^s1\.pathway([01])_stem\.", r"blocks.0.multipathway_blocks.\1."),
    (r"^s1_fuse\.", "s_fuse.0."),
    *((rf"^s{n}_fuse\.", f"s_fuse.{n - 1}.") for n in (2, 3, 4)),
    (r"^s_fuse\.(\d)\.conv_f2s\.", r"blocks.\1.multipathway_fusion.conv_fast_to_slow."),
    (r"^s_fuse\.(\d)\.bn\.", r"blocks.\1.multipathway_fusion.norm."),
    (r"\.pathway([01])_res(\d+)\.", r".multipathway_blocks.\1.res_blocks.\2."),
)
_STAGES: Rules = tuple((rf"^s{n}\.", f"blocks.{n - 1}.") for n in (2, 3, 4, 5))
_STAGES_AROUND_POOL: Rules = ((r"^s2\.", "blocks.1."), *((rf"^s{n}\.", f"blocks.{n}.") for n in (3, 4, 5)))
_X3D: Rules = (
    (r"^s1\.pathway0_stem\.conv_xy\.", "blocks.0.conv.conv_t."),  # ours has the hub's swapped names
    (r"^s1\.pathway0_stem\.conv\.", "blocks.0.conv.conv_xy."),
    (r"\.branch2\.b_bn\.", ".branch2.norm_b.0."),
    (r"\.branch2\.se\.fc1\.", ".branch2.norm_b.1.block.0."),
    (r"\.branch2\.se\.fc2\.", ".branch2.norm_b.1.block.2."),
    (r"^head\.conv_5\.", "blocks.5.pool.pre_conv."),
    (r"^head\.conv_5_bn\.", "blocks.5.pool.pre_norm."),
    (r"^head\.lin_5\.", "blocks.5.pool.post_conv."),
)


def _head(block: int) -> Rules:
    return ((r"^head\.projection\.", f"blocks.{block}.proj."),)


def pyslowfast(state: StateDict) -> StateDict | None:
    """PySlowFast's Slow."""
    return _renamed_if("s1.pathway0", state, _ONE, _STAGES, _BLOCK, _head(5))


def pyslowfast_pooled(state: StateDict) -> StateDict | None:
    """PySlowFast's C2D and I3D, where a pooling over time counts as a block of ours."""
    return _renamed_if("s1.pathway0", state, _ONE, _STAGES_AROUND_POOL, _BLOCK, _head(6))


def pyslowfast_x3d(state: StateDict) -> StateDict | None:
    """PySlowFast's X3D."""
    return _renamed_if("s1.pathway0", state, _X3D, _ONE, _STAGES, _BLOCK, _head(5))


def pyslowfast_two_pathways(state: StateDict) -> StateDict | None:
    """PySlowFast's SlowFast."""
    return _renamed_if("s1.pathway1", state, _TWO, _STAGES, _BLOCK, _head(6))


# --- MMAction2 --------------------------------------------------------------------------------------------------------


def mmaction2_c3d(state: StateDict) -> StateDict | None:
    """MMAction2's C3D."""
    rules = ((r"^backbone\.", ""), (r"^(conv\d[ab])\.conv\.", r"\1."), (r"^cls_head\.fc_cls\.", "fc8."))
    return _renamed_if("backbone.conv1a.", state, rules)
