"""Embeddings that another program made, read from an ``.npz`` without trusting it."""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from facerec.errors import DataError, MissingPathError
from facerec.evaluation.embed import Embeddings
from facerec.evaluation.grouping import groups_of_images
from facerec.evaluation.result import PairResult, score_pairs
from facerec.fsio import atomic_write_bytes, sha256_file

__all__ = ["StoredEmbeddings", "read_arrays", "read_embeddings", "score_stored", "write_embeddings"]

_MAX_BYTES = 1 << 34
"""Largest size of all arrays together, unpacked: 16 GiB."""
_REQUIRED = ("original", "pair_index", "issame")
_OPTIONAL = ("flipped", "identity", "group", "pair_set")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredEmbeddings:
    """Embeddings and the pairs among them."""

    embeddings: Embeddings
    pair_index: NDArray[np.int64]
    """(P, 2), rows of the embeddings."""
    issame: NDArray[np.bool_]
    """(P,)."""
    identity: NDArray[np.int64] | None
    """(N,): who is in each image; None where the file does not tell."""
    group: NDArray[np.str_] | None
    """(P,): the group of each pair, empty for none; None where the file does not tell."""
    pair_set: str | None
    """SHA-256 of the ``.bin`` that the pairs come from; None where the file does not tell."""
    sha256: str
    path: Path


def read_embeddings(path: str | Path) -> StoredEmbeddings:
    """Read ``original`` (N, D), ``pair_index`` (P, 2), ``issame`` (P,) and what else is there.

    Optional are ``flipped`` (N, D), ``identity`` (N,), integers, ``group``, short text or integers: (N,), one for
    each image, where a pair across two groups belongs to none, or (P,), one for each pair, and ``pair_set`` (1,), the
    SHA-256 of the ``.bin`` that the pairs come from. The headers are checked before memory is taken, and nothing is
    unpickled.

    Raises:
        MissingPathError: the file is not there.
        DataError: it is no such file; the message names the array and what it should be.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingPathError(f"embeddings file {path} does not exist; check the path")
    arrays = read_arrays(path, required=_REQUIRED, optional=_OPTIONAL)
    original, flipped = arrays["original"], arrays.get("flipped")
    _check_embeddings("original", original, path)
    if flipped is not None:
        _check_embeddings("flipped", flipped, path)
        if flipped.shape != original.shape:
            raise DataError(
                f"{path}: flipped has the shape {flipped.shape}, original {original.shape}; they must agree"
            )
    pair_index, issame = arrays["pair_index"], arrays["issame"]
    _check_pairs(pair_index, issame, num_embeddings=len(original), path=path)
    return StoredEmbeddings(
        embeddings=Embeddings(
            original=original.astype(np.float32, copy=False),
            flipped=None if flipped is None else flipped.astype(np.float32, copy=False),
        ),
        pair_index=pair_index.astype(np.int64),
        issame=issame.astype(np.bool_),
        identity=_identities(arrays.get("identity"), pair_index, issame, num_embeddings=len(original), path=path),
        group=_groups(arrays.get("group"), pair_index, num_embeddings=len(original), path=path),
        pair_set=_pair_set(arrays.get("pair_set"), path),
        sha256=sha256_file(path),
        path=path,
    )


def score_stored(stored: StoredEmbeddings, *, name: str) -> PairResult:
    """The result of stored embeddings as a pair set of that name; see `score_pairs`."""
    return score_pairs(
        stored.embeddings,
        pair_index=stored.pair_index,
        issame=stored.issame,
        name=name,
        sha256=stored.pair_set or stored.sha256,
        identity=stored.identity,
    )


def write_embeddings(
    path: Path, embeddings: Embeddings, *, pair_index: NDArray[np.integer], issame: NDArray[np.bool_], pair_set: str
) -> None:
    """Write what `read_embeddings` reads, in one step; only rows that a pair uses are kept.

    ``pair_set`` is the SHA-256 of the ``.bin``.
    """
    used = np.unique(pair_index)
    arrays = {
        "original": embeddings.original[used],
        "pair_index": np.searchsorted(used, pair_index).astype(np.int64),
        "issame": issame,
        "pair_set": np.array([pair_set]),
    }
    if embeddings.flipped is not None:
        arrays["flipped"] = embeddings.flipped[used]
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    atomic_write_bytes(path, buffer.getvalue())


def read_arrays(path: Path, *, required: Sequence[str], optional: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
    """Read named arrays of an ``.npz`` whose headers agree with what is there; nothing is unpickled.

    Raises:
        DataError: it is no such file, or an array is missing, holds objects or is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            if missing := [name for name in required if name not in members]:
                raise DataError(f"{path}: the array '{missing[0]}' is missing; needed are {', '.join(required)}")
            wanted = [name for name in (*required, *optional) if name in members]
            if sum(members[name].file_size for name in wanted) > _MAX_BYTES:
                raise DataError(f"{path}: the arrays have more than {_MAX_BYTES} bytes; split the pairs")
            arrays = {}
            for name in wanted:
                with archive.open(members[name]) as stream:
                    _check_header(stream, name, size=members[name].file_size, path=path)
                with archive.open(members[name]) as stream:
                    arrays[name] = np.lib.format.read_array(stream, allow_pickle=False)
    except zipfile.BadZipFile as error:
        raise DataError(f"{path} is no .npz file, or a damaged one: {error}") from error
    except (OSError, ValueError, EOFError, NotImplementedError, RuntimeError, zlib.error) as error:
        # What zipfile and numpy let through on damaged input; OSError, too: a damaged offset is sought.
        raise DataError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    return arrays


