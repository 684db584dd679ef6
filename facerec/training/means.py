"""Means over many steps, summed on the device so that no step waits for it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from facerec.models.classification import LossOutput
from facerec.training.distributed import World

__all__ = ["RunningMeans", "Window"]


@dataclass(frozen=True, kw_only=True)
class Window:
    """Means over the pictures of some steps."""

    loss: float
    accuracy: float
    """Top-1 accuracy of the logits, margin included; in [0, 1]."""
    images: int


class RunningMeans:
    """Sums of loss, hits and pictures of this process; what is read are the means over all processes."""

    def __init__(self, device: torch.device, *, world: World | None = None) -> None:
        self._sums_3 = torch.zeros(3, dtype=torch.float64, device=device)
        self._world = world or World()

    @torch.no_grad()
    def add(self, output: LossOutput) -> None:
        """Add one batch."""
        hits = output.is_correct_B.sum().double()
        images = torch.full_like(hits, output.is_correct_B.shape[0])
        self._sums_3 += torch.stack([output.loss.detach().double() * images, hits, images])

    def read(self) -> Window:
        """The means so far; waits for the device and for the other processes."""
        loss, hits, images = self._world.sum(self._sums_3).tolist()
        return Window(loss=loss / max(1, images), accuracy=hits / max(1, images), images=round(images))

    def clear(self) -> None:
        """Start again."""
        self._sums_3.zero_()

    def state(self) -> list[float]:
        """The sums of this process as plain data."""
        sums: list[float] = self._sums_3.tolist()
        return sums

    def restore(self, state: list[float]) -> None:
        """Set the sums to what `state` returned."""
        self._sums_3.copy_(torch.tensor(state, dtype=torch.float64))
