"""Reading RecordIO files by key (``.rec`` with its ``.idx``).

A record is ``u32 magic, u32 cflag << 29 | length, payload, padding to 4 bytes``, little-endian. A payload that holds
the magic at an aligned place is stored in parts (cflag 1, 2…, 3) between which the reader puts the magic back.
Source: dmlc-core ``src/recordio.cc``.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from facerec.data.image_record import ImageRecord, build_image_record, parse_image_record, unpack_image_head
from facerec.data.index import RecordIndex, open_index
from facerec.data.record_batch import ImageBatch, PlainHeads, plain_heads
from facerec.data.record_check import check_index, record_error
from facerec.data.record_file import RecordFile
from facerec.data.record_parts import (
    HEADER_BYTES,
    PADDING,
    RecordFault,
    check_what_follows,
    find_parts,
    starts_record,
    unpack_header,
)
from facerec.data.record_writer import MAGIC, MAGIC_BYTES, RecordWriter
from facerec.errors import RecordError

__all__ = ["ImageBatch", "ImageRecord", "RecordReader", "RecordWriter", "build_image_record", "parse_image_record"]

_LONGEST_SINGLE_READ = 1 << 20
"""Bytes that one ``pread`` asks for before the length of the record is known."""
_IMAGE_HEAD_BYTES = 32
"""Header of the record and of the image in it, where the label stands in the latter."""
_new_record: Any = tuple.__new__
"""Half the time of the constructor that NamedTuple writes."""


class RecordReader:
    """Random access to the records of a ``.rec`` by key.

    Safe under fork and when pickled: a process maps the file anew where it has to, and nothing holds a position. Every
    reading checks the record against its neighbours in the index, so that a damaged length is noticed.

    A file that is cut off while it is mapped kills the process (SIGBUS), as with every memory map; where that can
    happen, on a network file system above all, ``io="pread"`` reports it.
    """

    def __init__(
        self,
        rec_path: Path | str,
        *,
        idx_path: Path | str | None = None,
        io: Literal["mmap", "pread"] = "mmap",
        check: bool = True,
    ) -> None:
        """Open a record file; ``check`` compares index and file at some places.

        Raises:
            MissingPathError: the ``.rec`` or the ``.idx`` does not exist or cannot be opened.
            DataError: the index is damaged.
            RecordError: the index belongs to another file, or the file is truncated.
        """
        self.rec_path = Path(rec_path)
        self.idx_path = Path(idx_path) if idx_path is not None else self.rec_path.with_suffix(".idx")
        self.io = io
        self._file = RecordFile(self.rec_path, io=io)
        try:
            self._take_index(open_index(self.idx_path))
            if check:
                check_index(self._file, self.index, idx_path=self.idx_path)
        except BaseException:
            self.close()
            raise

    def _take_index(self, index: RecordIndex) -> None:
        self.index = index
        self.size = self._file.size
        self.offsets: NDArray[np.int64] = index.offsets
        # What a single reading looks up, without a call in between: a call takes longer than all of its arithmetic.
        self._map = self._file.map
        self._offset_at, self._extent_at = index.offset_at, index.extent_at
        self._first_key, self._num_dense = index.first_key, 0 if index.has_gaps else len(index)

    @property
    def keys(self) -> NDArray[np.int64]:
        """(records,) all keys, ascending: made when first asked for, 8 bytes a record; see `RecordIndex.keys_at`."""
        return self.index.keys

    def __len__(self) -> int:
        return len(self.index)

    def __getstate__(self) -> dict[str, Any]:
        # An index that is no map cannot be opened again in a moment, so it goes along.
        index = None if self.index.is_mapped else self.index
        identity = (self.size, self.index.sha256)
        return {"paths": (self.rec_path, self.idx_path), "io": self.io, "index": index, "identity": identity}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.rec_path, self.idx_path = state["paths"]
        self.io = state["io"]
        self._file = RecordFile(self.rec_path, io=self.io)
        self._take_index(state["index"] or open_index(self.idx_path))
        if (self.size, self.index.sha256) != state["identity"]:
            self.close()
            raise RecordError(f"{self.rec_path} or its index has changed since it was opened; start again")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the file back; safe to call again. Images of `read_batch` that are still in use stay valid."""
        self._file.close()
        self._map = None

    def offset_of(self, key: int) -> int:
        """Where the record of ``key`` starts.

        Raises:
            RecordError: there is no such key.
        """
        return self._offset_at[self._position_of(key)]

    def _position_of(self, key: int) -> int:
        position = self.index.row_of(key)
        if position < 0:
            raise RecordError(f"{self.idx_path} has no key {key}", key=int(key))
        return position

    def read(self, key: int) -> bytes:
        """The payload of one record, its parts joined.

        Raises:
            RecordError: the key is unknown or the record is damaged; names key and offset.
            ValueError: the reader is closed.
        """
        return self._read_at(self._position_of(key))

    def read_image(self, key: int) -> ImageRecord:
        """An image record, its header unpacked; see `parse_image_record`.

        Raises:
            RecordError: the key is unknown, or the record is damaged or too short for its header; names key and offset.
            ValueError: the reader is closed.
        """
        position = key - self._first_key
        if not 0 <= position < self._num_dense:
            position = self._position_of(key)
        content, start = self._map, self._offset_at[position]
        extent = self._offset_at[position + 1] - start if self._extent_at is None else self._extent_at[position]
        # The same as in `_read_at`, with the header of the image, for a record that is whole and has one label.
        end = start + extent
        if content is not None and extent >= _IMAGE_HEAD_BYTES and end <= self.size:
            magic, length, flag, label, record_id, record_id2 = unpack_image_head(content, start)
            stop = start + HEADER_BYTES + length
            begin = start + _IMAGE_HEAD_BYTES
            is_plain = magic == MAGIC and flag == 0 and begin <= stop and end - 4 < stop <= end
            if is_plain and content[stop:end] == PADDING[length & 3]:
                image = content[begin:stop]
                record: ImageRecord = _new_record(ImageRecord, (0, label, None, record_id, record_id2, image))
                return record
        return self._parse_at(position)

    def read_batch(self, keys: NDArray[np.integer[Any]], *, faults: dict[int, RecordError] | None = None) -> ImageBatch:
        """Many image records at once, headers unpacked and images not copied.

        Where ``faults`` is given, it gets the error of every record that cannot be read, by row, and that record's
        image is empty.

        Shape: ``keys`` (B,).

        Raises:
            RecordError: as `read_image`, where ``faults`` is not given.
            ValueError: the reader is closed.
        """
        wanted = np.asarray(keys, dtype=np.int64)
        rows = self.index.rows_of(wanted)
        heads = self._plain_heads(rows)
        batch, view = ImageBatch.of(heads), self._file.view
        plain = heads.is_plain.tolist()
        for row, (begin, stop) in enumerate(zip(heads.begins.tolist(), heads.stops.tolist(), strict=True)):
            if plain[row]:
                batch.images.append(view[begin:stop])
                continue
            try:
                batch.append(row, self._parse_at(self._position_of(int(wanted[row]))))
            except RecordError as error:
                if faults is None:
                    raise
                faults[row] = error
                batch.images.append(b"")
        return batch

    def announce(self, keys: NDArray[np.int64]) -> None:
        """Let the system fetch records that will be read at once, so that a slow disk works on all of them.

        Costs a microsecond a record where they are in memory already. Unknown keys are passed over.
        """
        rows = self.index.rows_of(keys)
        rows = rows[rows >= 0]
        self._file.announce(self.offsets[rows], self.index.following_of(rows))

    def _plain_heads(self, rows: NDArray[np.int64]) -> PlainHeads:
        words = self._file.words
        known = np.maximum(rows, 0)
        offsets = self.offsets[known]
        if words is None:
            return PlainHeads.none(len(rows))
        return plain_heads(words, offsets, self.index.following_of(known), is_known=rows >= 0)

    def _parse_at(self, position: int) -> ImageRecord:
        payload = self._read_at(position)
        try:
            return parse_image_record(payload)
        except RecordError as error:
            raise self._error(position, f"is no image record: {error}") from error

    def _read_at(self, position: int) -> bytes:
        offset = self._offset_at[position]
        extent = self._offset_at[position + 1] - offset if self._extent_at is None else self._extent_at[position]
        content, start = self._map, offset
        if content is None:
            content, start = self._file.fetch_or_nothing(offset, min(extent, _LONGEST_SINGLE_READ)), 0
        # A whole record that ends where the next one starts; everything else takes the slow way.
        begin, end = start + HEADER_BYTES, start + extent
        if begin <= end <= len(content):
            magic, length = unpack_header(content, start)
            stop = begin + length
            if magic == MAGIC and end - 4 < stop <= end and content[stop:end] == PADDING[length & 3]:
                return content[begin:stop]
        return self._read_slowly(position)

    def _read_slowly(self, position: int) -> bytes:
        offset, limit = self._offset_at[position], min(self.index.following_at(position), self.size)
        try:
            return self._joined(offset, limit)
        except RecordFault as fault:
            # Where no record starts at the limit, the index is wrong about the next record, not this one about its end.
            if limit < self.size and not starts_record(self._file.fetch, limit):
                with contextlib.suppress(RecordFault):
                    return self._joined(offset, self.size)
            raise self._error(position, str(fault)) from fault

    def _joined(self, offset: int, limit: int) -> bytes:
        fetch = self._file.fetch
        spans, end = find_parts(fetch, offset, limit=limit, size=self.size)
        check_what_follows(fetch, spans, end, limit=limit)
        return MAGIC_BYTES.join([fetch(begin, stop - begin) for begin, stop in spans])

    def first_words(self, offsets: NDArray[np.int64], count: int) -> NDArray[np.uint32]:
        """The first 32-bit words of many records at once, unchecked: magic, flag and length, and then the payload.

        Shape: ``offsets`` (records,); result (records, count), zeros where there is nothing to read.
        """
        return self._file.words_at(offsets, count)

    def _error(self, position: int, problem: str) -> RecordError:
        return record_error(self.rec_path, self.index, position, problem)
