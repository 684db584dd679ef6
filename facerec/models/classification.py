"""From embeddings and labels to the training loss, with or without logits in between."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facerec.config.schema import HeadConfig
from facerec.errors import ConfigError
from facerec.models.fused import DEFAULT_CHUNK_MIB, RowLosses, fused_rows
from facerec.models.heads.base import CosineHead
from facerec.models.heads.cosine import check_labels
from facerec.models.precision import full_precision, full_precision_dtype
from facerec.models.sampling import sample_classes
from facerec.models.spread import ALONE, Spread

__all__ = [
    "ClassificationLoss",
    "LossOutput",
    "LossSettings",
    "build_classification_loss",
    "chosen_classes",
    "row_losses",
]


class LossOutput(NamedTuple):
    """What one batch gives."""

    loss: Tensor
    """Mean over the batch, the head's regulariser included; a scalar, float32."""
    is_correct_B: Tensor
    """Whether no class has a larger logit than the own one, margin included; (B,), bool."""


@dataclass(frozen=True, kw_only=True)
class LossSettings:
    """How the cross-entropy of a head is computed.

    Raises:
        ConfigError: a setting is out of its range.
    """

    fused: bool = False
    """Compute by chunks of classes that are never kept, instead of holding all logits."""
    sample_rate: float = 1.0
    """Share of the classes that take part in each batch, in (0, 1]; those of the batch always do."""
    seed: int = 0
    """Seed of the sample."""
    chunk_mib: int = DEFAULT_CHUNK_MIB
    """Memory for a chunk of the fused loss, in MiB."""

    def __post_init__(self) -> None:
        if not 0.0 < self.sample_rate <= 1.0:
            raise ConfigError(f"head.sample_rate: must be above 0 and at most 1, not {self.sample_rate:g}")
        if self.chunk_mib < 1:
            raise ConfigError(f"head.chunk_mib: must be 1 or more, not {self.chunk_mib}")

    @classmethod
    def of(cls, config: HeadConfig, *, seed: int) -> LossSettings:
        """The settings that a configuration asks for."""
        return cls(
            fused=config.loss == "fused",
            sample_rate=config.sample_rate,
            seed=seed,
            chunk_mib=DEFAULT_CHUNK_MIB if config.chunk_mib is None else config.chunk_mib,
        )


class ClassificationLoss(nn.Module):
    """Softmax cross-entropy of a margin head, averaged over the batch.

    The head stays a module of its own (``.head``), whose state dict is what a checkpoint holds. With a sample rate
    below 1 the classes left out get a gradient of zero, as in PartialFC v2: the optimiser's momentum and the weight
    decay act on them all the same. Evaluation uses all classes.

    For one process, which has the whole batch; `facerec.models.sharded` splits the classes over several.

    Shape: embeddings (B, D), any floating dtype; labels (B,), int64 in [0, C).

    Raises:
        ModelError: a label is outside [0, C), on the CPU.
    """

    def __init__(self, head: CosineHead, settings: LossSettings | None = None) -> None:
        super().__init__()
        self.head = head
        self.settings = settings or LossSettings()

    def forward(self, embeddings_BD: Tensor, labels_B: Tensor, *, step: int = 0) -> LossOutput:
        """The loss of one batch; ``step`` is the number of the update, on which the sampled classes depend."""
        head, settings = self.head, self.settings
        check_labels(labels_B, num_classes=head.num_classes)
        with full_precision(embeddings_BD):
            embeddings_BD = embeddings_BD.to(full_precision_dtype(head.weight))
            norms_B = embeddings_BD.norm(dim=1)
            weight, columns_B = chosen_classes(head, labels_B, settings=settings, step=step, training=self.training)
            rows = row_losses(
                head,
                weight,
                embeddings_BD,
                columns_B,
                norms_B=norms_B,
                spread=ALONE,
                settings=settings,
                cross_entropy=_cross_entropy,
            )
            return LossOutput(loss=_mean_loss(head, rows, norms_B), is_correct_B=rows.is_correct_B)

    def extra_repr(self) -> str:
        """The settings, as ``print(model)`` shows them."""
        return f"fused={self.settings.fused}, sample_rate={self.settings.sample_rate}"


def build_classification_loss(head: nn.Module, config: HeadConfig, *, seed: int) -> ClassificationLoss:
    """The loss that a configuration asks for, around a head that `build_head` built, for one process.

    Raises:
        ConfigError: the head is not made of class centres.
    """
    if not isinstance(head, CosineHead):
        raise ConfigError(f"head.type: '{config.type}' builds no CosineHead, which the losses are made for")
    return ClassificationLoss(head, LossSettings.of(config, seed=seed))


def chosen_classes(
    head: CosineHead, columns_B: Tensor, *, settings: LossSettings, step: int, training: bool, first_class: int = 0
) -> tuple[Tensor, Tensor]:
    """The rows of the head's weight that take part, and the place of each embedding's class among them."""
    if settings.sample_rate == 1.0 or not training:
        return head.weight, columns_B
    sample = sample_classes(
        columns_B,
        num_classes=head.weight.shape[0],
        rate=settings.sample_rate,
        seed=settings.seed,
        step=step,
        first_class=first_class,
    )
    return head.weight.index_select(0, sample.rows_S), sample.columns_B


def row_losses(
    head: CosineHead,
    weight: Tensor,
    embeddings_BD: Tensor,
    columns_B: Tensor,
    *,
    norms_B: Tensor,
    spread: Spread,
    settings: LossSettings,
    cross_entropy: Callable[[Tensor, Tensor], RowLosses],
) -> RowLosses:
    """The loss of each embedding over the classes of ``weight``, fused or by all logits and their ``cross_entropy``."""
    if settings.fused:
        chunk_mib = settings.chunk_mib
        return fused_rows(head, weight, embeddings_BD, columns_B, norms_B=norms_B, spread=spread, chunk_mib=chunk_mib)
    logits_BC = head.logits_over(weight, embeddings_BD, columns_B, norms_B=norms_B, spread=spread)
    return cross_entropy(logits_BC, columns_B)


def _cross_entropy(logits_BC: Tensor, labels_B: Tensor) -> RowLosses:
    at_label_B = logits_BC.detach().gather(1, labels_B[:, None]).squeeze(1)
    is_correct_B = at_label_B >= logits_BC.detach().amax(dim=1)
    return RowLosses(loss_B=F.cross_entropy(logits_BC, labels_B, reduction="none"), is_correct_B=is_correct_B)


def _mean_loss(head: CosineHead, rows: RowLosses, norms_B: Tensor) -> Tensor:
    loss = rows.loss_B.mean()
    regulariser = head.regulariser(norms_B)
    if regulariser is not None:
        loss = loss + regulariser
    return loss.to(torch.promote_types(loss.dtype, torch.float32))
