"""Which classes take part in the loss of a batch: PartialFC's sample."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from facerec.models.counters import counter_bits

__all__ = ["Sample", "sample_classes"]

_LARGEST = 2**63 - 1


class Sample(NamedTuple):
    """Some rows of the weight, and where the classes of the batch are among them."""

    rows_S: Tensor
    """Row numbers, rising; int64."""
    columns_B: Tensor
    """The place in ``rows_S`` of each embedding's class, -1 where it is not among the rows at all; int64."""


def sample_classes(
    columns_B: Tensor, *, num_classes: int, rate: float, seed: int, step: int, first_class: int = 0
) -> Sample:
    """Draw ``rate`` of ``num_classes`` rows at random, the classes of the batch always among them.

    The draw depends on (seed, step, class) alone: not on the device, and not on what was drawn before, so a resumed
    training draws what an uninterrupted one would. Its size depends on the shapes alone, so nothing waits for the
    device: it is never below the size of the batch, for which every class might be another.

    ``columns_B`` is the row of each embedding's class, -1 where it is not among these rows; row 0 is the class
    ``first_class`` of all.

    Source: An et al. 2022, PartialFC, arXiv:2203.15565, section 3; arcface_torch ``partial_fc_v2.py``.
    """
    size = min(num_classes, max(math.ceil(rate * num_classes), columns_B.shape[0]))
    classes_C = torch.arange(first_class, first_class + num_classes, device=columns_B.device)
    keys_C = counter_bits((seed, step), classes_C) & (_LARGEST >> 1)
    is_here_B = columns_B >= 0
    marks_B = torch.where(is_here_B, _LARGEST, 0)
    keys_C = keys_C.scatter_reduce(0, columns_B.clamp_min(0), marks_B, reduce="amax")
    rows_S = keys_C.topk(size, sorted=False).indices.sort().values
    places_B = torch.searchsorted(rows_S, columns_B.clamp_min(0))
    return Sample(rows_S=rows_S, columns_B=torch.where(is_here_B, places_B, -1))
