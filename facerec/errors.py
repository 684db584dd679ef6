"""The errors that users meet, and the exit code of each.

Every message is one sentence or two: what is wrong, where, and what to do. The command line prints the message alone;
``--debug`` adds the traceback. Exit code 2 means that the command or the configuration must change, 1 that the work
itself failed.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "CheckpointError",
    "ConfigError",
    "DataError",
    "DeviceError",
    "FacerecError",
    "ImageError",
    "MetricError",
    "MissingPathError",
    "ModelError",
    "PairSetError",
    "RecordError",
    "TrackingError",
    "TrainingError",
    "UsageError",
    "near_match",
    "one_line",
]


class FacerecError(Exception):
    """Base of every error that a user can cause or must hear of."""

    exit_code = 1


class UsageError(FacerecError):
    """The command was called in a way that cannot work."""

    exit_code = 2


class ConfigError(UsageError):
    """The configuration cannot be used; the message lists every problem that was found."""


class MissingPathError(UsageError):
    """A file or folder that the command or the configuration names does not exist or cannot be read."""


class DeviceError(UsageError):
    """The requested device is not there."""


class DataError(FacerecError):
    """Training or verification data is damaged or contradicts itself."""


class RecordError(DataError):
    """A record of a RecordIO file is damaged.

    ``key`` is the record's key in the index and ``offset`` its byte offset in the ``.rec``, where they are known.
    """

    def __init__(self, message: str, *, key: int | None = None, offset: int | None = None) -> None:
        super().__init__(message)
        self.key = key
        self.offset = offset

    def __reduce__(self) -> tuple[object, ...]:
        # Worker processes send the error to the trainer by pickle, which would otherwise lose key and offset.
        return (_rebuild_record_error, (str(self), self.key, self.offset))


def _rebuild_record_error(message: str, key: int | None, offset: int | None) -> RecordError:
    return RecordError(message, key=key, offset=offset)


class PairSetError(DataError):
    """A verification ``.bin`` is damaged, contradicts itself or tries to run code."""


class ImageError(DataError):
    """An image is missing, damaged, or larger than the limits allow."""


class ModelError(FacerecError):
    """A model cannot be built or applied as asked."""


class CheckpointError(FacerecError):
    """A checkpoint is missing, damaged, or belongs to another model."""


class TrainingError(FacerecError):
    """Training cannot go on."""


class MetricError(FacerecError):
    """A metric is not defined for the given scores."""


class TrackingError(FacerecError):
    """The tracking store cannot be used as asked."""


def one_line(error: BaseException | str, *, most_chars: int = 200) -> str:
    """The words of an error of some library, as a part of a sentence."""
    return " ".join(str(error).split())[:most_chars]


def near_match(name: str, known: Iterable[str]) -> str:
    """Return a hint such as ``" (did you mean 'arcface'?)"``, or an empty string where nothing is near."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" (did you mean '{matches[0]}'?)" if matches else ""
