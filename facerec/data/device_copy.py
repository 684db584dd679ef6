"""Batches on their way to the device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Batch", "copy_to_device"]


class Batch(NamedTuple):
    """What one step trains on."""

    images_BCHW: Tensor
    """(B, 3, H, W) uint8, RGB, a channels_last view; `transforms.normalise_images` makes it float."""
    labels_B: Tensor
    """(B,) int64, each in [0, num_classes)."""
    keys_B: Tensor
    """(B,) int64, the records' keys in the pack; always on the CPU."""


def copy_to_device(
    batches: Iterator[Batch], device: torch.device, copies: torch.cuda.Stream | None = None
) -> Iterator[Batch]:
    """Yield the batches with images and labels on ``device``.

    On CUDA a batch is copied by the stream ``copies``, which does not wait for what the device computes: while it works
    on one step, the next batch arrives. Without a stream the batches are passed on as they are.
    """
    if copies is None:
        yield from batches
        return
    for batch in batches:
        with torch.cuda.stream(copies):
            images = batch.images_BCHW.to(device, non_blocking=True)
            labels = batch.labels_B.to(device, non_blocking=True)
        computing = torch.cuda.current_stream(device)
        computing.wait_stream(copies)
        for tensor in (images, labels):
            # The memory belongs to the copying stream, and must not be given out again before the step is through.
            tensor.record_stream(computing)
        yield batch._replace(images_BCHW=images, labels_B=labels)
