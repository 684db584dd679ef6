"""One update of the weights."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from facerec.data.transforms import normalise_images
from facerec.models.classification import LossOutput
from facerec.models.device import Precision
from facerec.training.distributed import World
from facerec.training.ema import MovingAverage
from facerec.training.scaler import build_scaler

__all__ = ["TrainStep"]

_HOPELESS_SCALE = 2.0**-24
"""No gradient of sound weights overflows float16 at such a loss scale."""


class TrainStep:
    """Forward, backward, clip, update; a batch may be computed in equal parts, whose gradients add up.

    A loss or a gradient that is not finite never reaches the weights: on a CPU the step says so at once; on CUDA the
    update is left out by the fused optimiser itself, this one and all later ones, until `is_broken` is asked, so that
    no step has to wait for the device. An overflow that the float16 scaler handles is not such a case. Several
    processes agree on it, so that all of them leave the update out.
    """

    def __init__(
        self,
        backbone: nn.Module,
        loss: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        precision: Precision,
        grad_clip_norm: float,
        device: torch.device,
        clipped_weights: Sequence[nn.Parameter] | None = None,
        init_scale: float = 2.0**16,
        accumulation_steps: int = 1,
        frozen_backbone: nn.Module | None = None,
        local_weights: Sequence[nn.Parameter] = (),
        average: MovingAverage | None = None,
        world: World | None = None,
    ) -> None:
        """Prepare the updates.

        ``backbone`` and ``loss`` are called as they are: compiled, or wrapped for several processes.
        ``grad_clip_norm`` bounds the norm of the gradient over ``clipped_weights``, all where there are none given.
        ``frozen_backbone`` is called instead while `is_frozen`, without gradients. ``local_weights`` are those that
        every process has a part of its own of, such as a shard of the class centres.
        """
        self.optimizer = optimizer
        self.device = device
        self.average = average
        self.is_frozen = False
        self.scaler = build_scaler(
            device, init_scale=init_scale, enabled=precision.needs_scaler, several=world is not None and world.size > 1
        )
        self.embedding_spread = torch.ones((), device=device)
        """1 - |mean of the normalised embeddings|² of the newest part; 0 where all embeddings are the same."""
        self._backbone = backbone
        self._frozen_backbone = frozen_backbone or backbone
        self._loss = loss
        self._precision = precision
        self._grad_clip_norm = grad_clip_norm
        self._parts = accumulation_steps
        self._world = world or World()
        parameters = [weight for group in optimizer.param_groups for weight in group["params"]]
        clipped = set(parameters if clipped_weights is None else clipped_weights)
        self._local_weights = set(local_weights)
        self._clipped_weights = [weight for weight in parameters if weight in clipped]
        self._other_weights = [weight for weight in parameters if weight not in clipped]
        self._broken = torch.zeros((), device=device)
        self._first_broken = torch.full((), -1, dtype=torch.int64, device=device)

    def __call__(self, images_BCHW: Tensor, labels_B: Tensor, *, step: int) -> LossOutput:
        """Update the weights by one batch.

        ``step`` is the number of the update, to name it should it break.
        Shape: images (B, 3, H, W) uint8, labels (B,) int64, both on the device.
        """
        self.optimizer.zero_grad(set_to_none=True)
        outputs: list[LossOutput] = []
        pairs = zip(images_BCHW.chunk(self._parts), labels_B.chunk(self._parts), strict=True)
        for index, (images, labels) in enumerate(pairs, start=1):
            with self._exchanging(enabled=index == self._parts):
                output = self._forward(images, labels, step)
                self.scaler.scale(output.loss / self._parts).backward()
            outputs.append(LossOutput(output.loss.detach(), output.is_correct_B))
        whole = outputs[0] if self._parts == 1 else _join(outputs)
        self._update(whole.loss, step)
        if self.average is not None:
            self.average.update(step)
        return whole

    def is_broken(self) -> bool:
        """Whether a loss or a gradient was not finite; waits for the device.

        Of gradients in float16 the scaler leaves out what overflows; where it has lowered its scale again and again,
        they are broken at any.
        """
        if self.scaler.is_enabled() and self.scaler.get_scale() < _HOPELESS_SCALE:
            return True
        return bool(self._broken.item())

    @property
    def first_broken_step(self) -> int:
        """The first step whose loss or gradient was not finite, -1 for none; waits for the device."""
        return int(self._first_broken.item())

    def _forward(self, images_BCHW: Tensor, labels_B: Tensor, step: int) -> LossOutput:
        dtype = self._precision.dtype
        with torch.autocast(self.device.type, dtype=dtype) if dtype is not None else nullcontext():
            inputs = normalise_images(images_BCHW)
            if self.is_frozen:
                with torch.no_grad():
                    embeddings_BD: Tensor = self._frozen_backbone(inputs)
            else:
                embeddings_BD = self._backbone(inputs)
            output: LossOutput = self._loss(embeddings_BD, labels_B, step=step)
        self._note_spread(embeddings_BD)
        return output

    @torch.no_grad()
    def _note_spread(self, embeddings_BD: Tensor) -> None:
        mean_D = nn.functional.normalize(embeddings_BD.detach().float()).mean(dim=0)
        self.embedding_spread = 1.0 - mean_D.square().sum()

    def _exchanging(self, *, enabled: bool) -> AbstractContextManager[object]:
        # Gradients go to the other processes once per update, with the last part of the batch.
        inner = getattr(self._backbone, "_orig_mod", self._backbone)
        if enabled or not isinstance(inner, DistributedDataParallel):
            return nullcontext()
        return inner.no_sync()

    def _update(self, loss: Tensor, step: int) -> None:
        self.scaler.unscale_(self.optimizer)
        norm = self._gradient_norm(self._clipped_weights)
        finite = torch.isfinite(loss)
        if not self.scaler.is_enabled():
            finite = finite & torch.isfinite(norm)
            if self._other_weights:
                finite = finite & torch.isfinite(self._gradient_norm(self._other_weights))
        if self._grad_clip_norm > 0:
            nn.utils.clip_grads_with_norm_(self._clipped_weights, self._grad_clip_norm, norm)
        broken = self._world.sum((~finite).float())
        is_first = (broken > 0) & (self._broken == 0)
        self._first_broken = torch.where(is_first, step, self._first_broken)
        self._broken = torch.maximum(self._broken, broken.clamp(max=1.0))
        if self.device.type == "cpu" and self.is_broken():
            return
        if self.scaler.is_enabled():
            # The scaler leaves out every update whose gradients are not finite, and a broken loss has no other.
            self.scaler.step(self.optimizer)
            self.scaler.update()
        else:
            self._skip_when_broken()
            self.optimizer.step()

    def _gradient_norm(self, weights: Sequence[nn.Parameter]) -> Tensor:
        """The norm over all processes; those weights that each has a part of its own of count whole."""
        norm = self._norm([weight for weight in weights if weight not in self._local_weights])
        own = [weight for weight in weights if weight in self._local_weights]
        if not own:
            return norm
        return (norm.square() + self._world.sum(self._norm(own).square())).sqrt()

    def _norm(self, weights: Sequence[nn.Parameter]) -> Tensor:
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        return nn.utils.get_total_norm(gradients) if gradients else torch.zeros((), device=self.device)

    def _skip_when_broken(self) -> None:
        if self.device.type == "cuda":
            # The fused optimisers read this attribute, by which torch's own scaler tells them to leave an update out.
            self.optimizer.found_inf = self._broken  # type: ignore[attr-defined]


def _join(outputs: list[LossOutput]) -> LossOutput:
    # The parts are equal, so the mean of their means is the mean of all.
    loss = torch.stack([output.loss for output in outputs]).mean()
    return LossOutput(loss, torch.cat([output.is_correct_B for output in outputs]))
