"""``.pth`` files by torch's restricted reader: tensors and plain data; nothing that a file names is imported or called.

Lightning's checkpoints hold the classes of their callbacks and hyper-parameters beside the weights. Those are read as
empty placeholders of ours, since only the weights are wanted; any other name is refused.
"""

from __future__ import annotations

import pickle
import re
import struct
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from facerec.errors import CheckpointError

__all__ = ["load_pickle"]

_UNREADABLE = (
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    OverflowError,
    MemoryError,
    struct.error,
)
_REFUSED_NAME = re.compile(r"GLOBAL ([\w.]+)")
_LEFT_OUT = re.compile(r"(pytorch_lightning|lightning|lightning_fabric|lightning_utilities)\..+|utils\.dotdict")


class _LeftOut(dict[Any, Any]):
    """Stands for an object of a class that is not read; whatever it was made from is forgotten."""

    def __init__(self, *_: Any) -> None:
        super().__init__()

    def __setstate__(self, _: Any) -> None:
        """Forget the state."""


def load_pickle(path: Path) -> Any:
    """Read a ``.pth``, ``.pt`` or ``.ckpt``.

    Raises:
        CheckpointError: it is damaged, would unpack to more than it is, or names code.
    """
    _check_unpacked_size(path)
    try:
        return _load(path, left_out=[])
    except pickle.UnpicklingError as error:
        named = _named(path)
        if named and all(_LEFT_OUT.fullmatch(name) for name in named):
            return _load_without(path, named)
        name = _REFUSED_NAME.search(str(error))
        what = f"names code ({name[1]})" if name else "is damaged or not plain data"
        raise CheckpointError(
            f"{path} {what}; it was refused and nothing in it was run; only tensors and plain data are read"
        ) from error
    except _UNREADABLE as error:
        raise CheckpointError(f"{path} is damaged or no file of weights ({type(error).__name__})") from error


def _load(path: Path, *, left_out: list[str]) -> Any:
    # A list of pairs, which the annotation of torch's argument does not tell, reads a name as a class of ours.
    allowed: Any = [(_LeftOut, name) for name in left_out]
    with warnings.catch_warnings(), torch.serialization.safe_globals(allowed):
        # Other writers choose other pickle protocols; what the reader cannot do with them is an error anyway.
        warnings.filterwarnings("ignore", message="Detected pickle protocol", category=UserWarning)
        return torch.load(path, map_location="cpu", weights_only=True)


def _load_without(path: Path, named: list[str]) -> Any:
    try:
        return _load(path, left_out=named)
    except (pickle.UnpicklingError, *_UNREADABLE) as error:
        raise CheckpointError(f"{path} is damaged or no file of weights ({type(error).__name__})") from error


def _named(path: Path) -> list[str]:
    """The classes and functions that an archive names beyond what torch reads by itself; empty where unknown."""
    try:
        return torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except (pickle.UnpicklingError, *_UNREADABLE):
        return []


def _check_unpacked_size(path: Path) -> None:
    """Refuse archives that unpack to more than they are: torch stores tensors uncompressed."""
    try:
        if not zipfile.is_zipfile(path):
            return
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, struct.error) as error:
        raise CheckpointError(f"{path} is a damaged archive: {' '.join(str(error).split())[:200]}") from error
    packed = path.stat().st_size
    if unpacked > packed:
        raise CheckpointError(f"{path} has {packed} bytes and would unpack to {unpacked}; torch writes no such file")
