"""From embeddings and labels to the training loss, with or without logits in between."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from facerec.config.schema import HeadConfig

__all__ = ["ClassificationLoss", "LossOutput", "build_classification_loss"]


class LossOutput(NamedTuple):
    """What one batch gives."""

    loss: Tensor
    """Mean over the batch, the head's regulariser included; a scalar, float32."""
    is_correct_B: Tensor
    """Whether no class has a larger logit than the own one, margin included; (B,), bool."""


class ClassificationLoss(nn.Module):
    """Softmax cross-entropy of a margin head, averaged over the batch.

    The head stays a module of its own (``.head``), whose state dict is what a checkpoint holds.

    Shape: embeddings (B, D), any floating dtype; labels (B,), int64 in [0, C).

    Raises:
        ModelError: a label is outside [0, C), on the CPU.
    """

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, embeddings_BD: Tensor, labels_B: Tensor, *, step: int = 0) -> LossOutput:
        """The loss of one batch; ``step`` numbers the update, so that what is drawn for it can be drawn again."""
        logits_BC: Tensor = self.head(embeddings_BD, labels_B)
        at_label_B = logits_BC.detach().gather(1, labels_B[:, None]).squeeze(1)
        is_correct_B = at_label_B >= logits_BC.detach().amax(dim=1)
        return LossOutput(loss=F.cross_entropy(logits_BC, labels_B), is_correct_B=is_correct_B)


def build_classification_loss(head: nn.Module, config: HeadConfig, *, seed: int) -> ClassificationLoss:
    """The loss that a configuration asks for, around a head that `build_head` built."""
    return ClassificationLoss(head)
