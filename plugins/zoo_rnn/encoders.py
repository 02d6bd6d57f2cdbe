"""An image network of torchvision or timm on every frame, its last layer left out: `[B, 3, T, H, W]` to `[B, T, D]`."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from zoo.errors import SpecError, WeightsCorrupt, WeightsMismatch, WeightsNotFound
from zoo_rnn.recurrent import per_frame


class FrameEncoder(nn.Module):
    """name: "torchvision/resnet18", "timm/mobilenetv3_small_100" and the like. Its weights are random unless given.

    weights: the path of a safetensors file under the library's own names; those of the last layer are left out, every
    other one has to fit. Raises WeightsNotFound, WeightsCorrupt, WeightsMismatch, SpecError.
    """

    def __init__(self, name: str, weights: str | None = None) -> None:
        super().__init__()
        library, _, architecture = name.partition("/")
        if library not in LIBRARIES:
            raise SpecError(f"encoder={name!r}", hint=f"write {' or '.join(f'{one}/NAME' for one in LIBRARIES)}")
        self.network, self.num_features, last = LIBRARIES[library](architecture)
        if weights is not None:
            self._load(Path(weights), last)

    def forward(self, clip: Tensor) -> Tensor:
        return per_frame(self.network, clip).transpose(1, 2)

    def _load(self, path: Path, last: str) -> None:
        if not path.is_file():
            raise WeightsNotFound(f"encoder_weights={str(path)!r} is no file", hint="give a .safetensors file")
        try:
            tensors = load_file(path)
        except SafetensorError as error:
            raise WeightsCorrupt(f"{path} is not a safetensors file: {error}", hint="convert it first") from error
        own = {name: value.shape for name, value in self.network.state_dict().items()}
        theirs = {k: v.shape for k, v in tensors.items() if k.rpartition(".")[0] != last}
        if odd := sorted(name for name in own.keys() | theirs.keys() if own.get(name) != theirs.get(name)):
            name = f"{odd[0]} (and {len(odd) - 1} more)"
            raise WeightsMismatch(f"{path} does not fit the encoder: {name}", hint="it is of another network")
        self.network.load_state_dict({name: tensors[name] for name in own})


def _torchvision(name: str) -> tuple[nn.Module, int, str]:
    from torchvision.models import get_model, list_models

    if name not in list_models():
        raise SpecError(f"torchvision has no model {name!r}", hint="torchvision.models.list_models() names them")
    network = get_model(name, weights=None)
    last = [path for path, module in network.named_modules() if isinstance(module, nn.Linear)][-1]
    width = network.get_submodule(last).in_features
    network.set_submodule(last, nn.Identity())
    return network, width, last


def _timm(name: str) -> tuple[nn.Module, int, str]:
    import timm

    if not timm.is_model(name):
        raise SpecError(f"timm has no model {name!r}", hint="timm.list_models() names them")
    network = timm.create_model(name, num_classes=0)
    last = network.default_cfg.get("classifier")
    return network, network.head_hidden_size, last if isinstance(last, str) else ""


LIBRARIES = {"torchvision": _torchvision, "timm": _timm}
