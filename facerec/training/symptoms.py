"""Signs that a training goes wrong although every number is finite; each is told once, with its usual cause."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from facerec.models.classification import LossOutput
from facerec.training.distributed import World

__all__ = ["Symptoms"]

_COLLAPSED = 1e-4
_NEAR_CHANCE = 0.05
_FEWEST_STEPS = 10


class Symptoms:
    """Watches the updates of one epoch after the other; everything stays on the device until an epoch ends."""

    def __init__(self, *, num_classes: int, most_unseen_images: int, device: torch.device, world: World) -> None:
        """Watch for ``num_classes`` identities; an epoch may leave out ``most_unseen_images`` pictures."""
        self._num_classes = num_classes
        self._most_unseen_images = most_unseen_images
        self._world = world
        self._told: set[str] = set()
        self._seen_C = torch.zeros(num_classes, device=device)
        self._loss_range_2 = torch.zeros(2, device=device)
        self._steps = 0
        self._from_start = False

    def begin_epoch(self, *, step_in_epoch: int) -> None:
        """Forget the epoch before; one that a resume entered in its middle is not judged."""
        self._seen_C.zero_()
        self._loss_range_2.copy_(torch.tensor([math.inf, -math.inf]))
        self._steps = 0
        self._from_start = step_in_epoch == 0

    @torch.no_grad()
    def add(self, output: LossOutput, labels_B: Tensor) -> None:
        """Look at one update; waits for nothing."""
        # Not by an assignment, which would copy the number to the device and wait for that.
        self._seen_C.index_fill_(0, labels_B, 1.0)
        loss = output.loss.detach().float()
        low, high = self._loss_range_2.unbind()
        self._loss_range_2 = torch.stack([torch.minimum(low, loss), torch.maximum(high, loss)])
        self._steps += 1

    def of_embeddings(self, spread: Tensor) -> list[str]:
        """Sentences on ``TrainStep.embedding_spread``; waits for the device."""
        value = float(spread)
        if value >= _COLLAPSED:
            return []
        return self._once(
            "collapse",
            f"the embeddings of a batch are all but the same (1 - |mean|² is {value:.1e}): the network has collapsed. "
            "Usual causes: a learning rate that is too high at the start (training.warmup_epochs), "
            "or weight decay without a loss that resists it",
        )

    def of_epoch(self) -> list[str]:
        """Sentences on the epoch that has ended; waits for the device, and for the other processes."""
        if not self._from_start:
            return []
        # Both are read on every process, whatever is told.
        unseen = self._num_classes - int((self._world.sum(self._seen_C) > 0).sum())
        low, high = self._loss_range_2.tolist()
        found = self._of_classes(unseen) if unseen > self._most_unseen_images else []
        chance = math.log(self._num_classes) if self._num_classes > 1 else 0.0
        stays = abs(low - chance) <= _NEAR_CHANCE * chance and abs(high - chance) <= _NEAR_CHANCE * chance
        return found + (self._of_loss(chance) if stays and self._steps >= _FEWEST_STEPS else [])

    def _of_classes(self, unseen: int) -> list[str]:
        return self._once(
            "classes",
            f"{unseen} of {self._num_classes} identities had no picture in this epoch, so their class centres only "
            "decay. Usual causes: labels of the data that are not 0 to C - 1 without gaps, or records that are skipped "
            "(facerec data verify tells)",
        )

    def _of_loss(self, chance: float) -> list[str]:
        return self._once(
            "chance",
            f"the loss stayed at ln({self._num_classes}) = {chance:.2f}, that of guessing, for a whole epoch. "
            "Usual causes: a learning rate that is far too low or too high, labels that do not belong to the pictures, "
            "or a head.scale so small that no margin can be reached",
        )

    def _once(self, name: str, sentence: str) -> list[str]:
        if name in self._told:
            return []
        self._told.add(name)
        return [sentence]
