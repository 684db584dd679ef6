"""A moving average of the weights."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

__all__ = ["MovingAverage"]


class MovingAverage:
    """A copy of a module whose every number follows the module's own by a share of 1 - decay at each update.

    In the first updates the decay is smaller, (1 + n) / (10 + n) after n of them, so that the random start is soon
    forgotten. It depends on the number of the update alone: there is no state beside the averaged numbers. Running
    statistics are averaged like weights; what is no floating-point number (counters, masks) is copied.

    Source: Polyak and Juditsky 1992; the rise of the decay as in Abadi et al. 2016, TensorFlow's
    ``ExponentialMovingAverage``.
    """

    def __init__(self, module: nn.Module, *, decay: float) -> None:
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        self._decay = decay
        own, source = _tensors(self.module), _tensors(module)
        self._pairs = [(own[name], source[name]) for name in own]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Follow the module after the update number ``step``, from 0."""
        decay = min(self._decay, (1.0 + step) / (10.0 + step))
        averages = [own for own, _ in self._pairs if own.is_floating_point()]
        sources = [source for own, source in self._pairs if own.is_floating_point()]
        torch._foreach_lerp_(averages, sources, 1.0 - decay)
        for own, source in self._pairs:
            if not own.is_floating_point():
                own.copy_(source)

    @torch.no_grad()
    def start_from_module(self) -> None:
        """Forget what came before, and take the module's numbers as they are."""
        for own, source in self._pairs:
            own.copy_(source)


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}