def _check_header(stream: IO[bytes], name: str, *, size: int, path: Path) -> None:
    """Compare what the header claims with what is there: numpy allocates by the header alone."""
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise DataError(f"{path}: {name} has the format version {version}; write it with numpy.savez")
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(stream)
    if dtype.hasobject:
        raise DataError(f"{path}: {name} holds Python objects, which are never read; store plain numbers")
    claimed = dtype.itemsize
    for side in shape:
        claimed *= side
    if claimed != size - stream.tell():
        raise DataError(
            f"{path}: {name} is damaged: its header claims {claimed} bytes, {size - stream.tell()} are there"
        )


def _check_embeddings(name: str, values: NDArray[np.generic], path: Path) -> None:
    if values.ndim != 2 or values.dtype.kind != "f" or 0 in values.shape:
        raise DataError(f"{path}: {name} must be floats of shape (N, D), not {values.dtype} of shape {values.shape}")


def _check_pairs(
    pair_index: NDArray[np.generic], issame: NDArray[np.generic], *, num_embeddings: int, path: Path
) -> None:
    if pair_index.ndim != 2 or pair_index.shape[1] != 2 or pair_index.dtype.kind not in "iu":
        raise DataError(
            f"{path}: pair_index must be integers of shape (P, 2), not {pair_index.dtype} of shape {pair_index.shape}"
        )
    if issame.shape != (len(pair_index),) or issame.dtype.kind not in "iub" or not np.isin(issame, (0, 1)).all():
        raise DataError(f"{path}: issame must hold true or false for each of the {len(pair_index)} pairs")
    if len(pair_index) and not (pair_index.min() >= 0 and pair_index.max() < num_embeddings):
        raise DataError(f"{path}: pair_index must lie between 0 and {num_embeddings - 1}, the rows of the embeddings")


def _identities(
    identity: NDArray[Any] | None,
    pair_index: NDArray[Any],
    issame: NDArray[Any],
    *,
    num_embeddings: int,
    path: Path,
) -> NDArray[np.int64] | None:
    if identity is None:
        return None
    if identity.shape != (num_embeddings,) or identity.dtype.kind not in "iu":
        raise DataError(
            f"{path}: identity must be integers of shape ({num_embeddings},), one for each image, not "
            f"{identity.dtype} of shape {identity.shape}"
        )
    codes: NDArray[np.int64] = np.unique(identity, return_inverse=True)[1].astype(np.int64)
    people = codes[pair_index]
    wrong = np.flatnonzero((people[:, 0] == people[:, 1]) != issame.astype(np.bool_))
    if wrong.size:
        raise DataError(
            f"{path}: identity and issame contradict each other in pair {wrong[0]} and {wrong.size - 1} more"
        )
    return codes


def _pair_set(pair_set: NDArray[Any] | None, path: Path) -> str | None:
    if pair_set is None:
        return None
    if pair_set.shape != (1,) or pair_set.dtype.kind != "U" or not _DIGEST.fullmatch(str(pair_set[0])):
        raise DataError(f"{path}: pair_set must be text of shape (1,), the SHA-256 of a .bin in 64 hexadecimal digits")
    return str(pair_set[0])


def _groups(
    group: NDArray[Any] | None, pair_index: NDArray[Any], *, num_embeddings: int, path: Path
) -> NDArray[np.str_] | None:
    if group is None:
        return None
    sizes = (num_embeddings, len(pair_index))
    if group.ndim != 1 or group.size not in sizes or group.dtype.kind not in "iuUS":
        raise DataError(
            f"{path}: group must be text or integers of shape ({sizes[0]},), one for each image, or ({sizes[1]},), one "
            f"for each pair, not {group.dtype} of shape {group.shape}"
        )
    try:
        names = group.astype(np.str_)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: group holds bytes that are no ASCII text; store it as text") from error
    return groups_of_images(names, pair_index) if group.size == num_embeddings else names
