"""Encoded images to embeddings, as verification wants them: float32, whatever training computes in."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from facerec.data.decode import decode_image
from facerec.data.transforms import normalise_images
from facerec.errors import DataError, ModelError
from facerec.process import available_cores, keep_freed_memory

__all__ = ["Embeddings", "NameOf", "Progress", "distinct_images", "embed_decoded", "embed_images", "embed_pixels"]

NameOf = Callable[[int], str]
"""How messages call an image, such as ``lfw: image 17``."""

Progress = Callable[[int, int], None]
"""Called with the number of images that are done and of all."""

_MAX_THREADS = 8
_CPU_PICTURES_PER_THREAD = 4
"""Pictures that a CPU computes at a time: what lies between two layers of more than that leaves the cache, and is so
large that every layer asks the system for new pages."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Embeddings:
    """Embeddings before normalisation; row ``i`` belongs to image ``i``."""

    original: NDArray[np.float32]
    """(N, D)."""
    flipped: NDArray[np.float32] | None
    """(N, D), of the mirrored images; None without the flip."""


def embed_images(
    backbone: nn.Module,
    images: Sequence[bytes],
    *,
    image_hw: tuple[int, int],
    device: torch.device,
    batch_size: int,
    flip: bool = True,
    what: str | NameOf = "image",
    progress: Progress | None = None,
) -> Embeddings:
    """Embed encoded images with a backbone that is on ``device``; identical images are embedded once.

    Args:
        backbone: Takes (B, 3, H, W) float32 in [-1, 1], gives (B, D).
        images: Encoded, RGB after decoding.
        image_hw: Height and width that the backbone takes.
        device: Where the backbone is.
        batch_size: Pictures in a batch; with the flip half of them are mirrored ones.
        flip: Also embed the mirrored images.
        what: How messages call an image: from its index, or the words before it, such as ``lfw: image``.
        progress: Told of every batch.

    Raises:
        ImageError: an image is damaged; the message names its index.
        DataError, ModelError: as `embed_decoded`.
    """
    name_of: NameOf = (lambda index: f"{what} {index}") if isinstance(what, str) else what
    if not images:
        raise DataError("there is no image to embed; check the pair set")
    first_seen, slot_of_image = distinct_images(images)
    embeddings = embed_decoded(
        backbone,
        len(first_seen),
        lambda slot: decode_image(images[first_seen[slot]], image_hw=image_hw, what=name_of(first_seen[slot])),
        device=device,
        batch_size=batch_size,
        flip=flip,
        name_of=lambda slot: name_of(first_seen[slot]),
        progress=progress,
    )
    if len(first_seen) == len(images):
        return embeddings
    flipped = embeddings.flipped
    return Embeddings(
        original=embeddings.original[slot_of_image], flipped=None if flipped is None else flipped[slot_of_image]
    )


