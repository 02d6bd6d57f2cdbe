"""The same network on one process, replicated by DDP, or sharded by FSDP2."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from zoo.contract import VideoModel
from zoo.errors import SpecError
from zoo.processes import World
from zoo.train.settings import Settings


def spread(model: VideoModel, settings: Settings, world: World, tell: Callable[[str], object]) -> nn.Module:
    """The network as it is to be called; its parameters stay those of `model`, which FSDP shards in place."""
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    if settings.sync_bn and world.device.type != "cuda":
        raise SpecError("sync_bn on the CPU", hint="torch has it on cuda only; freeze_bn=True also gives equal norms")
    if norms and world.size > 1 and not settings.freeze_bn and not settings.sync_bn:
        tell(f"{len(norms)} batch norms count the clips of each process alone; the first process's statistics are kept")
    if settings.parallel == "fsdp":
        mesh = init_device_mesh(world.device.type, (world.size,))
        own = {id(module) for module in model.modules()}
        for stage in model.stages().values():
            if id(stage) in own and any(True for _ in stage.parameters()):
                fully_shard(stage, mesh=mesh)
        fully_shard(model, mesh=mesh, reshard_after_forward=True)
        return model
    if world.size == 1:
        return model
    ids = [world.device] if world.device.type == "cuda" else None
    return DistributedDataParallel(model, device_ids=ids, broadcast_buffers=False)


@contextmanager
def part(network: nn.Module, *, last: bool) -> Iterator[None]:
    """Around forward and backward of one part of a step: gradients are exchanged with the last one only."""
    if isinstance(network, FSDPModule):
        network.set_requires_gradient_sync(last)
        yield
    elif isinstance(network, DistributedDataParallel) and not last:
        with network.no_sync():
            yield
    else:
        yield


@contextmanager
def gathered(model: nn.Module) -> Iterator[None]:
    """Inside, every process holds all weights, so that each can run the model as often as it needs."""
    shards = [module for module in model.modules() if isinstance(module, FSDPModule)]
    for module in shards:
        module.set_reshard_after_forward(False, recurse=False)
        module.unshard()
    try:
        yield
    finally:
        for module in shards:
            module.reshard()
            module.set_reshard_after_forward(True, recurse=False)


def share_statistics(model: nn.Module, world: World) -> None:
    """Give every process the running statistics of the first, which are those that are kept."""
    if world.size > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)


def whole(tensors: dict[str, Any]) -> dict[str, Tensor]:
    """The tensors on the CPU and unsharded, in every process."""
    found = {}
    for name, tensor in tensors.items():
        full = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
        found[name] = full.detach().cpu().clone(memory_format=torch.contiguous_format)
    return found
