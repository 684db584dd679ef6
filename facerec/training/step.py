"""One update of the weights, and what is accumulated over many of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facerec.data.transforms import normalise_images
from facerec.models.build import FaceModel
from facerec.models.device import Precision

__all__ = ["RunningMeans", "TrainStep", "Window"]


@dataclass(frozen=True, kw_only=True)
class Window:
    """Means over the pictures of some steps."""

    loss: float
    accuracy: float
    """Top-1 accuracy of the logits, margin included; in [0, 1]."""
    images: int


class RunningMeans:
    """Sums of loss and hits that stay on the device, so that a step waits for nothing."""

    def __init__(self, device: torch.device) -> None:
        self._sums_2 = torch.zeros(2, dtype=torch.float64, device=device)
        self._images = 0

    @torch.no_grad()
    def add(self, loss: Tensor, logits_BC: Tensor, labels_B: Tensor) -> None:
        """Add one batch."""
        batch = labels_B.shape[0]
        hits = (logits_BC.argmax(dim=1) == labels_B).sum()
        self._sums_2 += torch.stack([loss.detach().double() * batch, hits.double()])
        self._images += batch

    def read(self) -> Window:
        """The means so far; waits for the device."""
        loss, hits = self._sums_2.tolist()
        images = max(1, self._images)
        return Window(loss=loss / images, accuracy=hits / images, images=self._images)

    def clear(self) -> None:
        """Start again."""
        self._sums_2.zero_()
        self._images = 0

    def state(self) -> list[float]:
        """The sums as plain data."""
        return [*self._sums_2.tolist(), self._images]

    def restore(self, state: list[float]) -> None:
        """Set the sums to what `state` returned."""
        self._sums_2.copy_(torch.tensor(state[:2], dtype=torch.float64))
        self._images = int(state[2])


class TrainStep:
    """Forward, backward, clip, update.

    A loss or a gradient that is not finite never reaches the weights: on a CPU the step says so at once; on CUDA the
    update is left out by the fused optimiser itself, this one and all later ones, until `is_broken` is asked, so that
    no step has to wait for the device. An overflow that the float16 scaler handles is not such a case.
    """

    def __init__(
        self,
        model: FaceModel,
        optimizer: torch.optim.Optimizer,
        *,
        precision: Precision,
        grad_clip_norm: float,
        device: torch.device,
        init_scale: float = 2.0**16,
        data_parallel: bool = False,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.device = device
        self.scaler = torch.amp.GradScaler(device.type, init_scale=init_scale, enabled=precision.needs_scaler)
        self._backbone: nn.Module = nn.DataParallel(model.backbone) if data_parallel else model.backbone
        self._precision = precision
        self._grad_clip_norm = grad_clip_norm
        self._parameters = [weight for group in optimizer.param_groups for weight in group["params"]]
        self._broken = torch.zeros((), device=device)
        self._first_broken = torch.full((), -1, dtype=torch.int64, device=device)

    def __call__(self, images_BCHW: Tensor, labels_B: Tensor, *, step: int) -> tuple[Tensor, Tensor]:
        """Update the weights by one batch.

        ``step`` is the number of the update, to name it should it break.
        Shape: images (B, 3, H, W) uint8, labels (B,) int64, both on the device; returns the loss, a scalar, and the
        logits (B, C), float32.
        """
        autocast_dtype = self._precision.dtype
        with torch.autocast(self.device.type, dtype=autocast_dtype, enabled=autocast_dtype is not None):
            embeddings_BD = self._backbone(normalise_images(images_BCHW))
            logits_BC = self.model.head(embeddings_BD, labels_B)
        loss = F.cross_entropy(logits_BC, labels_B)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self._update(loss, step)
        return loss, logits_BC

    def is_broken(self) -> bool:
        """Whether a loss or a gradient was not finite; waits for the device."""
        return bool(self._broken.item())

    @property
    def first_broken_step(self) -> int:
        """The first step whose loss or gradient was not finite, -1 for none; waits for the device."""
        return int(self._first_broken.item())

    def _update(self, loss: Tensor, step: int) -> None:
        self.scaler.unscale_(self.optimizer)
        finite = torch.isfinite(loss)
        if self._grad_clip_norm > 0:
            norm = nn.utils.clip_grad_norm_(self._parameters, self._grad_clip_norm)
        else:
            norm = nn.utils.get_total_norm([weight.grad for weight in self._parameters if weight.grad is not None])
        if not self.scaler.is_enabled():
            finite = finite & torch.isfinite(norm)
        is_first = ~finite & (self._broken == 0)
        self._first_broken = torch.where(is_first, step, self._first_broken)
        self._broken = torch.maximum(self._broken, (~finite).float())
        if self.device.type == "cpu" and self.is_broken():
            return
        if self.scaler.is_enabled():
            # The scaler leaves out every update whose gradients are not finite, and a broken loss has no other.
            self.scaler.step(self.optimizer)
            self.scaler.update()
        else:
            self._skip_when_broken()
            self.optimizer.step()

    def _skip_when_broken(self) -> None:
        if self.device.type == "cuda":
            # The fused optimisers read this attribute, by which torch's own scaler tells them to leave an update out.
            self.optimizer.found_inf = self._broken  # type: ignore[attr-defined]
