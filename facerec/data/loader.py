"""Batches for training: from a configuration to an iterator per epoch."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from types import TracebackType
from typing import Any

import torch
from torch.utils.data import DataLoader

from facerec.config.schema import Config
from facerec.data.dataset import BadRecord, FaceBatch, FaceDataset, ImagePack
from facerec.data.device_copy import Batch, copy_to_device
from facerec.data.opening import build_order, open_pack
from facerec.data.sampler import BatchRequest, BatchSampler
from facerec.data.workers import (
    ErrorsAsValues,
    StartMethod,
    expected_warnings,
    start_method,
    starting_workers,
    stay_until_trainer_ends,
    worker_context,
    worker_deaths_explained,
)
from facerec.errors import FacerecError

__all__ = ["Batch", "TrainLoader", "build_train_loader", "open_pack"]

_PREFETCH_PER_WORKER = 4
_log = logging.getLogger(__name__)


class TrainLoader:
    """Makes the batches of any epoch from any step on; workers live from the first epoch until `close`.

    Only the newest iterator of `epoch` may be used. Use as a context manager, or call `close`.
    """

    def __init__(
        self,
        pack: ImagePack,
        *,
        dataset: FaceDataset,
        sampler: BatchSampler,
        num_workers: int,
        device: torch.device | None = None,
        multiprocessing_context: StartMethod | None = None,
    ) -> None:
        self.pack = pack
        self.skipped_keys: dict[int, str] = {}
        """The key of every record that was left out so far, and why."""
        self._sampler = sampler
        self._device = device or torch.device("cpu")
        self._copies: torch.cuda.Stream | None = None
        self._aim = _Aim(sampler)
        self._has_workers = num_workers > 0
        self._turn = 0
        self._batches: Iterator[FaceBatch | FacerecError] | None = None
        self._loader: DataLoader[Any] | None = _make_torch_loader(
            ErrorsAsValues(dataset),
            self._aim,
            num_workers=num_workers,
            pin_memory=self._device.type == "cuda",
            context=multiprocessing_context or start_method(),
        )

    @property
    def num_images(self) -> int:
        """Pictures in the training set."""
        return self.pack.num_images

    @property
    def num_classes(self) -> int:
        """Identities in the training set."""
        return self.pack.num_classes

    def name_of(self, key: int) -> str:
        """A short name of a record, with its pack where there are several."""
        return self.pack.name_of(key)

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch."""
        return self._sampler.steps_per_epoch

    @property
    def most_unseen_images(self) -> int:
        """Pictures that an epoch may leave out: those of an incomplete last batch, or any where the order repeats."""
        return self._sampler.most_unseen_images

    def epoch(self, epoch: int, *, start_step: int = 0) -> Iterator[Batch]:
        """The batches of ``epoch``, counted from 0, from ``start_step`` on; fetching begins with this call.

        Raises:
            ValueError: ``start_step`` is outside [0, steps_per_epoch].
            DataError: while iterating: a record is damaged (see ``data.on_bad_record``), or a worker has died.
        """
        if self._loader is None:
            raise RuntimeError("the loader is closed")
        self._aim.point_at(epoch, start_step)
        self._turn += 1
        first = self._batches is None
        self._batches = None
        with starting_workers() if first else nullcontext(), self._explaining():
            self._batches = iter(self._loader)
        if self._copies is None and self._device.type == "cuda":
            # One for all epochs: memory that was given to one stream is not given to another.
            self._copies = torch.cuda.Stream(self._device)
        return copy_to_device(self._drain(self._turn), self._device, self._copies)

    def close(self) -> None:
        """End the workers; safe to call again."""
        self._turn += 1
        # torch has no public call for this: its iterator ends the workers when its last reference goes.
        self._batches = None
        self._loader = None

    def __enter__(self) -> TrainLoader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _drain(self, turn: int) -> Iterator[Batch]:
        while True:
            # The iterator is never a local variable: a frame in a traceback would keep the workers alive.
            if turn != self._turn or self._batches is None:
                raise RuntimeError("this epoch's iterator has ended: another epoch was started, or the loader closed")
            with self._explaining():
                fetched = next(self._batches, None)
            if fetched is None:
                return
            if isinstance(fetched, FacerecError):
                raise fetched
            self._report(fetched.bad_records)
            yield Batch(fetched.images_BCHW, fetched.labels_B, fetched.keys_B)

    def _explaining(self) -> AbstractContextManager[None]:
        return worker_deaths_explained() if self._has_workers else nullcontext()

    def _report(self, bad_records: Sequence[BadRecord]) -> None:
        for key, reason in bad_records:
            if key not in self.skipped_keys:
                self.skipped_keys[key] = reason
                _log.warning("left out a damaged record: %s", reason)


def build_train_loader(
    config: Config,
    *,
    pack: ImagePack | None = None,
    rank: int = 0,
    world_size: int = 1,
    device: torch.device | None = None,
    multiprocessing_context: StartMethod | None = None,
) -> TrainLoader:
    """Build the loader of one rank.

    ``pack`` is an open pack to use instead of ``data.root``. ``device`` is where batches are wanted: to CUDA they go
    through page-locked memory, and are copied while the device computes. ``multiprocessing_context`` says
    how workers start; null chooses, see `workers.start_method`.

    Raises:
        ConfigError: ``data.root`` is not set, the pack has fewer images or identities than one batch, or
            ``data.reader: mxnet`` cannot be imported.
        MissingPathError: ``data.root`` does not exist.
        DataError: the pack is damaged.
    """
    pack = open_pack(config) if pack is None else pack
    dataset = FaceDataset(
        pack,
        image_hw=config.image_hw,
        augment=config.data.augment,
        seed=config.seed,
        on_bad_record=config.data.on_bad_record,
    )
    sampler = BatchSampler(
        order=build_order(config, pack), batch_size=config.data.batch_size, rank=rank, world_size=world_size
    )
    return TrainLoader(
        pack,
        dataset=dataset,
        sampler=sampler,
        num_workers=config.data.num_workers,
        device=device,
        multiprocessing_context=multiprocessing_context,
    )


class _Aim:
    """The batch sampler of a torch DataLoader that is pointed at another epoch without starting new workers."""

    def __init__(self, sampler: BatchSampler) -> None:
        self._sampler = sampler
        self._requests: Iterator[BatchRequest] = iter(())

    def point_at(self, epoch: int, start_step: int) -> None:
        self._requests = self._sampler.requests(epoch, start_step=start_step)

    def __iter__(self) -> Iterator[BatchRequest]:
        return self._requests


def _make_torch_loader(
    dataset: ErrorsAsValues, aim: _Aim, *, num_workers: int, pin_memory: bool, context: StartMethod
) -> DataLoader[Any]:
    with expected_warnings():
        return DataLoader(
            dataset,
            batch_sampler=aim,  # type: ignore[arg-type]
            num_workers=num_workers,
            collate_fn=_identity,
            # A page-locked buffer without CUDA would only warn.
            pin_memory=pin_memory and torch.cuda.is_available(),
            # torch draws a number per epoch; from the global generator that would change what a resumed run draws.
            generator=torch.Generator(),
            worker_init_fn=partial(stay_until_trainer_ends, trainer=os.getpid()) if num_workers else None,
            multiprocessing_context=worker_context(context) if num_workers else None,
            persistent_workers=num_workers > 0,
            prefetch_factor=_PREFETCH_PER_WORKER if num_workers else None,
        )


def _identity(batch: Any) -> Any:
    return batch