def embed_decoded(
    backbone: nn.Module,
    num_images: int,
    decode: Callable[[int], NDArray[np.uint8]],
    *,
    device: torch.device,
    batch_size: int,
    name_of: NameOf,
    flip: bool = True,
    progress: Progress | None = None,
) -> Embeddings:
    """Embed images that are decoded when their turn comes, so that no more than a few batches are in memory.

    Threads decode ahead of the device. The backbone is put into evaluation mode and every module back into the mode
    that it had; no generator of random numbers is touched. Neither autocast nor TF32 is used, so that the result
    depends on the batch size by rounding alone.

    Args:
        backbone: Takes (B, 3, H, W) float32 in [-1, 1], gives (B, D).
        num_images: Number of images.
        decode: From the index of an image to its pixels, (H, W, 3) uint8, RGB; called from several threads.
        device: Where the backbone is.
        batch_size: Pictures in a batch; with the flip half of them are mirrored ones.
        name_of: How messages call an image.
        flip: Also embed the mirrored images.
        progress: Told of every batch.

    Raises:
        DataError: there are no images.
        ModelError: an embedding is not finite (the message names the image), or has another shape than (D,).
    """
    if num_images < 1:
        raise DataError("there is no image to embed; check the images")
    if device.type == "cpu":
        keep_freed_memory()
    chunk_size = max(1, batch_size // 2) if flip else batch_size
    chunks = [range(start, min(start + chunk_size, num_images)) for start in range(0, num_images, chunk_size)]
    outputs: list[NDArray[np.float32]] = []
    with _measuring(backbone, device):
        for chunk, pixels_BHWC in zip(chunks, _decode_ahead(decode, chunks), strict=True):
            embeddings = _embed_batch(backbone, pixels_BHWC, device=device, flip=flip)
            _check_finite(embeddings, chunk, name_of)
            outputs.append(embeddings)
            if progress is not None:
                progress(chunk.stop, num_images)
    joined = np.concatenate(outputs, axis=1)
    return Embeddings(original=joined[0], flipped=joined[1] if flip else None)


def embed_pixels(
    backbone: nn.Module, pixels_BHWC: NDArray[np.uint8], *, device: torch.device, flip: bool = True
) -> Embeddings:
    """Embed decoded images in one batch; see `embed_images`.

    Shape: ``pixels_BHWC`` (B, H, W, 3) uint8, RGB.

    Raises:
        ModelError: an embedding is not finite, or has another shape than (D,).
    """
    with _measuring(backbone, device):
        embeddings = _embed_batch(backbone, pixels_BHWC, device=device, flip=flip)
    _check_finite(embeddings, range(len(pixels_BHWC)), lambda index: f"image {index}")
    return Embeddings(original=embeddings[0], flipped=embeddings[1] if flip else None)


def distinct_images(images: Sequence[bytes]) -> tuple[list[int], NDArray[np.intp]]:
    """Indices of the first image of each content, and for every image the place of its content among them."""
    slots: dict[bytes, int] = {}
    first_seen: list[int] = []
    slot_of_image = np.empty(len(images), dtype=np.intp)
    for index, data in enumerate(images):
        slot = slots.setdefault(data, len(first_seen))
        if slot == len(first_seen):
            first_seen.append(index)
        slot_of_image[index] = slot
    return first_seen, slot_of_image


def _decode_ahead(decode: Callable[[int], NDArray[np.uint8]], chunks: Sequence[range]) -> Iterator[NDArray[np.uint8]]:
    """Decoded chunks in order, each (B, H, W, 3) uint8; as many chunks are under way as there are threads."""

    def decode_chunk(chunk: range) -> NDArray[np.uint8]:
        return np.stack([decode(index) for index in chunk])

    num_threads = min(_MAX_THREADS, available_cores(), len(chunks))
    pending: deque[Future[NDArray[np.uint8]]] = deque()
    with ThreadPoolExecutor(num_threads, thread_name_prefix="decode") as threads:
        try:
            for chunk in chunks:
                pending.append(threads.submit(decode_chunk, chunk))
                if len(pending) > num_threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def _embed_batch(
    backbone: nn.Module, pixels_BHWC: NDArray[np.uint8], *, device: torch.device, flip: bool
) -> NDArray[np.float32]:
    """Embed one batch and, in the same pass, its mirror images: (1 or 2, B, D)."""
    stored = torch.from_numpy(pixels_BHWC)
    if device.type == "cuda":
        stored = stored.pin_memory()
    # The transposed view of (B, H, W, 3) is channels last already; nothing is copied.
    pixels_BCHW = stored.permute(0, 3, 1, 2).to(device, non_blocking=True)
    if flip:
        pixels_BCHW = torch.cat([pixels_BCHW, pixels_BCHW.flip(3)])
    images_BCHW = normalise_images(pixels_BCHW).contiguous(memory_format=torch.channels_last)
    size = _CPU_PICTURES_PER_THREAD * torch.get_num_threads() if device.type == "cpu" else len(images_BCHW)
    embeddings_BD = torch.cat([_embed_part(backbone, part) for part in images_BCHW.split(size)])
    copied: NDArray[np.float32] = embeddings_BD.float().cpu().numpy()
    return copied.reshape(2 if flip else 1, len(pixels_BHWC), -1)


def _embed_part(backbone: nn.Module, images_BCHW: Tensor) -> Tensor:
    embeddings: Tensor = backbone(images_BCHW)
    if embeddings.dim() != 2 or len(embeddings) != len(images_BCHW):
        raise ModelError(
            f"the model gives {tuple(embeddings.shape)} for {len(images_BCHW)} images, not one embedding for each"
        )
    return embeddings


def _check_finite(embeddings: NDArray[np.float32], chunk: range, name_of: NameOf) -> None:
    finite = np.isfinite(embeddings).all(axis=(0, 2))
    if not finite.all():
        index = chunk[int(np.argmin(finite))]
        raise ModelError(
            f"the model gives an embedding that is not finite for {name_of(index)}; "
            "its weights have diverged, use an earlier checkpoint"
        )


@contextmanager
def _measuring(backbone: nn.Module, device: torch.device) -> Generator[None]:
    """Evaluation mode, no gradients, true float32; everything is as before afterwards."""
    modes = [(module, module.training) for module in backbone.modules()]
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode())
        stack.enter_context(torch.autocast(device.type, enabled=False))
        stack.enter_context(_without_tf32())
        backbone.eval()
        try:
            yield
        finally:
            # Not backbone.train(): a module that was frozen in evaluation mode stays frozen.
            for module, training in modes:
                module.training = training


@contextmanager
def _without_tf32() -> Generator[None]:
    # TF32 keeps ten bits of the mantissa, and which convolutions use it depends on the shape of the batch.
    # The stubs of torch do not know these settings.
    backends: Any = torch.backends
    operators = (backends.cudnn.conv, backends.cuda.matmul)
    before = [operator.fp32_precision for operator in operators]
    try:
        for operator in operators:
            operator.fp32_precision = "ieee"
        yield
    finally:
        for operator, precision in zip(operators, before, strict=True):
            operator.fp32_precision = precision
